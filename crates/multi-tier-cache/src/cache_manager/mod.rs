//! The verbs of the established API on string keys and bytes. Each is a thin layer over the engine.

mod assembly;
mod fleet;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(all(feature = "moka", feature = "redis"))]
use crate::backends::{L1Cache, L2Cache};
use crate::cache::{Cache, CacheBuilder, CallOptions};
use crate::clock::Moment;
use crate::coordinator::{Position, Tag};
use crate::defaults;
use crate::engine::{Engine, Options, Put, Wanted, slowly};
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
#[cfg(all(feature = "moka", feature = "redis"))]
use crate::invalidation::InvalidationConfig;
use crate::invalidation::InvalidationStats;
#[cfg(all(feature = "moka", feature = "redis"))]
use crate::redis_streams::RedisStreams;
use crate::serialization::CacheSerializer;
use crate::stack::FirstTier;
use crate::telemetry::{HealthReport, Metrics};
use crate::traits::{CacheBackend, L2CacheBackend, StreamEntry, StreamingBackend};

pub(crate) use assembly::{BusChoice, Joining};

pub use crate::engine::CacheManagerStats;
pub use crate::policy::CacheStrategy;
pub use crate::stack::{CacheTier, TierConfig, TierStats};
pub use crate::telemetry::TierHealth;

/// A stack of tiers and the verbs on it.
///
/// All verbs may be called concurrently. Dropping a verb's future is safe at any await: a computation it led passes
/// to a caller that waits for it, and a write or removal that has begun is carried out (inside a Tokio runtime;
/// outside one it ends where it was, and the key is removed from the tier it was about to change before that tier is
/// read again).
///
/// # Entries of typed caches
///
/// The key of a [`Cache`]'s entry is its name, a colon and the [key's text](crate::CacheKey::key_text). These verbs read
/// it as any other: the value's bytes in the cache's format, made when they are first asked for, while it is fresh; a
/// remembered absence and a stale value are a miss. What they store under such a key the typed cache takes for foreign:
/// a miss there.
///
/// # Deadlocks
///
/// The future of a computing verb leads its key for as long as it lives. Do not keep one without polling it (a loser
/// of a `select!` that is pinned and not dropped) while the same task asks for the same key, and do not ask for a key
/// inside its own computation: both would wait for themselves. A promotion condition, a value's encoder and a value's
/// `Drop` must not wait for the cache either.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use multi_tier_cache::{Arc, CacheManager, CacheStrategy, DashMapCache, backends::QuickCacheBackend};
///
/// let cache = CacheManager::new_with_backends(
///     Arc::new(QuickCacheBackend::new(1_000)?),
///     Arc::new(DashMapCache::new()),
///     None,
/// )?;
/// let load = || async { Ok(vec![1, 2, 3]) };
/// let numbers: Vec<u32> = cache.get_or_compute_typed("numbers", CacheStrategy::ShortTerm, load).await?;
/// assert_eq!(numbers, [1, 2, 3]);
/// assert_eq!(cache.get_typed::<Vec<u32>>("numbers").await?, Some(vec![1, 2, 3]));
/// # Ok(())
/// # }
/// ```
pub struct CacheManager {
    engine: Arc<Engine>,
    serializer: CacheSerializer,
    streams: Option<Arc<dyn StreamingBackend>>,
}

impl CacheManager {
    /// The default pair of tiers, with Redis Streams on the same server.
    ///
    /// # Errors
    /// None in practice: the two tiers are always a valid stack.
    #[cfg(all(feature = "moka", feature = "redis"))]
    #[expect(clippy::unused_async, reason = "the established signature")]
    pub async fn new(l1_cache: Arc<L1Cache>, l2_cache: Arc<L2Cache>) -> CacheResult<Self> {
        let streams = Arc::new(RedisStreams::beside(&l2_cache));
        Self::new_with_backends(l1_cache, l2_cache, Some(streams))
    }

    /// The default pair of tiers, joined to the invalidation bus at `redis_url`. If that is another server than the
    /// second tier's, removing a value and announcing it are two steps, in this order.
    ///
    /// # Errors
    /// `ConfigError` if `redis_url` is malformed. A server that cannot be reached is not an error.
    #[cfg(all(feature = "moka", feature = "redis"))]
    pub async fn new_with_invalidation(
        l1_cache: Arc<L1Cache>,
        l2_cache: Arc<L2Cache>,
        redis_url: &str,
        config: InvalidationConfig,
    ) -> CacheResult<Self> {
        let streams = Arc::new(RedisStreams::beside(&l2_cache));
        let tiers = pair(l1_cache, l2_cache);
        let bus = BusChoice::JoinAt(redis_url.to_owned(), config);
        let joining = Joining { bus, ..Joining::default() };
        let manager = Self::assemble(tiers, Some(streams), Options::default(), &joining)?;
        manager.join_bus().await;
        Ok(manager)
    }

