//! The bus of one instance: announces its invalidations, follows everybody's, and proves how fresh it is.
//!
//! Two loops share one [`Progress`]. One reads messages as they come, which makes invalidations fast; the other polls
//! the log, which makes them certain: whatever was lost on the way, the poll finds out and the log tells what it was.
//! What is followed is applied to the [`Follower`] while the lock on the progress is held, so that a position is never
//! reached before its entry took effect.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::select;
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::AbortHandle;

use super::coherence::CoherenceConfig;
use super::following::{Signals, follow, timer};
use super::journal::Journal;
use super::progress::{Page, Polled, Progress, Question, Reached, Receipt};
use super::stats::{CoherenceStats, Counts, InvalidationStats};
use crate::clock::{Clock, Moment};
use crate::coordinator::message::{Message, parse};
use crate::coordinator::{Change, Position, Record, Recorded, Revocation, Revoked, SharedCoordinator, Tag, Tail};
use crate::defaults;
use crate::error::CacheResult;
use crate::protection::Protection;

/// What follows the log: the in-process tiers of an instance, and what it wrote below the coordinator.
pub(crate) trait Follower: Send + Sync {
    /// Drops what a change made stale. Called under a lock of the bus: never waits, never calls back.
    fn apply(&self, change: &Recorded);

    /// Forgets everything stored in process.
    fn forget_everything(&self);

    /// Everything that took effect before `moment` has been applied.
    fn prove(&self, moment: Moment);

    /// Carries out changes again, in the background: a failover may have lost them.
    fn replay(&self, changes: Vec<Recorded>);
}

pub(crate) struct Bus {
    /// The server of the values, if the log is kept by another.
    values: Option<SharedCoordinator>,
    log: SharedCoordinator,
    follower: Weak<dyn Follower>,
    clock: Clock,
    coherence: CoherenceConfig,
    progress: Mutex<Progress>,
    journal: Mutex<Journal>,
    counts: Counts,
    /// One poll at a time, so that answers come in the order of their questions. Counts them.
    polling: AsyncMutex<()>,
    polls: AtomicU64,
    /// Whether the last one could follow the log to its end.
    caught_up: AtomicBool,
    /// Entries of the log to be read at once.
    page: AtomicUsize,
    /// The last epoch that messages told which was not this instance's.
    foreign: AtomicU64,
    stopped: AtomicBool,
    signals: Arc<Signals>,
    running: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

/// An invalidation that took effect. Held until its author has dropped the key here once more.
pub(crate) struct Announced<'a> {
    bus: &'a Bus,
    nonce: u64,
    position: Option<Position>,
    fence: Option<Revoked>,
    settled: bool,
}

impl Announced<'_> {
    /// Its place in the log.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Its author has dropped the key here once more: the echo tells nothing new.
    pub(crate) fn settle(mut self) {
        self.settled = true;
    }

    /// What the server of the values answered: a put fills under it.
    pub(crate) fn at_the_values(&self) -> Option<Revoked> {
        self.fence
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let settled = self.position.filter(|_| self.settled);
        self.bus.progress.lock().end_own(self.nonce, settled);
    }
}

impl Bus {
    /// A bus whose log is kept by `log`; `values` if the values live elsewhere.
    pub(crate) fn new(
        log: SharedCoordinator,
        values: Option<SharedCoordinator>,
        follower: Weak<dyn Follower>,
        clock: Clock,
        coherence: CoherenceConfig,
    ) -> Arc<Self> {
        let progress = Mutex::new(Progress::new(clock.now()));
        let journal = Mutex::new(Journal::new(coherence.journal_window));
        Arc::new(Self {
            values,
            log,
            follower,
            clock,
            coherence,
            progress,
            journal,
            counts: Counts::default(),
            polling: AsyncMutex::default(),
            polls: AtomicU64::new(0),
            caught_up: AtomicBool::new(false),
            page: AtomicUsize::new(defaults::LOG_PAGE),
            foreign: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            signals: Arc::default(),
            running: AtomicBool::new(false),
            task: Mutex::default(),
        })
    }

    /// Carries out `change` at the coordinator and logs it. On `Err` it may or may not have taken effect.
    pub(crate) async fn announce(
        &self,
        change: &Change,
        tags: &[Tag],
        tombstone: Duration,
    ) -> CacheResult<Announced<'_>> {
        let nonce = fastrand::u64(1..);
        self.progress.lock().begin_own(nonce, self.clock.now());
        let mut announced = Announced { bus: self, nonce, position: None, fence: None, settled: false };
        let with_values = self.values.is_none();
        let lease = self.coherence.lease;
        let whole = Revocation { change, nonce, with_values, announced: true, tombstone, lease, tags };
        if let Some(values) = &self.values {
            let there = Revocation { announced: false, with_values: true, ..whole };
            announced.fence = Some(values.revoke(there).await?);
        }
        let logged = self.log.revoke(whole).await?;
        announced.position = Some(logged.at);

