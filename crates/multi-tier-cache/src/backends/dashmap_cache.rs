//! A bounded concurrent map that evicts what expires first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, Entry as MapEntry};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::backends::in_process::in_process_backend;
use crate::clock::{Clock, Moment};
use crate::defaults;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::traits::{InProcess, Usage};

/// A store inside this process, bounded by entries, that makes room by dropping the entry with the earliest deadline.
///
/// Reads lock one shard of the map; writes take turns. A store that is read more cleverly than it is written is
/// [`QuickCacheBackend`](crate::backends::QuickCacheBackend): this one keeps exactly what lives longest.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use std::time::Duration;
/// use multi_tier_cache::{Bytes, CacheBackend, backends::DashMapCache};
///
/// let cache = DashMapCache::with_capacity(2)?;
/// for (key, ttl) in [("short", 1), ("long", 60), ("longer", 90)] {
///     cache.set_with_ttl(key, Bytes::from("value"), Duration::from_secs(ttl)).await?;
/// }
/// assert_eq!(cache.len(), 2);
/// assert_eq!(cache.get("short").await, None);
/// # Ok(())
/// # }
/// ```
pub struct DashMapCache {
    map: DashMap<Arc<str>, Held, foldhash::fast::RandomState>,
    /// Locked, before a shard of `map`, by every change but one: a value that lives at least as long as the one it
    /// replaces takes over its place. That and reads go past it.
    queue: Mutex<Queue>,
    capacity: usize,
    clock: Clock,
}

/// An entry with its place in the queue.
struct Held {
    entry: Entry,
    place: Place,
}

/// A moment not after the entry's deadline, then order of arrival.
type Place = (Moment, u64);

/// Keys in the order in which they are dropped. Holds every entry of the map at its place, and places that entries
/// have left since: a replaced entry is not looked for, which would cost more than all the rest of a write.
#[derive(Default)]
struct Queue {
    order: BinaryHeap<Reverse<(Place, Arc<str>)>>,
    arrivals: u64,
    /// Entries of the map, which would lock each of its shards to count them.
    live: usize,
    evictions: u64,
}

impl DashMapCache {
    /// A store of at most [`defaults::DASHMAP_ENTRIES`] entries.
    #[must_use]
    pub fn new() -> Self {
        Self::bounded(defaults::DASHMAP_ENTRIES)
    }

    /// A store of at most `capacity` entries.
    ///
    /// # Errors
    /// `ConfigError` if `capacity` is 0.
    pub fn with_capacity(capacity: usize) -> CacheResult<Self> {
        if capacity == 0 {
            return Err(CacheError::ConfigError("the capacity of DashMap must be at least 1".into()));
        }
        Ok(Self::bounded(capacity))
    }

    /// The same store on another clock. For a store that is still empty: deadlines of one clock mean nothing to another.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Drops every expired entry and answers how many there were.
    ///
    /// Never needed for correctness or for the bound: it frees memory earlier than lookups and evictions would.
    pub fn cleanup_expired(&self) -> usize {
        let mut dropped = Vec::new();
        let mut queue = self.queue.lock();
        while queue.order.peek().is_some_and(|Reverse(((deadline, _), _))| self.clock.has_passed(*deadline)) {
            dropped.extend(self.pop_first(&mut queue));
        }
        drop(queue);
        dropped.len()
    }

    /// The number of entries, counting expired ones that were not looked up since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn bounded(capacity: usize) -> Self {
        Self { map: DashMap::default(), queue: Mutex::default(), capacity, clock: Clock::system() }
    }

    /// Removes `key` if `condition` holds for its entry. The removed value is dropped by the caller, outside the lock.
    fn remove_if(&self, key: &str, condition: impl FnOnce(&Entry) -> bool) -> Option<Held> {
        let mut queue = self.queue.lock();
        let (_, held) = self.map.remove_if(key, |_, held| condition(&held.entry))?;
        queue.live -= 1;
        Some(held)
    }

    /// Takes the first place off the queue, and its entry out of the map, unless that has left the place or lives
    /// longer by now and goes to a later one.
    fn pop_first(&self, queue: &mut Queue) -> Option<Held> {
        let Reverse((place, key)) = queue.order.pop()?;
        let MapEntry::Occupied(mut first) = self.map.entry(key) else { return None };
        if first.get().place != place {
            return None;
        }
        let deadline = first.get().entry.expires();
        if deadline > place.0 {
            first.get_mut().place = queue.join(first.key(), deadline);
            return None;
        }
        queue.live -= 1;
        Some(first.remove())
    }

    /// Forgets left places once they are most of the queue.
    fn tidy(&self, queue: &mut Queue) {
        let most = queue.live.saturating_mul(defaults::DASHMAP_QUEUE_FACTOR).max(defaults::DASHMAP_QUEUE_MIN);
        if queue.order.len() > most {
            queue.order = self.map.iter().map(|held| Reverse((held.place, Arc::clone(held.key())))).collect();
        }
    }
}

impl Queue {
    fn join(&mut self, key: &Arc<str>, deadline: Moment) -> Place {
        self.arrivals += 1;
        let place = (deadline, self.arrivals);
        self.order.push(Reverse((place, Arc::clone(key))));
        place
    }
}

