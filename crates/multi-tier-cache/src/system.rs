//! A cache ready for use.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "moka")]
use crate::backends::L1Cache;
#[cfg(feature = "redis")]
use crate::backends::L2Cache;
use crate::builder::CacheSystemBuilder;
use crate::cache::{Cache, CacheBuilder};
use crate::cache_manager::CacheManager;
use crate::error::CacheResult;
use crate::telemetry::{HealthReport, Metrics};

/// A cache manager with handles to its default tiers. Cheap to clone; clones are the same cache.
#[derive(Debug, Clone)]
pub struct CacheSystem {
    /// The verbs.
    pub cache_manager: Arc<CacheManager>,
    /// The first tier, if it is Moka.
    #[cfg(feature = "moka")]
    pub l1_cache: Option<Arc<L1Cache>>,
    /// The second tier, if it is Redis.
    #[cfg(feature = "redis")]
    pub l2_cache: Option<Arc<L2Cache>>,
}

impl CacheSystem {
    /// The default tiers; the Redis address is the environment's `REDIS_URL`, that of a `.env` file, or
    /// `redis://127.0.0.1:6379`. A Redis that cannot be reached is not an error: it joins when it comes up.
    ///
    /// # Errors
    /// `ConfigError` if the address is malformed.
    pub async fn new() -> CacheResult<Self> {
        CacheSystemBuilder::new().build().await
    }

    /// The default tiers with Redis at `redis_url` (`redis://` or `rediss://`, with user, password and database).
    ///
    /// # Errors
    /// `ConfigError` if the address is malformed.
    #[cfg(feature = "redis")]
    pub async fn with_redis_url(redis_url: &str) -> CacheResult<Self> {
        CacheSystemBuilder::new().with_redis_url(redis_url).build().await
    }

    /// Whether the first tier works. [`health_report`](Self::health_report) tells of everything.
    pub async fn health_check(&self) -> bool {
        self.cache_manager.first_tier_works().await
    }

    /// How the cache fares, for a readiness probe ([`CacheManager::health_report`]).
    pub async fn health_report(&self) -> HealthReport {
        self.cache_manager.health_report().await
    }

    /// Everything that is counted, for Prometheus and others ([`CacheManager::metrics`]).
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.cache_manager.metrics()
    }

    /// Reports everything that is counted to a meter of OpenTelemetry ([`CacheManager::report_to`]).
    ///
    /// # Errors
    /// `ConfigError` if it reports to a meter already.
    #[cfg(feature = "opentelemetry")]
    pub fn report_to(
        &self,
        meter: &opentelemetry::metrics::Meter,
        attributes: &[opentelemetry::KeyValue],
    ) -> CacheResult<()> {
        self.cache_manager.report_to(meter, attributes)
    }

    /// Ends the background tasks and closes the connections of the Redis tier and its streams. In-process tiers go on
    /// serving; what would need Redis is an error from then on. Without this call the same happens, silently, when the
    /// last handle is dropped.
    #[expect(clippy::unused_async, reason = "what ends a task may have to wait for it")]
    pub async fn shutdown(&self) {
        self.cache_manager.stop();
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.l2_cache {
            redis.close();
        }
    }

    /// The typed cache of this name: JSON in shared tiers, fresh for five minutes. Every handle of one name is a view of
    /// the same entries, with statistics of its own; clone a handle to share them.
    ///
    /// # Errors
    /// `ConfigError` for a name that is empty or reserved ([`CacheBuilder::build`]).
    pub fn cache<K, V>(&self, name: &str) -> CacheResult<Cache<K, V>>
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.cache_manager.cache(name)
    }

    /// Sets up the typed cache of this name.
    pub fn cache_builder<K, V>(&self, name: &str) -> CacheBuilder<K, V> {
        self.cache_manager.cache_builder(name)
    }

    /// The verbs.
    #[must_use]
    pub fn cache_manager(&self) -> &Arc<CacheManager> {
        &self.cache_manager
    }
}