    /// Two tiers: `l1_cache` in front of `l2_cache`.
    ///
    /// # Errors
    /// None in practice: the two tiers are always a valid stack.
    pub fn new_with_backends(
        l1_cache: Arc<dyn CacheBackend>,
        l2_cache: Arc<dyn L2CacheBackend>,
        streaming_backend: Option<Arc<dyn StreamingBackend>>,
    ) -> CacheResult<Self> {
        Self::new_with_tiers(pair(l1_cache, l2_cache), streaming_backend)
    }

    /// Any number of tiers, in ascending order of level.
    ///
    /// # Errors
    /// `ConfigError` if there is no tier, levels do not strictly ascend, a scale is not finite and above 0, or a
    /// promotion frequency is 0.
    pub fn new_with_tiers(
        tiers: Vec<CacheTier>,
        streaming_backend: Option<Arc<dyn StreamingBackend>>,
    ) -> CacheResult<Self> {
        Self::assemble(tiers, streaming_backend, Options::default(), &Joining::default())
    }

    /// Sets the format of the typed verbs; JSON until then.
    pub fn set_serializer(&mut self, serializer: CacheSerializer) {
        self.serializer = serializer;
    }

    /// The bytes of `key` from the first tier that has it. Joins another caller's read of the same key, never its
    /// computation.
    ///
    /// # Errors
    /// `BackendError` if no tier has the key and one of them could not be asked; `ConfigError` if the key is longer
    /// than [`defaults::MAX_KEY_BYTES`].
    pub async fn get(&self, key: &str) -> CacheResult<Option<Bytes>> {
        match self.engine.fresh_bytes(key, Some) {
            Some(bytes) => Ok(Some(bytes)),
            None => self.read_below(key).await?.map(Entry::into_bytes).transpose(),
        }
    }

    /// The value of `key`, decoded.
    ///
    /// # Errors
    /// `SerializationError` if the stored bytes are not a `T`; otherwise as [`get`](Self::get).
    pub async fn get_typed<T: DeserializeOwned>(&self, key: &str) -> CacheResult<Option<T>> {
        let bytes = self.get(key).await?;
        bytes.map(|bytes| self.serializer.deserialize(&bytes)).transpose()
    }

    /// Stores `value` in every tier, for the strategy's time multiplied by the tier's scale.
    ///
    /// # Errors
    /// The last tier's error if none took the value. `ConfigError` if the value is over the limit (8 MiB unless
    /// [configured](crate::CacheSystemBuilder::with_max_value_bytes)) or the key is too long; nothing is stored then.
    pub async fn set_with_strategy(&self, key: &str, value: Bytes, strategy: CacheStrategy) -> CacheResult<()> {
        let announced = self.engine.announces_writes();
        self.put_value(key, value, strategy.to_duration(), &[], announced).await.map(drop)
    }

    /// The bytes of `key`, computed by `compute` if no tier has them: once, however many callers ask at once.
    ///
    /// A tier that fails is passed over. Should the computing caller's future be dropped, exactly one of the waiting
    /// callers computes instead. A value over the size limit is returned but not stored.
    ///
    /// # Errors
    /// The error of the computation, to every caller that waited for it; nothing is stored then. `InternalError` if
    /// it panicked.
    pub async fn get_or_compute_with<F, Fut>(
        &self,
        key: &str,
        strategy: CacheStrategy,
        compute: F,
    ) -> CacheResult<Bytes>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = CacheResult<Bytes>> + Send,
    {
        if let Some(bytes) = self.engine.fresh_bytes(key, Some) {
            return Ok(bytes);
        }
        slowly(|| async move { self.get_or_compute_with_options(key, &CallOptions::new(strategy), compute).await })
            .await
    }

    /// The value of `key`, computed by `compute` if no tier has it; otherwise as
    /// [`get_or_compute_with`](Self::get_or_compute_with). The computing caller gets its own value back undecoded;
    /// stored bytes that do not decode are a miss.
    ///
    /// # Errors
    /// As [`get_or_compute_with`](Self::get_or_compute_with); `SerializationError` if the computed value cannot be
    /// encoded.
    pub async fn get_or_compute_typed<T, F, Fut>(
        &self,
        key: &str,
        strategy: CacheStrategy,
        compute: F,
    ) -> CacheResult<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = CacheResult<T>> + Send,
    {
        if let Some(value) = self.engine.fresh_bytes(key, |bytes| self.serializer.deserialize(&bytes).ok()) {
            return Ok(value);
        }
        slowly(
            || async move { self.get_or_compute_typed_with_options(key, &CallOptions::new(strategy), compute).await },
        )
        .await
    }

