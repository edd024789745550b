//! Several instances in one process, and what a test asks of one.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use super::{Hub, ManualClock};
use crate::backends::QuickCacheBackend;
use crate::builder::CacheSystemBuilder;
use crate::cache::{Cache, CacheKey};
use crate::cache_manager::{CacheManager, TierConfig};
use crate::coordinator::Position;
use crate::defaults;
use crate::error::CacheResult;
use crate::system::CacheSystem;

/// Instances of one program in one process, as over one Redis: each has an L1 of its own, and all share a tier in memory
/// that coordinates them and carries their messages. Their clock moves only when told.
#[derive(Debug, Clone)]
pub struct Fleet {
    time: ManualClock,
    hub: Hub,
}

impl Fleet {
    /// A fleet without instances, and an empty shared tier.
    #[must_use]
    pub fn new() -> Self {
        let time = ManualClock::new();
        Self { hub: Hub::with_clock(time.clock()), time }
    }

    /// The clock of all instances and of the shared tier.
    #[must_use]
    pub fn time(&self) -> &ManualClock {
        &self.time
    }

    /// The shared tier.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What an instance is built from, for one that has more than this: an L1 at level 1, the shared tier at level 2,
    /// the clock. Every hit of the shared tier is copied into L1, so that nothing in a test depends on a lot.
    ///
    /// # Errors
    /// None in practice: the size of L1 is valid.
    pub fn builder(&self) -> CacheResult<CacheSystemBuilder> {
        let l1 = QuickCacheBackend::new(defaults::L1_ENTRIES)?.with_clock(self.time.clock());
        let l2 = TierConfig::as_l2().with_promotion_frequency(1);
        let builder = CacheSystemBuilder::new().with_clock(self.time.clock());
        Ok(builder.with_tier(Arc::new(l1), TierConfig::as_l1()).with_tier(Arc::new(self.hub.clone()), l2))
    }

    /// Builds an instance, which has joined the bus then. The clock moves by a millisecond: what an instance kept in
    /// process before it joined counts for nothing.
    ///
    /// # Errors
    /// `ConfigError` for a builder that cannot be followed.
    pub async fn join(&self, builder: CacheSystemBuilder) -> CacheResult<CacheSystem> {
        let system = builder.build().await?;
        self.time.advance(Duration::from_millis(1));
        Ok(system)
    }

    /// Another instance.
    ///
    /// # Errors
    /// None in practice.
    pub async fn instance(&self) -> CacheResult<CacheSystem> {
        self.join(self.builder()?).await
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until the instance has followed the log of invalidations as far as it goes now. True if that takes it to
/// `position`, which `None` always does; false if it cannot be told.
pub async fn followed(cache: &CacheManager, position: impl Into<Option<Position>>) -> bool {
    match position.into() {
        Some(position) => cache.engine().reach(position).await.unwrap_or(false),
        None => true,
    }
}

/// The levels of the tiers that hold a typed cache's `key` and would be read, stale or not; none if it is nowhere.
/// Nothing is promoted or counted.
///
/// # Errors
/// `BackendError` if a tier could not be asked.
pub async fn levels_with<K, V, Q>(cache: &Cache<K, V>, key: &Q) -> CacheResult<Vec<usize>>
where
    K: Borrow<Q>,
    Q: CacheKey + ?Sized,
    V: Send + Sync + 'static,
{
    let (engine, key) = cache.entry(key);
    engine.levels_with(&key).await
}

/// The same for a key of the verbs on bytes.
///
/// # Errors
/// As [`levels_with`].
pub async fn levels_with_key(cache: &CacheManager, key: &str) -> CacheResult<Vec<usize>> {
    cache.engine().levels_with(key).await
}
