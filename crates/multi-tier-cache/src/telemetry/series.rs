//! What is counted under the name of one cache.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::activity::{Activity, OPERATIONS, OUTCOMES, Operation};
use super::histogram::Histogram;
use super::metric::Metric;
use super::names;
use super::snapshot::Collector;
use crate::defaults;

/// Of a slice of time, so many hits are asked for their age.
const SAMPLES_MAX: u64 = (1 << SAMPLE_BITS) - 1;
const SAMPLE_BITS: u32 = 6;

/// What the reads of one cache came to. Its statistics count them; here they are added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Answered with what was stored, and fresh.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Answered with a stale value, by the reason.
    pub(crate) revalidating: u64,
    pub(crate) load_failed: u64,
    pub(crate) load_slow: u64,
    pub(crate) throttled: u64,
    pub(crate) loads: u64,
    pub(crate) not_modified: u64,
    pub(crate) refreshes: u64,
    pub(crate) rejected: u64,
}

/// Whoever counts reads.
pub(crate) trait Source: Send + Sync {
    fn reads(&self) -> Reads;
}

/// The time series of one cache, or of several of the same name.
pub(crate) struct Series {
    name: Arc<str>,
    /// By operation and activity: what no statistics count.
    tallies: [[AtomicU64; Activity::COUNT]; OPERATIONS.len()],
    /// By operation.
    durations: [Histogram; OPERATIONS.len()],
    ages: Histogram,
    /// The latest slice of time of which ages were taken, and of how many hits.
    samples: AtomicU64,
    sources: Mutex<Sources>,
}

#[derive(Default)]
struct Sources {
    live: Vec<Arc<dyn Source>>,
    /// What those counted that are gone.
    ended: Reads,
}

impl Series {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            tallies: Default::default(),
            durations: OPERATIONS.map(|_| Histogram::new(&defaults::DURATION_BOUNDS)),
            ages: Histogram::new(&defaults::AGE_BOUNDS),
            samples: AtomicU64::new(0),
            sources: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    #[cfg(feature = "opentelemetry")]
    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts the reads of `source` from now on.
    pub(crate) fn add(&self, source: Arc<dyn Source>) {
        self.sources.lock().live.push(source);
    }

    /// Keeps what `source` counted, not the source.
    pub(crate) fn end(&self, source: &Arc<dyn Source>) {
        let mut sources = self.sources.lock();
        let known = sources.live.len();
        sources.live.retain(|live| !Arc::ptr_eq(live, source));
        if sources.live.len() < known {
            sources.ended += source.reads();
        }
    }

    pub(crate) fn count(&self, operation: Operation, activity: Activity, count: u64) {
        if let Some(tally) = self.tally(operation, activity) {
            tally.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn took(&self, operation: Operation, duration: Duration) {
        if let Some(durations) = self.durations.get(operation as usize) {
            durations.record(duration);
        }
    }

    /// A hit's value is this old. Of each slice of time a few hits are taken, so that threads do not contend for it.
    pub(crate) fn aged(&self, age: Duration, slice: Option<u64>) {
        if slice.is_none_or(|slice| self.takes_sample(slice)) {
            self.ages.record(age);
        }
    }

    fn takes_sample(&self, slice: u64) -> bool {
        let seen = self.samples.load(Ordering::Relaxed);
        let taken = if seen >> SAMPLE_BITS == slice { seen & SAMPLES_MAX } else { 0 };
        // Another thread takes one just now: let it.
        let take = |next| self.samples.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        taken < SAMPLES_MAX && take(slice << SAMPLE_BITS | (taken + 1))
    }

    fn tally(&self, operation: Operation, activity: Activity) -> Option<&AtomicU64> {
        self.tallies.get(operation as usize)?.get(activity as usize)
    }

    pub(crate) fn tallied(&self, operation: Operation, activity: Activity) -> u64 {
        self.tally(operation, activity).map_or(0, |tally| tally.load(Ordering::Relaxed))
    }

    fn reads(&self) -> Reads {
        // Under the lock, so that what ends meanwhile is counted once.
        let sources = self.sources.lock();
        sources.live.iter().fold(sources.ended, |mut sum, source| {
            sum += source.reads();
            sum
        })
    }

    pub(super) fn collect(&self, into: &mut Collector) {
        let (reads, cache) = (self.reads(), &*self.name);
        let stale = [
            ("revalidating", reads.revalidating),
            ("load_failed", reads.load_failed),
            ("load_slow", reads.load_slow),
            ("throttled", reads.throttled),
        ];
        for (operation, activity) in OUTCOMES {
            let counted = match (operation, activity) {
                (Operation::Get, Activity::Hit) => reads.hits + reads.revalidating,
                (Operation::Get, Activity::Miss) => reads.misses,
                (Operation::Get, Activity::Fallback) => reads.load_failed + reads.load_slow + reads.throttled,
                _ => 0,
            };
            let count = counted + self.tallied(operation, activity);
            into.count(&names::EVENTS, &[cache, operation.as_str(), activity.as_str()], count);
        }
        for (operation, durations) in OPERATIONS.iter().zip(&self.durations) {
            // How long a refresh takes is how long its load takes.
            if *operation != Operation::Refresh {
                into.histogram(&names::OPERATION_DURATION, &[cache, operation.as_str()], durations.snapshot());
            }
        }
        if cache == names::BYTES {
            return;
        }
        stale.iter().for_each(|(reason, count)| into.count(&names::STALE_ANSWERS, &[cache, reason], *count));
        into.histogram(&names::HIT_AGE, &[cache], self.ages.snapshot());
        let own: [(&Metric, u64); 4] = [
            (&names::LOADS, reads.loads),
            (&names::NOT_MODIFIED, reads.not_modified),
            (&names::REFRESHES, reads.refreshes),
            (&names::REJECTED, reads.rejected),
        ];
        own.iter().for_each(|(metric, count)| into.count(metric, &[cache], *count));
    }
}

impl AddAssign for Reads {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.revalidating += other.revalidating;
        self.load_failed += other.load_failed;
        self.load_slow += other.load_slow;
        self.throttled += other.throttled;
        self.loads += other.loads;
        self.not_modified += other.not_modified;
        self.refreshes += other.refreshes;
        self.rejected += other.rejected;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Source for Fixed {
        fn reads(&self) -> Reads {
            Reads { hits: self.0, ..Reads::default() }
        }
    }

    #[test]
    fn of_a_slice_of_time_a_few_ages_are_taken() {
        let series = Series::new("users");
        for slice in [7, 8] {
            for _ in 0..1_000 {
                series.aged(Duration::ZERO, Some(slice));
            }
        }
        assert_eq!(series.ages.snapshot().count(), 2 * SAMPLES_MAX);
    }

    #[test]
    fn what_a_source_counted_is_counted_once_and_stays() {
        let series = Series::new("users");
        let (kept, ended): (Arc<dyn Source>, Arc<dyn Source>) = (Arc::new(Fixed(2)), Arc::new(Fixed(3)));
        series.add(Arc::clone(&kept));
        series.add(Arc::clone(&ended));
        assert_eq!(series.reads().hits, 5);
        series.end(&ended);
        series.end(&ended);
        assert_eq!(series.reads().hits, 5);
    }
}
