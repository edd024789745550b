//! Reads of single keys share round trips while others are under way.
//!
//! ```text
//! read ─► nobody reads ─────────► a round trip of its own, at once
//!    │ others do
//!    ▼
//! waiting ─► a task takes what waits ─► one write: PTTL · PTTL · … · MGET ─► to each caller its own reply
//!                     ▲                                │ no value, or refused │
//!                     │                                └─► GET · GET · … ─────┤
//!                     └──────────────────── until nothing waits ◄─────────────┘
//! ```
//!
//! Nobody waits for company: what waits is sent as soon as a task is free to, and how much that is, is what has come
//! while the replies before were under way. Tasks of the connection's runtime send, never a caller: one that goes away,
//! or is not polled, keeps nobody waiting. A caller is told of its key what it would be told alone: MGET says of a key
//! of another type that there is no value, and refuses all keys where it refuses one, so whoever got no value from it
//! is asked for again by a GET of its own.

mod write;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use redis::RedisError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::write::{Form, Replied, Write, read_alone};
use super::connection::{Lent, Supervisor};
use super::link::{Link, Live};
use crate::defaults;
use crate::error::{CacheError, CacheResult};
use crate::traits::ValueAndTtl;

type Answer = CacheResult<Option<ValueAndTtl>>;

/// The reads on one connection, each time it is made.
pub(super) struct Merge(Mutex<State>);

struct State {
    waiting: VecDeque<Waiting>,
    /// Whether a read has a round trip of its own.
    alone: bool,
    /// Tasks that send what waits.
    senders: usize,
    /// How many reads the next write may carry while few wait.
    room: usize,
    /// The bytes that the reply to a read is expected to have.
    expected: usize,
    /// How many of the next writes ask for each key by itself: MGET was refused.
    singly: usize,
}

struct Waiting {
    key: String,
    with_ttl: bool,
    began: Instant,
    /// Taken by the answer.
    answer: Option<oneshot::Sender<Answer>>,
}

/// How a read is sent.
enum Place {
    /// At once, and as the one that is alone if there is no other.
    Now(Option<Alone>),
    Waiting(oneshot::Receiver<Answer>),
}

impl Supervisor {
    /// The value under `key`, which is the server's name of it, and its time to live if asked for.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(crate) async fn read(&self, key: &str, with_ttl: bool) -> Answer {
        let link = self.link()?;
        let place = match link.current() {
            Some(Ok(live)) => enter(&link, &live, key, with_ttl),
            // Without a connection a read is refused or waits for one as every operation.
            _ => Place::Now(None),
        };
        match place {
            Place::Waiting(answer) => answer.await.unwrap_or_else(|_| Err(untold(&link))),
            // In a box, so that those who wait are small: they are many.
            Place::Now(_alone) => Box::pin(self.read_now(link, key, with_ttl)).await,
        }
    }

    async fn read_now(&self, link: Arc<Link>, key: &str, with_ttl: bool) -> Answer {
        let mut lent = self.lend(link).await?;
        let outcome = read_alone(&mut lent, key, with_ttl).await;
        if let Ok(found) = &outcome {
            lent.merge().0.lock().expect(found.as_ref().map_or(0, |(value, _)| value.len()));
        }
        lent.conclude(outcome)
    }
}

/// Why nobody answered a read that waited.
fn untold(link: &Link) -> CacheError {
    let replaced = || link.server().unreachable("the connection was replaced, or its Tokio runtime has ended");
    link.current().and_then(Result::err).unwrap_or_else(replaced)
}

impl Waiting {
    /// Answers, once; whoever has gone away does not hear it.
    fn tell(&mut self, answer: Answer) {
        if let Some(place) = self.answer.take() {
            let _ = place.send(answer);
        }
    }
}

impl Default for Merge {
    fn default() -> Self {
        let (waiting, room) = (VecDeque::new(), defaults::MERGED_READS_FIRST);
        Self(Mutex::new(State { waiting, alone: false, senders: 0, room, expected: 0, singly: 0 }))
    }
}

impl State {
    /// How many reads the next write carries: a good part of what waits, so that no backlog takes many round trips, as
    /// long as the replies stay small.
    fn share(&self) -> usize {
        let fit = defaults::MERGED_BYTES / self.expected.max(1);
        // After silence little, however much waits.
        let trusted = self.room >= defaults::MERGED_READS_FIRST;
        let backlog = if trusted { self.waiting.len() / defaults::MERGED_SHARE } else { 0 };
        self.room.max(backlog).min(fit.max(1)).min(self.waiting.len())
    }

    /// Large values are expected for a while.
    fn expect(&mut self, bytes: usize) {
        self.expected = (self.expected / 2).max(bytes);
    }

    /// How a write with so many reads asks for them.
    fn form(&mut self, reads: usize) -> Form {
        if reads > 1 && self.singly == 0 {
            return Form::Together;
        }
        self.singly = self.singly.saturating_sub(1);
        Form::Singly
    }

    /// Twice as many next time where all went well, and one after silence.
    fn learn(&mut self, replied: Option<Replied>) {
        let Some(Replied { reads, bytes, refused }) = replied else {
            self.room = 1;
            return;
        };
        if refused {
            self.singly = defaults::MERGED_SINGLY;
        }
        if let Some(each) = bytes.checked_div(reads) {
            self.expect(each);
            self.room = (self.room * 2).min(defaults::MERGED_READS);
        }
    }
}