    /// The value of `key`, shared: as [`get_or_compute_typed`](Self::get_or_compute_typed), but an in-process tier
    /// keeps the decoded value, so that a hit there neither decodes nor allocates.
    ///
    /// # Errors
    /// As [`get_or_compute_typed`](Self::get_or_compute_typed).
    pub async fn get_or_compute_shared<T, F, Fut>(
        &self,
        key: &str,
        strategy: CacheStrategy,
        compute: F,
    ) -> CacheResult<Arc<T>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = CacheResult<T>> + Send,
    {
        if let Some(value) = self.engine.fresh_object(key) {
            return Ok(value);
        }
        slowly(
            || async move { self.get_or_compute_shared_with_options(key, &CallOptions::new(strategy), compute).await },
        )
        .await
    }

    /// Removes `key` from every tier: no read that starts after this returns a value computed or read before it. With
    /// a bus, on every instance as soon as its message arrives there, and within the staleness bound whatever is lost.
    ///
    /// # Errors
    /// `InvalidationError` if a tier could not be reached; it may still hold the key. The in-process tiers are clean
    /// in any case.
    pub async fn invalidate(&self, key: &str) -> CacheResult<()> {
        self.remove(key).await.map(drop)
    }

    /// Removes every key that matches a Redis glob pattern. Slow: it scans each tier's keys.
    ///
    /// # Errors
    /// `InvalidationError` if a tier could not be reached or cannot match patterns; `ConfigError` if a shared tier
    /// without a key prefix would have to scan other programs' keys (a pattern that does not begin literally).
    pub async fn invalidate_pattern(&self, pattern: &str) -> CacheResult<()> {
        self.remove_pattern(pattern).await.map(drop)
    }

    /// Replaces `key` in every tier; `None` keeps it for five minutes.
    ///
    /// # Errors
    /// As [`set_with_strategy`](Self::set_with_strategy).
    pub async fn update_cache(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> CacheResult<()> {
        self.put_value(key, value, ttl.unwrap_or(defaults::TTL), &[], true).await.map(drop)
    }

    /// Replaces `key` in every tier, and for other instances as [`update_cache`](Self::update_cache) does.
    ///
    /// # Errors
    /// As [`set_with_strategy`](Self::set_with_strategy).
    pub async fn set_with_broadcast(&self, key: &str, value: Bytes, strategy: CacheStrategy) -> CacheResult<()> {
        self.put_value(key, value, strategy.to_duration(), &[], true).await.map(drop)
    }

    /// Requests, hits and misses so far. The parts of one snapshot may be a few requests apart.
    #[must_use]
    pub fn get_stats(&self) -> CacheManagerStats {
        self.engine.stats()
    }

    /// Hits of each tier so far, in their order.
    #[must_use]
    pub fn get_tier_stats(&self) -> Vec<TierStats> {
        self.engine.tier_stats()
    }

    /// Messages of the invalidation bus; `None` for a manager that has none.
    #[must_use]
    pub fn invalidation_stats(&self) -> Option<InvalidationStats> {
        self.engine.messages()
    }

    /// Same as [`invalidation_stats`](Self::invalidation_stats).
    #[must_use]
    pub fn get_invalidation_stats(&self) -> Option<InvalidationStats> {
        self.invalidation_stats()
    }

    /// Everything that is counted, for Prometheus and others. Takes microseconds, and holds up nobody for longer.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.engine.metrics()
    }

    /// Reports everything that is counted to a meter of OpenTelemetry, from now on and for as long as this cache lives:
    /// counters and gauges when the program's exporter asks for them, and the time of each call that waited. All of it
    /// has the `attributes`, which tell the caches of a program apart: two that report the same to one meter overwrite
    /// each other's numbers, and so does one that takes the place of another.
    ///
    /// # Errors
    /// `ConfigError` if it reports to a meter already.
    #[cfg(feature = "opentelemetry")]
    pub fn report_to(
        &self,
        meter: &opentelemetry::metrics::Meter,
        attributes: &[opentelemetry::KeyValue],
    ) -> CacheResult<()> {
        let engine = Arc::downgrade(&self.engine);
        if self.engine.telemetry().report_to(meter, attributes, move || Some(engine.upgrade()?.metrics())) {
            return Ok(());
        }
        Err(CacheError::ConfigError("the cache reports to a meter of OpenTelemetry already".into()))
    }

