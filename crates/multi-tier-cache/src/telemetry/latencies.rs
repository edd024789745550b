//! How long an awaited tier takes, by what it is asked.

use std::time::Duration;

use super::histogram::Histogram;
use super::names;
use super::snapshot::Collector;
use crate::defaults;

/// What a tier is asked: the names of operations in errors, and in the metric.
const OPERATIONS: [&str; 9] =
    ["get", "set", "remove", "remove_pattern", "clear", "acquire", "release", "invalidate", "fence"];

/// A histogram for each operation of a tier.
pub(crate) struct Latencies([Histogram; OPERATIONS.len()]);

impl Default for Latencies {
    fn default() -> Self {
        Self(OPERATIONS.map(|_| Histogram::new(&defaults::DURATION_BOUNDS)))
    }
}

impl Latencies {
    pub(crate) fn record(&self, operation: &str, duration: Duration) {
        let known = OPERATIONS.iter().zip(&self.0).find(|(known, _)| **known == operation);
        debug_assert!(known.is_some(), "{operation}");
        if let Some((_, histogram)) = known {
            histogram.record(duration);
        }
    }

    /// The histograms of what was asked of the tier so far.
    pub(crate) fn collect(&self, tier: &str, backend: &str, into: &mut Collector) {
        for (operation, histogram) in OPERATIONS.iter().zip(&self.0) {
            let seen = histogram.snapshot();
            if seen.count() > 0 {
                into.histogram(&names::TIER_DURATION, &[tier, backend, operation], seen);
            }
        }
    }
}
