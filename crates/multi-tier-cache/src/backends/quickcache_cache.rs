//! The default first tier: a bounded map with scan-resistant eviction.

use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Lifecycle, OptionsBuilder, Weighter};

use crate::backends::in_process::in_process_backend;
use crate::backends::key_hash::{KeyHash, is_same};
use crate::clock::{Clock, Moment};
use crate::defaults;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::telemetry::Counter;
use crate::traits::{InProcess, Usage};

/// A store inside this process, bounded by entries or by bytes, evicting what is used least.
///
/// A lookup costs one shard lock held for reading, and no allocation. Any entry may be evicted at any time to make
/// room; an expired one is dropped when it is next looked up, or evicted. All methods may be called concurrently.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use std::time::Duration;
/// use multi_tier_cache::{Bytes, CacheBackend, backends::QuickCacheBackend};
///
/// let cache = QuickCacheBackend::new(10_000)?;
/// cache.set_with_ttl("user:1", Bytes::from("Ada"), Duration::from_secs(60)).await?;
/// assert_eq!(cache.get("user:1").await, Some(Bytes::from("Ada")));
/// # Ok(())
/// # }
/// ```
pub struct QuickCacheBackend {
    cache: Store,
    evictions: Arc<Counter>,
    bound: Bound,
    clock: Clock,
}

/// The store shows its keys where they are and hands out copies of its values: so an entry is kept with its key, and
/// what is kept as a value is nothing.
type Store = Cache<Held, (), OwnWeight, KeyHash, Counted>;

#[derive(Debug, Clone, Copy)]
enum Bound {
    Entries,
    Bytes,
}

/// An entry under its key, with its weight at insertion. The store requires that a weight never changes, while an
/// entry's length may become known later.
struct Held {
    key: Arc<str>,
    weight: u64,
    entry: Entry,
}

/// Entries are told apart by their keys alone.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Held {}

impl Borrow<str> for Held {
    fn borrow(&self) -> &str {
        &self.key
    }
}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Counts what is evicted, or declined as too heavy. That and what is replaced is dropped once no lock is held.
#[derive(Clone)]
struct Counted(DefaultLifecycle<Held, ()>, Arc<Counter>);

impl Lifecycle<Held, ()> for Counted {
    type RequestState = <DefaultLifecycle<Held, ()> as Lifecycle<Held, ()>>::RequestState;

    fn before_evict(&self, _: &mut Self::RequestState, _: &Held, (): &mut ()) {
        self.1.increment();
    }

    #[inline]
    fn on_evict(&self, state: &mut Self::RequestState, held: Held, (): ()) {
        self.0.on_evict(state, held, ());
    }
}

/// A key that is looked for, and what is asked of its entry where it is: whether it is the one wanted. Asked once, under
/// the lock of the entry's shard.
struct Sought<'a, F> {
    key: &'a [u8],
    wanted: Cell<Option<F>>,
}

impl<'a, F: FnOnce(&Entry) -> bool> Sought<'a, F> {
    #[inline]
    fn new(key: &'a [u8], wanted: F) -> Self {
        Self { key, wanted: Cell::new(Some(wanted)) }
    }
}

impl<F: FnOnce(&Entry) -> bool> Equivalent<Held> for Sought<'_, F> {
    #[inline]
    fn equivalent(&self, held: &Held) -> bool {
        is_same(held.key.as_bytes(), self.key) && self.wanted.take().is_some_and(|wanted| wanted(&held.entry))
    }
}

impl<F> Hash for Sought<'_, F> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.key);
    }
}

#[derive(Clone)]
struct OwnWeight;

impl Weighter<Held, ()> for OwnWeight {
    fn weight(&self, held: &Held, (): &()) -> u64 {
        held.weight
    }
}

