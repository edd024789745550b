//! Counters of one typed cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::Counter;

/// What happened in one typed cache since it was made. All counters; the parts of a snapshot may be a few calls apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads answered with a fresh value, or with a remembered absence.
    pub hits: u64,
    /// Reads answered with a stale value while it is refreshed.
    pub stale_hits: u64,
    /// Reads answered with a stale value because its load failed or was too slow.
    pub fallbacks: u64,
    /// Reads that no tier had a value for.
    pub misses: u64,
    /// Loads that began; a load of many keys counts for each of them.
    pub loads: u64,
    /// Loads that failed, were given up, or panicked.
    pub failed_loads: u64,
    /// Loads that found the previous value unchanged.
    pub not_modified: u64,
    /// Refreshes in the background that began.
    pub refreshes: u64,
    /// Stored entries of another type, schema or format: each a miss.
    pub rejected: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    /// Fresh hits in the first tier: most of all reads. The engine counts them with its own.
    pub(super) fresh_hits: Arc<Counter>,
    /// Every other hit.
    pub(super) hits: Count,
    pub(super) stale_hits: Count,
    pub(super) fallbacks: Count,
    pub(super) misses: Count,
    pub(super) loads: Count,
    pub(super) failed_loads: Count,
    pub(super) not_modified: Count,
    pub(super) refreshes: Count,
    pub(super) rejected: Count,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn snapshot(&self) -> CacheStats {
        CacheStats {
            hits: self.fresh_hits.sum() + self.hits.get(),
            stale_hits: self.stale_hits.get(),
            fallbacks: self.fallbacks.get(),
            misses: self.misses.get(),
            loads: self.loads.get(),
            failed_loads: self.failed_loads.get(),
            not_modified: self.not_modified.get(),
            refreshes: self.refreshes.get(),
            rejected: self.rejected.get(),
        }
    }
}
