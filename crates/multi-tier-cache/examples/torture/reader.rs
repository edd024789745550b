//! Reads, and what is said of each.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use fastrand::Rng;
use multi_tier_cache::{Arc, CacheError, CacheResult, CallOptions};
use tokio::time::{sleep, timeout};

use super::board::now;
use super::keys::{parse, value};
use super::report::Kind;
use super::worker::{HANG, Worker};

/// How old what an in-process hit misses may be (I4), exactly; whoever proves freshness too late is not excused. The rest
/// is for the tick of the clock that the supervisor's machine compares with.
const BOUND: Duration = Duration::from_millis(2_000 + 50);
/// The same while freshness is not proven, in the mode `Available`, for reads that the instance counted.
const LIMIT: Duration = Duration::from_millis(30_000 + 50);
/// How long after a server forgot something it is detected (a poll in 0.5 s, behind one that failed within its budget of
/// 1 s and a pause of 0.5 s before the next connection) and replayed by its issuers, 2 s for some thousand entries.
pub(crate) const REPAIR: Duration = Duration::from_millis(4_000);
pub(crate) const LOADER_PANIC: &str = "a loader panics, as it should";
const PAUSE_MAX: u64 = 4;

/// How a key is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Get,
    Compute,
}

/// A read: what was known when it began, and what came of it.
#[derive(Debug)]
struct Read {
    key: usize,
    how: How,
    /// The version behind the position it was asked to reflect.
    at_least: Option<u64>,
    /// The latest version acknowledged before it began.
    acknowledged: u64,
    began: u64,
    ended: u64,
    loaded: bool,
    /// Whether this instance served hits without proof meanwhile.
    unproven: bool,
}

/// What a loader does.
#[derive(Debug, Clone, Copy)]
struct Loader {
    before: Duration,
    after: Duration,
    fails: bool,
    panics: bool,
}

impl Worker {
    pub(crate) async fn read_forever(self: Arc<Self>, mut random: Rng) -> Result<()> {
        while self.is_running() {
            let (key, how) = (self.keys.to_read(&mut random), how(&mut random));
            let at_least = random.u32(..100) < 12;
            self.read(key, how, at_least, &mut random).await?;
            self.ended_one();
            sleep(Duration::from_millis(random.u64(..=PAUSE_MAX))).await;
        }
        Ok(())
    }

    async fn read(&self, key: usize, how: How, at_least: bool, random: &mut Rng) -> Result<()> {
        let position = if at_least { self.board.position(key)? } else { None };
        let options = self.keys.options(key).at_least(position.map(|(_, at)| at));
        let (acknowledged, unproven) = (self.board.acknowledged(key)?, self.unproven());
        let began = now();
        let at_least = position.map(|(version, _)| version);
        let mut read = Read { key, how, at_least, acknowledged, began, ended: 0, loaded: false, unproven: false };
        let patience = patience(how, random);
        let answer = timeout(patience, self.ask(&mut read, &options, Loader::any(random))).await;
        read.ended = now();
        read.unproven = self.unproven() != unproven;
        self.count("reads");
        match answer {
            Err(_) if patience == HANG => {
                let text = format!("{how:?} of {} was not answered within {HANG:?}: {read:?}", self.keys.name(key));
                self.violation(Kind::Hang, text, (read.began, read.ended));
            }
            Err(_) => self.count("cancelled reads"),
            Ok(Err(error)) => self.error("read", &error),
            Ok(Ok(None)) => self.count("misses"),
            Ok(Ok(Some(bytes))) => {
                if let Some(version) = self.understand(key, &bytes) {
                    self.judge(&read, version)?;
                }
            }
        }
        Ok(())
    }

    async fn ask(&self, read: &mut Read, options: &CallOptions, loader: Loader) -> CacheResult<Option<Bytes>> {
        let name = self.keys.name(read.key);
        match read.how {
            How::Get if read.at_least.is_none() => self.cache.get(&name).await,
            How::Get => self.cache.get_with_options(&name, options).await,
            How::Compute => {
                let (key, loaded) = (read.key, AtomicBool::new(false));
                let load = || async {
                    loaded.store(true, Ordering::Relaxed);
                    self.load(key, loader).await
                };
                let answer = self.cache.get_or_compute_with_options(&name, options, load).await;
                read.loaded = loaded.load(Ordering::Relaxed);
                answer.map(Some)
            }
        }
    }

