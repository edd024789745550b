//! placeholder

pub mod backends;
pub mod clock;
pub mod defaults;
pub mod entry;
pub mod error;
#[cfg(feature = "redis")]
pub mod redis_streams;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod traits;

pub use bytes::Bytes;
pub use error::{CacheError, CacheResult, Failure};
#[cfg(feature = "redis")]
pub use redis_streams::RedisStreams;
pub use std::sync::Arc;
pub use traits::{CacheBackend, Capabilities, InProcess, L2CacheBackend, StreamingBackend};
