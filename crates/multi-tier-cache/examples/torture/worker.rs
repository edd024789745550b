//! One instance: a process with a cache of three tiers, readers of all keys, and a writer of its own keys.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::panic;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use multi_tier_cache::backends::{QuickCacheBackend, RedisConfig};
use multi_tier_cache::{
    Arc, CacheManager, CacheSystem, CacheSystemBuilder, CoherenceConfig, CoherenceMode, InvalidationConfig, RedisCache,
    TierConfig,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::ablation::switch_off;
use super::board::{Board, now};
use super::colder::Colder;
use super::keys::{Keys, PREFIX};
use super::reader::LOADER_PANIC;
use super::report::{Kind, Line, Order, Part, Report, Violation, hazards};

/// Entries of the log that are kept: few, so that who falls behind by seconds cannot catch up.
const LOG_LENGTH: usize = 100;
const READERS: u64 = 6;
/// What takes longer hangs.
pub(crate) const HANG: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_secs(1);
const ALIVE: Duration = Duration::from_millis(500);

pub(crate) struct Worker {
    pub(crate) part: Part,
    pub(crate) keys: Keys,
    pub(crate) board: Board,
    pub(crate) cache: Arc<CacheManager>,
    tally: Mutex<Tally>,
    running: AtomicBool,
    operations: AtomicU64,
    _system: CacheSystem,
}

#[derive(Default)]
struct Tally {
    counts: BTreeMap<&'static str, u64>,
    worst: BTreeMap<&'static str, u64>,
    errors: BTreeMap<String, u64>,
}

/// Obeys the orders on stdin; ends with the supervisor.
pub(crate) fn work(part: Part) -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    silence_loaders();
    switch_off(&part.without)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let worker = Arc::new(Worker::new(part).await?);
        worker.obey(orders()).await
    })
}

/// A panicking loader is no news.
fn silence_loaders() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&LOADER_PANIC) {
            usual(panic);
        }
    }));
}

fn orders() -> UnboundedReceiver<Order> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if let Ok(order) = serde_json::from_str(&line) {
                let _ = sender.send(order);
            }
        }
        process::exit(3);
    });
    receiver
}

pub(crate) fn say(line: &Line) {
    if let Ok(json) = serde_json::to_string(line) {
        println!("{json}");
    }
}

impl Worker {
    async fn new(part: Part) -> Result<Self> {
        let board = Board::open(Path::new(&part.board)).context("the board")?;
        let system = system(&part).await?;
        Ok(Self {
            keys: Keys { count: part.keys, owners: part.workers },
            board,
            cache: Arc::clone(system.cache_manager()),
            tally: Mutex::default(),
            running: AtomicBool::new(true),
            operations: AtomicU64::new(0),
            _system: system,
            part,
        })
    }

