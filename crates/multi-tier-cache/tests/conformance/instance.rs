//! One instance of the fleet, and the database that it caches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::testing::{Pump, Stage, Step, When};
use multi_tier_cache::{Bytes, CacheManager, CacheResult, CallOptions, CoherenceConfig, CoherenceMode, DashMapCache};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::common::{PATIENCE, Scripted, ended, run_all};
use crate::harness::until;
use crate::tier::Tier;

/// The source: every key has a version, 1 at first.
#[derive(Clone, Default)]
pub(crate) struct Database(Arc<Mutex<HashMap<String, Row>>>);

#[derive(Clone, Copy)]
struct Row {
    version: u64,
    reads: usize,
}

impl Database {
    /// Changes a key and answers its new version.
    pub(crate) fn write(&self, key: &str) -> u64 {
        self.with(key, |row| {
            row.version += 1;
            row.version
        })
    }

    pub(crate) fn read(&self, key: &str) -> Bytes {
        value(self.with(key, |row| {
            row.reads += 1;
            row.version
        }))
    }

    /// How often a key was read.
    pub(crate) fn reads(&self, key: &str) -> usize {
        self.with(key, |row| row.reads)
    }

    fn with<R>(&self, key: &str, change: impl FnOnce(&mut Row) -> R) -> R {
        change(self.0.lock().entry(key.to_owned()).or_insert(Row { version: 1, reads: 0 }))
    }
}

/// A version as it is cached.
pub(crate) fn value(version: u64) -> Bytes {
    format!("v{version:07}").into()
}

/// The version of what is stored, behind whatever head.
pub(crate) fn version(stored: &[u8]) -> u64 {
    let digits = stored.get(stored.len().saturating_sub(7)..).unwrap_or_default();
    std::str::from_utf8(digits).unwrap().parse().unwrap()
}

/// For values with the tag `t`.
pub(crate) fn tagged() -> CallOptions {
    CallOptions::default().with_tags(["t"])
}

/// How an instance is made.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) coherence: CoherenceConfig,
    pub(crate) prefix: &'static str,
    pub(crate) database: u8,
    pub(crate) budget: Duration,
    /// Where Redis is, if not where the world says.
    pub(crate) url: Option<String>,
    pub(crate) l3: Option<Arc<Scripted>>,
    /// A tier of this instance alone, between the first and the shared one.
    pub(crate) disk: Option<Arc<Scripted>>,
}

impl Setup {
    /// Polls by hand only.
    pub(crate) fn quiet() -> Self {
        let coherence = CoherenceConfig::default()
            .with_staleness_bound(Duration::from_secs(400))
            .with_staleness_limit(Duration::from_secs(400))
            .with_poll_interval(Duration::from_secs(100));
        let budget = Duration::from_secs(1);
        Self { coherence, prefix: "", database: 0, budget, url: None, l3: None, disk: None }
    }

    /// Polls often, with a bound of [`BOUND`].
    pub(crate) fn polling() -> Self {
        let coherence = CoherenceConfig::default()
            .with_staleness_bound(BOUND)
            .with_staleness_limit(LIMIT)
            .with_poll_interval(BOUND / 8);
        Self { coherence, ..Self::quiet() }
    }

    pub(crate) fn strict(mut self) -> Self {
        self.coherence = self.coherence.with_mode(CoherenceMode::Strict);
        self
    }

    pub(crate) fn prefix(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    pub(crate) fn database(self, database: u8) -> Self {
        Self { database, ..self }
    }

    pub(crate) fn budget(self, budget: Duration) -> Self {
        Self { budget, ..self }
    }

    pub(crate) fn at(self, url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..self }
    }

    pub(crate) fn above(self, l3: &Arc<Scripted>) -> Self {
        Self { l3: Some(Arc::clone(l3)), ..self }
    }

    pub(crate) fn over_disk(self, disk: &Arc<Scripted>) -> Self {
        Self { disk: Some(Arc::clone(disk)), ..self }
    }
}

/// The staleness bound of instances that poll.
pub(crate) const BOUND: Duration = Duration::from_millis(400);
/// How long such an instance serves what it cannot prove, in the mode `Available`.
pub(crate) const LIMIT: Duration = Duration::from_millis(1_000);

pub(crate) struct Instance {
    pub(crate) cache: Arc<CacheManager>,
    pub(crate) stage: Stage,
    pub(crate) tier: Arc<Tier>,
    pub(crate) database: Database,
    pub(crate) first: Arc<DashMapCache>,
}

impl Instance {
    /// Waits until the instance has subscribed and will not look at the log again on its own account.
    pub(crate) async fn settle(&self) {
        until("the bus", async || self.cache.coherence_stats().subscriptions > 0 && self.stage.calls(Step::Poll) >= 3)
            .await;
        assert!(self.poll().await);
    }

    /// Looks at the log now.
    pub(crate) async fn poll(&self) -> bool {
        Pump::of(&self.cache).unwrap().poll().await
    }

    /// Hears a payload.
    pub(crate) fn hear_raw(&self, payload: &[u8]) {
        Pump::of(&self.cache).unwrap().deliver(payload);
    }

