//! Counters of an engine. One increment per request.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::telemetry::{Counter, Reads, Series, Source};

/// Requests, hits and misses of a cache since it was made.
///
/// At rest `total_requests = total_hits + misses`. A caller that waited for another's read or computation counts as
/// that one does. A request that no tier could answer because one of them failed is neither.
#[derive(Debug, Clone)]
pub struct CacheManagerStats {
    /// Requests answered: hits and misses.
    pub total_requests: u64,
    /// Hits in the first tier.
    pub l1_hits: u64,
    /// Hits in every tier below the first.
    pub l2_hits: u64,
    /// Hits in any tier.
    pub total_hits: u64,
    /// Requests no tier had a value for, whether or not a loader then made one.
    pub misses: u64,
    /// Hits per hundred requests; 0 before the first.
    pub hit_rate: f64,
    /// Hits in the first tier per hundred requests; 0 before the first.
    pub l1_hit_rate: f64,
    /// Copies made in a tier above the one that was hit.
    pub promotions: usize,
    /// Keys being read below the first tier, loaded or written just now.
    pub in_flight_requests: usize,
}

pub(crate) struct Stats {
    typed: Tally,
    bytes: Tally,
    /// Hits in the first tier that typed caches count, each its own.
    typed_hits: Mutex<Vec<Arc<Counter>>>,
    coalesced: Counter,
}

/// Requests of the verbs on bytes, or of all typed caches. Clones are the same counters.
#[derive(Clone)]
struct Tally {
    /// By the position of the tier.
    hits: Arc<[Counter]>,
    misses: Arc<Counter>,
}

impl Tally {
    fn new(tiers: usize) -> Self {
        Self { hits: (0..tiers).map(|_| Counter::default()).collect(), misses: Arc::default() }
    }

    #[inline]
    fn hit(&self, position: usize) {
        if let Some(counter) = self.hits.get(position) {
            counter.increment();
        }
    }

    fn hits_of(&self, position: usize) -> u64 {
        self.hits.get(position).map_or(0, Counter::sum)
    }
}

impl Source for Tally {
    fn reads(&self) -> Reads {
        let hits = self.hits.iter().map(Counter::sum).sum();
        Reads { hits, misses: self.misses.sum(), ..Reads::default() }
    }
}

impl Stats {
    /// The requests of the verbs on bytes are those of `bytes`, too.
    pub(crate) fn new(tiers: usize, bytes: &Series) -> Self {
        let of_bytes = Tally::new(tiers);
        bytes.add(Arc::new(of_bytes.clone()));
        let (typed_hits, coalesced) = (Mutex::default(), Counter::default());
        Self { typed: Tally::new(tiers), bytes: of_bytes, typed_hits, coalesced }
    }

    /// A counter whose hits are hits in the first tier.
    pub(super) fn lend(&self) -> Arc<Counter> {
        let counter = Arc::new(Counter::default());
        self.typed_hits.lock().push(Arc::clone(&counter));
        counter
    }

    /// Keeps what was counted, not the counter.
    pub(super) fn take_back(&self, counter: &Arc<Counter>) {
        let mut lent = self.typed_hits.lock();
        lent.retain(|lent| !Arc::ptr_eq(lent, counter));
        if let Some(first) = self.typed.hits.first() {
            first.add(counter.sum());
        }
    }

    /// A hit of a typed cache.
    #[inline]
    pub(crate) fn hit(&self, position: usize) {
        self.typed.hit(position);
    }

    /// A hit of the verbs on bytes.
    #[inline]
    pub(crate) fn hit_bytes(&self, position: usize) {
        self.bytes.hit(position);
    }

    pub(crate) fn miss(&self) {
        self.typed.misses.increment();
    }

    pub(crate) fn miss_bytes(&self) {
        self.bytes.misses.increment();
    }

    /// A request took the answer of another.
    pub(crate) fn coalesced(&self) {
        self.coalesced.increment();
    }

    pub(crate) fn coalesced_so_far(&self) -> u64 {
        self.coalesced.sum()
    }

    pub(crate) fn hits_of(&self, position: usize) -> u64 {
        // Under the lock, so that what is taken back meanwhile is counted once.
        let lent = self.typed_hits.lock();
        let lent = if position == 0 { lent.iter().map(|counter| counter.sum()).sum() } else { 0 };
        lent + self.typed.hits_of(position) + self.bytes.hits_of(position)
    }

    pub(crate) fn snapshot(&self, promotions: u64, in_flight_requests: usize) -> CacheManagerStats {
        let l1_hits = self.hits_of(0);
        let l2_hits = (1..self.typed.hits.len()).map(|position| self.hits_of(position)).sum();
        let (total_hits, misses) = (l1_hits + l2_hits, self.typed.misses.sum() + self.bytes.misses.sum());
        let total_requests = total_hits + misses;
        CacheManagerStats {
            total_requests,
            l1_hits,
            l2_hits,
            total_hits,
            misses,
            hit_rate: percent(total_hits, total_requests),
            l1_hit_rate: percent(l1_hits, total_requests),
            promotions: usize::try_from(promotions).unwrap_or(usize::MAX),
            in_flight_requests,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lent_counter_counts_is_counted_once_and_stays() {
        let stats = Stats::new(2, &Series::new("bytes"));
        let (kept, ended) = (stats.lend(), stats.lend());
        stats.hit(0);
        kept.add(2);
        ended.add(3);
        assert_eq!((stats.hits_of(0), stats.hits_of(1), stats.snapshot(0, 0).total_hits), (6, 0, 6));
        stats.take_back(&ended);
        assert_eq!(stats.hits_of(0), 6);
        kept.increment();
        assert_eq!(stats.hits_of(0), 7);
    }

    #[test]
    fn totals_are_derived_from_hits_and_misses() {
        let bytes = Series::new("bytes");
        let stats = Stats::new(3, &bytes);
        for position in [0, 2] {
            stats.hit(position);
            stats.hit_bytes(position / 2);
        }
        stats.miss_bytes();
        let seen = stats.snapshot(0, 0);
        assert_eq!((seen.l1_hits, seen.l2_hits, seen.total_hits, seen.misses), (2, 2, 4, 1));
        assert_eq!(seen.total_requests, 5);
        assert!((seen.hit_rate - 80.0).abs() < 1e-9 && (seen.l1_hit_rate - 40.0).abs() < 1e-9);
    }
}
