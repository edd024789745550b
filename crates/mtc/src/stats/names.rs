//! Which families are the library's, and which figures are made of them: the one place to change when a name changes.
//!
//! Names are without the prefix. A figure whose families an endpoint does not have is left out, so that older and newer
//! instances can be looked at.

/// What the names of the library's families begin with.
pub(super) const PREFIXES: [&str; 2] = ["multi_tier_cache_", "mtc_"];

/// A figure that people look for.
pub(super) struct Recipe {
    pub(super) title: &'static str,
    /// The first of these families that there is.
    pub(super) families: &'static [&'static str],
    pub(super) how: How,
    /// One figure for each combination of these labels.
    pub(super) by: &'static [&'static str],
}

/// How a figure is made from its families.
pub(super) enum How {
    /// The sum: counted in this interval, or since the start.
    Count,
    /// The largest.
    Largest(Unit),
    /// The share of the sum in that of the first of these families that there is.
    ShareOf(&'static [&'static str]),
    /// The share of the sum in itself plus that of the first of these families that there is.
    ShareWith(&'static [&'static str]),
    /// Median and 99th percentile of a histogram of seconds.
    Percentiles,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Number,
    Seconds,
}

const fn recipe(
    title: &'static str,
    families: &'static [&'static str],
    how: How,
    by: &'static [&'static str],
) -> Recipe {
    Recipe { title, families, how, by }
}

const REQUESTS: &[&str] = &["requests_total", "requests"];
const HITS: &[&str] = &["hits_total", "hits", "tier_hits_total"];
const MISSES: &[&str] = &["misses_total", "misses"];

pub(super) const FIGURES: &[Recipe] = &[
    recipe("requests", REQUESTS, How::Count, &["cache"]),
    recipe("hit rate", HITS, How::ShareWith(MISSES), &["cache"]),
    recipe("hits in tier", HITS, How::ShareOf(REQUESTS), &["tier"]),
    recipe("hits of tier", &["tier_hits_total"], How::Count, &["tier"]),
    recipe("loads", &["loads_total", "loads", "loads_started_total"], How::Count, &["cache"]),
    recipe("load", &["load_duration_seconds", "load_seconds"], How::Percentiles, &["cache"]),
    recipe(
        "tier",
        &["tier_operation_duration_seconds", "operation_duration_seconds", "operation_seconds"],
        How::Percentiles,
        &["tier", "operation"],
    ),
    recipe(
        "tier errors",
        &["tier_errors_total", "operation_errors_total", "errors_total", "errors"],
        How::Count,
        &["tier"],
    ),
    recipe(
        "stale served",
        &["stale_served_total", "stale_hits_total", "stale_total", "stale", "stale_answers_total"],
        How::Count,
        &["cache"],
    ),
    recipe("unproven hits", &["unproven_hits_total", "unproven_total"], How::Count, &[]),
    recipe(
        "bus lag",
        &["bus_lag_seconds", "bus_proof_age_seconds", "bus_age_seconds", "staleness_seconds"],
        How::Largest(Unit::Seconds),
        &[],
    ),
    recipe("bus gaps", &["bus_gaps_total", "gaps_total"], How::Count, &[]),
    recipe("owed removals", &["tier_pending_removals", "owed_removals", "owed"], How::Largest(Unit::Number), &["tier"]),
];
