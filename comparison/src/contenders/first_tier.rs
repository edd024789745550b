//! A first tier of any number of entries, whoever made it, and nothing below it.

use std::sync::Arc;

use ::amalgam::Cache;
use ::established::{CacheManager, CacheTier, MokaCache, MokaCacheConfig};
use ::ours::{CacheSystem, CacheSystemBuilder, TierConfig, backends::QuickCacheBackend};
use anyhow::Result;
use bytes::Bytes;

use super::raw::QuickCache;
use super::{QUICK_CACHE, amalgam, cachet, established, foyer, ours};
use crate::rounds::Role;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    QuickCache,
    Moka,
    FoyerLru,
    FoyerLfu,
    Ours,
    Established,
    Amalgam,
    Cachet,
}

pub(crate) enum FirstTier {
    QuickCache(QuickCache<Bytes>),
    Moka(moka::sync::Cache<Arc<str>, Bytes>),
    Foyer(foyer::Foyer<Bytes>),
    Ours(Box<CacheSystem>),
    Established(Box<CacheManager>),
    Amalgam(Cache<Bytes>),
    Cachet(::cachet::Cache<String, Bytes>),
}

impl Maker {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::QuickCache => QUICK_CACHE,
            Self::Moka => "moka",
            Self::FoyerLru => foyer::LRU,
            Self::FoyerLfu => foyer::LFU,
            Self::Ours => "ours",
            Self::Established => "0.6.5",
            Self::Amalgam => "amalgam 0.4.2",
            Self::Cachet => "cachet 0.16",
        }
    }

    pub(crate) fn role(self) -> Role {
        match self {
            Self::QuickCache | Self::Moka | Self::FoyerLru | Self::FoyerLfu => Role::Raw,
            Self::Ours => Role::Ours,
            Self::Established => Role::Established,
            Self::Amalgam | Self::Cachet => Role::Neighbour,
        }
    }

    /// A store of this many entries; otherwise with its maker's defaults.
    pub(crate) async fn make(self, entries: usize) -> Result<FirstTier> {
        let many = u64::try_from(entries)?;
        Ok(match self {
            Self::QuickCache => FirstTier::QuickCache(QuickCache::new(entries)),
            Self::Moka => FirstTier::Moka(moka::sync::Cache::new(many)),
            Self::FoyerLru => FirstTier::Foyer(foyer::lru(entries)),
            Self::FoyerLfu => FirstTier::Foyer(foyer::lfu(entries)),
            Self::Ours => FirstTier::ours(QuickCacheBackend::new(many)?).await?,
            Self::Established => {
                let moka = MokaCache::new(MokaCacheConfig { max_capacity: many, ..MokaCacheConfig::default() })?;
                let tier = CacheTier::new(Arc::new(moka), 1, false, 10, 1.0);
                FirstTier::Established(Box::new(CacheManager::new_with_tiers(vec![tier], None)?))
            }
            Self::Amalgam => FirstTier::Amalgam(amalgam::with_entries(many)?),
            Self::Cachet => FirstTier::Cachet(cachet::with_entries(many)),
        })
    }
}

impl FirstTier {
    /// This project's, of its default kind.
    pub(crate) async fn ours(store: QuickCacheBackend) -> Result<Self> {
        let builder = CacheSystemBuilder::new().with_tier(Arc::new(store), TierConfig::as_l1());
        Ok(Self::Ours(Box::new(builder.build().await?)))
    }

    pub(crate) async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        match self {
            Self::QuickCache(cache) => cache.insert(key.into(), value),
            Self::Moka(cache) => cache.insert(key.into(), value),
            Self::Foyer(cache) => drop(cache.insert(key.into(), value)),
            Self::Ours(system) => system.cache_manager.set_with_strategy(key, value, ours::STRATEGY).await?,
            Self::Established(manager) => manager.set_with_strategy(key, value, established::STRATEGY).await?,
            Self::Amalgam(cache) => cache.set(key, value).await?,
            Self::Cachet(cache) => drop(cache.insert(key.to_owned(), value).await?),
        }
        Ok(())
    }

    /// The value, dropped at once; whether there was one.
    #[inline]
    pub(crate) async fn has(&self, key: &str) -> bool {
        match self {
            Self::QuickCache(cache) => cache.get(key).is_some(),
            Self::Moka(cache) => cache.get(key).is_some(),
            Self::Foyer(cache) => cache.get(key).map(|entry| entry.value().clone()).is_some(),
            Self::Ours(system) => system.cache_manager.get(key).await.is_ok_and(|value| value.is_some()),
            Self::Established(manager) => manager.get(key).await.is_ok_and(|value| value.is_some()),
            Self::Amalgam(cache) => cache.try_get(key).await.is_ok_and(|value| value.is_some()),
            Self::Cachet(cache) => cache.get(key).await.is_ok_and(|value| value.is_some()),
        }
    }

    /// Reads `key` and computes what is missing; answers whether it was there. A raw store is read and then filled.
    pub(crate) async fn read_through(&self, key: &str, value: &Bytes) -> Result<bool> {
        let mut hit = true;
        if let Self::Ours(system) = self {
            let load = || {
                hit = false;
                let value = value.clone();
                async { Ok(value) }
            };
            system.cache_manager.get_or_compute_with(key, ours::STRATEGY, load).await?;
        } else if !self.has(key).await {
            hit = false;
            self.put(key, value.clone()).await?;
        }
        Ok(hit)
    }

    /// Does the housekeeping that waits, where that can be asked for.
    pub(crate) fn settle(&self) {
        if let Self::Moka(cache) = self {
            cache.run_pending_tasks();
        }
    }
}
