//! Puts a [`CacheSystem`] together: the only place that knows every feature and constructs parts.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;

use bytes::Bytes;

use crate::backends::QuickCacheBackend;
#[cfg(feature = "moka")]
use crate::backends::{L1Cache, MokaCacheConfig};
#[cfg(feature = "redis")]
use crate::backends::{L2Cache, RedisCache, RedisConfig};
use crate::cache::key::Beginning;
use crate::cache_manager::{BusChoice, CacheManager, CacheTier, Joining, TierConfig};
use crate::clock::Clock;
use crate::defaults;
use crate::engine::Options;
use crate::error::{CacheError, CacheResult};
use crate::invalidation::{CoherenceConfig, InvalidationConfig};
use crate::policy::PromotionCondition;
#[cfg(feature = "redis")]
use crate::redis_streams::RedisStreams;
use crate::serialization::CacheSerializer;
use crate::stack::{FirstTier, Regions};
use crate::system::CacheSystem;
use crate::telemetry::EventListener;
use crate::traits::{CacheBackend, L2CacheBackend, StreamingBackend};

/// Builds a [`CacheSystem`].
///
/// Without any call: `QuickCache` with 2,000 entries in front of Redis. `with_l1` and `with_l2` replace these two,
/// `with_l3` and `with_l4` add to them; a call of `with_tier` leaves out whichever of them was not given explicitly.
/// If the nearest shared tier is Redis, the system joins the invalidation bus.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use multi_tier_cache::backends::QuickCacheBackend;
/// use multi_tier_cache::{Arc, CacheSystemBuilder, DashMapCache, TierConfig};
///
/// let system = CacheSystemBuilder::new()
///     .with_tier(Arc::new(QuickCacheBackend::new(10_000)?), TierConfig::as_l1())
///     .with_tier(Arc::new(DashMapCache::new()), TierConfig::as_l2())
///     .build()
///     .await?;
/// assert!(system.health_check().await);
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct CacheSystemBuilder {
    l1: Option<Arc<dyn CacheBackend>>,
    regions: Vec<(String, Arc<dyn CacheBackend>)>,
    #[cfg(feature = "moka")]
    moka: Option<MokaCacheConfig>,
    l2: Option<Arc<dyn L2CacheBackend>>,
    tiers: Vec<(Arc<dyn L2CacheBackend>, TierConfig)>,
    has_own_tiers: bool,
    streams: Option<Arc<dyn StreamingBackend>>,
    #[cfg(feature = "redis")]
    redis: RedisConfig,
    bus: Option<InvalidationConfig>,
    alone: bool,
    coherence: CoherenceConfig,
    #[cfg(feature = "test-util")]
    stage: Option<crate::testing::Stage>,
    serializer: CacheSerializer,
    clock: Clock,
    max_value_bytes: Option<usize>,
    compress_above: Option<usize>,
    max_loads: Option<usize>,
    promote_if: Option<PromotionCondition>,
    listener: Option<Arc<dyn EventListener>>,
}

impl CacheSystemBuilder {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses `backend` as L1.
    pub fn with_l1(mut self, backend: Arc<dyn CacheBackend>) -> Self {
        self.l1 = Some(backend);
        self
    }

    /// Gives the typed cache of this name an L1 of its own, so that it neither pushes others out nor is pushed out. Both
    /// must be stores inside this process. The statistics of L1 are those of all its parts.
    pub fn with_l1_of(mut self, cache: &str, backend: Arc<dyn CacheBackend>) -> Self {
        self.regions.push((Beginning::new(cache).to_string(), backend));
        self
    }

    /// Uses Moka as L1, unless [`with_l1`](Self::with_l1) gives another.
    #[cfg(feature = "moka")]
    pub fn with_moka_config(mut self, config: MokaCacheConfig) -> Self {
        self.moka = Some(config);
        self
    }

    /// Uses `backend` as L2.
    pub fn with_l2(mut self, backend: Arc<dyn L2CacheBackend>) -> Self {
        self.l2 = Some(backend);
        self
    }

    /// Uses `backend` for streams; by default those of the L2 if that is Redis.
    pub fn with_streams(mut self, backend: Arc<dyn StreamingBackend>) -> Self {
        self.streams = Some(backend);
        self
    }

    /// Adds a tier and leaves out the defaults: the stack is what is given explicitly.
    pub fn with_tier(mut self, backend: Arc<dyn L2CacheBackend>, config: TierConfig) -> Self {
        self.has_own_tiers = true;
        self.tiers.push((backend, config));
        self
    }