impl QuickCacheBackend {
    /// A store of at most `max_entries` entries, whatever their size.
    ///
    /// # Errors
    /// `ConfigError` if `max_entries` is 0.
    pub fn new(max_entries: u64) -> CacheResult<Self> {
        if max_entries == 0 {
            return Err(CacheError::ConfigError("max_entries of QuickCache must be at least 1".into()));
        }
        let max_entries = max_entries.min(defaults::QUICKCACHE_ENTRIES_MAX);
        let shards = shards(max_entries, defaults::QUICKCACHE_SHARD_ENTRIES_MIN);
        // Shares are rounded up by the store; rounded down here, their sum stays within the bound.
        Self::build(shards, max_entries / shards * shards, max_entries, Bound::Entries)
    }

    /// A store of at most `max_bytes` bytes of keys, values and
    /// [overhead](defaults::QUICKCACHE_ENTRY_OVERHEAD), as estimated when an entry is inserted: for as much as an entry
    /// takes at most. Small values leave up to a quarter of the bound unused.
    ///
    /// A value that is only known decoded counts [`defaults::QUICKCACHE_OBJECT_BYTES`]. A value heavier than 92 % of
    /// the store's share that its key falls into (the whole store up to 20 MiB, at least 10 MiB beyond) is declined,
    /// and an older value of its key is dropped.
    ///
    /// # Errors
    /// `ConfigError` if `max_bytes` is 0.
    pub fn with_max_bytes(max_bytes: u64) -> CacheResult<Self> {
        if max_bytes == 0 {
            return Err(CacheError::ConfigError("max_bytes of QuickCache must be at least 1".into()));
        }
        let shards = shards(max_bytes, defaults::QUICKCACHE_SHARD_BYTES_MIN);
        let likely_entries = max_bytes / defaults::QUICKCACHE_OBJECT_BYTES + 1;
        let for_entries = max_bytes - max_bytes / defaults::QUICKCACHE_EVICTED_SHARE;
        Self::build(shards, for_entries / shards * shards, likely_entries, Bound::Bytes)
    }

    /// The same store on another clock. For a store that is still empty: deadlines of one clock mean nothing to another.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The number of entries, counting expired ones that were not looked up since.
    #[must_use]
    pub fn size(&self) -> usize {
        self.cache.len()
    }

    fn build(shards: u64, capacity: u64, likely_entries: u64, bound: Bound) -> CacheResult<Self> {
        let options = OptionsBuilder::new()
            .shards(usize::try_from(shards)?)
            .estimated_items_capacity(usize::try_from(likely_entries)?)
            .weight_capacity(capacity)
            .ghost_allocation(defaults::QUICKCACHE_GHOSTS)
            .build()
            .map_err(|error| CacheError::ConfigError(error.to_string()))?;
        let evictions = Arc::new(Counter::default());
        let lifecycle = Counted(DefaultLifecycle::default(), Arc::clone(&evictions));
        let cache = Cache::with_options(options, OwnWeight, KeyHash::random(), lifecycle);
        Self { cache, evictions, bound, clock: Clock::system() }.replacing()
    }

    /// This store, empty, if an entry that is stored takes the place of the one before. A map may keep the key it has,
    /// and here that would be the older entry: `quick_cache` does not, but does not promise it either.
    fn replacing(self) -> CacheResult<Self> {
        let (key, stored) = (Arc::from(""), |expires| Entry::from_bytes(Bytes::new(), expires));
        self.store(&key, stored(Moment::ORIGIN));
        self.store(&key, stored(Moment::NEVER));
        let replaced = self.lookup(&key).is_none_or(|entry| entry.expires() == Moment::NEVER);
        self.evict(&key);
        if replaced {
            return Ok(self);
        }
        let message = "this version of quick_cache keeps an entry that is replaced: `cargo update -p quick_cache --precise 0.7.0`";
        Err(CacheError::InternalError(message.into()))
    }

    fn weight(&self, key: &str, entry: &Entry) -> u64 {
        match self.bound {
            Bound::Entries => 1,
            Bound::Bytes => {
                let value = entry.len_hint().map_or(defaults::QUICKCACHE_OBJECT_BYTES, |len| len as u64);
                (key.len() as u64).saturating_add(value).saturating_add(defaults::QUICKCACHE_ENTRY_OVERHEAD)
            }
        }
    }

