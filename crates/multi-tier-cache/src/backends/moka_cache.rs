//! A first tier on Moka, for programs that configure one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use moka::Expiry;
use moka::sync::Cache;

use crate::backends::in_process::in_process_backend;
use crate::clock::Clock;
use crate::defaults;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::traits::{InProcess, Usage};

/// Bounds of a [`MokaCache`].
#[derive(Debug, Clone, Copy)]
pub struct MokaCacheConfig {
    /// Most entries. Default 5,000.
    pub max_capacity: u64,
    /// Longest life of an entry, whatever TTL it is stored with. Default 1 h.
    pub time_to_live: Duration,
    /// An entry not read for this long is dropped; at most 1,000 years. Default 2 min.
    pub time_to_idle: Duration,
}

impl Default for MokaCacheConfig {
    fn default() -> Self {
        Self {
            max_capacity: defaults::MOKA_ENTRIES,
            time_to_live: defaults::MOKA_TIME_TO_LIVE,
            time_to_idle: defaults::MOKA_TIME_TO_IDLE,
        }
    }
}

/// A store inside this process on a Moka cache, bounded by entries, by age and by idleness.
///
/// All methods may be called concurrently. When it is full, an entry used less than those it holds may be declined.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use std::time::Duration;
/// use multi_tier_cache::{Bytes, CacheBackend, backends::{MokaCache, MokaCacheConfig}};
///
/// let cache = MokaCache::new(MokaCacheConfig { max_capacity: 10_000, ..MokaCacheConfig::default() })?;
/// cache.set_with_ttl("user:1", Bytes::from("Ada"), Duration::from_secs(60)).await?;
/// assert_eq!(cache.get("user:1").await, Some(Bytes::from("Ada")));
/// # Ok(())
/// # }
/// ```
pub struct MokaCache {
    cache: Cache<Arc<str>, Held, foldhash::fast::RandomState>,
    config: MokaCacheConfig,
    clock: Clock,
}

/// An entry and how long it had to live when it was stored, for Moka, whose clock is its own.
#[derive(Clone)]
struct Held {
    entry: Entry,
    ttl: Option<Duration>,
}

/// Frees the memory of expired entries. Whether one may still be served is decided at the lookup.
struct OwnTtl;

impl Expiry<Arc<str>, Held> for OwnTtl {
    fn expire_after_create(&self, _: &Arc<str>, held: &Held, _: Instant) -> Option<Duration> {
        held.ttl
    }

    fn expire_after_update(&self, _: &Arc<str>, held: &Held, _: Instant, _: Option<Duration>) -> Option<Duration> {
        held.ttl
    }
}

impl MokaCache {
    /// An empty store with these bounds.
    ///
    /// # Errors
    /// `ConfigError` if a bound is 0.
    pub fn new(config: MokaCacheConfig) -> CacheResult<Self> {
        let MokaCacheConfig { max_capacity, time_to_live, time_to_idle } = config;
        if max_capacity == 0 || time_to_live.is_zero() || time_to_idle.is_zero() {
            return Err(CacheError::ConfigError(format!("every bound of Moka must be above zero: {config:?}")));
        }
        let cache = Cache::builder()
            .max_capacity(max_capacity)
            .time_to_idle(time_to_idle.min(defaults::MOKA_TIME_TO_IDLE_MAX))
            .expire_after(OwnTtl)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Ok(Self { cache, config, clock: Clock::system() })
    }

    /// The same store on another clock. For a store that is still empty: deadlines of one clock mean nothing to another.
    ///
    /// Idleness is always measured on the machine's clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }
}

impl InProcess for MokaCache {
    fn lookup(&self, key: &str) -> Option<Entry> {
        let entry = self.cache.get(key)?.entry;
        (!self.clock.has_passed(entry.expires())).then_some(entry)
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        let latest = self.clock.now().after(self.config.time_to_live);
        let entry = if entry.expires() > latest { entry.expiring(latest) } else { entry };
        let ttl = entry.remaining(self.clock.now());
        self.cache.insert(Arc::clone(key), Held { entry, ttl });
    }

    fn evict(&self, key: &str) {
        self.cache.invalidate(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        // Moka's own bulk invalidations take effect later; one by one they hold when this returns.
        for (key, _) in &self.cache {
            if matches(&key) {
                self.cache.invalidate(&**key);
            }
        }
    }

    /// Moka counts its entries now and then; evictions it would only tell at the price of a lock for each key.
    fn usage(&self) -> Usage {
        Usage::of_entries(self.cache.entry_count())
    }
}

in_process_backend!(MokaCache, "Moka");

impl fmt::Debug for MokaCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaCache").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::clock::Moment;

    #[test]
    fn a_bound_of_zero_is_refused_and_an_absurd_one_accepted() {
        let config = MokaCacheConfig::default();
        let zero = Duration::ZERO;
        for config in [
            MokaCacheConfig { max_capacity: 0, ..config },
            MokaCacheConfig { time_to_live: zero, ..config },
            MokaCacheConfig { time_to_idle: zero, ..config },
        ] {
            assert!(matches!(MokaCache::new(config), Err(CacheError::ConfigError(_))));
        }
        let cache = MokaCache::new(MokaCacheConfig {
            max_capacity: u64::MAX,
            time_to_live: Duration::MAX,
            time_to_idle: Duration::MAX,
        })
        .unwrap();
        cache.store(&"k".into(), Entry::from_bytes(Bytes::new(), Moment::NEVER));
        assert!(cache.lookup("k").is_some());
    }

    #[test]
    fn an_entry_lives_no_longer_than_the_store_allows() {
        let time = Arc::new(AtomicU64::new(0));
        let cache = MokaCache::new(MokaCacheConfig::default()).unwrap().with_clock(Clock::manual(Arc::clone(&time)));
        cache.store(&"k".into(), Entry::from_bytes(Bytes::new(), Moment::NEVER));
        assert_eq!(cache.lookup("k").unwrap().remaining(cache.clock.now()), Some(defaults::MOKA_TIME_TO_LIVE));
        time.store(u64::try_from(defaults::MOKA_TIME_TO_LIVE.as_nanos()).unwrap(), Ordering::Release);
        assert!(cache.lookup("k").is_none());
    }

    #[test]
    fn a_key_dropped_while_others_read_it_is_gone_at_once() {
        let cache = MokaCache::new(MokaCacheConfig::default()).unwrap();
        let stop = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while stop.load(Ordering::Relaxed) == 0 {
                        let _ = cache.lookup("k");
                    }
                });
            }
            for round in 0..2_000 {
                cache.store(&"k".into(), Entry::from_bytes(Bytes::from(vec![0; 3]), Moment::NEVER));
                match round % 2 {
                    0 => cache.evict("k"),
                    _ => cache.evict_where(&|key| key == "k"),
                }
                assert!(cache.lookup("k").is_none());
            }
            stop.store(1, Ordering::Relaxed);
        });
    }
}