    /// Waits until this many messages have been heard.
    pub(crate) async fn hear(&self, messages: u64) {
        until("a message", async || self.heard() >= messages).await;
    }

    pub(crate) fn heard(&self) -> u64 {
        self.cache.invalidation_stats().unwrap().messages_received
    }

    /// Loses the message that `change` brings.
    pub(crate) async fn lose<R>(&self, change: impl Future<Output = R>) -> R {
        let mut held = self.stage.hold(Step::Message, When::Before);
        let changed = change.await;
        timeout(PATIENCE, held.reached()).await.unwrap();
        self.stage.lose_messages(true);
        held.release();
        run_all().await;
        self.stage.lose_messages(false);
        changed
    }

    /// Carries out the first change of all, and hears of it.
    pub(crate) async fn hears<R>(&self, change: impl Future<Output = R>) -> R {
        let changed = change.await;
        self.hear(1).await;
        changed
    }

    pub(crate) async fn get(&self, key: &str) -> Option<u64> {
        self.cache.get(key).await.unwrap().map(|stored| version(&stored))
    }

    pub(crate) async fn load(&self, key: &str) -> u64 {
        self.load_with(key, &CallOptions::default()).await.unwrap()
    }

    pub(crate) async fn load_with(&self, key: &str, options: &CallOptions) -> CacheResult<u64> {
        load(&self.cache, &self.database, key, options).await
    }

    /// Starts a load that waits for the test once it has read the database.
    pub(crate) fn begin_load(&self, key: &'static str) -> Loading {
        self.begin_load_with(key, CallOptions::default())
    }

    pub(crate) fn begin_load_with(&self, key: &'static str, options: CallOptions) -> Loading {
        let (begin, began) = oneshot::channel();
        let (gate, opened) = oneshot::channel::<()>();
        let (cache, database) = (Arc::clone(&self.cache), self.database.clone());
        let task = tokio::spawn(async move {
            let compute = || async move {
                let read = database.read(key);
                let _ = begin.send(());
                let _ = opened.await;
                Ok(read)
            };
            cache.get_or_compute_with_options(key, &options, compute).await
        });
        Loading { task, began, gate }
    }

    /// Starts a read, and lets it run until it waits.
    pub(crate) async fn start_get(&self, key: &'static str) -> JoinHandle<Option<u64>> {
        let cache = Arc::clone(&self.cache);
        let task = tokio::spawn(async move { cache.get(key).await.unwrap().map(|stored| version(&stored)) });
        run_all().await;
        task
    }

    /// Starts a loading read, and lets it run until it waits.
    pub(crate) async fn start_load(&self, key: &'static str) -> JoinHandle<u64> {
        let (cache, database) = (Arc::clone(&self.cache), self.database.clone());
        let task = tokio::spawn(async move { load(&cache, &database, key, &CallOptions::default()).await.unwrap() });
        run_all().await;
        task
    }

    /// Writes the database, then invalidates: what a program does.
    pub(crate) async fn change(&self, key: &str) -> u64 {
        let version = self.database.write(key);
        self.cache.invalidate(key).await.unwrap();
        version
    }

    /// Writes the database, then removes what `pattern` matches.
    pub(crate) async fn change_pattern(&self, key: &str, pattern: &str) -> u64 {
        let version = self.database.write(key);
        self.cache.remove_pattern(pattern).await.unwrap();
        version
    }

    /// Writes the database, then removes what is [`tagged`].
    pub(crate) async fn change_tagged(&self, key: &str) -> u64 {
        let version = self.database.write(key);
        self.cache.remove_tag("t").await.unwrap();
        version
    }

    /// Writes the database, then removes everything.
    pub(crate) async fn change_all(&self, key: &str) -> u64 {
        let version = self.database.write(key);
        self.cache.clear().await.unwrap();
        version
    }

    /// Starts a delete, whose caller has written the database.
    pub(crate) fn start_delete(&self, key: &'static str) -> JoinHandle<CacheResult<()>> {
        let cache = Arc::clone(&self.cache);
        tokio::spawn(async move { cache.invalidate(key).await })
    }
}

async fn load(cache: &CacheManager, database: &Database, key: &str, options: &CallOptions) -> CacheResult<u64> {
    let read = || async { Ok(database.read(key)) };
    cache.get_or_compute_with_options(key, options, read).await.map(|stored| version(&stored))
}

/// A load whose loader waits for the test.
pub(crate) struct Loading {
    pub(crate) task: JoinHandle<CacheResult<Bytes>>,
    began: oneshot::Receiver<()>,
    gate: oneshot::Sender<()>,
}

impl Loading {
    /// Waits until the database has been read.
    pub(crate) async fn began(&mut self) {
        timeout(PATIENCE, &mut self.began).await.unwrap().unwrap();
    }

    /// Lets the loader return, and answers what its caller got.
    pub(crate) async fn end(self) -> CacheResult<u64> {
        let _ = self.gate.send(());
        ended(self.task).await.map(|stored| version(&stored))
    }
}
