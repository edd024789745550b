//! A tier that is awaited: every operation within a budget, failing fast while the tier is away, and never answering
//! with what it was told to forget.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::owed::{Debt, Owed};
use super::without_ttl;
use crate::breaker::Breaker;
use crate::clock::{Clock, Moment};
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};
use crate::protection::Protection;
use crate::telemetry::Latencies;
use crate::traits::{Capabilities, L2CacheBackend, ValueAndTtl};

pub(crate) struct Remote {
    backend: Arc<dyn L2CacheBackend>,
    label: String,
    /// None for a backend that keeps a budget of its own.
    breaker: Option<Breaker>,
    owed: Owed,
    /// How removals that are owed are made up for, if not by the backend alone.
    forget: OnceLock<Weak<dyn Forget>>,
    /// Whether a task is making up for what is owed.
    settling: AtomicBool,
    errors: AtomicU64,
    /// When the last operation ended, in nanoseconds of the clock, if that was not answered; else 0.
    away: AtomicU64,
    latencies: Latencies,
    clock: Clock,
}

/// Removes keys from a tier whose removals others must hear of.
pub(crate) trait Forget: Send + Sync {
    fn forget<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>>;

    fn forget_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>>;

    fn forget_tag<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, CacheResult<()>>;
}

/// What a read is for: the remaining TTL costs more to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Value,
    ValueAndTtl,
}

impl Remote {
    pub(crate) fn new(backend: Arc<dyn L2CacheBackend>, level: usize, clock: Clock) -> Arc<Self> {
        let label = format!("L{level} {}", backend.name());
        let breaker = (!backend.capabilities().has(Capabilities::BUDGETED)).then(|| Breaker::new(clock.clone()));
        Arc::new(Self {
            backend,
            label,
            breaker,
            owed: Owed::default(),
            forget: OnceLock::new(),
            settling: AtomicBool::new(false),
            errors: AtomicU64::new(0),
            away: AtomicU64::new(0),
            latencies: Latencies::default(),
            clock,
        })
    }

    /// Lets removals that are owed be made up for by `forget`.
    pub(crate) fn forgets_by(&self, forget: Weak<dyn Forget>) {
        // Set once, by the engine that the tier is made for.
        let _ = self.forget.set(forget);
    }

    pub(crate) async fn get(self: &Arc<Self>, key: &str, ask: Ask) -> CacheResult<Option<ValueAndTtl>> {
        if !self.owed.is_empty() {
            // Whoever settled before may have gone with its runtime.
            self.settle_in_background();
        }
        if let Some(failures) = self.owed.concerns(key).filter(|_| Protection::PendingIsNotRead.is_on()) {
            // The tier may hold what it was told to forget: forget it now, or do not ask. In a box, as everything that a
            // read seldom comes to: callers that wait for an answer are many, and should be small.
            Box::pin(self.perform("remove", self.erase(&[key]))).await?;
            self.owed.settle(key, failures);
            return Ok(None);
        }
        let read = async {
            match ask {
                Ask::Value => Ok(self.backend.try_get(key).await?.map(|value| (value, None))),
                Ask::ValueAndTtl => self.backend.try_get_with_ttl(key).await,
            }
        };
        self.perform("get", read).await
    }

    /// The same for many keys, in their order: one question for every [`defaults::READ_CHUNK`] of them, or single ones
    /// side by side where the backend has none for many.
    pub(crate) async fn get_many(self: &Arc<Self>, keys: &[&str], ask: Ask) -> Vec<CacheResult<Option<ValueAndTtl>>> {
        if !self.backend.capabilities().has(Capabilities::BATCH) {
            return self.get_singly(keys, ask).await;
        }
        let mut found = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(defaults::READ_CHUNK) {
            let owed: Vec<bool> = chunk.iter().map(|key| self.owes(key)).collect();
            let free: Vec<&str> = chunk.iter().zip(&owed).filter(|(_, owed)| !**owed).map(|(key, _)| *key).collect();
            let mut free = self.get_at_once(&free, ask).await.into_iter();
            for (key, owed) in chunk.iter().zip(owed) {
                let at_once = if owed { None } else { free.next() };
                found.push(match at_once {
                    Some(found) => found,
                    None => self.get(key, ask).await,
                });
            }
        }
        found
    }