    async fn load(&self, key: usize, loader: Loader) -> CacheResult<Bytes> {
        self.count("loads");
        sleep_some(loader.before).await;
        let version = self.board.version(key).map_err(|error| CacheError::InternalError(error.to_string()))?;
        sleep_some(loader.after).await;
        if loader.panics {
            std::panic::panic_any(LOADER_PANIC);
        }
        if loader.fails { Err(CacheError::InternalError("a loader fails".into())) } else { Ok(value(key, version)) }
    }

    /// The version in `bytes`, if they are a value of `key` that was ever written.
    pub(crate) fn understand(&self, key: usize, bytes: &[u8]) -> Option<u64> {
        let latest = self.board.version(key).unwrap_or(u64::MAX);
        match parse(bytes) {
            Some((of, version)) if of == key && version <= latest => Some(version),
            parsed => {
                let text = format!("{} held {parsed:?} while the database had {latest}", self.keys.name(key));
                self.violation(Kind::Corrupt, text, (now(), now()));
                None
            }
        }
    }

    fn judge(&self, read: &Read, version: u64) -> Result<()> {
        if let Some(wanted) = read.at_least.filter(|wanted| version < *wanted) {
            self.count("stale below a position");
            self.complain(Kind::AtLeast, read, version, &format!("asked for at least {wanted}"))?;
            return Ok(());
        }
        if version >= read.acknowledged {
            self.count("fresh");
            return Ok(());
        }
        let Some(missed) = self.board.first_after(read.key, version, read.acknowledged)? else { return Ok(()) };
        let age = Duration::from_nanos(read.began.saturating_sub(missed.at));
        let own = self.keys.owner(read.key) == self.part.id;
        if !own && age <= BOUND {
            self.count("late within the bound");
            self.worst(if self.part.strict { "late, strict" } else { "late, available" }, age);
        } else if let Some(since) = self.board.lost(missed.at, (read.began, read.ended), REPAIR)? {
            self.count("stale after a loss");
            self.worst("stale after a loss, since the loss", since);
        } else if !own && !self.part.strict && read.unproven && age <= LIMIT {
            self.count("marked");
            self.worst("marked", age);
        } else {
            self.count("stale beyond the bound");
            self.worst("stale beyond the bound", age);
            self.complain(Kind::Stale, read, version, if own { "written here" } else { "written elsewhere" })?;
        }
        Ok(())
    }

    fn complain(&self, kind: Kind, read: &Read, version: u64, what: &str) -> io::Result<()> {
        let last = self.board.acknowledged(read.key)?.max(read.at_least.unwrap_or(0));
        let missed = self.board.first_after(read.key, version, last)?;
        let since = |at: u64| Duration::from_nanos(at.saturating_sub(self.part.origin));
        let missed_at = missed.map_or(read.began, |missed| missed.at);
        let text = format!(
            "{} was version {version}, {what}; missed {missed:?} acknowledged at {:?}, {:?} before the read; the read \
             began at {:?}, ended at {:?}; {read:?}",
            self.keys.name(read.key),
            since(missed_at),
            Duration::from_nanos(read.began.saturating_sub(missed_at)),
            since(read.began),
            since(read.ended),
        );
        self.violation(kind, text, (missed_at, read.ended));
        Ok(())
    }

    fn unproven(&self) -> u64 {
        if self.part.strict { 0 } else { self.cache.coherence_stats().unproven_hits }
    }
}

impl Loader {
    fn any(random: &mut Rng) -> Self {
        let slow = match random.u32(..1_000) {
            0..2 => 2_000 + random.u64(..1_000),
            2..12 => 100 + random.u64(..200),
            _ => 0,
        };
        let (before, after) = (random.u64(..3), random.u64(..4) + slow);
        Self {
            before: Duration::from_millis(before),
            after: Duration::from_millis(after),
            fails: random.u32(..200) == 0,
            panics: random.u32(..200) == 0,
        }
    }
}

fn how(random: &mut Rng) -> How {
    if random.u32(..100) < 70 { How::Get } else { How::Compute }
}

/// Some callers go away.
fn patience(how: How, random: &mut Rng) -> Duration {
    let goes = random.u32(..100) < if how == How::Compute { 5 } else { 1 };
    if goes { Duration::from_millis(random.u64(1..8)) } else { HANG }
}

async fn sleep_some(pause: Duration) {
    if pause.is_zero() { tokio::task::yield_now().await } else { sleep(pause).await }
}
