//! A first tier in parts: some caches have a store of their own, so that none of them is pushed out by the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};

use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::traits::{CacheBackend, Capabilities, InProcess, Usage};

/// Stores by what keys begin with, and one for all other keys.
pub(crate) struct Regions {
    parts: Vec<Part>,
    rest: Part,
}

struct Part {
    /// What its keys begin with.
    beginning: Box<str>,
    backend: Arc<dyn CacheBackend>,
    face: Arc<dyn InProcess>,
}

impl Regions {
    /// `rest` in front, with a part of its own for each of `regions`: what its keys begin with, and its store.
    ///
    /// # Errors
    /// `ConfigError` if one of them is not a store inside this process.
    pub(crate) fn new(rest: Arc<dyn CacheBackend>, regions: Vec<(String, Arc<dyn CacheBackend>)>) -> CacheResult<Self> {
        let part = |(beginning, backend): (String, Arc<dyn CacheBackend>)| {
            let Some(face) = Arc::clone(&backend).in_process() else {
                let name = backend.name();
                return Err(CacheError::ConfigError(format!(
                    "{name} is not a store inside this process, as a first tier with regions needs; use QuickCache, \
                     Moka or DashMap"
                )));
            };
            Ok(Part { beginning: beginning.into(), backend, face })
        };
        Ok(Self {
            parts: regions.into_iter().map(part).collect::<CacheResult<_>>()?,
            rest: part((String::new(), rest))?,
        })
    }

    #[inline]
    fn part(&self, key: impl AsRef<[u8]>) -> &Part {
        let key = key.as_ref();
        self.parts.iter().find(|part| key.starts_with(part.beginning.as_bytes())).unwrap_or(&self.rest)
    }

    fn all(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain([&self.rest])
    }
}

impl InProcess for Regions {
    #[inline]
    fn lookup(&self, key: &str) -> Option<Entry> {
        self.part(key).face.lookup(key)
    }

    #[inline]
    fn visit(&self, key: &[u8], visitor: &mut dyn FnMut(&Entry)) {
        self.part(key).face.visit(key, visitor);
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        self.part(&**key).face.store(key, entry);
    }

    fn evict(&self, key: &str) {
        self.part(key).face.evict(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        self.all().for_each(|part| part.face.evict_where(matches));
    }

    fn usage(&self) -> Usage {
        self.parts.iter().fold(self.rest.face.usage(), |usage, part| usage.and(part.face.usage()))
    }
}

impl CacheBackend for Regions {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        self.part(key).backend.get(key)
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.part(key).backend.set_with_ttl(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.part(key).backend.remove(key)
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            join_all(self.all().map(|part| part.backend.health_check())).await.into_iter().all(|well| well)
        })
    }

    fn name(&self) -> &'static str {
        self.rest.backend.name()
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async {
            let removals = self.all().map(|part| part.backend.remove_pattern(pattern));
            join_all(removals).await.into_iter().collect()
        })
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        Box::pin(async { join_all(self.all().map(|part| part.backend.clear())).await.into_iter().collect() })
    }

    fn capabilities(&self) -> Capabilities {
        self.rest.backend.capabilities()
    }

    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        Some(self)
    }
}
