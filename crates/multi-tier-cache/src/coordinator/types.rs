//! What is asked of a coordinator, and what it answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Position;
pub(crate) use crate::entry::Tag;

/// The owner of a lease: 128 random bits per load, never per client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token(pub(crate) u128);

impl Token {
    pub(crate) fn random() -> Self {
        Self(fastrand::u128(..))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// The state of a namespace that a lease was granted under; a fill under another is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) epoch: u64,
    pub(crate) count: u64,
}

/// A request for a lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acquire<'a> {
    pub(crate) key: &'a str,
    pub(crate) token: Token,
    /// How long the lease lasts unless it is used or released.
    pub(crate) lease: Duration,
    /// Whether it is granted although a value is present: the caller has no use for that value. Others may still get it,
    /// or already miss it.
    pub(crate) refresh: bool,
    /// Tags known before the load: their tokens are created now if they are missing.
    pub(crate) tags: &'a [Tag],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// A value is present (as stored: with its tags in front of it, if it has some), with its remaining TTL.
    Value(Bytes, Option<Duration>),
    Granted(Grant),
    /// Another load holds the lease, for at most this long.
    Busy(Duration),
}

/// A lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) token: Token,
    pub(crate) fence: Fence,
    /// Where the log stood.
    pub(crate) seq: u64,
    /// Whether the tiers below may be read.
    pub(crate) open_below: bool,
}

/// What a load made, as it is to be stored: a tagged value behind a head ([`crate::wire`]) that names its tags and the
/// place of the log that its lease was granted at.
#[derive(Debug, Clone)]
pub(crate) struct Fill<'a> {
    pub(crate) key: &'a str,
    pub(crate) grant: Grant,
    pub(crate) value: Bytes,
    pub(crate) ttl: Duration,
    pub(crate) tags: &'a [Tag],
}

/// A change of the shared state that makes older values stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// These keys are gone.
    Keys(Vec<Arc<str>>),
    /// This key is about to get a new value: its lease is left to the writer.
    Put(Arc<str>, Token),
    /// Every key matching a Redis glob is gone: the caller has moved the fence and removed them already.
    Pattern(Arc<str>),
    /// Every entry with this tag is gone.
    Tag(Tag),
    /// Everything is gone: the caller has moved the fence and removed it already.
    Clear,
}

/// A change to be carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revocation<'a> {
    pub(crate) change: &'a Change,
    /// The name of the log entry, and the link that the next entry is chained to.
    pub(crate) nonce: u64,
    /// Whether the values are kept by this coordinator; if not, the change is only logged.
    pub(crate) with_values: bool,
    /// Whether the change is logged and published, or only carried out.
    pub(crate) announced: bool,
    /// How long nothing is to be read for these keys from the tiers below; zero if there are none.
    pub(crate) tombstone: Duration,
    /// How long the lease of a [`Change::Put`] lasts.
    pub(crate) lease: Duration,
    /// The tags of the value about to be put: their tokens are created now if they are missing.
    pub(crate) tags: &'a [Tag],
}

/// A change that took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// Its place in the log, or where the log stands if it was not logged.
    pub(crate) at: Position,
    /// What a put fills under.
    pub(crate) fence: Fence,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: Position,
    /// The nonce of the entry before.
    pub(crate) previous: u64,
    pub(crate) change: Recorded,
}

/// What a log entry or a message says. Anything that cannot be understood is [`Recorded::Unknown`]: whoever reads it
/// must assume that everything changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// These keys were removed.
    Keys(Vec<Arc<str>>),
    /// This key was about to get a new value.
    Put(Arc<str>),
    /// Every key matching a Redis glob was removed.
    Pattern(Arc<str>),
    /// Every entry with this tag was removed.
    Tag(Arc<str>),
    /// Everything was removed.
    Clear,
    /// Something that cannot be told: anything may have changed.
    Unknown,
}

impl Record {
    /// Whether nothing is missing between the entry at `at` and this one.
    pub(crate) fn follows(&self, at: Position) -> bool {
        self.at.epoch == at.epoch && at.seq.checked_add(1) == Some(self.at.seq) && self.previous == at.nonce
    }
}

impl From<&Change> for Recorded {
    fn from(change: &Change) -> Self {
        match change {
            Change::Keys(keys) => Self::Keys(keys.clone()),
            Change::Put(key, _) => Self::Put(Arc::clone(key)),
            Change::Pattern(pattern) => Self::Pattern(Arc::clone(pattern)),
            Change::Tag(tag) => Self::Tag(Arc::clone(tag)),
            Change::Clear => Self::Clear,
        }
    }
}

/// Where the log stands. `at.seq` is 0 in a new log, whose nonce is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) at: Position,
    /// The coordinator's own clock, in milliseconds.
    pub(crate) clock: u64,
}

/// The sequence numbers at which tags were last revoked; `None` for a tag that is not known (any more): its entries
/// are not to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagTokens {
    pub(crate) epoch: u64,
    pub(crate) tokens: Vec<Option<u64>>,
}
