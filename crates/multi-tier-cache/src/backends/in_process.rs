//! The asynchronous contracts of a store inside this process, on top of its synchronous face.

use std::time::Duration;

use bytes::Bytes;

use crate::backends::glob::Glob;
use crate::clock::Clock;
use crate::entry::Entry;
use crate::error::CacheResult;
use crate::traits::{Capabilities, InProcess};

pub(super) const CAPABILITIES: Capabilities =
    Capabilities::TTL.and(Capabilities::PATTERN).and(Capabilities::BATCH).and(Capabilities::CLEAR);

pub(super) fn get(store: &impl InProcess, key: &str) -> CacheResult<Option<Bytes>> {
    store.lookup(key).map(|entry| entry.bytes()).transpose()
}

pub(super) fn get_with_ttl(
    store: &impl InProcess,
    clock: &Clock,
    key: &str,
) -> CacheResult<Option<(Bytes, Option<Duration>)>> {
    let Some(entry) = store.lookup(key) else { return Ok(None) };
    match entry.remaining(clock.now()) {
        // The deadline came between the lookup and this second look at the clock.
        Some(Duration::ZERO) => Ok(None),
        remaining => Ok(Some((entry.bytes()?, remaining))),
    }
}

pub(super) fn set(store: &impl InProcess, clock: &Clock, key: &str, value: Bytes, ttl: Duration) {
    if ttl.is_zero() {
        store.evict(key);
    } else {
        let now = clock.now();
        store.store(&key.into(), Entry::from_bytes(value, now.after(ttl)).born_at(now));
    }
}

pub(super) fn remove_pattern(store: &impl InProcess, pattern: &str) {
    let glob = Glob::new(pattern);
    store.evict_where(&|key| glob.matches(key));
}

/// Implements `CacheBackend` and `L2CacheBackend` for a type with `InProcess` and a field `clock`.
///
/// The bodies are `async` blocks so that a future which is never polled changes nothing.
macro_rules! in_process_backend {
    ($backend:ty, $name:literal) => {
        impl $crate::traits::CacheBackend for $backend {
            fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
                Box::pin(async move { $crate::backends::in_process::get(self, key).ok().flatten() })
            }

            fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
                Box::pin(async move {
                    $crate::backends::in_process::set(self, &self.clock, key, value, ttl);
                    Ok(())
                })
            }

            fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
                Box::pin(async move {
                    self.evict(key);
                    Ok(())
                })
            }

            fn health_check(&self) -> BoxFuture<'_, bool> {
                Box::pin(std::future::ready(true))
            }

            fn name(&self) -> &'static str {
                $name
            }

            fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
                Box::pin(async move {
                    $crate::backends::in_process::remove_pattern(self, pattern);
                    Ok(())
                })
            }

            fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
                Box::pin(async move { $crate::backends::in_process::get(self, key) })
            }

            fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
                Box::pin(async move {
                    self.evict_where(&|_| true);
                    Ok(())
                })
            }

            fn capabilities(&self) -> $crate::traits::Capabilities {
                $crate::backends::in_process::CAPABILITIES
            }

            fn concrete(self: Arc<Self>) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
                Some(self)
            }

            fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
                Some(self)
            }
        }

        impl $crate::traits::L2CacheBackend for $backend {
            fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
                Box::pin(
                    async move { $crate::backends::in_process::get_with_ttl(self, &self.clock, key).ok().flatten() },
                )
            }

            fn try_get_with_ttl<'a>(
                &'a self,
                key: &'a str,
            ) -> BoxFuture<'a, CacheResult<Option<(Bytes, Option<Duration>)>>> {
                Box::pin(async move { $crate::backends::in_process::get_with_ttl(self, &self.clock, key) })
            }
        }
    };
}
pub(super) use in_process_backend;
