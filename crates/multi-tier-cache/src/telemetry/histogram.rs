//! Durations, counted by size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often durations fell between fixed bounds. Two additions a recording; for what takes microseconds or more.
pub(crate) struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for what is beyond the last.
    buckets: Box<[AtomicU64]>,
    /// In microseconds: a sum of ages, in nanoseconds, would overflow within days.
    sum: AtomicU64,
}

/// A histogram at some moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HistogramSnapshot {
    /// The upper bound of each bucket but the last, in seconds; a duration equal to a bound is below it.
    pub bounds: Vec<f64>,
    /// How many durations are in each bucket alone; one bucket more than bounds, for what is beyond the last.
    pub counts: Vec<u64>,
    /// The sum of all durations, in seconds, to the microsecond.
    pub sum: f64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [Duration]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, duration: Duration) {
        let place = self.bounds.partition_point(|bound| *bound < duration);
        if let Some(bucket) = self.buckets.get(place) {
            self.sum.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds.iter().map(Duration::as_secs_f64).collect(),
            counts: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            sum: Duration::from_micros(self.sum.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

impl HistogramSnapshot {
    /// How many durations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// For each bound, how many durations are not beyond it; last, how many there are.
    pub fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10)];
        let histogram = Histogram::new(BOUNDS);
        for micros in [0, 1_000, 1_001, 10_000, 10_001, 2_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        histogram.record(Duration::from_nanos(1_000_001));
        let seen = histogram.snapshot();
        assert_eq!((&seen.counts[..], seen.count()), (&[2, 3, 2][..], 7));
        assert_eq!(seen.cumulative().collect::<Vec<_>>(), [2, 5, 7]);
        assert!((seen.sum - 2.023_002).abs() < 1e-9, "{}", seen.sum);
    }
}
