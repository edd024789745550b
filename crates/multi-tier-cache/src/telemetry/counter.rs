//! A counter that busy threads do not contend for.

use std::sync::atomic::{AtomicU64, Ordering};

const CELLS: usize = 16;

/// A sum spread over cells: one per thread while there are enough, the last for all the others.
#[derive(Default)]
pub(crate) struct Counter([Cell; CELLS]);

#[derive(Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    #[inline]
    pub(crate) fn add(&self, count: u64) {
        let seat = seat::of_this_thread();
        let Some(Cell(cell)) = self.0.get(seat) else { return };
        if seat == seat::SHARED {
            cell.fetch_add(count, Ordering::Relaxed);
        } else {
            // Nobody else writes this cell, so that the price of an atomic read-modify-write is saved.
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
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
