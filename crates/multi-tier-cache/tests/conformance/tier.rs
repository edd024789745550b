//! A tier whose reads can be held; it stays what it is to the engine, its coordinator included.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use multi_tier_cache::traits::ValueAndTtl;
use multi_tier_cache::{Bytes, CacheBackend, CacheResult, Capabilities, L2CacheBackend};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::common::PATIENCE;

/// The shared tier as one instance sees it.
pub(crate) struct Tier {
    inner: Arc<dyn L2CacheBackend>,
    holds: Mutex<Vec<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
    reads: AtomicUsize,
}

/// A read whose answer is on its way.
pub(crate) struct HeldRead {
    reached: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl HeldRead {
    pub(crate) async fn reached(&mut self) {
        timeout(PATIENCE, &mut self.reached).await.unwrap().unwrap();
    }

    pub(crate) fn release(self) {
        let _ = self.release.send(());
    }
}

impl Tier {
    pub(crate) fn around(inner: Arc<dyn L2CacheBackend>) -> Arc<Self> {
        Arc::new(Self { inner, holds: Mutex::default(), reads: AtomicUsize::default() })
    }

    /// Holds the answer of the next read.
    pub(crate) fn hold_read(&self) -> HeldRead {
        let (reached, was_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        self.holds.lock().push((reached, released));
        HeldRead { reached: was_reached, release }
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    async fn answer<R>(&self, read: impl Future<Output = R>) -> R {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let held = {
            let mut holds = self.holds.lock();
            if holds.is_empty() { None } else { Some(holds.remove(0)) }
        };
        let answer = read.await;
        if let Some((reached, released)) = held {
            let _ = reached.send(());
            let _ = released.await;
        }
        answer
    }
}

impl CacheBackend for Tier {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(self.answer(self.inner.get(key)))
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.inner.set_with_ttl(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.inner.remove(key)
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        self.inner.health_check()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.inner.remove_pattern(pattern)
    }

    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(self.answer(self.inner.try_get(key)))
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        self.inner.remove_many(keys)
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        self.inner.clear()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn concrete(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Arc::clone(&self.inner).concrete()
    }
}

impl L2CacheBackend for Tier {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<ValueAndTtl>> {
        Box::pin(self.answer(self.inner.get_with_ttl(key)))
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<ValueAndTtl>>> {
        Box::pin(self.answer(self.inner.try_get_with_ttl(key)))
    }
}
