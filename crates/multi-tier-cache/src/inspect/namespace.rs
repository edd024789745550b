//! The names of a namespace's keys in a Redis server.

use crate::backends::redis::config::RedisConfig;
use crate::backends::redis::scan::KeyPattern;
use crate::coordinator::check_channel;
use crate::coordinator::redis::names::{KeyKind, Names};
use crate::error::CacheResult;

/// The keys of the caches that share a prefix and a channel.
///
/// ```
/// use multi_tier_cache::inspect::{KeyKind, Namespace};
///
/// let shop = Namespace::new("shop:", "cache:invalidate")?;
/// assert_eq!(shop.value("users:7")?, "shop:users:7");
/// assert_eq!(shop.log(), "mtc:{cache:invalidate}:5:shop::log");
/// assert_eq!(shop.kind(b"mtc:l:w:{shop:users:7}"), Some(KeyKind::Lease));
/// assert_eq!(shop.kind(b"blog:1"), None);
/// # Ok::<(), multi_tier_cache::CacheError>(())
/// ```
#[derive(Debug)]
pub struct Namespace {
    names: Names,
}

impl Namespace {
    /// The namespace of the caches with this key prefix (that of [`RedisConfig`], empty by default) and this channel
    /// (that of [`InvalidationConfig`](crate::InvalidationConfig)).
    ///
    /// # Errors
    /// `ConfigError` for a prefix or a channel that no cache can have.
    pub fn new(prefix: &str, channel: &str) -> CacheResult<Self> {
        RedisConfig::default().with_prefix(prefix).validate()?;
        check_channel(channel)?;
        Ok(Self { names: Names::new(prefix, channel) })
    }

    /// The namespace whose [`bus`](Self::bus) is called `name`; `None` for any other name.
    #[must_use]
    pub fn of_bus(name: &str) -> Option<Self> {
        Names::of_bus(name).map(|names| Self { names })
    }

    /// What keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.names.prefix
    }

    /// Where messages are published.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.names.channel
    }

    /// The name of `key`'s value.
    ///
    /// # Errors
    /// `ConfigError` for a key that is reserved for the library.
    pub fn value(&self, key: &str) -> CacheResult<String> {
        Ok(self.names.key(key)?.value.into_owned())
    }

    /// The name of `key`'s lease: there while an instance loads it.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn lease(&self, key: &str) -> CacheResult<String> {
        Ok(self.names.key(key)?.lease)
    }

    /// The name of `key`'s tombstone: there for a while after its removal, if there are shared tiers below.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn tombstone(&self, key: &str) -> CacheResult<String> {
        Ok(self.names.key(key)?.tombstone)
    }

    /// The name of the hash with the state of the namespace: see [`Bus`](super::Bus).
    #[must_use]
    pub fn bus(&self) -> &str {
        &self.names.bus
    }

    /// The name of the stream that is the log: see [`LogEntry`](super::LogEntry).
    #[must_use]
    pub fn log(&self) -> &str {
        &self.names.log
    }

    /// The name of a tag's token: see [`holds`](super::holds).
    #[must_use]
    pub fn tag(&self, tag: &str) -> String {
        self.names.tag(tag)
    }

    /// The name of the position of a subscriber of the log.
    #[must_use]
    pub fn group(&self, group: &str) -> String {
        self.names.group(group)
    }

    /// What the key called `name` in the server is to this namespace; `None` if it is not its own. Without a prefix every
    /// key that is not the library's own counts as a value, whoever wrote it.
    #[must_use]
    pub fn kind(&self, name: &[u8]) -> Option<KeyKind> {
        self.names.kind(name)
    }

    /// The key that a cache knows the value called `name` by; `None` if it is not UTF-8 or not the name of a value.
    #[must_use]
    pub fn key<'n>(&self, name: &'n [u8]) -> Option<&'n str> {
        let value = self.kind(name).filter(|kind| *kind == KeyKind::Value).and(str::from_utf8(name).ok());
        value?.strip_prefix(&*self.names.prefix)
    }

    /// The glob for `SCAN … MATCH` that a removal by `pattern` uses. It may match names of other kinds than values; a
    /// removal leaves them alone.
    ///
    /// # Errors
    /// `ConfigError` for a pattern that a removal refuses: without a prefix it must begin literally.
    pub fn glob(&self, pattern: &str) -> CacheResult<String> {
        Ok(KeyPattern::new(&self.names.prefix, pattern)?.into_glob())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_cache_has_are_refused() {
        assert!(Namespace::new("mtc:", "ch").is_err());
        assert!(Namespace::new("shop:", "c}h").is_err());
        let all = Namespace::new("", "ch").unwrap();
        assert!(all.value("mtc:x").is_err());
        assert!(all.glob("*").is_err());
    }

    #[test]
    fn a_key_is_a_value_s_name_without_the_prefix() {
        let shop = Namespace::new("shop:", "ch").unwrap();
        assert_eq!(shop.key(b"shop:users:7"), Some("users:7"));
        assert_eq!(shop.key(b"shop:\xff"), None);
        assert_eq!(shop.key(b"users:7"), None);
        assert_eq!(shop.key(shop.log().as_bytes()), None);
        assert_eq!(shop.glob("user[12]").unwrap(), "shop:user[12]");
    }
}
