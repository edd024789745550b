//! How values are stored: their keys, and their time to live in milliseconds.

use std::borrow::Cow;
use std::time::Duration;

use super::config::RESERVED;
use crate::error::{CacheError, CacheResult};

/// Ten thousand years: Redis refuses an expiry whose end does not fit into 63 bits of milliseconds since 1970.
const LONGEST_TTL_MS: u64 = 315_360_000_000_000;

/// The server's name of `key`; `None` for the library's own keys, which without a prefix are nobody's.
pub(crate) fn server_key<'k>(prefix: &str, key: &'k str) -> Option<Cow<'k, str>> {
    if !prefix.is_empty() {
        return Some(Cow::Owned(format!("{prefix}{key}")));
    }
    (!key.starts_with(RESERVED)).then_some(Cow::Borrowed(key))
}

/// [`server_key`] of a key that must have one.
///
/// # Errors
/// `ConfigError` for the library's own keys.
pub(crate) fn own_key<'k>(prefix: &str, key: &'k str) -> CacheResult<Cow<'k, str>> {
    server_key(prefix, key).ok_or_else(|| {
        CacheError::ConfigError(format!(
            "keys that begin with `{RESERVED}` are reserved; choose others or set a key prefix"
        ))
    })
}

/// `ttl` as Redis takes it, a started millisecond counting whole; `None` for zero.
pub(crate) fn milliseconds(ttl: Duration) -> Option<u64> {
    let whole = ttl.as_nanos().div_ceil(1_000_000);
    (whole > 0).then(|| u64::try_from(whole).unwrap_or(u64::MAX).min(LONGEST_TTL_MS))
}

/// What PTTL said of a value that was found: -1 is no expiry; 0, and -2 for a value written after PTTL, are given the
/// least there is, so that no copy outlives it.
pub(crate) fn remaining(ttl: i64) -> Option<Duration> {
    (ttl != -1).then(|| Duration::from_millis(u64::try_from(ttl).unwrap_or(1).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_and_capped() {
        assert_eq!(milliseconds(Duration::ZERO), None);
        assert_eq!(milliseconds(Duration::from_nanos(1)), Some(1));
        assert_eq!(milliseconds(Duration::from_micros(1_001)), Some(2));
        assert_eq!(milliseconds(Duration::from_secs(100 * 366 * 86_400)), Some(3_162_240_000_000));
        assert_eq!(milliseconds(Duration::MAX), Some(LONGEST_TTL_MS));
    }

    #[test]
    fn a_value_without_a_told_ttl_is_given_the_least() {
        assert_eq!(remaining(-1), None);
        assert_eq!(remaining(-2), Some(Duration::from_millis(1)));
        assert_eq!(remaining(0), Some(Duration::from_millis(1)));
        assert_eq!(remaining(1_500), Some(Duration::from_millis(1_500)));
    }
}