    /// Adds a third tier to the first two ([`TierConfig::as_l3`]).
    pub fn with_l3(mut self, backend: Arc<dyn L2CacheBackend>) -> Self {
        self.tiers.push((backend, TierConfig::as_l3()));
        self
    }

    /// Adds a fourth tier to the others ([`TierConfig::as_l4`]).
    pub fn with_l4(mut self, backend: Arc<dyn L2CacheBackend>) -> Self {
        self.tiers.push((backend, TierConfig::as_l4()));
        self
    }

    /// Address of the default L2; else `REDIS_URL`, `REDIS_URL` in `.env`, `redis://127.0.0.1:6379`.
    #[cfg(feature = "redis")]
    pub fn with_redis_url(mut self, url: &str) -> Self {
        self.redis = self.redis.with_url(url);
        self
    }

    /// Everything about the default L2: address, key prefix, budget, certificate.
    #[cfg(feature = "redis")]
    pub fn with_redis_config(mut self, config: RedisConfig) -> Self {
        self.redis = config;
        self
    }

    /// Joins the invalidation bus with these options; by default a system whose L2 is Redis joins with the defaults.
    pub fn with_invalidation(mut self, config: InvalidationConfig) -> Self {
        self.bus = Some(config);
        self
    }

    /// How strictly instances are kept coherent: staleness bound and mode, log, leases.
    pub fn with_coherence(mut self, config: CoherenceConfig) -> Self {
        self.coherence = config;
        self
    }

