//! Options of a Redis tier.

use std::fmt;
use std::time::Duration;

use super::address::redact_url;
use crate::defaults;
use crate::error::{CacheError, CacheResult};

pub(crate) use crate::defaults::RESERVED;

/// Options of a [`RedisCache`](crate::backends::RedisCache).
///
/// ```
/// use std::time::Duration;
/// use multi_tier_cache::backends::{RedisCache, RedisConfig};
///
/// let config = RedisConfig::default()
///     .with_url("redis://127.0.0.1:6379/2")
///     .with_prefix("shop:")
///     .with_budget(Duration::from_millis(200));
/// let cache = RedisCache::with_config(config)?;
/// # Ok::<(), multi_tier_cache::CacheError>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Address of the server; `None` (the default) looks at the environment variable `REDIS_URL`, then at `REDIS_URL`
    /// in a `.env` file, then takes `redis://127.0.0.1:6379`.
    pub url: Option<String>,
    /// Put before every key. Empty by default; must not begin with `mtc:`.
    pub prefix: String,
    /// Longest time one operation waits for its reply; 1 s by default.
    pub budget: Duration,
    /// Whether to connect at construction (when that happens inside a Tokio runtime) rather than at the first use.
    /// Off by default.
    pub eager: bool,
    /// Certificate authorities (PEM) that replace the system's when the URL is `rediss://`.
    pub root_certificate: Option<Vec<u8>>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        let budget = defaults::TIER_BUDGET;
        Self { url: None, prefix: String::new(), budget, eager: false, root_certificate: None }
    }
}

impl RedisConfig {
    /// Sets [`url`](Self::url).
    #[must_use]
    pub fn with_url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Sets [`prefix`](Self::prefix).
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets [`budget`](Self::budget).
    #[must_use]
    pub fn with_budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Sets [`eager`](Self::eager).
    #[must_use]
    pub fn with_eager(mut self, eager: bool) -> Self {
        self.eager = eager;
        self
    }

    /// Sets [`root_certificate`](Self::root_certificate).
    #[must_use]
    pub fn with_root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificate = Some(pem.into());
        self
    }

    pub(crate) fn validate(&self) -> CacheResult<()> {
        if self.prefix.starts_with(RESERVED) {
            return Err(CacheError::ConfigError(format!(
                "the key prefix begins with `{RESERVED}`, which is reserved: choose another"
            )));
        }
        if self.budget.is_zero() {
            return Err(CacheError::ConfigError("the Redis budget is zero: no operation could finish".to_owned()));
        }
        let no_certificate = |pem: &Vec<u8>| !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----");
        if self.root_certificate.as_ref().is_some_and(no_certificate) {
            return Err(CacheError::ConfigError("the root certificate holds no PEM `BEGIN CERTIFICATE`".to_owned()));
        }
        Ok(())
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &self.url.as_deref().map(redact_url))
            .field("prefix", &self.prefix)
            .field("budget", &self.budget)
            .field("eager", &self.eager)
            .field("root_certificate", &self.root_certificate.as_ref().map(Vec::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_a_configuration_error() {
        for config in [
            RedisConfig::default().with_prefix("mtc:"),
            RedisConfig::default().with_prefix("mtc:mine:"),
            RedisConfig::default().with_budget(Duration::ZERO),
            RedisConfig::default().with_root_certificate("not a certificate"),
        ] {
            assert!(matches!(config.validate(), Err(CacheError::ConfigError(_))), "{config:?}");
        }
        RedisConfig::default().with_prefix("app:").validate().unwrap();
    }

    #[test]
    fn debug_hides_the_password() {
        let text = format!("{:?}", RedisConfig::default().with_url("redis://me:hunter2@host"));
        assert!(!text.contains("hunter2") && text.contains("redis://me:***@host"), "{text}");
    }
}
