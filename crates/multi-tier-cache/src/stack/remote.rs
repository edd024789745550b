//! A tier that is awaited: every operation within a budget, failing fast while the tier is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::breaker::Breaker;
use crate::clock::Clock;
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};
use crate::traits::{Capabilities, L2CacheBackend};

pub(crate) struct Remote {
    backend: Arc<dyn L2CacheBackend>,
    label: String,
    breaker: Option<Breaker>,
    errors: AtomicU64,
}

/// What a read is for: the remaining TTL costs more to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Value,
    ValueAndTtl,
}

impl Remote {
    pub(crate) fn new(backend: Arc<dyn L2CacheBackend>, level: usize, clock: Clock) -> Self {
        let label = format!("L{level} {}", backend.name());
        let breaker = (!backend.capabilities().has(Capabilities::BUDGETED)).then(|| Breaker::new(clock));
        Self { backend, label, breaker, errors: AtomicU64::new(0) }
    }

    pub(crate) async fn get(&self, key: &str, ask: Ask) -> CacheResult<Option<(Bytes, Option<Duration>)>> {
        let read: BoxFuture<'_, _> = match ask {
            Ask::ValueAndTtl => self.backend.try_get_with_ttl(key),
            Ask::Value => {
                let value = self.backend.try_get(key);
                Box::pin(async move { Ok(value.await?.map(|value| (value, None))) })
            }
        };
        self.within_budget("get", read).await
    }

    /// Stores `value`; a tier that fails to is asked to forget the key, lest its older value outlive the put.
    pub(crate) async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> CacheResult<()> {
        if ttl.is_zero() {
            return self.remove(key).await;
        }
        let stored = self.within_budget("set", self.backend.set_with_ttl(key, value, ttl)).await;
        if stored.is_err() {
            let _ = self.remove(key).await;
        }
        stored
    }

    pub(crate) async fn remove(&self, key: &str) -> CacheResult<()> {
        self.within_budget("remove", self.backend.remove(key)).await
    }

    /// Removes by pattern. Its length is that of the key space, so it has no budget of its own.
    pub(crate) async fn remove_pattern(&self, pattern: &str) -> CacheResult<()> {
        self.backend.remove_pattern(pattern).await.map_err(|error| self.failed(error, "remove_pattern"))
    }

    /// How many operations failed.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    async fn within_budget<R>(&self, operation: &'static str, work: BoxFuture<'_, CacheResult<R>>) -> CacheResult<R> {
        let Some(breaker) = &self.breaker else {
            return work.await.map_err(|error| self.failed(error, operation));
        };
        if !breaker.admits() {
            let failure = Failure::new("the tier failed a moment ago and is left alone").retryable();
            return Err(self.failed(CacheError::BackendError(failure), operation));
        }
        let outcome = match Handle::try_current() {
            // Without a Tokio runtime there is no timer; the backend is trusted to end.
            Err(_) => work.await,
            Ok(_) => timeout(defaults::TIER_BUDGET, work).await.unwrap_or_else(|_| Err(over_budget())),
        };
        if outcome.as_ref().is_err_and(CacheError::is_retryable) {
            breaker.failed();
        } else {
            breaker.succeeded();
        }
        outcome.map_err(|error| self.failed(error, operation))
    }

    fn failed(&self, error: CacheError, operation: &'static str) -> CacheError {
        self.errors.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(tier = %self.label, operation, %error, "tier failed");
        error.at(&self.label, operation)
    }
}

fn over_budget() -> CacheError {
    CacheError::BackendError(Failure::new(format!("no answer within {:?}", defaults::TIER_BUDGET)).retryable())
}