    async fn obey(self: &Arc<Self>, mut orders: UnboundedReceiver<Order>) -> Result<()> {
        say(&Line::Ready);
        let mut tasks = Vec::new();
        let alive = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                say(&Line::Alive(alive.operations.load(Ordering::Relaxed)));
                sleep(ALIVE).await;
            }
        });
        while let Some(order) = orders.recv().await {
            match order {
                Order::Run => tasks = self.start(),
                Order::Settle => {
                    self.running.store(false, Ordering::Release);
                    for task in tasks.drain(..) {
                        task.await??;
                    }
                    self.acknowledge_all().await?;
                    self.rest().await;
                    say(&Line::Settled);
                }
                Order::Check => {
                    self.check_at_rest().await?;
                    say(&Line::Report(Box::new(self.report())));
                }
            }
        }
        Ok(())
    }

    fn start(self: &Arc<Self>) -> Vec<JoinHandle<Result<()>>> {
        let mut random = Rng::with_seed(self.part.seed);
        let mut tasks = Vec::new();
        for _ in 0..READERS {
            tasks.push(tokio::spawn(Arc::clone(self).read_forever(random.fork())));
        }
        tasks.push(tokio::spawn(Arc::clone(self).write_forever(random.fork())));
        tasks
    }

    /// Waits until freshness is proven and nothing is owed or sent any more.
    async fn rest(&self) {
        let began = Instant::now();
        let mut quiet = (Instant::now(), u64::MAX);
        while quiet.0.elapsed() < QUIET {
            let (stats, sent) = (self.cache.coherence_stats(), self.cache.invalidation_stats());
            let sent = sent.map_or(0, |stats| stats.messages_sent);
            let owed: usize = self.cache.health().await.iter().map(|tier| tier.owed_removals).sum();
            let proven = stats.proof_age.is_some_and(|age| age < QUIET);
            if !proven || owed > 0 || sent != quiet.1 {
                quiet = (Instant::now(), sent);
            }
            if began.elapsed() > HANG {
                let text = format!("no rest: {owed} removals owed, {stats:?}");
                self.violation(Kind::Hang, text, (now(), now()));
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn check_at_rest(&self) -> Result<()> {
        for _ in 0..3 {
            for key in 0..self.keys.count {
                let (name, wanted) = (self.keys.name(key), self.board.version(key)?);
                let start = now();
                match timeout(HANG, self.cache.get(&name)).await {
                    Err(_) => self.violation(Kind::Hang, format!("get({name}) at rest"), (start, now())),
                    Ok(Err(error)) => self.error("get at rest", &error),
                    Ok(Ok(None)) => self.count("misses at rest"),
                    Ok(Ok(Some(bytes))) => {
                        self.count("hits at rest");
                        let found = self.understand(key, &bytes);
                        if found.is_some_and(|version| version < wanted) {
                            self.count("stale at rest");
                            let text = format!("get({name}) at rest: version {found:?}, the database has {wanted}");
                            self.violation(Kind::AtRest, text, (start, now()));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn ended_one(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, what: &'static str) {
        self.with_tally(|tally| *tally.counts.entry(what).or_default() += 1);
    }

    pub(crate) fn worst(&self, what: &'static str, age: Duration) {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.with_tally(|tally| {
            let worst = tally.worst.entry(what).or_default();
            *worst = (*worst).max(age);
        });
    }

    pub(crate) fn error(&self, what: &'static str, error: &dyn std::error::Error) {
        self.count("errors");
        let mut text = format!("{what}: {error}");
        text.retain(|c| !c.is_ascii_digit() && c != '\n');
        text = text.chars().take(120).collect();
        self.with_tally(|tally| *tally.errors.entry(text).or_default() += 1);
    }

    pub(crate) fn violation(&self, kind: Kind, text: impl std::fmt::Display, (from, until): (u64, u64)) {
        self.count("violations");
        let since = |at: u64| at.saturating_sub(self.part.origin);
        let mode = if self.part.strict { "strict" } else { "available" };
        let text = format!("worker {} ({mode}): {text}", self.part.id);
        say(&Line::Violation(Violation { kind, text, from: since(from), until: since(until) }));
    }

    fn with_tally(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn report(&self) -> Report {
        let mut report = Report { hazards: hazards(&self.cache.coherence_stats()), ..Report::default() };
        let named = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        self.with_tally(|tally| {
            (report.counts, report.worst) = (named(&tally.counts), named(&tally.worst));
            report.errors = std::mem::take(&mut tally.errors);
        });
        report
    }
}

async fn system(part: &Part) -> Result<CacheSystem> {
    let redis = |url: &str| RedisConfig::default().with_url(url).with_prefix(PREFIX);
    let l1 = QuickCacheBackend::new((part.keys as u64 * 4 / 5).max(1))?;
    let (l2, l3) = (RedisCache::with_config(redis(&part.warm))?, RedisCache::with_config(redis(&part.cold))?);
    let mode = if part.strict { CoherenceMode::Strict } else { CoherenceMode::Available };
    let system = CacheSystemBuilder::new()
        .with_tier(Arc::new(l1), TierConfig::as_l1())
        .with_tier(Arc::new(l2), TierConfig::as_l2().with_promotion_frequency(2))
        .with_tier(Arc::new(Colder(l3)), TierConfig::as_l3().with_promotion_frequency(2))
        .with_invalidation(InvalidationConfig::default())
        .with_coherence(CoherenceConfig::default().with_mode(mode).with_log_length(LOG_LENGTH))
        .build()
        .await?;
    Ok(system)
}