    async fn get_at_once(self: &Arc<Self>, keys: &[&str], ask: Ask) -> Vec<CacheResult<Option<ValueAndTtl>>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let read = async {
            let found = match ask {
                Ask::Value => without_ttl(self.backend.get_many(keys).await?),
                Ask::ValueAndTtl => self.backend.get_many_with_ttl(keys).await?,
            };
            if found.len() != keys.len() {
                return Err(CacheError::InternalError("a backend answered for more or fewer keys than asked".into()));
            }
            Ok(found)
        };
        match self.perform("get", read).await {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(error) if error.is_retryable() => keys.iter().map(|_| Err(error.clone())).collect(),
            // One key may be at fault.
            Err(_) => self.get_singly(keys, ask).await,
        }
    }

    async fn get_singly(self: &Arc<Self>, keys: &[&str], ask: Ask) -> Vec<CacheResult<Option<ValueAndTtl>>> {
        let reads: Vec<_> = keys.iter().map(|key| self.get(key, ask)).collect();
        stream::iter(reads).buffered(defaults::BATCH_WIDTH).collect().await
    }

    /// Stores a value where no older one is to be replaced: what was read or loaded.
    ///
    /// Without an answer it may still arrive, later than a removal: if there is somebody to tell of one, the tier `owes` the
    /// removal of what it may have taken.
    pub(crate) async fn fill(self: &Arc<Self>, key: &str, value: Bytes, ttl: Duration, owes: bool) -> CacheResult<()> {
        let failures = self.failures();
        self.admit("set")?;
        let stored = self.attempt("set", async { self.backend.set_with_ttl(key, value, ttl).await }).await;
        match &stored {
            Ok(()) => self.owed.settle(key, failures),
            Err(error) if owes && error.is_retryable() => self.owe(key),
            Err(_) => {}
        }
        stored
    }

    /// Replaces the value. If that fails, the tier owes the removal of the older one, and is asked for it at once if it
    /// answers at all.
    pub(crate) async fn replace(self: &Arc<Self>, key: &str, value: Bytes, ttl: Duration) -> CacheResult<()> {
        let (failures, began) = (self.failures(), Instant::now());
        let stored = match self.admit("set") {
            Ok(()) => self.attempt("set", async { self.backend.set_with_ttl(key, value, ttl).await }).await,
            refused => return refused.inspect_err(|_| self.owe(key)),
        };
        if stored.is_ok() {
            self.owed.settle(key, failures);
            return stored;
        }
        self.owe(key);
        let failures = self.failures();
        let remove = async { self.backend.remove(key).await };
        if began.elapsed() < defaults::TIER_BUDGET && self.timed(defaults::TIER_BUDGET, remove).await.is_ok() {
            self.owed.settle(key, failures);
        }
        stored
    }

    /// Removes `key`; if that fails, the tier owes it.
    pub(crate) async fn remove(self: &Arc<Self>, key: &str) -> CacheResult<()> {
        let failures = self.failures();
        let removed = self.perform("remove", async { self.backend.remove(key).await }).await;
        match &removed {
            Ok(()) => self.owed.settle(key, failures),
            Err(_) => self.owe(key),
        }
        removed
    }

    /// Removes by pattern; if that fails, the tier owes it, unless it cannot do such a thing at all. It takes as long as
    /// the key space is large, so its budget is another.
    pub(crate) async fn remove_pattern(self: &Arc<Self>, pattern: &str) -> CacheResult<()> {
        let failures = self.failures();
        let removed = self.scan_for(pattern).await;
        match &removed {
            Ok(()) => self.owed.settle_pattern(pattern, failures),
            Err(error) if error.is_refusal() => {}
            Err(_) => self.owe_pattern(pattern),
        }
        removed
    }

    /// Removes by pattern, whatever comes of it.
    pub(crate) async fn scan_for(&self, pattern: &str) -> CacheResult<()> {
        let (began, work) = (self.clock.now(), async { self.backend.remove_pattern(pattern).await });
        let removed = self.timed(defaults::PATTERN_BUDGET, work).await;
        self.ended("remove_pattern", began, removed)
    }

    /// Removes everything.
    pub(crate) async fn clear(self: &Arc<Self>) -> CacheResult<()> {
        let began = self.clock.now();
        let cleared = self.timed(defaults::PATTERN_BUDGET, async { self.backend.clear().await }).await;
        if cleared.as_ref().is_err_and(|error| !error.is_refusal()) {
            self.owe_pattern("*");
        }
        self.ended("clear", began, cleared)
    }

    async fn erase(&self, keys: &[&str]) -> CacheResult<()> {
        match (self.forget.get().and_then(Weak::upgrade), keys) {
            (Some(forget), keys) => forget.forget(keys).await,
            (None, [key]) => self.backend.remove(key).await,
            (None, keys) => self.backend.remove_many(keys).await,
        }
    }

    async fn erase_pattern(&self, pattern: &str) -> CacheResult<()> {
        match self.forget.get().and_then(Weak::upgrade) {
            Some(forget) => forget.forget_pattern(pattern).await,
            None => self.backend.remove_pattern(pattern).await,
        }
    }

    /// Notes that the tier may hold an older value of `key`, and begins to make up for it.
    pub(crate) fn owe(self: &Arc<Self>, key: &str) {
        self.owed.owe(key);
        self.settle_in_background();
    }

    /// The same for every key that matches.
    pub(crate) fn owe_pattern(self: &Arc<Self>, pattern: &str) {
        self.owed.owe_pattern(pattern);
        self.settle_in_background();
    }

    /// The same for every entry with this tag.
    pub(crate) fn owe_tag(self: &Arc<Self>, tag: &str) {
        self.owed.owe_tag(tag);
        self.settle_in_background();
    }

    /// Whether an entry with this tag must not be read.
    pub(crate) fn owes_tag(&self, tag: &str) -> bool {
        self.owed.concerns_tag(tag)
    }

    /// Removals that the tier owes.
    pub(crate) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// How many removals have failed so far; what begins now settles those and no later ones.
    pub(crate) fn failures(&self) -> u64 {
        if self.owed.is_empty() { 0 } else { self.owed.failures() }
    }

    /// Whether the tier may hold an older value of `key` that it was told to forget.
    pub(crate) fn owes(&self, key: &str) -> bool {
        Protection::PendingIsNotRead.is_on() && self.owed.concerns(key).is_some()
    }

    /// `key` was removed or replaced by what began when there were this many failures.
    pub(crate) fn settle(&self, key: &str, failures: u64) {
        self.owed.settle(key, failures);
    }

    pub(crate) async fn works(&self) -> bool {
        let check = async { Ok(self.backend.health_check().await) };
        let works = self.timed(defaults::TIER_BUDGET, check).await.unwrap_or(false);
        let away = self.away.load(Ordering::Relaxed);
        // A look may answer where operations do not: what they have told a moment ago counts for more.
        if works && away != 0 && self.clock.now().since(Moment::from_nanos(away)) >= defaults::TIER_FAILURE_COUNTS {
            let _ = self.away.compare_exchange(away, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        works
    }

    /// How many operations failed.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Whether its last operation, a short while ago, was not answered.
    pub(crate) fn is_left_alone(&self) -> bool {
        let away = self.away.load(Ordering::Relaxed);
        away != 0 && self.clock.now().since(Moment::from_nanos(away)) < defaults::TIER_FAILURE_TOLD
    }

    pub(crate) fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Starts the task that makes up for what is owed, if none is at work. Without a Tokio runtime that is left to those
    /// who read the keys.
    fn settle_in_background(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.settling.swap(true, Ordering::AcqRel) {
            runtime.spawn(settle(Settling { remote: Arc::downgrade(self), held: true }));
        }
    }

    /// One step of making up for what is owed; false if the tier is away.
    async fn make_up(&self, debt: Debt) -> bool {
        match debt {
            Debt::Pattern(pattern, failure) => {
                match self.timed(defaults::PATTERN_BUDGET, self.erase_pattern(&pattern)).await {
                    Ok(()) => self.owed.settle_pattern(&pattern, failure),
                    Err(error) if !self.refuses(&error) => return false,
                    Err(_) => self.owed.refuse_pattern(&pattern),
                }
            }
            Debt::Tag(tag, failure) => {
                let Some(forget) = self.forget.get().and_then(Weak::upgrade) else { return false };
                match self.timed(defaults::TIER_BUDGET, forget.forget_tag(&tag)).await {
                    Ok(()) => self.owed.settle_tag(&tag, failure),
                    Err(error) if !self.refuses(&error) => return false,
                    Err(_) => self.owed.refuse_tag(&tag),
                }
            }
            Debt::Keys(debts) => {
                let keys: Vec<&str> = debts.iter().map(|(key, _)| &**key).collect();
                if self.timed(defaults::TIER_BUDGET, self.erase(&keys)).await.is_ok() {
                    debts.iter().for_each(|(key, failure)| self.owed.settle(key, *failure));
                    return true;
                }
                // One key may be at fault, or one of several servers.
                return self.make_up_singly(&debts).await;
            }
        }
        true
    }

    /// Whether it is no use asking again. Of a coordinator's answers only those that say so: others must hear of the
    /// removal, whatever it takes (a password that is put right).
    fn refuses(&self, error: &CacheError) -> bool {
        error.is_refusal() || self.forget.get().is_none() && !error.is_retryable()
    }

    async fn make_up_singly(&self, debts: &[(Box<str>, u64)]) -> bool {
        let mut answered = false;
        for (key, failure) in debts {
            match self.timed(defaults::TIER_BUDGET, self.erase(&[key])).await {
                Ok(()) => self.owed.settle(key, *failure),
                Err(error) if !self.refuses(&error) && !answered => return false,
                Err(error) if !self.refuses(&error) => continue,
                Err(_) => self.owed.refuse(key),
            }
            answered = true;
        }
        answered
    }

    /// How many keys to remove in one step: without batches each takes a round trip.
    fn step(&self) -> usize {
        if self.backend.capabilities().has(Capabilities::BATCH) { defaults::KEY_CHUNK } else { 1 }
    }

    /// Runs `work` within the budget, unless the tier is being left alone.
    pub(crate) async fn perform<R>(
        &self,
        operation: &'static str,
        work: impl Future<Output = CacheResult<R>>,
    ) -> CacheResult<R> {
        self.admit(operation)?;
        self.attempt(operation, work).await
    }

    fn admits(&self) -> bool {
        self.breaker.as_ref().is_none_or(Breaker::admits)
    }

    fn admit(&self, operation: &'static str) -> CacheResult<()> {
        if self.admits() {
            return Ok(());
        }
        let failure = Failure::new("the tier failed a moment ago and is left alone").retryable();
        Err(self.failed(CacheError::BackendError(failure), operation))
    }

    async fn attempt<R>(&self, operation: &'static str, work: impl Future<Output = CacheResult<R>>) -> CacheResult<R> {
        let began = self.clock.now();
        let outcome = match &self.breaker {
            None => caught(work).await,
            Some(breaker) => {
                let outcome = Box::pin(self.timed(defaults::TIER_BUDGET, work)).await;
                match &outcome {
                    Err(error) if error.is_retryable() => breaker.failed(),
                    _ => breaker.succeeded(),
                }
                outcome
            }
        };
        self.ended(operation, began, outcome)
    }

    /// Notes how an operation that was tried went.
    fn ended<R>(&self, operation: &'static str, began: Moment, outcome: CacheResult<R>) -> CacheResult<R> {
        let now = self.clock.now();
        self.latencies.record(operation, now.since(began));
        let away = if outcome.as_ref().is_err_and(CacheError::is_retryable) { now.as_nanos().max(1) } else { 0 };
        if self.away.load(Ordering::Relaxed) != away {
            self.away.store(away, Ordering::Relaxed);
        }
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

/// The part of the one who settles a tier's debts, given back however its task ends.
struct Settling {
    remote: Weak<Remote>,
    held: bool,
}

impl Drop for Settling {
    fn drop(&mut self) {
        if let (true, Some(remote)) = (self.held, self.remote.upgrade()) {
            remote.settling.store(false, Ordering::Release);
        }
    }
}

/// Makes up for what a tier owes, for as long as there is such a tier and it owes something.
async fn settle(mut part: Settling) {
    while let Some(remote) = part.remote.upgrade() {
        let Some(debt) = remote.owed.next(remote.step()) else {
            remote.settling.store(false, Ordering::Release);
            part.held = false;
            // A debt that came since the look found this task still at work.
            if remote.owed.next(1).is_none() || remote.settling.swap(true, Ordering::AcqRel) {
                return;
            }
            part.held = true;
            continue;
        };
        let away = !remote.make_up(debt).await;
        drop(remote);
        if away {
            let Ok(pause) = catch_unwind(|| sleep(defaults::BREAKER_WINDOW)) else { return };
            pause.await;
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
