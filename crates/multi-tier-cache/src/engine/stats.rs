//! Counters of an engine. One increment per request, spread over cells so that busy threads do not share a line.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const CELLS: usize = 16;

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
    hits: Vec<Counter>,
    misses: Counter,
    promotions: AtomicUsize,
}

impl Stats {
    pub(crate) fn new(tiers: usize) -> Self {
        let hits = (0..tiers).map(|_| Counter::default()).collect();
        Self { hits, misses: Counter::default(), promotions: AtomicUsize::new(0) }
    }

    #[inline]
    pub(crate) fn hit(&self, position: usize) {
        if let Some(counter) = self.hits.get(position) {
            counter.increment();
        }
    }

    pub(crate) fn miss(&self) {
        self.misses.increment();
    }

    pub(crate) fn promoted(&self, copies: usize) {
        self.promotions.fetch_add(copies, Ordering::Relaxed);
    }

    pub(crate) fn hits_of(&self, position: usize) -> u64 {
        self.hits.get(position).map_or(0, Counter::sum)
    }

    pub(crate) fn snapshot(&self, in_flight_requests: usize) -> CacheManagerStats {
        let l1_hits = self.hits_of(0);
        let l2_hits = self.hits.iter().skip(1).map(Counter::sum).sum();
        let (total_hits, misses) = (l1_hits + l2_hits, self.misses.sum());
        let total_requests = total_hits + misses;
        CacheManagerStats {
            total_requests,
            l1_hits,
            l2_hits,
            total_hits,
            misses,
            hit_rate: percent(total_hits, total_requests),
            l1_hit_rate: percent(l1_hits, total_requests),
            promotions: self.promotions.load(Ordering::Relaxed),
            in_flight_requests,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

/// A sum spread over cells: one per thread while there are enough, the last for all the others.
#[derive(Default)]
struct Counter([Cell; CELLS]);

#[derive(Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

impl Counter {
    #[inline]
    fn increment(&self) {
        let seat = seat::of_this_thread();
        let Some(Cell(cell)) = self.0.get(seat) else { return };
        if seat == seat::SHARED {
            cell.fetch_add(1, Ordering::Relaxed);
        } else {
            // Nobody else writes this cell, so that the price of an atomic read-modify-write is saved.
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

/// Which cell a thread counts in. A seat belongs to one living thread at a time and is handed on when that ends; the
/// lock it is handed on under makes the old owner's counts visible to the new one.
mod seat {
    use std::cell::Cell;

    use parking_lot::Mutex;

    use super::CELLS;

    /// The seat of all threads that found no other.
    pub(super) const SHARED: usize = CELLS - 1;
    const NONE: usize = usize::MAX;

    static FREE: Mutex<[bool; SHARED]> = Mutex::new([true; SHARED]);

    thread_local! {
        static SEAT: Cell<usize> = const { Cell::new(NONE) };
        static OWNED: Owned = Owned::take();
    }

    struct Owned(usize);

    #[inline]
    pub(super) fn of_this_thread() -> usize {
        match SEAT.get() {
            NONE => take(),
            seat => seat,
        }
    }

    #[cold]
    fn take() -> usize {
        // While a thread ends, its seat may be gone already.
        let seat = OWNED.try_with(|owned| owned.0).unwrap_or(SHARED);
        SEAT.set(seat);
        seat
    }

    impl Owned {
        fn take() -> Self {
            let mut free = FREE.lock();
            let seat = free.iter().position(|free| *free);
            if let Some(taken) = seat.and_then(|seat| free.get_mut(seat)) {
                *taken = false;
            }
            Self(seat.unwrap_or(SHARED))
        }
    }

    impl Drop for Owned {
        fn drop(&mut self) {
            SEAT.set(SHARED);
            if let Some(taken) = FREE.lock().get_mut(self.0) {
                *taken = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_derived_from_hits_and_misses() {
        let stats = Stats::new(3);
        for position in [0, 0, 1, 2] {
            stats.hit(position);
        }
        stats.miss();
        let seen = stats.snapshot(0);
        assert_eq!((seen.l1_hits, seen.l2_hits, seen.total_hits, seen.misses), (2, 2, 4, 1));
        assert_eq!(seen.total_requests, 5);
        assert!((seen.hit_rate - 80.0).abs() < 1e-9 && (seen.l1_hit_rate - 40.0).abs() < 1e-9);
    }

    #[test]
    fn no_increment_is_lost_between_threads() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..CELLS + 4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.sum(), (CELLS as u64 + 4) * 10_000);
    }

    #[test]
    fn no_increment_is_lost_when_a_seat_is_handed_on() {
        let counter = Counter::default();
        for _ in 0..CELLS * 3 {
            std::thread::scope(|scope| {
                scope.spawn(|| counter.increment());
                counter.increment();
            });
        }
        assert_eq!(counter.sum(), CELLS as u64 * 6);
    }
}