    /// Whether each tier works, in their order. Writes nothing, and ends within the budget of a tier (1 s).
    pub async fn health(&self) -> Vec<TierHealth> {
        self.engine.health().await
    }

    /// How the cache fares: every tier, the bus, what is amiss, and whether requests should be sent here. Writes nothing,
    /// and ends within the budget of a tier (1 s).
    pub async fn health_report(&self) -> HealthReport {
        HealthReport::new(self.engine.health().await, self.engine.bus_health())
    }

    pub(crate) async fn join_bus(&self) {
        self.engine.join_bus().await;
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn bus(&self) -> Option<Arc<crate::invalidation::Bus>> {
        self.engine.bus().cloned()
    }

    pub(crate) fn stop(&self) {
        self.engine.stop();
    }

    pub(crate) async fn first_tier_works(&self) -> bool {
        match self.engine.tiers().first() {
            Some(tier) => tier.works().await,
            None => false,
        }
    }

    /// Appends an entry to a stream and answers its id; `maxlen` trims the stream to about that many entries.
    ///
    /// # Errors
    /// `ConfigError` without a streaming backend; `BackendError` if it fails.
    pub async fn publish_to_stream(
        &self,
        stream_key: &str,
        fields: Vec<(String, String)>,
        maxlen: Option<usize>,
    ) -> CacheResult<String> {
        self.streams()?.stream_add(stream_key, fields, maxlen).await
    }

    /// The newest `count` entries of a stream, newest first.
    ///
    /// # Errors
    /// As [`publish_to_stream`](Self::publish_to_stream).
    pub async fn read_stream_latest(&self, stream_key: &str, count: usize) -> CacheResult<Vec<StreamEntry>> {
        self.streams()?.stream_read_latest(stream_key, count).await
    }

    /// Up to `count` entries after `last_id` (`"0"` from the start, `"$"` only new ones), waiting `block_ms` for one
    /// if given. A wait that ends without one is an empty `Vec`.
    ///
    /// # Errors
    /// As [`publish_to_stream`](Self::publish_to_stream).
    pub async fn read_stream(
        &self,
        stream_key: &str,
        last_id: &str,
        count: usize,
        block_ms: Option<usize>,
    ) -> CacheResult<Vec<StreamEntry>> {
        self.streams()?.stream_read(stream_key, last_id, count, block_ms).await
    }

    fn streams(&self) -> CacheResult<&Arc<dyn StreamingBackend>> {
        self.streams.as_ref().ok_or_else(|| {
            CacheError::ConfigError(
                "no streaming backend is configured; use Redis as L2 or CacheSystemBuilder::with_streams".into(),
            )
        })
    }

    /// The typed cache of this name, with JSON as its format and a TTL of five minutes.
    ///
    /// # Errors
    /// `ConfigError` for a name that is empty or reserved ([`CacheBuilder::build`]).
    pub fn cache<K, V>(&self, name: &str) -> CacheResult<Cache<K, V>>
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.cache_builder(name).build()
    }

    /// Sets up the typed cache of this name.
    pub fn cache_builder<K, V>(&self, name: &str) -> CacheBuilder<K, V> {
        CacheBuilder::new(Arc::clone(&self.engine), name)
    }

    async fn put_value(
        &self,
        key: &str,
        value: Bytes,
        ttl: Duration,
        tags: &[Tag],
        announced: bool,
    ) -> CacheResult<Option<Position>> {
        let entry = Entry::from_bytes(value, Moment::NEVER);
        let put = Put { span: ttl.into(), tags, skipped: &[], announced, series: self.engine.telemetry().bytes() };
        self.engine.put(key, entry, put).await
    }

    async fn read_below(&self, key: &str) -> CacheResult<Option<Entry>> {
        Ok(self.engine.read(key, Wanted::Stored(self.engine.clock(), false)).await?.map(|hit| hit.entry))
    }
}

fn pair(l1: Arc<dyn CacheBackend>, l2: Arc<dyn L2CacheBackend>) -> Vec<CacheTier> {
    let l1 = CacheTier::with_config(Arc::new(FirstTier(l1)), &TierConfig::as_l1());
    vec![l1, CacheTier::with_config(l2, &TierConfig::as_l2())]
}

/// A load answers with a value its loader accepted or made; anything else is a defect of the engine.
fn unaccepted() -> CacheError {
    CacheError::InternalError("a load ended without a value".into())
}

impl fmt::Debug for CacheManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheManager")
            .field("tiers", &self.get_tier_stats())
            .field("serializer", &self.serializer.name())
            .field("streams", &self.streams.is_some())
            .finish_non_exhaustive()
    }
}
