//! Memcached, as one server or several.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use memcache::exp::{Delete, GetResult, Set};

use crate::backends::memcached::address;
use crate::backends::memcached::item::{ServerKey, ServerTtl};
use crate::backends::memcached::link::{Link, NAME};
use crate::backends::memcached::stats::{self, ServerStats};
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};
use crate::traits::{CacheBackend, Capabilities, L2CacheBackend};

const URL_VARIABLE: &str = "MEMCACHED_URL";
const URL_DEFAULT: &str = "127.0.0.1:11211";

/// A tier on Memcached, shared by every process that uses the same servers.
///
/// Connects at the first operation, to at most [`defaults::MEMCACHED_CONNECTIONS`] connections a server, and again
/// after an outage. Each operation ends within [`defaults::TIER_BUDGET`]; after a failed one, further ones fail at
/// once for [`defaults::BREAKER_WINDOW`]. Dropping a future at any point is safe; whether its write arrived is then
/// not known. With several servers each key lives on one of them, chosen by rendezvous hashing of its name, and the
/// failure of one fails operations on all of them for that window.
///
/// Memcached counts time in whole seconds: a TTL is rounded up, and an entry may be gone up to one second early. The
/// latest deadline it can hold is in January 2038. It can neither remove by pattern nor clear what is ours alone:
/// both are errors. A value above the server's limit (1 MiB unless configured otherwise) is a `BackendError` that no
/// retry mends.
///
/// ```
/// # fn main() -> multi_tier_cache::CacheResult<()> {
/// use multi_tier_cache::{CacheBackend, backends::MemcachedCache};
///
/// let cache = MemcachedCache::with_url("memcache://cache-1:11211,memcache://cache-2:11211")?;
/// assert_eq!(cache.name(), "Memcached");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemcachedCache {
    link: Arc<Link>,
}

impl MemcachedCache {
    /// The servers named in the environment variable `MEMCACHED_URL`, else `127.0.0.1:11211`. Does not connect.
    ///
    /// # Errors
    /// As [`with_url`](Self::with_url).
    pub fn new() -> CacheResult<Self> {
        Self::with_url(&env::var(URL_VARIABLE).unwrap_or_else(|_| URL_DEFAULT.into()))
    }

    /// The servers at `host:port` or `memcache://host:port`, several separated by commas; port 11211 if none is
    /// given. Does not connect.
    ///
    /// # Errors
    /// `ConfigError` if the URL is malformed.
    pub fn with_url(url: &str) -> CacheResult<Self> {
        Ok(Self { link: Arc::new(Link::new(address::parse(url)?)) })
    }

    /// The address of each server and what it tells about itself.
    ///
    /// Blocks the thread for up to two seconds a server; asynchronous code calls
    /// [`server_stats`](Self::server_stats).
    ///
    /// # Errors
    /// `BackendError` if a server does not answer.
    pub fn get_server_stats(&self) -> CacheResult<ServerStats> {
        stats::ask_all(self.link.servers())
    }

    /// As [`get_server_stats`](Self::get_server_stats), without blocking the caller's thread.
    ///
    /// # Errors
    /// `BackendError` if a server does not answer.
    pub async fn server_stats(&self) -> CacheResult<ServerStats> {
        let link = Arc::clone(&self.link);
        let asked = tokio::task::spawn_blocking(move || stats::ask_all(link.servers())).await;
        asked.map_err(|error| CacheError::InternalError(error.to_string()))?
    }

    async fn read(&self, key: &str) -> CacheResult<Option<(Bytes, Option<Duration>)>> {
        let key = ServerKey::of(key);
        let get = key.get();
        let answer = self.link.exchange("get", |client| async move { client.run(get).await }).await?;
        Ok(key.read(answer))
    }

    async fn write(&self, set: Set) -> CacheResult<()> {
        self.link.exchange("set", |client| async move { client.run(set).await }).await?;
        Ok(())
    }

    async fn read_chunk(&self, keys: &[&str], values: &mut Vec<Option<Bytes>>) -> CacheResult<()> {
        let keys: Vec<_> = keys.iter().map(|key| ServerKey::of(key)).collect();
        let gets: Vec<_> = keys.iter().map(ServerKey::get).collect();
        let answers = self.link.exchange("get_many", |client| async move { all(client.run_many(gets).await?) }).await?;
        let answers: Vec<GetResult> = answers;
        values.extend(keys.iter().zip(answers).map(|(key, answer)| key.read(answer).map(|(value, _)| value)));
        Ok(())
    }

    async fn write_chunk(&self, sets: Vec<Set>) -> CacheResult<()> {
        self.link.exchange("set_many", |client| async move { all(client.run_many(sets).await?) }).await?;
        Ok(())
    }
}

/// Every answer of a batch, or the first error.
fn all<T, E>(answers: Vec<Result<T, E>>) -> Result<Vec<T>, E> {
    answers.into_iter().collect()
}

impl CacheBackend for MemcachedCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.read(key).await.ok().flatten().map(|(value, _)| value) })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            match ServerTtl::of(ttl) {
                Some(ttl) => self.write(ServerKey::of(key).set(&value, ttl)).await,
                None => self.remove(key).await,
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            let delete = Delete::new(ServerKey::of(key).name());
            self.link.exchange("remove", |client| async move { client.run(delete).await }).await?;
            Ok(())
        })
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(
            async move { self.link.probe("health_check", |client| async move { client.noop().await }).await.is_ok() },
        )
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(async move { Ok(self.read(key).await?.map(|(value, _)| value)) })
    }

    /// One round trip for every [`defaults::KEY_CHUNK`] keys.
    fn get_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<Bytes>>>> {
        Box::pin(async move {
            let mut values = Vec::with_capacity(keys.len());
            for chunk in keys.chunks(defaults::KEY_CHUNK) {
                self.read_chunk(chunk, &mut values).await?;
            }
            Ok(values)
        })
    }

    /// One round trip for every [`defaults::KEY_CHUNK`] pairs or [`defaults::MEMCACHED_CHUNK_BYTES`] bytes.
    fn set_many<'a>(&'a self, pairs: &'a [(&'a str, Bytes)], ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            let Some(ttl) = ServerTtl::of(ttl) else {
                let keys: Vec<_> = pairs.iter().map(|(key, _)| *key).collect();
                return self.remove_many(&keys).await;
            };
            let (mut sets, mut bytes) = (Vec::new(), 0);
            for (key, value) in pairs {
                if sets.len() == defaults::KEY_CHUNK || bytes + value.len() > defaults::MEMCACHED_CHUNK_BYTES {
                    self.write_chunk(std::mem::take(&mut sets)).await?;
                    bytes = 0;
                }
                bytes += value.len();
                sets.push(ServerKey::of(key).set(value, ttl));
            }
            self.write_chunk(sets).await
        })
    }

    /// One round trip for every [`defaults::KEY_CHUNK`] keys.
    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            for chunk in keys.chunks(defaults::KEY_CHUNK) {
                let deletes: Vec<_> = chunk.iter().map(|key| Delete::new(ServerKey::of(key).name())).collect();
                self.link.exchange("remove_many", |client| async move { all(client.run_many(deletes).await?) }).await?;
            }
            Ok(())
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::TTL.and(Capabilities::BATCH).and(Capabilities::SHARED).and(Capabilities::BUDGETED)
    }
}

impl L2CacheBackend for MemcachedCache {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move { self.read(key).await.ok().flatten() })
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<(Bytes, Option<Duration>)>>> {
        Box::pin(self.read(key))
    }
}

impl fmt::Debug for MemcachedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedCache").field("servers", &self.link.servers()).finish_non_exhaustive()
    }
}
