//! The first tier of foyer.

use std::sync::Arc;

use foyer_memory::{Cache, CacheBuilder, CacheProperties, LfuConfig, LruConfig};

use crate::workload::L1_ENTRIES;

/// Its default, least recently used.
pub(crate) const NAME: &str = "foyer-memory 0.22";
pub(crate) const LRU: &str = "foyer-memory, LRU";
pub(crate) const LFU: &str = "foyer-memory, LFU";

pub(crate) type Foyer<V> = Cache<Arc<str>, V>;

pub(crate) fn cache<V: Send + Sync + 'static>(keys: &[String], value: impl Fn(&str) -> V) -> Foyer<V> {
    let cache = lru(usize::try_from(L1_ENTRIES).unwrap_or(usize::MAX));
    for key in keys {
        cache.insert(key.as_str().into(), value(key));
    }
    cache
}

pub(crate) fn lru<V: Send + Sync + 'static>(entries: usize) -> Foyer<V> {
    CacheBuilder::new(entries).with_eviction_config(LruConfig::default()).build::<CacheProperties>()
}

pub(crate) fn lfu<V: Send + Sync + 'static>(entries: usize) -> Foyer<V> {
    CacheBuilder::new(entries).with_eviction_config(LfuConfig::default()).build::<CacheProperties>()
}

/// Bounded by what `weigh` says.
pub(crate) fn weighed<V: Send + Sync + 'static>(
    weight: usize,
    weigh: impl Fn(&Arc<str>, &V) -> usize + Send + Sync + 'static,
) -> Foyer<V> {
    CacheBuilder::new(weight).with_weighter(weigh).build::<CacheProperties>()
}
