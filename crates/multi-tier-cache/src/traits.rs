//! Contracts for authors of backends.
//!
//! The required methods are those of the established crate; everything else is provided, and says so where a
//! backend cannot do a thing. A backend needs [`CacheBackend`]; to serve below the first tier it also needs
//! [`L2CacheBackend`]. Methods take `&self`, may run concurrently, and may be dropped at any await.
//!
//! Changes of one key take effect in the order in which they were begun, even if the future of the earlier one was
//! dropped (the engine drops a future that exceeds its budget). A backend whose work survives its future, on a thread
//! of its own say, must see to that order, or an old value may come back after its removal.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::defaults;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};

/// What a backend can do, for the engine to choose its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u8);

impl Capabilities {
    /// Nothing beyond the required methods.
    pub const NONE: Self = Self(0);
    /// Reads or writes many keys in one round trip.
    pub const BATCH: Self = Self(1);
    /// Tells the remaining TTL of what it returns.
    pub const TTL: Self = Self(1 << 1);
    /// Removes by Redis glob pattern.
    pub const PATTERN: Self = Self(1 << 2);
    /// Can fill a key only while a lease on it holds.
    pub const CONDITIONAL_FILL: Self = Self(1 << 3);
    /// Other processes read and write the same store.
    pub const SHARED: Self = Self(1 << 4);
    /// Ends each operation within a budget of its own and fails fast while its server is away.
    pub const BUDGETED: Self = Self(1 << 5);

    /// Removes everything that it holds of this cache, and nothing else.
    pub const CLEAR: Self = Self(1 << 6);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every capability of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A value and its remaining time to live; `None` when it does not expire or that is not known.
pub type ValueAndTtl = (Bytes, Option<Duration>);

/// A store of bytes under string keys with a time to live.
pub trait CacheBackend: Send + Sync {
    /// The value of `key`, or `None` when it is absent, expired, or the store cannot be read.
    /// A backend that can tell an outage from a miss overrides [`try_get`](Self::try_get).
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>>;

    /// Stores `value` for `ttl`, replacing what was there. A zero TTL leaves nothing stored.
    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>>;

    /// Removes `key`; absence is success.
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>>;

    /// Whether the store works. Must not write to it.
    fn health_check(&self) -> BoxFuture<'_, bool>;

    /// The name shown in statistics and errors.
    fn name(&self) -> &'static str;

    /// Stores `value` for five minutes.
    fn set<'a>(&'a self, key: &'a str, value: Bytes) -> BoxFuture<'a, CacheResult<()>> {
        self.set_with_ttl(key, value, defaults::TTL)
    }

    /// Removes every key that matches a Redis glob pattern. Unless overridden, an error: nothing was removed.
    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        let _ = pattern;
        Box::pin(std::future::ready(Err(CacheError::unsupported(self.name(), "remove_pattern"))))
    }

    /// Like [`get`](Self::get), but an outage is an error. Unless overridden, outages cannot be told from misses.
    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(async move { Ok(self.get(key).await) })
    }

    /// The values of `keys`, in their order. Unless overridden, one read after another.
    fn get_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<Bytes>>>> {
        Box::pin(async move {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(self.try_get(key).await?);
            }
            Ok(values)
        })
    }

    /// Stores every pair for `ttl`. Unless overridden, one write after another, ending at the first error.
    fn set_many<'a>(&'a self, pairs: &'a [(&'a str, Bytes)], ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            for (key, value) in pairs {
                self.set_with_ttl(key, value.clone(), ttl).await?;
            }
            Ok(())
        })
    }

    /// Removes every key. Unless overridden, one after another, ending at the first error.
    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            for key in keys {
                self.remove(key).await?;
            }
            Ok(())
        })
    }

    /// Removes everything this cache stored. Unless overridden, an error: nothing was removed.
    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        Box::pin(std::future::ready(Err(CacheError::unsupported(self.name(), "clear"))))
    }

    /// What this backend can do beyond the required methods.
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    /// The backend as its own type, for a [`CacheSystem`](crate::CacheSystem) that hands it back to its users.
    fn concrete(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// The synchronous face of a store inside this process; `None` for every other.
    ///
    /// A tier with this face answers a hit without an await or an allocation, and its insertions and removals are
    /// ordered against invalidations.
    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        None
    }
}

/// A backend that can serve below the first tier: it tells how long a value still lives.
pub trait L2CacheBackend: CacheBackend {
    /// The value and its remaining TTL; the TTL is `None` when the entry does not expire or it is not known.
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<ValueAndTtl>>;

    /// Like [`get_with_ttl`](Self::get_with_ttl), but an outage is an error. Unless overridden, outages cannot be
    /// told from misses.
    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<ValueAndTtl>>> {
        Box::pin(async move { Ok(self.get_with_ttl(key).await) })
    }