    /// Does not join the invalidation bus: other instances' in-process tiers see a change when their copy's TTL ends.
    pub fn without_invalidation(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Sets the format of the typed verbs; JSON by default.
    pub fn with_serializer(mut self, serializer: CacheSerializer) -> Self {
        self.serializer = serializer;
        self
    }

    /// Longest value that is stored, in bytes; 8 MiB by default. Loaded values beyond it are returned uncached, puts
    /// of them are errors. A shared value that no tier needed as bytes has no length and is stored.
    pub fn with_max_value_bytes(mut self, limit: usize) -> Self {
        self.max_value_bytes = Some(limit);
        self
    }

    /// How many loads may run at a time: 4,096 unless set, at least one. A call beyond that waits for up to ten seconds,
    /// then is answered with a stale value if its rules allow one, else with a retryable error. A loader that loads
    /// through the same system holds its place meanwhile.
    pub fn with_max_concurrent_loads(mut self, most: usize) -> Self {
        self.max_loads = Some(most.clamp(1, Semaphore::MAX_PERMITS));
        self
    }

    /// Values of typed caches with more bytes than this are compressed in tiers outside this process, if that saves
    /// enough: 16 KiB unless set, `usize::MAX` for never.
    pub fn with_compression_above(mut self, bytes: usize) -> Self {
        self.compress_above = Some(bytes);
        self
    }

    /// Lets `condition` (of key, value and the level of the tier that was hit) decide which hits are promoted,
    /// instead of the lot. Tiers with promotion switched off still never promote. It is asked at every such hit: keep
    /// it cheap, and do not wait for the cache in it.
    pub fn with_promotion_condition(
        mut self,
        condition: impl Fn(&str, &Bytes, usize) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.promote_if = Some(Arc::new(condition));
        self
    }

    /// Tells `listener` of everything that happens; a function will do. One at most: a later one takes the place of an
    /// earlier one.
    pub fn with_event_listener(mut self, listener: impl EventListener + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Replaces the clock by which promoted and loaded entries expire; give the same one to the in-process backends.
    #[cfg(feature = "test-util")]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Puts `stage` between this system and its coordinator.
    #[cfg(feature = "test-util")]
    pub fn with_stage(mut self, stage: &crate::testing::Stage) -> Self {
        self.stage = Some(stage.clone());
        self
    }

    /// Builds the system. A server that cannot be reached is not an error: its tier joins when it comes up.
    ///
    /// # Errors
    /// `ConfigError` for two tiers of one level, a scale that is not finite and above 0, a promotion frequency of 0,
    /// no tier at all, a malformed Redis address, coherence options that cannot work, or a bus that no tier can carry.
    pub async fn build(self) -> CacheResult<CacheSystem> {
        #[cfg(feature = "moka")]
        let l1_cache = self.moka_l1()?;
        #[cfg(feature = "redis")]
        let l2_cache = self.redis_l2().await?;

        let mut tiers: Vec<CacheTier> =
            self.tiers.iter().map(|(backend, config)| CacheTier::with_config(Arc::clone(backend), config)).collect();
        let l1: Option<Arc<dyn CacheBackend>> = self.l1.clone();
        #[cfg(feature = "moka")]
        let l1 = l1.or_else(|| l1_cache.clone().map(|moka| moka as _));
        if let Some(l1) = self.with_regions(l1.map_or_else(|| self.default_l1(), |l1| Ok(Some(l1)))?)? {
            tiers.push(CacheTier::with_config(Arc::new(FirstTier(l1)), &TierConfig::as_l1()));
        }
        let l2 = self.l2.clone();
        #[cfg(feature = "redis")]
        let l2 = l2.or_else(|| l2_cache.clone().map(|redis| redis as _));
        if let Some(l2) = l2 {
            tiers.push(CacheTier::with_config(l2, &TierConfig::as_l2()));
        }
        tiers.sort_by_key(|tier| tier.tier_level);

        let streams = self.streams.clone();
        #[cfg(feature = "redis")]
        let streams = streams.or_else(|| l2_cache.as_ref().map(|redis| Arc::new(RedisStreams::beside(redis)) as _));
        let bus = match (self.bus, self.alone) {
            (_, true) => BusChoice::Alone,
            (Some(config), false) => BusChoice::Join(config),
            (None, false) => BusChoice::IfPossible,
        };
        let joining = Joining {
            bus,
            coherence: self.coherence,
            #[cfg(feature = "test-util")]
            stage: self.stage,
        };
        let options = Options {
            clock: self.clock,
            max_value_bytes: self.max_value_bytes.unwrap_or(defaults::MAX_VALUE_BYTES),
            compress_above: self.compress_above.unwrap_or(defaults::COMPRESS_ABOVE),
            max_loads: self.max_loads.unwrap_or(defaults::MAX_LOADS),
            promote_if: self.promote_if,
            listener: self.listener,
        };
        let mut manager = CacheManager::assemble(tiers, streams, options, &joining)?;
        manager.set_serializer(self.serializer);
        manager.join_bus().await;
        Ok(CacheSystem {
            cache_manager: Arc::new(manager),
            #[cfg(feature = "moka")]
            l1_cache,
            #[cfg(feature = "redis")]
            l2_cache,
        })
    }

    fn with_regions(&self, l1: Option<Arc<dyn CacheBackend>>) -> CacheResult<Option<Arc<dyn CacheBackend>>> {
        match l1 {
            l1 if self.regions.is_empty() => Ok(l1),
            Some(l1) => Ok(Some(Arc::new(Regions::new(l1, self.regions.clone())?))),
            None => Err(CacheError::ConfigError(
                "with_l1_of needs an L1 for all other keys; give it with with_l1, beside with_tier".into(),
            )),
        }
    }

    fn default_l1(&self) -> CacheResult<Option<Arc<dyn CacheBackend>>> {
        if self.has_own_tiers {
            return Ok(None);
        }
        Ok(Some(Arc::new(QuickCacheBackend::new(defaults::L1_ENTRIES)?)))
    }

    /// The Moka L1, if it was asked for or is what `with_l1` was given.
    #[cfg(feature = "moka")]
    fn moka_l1(&self) -> CacheResult<Option<Arc<L1Cache>>> {
        match (&self.l1, self.moka) {
            (Some(l1), _) => Ok(Arc::clone(l1).concrete().and_then(|l1| l1.downcast().ok())),
            (None, Some(config)) => Ok(Some(Arc::new(L1Cache::new(config)?))),
            (None, None) => Ok(None),
        }
    }

    /// The Redis L2: the one given, or the default if no tier was.
    #[cfg(feature = "redis")]
    async fn redis_l2(&self) -> CacheResult<Option<Arc<L2Cache>>> {
        match &self.l2 {
            Some(l2) => Ok(Arc::clone(l2).concrete().and_then(|l2| l2.downcast().ok())),
            None if self.has_own_tiers => Ok(None),
            None => Ok(Some(Arc::new(RedisCache::connected(self.redis.clone()).await?))),
        }
    }
}

impl fmt::Debug for CacheSystemBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheSystemBuilder")
            .field("l1", &self.l1.as_ref().map(|l1| l1.name()))
            .field("l2", &self.l2.as_ref().map(|l2| l2.name()))
            .field("tiers", &self.tiers.iter().map(|(backend, _)| backend.name()).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
