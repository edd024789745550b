//! What a cache has stored, for tools: values and their heads, the log of invalidations, the names of keys in a server.
//!
//! Nothing here is needed to use a cache, and nothing here changes one. The formats are those of `PROTOCOL.md`.
//!
//! ```
//! use multi_tier_cache::Bytes;
//! use multi_tier_cache::inspect::{LogEntry, Stored, decode};
//!
//! // A value of the verbs on bytes, without tags, is stored as it is.
//! assert_eq!(decode(Bytes::from_static(b"{\"name\":\"Ada\"}")), Stored::Plain(Bytes::from_static(b"{\"name\":\"Ada\"}")));
//!
//! let message = r#"{"type":"Remove","key":"user:1","mtc":{"v":1,"epoch":"00000000000000ff","seq":7,
//!     "prev":"0123456789abcdef","nonce":"fedcba9876543210"}}"#;
//! let entry = LogEntry::decode("7-0", message.as_bytes()).ok_or("not an entry of a log")?;
//! assert_eq!(entry.position().to_string(), "m1-00000000000000ff-7-fedcba9876543210");
//! # Ok::<(), &str>(())
//! ```

mod log;
#[cfg(feature = "redis")]
mod namespace;
#[cfg(feature = "redis")]
mod server;
mod stored;

pub use log::{Bus, Lease, LogEntry};
#[cfg(feature = "redis")]
pub use namespace::Namespace;
#[cfg(feature = "redis")]
pub use server::Server;
pub use stored::{Stored, codec_name, decode, holds};

pub use crate::coordinator::Recorded;
#[cfg(feature = "redis")]
pub use crate::coordinator::redis::names::KeyKind;
pub use crate::wire::envelope::{Arrival, Envelope, Rejected};
pub use crate::wire::tagged::Tags;
