//! The Redis tier: values as they are under `{prefix}{key}`, with Redis's own expiry.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use redis::{Cmd, FromRedisValue, RedisError, Value, cmd, pipe};

use super::redis::address::RedisAddress;
use super::redis::config::RedisConfig;
use super::redis::connection::Supervisor;
use super::redis::scan::{KeyPattern, remove_raw};
use super::redis::stored::{milliseconds, own_key, remaining, server_key};
use crate::defaults;
use crate::error::CacheResult;
use crate::traits::{CacheBackend, Capabilities, L2CacheBackend, ValueAndTtl};

const NAME: &str = "Redis";
/// A tier in a Redis server.
///
/// Cheap to clone; clones share the connection. Values are raw bytes (`GET`, `SET … PX`), so any Redis client sees
/// the same store. Each operation ends within a budget (1 s by default); while the server is away operations fail at
/// once, and a background task reconnects without limit. An operation whose future is dropped may still take effect.
#[derive(Clone)]
pub struct RedisCache {
    config: RedisConfig,
    server: Supervisor,
}

impl RedisCache {
    /// A cache in the server named by the environment variable `REDIS_URL`, else by `REDIS_URL` in a `.env` file,
    /// else in `redis://127.0.0.1:6379`. Connected at return if the server answers within 250 ms; an unreachable
    /// server is not an error.
    ///
    /// # Errors
    /// `ConfigError` if the URL found is malformed.
    pub async fn new() -> CacheResult<Self> {
        Self::connected(RedisConfig::default()).await
    }

    /// [`new`](Self::new) with the server at `url`: `redis://[[user]:password@]host[:port][/database]`, `rediss://` for
    /// TLS.
    ///
    /// # Errors
    /// `ConfigError` if `url` is malformed.
    pub async fn with_url(url: &str) -> CacheResult<Self> {
        Self::connected(RedisConfig::default().with_url(url)).await
    }

    pub(crate) async fn connected(config: RedisConfig) -> CacheResult<Self> {
        let cache = Self::with_config(config)?;
        cache.server.start_and_wait(defaults::EAGER_CONNECT_WAIT).await;
        Ok(cache)
    }

    /// A cache with these options. Connects at the first use, on whatever Tokio runtime that happens, unless
    /// [`eager`](RedisConfig::eager); needs no runtime itself.
    ///
    /// # Errors
    /// `ConfigError` if the URL, the prefix, the budget or the certificate cannot be used.
    pub fn with_config(config: RedisConfig) -> CacheResult<Self> {
        config.validate()?;
        let address = RedisAddress::resolve(config.url.as_deref())?;
        let server = Supervisor::new(&address, config.budget, config.root_certificate.as_deref())?;
        if config.eager {
            server.start();
        }
        Ok(Self { config, server })
    }

    /// Closes the connections of this cache, its clones and its [streams](crate::redis_streams::RedisStreams::beside)
    /// and ends their background tasks. Operations are errors from then on.
    pub fn close(&self) {
        self.server.close();
    }

    /// What is put before every key.
    pub(crate) fn prefix(&self) -> &str {
        &self.config.prefix
    }

    /// The connection, for what else the library does in the same server.
    pub(crate) fn server(&self) -> &Supervisor {
        &self.server
    }

    /// The keys that match a Redis glob `pattern`, without the prefix, each once, in no order. Keys that are not UTF-8
    /// and the library's own (`mtc:`) are left out. Keys written or removed meanwhile may be missing or present.
    ///
    /// # Errors
    /// `ConfigError` if there is no prefix and `pattern` does not begin literally; `BackendError` as every operation.
    pub async fn scan_keys(&self, pattern: &str) -> CacheResult<Vec<String>> {
        let pattern = KeyPattern::new(&self.config.prefix, pattern)?;
        let (mut seen, mut keys) = (HashSet::new(), Vec::new());
        let take = |batch: Vec<Vec<u8>>| {
            for key in batch.into_iter().filter_map(|key| String::from_utf8(key).ok()) {
                let key = key.strip_prefix(&self.config.prefix).unwrap_or(&key);
                if seen.insert(key.to_owned()) {
                    keys.push(key.to_owned());
                }
            }
        };
        pattern.scan(&self.server, take).await.map_err(|error| error.at(NAME, "scan_keys"))?;
        Ok(keys)
    }

    /// Removes `keys` and answers how many existed. In several commands when there are more than 500; an error leaves
    /// the later ones in place.
    ///
    /// # Errors
    /// `BackendError` as every operation.
    pub async fn remove_bulk(&self, keys: &[String]) -> CacheResult<usize> {
        let keys: Vec<_> = keys.iter().filter_map(|key| self.key(key)).collect();
        remove_raw(&self.server, &as_bytes(&keys)).await.map_err(|error| error.at(NAME, "remove_bulk"))
    }

