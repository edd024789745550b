//! How strictly and by what means instances are kept coherent.

use std::time::Duration;

use crate::defaults;
use crate::error::{CacheError, CacheResult};

/// Options of coherence between instances; everything beyond [`InvalidationConfig`](super::InvalidationConfig).
///
/// ```
/// use std::time::Duration;
/// use multi_tier_cache::invalidation::{CoherenceConfig, CoherenceMode};
///
/// let strict = CoherenceConfig::default().with_mode(CoherenceMode::Strict).with_staleness_bound(Duration::from_secs(1));
/// assert_eq!(strict.poll_interval, Duration::from_millis(500));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoherenceConfig {
    /// An in-process hit reflects every invalidation older than this, whatever was lost on the way; 2 s.
    pub staleness_bound: Duration,
    /// What happens to hits whose freshness cannot be proven within the bound; `Available`.
    pub mode: CoherenceMode,
    /// How long the mode `Available` serves them; 30 s.
    pub staleness_limit: Duration,
    /// Pause between polls of the log; 500 ms. At most a quarter of the bound.
    pub poll_interval: Duration,
    /// Entries that the log keeps for readers that fell behind; 100,000.
    pub log_length: usize,
    /// How long this instance can replay its own invalidations after a failover; 120 s.
    pub journal_window: Duration,
    /// How long a lease on a key lasts; 10 s. It is renewed while its load runs: this is the time after which another
    /// instance takes over when its holder dies.
    pub lease: Duration,
    /// How long a caller waits for another instance's load before it loads as well; 2 s.
    pub wait_budget: Duration,
}

/// What happens to an in-process hit whose freshness is not proven within the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CoherenceMode {
    /// It is served up to the limit, and counted: a Redis that restarts does not empty every L1.
    #[default]
    Available,
    /// It is bypassed.
    Strict,
}

impl Default for CoherenceConfig {
    fn default() -> Self {
        Self {
            staleness_bound: defaults::STALENESS_BOUND,
            mode: CoherenceMode::Available,
            staleness_limit: defaults::STALENESS_LIMIT,
            poll_interval: defaults::POLL_INTERVAL,
            log_length: defaults::LOG_LENGTH,
            journal_window: defaults::JOURNAL_WINDOW,
            lease: defaults::LEASE,
            wait_budget: defaults::WAIT_BUDGET,
        }
    }
}

macro_rules! setters {
    ($($setter:ident $field:ident $kind:ty),+ $(,)?) => {
        impl CoherenceConfig {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $setter(mut self, $field: $kind) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }
    };
}

setters! {
    with_staleness_bound staleness_bound Duration,
    with_mode mode CoherenceMode,
    with_staleness_limit staleness_limit Duration,
    with_poll_interval poll_interval Duration,
    with_log_length log_length usize,
    with_journal_window journal_window Duration,
    with_lease lease Duration,
    with_wait_budget wait_budget Duration,
}

impl CoherenceConfig {
    /// How long unproven hits are served at all.
    pub(crate) fn limit(&self) -> Duration {
        match self.mode {
            CoherenceMode::Available => self.staleness_limit.max(self.staleness_bound),
            CoherenceMode::Strict => self.staleness_bound,
        }
    }

    pub(crate) fn validate(&self) -> CacheResult<()> {
        let refuse = |message: &str| Err(CacheError::ConfigError(message.to_owned()));
        if self.poll_interval.is_zero() || self.poll_interval > self.staleness_bound / 4 {
            return refuse("the poll interval must be above zero and at most a quarter of the staleness bound");
        }
        if self.lease < Duration::from_millis(1) {
            return refuse("a lease must last at least a millisecond: no load could be stored");
        }
        if self.log_length == 0 {
            return refuse("the invalidation log must keep at least one entry");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_a_configuration_error() {
        CoherenceConfig::default().validate().unwrap();
        for config in [
            CoherenceConfig::default().with_poll_interval(Duration::ZERO),
            CoherenceConfig::default()
                .with_staleness_bound(Duration::from_secs(1))
                .with_poll_interval(Duration::from_secs(1)),
            CoherenceConfig::default().with_lease(Duration::ZERO),
            CoherenceConfig::default().with_log_length(0),
        ] {
            assert!(matches!(config.validate(), Err(CacheError::ConfigError(_))), "{config:?}");
        }
    }

    #[test]
    fn strict_serves_nothing_beyond_the_bound() {
        let config = CoherenceConfig::default();
        assert_eq!(config.limit(), Duration::from_secs(30));
        assert_eq!(config.with_mode(CoherenceMode::Strict).limit(), Duration::from_secs(2));
    }
}