        announced.fence = announced.fence.or(Some(logged));
        self.counts.sent.one();
        // Noted first: who finds out that it was lost finds it in the journal.
        self.journal.lock().note(change, self.clock.now());
        if self.progress.lock().acknowledge(logged.at) {
            self.signals.attention.notify_one();
        }
        Ok(announced)
    }

    /// Whether every change is written down for people and other programs.
    pub(crate) fn audits(&self) -> bool {
        self.log.audits()
    }

    /// Starts following, on the current runtime, unless that is being done. Outside a Tokio runtime with time nobody
    /// follows, and freshness is not proven.
    pub(crate) fn start(self: &Arc<Self>) {
        if self.running.load(Ordering::Acquire) || self.stopped.load(Ordering::Acquire) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (log, signals) = (Arc::clone(&self.log), Arc::clone(&self.signals));
        let task = runtime.spawn(follow(Arc::downgrade(self), log, signals, self.coherence.poll_interval));
        *self.task.lock() = Some(task.abort_handle());
    }

    /// Starts following, and waits a moment for the first look at the log: what is stored before it is forgotten then.
    pub(crate) async fn join(self: &Arc<Self>) {
        self.start();
        if let Some(patience) = Handle::try_current().ok().and_then(|_| timer(defaults::EAGER_CONNECT_WAIT)) {
            select(pin!(self.catch_up()), pin!(patience)).await;
        }
    }

    /// Ends following for good.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Whether this instance reflects `position`, once it has followed the log up to this moment.
    pub(crate) async fn reach(&self, position: Position) -> bool {
        if !Protection::AtLeast.is_on() {
            return true;
        }
        let polls = self.polls.load(Ordering::Acquire);
        let one = self.polling.lock().await;
        // Always asked: a failover that nobody has noticed yet may have lost the entry, and brought the older value
        // back. A poll that began after the question, for another reader, answers it too.
        if self.polls.load(Ordering::Acquire) == polls {
            let caught_up = self.poll().await;
            self.caught_up.store(caught_up, Ordering::Release);
        }
        let caught_up = self.caught_up.load(Ordering::Acquire);
        drop(one);
        if !caught_up {
            return false;
        }
        match self.reached(position) {
            Reached::Yes => true,
            Reached::NotYet | Reached::Never => false,
            Reached::Long => {
                let records = self.log.read_log(position.seq.saturating_sub(1), 1).await;
                records.is_ok_and(|records| records.first().is_some_and(|record| record.at == position))
            }
        }
    }

    fn reached(&self, position: Position) -> Reached {
        self.progress.lock().reached(position)
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The task that followed has ended: another may, on another runtime.
    pub(super) fn stopped_running(&self) {
        self.running.store(false, Ordering::Release);
    }

    pub(crate) fn messages(&self) -> InvalidationStats {
        self.counts.messages()
    }

    pub(crate) fn fill_stats(&self, stats: &mut CoherenceStats) {
        stats.proof_age = Some(self.clock.now().since(self.progress.lock().fresh_as_of()));
        self.counts.fill(stats);
    }

    /// A payload arrived on the channel.
    pub(crate) fn receive(&self, payload: &[u8]) {
        self.counts.received.one();
        if payload.len() > defaults::MESSAGE_BYTES_MAX {
            tracing::warn!(bytes = payload.len(), "an invalidation message over the limit was not read");
            self.counts.errors.one();
            self.signals.attention.notify_one();
            return;
        }
        match parse(payload) {
            Ok(Message::Logged(record)) => self.follow(&record),
            Ok(Message::Foreign { change, updated }) => {
                self.count(&change, updated);
                let _progress = self.progress.lock();
                self.apply(&change);
            }
            Err(error) => {
                tracing::debug!(%error, "a message on the invalidation channel was not understood");
                self.counts.errors.one();
            }
        }
    }

    fn follow(&self, record: &Record) {
        self.count(&record.change, matches!(record.change, Recorded::Put(_)));
        let mut progress = self.progress.lock();
        let receipt = progress.receive(record);
        match (receipt, &record.change) {
            (Receipt::Own | Receipt::Known, _) => return,
            // Of another namespace, or the poll will tell.
            (Receipt::Foreign, Recorded::Clear | Recorded::Unknown) => {}
            (Receipt::Apply | Receipt::Gap | Receipt::Foreign, change) => self.apply(change),
        }
        drop(progress);
        match receipt {
            Receipt::Gap => {
                self.counts.gaps.one();
                self.signals.attention.notify_one();
            }
            // One look for each epoch that is not one's own: other namespaces speak on the same channel.
            Receipt::Foreign if self.foreign.swap(record.at.epoch, Ordering::Relaxed) != record.at.epoch => {
                self.signals.attention.notify_one();
            }
            _ => {}
        }
    }

    /// Does to this instance what a change says.
    pub(crate) fn apply(&self, change: &Recorded) {
        let Some(follower) = self.follower.upgrade() else { return };
        match change {
            Recorded::Unknown => follower.forget_everything(),
            known => follower.apply(known),
        }
    }

    fn count(&self, change: &Recorded, updated: bool) {
        match change {
            Recorded::Keys(_) | Recorded::Put(_) if updated => self.counts.updates.one(),
            Recorded::Keys(keys) if keys.len() != 1 => self.counts.bulk_removes.one(),
            Recorded::Keys(_) | Recorded::Put(_) => self.counts.removes.one(),
            Recorded::Pattern(_) => self.counts.patterns.one(),
            Recorded::Tag(_) | Recorded::Clear | Recorded::Unknown => {}
        }
    }

    /// Polls the log and reads what is missing. True if everything up to the poll has been applied.
    pub(crate) async fn catch_up(&self) -> bool {
        let _one = self.polling.lock().await;
        let caught_up = self.poll().await;
        self.caught_up.store(caught_up, Ordering::Release);
        caught_up
    }

    /// The same for whoever holds the right to poll.
    async fn poll(&self) -> bool {
        let mut forked = None;
        for _ in 0..defaults::POLL_ATTEMPTS {
            self.polls.fetch_add(1, Ordering::AcqRel);
            let question = self.progress.lock().ask(self.clock.now());
            let Ok(tail) = self.log.poll(forked.take()).await else {
                self.counts.failed_polls.one();
                return false;
            };
            match self.judge(tail, question) {
                Polled::Fresh | Polled::Joined | Polled::NewEpoch => return true,
                Polled::Unclear => {}
                Polled::Forked => forked = Some(tail.at),
                Polled::Behind => match self.read_log(tail, question).await {
                    Some(Page::Forked) => forked = Some(tail.at),
                    outcome => return outcome.is_some(),
                },
            }
        }
        false
    }

    fn judge(&self, tail: Tail, question: Question) -> Polled {
        let mut progress = self.progress.lock();
        let lag = progress.at().filter(|at| at.epoch == tail.at.epoch).map(|at| tail.at.seq.saturating_sub(at.seq));
        self.counts.lag.set(lag.unwrap_or(0));
        let polled = progress.polled(tail, question);
        match polled {
            Polled::Joined => {
                self.counts.joins.one();
                self.forget_everything();
            }
            Polled::NewEpoch => {
                self.counts.forks.one();
                self.counts.flushes.one();
                self.forget_everything();
            }
            _ => {}
        }
        let lost = progress.take_adrift(polled == Polled::Joined);
        self.prove(progress);
        if lost || polled == Polled::NewEpoch {
            self.replay();
        }
        polled
    }

    /// Reads the log up to `tail`; `None` if that was not possible.
    async fn read_log(&self, tail: Tail, question: Question) -> Option<Page> {
        self.counts.resyncs.one();
        loop {
            let from = self.progress.lock().at().map_or(0, |at| at.seq);
            let count = self.page.load(Ordering::Relaxed);
            let Ok(records) = self.log.read_log(from, count).await else {
                // Perhaps too much at once.
                self.page.store((count / 2).max(1), Ordering::Relaxed);
                return None;
            };
            self.page.store((count * 2).min(defaults::LOG_PAGE), Ordering::Relaxed);
            let page = self.read_page(&records, tail, question);
            match page {
                Page::More => {}
                Page::CaughtUp | Page::Forked | Page::Trimmed => return Some(page),
            }
        }
    }

    fn read_page(&self, records: &[Record], tail: Tail, question: Question) -> Page {
        for record in records {
            let mut progress = self.progress.lock();
            match progress.read(record) {
                Ok(Receipt::Own | Receipt::Known) => {}
                Ok(_) => self.apply(&record.change),
                Err(Page::Trimmed) => return self.start_over(progress, tail, question),
                Err(page) => return page,
            }
        }
        let mut progress = self.progress.lock();
        match progress.page_ended(records.is_empty(), tail, question) {
            Page::Trimmed => self.start_over(progress, tail, question),
            page => {
                self.prove(progress);
                page
            }
        }
    }

    /// The log does not tell what was missed.
    fn start_over(&self, mut progress: MutexGuard<'_, Progress>, tail: Tail, question: Question) -> Page {
        self.counts.flushes.one();
        self.forget_everything();
        progress.restart(tail.at, question);
        self.prove(progress);
        // Nobody can tell whether own invalidations are in the part of the log that is gone.
        self.replay();
        Page::Trimmed
    }

    fn forget_everything(&self) {
        if let Some(follower) = self.follower.upgrade() {
            follower.forget_everything();
        }
    }

    fn prove(&self, progress: MutexGuard<'_, Progress>) {
        let fresh_as_of = progress.fresh_as_of();
        drop(progress);
        if let Some(follower) = self.follower.upgrade() {
            follower.prove(fresh_as_of);
        }
    }

    fn replay(&self) {
        let changes = self.journal.lock().replay(self.clock.now());
        if changes.is_empty() || !Protection::Replay.is_on() {
            return;
        }
        self.counts.replayed.add(changes.len());
        if let Some(follower) = self.follower.upgrade() {
            follower.replay(changes);
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.stop();
    }
}
