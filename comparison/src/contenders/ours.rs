//! This project.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use ours::backends::QuickCacheBackend;
use ours::{
    CacheBackend, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache, L2Cache, L2CacheBackend,
    MokaCache, MokaCacheConfig,
};

use crate::workload::L1_ENTRIES;

pub(crate) const STRATEGY: CacheStrategy = CacheStrategy::MediumTerm;

pub(crate) fn quick_cache_and(l2: Arc<dyn L2CacheBackend>) -> Result<Arc<CacheManager>> {
    two_tiers(Arc::new(QuickCacheBackend::new(L1_ENTRIES)?), l2)
}

pub(crate) fn moka_and(l2: Arc<dyn L2CacheBackend>) -> Result<Arc<CacheManager>> {
    two_tiers(Arc::new(MokaCache::new(MokaCacheConfig { max_capacity: L1_ENTRIES, ..MokaCacheConfig::default() })?), l2)
}

/// A first tier that holds next to nothing.
pub(crate) fn one_entry_and(l2: Arc<dyn L2CacheBackend>) -> Result<Arc<CacheManager>> {
    two_tiers(Arc::new(QuickCacheBackend::new(1)?), l2)
}

pub(crate) fn dash_map() -> Arc<dyn L2CacheBackend> {
    Arc::new(DashMapCache::new())
}

pub(crate) async fn redis(url: &str) -> Result<Arc<dyn L2CacheBackend>> {
    Ok(Arc::new(L2Cache::with_url(url).await?))
}

/// What a program gets that configures nothing but the address.
pub(crate) async fn default_system(url: &str) -> Result<CacheSystem> {
    Ok(CacheSystemBuilder::new().with_redis_url(url).build().await?)
}

/// One instance of a fleet, set up as the default system is, and its first tier.
pub(crate) async fn joined(url: &str) -> Result<(CacheSystem, Arc<QuickCacheBackend>)> {
    let l1 = Arc::new(QuickCacheBackend::new(L1_ENTRIES)?);
    Ok((CacheSystemBuilder::new().with_l1(Arc::clone(&l1) as _).with_redis_url(url).build().await?, l1))
}

pub(crate) async fn fill(manager: &CacheManager, keys: &[String], value: &Bytes) -> Result<()> {
    for key in keys {
        manager.set_with_strategy(key, value.clone(), STRATEGY).await?;
    }
    Ok(())
}

fn two_tiers(l1: Arc<dyn CacheBackend>, l2: Arc<dyn L2CacheBackend>) -> Result<Arc<CacheManager>> {
    Ok(Arc::new(CacheManager::new_with_backends(l1, l2, None)?))
}
