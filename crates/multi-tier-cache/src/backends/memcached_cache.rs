//! Memcached, as one server or several.

use std::any::Any;
use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};

use crate::backends::memcached::address;
use crate::backends::memcached::item::{ServerKey, ServerTtl};
use crate::backends::memcached::link::{Link, NAME};
use crate::backends::memcached::servers::Servers;
use crate::backends::memcached::stats::{self, ServerStats};
use crate::defaults;
use crate::error::{CacheError, CacheResult};
use crate::traits::{CacheBackend, Capabilities, L2CacheBackend, ValueAndTtl};

const URL_VARIABLE: &str = "MEMCACHED_URL";
const URL_DEFAULT: &str = "127.0.0.1:11211";

/// A tier on Memcached, shared by every process that uses the same servers.
///
/// Connects at the first operation, to at most [`defaults::MEMCACHED_CONNECTIONS`] connections a server for each Tokio
/// runtime, and again after an outage. Each round trip ends within [`defaults::TIER_BUDGET`]; after one that failed,
/// further ones fail at once for [`defaults::BREAKER_WINDOW`]. Dropping a future at any point is safe; whether its
/// write arrived is then not known. With several servers each key lives on one of them, chosen by rendezvous hashing
/// of its name; one that fails takes only its own keys with it, and the batches that hold one of them.
///
/// Memcached counts time in whole seconds: a TTL is rounded up to them, and its clock may end an entry up to one second
/// early. The remaining TTL that is reported is never above what was asked. The latest deadline is in January 2038.
/// It can neither remove by pattern nor clear what is ours alone: both are errors. A value above the server's limit
/// (1 MiB unless configured otherwise) is a `BackendError` that no retry mends.
///
/// As the nearest shared tier it lets one instance load a key at a time, and refuses what was loaded before a removal.
/// That takes its CAS: started with `-C` it keeps puts, but nothing that was loaded. It keeps no log of invalidations:
/// what other instances hold in process ends with its TTL.
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
    servers: Arc<Servers>,
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
        Ok(Self { servers: Arc::new(Servers::new(address::parse(url)?)) })
    }

    /// The address of each server and what it tells about itself.
    ///
    /// Blocks the thread, for up to two seconds a server beside resolving its name; asynchronous code calls
    /// [`server_stats`](Self::server_stats).
    ///
    /// # Errors
    /// `BackendError` if a server does not answer.
    pub fn get_server_stats(&self) -> CacheResult<ServerStats> {
        stats::ask_all(&self.servers)
    }

    /// As [`get_server_stats`](Self::get_server_stats), without blocking the caller's thread.
    ///
    /// # Errors
    /// `BackendError` if a server does not answer.
    pub async fn server_stats(&self) -> CacheResult<ServerStats> {
        let servers = Arc::clone(&self.servers);
        let asked = tokio::task::spawn_blocking(move || stats::ask_all(&servers)).await;
        asked.map_err(|error| CacheError::InternalError(error.to_string()))?
    }

    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }

    async fn read(&self, key: &str) -> CacheResult<Option<(Bytes, Option<Duration>)>> {
        let key = ServerKey::of(key);
        let get = key.get();
        let link = self.servers.of(key.name())?;
        let answer = link.exchange("get", |client| async move { client.run(get).await }).await?;
        Ok(key.read(answer))
    }

    async fn read_many(&self, keys: &[&str]) -> CacheResult<Vec<Option<ValueAndTtl>>> {
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(defaults::KEY_CHUNK) {
            let keys: Vec<_> = chunk.iter().map(|key| ServerKey::of(key)).collect();
            let gets = keys.iter().map(|key| (self.servers.place(key.name()), key.get())).collect();
            let answers = self.servers.batch("get_many", gets).await?;
            values.extend(keys.iter().zip(answers).map(|(key, answer)| key.read(answer)));
        }
        Ok(values)
    }

    async fn write(&self, key: &str, value: &[u8], ttl: ServerTtl) -> CacheResult<()> {
        let key = ServerKey::of(key);
        let set = key.set(value, ttl);
        let link = self.servers.of(key.name())?;
        link.exchange("set", |client| async move { client.run(set).await }).await?;
        Ok(())
    }

    async fn delete(&self, key: &str) -> CacheResult<()> {
        let key = ServerKey::of(key);
        let delete = key.delete();
        let link = self.servers.of(key.name())?;
        link.exchange("remove", |client| async move { client.run(delete).await }).await?;
        Ok(())
    }

    /// Whether every server answers.
    async fn answers(&self) -> bool {
        let probes = self.servers.links().iter().map(|link| async move {
            link.probe("health_check", |client| async move { client.noop().await }).await.is_ok()
        });
        join_all(probes).await.into_iter().all(|answered| answered)
    }
}

impl CacheBackend for MemcachedCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.read(key).await.ok().flatten().map(|(value, _)| value) })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            match ServerTtl::of(ttl) {
                Some(ttl) => self.write(key, &value, ttl).await,
                None => self.delete(key).await,
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.delete(key))
    }

    /// Whether every server answers now, however recently one failed.
    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.answers())
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
            let values = self.read_many(keys).await?;
            Ok(values.into_iter().map(|found| found.map(|(value, _)| value)).collect())
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
                    self.servers.batch("set_many", std::mem::take(&mut sets)).await?;
                    bytes = 0;
                }
                bytes += value.len();
                let key = ServerKey::of(key);
                sets.push((self.servers.place(key.name()), key.set(value, ttl)));
            }
            self.servers.batch("set_many", sets).await?;
            Ok(())
        })
    }

    /// One round trip for every [`defaults::KEY_CHUNK`] keys.
    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            for chunk in keys.chunks(defaults::KEY_CHUNK) {
                let keys = chunk.iter().map(|key| ServerKey::of(key));
                let deletes = keys.map(|key| (self.servers.place(key.name()), key.delete())).collect();
                self.servers.batch("remove_many", deletes).await?;
            }
            Ok(())
        })
    }

    fn concrete(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::TTL
            .and(Capabilities::BATCH)
            .and(Capabilities::CONDITIONAL_FILL)
            .and(Capabilities::SHARED)
            .and(Capabilities::BUDGETED)
    }
}

impl L2CacheBackend for MemcachedCache {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move { self.read(key).await.ok().flatten() })
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<(Bytes, Option<Duration>)>>> {
        Box::pin(self.read(key))
    }

    /// One round trip for every [`defaults::KEY_CHUNK`] keys.
    fn get_many_with_ttl<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<ValueAndTtl>>>> {
        Box::pin(self.read_many(keys))
    }
}

impl fmt::Debug for MemcachedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.servers.links().iter().map(Link::address).collect();
        f.debug_struct("MemcachedCache").field("servers", &addresses).finish_non_exhaustive()
    }
}
