//! Counters of one typed cache.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::{Counter, Reads, Source};

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

/// The counters of one typed cache.
pub(super) struct Counters {
    /// Fresh hits in the first tier: most of all reads. The engine counts them with its own.
    pub(super) fresh_hits: Arc<Counter>,
    others: Arc<Others>,
}

/// Everything but the quickest reads.
#[derive(Default)]
pub(super) struct Others {
    fresh_hits: Arc<Counter>,
    /// Every other hit.
    pub(super) hits: Count,
    pub(super) stale_hits: Count,
    /// Stale answers, because a load failed …
    pub(super) load_failed: Count,
    /// … took longer than its caller waits …
    pub(super) load_slow: Count,
    /// … or is not tried, for one failed a moment ago.
    pub(super) throttled: Count,
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
    pub(super) fn new(fresh_hits: Arc<Counter>) -> Self {
        let others = Arc::new(Others { fresh_hits: Arc::clone(&fresh_hits), ..Others::default() });
        Self { fresh_hits, others }
    }

    /// Itself, for whoever adds up what the caches of a name count.
    pub(super) fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.others) as _
    }

    pub(super) fn snapshot(&self) -> CacheStats {
        let reads = self.others.reads();
        CacheStats {
            hits: reads.hits,
            stale_hits: reads.revalidating,
            fallbacks: reads.load_failed + reads.load_slow + reads.throttled,
            misses: reads.misses,
            loads: reads.loads,
            failed_loads: self.failed_loads.get(),
            not_modified: reads.not_modified,
            refreshes: reads.refreshes,
            rejected: reads.rejected,
        }
    }
}

impl Deref for Counters {
    type Target = Others;

    fn deref(&self) -> &Others {
        &self.others
    }
}

impl Source for Others {
    fn reads(&self) -> Reads {
        Reads {
            hits: self.fresh_hits.sum() + self.hits.get(),
            misses: self.misses.get(),
            revalidating: self.stale_hits.get(),
            load_failed: self.load_failed.get(),
            load_slow: self.load_slow.get(),
            throttled: self.throttled.get(),
            loads: self.loads.get(),
            not_modified: self.not_modified.get(),
            refreshes: self.refreshes.get(),
            rejected: self.rejected.get(),
        }
    }
}