    /// The values of `keys` with their remaining TTLs, in the order of the keys. Unless overridden, single reads side
    /// by side, at most [`defaults::BATCH_WIDTH`] at a time, ending at the first error.
    fn get_many_with_ttl<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<ValueAndTtl>>>> {
        let reads: Vec<_> = keys.iter().map(|key| self.try_get_with_ttl(key)).collect();
        Box::pin(stream::iter(reads).buffered(defaults::BATCH_WIDTH).try_collect())
    }
}

/// A store inside this process, used without awaiting. Called under a lock of the engine: never block, never call back.
pub trait InProcess: Send + Sync {
    /// The entry of `key` if it has not expired.
    fn lookup(&self, key: &str) -> Option<Entry>;

    /// Shows the entry of `key` where it is, for a caller that tells itself whether it has expired, and calls
    /// [`lookup`](Self::lookup) if so. Most reads end with this: what they do not need is not copied, and the clock is
    /// read once for all that depends on it.
    ///
    /// `visitor` is called at most once, and may be called under a lock of the store: it is brief and calls nobody back.
    /// `key` is the bytes of a text. Unless overridden, the visitor is shown what `lookup` answers.
    fn visit(&self, key: &[u8], visitor: &mut dyn FnMut(&Entry)) {
        let text = str::from_utf8(key).ok();
        if let Some(entry) = text.and_then(|key| self.lookup(key)) {
            visitor(&entry);
        }
    }

    /// Keeps `entry` until its deadline, replacing what was there. A store may decline or evict at any time.
    fn store(&self, key: &Arc<str>, entry: Entry);

    /// Drops `key`.
    fn evict(&self, key: &str);

    /// Drops every key for which `matches` holds.
    fn evict_where(&self, matches: &dyn Fn(&str) -> bool);

    /// How full it is, for metrics. Unless overridden, nothing is known.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// How full a store inside this process is; `None` for what it cannot tell cheaply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Entries, counting expired ones that were not looked up since.
    pub entries: Option<u64>,
    /// Bytes that they count for.
    pub bytes: Option<u64>,
    /// Entries dropped or declined so far to stay within the bound.
    pub evictions: Option<u64>,
}

impl Usage {
    /// A store of so many entries.
    #[must_use]
    pub fn of_entries(entries: u64) -> Self {
        Self { entries: Some(entries), ..Self::default() }
    }

    /// The same with so many bytes.
    #[must_use]
    pub fn with_bytes(self, bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    /// The same after so many evictions.
    #[must_use]
    pub fn with_evictions(self, evictions: u64) -> Self {
        Self { evictions: Some(evictions), ..self }
    }

    /// Both stores together; what one of them cannot tell is not known of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| Some(one?.saturating_add(other?));
        Self {
            entries: sum(self.entries, other.entries),
            bytes: sum(self.bytes, other.bytes),
            evictions: sum(self.evictions, other.evictions),
        }
    }
}

/// An entry of a stream: its id and its fields.
pub type StreamEntry = (String, Vec<(String, String)>);

/// Append-only streams, as Redis has them.
pub trait StreamingBackend: Send + Sync {
    /// Appends an entry and answers its id. `maxlen` trims the stream to about that many entries.
    fn stream_add<'a>(
        &'a self,
        stream_key: &'a str,
        fields: Vec<(String, String)>,
        maxlen: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<String>>;

    /// The newest `count` entries, newest first.
    fn stream_read_latest<'a>(
        &'a self,
        stream_key: &'a str,
        count: usize,
    ) -> BoxFuture<'a, CacheResult<Vec<StreamEntry>>>;

    /// Up to `count` entries after `last_id` (`"0"` from the start, `"$"` only new ones), oldest first; with
    /// `block_ms`, waits that long for one. A read that times out is empty.
    fn stream_read<'a>(
        &'a self,
        stream_key: &'a str,
        last_id: &'a str,
        count: usize,
        block_ms: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<Vec<StreamEntry>>>;

    /// Creates a consumer group that starts after `id`, and the stream if it is absent. Unless overridden, an error.
    fn stream_create_group<'a>(
        &'a self,
        stream_key: &'a str,
        group_name: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, CacheResult<()>> {
        let _ = (stream_key, group_name, id);
        Box::pin(std::future::ready(Err(CacheError::unsupported("this streaming backend", "stream_create_group"))))
    }

    /// Reads as one consumer of a group. Unless overridden, an error.
    fn stream_read_group<'a>(
        &'a self,
        stream_key: &'a str,
        group_name: &'a str,
        consumer_name: &'a str,
        count: usize,
        block_ms: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<Vec<StreamEntry>>> {
        let _ = (stream_key, group_name, consumer_name, count, block_ms);
        Box::pin(std::future::ready(Err(CacheError::unsupported("this streaming backend", "stream_read_group"))))
    }

    /// Acknowledges entries of a group. Unless overridden, an error.
    fn stream_ack<'a>(
        &'a self,
        stream_key: &'a str,
        group_name: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, CacheResult<()>> {
        let _ = (stream_key, group_name, ids);
        Box::pin(std::future::ready(Err(CacheError::unsupported("this streaming backend", "stream_ack"))))
    }
}
