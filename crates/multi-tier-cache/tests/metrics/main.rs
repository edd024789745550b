//! Metrics: each moves when its story happens and only then, the text is valid, and what documents and dashboards name
//! exists.
#![cfg(all(feature = "test-util", feature = "prometheus", feature = "redis"))]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation ends the test")]
#![expect(clippy::float_cmp, reason = "whole numbers are exact")]
#![expect(clippy::large_types_passed_by_value, reason = "for once, and easier to read")]

mod catalogue;
#[path = "../common/mod.rs"]
mod common;
mod durations;
mod exposition;
mod failures;
mod fleet;
mod reads;
mod refreshes;
mod tiers;
mod users;

use std::collections::BTreeMap;

use multi_tier_cache::CacheManager;
use multi_tier_cache::telemetry::{Metric, Metrics, Value, names};

/// The number of every series by its name and labels; of histograms, how many durations they have.
fn numbers(metrics: &Metrics) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for family in metrics.families() {
        for sample in &family.samples {
            let labels: Vec<_> = sample.labels.iter().map(|(_, value)| &**value).collect();
            let name = format!("{} {}", family.metric.name, labels.join(" "));
            #[expect(clippy::cast_precision_loss, reason = "a count of a test is small")]
            let number = match &sample.value {
                Value::Count(count) => *count as f64,
                Value::Level(level) => *level,
                Value::Histogram(histogram) => histogram.count() as f64,
            };
            assert!(numbers.insert(name.trim().to_owned(), number).is_none(), "{name} twice");
        }
    }
    numbers
}

/// What changes while a test goes on.
struct Watch<'a> {
    cache: &'a CacheManager,
    before: BTreeMap<String, f64>,
}

impl<'a> Watch<'a> {
    fn new(cache: &'a CacheManager) -> Self {
        Self { cache, before: numbers(&cache.metrics()) }
    }

    /// The changes since the last question of all series whose names begin so.
    fn changes(&mut self, beginning: &str) -> Vec<(String, i64)> {
        let after = numbers(&self.cache.metrics());
        let before = std::mem::replace(&mut self.before, after);
        let changes = self.before.iter().filter(|(name, _)| name.starts_with(beginning)).map(|(name, now)| {
            #[expect(clippy::cast_possible_truncation, reason = "counts of a test are small")]
            let difference = (now - before.get(name).copied().unwrap_or(0.0)) as i64;
            (name.strip_prefix(beginning).unwrap_or(name).trim().to_owned(), difference)
        });
        changes.filter(|(_, difference)| *difference != 0).collect()
    }

    /// The changes of events are these and no others.
    #[track_caller]
    fn expect_events(&mut self, expected: &[(&str, i64)]) {
        assert_eq!(self.changes("mtc_events_total"), owned(expected));
    }
}

fn owned(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    let mut expected: Vec<_> = expected.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
    expected.sort();
    expected
}

fn number(cache: &CacheManager, name: &str) -> f64 {
    numbers(&cache.metrics()).get(name).copied().unwrap_or_else(|| panic!("{name} is not told"))
}

/// How many durations or ages were counted so far, and how many seconds they are together.
fn histogram(cache: &CacheManager, metric: &Metric, labels: &[(&str, &str)]) -> (u64, f64) {
    let metrics = cache.metrics();
    match &metrics.sample(metric, labels).unwrap().value {
        Value::Histogram(histogram) => (histogram.count(), histogram.sum),
        other => panic!("{other:?}"),
    }
}

/// The same of an operation on typed cache `users`.
fn took(cache: &CacheManager, operation: &str) -> (u64, f64) {
    histogram(cache, &names::OPERATION_DURATION, &[("cache", "users"), ("operation", operation)])
}
