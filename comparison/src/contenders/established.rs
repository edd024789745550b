//! multi-tier-cache 0.6.5.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use established::{
    CacheBackend, CacheManager, CacheStrategy, DashMapCache, InvalidationConfig, L1Cache, L2Cache, L2CacheBackend,
    MokaCacheConfig, QuickCacheBackend,
};

use crate::workload::L1_ENTRIES;

pub(crate) const STRATEGY: CacheStrategy = CacheStrategy::MediumTerm;
pub(crate) const MOKA: &str = "0.6.5, Moka";
pub(crate) const QUICK_CACHE: &str = "0.6.5, QuickCache";

pub(crate) fn moka_and(l2: Arc<dyn L2CacheBackend>) -> Result<Arc<CacheManager>> {
    two_tiers(moka()?, l2)
}

pub(crate) fn quick_cache_and(l2: Arc<dyn L2CacheBackend>) -> Result<Arc<CacheManager>> {
    two_tiers(Arc::new(QuickCacheBackend::new(L1_ENTRIES)?), l2)
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

/// One instance of a fleet, and its first tier.
pub(crate) async fn joined(url: &str) -> Result<(CacheManager, Arc<L1Cache>)> {
    let (l1, l2) = (moka()?, Arc::new(L2Cache::with_url(url).await?));
    let config = InvalidationConfig::default();
    Ok((CacheManager::new_with_invalidation(Arc::clone(&l1), l2, url, config).await?, l1))
}

pub(crate) async fn fill(manager: &CacheManager, keys: &[String], value: &Bytes) -> Result<()> {
    for key in keys {
        manager.set_with_strategy(key, value.clone(), STRATEGY).await?;
    }
    Ok(())
}

fn moka() -> Result<Arc<L1Cache>> {
    Ok(Arc::new(L1Cache::new(MokaCacheConfig { max_capacity: L1_ENTRIES, ..MokaCacheConfig::default() })?))
}

fn two_tiers(l1: Arc<dyn CacheBackend>, l2: Arc<dyn L2CacheBackend>) -> Result<Arc<CacheManager>> {
    Ok(Arc::new(CacheManager::new_with_backends(l1, l2, None)?))
}
