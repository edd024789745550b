//! Which figures are made of which metrics. The names are the library's own.

use multi_tier_cache::telemetry::{Metric, names};

/// What the names of the library's metrics begin with.
pub(super) const PREFIX: &str = "mtc_";

/// A figure that people look for.
pub(super) struct Recipe {
    pub(super) title: &'static str,
    pub(super) of: Selection,
    pub(super) how: How,
    /// One figure for each combination of these labels.
    pub(super) by: &'static [&'static str],
}

/// Some of the time series of a metric.
pub(super) struct Selection {
    pub(super) metric: &'static Metric,
    /// Labels that must have one of these values.
    pub(super) only: &'static [(&'static str, &'static [&'static str])],
}

/// How a figure is made.
pub(super) enum How {
    /// The sum: counted in this interval, or since the start.
    Count,
    /// The largest.
    Largest(Unit),
    /// The share of the sum in the sum of these, of those with the figure's own labels as far as they have them.
    ShareOf(&'static [Selection]),
    /// Median and 99th percentile of a histogram of seconds.
    Percentiles,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Number,
    Seconds,
}

const fn all(metric: &'static Metric) -> Selection {
    Selection { metric, only: &[] }
}

const GETS: Selection = Selection {
    metric: &names::EVENTS,
    only: &[(names::OPERATION, &["get"]), (names::ACTIVITY, &["hit", "miss", "fallback", "error"])],
};
const HITS: Selection =
    Selection { metric: &names::EVENTS, only: &[(names::OPERATION, &["get"]), (names::ACTIVITY, &["hit"])] };
const LOADS: Selection = Selection { metric: &names::EVENTS, only: &[(names::OPERATION, &["load"])] };
const FAILED_LOADS: Selection =
    Selection { metric: &names::EVENTS, only: &[(names::OPERATION, &["load"]), (names::ACTIVITY, &["error"])] };
const LOAD_TIMES: Selection = Selection { metric: &names::OPERATION_DURATION, only: &[(names::OPERATION, &["load"])] };

const fn recipe(title: &'static str, of: Selection, how: How, by: &'static [&'static str]) -> Recipe {
    Recipe { title, of, how, by }
}

pub(super) const FIGURES: &[Recipe] = &[
    recipe("reads", GETS, How::Count, &[names::CACHE]),
    recipe("hit rate", HITS, How::ShareOf(&[GETS]), &[names::CACHE]),
    recipe("hits of tier", all(&names::TIER_HITS), How::Count, &[names::TIER]),
    recipe("loads", LOADS, How::Count, &[names::CACHE]),
    recipe("failed loads", FAILED_LOADS, How::Count, &[names::CACHE]),
    recipe("load takes", LOAD_TIMES, How::Percentiles, &[names::CACHE]),
    recipe("stale answers", all(&names::STALE_ANSWERS), How::Count, &[names::CACHE, names::REASON]),
    recipe("tier takes", all(&names::TIER_DURATION), How::Percentiles, &[names::TIER, names::OPERATION]),
    recipe("tier errors", all(&names::TIER_ERRORS), How::Count, &[names::TIER]),
    recipe("tier left alone", all(&names::TIER_BREAKER), How::Largest(Unit::Number), &[names::TIER]),
    recipe("removals owed by tier", all(&names::TIER_PENDING), How::Largest(Unit::Number), &[names::TIER]),
    recipe("entries", all(&names::TIER_ENTRIES), How::Largest(Unit::Number), &[names::TIER]),
    recipe("evictions", all(&names::TIER_EVICTIONS), How::Count, &[names::TIER]),
    recipe("pending invalidations", all(&names::PENDING_INVALIDATIONS), How::Largest(Unit::Number), &[]),
    recipe("proven fresh", all(&names::BUS_PROOF_AGE), How::Largest(Unit::Seconds), &[]),
    recipe("unproven hits", all(&names::UNPROVEN_HITS), How::Count, &[]),
    recipe("bus gaps", all(&names::BUS_GAPS), How::Count, &[]),
];
