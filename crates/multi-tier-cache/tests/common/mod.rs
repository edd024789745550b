//! A backend that does as it is told: it counts and writes down its calls, holds them until released, takes its time,
//! fails, panics, or hangs.
#![allow(dead_code, clippy::unwrap_used, missing_docs, reason = "each test file uses its part; a test may panic")]

pub(crate) mod gated;
pub(crate) mod heard;

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use multi_tier_cache::error::Failure;
#[cfg(feature = "test-util")]
use multi_tier_cache::testing::{Faulty, ManualClock};
use multi_tier_cache::traits::{CacheBackend, Capabilities, L2CacheBackend};
use multi_tier_cache::{CacheError, CacheManager, CacheResult, CacheTier};
#[cfg(feature = "test-util")]
use multi_tier_cache::{CacheSystem, CacheSystemBuilder, DashMapCache, QuickCacheBackend, TierConfig};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TTL: Duration = Duration::from_secs(100);
pub(crate) const OLD: Bytes = Bytes::from_static(b"old");
pub(crate) const NEW: Bytes = Bytes::from_static(b"new");

/// What several backends wrote down, in the order in which it took effect.
pub(crate) type Journal = Arc<Mutex<Vec<String>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Get,
    Set,
    Remove,
    /// Removes its keys one after the other, each a [`Remove`](Self::Remove) too.
    RemoveMany,
    Pattern,
    Health,
}

const OPS: [Op; 6] = [Op::Get, Op::Set, Op::Remove, Op::RemoveMany, Op::Pattern, Op::Health];

/// Where a call is held: before it takes effect, or between its effect and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A refusal that a retry does not mend.
    Refusal,
    /// An outage.
    Outage,
    /// No answer, ever.
    Hang,
    /// A defect of the backend.
    Panic,
}

/// What meets a fault.
#[derive(Debug, Clone, Copy)]
enum Failing {
    Op(Op),
    KeysFrom(&'static str),
}

impl Failing {
    fn concerns(self, op: Op, key: &str) -> bool {
        match self {
            Self::Op(failing) => failing == op,
            Self::KeysFrom(prefix) => key.starts_with(prefix),
        }
    }
}

/// A store that is awaited, as a user would write one.
pub(crate) struct Scripted {
    name: &'static str,
    capabilities: Capabilities,
    matches_patterns: bool,
    journal: Journal,
    values: Mutex<HashMap<String, (Bytes, Duration)>>,
    holds: Mutex<Vec<Hold>>,
    faults: Mutex<Vec<(Failing, Fault, usize)>>,
    delays: Mutex<Vec<(Op, Duration)>>,
    calls: Mutex<Vec<Op>>,
}

struct Hold {
    op: Op,
    when: When,
    reached: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// A call that will be held, or is.
pub(crate) struct Held {
    reached: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Held {
    /// Waits until the call has come to the place where it is held.
    pub(crate) async fn reached(&mut self) {
        timeout(PATIENCE, &mut self.reached).await.unwrap().unwrap();
    }

    pub(crate) fn release(self) {
        let _ = self.release.send(());
    }
}

impl Scripted {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Self::writing(name, &Journal::default())
    }

    pub(crate) fn writing(name: &'static str, journal: &Journal) -> Arc<Self> {
        Arc::new(Self::build(name, journal, true))
    }

    /// One that says it can do all this.
    pub(crate) fn capable_of(name: &'static str, capabilities: Capabilities) -> Arc<Self> {
        Arc::new(Self { capabilities, ..Self::build(name, &Journal::default(), true) })
    }

    pub(crate) fn without_patterns(name: &'static str) -> Arc<Self> {
        Arc::new(Self::build(name, &Journal::default(), false))
    }