/// The place of a read that begins now.
fn enter(link: &Arc<Link>, live: &Arc<Live>, key: &str, with_ttl: bool) -> Place {
    let mut state = live.merge.0.lock();
    if !state.alone && state.senders == 0 {
        state.alone = true;
        drop(state);
        return Place::Now(Some(Alone(Arc::clone(live))));
    }
    // What large values cost is not the round trips.
    if state.waiting.len() >= defaults::READS_WAITING || state.expected > defaults::MERGED_VALUE {
        return Place::Now(None);
    }
    let (answer, answered) = oneshot::channel();
    let (key, began) = (key.to_owned(), Instant::now());
    state.waiting.push_back(Waiting { key, with_ttl, began, answer: Some(answer) });
    let sends = state.senders < defaults::READ_WRITES;
    if sends {
        state.senders += 1;
    }
    // A runtime that ends drops the task at once, which takes the lock.
    drop(state);
    if sends {
        tokio::spawn(Sender { link: Arc::clone(link), live: Arc::clone(live), ended: false }.send());
    }
    Place::Waiting(answered)
}

/// A read that has a round trip of its own.
struct Alone(Arc<Live>);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.merge.0.lock().alone = false;
    }
}

/// A task that sends what waits.
struct Sender {
    link: Arc<Link>,
    live: Arc<Live>,
    ended: bool,
}

impl Sender {
    async fn send(mut self) {
        while let Some((waiting, form)) = self.take() {
            let lent = Lent::new(Arc::clone(&self.link), Arc::clone(&self.live));
            let replied = Write::of(waiting, lent).ask(form).await;
            self.live.merge.0.lock().learn(replied);
            // Those who were answered read again before it looks whether anybody does.
            step_back().await;
        }
    }

    /// The reads of the next write; `None`, and the end of this task, if nothing waits. Those that cannot be sent any
    /// more are told: those whose budget has ended, and all of them once another connection is in use, or none.
    fn take(&mut self) -> Option<(Vec<Waiting>, Form)> {
        let (budget, serves) = (self.link.server().budget(), self.link.uses(&self.live));
        let mut state = self.live.merge.0.lock();
        let late = |waiting: &&Waiting| !serves || waiting.began.elapsed() >= budget;
        let late = state.waiting.iter().take_while(late).count();
        let late: Vec<Waiting> = state.waiting.drain(..late).collect();
        let share = state.share();
        let taken: Vec<Waiting> = state.waiting.drain(..share).collect();
        let form = state.form(taken.len());
        if taken.is_empty() {
            state.senders -= 1;
            self.ended = true;
        }
        drop(state);
        if !late.is_empty() {
            let error = if serves { silence(&self.link) } else { untold(&self.link) };
            late.into_iter().for_each(|mut waiting| waiting.tell(Err(error.clone())));
        }
        (!taken.is_empty()).then_some((taken, form))
    }
}

/// The error of a read that got no reply in time.
fn silence(link: &Link) -> CacheError {
    let server = link.server();
    server.explain(RedisError::from(io::Error::from(io::ErrorKind::TimedOut)), server.budget())
}

/// Goes to the end of the runtime's queue, where any thread may take it up again.
async fn step_back() {
    let mut stepped = false;
    poll_fn(|context| {
        if stepped {
            return Poll::Ready(());
        }
        stepped = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Drop for Sender {
    /// With its runtime, or by a panic, the last task takes those along that wait for it: they are told at once.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.live.merge.0.lock();
        state.senders -= 1;
        let abandoned = if state.senders == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        drop(abandoned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(sizes: &[Option<Replied>], waiting: usize) -> usize {
        let Merge(state) = Merge::default();
        let mut state = state.into_inner();
        sizes.iter().for_each(|size| state.learn(*size));
        let waits = || Waiting { key: String::new(), with_ttl: false, began: Instant::now(), answer: None };
        state.waiting.extend((0..waiting).map(|_| waits()));
        state.share()
    }

    const fn replies(reads: usize, each: usize) -> Replied {
        Replied { reads, bytes: reads * each, refused: false }
    }

    #[test]
    fn a_write_carries_more_after_success_less_where_values_are_large_and_one_after_silence() {
        let (small, few) = (Some(replies(4, 100)), 20);
        for (went_well, expected) in [8, 16, few].into_iter().enumerate() {
            assert_eq!(learned(&vec![small; went_well], few), expected);
        }
        assert_eq!(learned(&[Some(replies(10, defaults::MERGED_BYTES / 10))], 500), 10);
        let (large, nothing) = (Some(replies(1, 4 * defaults::MERGED_BYTES)), Some(replies(0, 0)));
        assert_eq!(learned(&[large], 500), 1);
        assert_eq!(learned(&[large, small], 500), 1, "expected for a while");
        assert_eq!(learned(&[large, nothing, nothing], 500), 1, "nothing is no success");
        assert_eq!(learned(&[small, small, None], 3), 1);
        assert_eq!(learned(&[small, small, None, small], 3), 2);
    }

    #[test]
    fn after_a_refusal_some_writes_ask_for_each_key_by_itself() {
        let Merge(state) = Merge::default();
        let mut state = state.into_inner();
        assert_eq!((state.form(2), state.form(1)), (Form::Together, Form::Singly));
        state.learn(Some(Replied { refused: true, ..replies(2, 0) }));
        let forms: Vec<_> = (0..=defaults::MERGED_SINGLY).map(|_| state.form(2)).collect();
        let together = forms.iter().position(|form| *form == Form::Together);
        assert_eq!(together, Some(defaults::MERGED_SINGLY));
    }

    #[test]
    fn a_backlog_takes_few_writes() {
        assert_eq!(learned(&[], 0), 0);
        assert_eq!(learned(&[], 16_384), 2_048);
        assert_eq!(learned(&[Some(replies(1, 1024))], 16_384), 1_024, "as far as the replies stay small");
        assert_eq!(learned(&[None], 16_384), 1, "after silence");
    }
}
