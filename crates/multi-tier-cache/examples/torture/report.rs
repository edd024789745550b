//! What a worker tells the supervisor, line by line, and the sums at the end.

use std::collections::BTreeMap;

use multi_tier_cache::CoherenceStats;
use serde::{Deserialize, Serialize};

/// How a worker is to behave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) id: usize,
    pub(crate) workers: usize,
    pub(crate) keys: usize,
    pub(crate) seed: u64,
    pub(crate) strict: bool,
    pub(crate) board: String,
    /// Where the coordinator is.
    pub(crate) warm: String,
    /// Where the tier below it is.
    pub(crate) cold: String,
    /// Protections that are switched off.
    pub(crate) without: Vec<String>,
    /// When the whole thing began.
    pub(crate) origin: u64,
}

/// An order to a worker.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Read and write.
    Run,
    /// Stop, have every invalidation acknowledged, and wait until everything is proven.
    Settle,
    /// Read every key, and report.
    Check,
}

/// A line from a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    Ready,
    /// So many operations have ended.
    Alive(u64),
    Violation(Violation),
    Settled,
    Report(Box<Report>),
}

/// Something that must not happen, in words, and the time in which to look for its cause (from the origin).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Older than the bound allows.
    Stale,
    /// Older than the position that was asked for.
    AtLeast,
    /// Stale when all was quiet.
    AtRest,
    /// No answer, or no rest.
    Hang,
    /// A value that nobody wrote there.
    Corrupt,
}

/// What one worker did and saw.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) counts: BTreeMap<String, u64>,
    /// In milliseconds; the largest of all workers counts.
    pub(crate) worst: BTreeMap<String, u64>,
    pub(crate) hazards: BTreeMap<String, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        let sums =
            [(&mut self.counts, &other.counts), (&mut self.hazards, &other.hazards), (&mut self.errors, &other.errors)];
        for (sum, part) in sums {
            part.iter().for_each(|(name, count)| *sum.entry(name.clone()).or_default() += count);
        }
        for (name, age) in &other.worst {
            let worst = self.worst.entry(name.clone()).or_default();
            *worst = (*worst).max(*age);
        }
    }
}

/// The counters of coherence by name.
pub(crate) fn hazards(stats: &CoherenceStats) -> BTreeMap<String, u64> {
    let counters = [
        ("refused_fills", stats.refused_fills),
        ("refused_local_fills", stats.refused_local_fills),
        ("refused_joins", stats.refused_joins),
        ("gaps", stats.gaps),
        ("resyncs", stats.resyncs),
        ("flushes", stats.flushes),
        ("forks", stats.forks),
        ("takeovers", stats.takeovers),
        ("lease_waits", stats.lease_waits),
        ("unleased_loads", stats.unleased_loads),
        ("replayed", stats.replayed),
        ("unproven_hits", stats.unproven_hits),
        ("subscriptions", stats.subscriptions),
        ("taken_back", stats.taken_back),
        ("failed_polls", stats.failed_polls),
        ("pending", stats.pending_invalidations as u64),
    ];
    counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
