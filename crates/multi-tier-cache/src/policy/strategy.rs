//! Named times to live.

use std::time::Duration;

use crate::defaults;

/// How long a value is kept.
#[derive(Debug, Clone, Default)]
pub enum CacheStrategy {
    /// 10 seconds.
    RealTime,
    /// 5 minutes.
    ShortTerm,
    /// 1 hour.
    MediumTerm,
    /// 3 hours.
    LongTerm,
    /// This long. Zero stores nothing, and a put of it removes the key; a century is fine.
    Custom(Duration),
    /// 5 minutes.
    #[default]
    Default,
}

impl CacheStrategy {
    /// The time to live, before a tier's scale.
    #[must_use]
    pub fn to_duration(&self) -> Duration {
        match self {
            Self::RealTime => Duration::from_secs(10),
            Self::ShortTerm | Self::Default => defaults::TTL,
            Self::MediumTerm => Duration::from_secs(60 * 60),
            Self::LongTerm => Duration::from_secs(3 * 60 * 60),
            Self::Custom(ttl) => *ttl,
        }
    }
}