    fn key<'k>(&self, key: &'k str) -> Option<Cow<'k, str>> {
        server_key(&self.config.prefix, key)
    }

    fn own_key<'k>(&self, key: &'k str) -> CacheResult<Cow<'k, str>> {
        own_key(&self.config.prefix, key)
    }

    async fn read(&self, key: &str, with_ttl: bool) -> CacheResult<Option<ValueAndTtl>> {
        let Some(key) = self.key(key) else { return Ok(None) };
        self.server.read(&key, with_ttl).await
    }

    async fn value(&self, key: &str) -> CacheResult<Option<Bytes>> {
        Ok(self.read(key, false).await?.map(|(value, _)| value))
    }

    async fn read_many(&self, keys: &[&str]) -> CacheResult<Vec<Option<Bytes>>> {
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(defaults::READ_CHUNK) {
            let mut mget = cmd("MGET");
            for key in chunk {
                mget.arg(self.own_key(key)?);
            }
            values.extend(self.server.query::<Vec<Option<Bytes>>>(&mget).await?);
        }
        Ok(values)
    }

    async fn read_many_with_ttl(&self, keys: &[&str]) -> CacheResult<Vec<Option<ValueAndTtl>>> {
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(defaults::READ_CHUNK) {
            // The TTLs first, as a read of one key has it.
            let (mut both, mut mget) = (pipe(), cmd("MGET"));
            for key in chunk {
                let key = self.own_key(key)?;
                both.cmd("PTTL").arg(&*key);
                mget.arg(&*key);
            }
            both.add_command(mget);
            let mut answers = self.server.pipeline::<Vec<Value>>(&both).await?;
            let found = answers.pop().map_or(Ok(Vec::new()), read::<Vec<Option<Bytes>>>)?;
            for (ttl, value) in answers.into_iter().zip(found) {
                let ttl = remaining(read(ttl)?);
                values.push(value.map(|value| (value, ttl)));
            }
        }
        Ok(values)
    }

    async fn write(&self, key: &str, value: &[u8], ttl: Duration) -> CacheResult<()> {
        match milliseconds(ttl) {
            Some(ttl) => self.server.query(&set(&self.own_key(key)?, value, ttl)).await,
            None => self.unlink([key].into_iter()).await,
        }
    }

    async fn write_many(&self, pairs: &[(&str, Bytes)], ttl: Duration) -> CacheResult<()> {
        let Some(ttl) = milliseconds(ttl) else {
            return self.unlink(pairs.iter().map(|(key, _)| *key)).await;
        };
        for chunk in pairs.chunks(defaults::KEY_CHUNK) {
            let mut sets = pipe();
            for (key, value) in chunk {
                sets.add_command(set(&self.own_key(key)?, value, ttl)).ignore();
            }
            self.server.pipeline::<()>(&sets).await?;
        }
        Ok(())
    }

    async fn unlink(&self, keys: impl Iterator<Item = &str>) -> CacheResult<()> {
        let keys: Vec<_> = keys.filter_map(|key| self.key(key)).collect();
        remove_raw(&self.server, &as_bytes(&keys)).await.map(drop)
    }

    async fn remove_matching(&self, pattern: &str) -> CacheResult<()> {
        KeyPattern::new(&self.config.prefix, pattern)?.remove(&self.server).await
    }

    async fn remove_everything(&self) -> CacheResult<()> {
        KeyPattern::everything(&self.config.prefix)?.remove(&self.server).await
    }
}

fn read<T: FromRedisValue>(answer: Value) -> CacheResult<T> {
    Ok(T::from_redis_value(answer).map_err(RedisError::from)?)
}

fn as_bytes<'k>(keys: &'k [Cow<'_, str>]) -> Vec<&'k [u8]> {
    keys.iter().map(|key| key.as_bytes()).collect()
}

fn set(key: &str, value: &[u8], ttl: u64) -> Cmd {
    let mut set = cmd("SET");
    set.arg(key).arg(value).arg("PX").arg(ttl);
    set
}

impl CacheBackend for RedisCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.value(key).await.ok().flatten() })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move { self.write(key, &value, ttl).await.map_err(|error| error.at(NAME, "set")) })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move { self.unlink([key].into_iter()).await.map_err(|error| error.at(NAME, "remove")) })
    }

    /// Whether the server answers a PING within the budget.
    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.server.query::<()>(&cmd("PING")).await.is_ok() })
    }

    fn name(&self) -> &'static str {
        NAME
    }

    /// Removes every key that matches a Redis glob, in batches of bounded size; an error leaves the rest in place.
    /// The library's own keys (`mtc:`) never match. Without a prefix the pattern must begin literally, else it is a
    /// `ConfigError`.
    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move { self.remove_matching(pattern).await.map_err(|error| error.at(NAME, "remove_pattern")) })
    }

    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(async move { self.value(key).await.map_err(|error| error.at(NAME, "get")) })
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<Bytes>>>> {
        Box::pin(async move { self.read_many(keys).await.map_err(|error| error.at(NAME, "get_many")) })
    }

    fn set_many<'a>(&'a self, pairs: &'a [(&'a str, Bytes)], ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move { self.write_many(pairs, ttl).await.map_err(|error| error.at(NAME, "set_many")) })
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move { self.unlink(keys.iter().copied()).await.map_err(|error| error.at(NAME, "remove_many")) })
    }

    /// Removes everything under the prefix; a `ConfigError` without one.
    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        Box::pin(async move { self.remove_everything().await.map_err(|error| error.at(NAME, "clear")) })
    }

    fn concrete(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        let clear = if self.config.prefix.is_empty() { Capabilities::NONE } else { Capabilities::CLEAR };
        Capabilities::BATCH
            .and(Capabilities::TTL)
            .and(Capabilities::PATTERN)
            .and(Capabilities::CONDITIONAL_FILL)
            .and(Capabilities::SHARED)
            .and(Capabilities::BUDGETED)
            .and(clear)
    }
}

impl L2CacheBackend for RedisCache {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move { self.read(key, true).await.ok().flatten() })
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<(Bytes, Option<Duration>)>>> {
        Box::pin(async move { self.read(key, true).await.map_err(|error| error.at(NAME, "get")) })
    }

    /// One round trip for every [`defaults::READ_CHUNK`] keys.
    fn get_many_with_ttl<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<ValueAndTtl>>>> {
        Box::pin(async move { self.read_many_with_ttl(keys).await.map_err(|error| error.at(NAME, "get_many")) })
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache").field("server", &self.server).field("config", &self.config).finish()
    }
}
