//! TTL arithmetic: every tier keeps a value for the asked time multiplied by the tier's scale.

use std::time::Duration;

use super::Freshness;
use crate::defaults;
use crate::error::{CacheError, CacheResult};

/// By how much a tier stretches or shortens TTLs: finite and positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale(f64);

impl Scale {
    pub(crate) fn new(scale: f64, level: usize) -> CacheResult<Self> {
        if scale.is_finite() && scale > 0.0 {
            return Ok(Self(scale));
        }
        Err(CacheError::ConfigError(format!("the TTL scale of tier {level} is {scale}; it must be finite and above 0")))
    }

    /// `ttl` as this tier keeps it. Products too long to represent give the longest duration.
    pub(crate) fn apply(self, ttl: Duration) -> Duration {
        scaled(ttl, self.0)
    }
}

/// For how long a value is kept: as the scale of a tier has it, or as rules for single tiers do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifespan<'a> {
    pub(crate) ttl: Duration,
    pub(crate) rules: Option<&'a Freshness>,
}

impl From<Duration> for Lifespan<'_> {
    fn from(ttl: Duration) -> Self {
        Self { ttl, rules: None }
    }
}

impl Lifespan<'_> {
    /// The TTL in the tier of this level.
    pub(crate) fn in_tier(&self, level: usize, scale: Scale) -> Duration {
        let own = self.rules.and_then(|rules| rules.tier_ttl(level));
        own.unwrap_or_else(|| scale.apply(self.ttl))
    }
}

/// The TTL of a copy promoted from a tier with scale `from` into one with scale `to`: the source's remaining time
/// in the target's scale, and never longer than the source itself lives.
pub(crate) fn promoted(remaining: Option<Duration>, from: Scale, to: Scale) -> Duration {
    let Some(remaining) = remaining else { return defaults::PROMOTED_TTL };
    scaled(remaining, to.0 / from.0).min(remaining)
}

/// `ttl` multiplied by `scale`; products too long to represent, negative or not numbers give the longest duration.
pub(super) fn scaled(ttl: Duration, scale: f64) -> Duration {
    // Exact where nothing is to be scaled; elsewhere f64 keeps 15 digits, which is below a microsecond in a century.
    if (scale - 1.0).abs() < f64::EPSILON {
        return ttl;
    }
    Duration::try_from_secs_f64(ttl.as_secs_f64() * scale).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

    fn scale(scale: f64) -> Scale {
        Scale::new(scale, 1).expect("a usable scale")
    }

    #[test]
    fn a_promoted_copy_never_outlives_its_source() {
        // Story: 100 s in an L4 (scale 8) once became 800 s in L1.
        let hundred = Some(Duration::from_secs(100));
        assert_eq!(promoted(hundred, scale(8.0), scale(1.0)), Duration::from_millis(12_500));
        assert_eq!(promoted(hundred, scale(1.0), scale(8.0)), Duration::from_secs(100));
        assert_eq!(promoted(hundred, scale(2.0), scale(2.0)), Duration::from_secs(100));
        assert_eq!(promoted(None, scale(8.0), scale(1.0)), Duration::from_secs(300));
    }

    #[test]
    fn scales_that_are_not_finite_and_positive_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1.0] {
            let error = Scale::new(bad, 3).expect_err("refused");
            assert!(error.to_string().contains("tier 3"), "{error}");
        }
    }

    #[test]
    fn extreme_products_saturate() {
        assert_eq!(scale(1e300).apply(CENTURY), Duration::MAX);
        assert_eq!(scale(f64::MIN_POSITIVE).apply(CENTURY), Duration::ZERO);
        assert_eq!(scale(1.0).apply(Duration::MAX), Duration::MAX);
        assert_eq!(scale(8.0).apply(Duration::MAX), Duration::MAX);
    }
}
