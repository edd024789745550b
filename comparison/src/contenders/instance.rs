//! One instance of a fleet, whoever made it. Values are versions.

use std::future::Future;
use std::sync::Arc;

use ::amalgam::{Cache, FactoryError, source};
use ::established::{CacheBackend as _, L1Cache};
use ::ours::backends::QuickCacheBackend;
use ::ours::{CacheBackend as _, CacheSystem};
use anyhow::{Result, anyhow};
use bytes::Bytes;

use super::{amalgam, established, ours};
use crate::rounds::Role;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Established,
    Amalgam,
    AmalgamStrict,
}

pub(crate) enum Instance {
    Ours(CacheSystem, Arc<QuickCacheBackend>),
    Established(Box<::established::CacheManager>, Arc<L1Cache>),
    Amalgam(Cache<u64>),
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Ours, Self::Established, Self::Amalgam, Self::AmalgamStrict];
    /// This project and the release whose programs it must run.
    pub(crate) const OWN: [Self; 2] = [Self::Ours, Self::Established];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Established => "0.6.5",
            Self::Amalgam => "amalgam 0.4.2",
            Self::AmalgamStrict => "amalgam 0.4.2, strict",
        }
    }

    pub(crate) fn role(self) -> Role {
        match self {
            Self::Ours => Role::Ours,
            Self::Established => Role::Established,
            Self::Amalgam | Self::AmalgamStrict => Role::Neighbour,
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| anyhow!("no contender is named {name}"))
    }

    /// An instance whose second tier and bus are at `url`.
    pub(crate) async fn join(self, url: &str) -> Result<Instance> {
        Ok(match self {
            Self::Ours => {
                let (system, l1) = ours::joined(url).await?;
                Instance::Ours(system, l1)
            }
            Self::Established => {
                let (manager, l1) = established::joined(url).await?;
                Instance::Established(Box::new(manager), l1)
            }
            Self::Amalgam => Instance::Amalgam(amalgam::joined(url, false).await?),
            Self::AmalgamStrict => Instance::Amalgam(amalgam::joined(url, true).await?),
        })
    }
}

impl Instance {
    pub(crate) async fn get_or_compute<F>(&self, key: &str, load: impl FnOnce() -> F + Send + 'static) -> Result<u64>
    where
        F: Future<Output = u64> + Send + 'static,
    {
        match self {
            Self::Ours(system, _) => {
                let load = || async { Ok(bytes(load().await)) };
                version(&system.cache_manager.get_or_compute_with(key, ours::STRATEGY, load).await?)
            }
            Self::Established(manager, _) => {
                let load = || async { Ok(bytes(load().await)) };
                version(&manager.get_or_compute_with(key, established::STRATEGY, load).await?)
            }
            Self::Amalgam(cache) => {
                let load = source::factory(|_| async { Ok::<_, FactoryError>(load().await) });
                Ok(cache.get_or_set(key, load).await?)
            }
        }
    }

    /// What any tier has.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<u64>> {
        let found = match self {
            Self::Ours(system, _) => system.cache_manager.get(key).await?,
            Self::Established(manager, _) => manager.get(key).await?,
            Self::Amalgam(cache) => return Ok(cache.try_get(key).await?),
        };
        found.as_ref().map(version).transpose()
    }

    /// Whether the first tier has `key`; nothing is read below it.
    pub(crate) async fn has_at_hand(&self, key: &str) -> Result<bool> {
        Ok(match self {
            Self::Ours(_, l1) => l1.get(key).await.is_some(),
            Self::Established(_, l1) => l1.get(key).await.is_some(),
            Self::Amalgam(cache) => {
                cache.try_get(key).options(|options| options.with_skip_distributed(true, true)).await?.is_some()
            }
        })
    }

    pub(crate) async fn invalidate(&self, key: &str) -> Result<()> {
        match self {
            Self::Ours(system, _) => Ok(system.cache_manager.invalidate(key).await?),
            Self::Established(manager, _) => Ok(manager.invalidate(key).await?),
            Self::Amalgam(cache) => Ok(cache.remove(key).await?),
        }
    }
}

pub(crate) fn bytes(version: u64) -> Bytes {
    Bytes::copy_from_slice(&version.to_le_bytes())
}

fn version(bytes: &Bytes) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes[..].try_into()?))
}