    fn build(name: &'static str, journal: &Journal, matches_patterns: bool) -> Self {
        Self {
            name,
            capabilities: Capabilities::NONE,
            matches_patterns,
            journal: Arc::clone(journal),
            values: Mutex::default(),
            holds: Mutex::default(),
            faults: Mutex::default(),
            delays: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// Puts a value there behind the cache's back.
    pub(crate) fn plant(&self, key: &str, value: impl Into<Bytes>) {
        self.plant_for(key, value, TTL);
    }

    pub(crate) fn plant_for(&self, key: &str, value: impl Into<Bytes>, ttl: Duration) {
        self.values.lock().insert(key.to_owned(), (value.into(), ttl));
    }

    /// What is stored, past all holds and faults.
    pub(crate) fn peek(&self, key: &str) -> Option<Bytes> {
        self.values.lock().get(key).map(|(value, _)| value.clone())
    }

    /// The TTL that `key` was stored with.
    pub(crate) fn ttl(&self, key: &str) -> Option<Duration> {
        self.values.lock().get(key).map(|(_, ttl)| *ttl)
    }

    pub(crate) fn calls(&self, op: Op) -> usize {
        self.calls.lock().iter().filter(|called| **called == op).count()
    }

    /// Holds the next call of `op`.
    pub(crate) fn hold(&self, op: Op, when: When) -> Held {
        let (reached, was_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        self.holds.lock().push(Hold { op, when, reached, released });
        Held { reached: was_reached, release }
    }

    /// Lets every call of `op` fail until [`mend`](Self::mend).
    pub(crate) fn fail(&self, op: Op, fault: Fault) {
        self.fail_times(op, fault, usize::MAX);
    }

    pub(crate) fn fail_times(&self, op: Op, fault: Fault, times: usize) {
        self.faults.lock().push((Failing::Op(op), fault, times));
    }

    pub(crate) fn fail_all(&self, fault: Fault) {
        for op in OPS {
            self.fail(op, fault);
        }
    }

    /// Lets every call for a key that begins with `prefix` fail: one bad server, or one bad key, of many.
    pub(crate) fn fail_keys_from(&self, prefix: &'static str, fault: Fault) {
        self.faults.lock().push((Failing::KeysFrom(prefix), fault, usize::MAX));
    }

    pub(crate) fn mend(&self) {
        self.faults.lock().clear();
    }

    /// Lets every call of `op` take this long before it has its effect.
    pub(crate) fn slow_down(&self, op: Op, by: Duration) {
        self.delays.lock().push((op, by));
    }

    async fn begin(&self, op: Op, key: &str) -> CacheResult<()> {
        self.calls.lock().push(op);
        let delay = self.delays.lock().iter().find(|(slow, _)| *slow == op).map(|(_, by)| *by);
        if let Some(by) = delay {
            sleep(by).await;
        }
        self.pass(op, When::Before).await;
        let fault = {
            let mut faults = self.faults.lock();
            let fault = faults.iter_mut().find(|(failing, _, times)| failing.concerns(op, key) && *times > 0);
            fault.map(|(_, fault, times)| {
                *times -= 1;
                *fault
            })
        };
        match fault {
            None => Ok(()),
            Some(Fault::Refusal) => Err(CacheError::BackendError("refused as scripted".into())),
            Some(Fault::Outage) => Err(CacheError::BackendError(Failure::new("away as scripted").retryable())),
            Some(Fault::Hang) => pending().await,
            Some(Fault::Panic) => panic!("{} panics as scripted", self.name),
        }
    }

    async fn pass(&self, op: Op, when: When) {
        let hold = {
            let mut holds = self.holds.lock();
            holds.iter().position(|hold| hold.op == op && hold.when == when).map(|at| holds.remove(at))
        };
        if let Some(hold) = hold {
            let _ = hold.reached.send(());
            let _ = hold.released.await;
        }
    }

    fn note(&self, what: &str) {
        self.journal.lock().push(format!("{} {what}", self.name));
    }

    async fn read(&self, key: &str) -> CacheResult<Option<(Bytes, Option<Duration>)>> {
        self.begin(Op::Get, key).await?;
        let found = self.values.lock().get(key).map(|(value, ttl)| (value.clone(), Some(*ttl)));
        self.pass(Op::Get, When::After).await;
        Ok(found)
    }
}

impl CacheBackend for Scripted {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.read(key).await.ok().flatten().map(|(value, _)| value) })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.begin(Op::Set, key).await?;
            self.plant_for(key, value, ttl);
            self.note(&format!("set {key}"));
            self.pass(Op::Set, When::After).await;
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.begin(Op::Remove, key).await?;
            self.values.lock().remove(key);
            self.note(&format!("remove {key}"));
            self.pass(Op::Remove, When::After).await;
            Ok(())
        })
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.begin(Op::RemoveMany, "").await?;
            for key in keys {
                self.remove(key).await?;
            }
            Ok(())
        })
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.begin(Op::Health, "").await.is_ok() })
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            if !self.matches_patterns {
                return Err(CacheError::unsupported(self.name, "remove_pattern"));
            }
            self.begin(Op::Pattern, "").await?;
            let glob = multi_tier_cache::backends::glob::Glob::new(pattern);
            self.values.lock().retain(|key, _| !glob.matches(key));
            self.note(&format!("remove_pattern {pattern}"));
            self.pass(Op::Pattern, When::After).await;
            Ok(())
        })
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(async move { Ok(self.read(key).await?.map(|(value, _)| value)) })
    }
}

