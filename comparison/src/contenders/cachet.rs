//! cachet: Moka, with the verbs of a cache around it.

use std::time::Duration;

use ::cachet::Cache;
use tick::Clock;

use crate::workload::L1_ENTRIES;

pub(crate) const NAME: &str = "cachet 0.16, memory only";

/// For use inside a runtime: its clock is Tokio's.
pub(crate) fn cache<V: Clone + Send + Sync + 'static>() -> Cache<String, V> {
    with_entries(L1_ENTRIES)
}

pub(crate) fn with_entries<V: Clone + Send + Sync + 'static>(entries: u64) -> Cache<String, V> {
    let memory = Cache::builder(Clock::new_tokio()).memory_with(|memory| memory.max_capacity(entries));
    memory.ttl(Duration::from_hours(1)).build()
}

pub(crate) fn two_tiers<V: Clone + Send + Sync + 'static>() -> Cache<String, V> {
    let tier = || {
        let memory = Cache::builder(Clock::new_tokio()).memory_with(|memory| memory.max_capacity(L1_ENTRIES));
        memory.ttl(Duration::from_hours(1))
    };
    tier().fallback(tier()).build()
}

/// One load at a time for each key.
pub(crate) fn coalescing<V: Clone + Send + Sync + 'static>() -> Cache<String, V> {
    let memory = Cache::builder(Clock::new_tokio()).memory_with(|memory| memory.max_capacity(L1_ENTRIES));
    memory.ttl(Duration::from_hours(1)).stampede_protection().build()
}