    /// Drops an entry that was seen expired, unless it has been replaced since.
    #[cold]
    fn drop_expired(&self, key: &str) {
        let expired = Sought::new(key.as_bytes(), |entry: &Entry| self.clock.has_passed(entry.expires()));
        self.cache.remove_if(&expired, |()| true);
    }
}

/// How many shards share `capacity`: as many as keep threads apart, few enough that each is worth `least`.
/// With small shards, chance alone fills some early and the store holds visibly less than its bound.
fn shards(capacity: u64, least: u64) -> u64 {
    let useful = thread::available_parallelism().map_or(1, |cores| cores.get() as u64 * 4).next_power_of_two();
    let affordable = (capacity / least).max(1);
    useful.min(1 << affordable.ilog2())
}

impl InProcess for QuickCacheBackend {
    #[inline]
    fn lookup(&self, key: &str) -> Option<Entry> {
        let mut found = None;
        self.visit(key.as_bytes(), &mut |entry| found = Some(entry.clone()));
        let entry = found?;
        if self.clock.has_passed(entry.expires()) {
            self.drop_expired(key);
            return None;
        }
        Some(entry)
    }

    #[inline]
    fn visit(&self, key: &[u8], visitor: &mut dyn FnMut(&Entry)) {
        let _ = self.cache.get(&Sought::new(key, |entry: &Entry| {
            visitor(entry);
            true
        }));
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        let weight = self.weight(key, &entry);
        self.cache.insert(Held { key: Arc::clone(key), weight, entry }, ());
    }

    fn evict(&self, key: &str) {
        self.cache.remove(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        self.cache.retain(|held, ()| !matches(&held.key));
    }

    fn usage(&self) -> Usage {
        let usage = Usage::of_entries(self.cache.len() as u64).with_evictions(self.evictions.sum());
        match self.bound {
            Bound::Entries => usage,
            Bound::Bytes => usage.with_bytes(self.cache.weight()),
        }
    }
}

in_process_backend!(QuickCacheBackend, "QuickCache");

impl fmt::Debug for QuickCacheBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuickCacheBackend")
            .field("bound", &self.bound)
            .field("capacity", &self.cache.capacity())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::error::Failure;

    fn entry(length: usize) -> Entry {
        Entry::from_bytes(Bytes::from(vec![b'v'; length]), Moment::NEVER)
    }

    fn key(n: usize) -> Arc<str> {
        format!("key:{n}").into()
    }

    #[test]
    fn the_smallest_stores_work() {
        for capacity in 1..=3 {
            let cache = QuickCacheBackend::new(capacity).unwrap();
            for n in 0..10 {
                cache.store(&key(n), entry(n));
                assert_eq!(cache.lookup(&key(n)).unwrap().len_hint(), Some(n), "{n} of {capacity}");
            }
            assert_eq!(cache.size() as u64, capacity);
        }
        assert!(matches!(QuickCacheBackend::new(0), Err(CacheError::ConfigError(_))));
        assert!(matches!(QuickCacheBackend::with_max_bytes(0), Err(CacheError::ConfigError(_))));
    }

    #[test]
    fn a_store_of_n_entries_holds_nearly_n_and_never_more() {
        for capacity in [7, 64, 100, 513, 2_000, 10_001] {
            let cache = QuickCacheBackend::new(capacity as u64).unwrap();
            for n in 0..capacity {
                cache.store(&key(n), entry(1));
            }
            let held = cache.size();
            assert!(held * 100 >= capacity * 94, "{held} of {capacity}");
            for n in capacity..capacity * 3 {
                cache.store(&key(n), entry(1));
            }
            assert!(cache.size() <= capacity, "{} of {capacity}", cache.size());
        }
    }

    #[test]
    fn absurd_bounds_are_accepted() {
        for cache in [QuickCacheBackend::new(u64::MAX), QuickCacheBackend::with_max_bytes(u64::MAX)] {
            let cache = cache.unwrap();
            cache.store(&key(1), entry(1));
            assert!(cache.lookup("key:1").is_some());
        }
    }

