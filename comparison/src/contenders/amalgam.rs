//! amalgam-cache.

use std::sync::Arc;
use std::time::Duration;

use ::amalgam::provider::{JsonSerializer, RedisBackplane, RedisDistributedCache, RedisDistributedLocker};
use ::amalgam::{Cache, CacheBuilder, EntryOptions};
use anyhow::Result;

use crate::workload::L1_ENTRIES;

pub(crate) const NAME: &str = "amalgam 0.4.2, memory only";

pub(crate) fn cache<V: Clone + Send + Sync + 'static>() -> Result<Cache<V>> {
    Ok(builder().try_build()?)
}

pub(crate) fn with_entries<V: Clone + Send + Sync + 'static>(entries: u64) -> Result<Cache<V>> {
    Ok(builder().max_capacity(entries).try_build()?)
}

/// One instance of a fleet, set up as its example for Redis does; `strict` discards the first tier when messages may
/// have been missed, and stores only under a lease.
pub(crate) async fn joined(url: &str, strict: bool) -> Result<Cache<u64>> {
    let builder = builder()
        .max_capacity(L1_ENTRIES)
        .distributed(Arc::new(RedisDistributedCache::connect(url).await?))
        .serializer(Arc::new(JsonSerializer))
        .backplane(Arc::new(RedisBackplane::connect(url).await?))
        .distributed_locker(Arc::new(RedisDistributedLocker::connect(url).await?));
    let builder = if strict { builder.strict() } else { builder };
    Ok(builder.try_build_ready().await?)
}

fn builder<V>() -> CacheBuilder<V> {
    CacheBuilder::new().default_options(EntryOptions::new(Duration::from_hours(1)))
}
