//! A tier below the coordinator: another Redis that all instances share, and that knows no leases.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use multi_tier_cache::traits::ValueAndTtl;
use multi_tier_cache::{CacheBackend, CacheResult, Capabilities, L2CacheBackend, RedisCache};

/// A [`RedisCache`] that does not say what it is, so that nothing coordinates through it.
pub(crate) struct Colder(pub(crate) RedisCache);

impl CacheBackend for Colder {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        self.0.get(key)
    }

    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        self.0.try_get(key)
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.0.set_with_ttl(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.0.remove(key)
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.0.remove_pattern(pattern)
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        self.0.remove_many(keys)
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        self.0.clear()
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        self.0.health_check()
    }

    fn name(&self) -> &'static str {
        "colder"
    }

    fn capabilities(&self) -> Capabilities {
        let kept = [
            Capabilities::BATCH,
            Capabilities::TTL,
            Capabilities::PATTERN,
            Capabilities::SHARED,
            Capabilities::BUDGETED,
            Capabilities::CLEAR,
        ];
        kept.into_iter().fold(Capabilities::NONE, Capabilities::and)
    }
}

impl L2CacheBackend for Colder {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<ValueAndTtl>> {
        self.0.get_with_ttl(key)
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<ValueAndTtl>>> {
        self.0.try_get_with_ttl(key)
    }
}
