//! How a tier is configured, and its statistics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::defaults;
use crate::traits::L2CacheBackend;

/// A tier's place and rules.
///
/// ```
/// use multi_tier_cache::TierConfig;
///
/// let warm = TierConfig::as_l3().with_promotion_frequency(5);
/// assert_eq!((warm.tier_level, warm.promotion_frequency, warm.ttl_scale), (3, 5, 2.0));
/// ```
#[derive(Debug, Clone)]
pub struct TierConfig {
    /// Place in the stack; 1 is asked first. Levels need not be contiguous, but each occurs once.
    pub tier_level: usize,
    /// Whether hits here are copied into the tiers above.
    pub promotion_enabled: bool,
    /// One hit in this many is promoted; at least 1.
    pub promotion_frequency: usize,
    /// Factor on every TTL stored here; finite and above 0.
    pub ttl_scale: f64,
}

impl TierConfig {
    /// Promotes one hit in ten, keeps TTLs as they are.
    #[must_use]
    pub fn new(tier_level: usize) -> Self {
        Self { tier_level, promotion_enabled: true, promotion_frequency: defaults::PROMOTION_FREQUENCY, ttl_scale: 1.0 }
    }

    /// The first tier: nothing above it to promote into.
    #[must_use]
    pub fn as_l1() -> Self {
        Self { promotion_frequency: 1, ..Self::new(1).with_promotion(false) }
    }

    /// The shared tier.
    #[must_use]
    pub fn as_l2() -> Self {
        Self::new(2)
    }

    /// A colder tier that keeps values twice as long.
    #[must_use]
    pub fn as_l3() -> Self {
        Self::new(3).with_ttl_scale(2.0)
    }

    /// A cold tier that keeps values eight times as long.
    #[must_use]
    pub fn as_l4() -> Self {
        Self::new(4).with_ttl_scale(8.0)
    }

    /// Whether hits here are copied into the tiers above.
    #[must_use]
    pub fn with_promotion(mut self, enabled: bool) -> Self {
        self.promotion_enabled = enabled;
        self
    }

    /// Promotes one hit in `n`. Zero is an error at build.
    #[must_use]
    pub fn with_promotion_frequency(mut self, n: usize) -> Self {
        self.promotion_frequency = n;
        self
    }

    /// Multiplies every TTL stored here. Not finite, zero or negative is an error at build.
    #[must_use]
    pub fn with_ttl_scale(mut self, scale: f64) -> Self {
        self.ttl_scale = scale;
        self
    }

    /// Moves the tier to another level.
    #[must_use]
    pub fn with_level(mut self, level: usize) -> Self {
        self.tier_level = level;
        self
    }
}

/// A backend in its place: what [`CacheManager::new_with_tiers`](crate::CacheManager::new_with_tiers) takes.
#[derive(Clone)]
pub struct CacheTier {
    /// The store.
    pub backend: Arc<dyn L2CacheBackend>,
    /// See [`TierConfig::tier_level`].
    pub tier_level: usize,
    /// See [`TierConfig::promotion_enabled`].
    pub promotion_enabled: bool,
    /// See [`TierConfig::promotion_frequency`].
    pub promotion_frequency: usize,
    /// See [`TierConfig::ttl_scale`].
    pub ttl_scale: f64,
    /// Level and name of this tier, with no hits: the running counts are those of
    /// [`CacheManager::get_tier_stats`](crate::CacheManager::get_tier_stats).
    pub stats: TierStats,
}

impl CacheTier {
    /// A tier; its rules are checked when a manager is made of it.
    #[must_use]
    pub fn new(
        backend: Arc<dyn L2CacheBackend>,
        tier_level: usize,
        promotion_enabled: bool,
        promotion_frequency: usize,
        ttl_scale: f64,
    ) -> Self {
        let stats = TierStats::new(tier_level, backend.name().to_owned(), 0);
        Self { backend, tier_level, promotion_enabled, promotion_frequency, ttl_scale, stats }
    }

    pub(crate) fn with_config(backend: Arc<dyn L2CacheBackend>, config: &TierConfig) -> Self {
        let TierConfig { tier_level, promotion_enabled, promotion_frequency, ttl_scale } = *config;
        Self::new(backend, tier_level, promotion_enabled, promotion_frequency, ttl_scale)
    }
}

impl fmt::Debug for CacheTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheTier")
            .field("backend", &self.backend.name())
            .field("tier_level", &self.tier_level)
            .field("promotion_enabled", &self.promotion_enabled)
            .field("promotion_frequency", &self.promotion_frequency)
            .field("ttl_scale", &self.ttl_scale)
            .finish_non_exhaustive()
    }
}

/// How often a tier answered.
#[derive(Debug)]
pub struct TierStats {
    /// The tier's level.
    pub tier_level: usize,
    /// Requests answered by this tier, including those that waited for another caller's read of it.
    pub hits: AtomicU64,
    /// The backend's name.
    pub backend_name: String,
}

impl TierStats {
    pub(crate) fn new(tier_level: usize, backend_name: String, hits: u64) -> Self {
        Self { tier_level, hits: AtomicU64::new(hits), backend_name }
    }

    /// The number of hits.
    #[must_use]
    pub fn hit_count(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

impl Clone for TierStats {
    fn clone(&self) -> Self {
        Self::new(self.tier_level, self.backend_name.clone(), self.hit_count())
    }
}
