//! A tier that is awaited: every operation within a budget, failing fast while the tier is away, and never answering
//! with what it was told to forget.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::owed::{Debt, Owed};
use crate::breaker::Breaker;
use crate::clock::Clock;
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};
use crate::traits::{Capabilities, L2CacheBackend, ValueAndTtl};

pub(crate) struct Remote {
    backend: Arc<dyn L2CacheBackend>,
    label: String,
    /// None for a backend that keeps a budget of its own.
    breaker: Option<Breaker>,
    owed: Owed,
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
        Self { backend, label, breaker, owed: Owed::default(), errors: AtomicU64::new(0) }
    }

    pub(crate) async fn get(&self, key: &str, ask: Ask) -> CacheResult<Option<ValueAndTtl>> {
        if let Err(error) = self.make_up().await
            && self.owed.concerns(key)
        {
            return Err(error);
        }
        if self.owed.concerns(key) {
            self.remove(key).await?;
        }
        let read = async {
            match ask {
                Ask::Value => Ok(self.backend.try_get(key).await?.map(|value| (value, None))),
                Ask::ValueAndTtl => self.backend.try_get_with_ttl(key).await,
            }
        };
        self.perform("get", read).await
    }

    /// Stores `value`. If that fails, the tier is asked to forget the older one, now if it answers at all.
    pub(crate) async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> CacheResult<()> {
        if ttl.is_zero() {
            return self.remove(key).await;
        }
        let unproven = OweOnDrop::new(&self.owed, key);
        // What cannot be made up for now must not keep newer values out.
        let _ = self.make_up().await;
        self.admit("set")?;
        let began = Instant::now();
        let stored = self.attempt("set", async { self.backend.set_with_ttl(key, value, ttl).await }).await;
        // A tier that answered, if only with an error, is asked to forget the older value at once.
        let answers = stored.is_err() && began.elapsed() < defaults::TIER_BUDGET;
        let remove = async { self.backend.remove(key).await };
        if stored.is_ok() || (answers && self.timed(defaults::TIER_BUDGET, remove).await.is_ok()) {
            unproven.cleared();
        }
        stored
    }

    /// Removes `key`; if that fails, the tier owes it.
    pub(crate) async fn remove(&self, key: &str) -> CacheResult<()> {
        let unproven = OweOnDrop::new(&self.owed, key);
        let _ = self.make_up().await;
        let removed = self.perform("remove", async { self.backend.remove(key).await }).await;
        if removed.is_ok() {
            unproven.cleared();
        }
        removed
    }

    /// Removes by pattern; if that fails for now, the tier owes it. It takes as long as the key space is large, so its
    /// budget is another.
    pub(crate) async fn remove_pattern(&self, pattern: &str) -> CacheResult<()> {
        let _ = self.make_up().await;
        let work = async { self.backend.remove_pattern(pattern).await };
        let removed = self.timed(defaults::PATTERN_BUDGET, work).await;
        if removed.as_ref().is_err_and(CacheError::is_retryable) {
            self.owed.owe_pattern(pattern);
        }
        removed.map_err(|error| self.failed(error, "remove_pattern"))
    }

    pub(crate) async fn works(&self) -> bool {
        let check = async { Ok(self.backend.health_check().await) };
        self.timed(defaults::TIER_BUDGET, check).await.unwrap_or(false)
    }

    /// How many operations failed.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Makes up for what the tier owes, before anything else is asked of it.
    async fn make_up(&self) -> CacheResult<()> {
        if self.owed.is_empty() {
            return Ok(());
        }
        let turn = async { Ok(self.owed.turn.lock().await) };
        let _turn = self.timed(defaults::TIER_BUDGET, turn).await.map_err(|error| self.failed(error, "make_up"))?;
        while let Some(debt) = self.owed.next() {
            let work = async {
                match &debt {
                    Debt::All => self.backend.clear().await,
                    Debt::Pattern(pattern) => self.backend.remove_pattern(pattern).await,
                    Debt::Keys(keys) => {
                        let keys: Vec<&str> = keys.iter().map(|(key, _)| &**key).collect();
                        self.backend.remove_many(&keys).await
                    }
                }
            };
            match self.perform("make_up", work).await {
                Ok(()) => self.owed.settle(&debt),
                Err(error) if error.is_retryable() || !matches!(debt, Debt::Keys(_)) => return Err(error),
                Err(_) => self.owed.refuse(&debt),
            }
        }
        Ok(())
    }

    /// Runs `work` within the budget, unless the tier is being left alone.
    async fn perform<R>(&self, operation: &'static str, work: impl Future<Output = CacheResult<R>>) -> CacheResult<R> {
        self.admit(operation)?;
        self.attempt(operation, work).await
    }

    fn admit(&self, operation: &'static str) -> CacheResult<()> {
        if self.breaker.as_ref().is_none_or(Breaker::admits) {
            return Ok(());
        }
        let failure = Failure::new("the tier failed a moment ago and is left alone").retryable();
        Err(self.failed(CacheError::BackendError(failure), operation))
    }

    async fn attempt<R>(&self, operation: &'static str, work: impl Future<Output = CacheResult<R>>) -> CacheResult<R> {
        let outcome = match &self.breaker {
            None => caught(work).await,
            Some(breaker) => {
                let outcome = self.timed(defaults::TIER_BUDGET, work).await;
                match &outcome {
                    Err(error) if error.is_retryable() => breaker.failed(),
                    _ => breaker.succeeded(),
                }
                outcome
            }
        };
        outcome.map_err(|error| self.failed(error, operation))
    }

    /// Runs `work` within `budget`. Where there is no timer (outside a Tokio runtime, or in one without time), the
    /// backend is trusted to end.
    async fn timed<R>(&self, budget: Duration, work: impl Future<Output = CacheResult<R>>) -> CacheResult<R> {
        let timer = match Handle::try_current() {
            Ok(_) => catch_unwind(|| sleep(budget)).ok(),
            Err(_) => None,
        };
        let Some(timer) = timer else { return caught(work).await };
        match select(pin!(caught(work)), pin!(timer)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(over_budget(budget)),
        }
    }

    fn failed(&self, error: CacheError, operation: &'static str) -> CacheError {
        self.errors.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(tier = %self.label, operation, %error, "tier failed");
        error.at(&self.label, operation)
    }
}

/// Owes a key unless it is proven clear: whoever drops the future of a change leaves the tier as it may be.
struct OweOnDrop<'a> {
    owed: &'a Owed,
    key: &'a str,
    clear: bool,
}

impl<'a> OweOnDrop<'a> {
    fn new(owed: &'a Owed, key: &'a str) -> Self {
        Self { owed, key, clear: false }
    }

    fn cleared(mut self) {
        self.clear = true;
        self.owed.clear_key(self.key);
    }
}

impl Drop for OweOnDrop<'_> {
    fn drop(&mut self) {
        if !self.clear {
            self.owed.owe(self.key);
        }
    }
}

/// A backend's panic is an error of its tier.
async fn caught<R>(work: impl Future<Output = CacheResult<R>>) -> CacheResult<R> {
    let panicked = |_| Err(CacheError::InternalError("the backend of a tier panicked".into()));
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(panicked)
}

fn over_budget(budget: Duration) -> CacheError {
    CacheError::BackendError(Failure::new(format!("no answer within {budget:?}")).retryable())
}
