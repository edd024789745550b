//! The ordered tiers: what each one is, how it is asked within a budget, and what it answered.

mod config;
mod owed;
mod regions;
mod remote;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use config::{CacheTier, TierConfig, TierStats};
pub(crate) use regions::Regions;
pub(crate) use remote::{Ask, Forget, Remote};

use crate::clock::Clock;
use crate::error::{CacheError, CacheResult};
use crate::policy::{Promotion, Scale};
use crate::traits::{CacheBackend, InProcess, L2CacheBackend, ValueAndTtl};

/// One tier, validated.
pub(crate) struct Tier {
    pub(crate) level: usize,
    pub(crate) promotion: Promotion,
    pub(crate) scale: Scale,
    pub(crate) store: Store,
    pub(crate) backend: Arc<dyn L2CacheBackend>,
}

/// How a tier is reached.
pub(crate) enum Store {
    /// Inside this process: synchronously, under the engine's stamps.
    Local(Arc<dyn InProcess>),
    /// Anywhere else, or a user's backend that only has the asynchronous face.
    Remote(Arc<Remote>),
}

impl Tier {
    /// Checks a tier's configuration.
    pub(crate) fn new(tier: CacheTier, clock: &Clock) -> CacheResult<Self> {
        let level = tier.tier_level;
        Ok(Self {
            level,
            promotion: Promotion::new(tier.promotion_enabled, tier.promotion_frequency, level)?,
            scale: Scale::new(tier.ttl_scale, level)?,
            store: match Arc::clone(&tier.backend).in_process() {
                Some(face) => Store::Local(face),
                None => Store::Remote(Remote::new(Arc::clone(&tier.backend), level, clock.clone())),
            },
            backend: tier.backend,
        })
    }

    /// Whether hits here may be promoted at all.
    pub(crate) fn promotes(&self) -> bool {
        self.promotion != Promotion::Never
    }

    /// Whether the backend works, asked within a budget if it has to be awaited.
    pub(crate) async fn works(&self) -> bool {
        match &self.store {
            Store::Local(_) => self.backend.health_check().await,
            Store::Remote(remote) => remote.works().await,
        }
    }

    pub(crate) fn remote(&self) -> Option<&Arc<Remote>> {
        match &self.store {
            Store::Local(_) => None,
            Store::Remote(remote) => Some(remote),
        }
    }
}

/// Values of which it is not known how long they still live.
fn without_ttl(values: Vec<Option<Bytes>>) -> Vec<Option<ValueAndTtl>> {
    values.into_iter().map(|value| value.map(|value| (value, None))).collect()
}

/// Checks a whole stack: at least one tier, levels strictly ascending.
pub(crate) fn validate(tiers: Vec<CacheTier>, clock: &Clock) -> CacheResult<Vec<Tier>> {
    if tiers.is_empty() {
        return Err(CacheError::ConfigError("a cache needs at least one tier".into()));
    }
    for (above, below) in tiers.iter().zip(tiers.iter().skip(1)) {
        if above.tier_level >= below.tier_level {
            return Err(CacheError::ConfigError(format!(
                "tier levels must ascend without repeats, but {} is followed by {}",
                above.tier_level, below.tier_level
            )));
        }
    }
    tiers.into_iter().map(|tier| Tier::new(tier, clock)).collect()
}

/// Lets a backend that cannot tell remaining TTLs be the first tier: nothing is ever promoted from there.
pub(crate) struct FirstTier(pub(crate) Arc<dyn CacheBackend>);

impl CacheBackend for FirstTier {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        self.0.get(key)
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.0.set_with_ttl(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.0.remove(key)
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        self.0.health_check()
    }

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.0.remove_pattern(pattern)
    }

    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        self.0.try_get(key)
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<Bytes>>>> {
        self.0.get_many(keys)
    }

    fn set_many<'a>(&'a self, pairs: &'a [(&'a str, Bytes)], ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.0.set_many(pairs, ttl)
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        self.0.remove_many(keys)
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        self.0.clear()
    }

    fn capabilities(&self) -> crate::traits::Capabilities {
        self.0.capabilities()
    }

    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        Arc::clone(&self.0).in_process()
    }
}

impl L2CacheBackend for FirstTier {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move { Some((self.0.get(key).await?, None)) })
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<(Bytes, Option<Duration>)>>> {
        Box::pin(async move { Ok(self.0.try_get(key).await?.map(|value| (value, None))) })
    }

    fn get_many_with_ttl<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<ValueAndTtl>>>> {
        Box::pin(async move { Ok(without_ttl(self.0.get_many(keys).await?)) })
    }
}