impl L2CacheBackend for Scripted {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move { self.read(key).await.ok().flatten() })
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<(Bytes, Option<Duration>)>>> {
        Box::pin(self.read(key))
    }
}

/// A manager of these tiers, the first one at level 1, each promoting every hit, with no TTL scale.
pub(crate) fn manager(tiers: Vec<Arc<dyn L2CacheBackend>>) -> Arc<CacheManager> {
    let tiers = tiers.into_iter().zip(1..).map(|(backend, level)| CacheTier::new(backend, level, true, 1, 1.0));
    Arc::new(CacheManager::new_with_tiers(tiers.collect(), None).unwrap())
}

/// The same by the test's own clock, which in-process tiers need to be given too.
#[cfg(feature = "test-util")]
pub(crate) async fn manager_on(time: &ManualClock, tiers: Vec<Arc<dyn L2CacheBackend>>) -> Arc<CacheManager> {
    let builder = CacheSystemBuilder::new().with_clock(time.clock());
    let config = |level| TierConfig::new(level).with_promotion_frequency(1);
    let stack = |builder: CacheSystemBuilder, (backend, level)| builder.with_tier(backend, config(level));
    tiers.into_iter().zip(1..).fold(builder, stack).build().await.unwrap().cache_manager
}

/// An L1 over a tier that fails when it is told to.
#[cfg(feature = "test-util")]
pub(crate) async fn over_faulty(time: &ManualClock) -> (CacheSystem, Arc<Faulty>) {
    let l1 = QuickCacheBackend::new(100).unwrap().with_clock(time.clock());
    let l2 = Faulty::new(Arc::new(DashMapCache::new().with_clock(time.clock())));
    let builder = CacheSystemBuilder::new().with_clock(time.clock()).with_tier(Arc::new(l1), TierConfig::as_l1());
    (builder.with_tier(l2.clone(), TierConfig::as_l2()).build().await.unwrap(), l2)
}

/// Starts `work` and lets it run until it waits for something the test holds. For single-threaded tests.
pub(crate) async fn start<R: Send + 'static>(work: impl Future<Output = R> + Send + 'static) -> JoinHandle<R> {
    let task = tokio::spawn(work);
    run_all().await;
    task
}

/// Lets every other task run until it waits. For single-threaded tests whose tasks wait for the test only.
pub(crate) async fn run_all() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// The task's answer, within [`PATIENCE`].
pub(crate) async fn ended<R>(task: JoinHandle<R>) -> R {
    timeout(PATIENCE, task).await.unwrap().unwrap()
}

/// Counts computations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Asserts that the statistics add up and that nothing is under way.
pub(crate) fn assert_at_rest(cache: &CacheManager) {
    let stats = cache.get_stats();
    assert_eq!(stats.in_flight_requests, 0, "{stats:?}");
    assert_eq!(stats.total_hits, stats.l1_hits + stats.l2_hits, "{stats:?}");
    assert_eq!(stats.total_requests, stats.total_hits + stats.misses, "{stats:?}");
}