impl InProcess for DashMapCache {
    fn lookup(&self, key: &str) -> Option<Entry> {
        let entry = self.map.get(key)?.entry.clone();
        if self.clock.has_passed(entry.expires()) {
            drop(self.remove_if(key, |entry| self.clock.has_passed(entry.expires())));
            return None;
        }
        Some(entry)
    }

    fn visit(&self, key: &[u8], visitor: &mut dyn FnMut(&Entry)) {
        let Ok(key) = str::from_utf8(key) else { return };
        if let Some(held) = self.map.get(key) {
            visitor(&held.entry);
        }
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        if let Some(mut held) = self.map.get_mut(key)
            && held.place.0 <= entry.expires()
        {
            let replaced = mem::replace(&mut held.entry, entry);
            drop(held);
            drop(replaced);
            return;
        }
        let mut queue = self.queue.lock();
        let place = queue.join(key, entry.expires());
        let replaced = self.map.insert(Arc::clone(key), Held { entry, place });
        let mut evicted = None;
        queue.live += usize::from(replaced.is_none());
        while queue.live > self.capacity && evicted.is_none() && !queue.order.is_empty() {
            evicted = self.pop_first(&mut queue);
            queue.evictions += u64::from(evicted.is_some());
        }
        self.tidy(&mut queue);
        drop(queue);
        // Values are dropped outside the lock: the destructor of a decoded one may be anything.
        drop((replaced, evicted));
    }

    fn evict(&self, key: &str) {
        drop(self.remove_if(key, |_| true));
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        let mut queue = self.queue.lock();
        let matching: Vec<_> = self.map.iter().map(|held| Arc::clone(held.key())).filter(|key| matches(key)).collect();
        let dropped: Vec<_> = matching.iter().filter_map(|key| self.map.remove(key)).collect();
        queue.live -= dropped.len();
        drop(queue);
        drop(dropped);
    }

    fn usage(&self) -> Usage {
        let queue = self.queue.lock();
        Usage::of_entries(queue.live as u64).with_evictions(queue.evictions)
    }
}

in_process_backend!(DashMapCache, "DashMap");

impl Default for DashMapCache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DashMapCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DashMapCache")
            .field("capacity", &self.capacity)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::thread;

    use super::*;

    fn put(cache: &DashMapCache, key: &str, ttl: u64) {
        let expires = cache.clock.now().after(Duration::from_secs(ttl));
        cache.store(&key.into(), Entry::from_bytes(Bytes::from_static(b"v"), expires));
    }

    fn assert_consistent(cache: &DashMapCache) {
        let queue = cache.queue.lock();
        assert_eq!(queue.live, cache.map.len());
        assert!(queue.order.len() <= defaults::DASHMAP_QUEUE_MIN.max(cache.map.len() * defaults::DASHMAP_QUEUE_FACTOR));
        for held in &cache.map {
            let place = |Reverse((place, key)): &&Reverse<(Place, Arc<str>)>| *place == held.place && key == held.key();
            assert_eq!(queue.order.iter().filter(place).count(), 1, "{}", held.key());
            assert!(held.place.0 <= held.entry.expires(), "{}", held.key());
        }
    }

    #[test]
    fn the_earliest_deadline_makes_room_and_of_two_the_older() {
        let cache = DashMapCache::with_capacity(2).unwrap();
        put(&cache, "long", 90);
        put(&cache, "short", 10);
        put(&cache, "middle", 50);
        assert!(cache.lookup("short").is_none());
        put(&cache, "also long", 90);
        assert!(cache.lookup("middle").is_none());
        put(&cache, "long again", 90);
        assert!(cache.lookup("long").is_none());
        assert_eq!(cache.len(), 2);
        assert_consistent(&cache);
    }

    #[test]
    fn replacing_does_not_count_twice() {
        let cache = DashMapCache::with_capacity(2).unwrap();
        for round in 0..10 {
            put(&cache, "a", 50 + round);
            put(&cache, "b", 90 - round);
        }
        assert_eq!(cache.len(), 2);
        assert_consistent(&cache);
    }

    #[test]
    fn map_and_queue_agree_after_writers_readers_and_sweeps_at_once() {
        let cache = DashMapCache::with_capacity(50).unwrap();
        thread::scope(|scope| {
            for seed in 0..8 {
                let cache = &cache;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..5_000 {
                        let key = format!("k{}", random.u8(0..100));
                        match random.u8(0..10) {
                            0 => cache.evict(&key),
                            1 => cache.evict_where(&|other| other.ends_with('7')),
                            2 => drop(cache.cleanup_expired()),
                            3..6 => drop(cache.lookup(&key)),
                            6 => put(cache, &key, 0),
                            _ => put(cache, &key, random.u64(1..100)),
                        }
                        // Not `len`: it counts shard by shard while others move on.
                        assert!(cache.queue.lock().live <= 50, "a writer makes room before it lets go");
                    }
                });
            }
        });
        assert_consistent(&cache);
        assert!(cache.len() <= 50);
    }
}
