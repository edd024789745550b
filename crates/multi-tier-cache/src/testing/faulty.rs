//! A tier that fails or hangs when it is told to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{CacheError, CacheResult, Failure};
use crate::traits::{CacheBackend, Capabilities, L2CacheBackend, ValueAndTtl};

/// What a [`Faulty`] tier does with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// It carries it out.
    #[default]
    None,
    /// It fails at once, as one that may work later, and nothing is done.
    Fail,
    /// It does not answer until it is told something else.
    Hang,
    /// It carries it out, and loses the answer: the caller gets an error.
    LoseAnswer,
}

/// A tier in front of another one, to be awaited even if that is in process, which fails or hangs by a script.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use multi_tier_cache::testing::{Fault, Faulty};
/// use multi_tier_cache::{Arc, Bytes, CacheStrategy, CacheSystemBuilder, DashMapCache};
///
/// let l2 = Faulty::new(Arc::new(DashMapCache::new()));
/// let system = CacheSystemBuilder::new().with_l2(l2.clone()).build().await?;
/// let cache = system.cache_manager();
/// l2.script([Fault::Fail]);
/// assert!(cache.get("k").await.is_err(), "an outage is not a miss");
/// # Ok(())
/// # }
/// ```
pub struct Faulty {
    inner: Arc<dyn L2CacheBackend>,
    script: Mutex<VecDeque<Fault>>,
    /// What is done once the script has ended; whoever hangs waits for a change.
    always: watch::Sender<Fault>,
    operations: watch::Sender<u64>,
}

impl Faulty {
    /// A tier without faults, until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn L2CacheBackend>) -> Arc<Self> {
        let (always, operations) = (watch::Sender::new(Fault::None), watch::Sender::new(0));
        Arc::new(Self { inner, script: Mutex::default(), always, operations })
    }

    /// What is done with every operation from now on, those that hang included; ends the script.
    pub fn always(&self, fault: Fault) {
        self.script.lock().clear();
        self.always.send_replace(fault);
    }

    /// What is done with the next operations, one after the other; then again what is [always](Self::always) done.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().extend(faults);
    }

    /// Operations that have arrived so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        *self.operations.borrow()
    }

    /// Waits until so many operations have arrived.
    pub async fn arrived(&self, operations: u64) {
        // The sender lives as long as `self`.
        let _ = self.operations.subscribe().wait_for(|arrived| *arrived >= operations).await;
    }

    async fn perform<R>(&self, work: impl Future<Output = CacheResult<R>>) -> CacheResult<R> {
        let mut changes = self.always.subscribe();
        self.operations.send_modify(|arrived| *arrived += 1);
        let mut fault = self.script.lock().pop_front().unwrap_or_else(|| *changes.borrow_and_update());
        while fault == Fault::Hang {
            let _ = changes.changed().await;
            fault = *changes.borrow_and_update();
        }
        let told =
            || Err(CacheError::BackendError(Failure::new("it was told to fail").in_tier(self.name()).retryable()));
        match fault {
            Fault::None => work.await,
            Fault::LoseAnswer => work.await.and_then(|_| told()),
            Fault::Fail | Fault::Hang => told(),
        }
    }
}

impl CacheBackend for Faulty {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async { self.try_get(key).await.ok().flatten() })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.perform(self.inner.set_with_ttl(key, value, ttl)))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.perform(self.inner.remove(key)))
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { self.perform(async { Ok(self.inner.health_check().await) }).await.unwrap_or(false) })
    }

    fn name(&self) -> &'static str {
        "Faulty"
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.perform(self.inner.remove_pattern(pattern)))
    }

    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(self.perform(self.inner.try_get(key)))
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<Vec<Option<Bytes>>>> {
        Box::pin(self.perform(self.inner.get_many(keys)))
    }

    fn set_many<'a>(&'a self, pairs: &'a [(&'a str, Bytes)], ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.perform(self.inner.set_many(pairs, ttl)))
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.perform(self.inner.remove_many(keys)))
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        Box::pin(self.perform(self.inner.clear()))
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

impl L2CacheBackend for Faulty {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<ValueAndTtl>> {
        Box::pin(async { self.try_get_with_ttl(key).await.ok().flatten() })
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<ValueAndTtl>>> {
        Box::pin(self.perform(self.inner.try_get_with_ttl(key)))
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty")
            .field("inner", &self.inner.name())
            .field("always", &*self.always.borrow())
            .field("operations", &self.operations())
            .finish_non_exhaustive()
    }
}
