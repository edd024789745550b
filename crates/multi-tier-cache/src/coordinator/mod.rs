//! The coordinator: the nearest shared tier that fills only under a lease, and keeps the log of invalidations.
//!
//! It decides two things for a whole fleet of instances: whether a value that was loaded may still be stored, and in
//! which order invalidations happened. Everything else (who drops what, who waits for whom) is decided by each
//! instance from its answers. `PROTOCOL.md` gives keys, scripts and fields; there are two whole implementations of this
//! trait with one contract suite, [`memory`] and, in a server, [`redis`], and one that has leases only: `memcached`.

#[cfg(feature = "memcached")]
pub(crate) mod memcached;
#[cfg_attr(not(feature = "test-util"), allow(unreachable_pub, reason = "public in the test kit"))]
pub(crate) mod memory;
pub(crate) mod message;
mod position;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod types;

#[cfg(test)]
mod contract;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use position::Position;
pub(crate) use position::parse_hex;
pub use types::Recorded;
pub(crate) use types::{
    Acquire, Acquired, Change, Fence, Fill, Grant, Record, Revocation, Revoked, Tag, TagTokens, Tail, Token,
};

use crate::error::{CacheError, CacheResult};

/// What [`Coordinator::listen`] gives: the payload of every message from then on; it ends when messages may be lost.
pub(crate) type Messages = BoxStream<'static, Vec<u8>>;

/// Leases, conditional fills and the log. Every method is one round trip, may run concurrently, and may be dropped at
/// any await (it then may or may not take effect).
pub(crate) trait Coordinator: Send + Sync {
    /// Whether it keeps the log. One that does not has leases and tombstones only: a fence, tags, and whatever reads or
    /// writes the log are `unsupported`, and nothing can be announced.
    fn keeps_log(&self) -> bool {
        true
    }

    /// Whether every change is written down for people and other programs.
    fn audits(&self) -> bool {
        false
    }

    /// Takes the lease on a key for one load, unless a value is there or another load holds it.
    fn acquire<'a>(&'a self, ask: Acquire<'a>) -> BoxFuture<'a, CacheResult<Acquired>>;

    /// Stores what a load made, if its lease still holds and neither the fence nor a tag moved since it was granted;
    /// the lease ends. True if it was stored.
    fn fill<'a>(&'a self, fill: Fill<'a>) -> BoxFuture<'a, CacheResult<bool>>;

    /// Lets a lease last this long from now on, if it is still held under this token; false if it is not.
    fn renew<'a>(&'a self, key: &'a str, token: Token, lease: Duration) -> BoxFuture<'a, CacheResult<bool>>;

    /// Ends a lease without a value, if it is still held under this token.
    fn release<'a>(&'a self, key: &'a str, token: Token) -> BoxFuture<'a, CacheResult<()>>;

    /// Stores a value whatever was there, ending any lease: a put that no other instance has to hear of.
    fn replace<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>>;

    /// Carries out a change: values and leases go first, then tombstones, then the log entry, then the message.
    fn revoke<'a>(&'a self, revocation: Revocation<'a>) -> BoxFuture<'a, CacheResult<Revoked>>;

    /// Moves the fence of the whole namespace: every lease granted so far is refused its fill. `closed_below` is how
    /// long nothing is to be read from the tiers below.
    fn fence(&self, closed_below: Duration) -> BoxFuture<'_, CacheResult<()>>;

    /// Whether the tiers below may be read for `key` (no tombstone).
    fn open_below<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<bool>>;

    /// Where the log stands. With `forked`, begins a new epoch first if the log is still in the epoch of that position:
    /// its history has lost entries.
    fn poll(&self, forked: Option<Position>) -> BoxFuture<'_, CacheResult<Tail>>;

    /// Up to `count` entries of the log after `seq`, oldest first.
    fn read_log(&self, seq: u64, count: usize) -> BoxFuture<'_, CacheResult<Vec<Record>>>;

    /// The tokens of tags, in their order.
    fn tag_tokens<'a>(&'a self, tags: &'a [Tag]) -> BoxFuture<'a, CacheResult<TagTokens>>;

    /// Subscribes to the messages.
    fn listen(&self) -> BoxFuture<'_, CacheResult<Messages>>;
}

/// The channel is part of the names of keys, in braces that keep them in one cluster slot.
///
/// # Errors
/// `ConfigError` for one that would end the braces early.
pub(crate) fn check_channel(channel: &str) -> CacheResult<()> {
    if channel.contains('}') {
        let message = format!("the invalidation channel `{channel}` contains a `}}`; choose another");
        return Err(CacheError::ConfigError(message));
    }
    Ok(())
}

/// A coordinator shared by the parts of an instance.
pub(crate) type SharedCoordinator = Arc<dyn Coordinator>;