    #[test]
    fn bytes_bound_the_store() {
        let cache = QuickCacheBackend::with_max_bytes(100_000).unwrap();
        for n in 0..1_000 {
            cache.store(&key(n), entry(1_000));
        }
        assert!((75..=95).contains(&cache.size()), "{}", cache.size());
    }

    #[test]
    fn small_values_count_for_what_they_take_and_not_for_what_they_say() {
        let cache = QuickCacheBackend::with_max_bytes(1_000_000).unwrap();
        for n in 0..20_000 {
            cache.store(&key(n), entry(1));
        }
        let most = 1_000_000 / usize::try_from(defaults::QUICKCACHE_ENTRY_OVERHEAD).unwrap();
        assert!((most * 9 / 10..most).contains(&cache.size()), "{} of {most}", cache.size());
    }

    #[test]
    fn the_longest_value_fits_into_a_shard_of_the_least_size() {
        let cache = QuickCacheBackend::with_max_bytes(defaults::QUICKCACHE_SHARD_BYTES_MIN * 2).unwrap();
        cache.store(&key(1), entry(defaults::MAX_VALUE_BYTES));
        assert!(cache.lookup(&key(1)).is_some());
    }

    #[test]
    fn a_value_too_heavy_is_declined_and_takes_the_old_one_with_it() {
        let cache = QuickCacheBackend::with_max_bytes(10_000).unwrap();
        cache.store(&key(1), entry(10));
        cache.store(&key(1), entry(10_000));
        assert!(cache.lookup("key:1").is_none());
        assert_eq!(cache.size(), 0);
    }

    #[test]
    fn an_entry_is_shown_even_if_it_has_expired_until_a_lookup_drops_it() {
        let cache = QuickCacheBackend::new(10).unwrap();
        let shown = |key: &Arc<str>| {
            let mut shown = Vec::new();
            cache.visit(key.as_bytes(), &mut |entry| shown.push((entry.len_hint(), entry.expires())));
            shown
        };
        cache.store(&key(1), entry(3));
        cache.store(&key(2), entry(4).expiring(Moment::ORIGIN));
        assert_eq!(shown(&key(1)), [(Some(3), Moment::NEVER)]);
        assert_eq!(shown(&key(2)), [(Some(4), Moment::ORIGIN)]);
        assert!(cache.lookup(&key(1)).is_some() && cache.lookup(&key(2)).is_none());
        assert_eq!((shown(&key(1)).len(), shown(&key(2)).len(), cache.size()), (1, 0, 1));
    }

    // A weight read anew at replacement would be larger than the one added, and the sum would wrap below zero.
    #[test]
    fn a_length_that_becomes_known_later_does_not_corrupt_the_sum_of_weights() {
        let cache = QuickCacheBackend::with_max_bytes(1_000_000).unwrap();
        for _ in 0..3 {
            let encode: crate::entry::Encode = Arc::new(|_| Ok(Bytes::from(vec![0; 500_000])));
            let decoded = Entry::from_object(Arc::new(1_u8), encode, Moment::NEVER);
            cache.store(&key(1), decoded.clone());
            assert_eq!(decoded.bytes().unwrap().len(), 500_000);
        }
        cache.evict("key:1");
        assert_eq!(cache.cache.weight(), 0);
    }

    #[tokio::test]
    async fn an_object_that_cannot_be_encoded_is_an_error_where_bytes_are_asked_for() {
        use crate::traits::CacheBackend;
        let cache = QuickCacheBackend::new(10).unwrap();
        let encode: crate::entry::Encode =
            Arc::new(|_| Err(CacheError::SerializationError(Failure::new("no such form"))));
        cache.store(&key(1), Entry::from_object(Arc::new(1_u8), encode, Moment::NEVER));
        assert!(cache.try_get("key:1").await.is_err());
        assert_eq!(cache.get("key:1").await, None);
    }
}
