//! Reads of single keys share round trips while others are under way.
//!
//! ```text
//! read ─► nobody reads ─────────► a round trip of its own, at once
//!    │ others do
//!    ▼
//! waiting ─► a task takes what waits ─► one write: GET · GET · PTTL GET · … ─► to each caller its own reply
//!                     ▲                                                                 │
//!                     └──────────────────── until nothing waits ◄───────────────────────┘
//! ```
//!
//! Nobody waits for company: what waits is sent as soon as a task is free to, and how much that is, is what has come
//! while the replies before were under way. Tasks of the connection's runtime send, never a caller: one that goes away,
//! or is not polled, keeps nobody waiting. Every key is a GET of its own in that write, even the same key twice, so that
//! a reply says of its key what it says to a caller alone, errors included.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::oneshot;
use tokio::time::{self, Instant};

use super::connection::{Lent, Supervisor};
use super::link::{Link, Live};
use super::stored::remaining;
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
}

struct Waiting {
    read: Read,
    began: Instant,
    answer: oneshot::Sender<Answer>,
}

/// The commands of one read. The time to live comes first: should another client write in between, the newer value comes
/// with the older time, and never an older value with a newer one, which would let a copy of it outlive its successor.
struct Read {
    ttl: Option<Cmd>,
    value: Cmd,
}

/// How a read is sent.
enum Place {
    /// At once, and as the one that is alone if there is no other.
    Now(Option<Alone>, Read),
    Waiting(oneshot::Receiver<Answer>),
}

impl Supervisor {
    /// The value under `key`, which is the server's name of it, and its time to live if asked for.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(crate) async fn read(&self, key: &str, with_ttl: bool) -> Answer {
        let (link, read) = (self.link()?, Read::new(key, with_ttl));
        let place = match link.current() {
            Some(Ok(live)) => enter(&link, &live, read),
            // Without a connection a read is refused or waits for one as every operation.
            _ => Place::Now(None, read),
        };
        match place {
            Place::Waiting(answer) => answer.await.unwrap_or_else(|_| Err(untold(&link))),
            // In a box, so that those who wait are small: they are many.
            Place::Now(_alone, read) => Box::pin(self.read_now(link, read)).await,
        }
    }

    async fn read_now(&self, link: Arc<Link>, read: Read) -> Answer {
        let mut lent = self.lend(link).await?;
        let outcome = read.send(&mut lent).await;
        if let Ok(found) = &outcome {
            lent.merge().0.lock().expect(found.as_ref().map_or(0, |(value, _)| value.len()));
        }
        lent.conclude(outcome)
    }
}

/// Why nobody answered a read that waited.
fn untold(link: &Link) -> CacheError {
    link.current().and_then(Result::err).unwrap_or_else(|| link.server().runtime_ended())
}

impl Read {
    fn new(key: &str, with_ttl: bool) -> Self {
        let command = |name: &str| {
            let mut command = Cmd::with_capacity(2, name.len() + key.len());
            command.arg(name).arg(key);
            command
        };
        Self { ttl: with_ttl.then(|| command("PTTL")), value: command("GET") }
    }

    /// Sends it alone.
    async fn send(self, lent: &mut Lent) -> RedisResult<Option<ValueAndTtl>> {
        let Some(ttl) = self.ttl else {
            let value = lent.connection().send_packed_command(&self.value).await?;
            return found(None, value);
        };
        let mut both = Pipeline::with_capacity(2);
        both.add_command(ttl).add_command(self.value);
        let mut replies = lent.connection().send_packed_commands(&both, 0, both.len()).await?.into_iter();
        let ttl = next(&mut replies)?;
        found(Some(ttl), next(&mut replies)?)
    }
}

fn next(replies: &mut impl Iterator<Item = Value>) -> RedisResult<Value> {
    replies.next().ok_or_else(|| (ErrorKind::Parse, "fewer replies than commands").into())
}

/// What the replies to a read say.
fn found(ttl: Option<Value>, value: Value) -> RedisResult<Option<ValueAndTtl>> {
    let ttl = ttl.map(|ttl| RedisResult::Ok(i64::from_redis_value(ttl.extract_error()?)?)).transpose()?;
    let value = Option::<Bytes>::from_redis_value(value.extract_error()?)?;
    Ok(value.map(|value| (value, ttl.and_then(remaining))))
}

impl Default for Merge {
    fn default() -> Self {
        let (waiting, room) = (VecDeque::new(), defaults::MERGED_READS_FIRST);
        Self(Mutex::new(State { waiting, alone: false, senders: 0, room, expected: 0 }))
    }
}

impl State {
    /// How many reads the next write carries: a good part of what waits, so that no backlog takes many round trips, as
    /// long as the replies stay small.
    fn share(&self) -> usize {
        let fit = defaults::MERGED_BYTES / self.expected.max(1);
        self.room.max(self.waiting.len() / defaults::MERGED_SHARE).min(fit.max(1)).min(self.waiting.len())
    }

    /// Large values are expected for a while.
    fn expect(&mut self, bytes: usize) {
        self.expected = (self.expected / 2).max(bytes);
    }

    /// Twice as many next time where all went well, and one after silence.
    fn learn(&mut self, size: Option<Size>) {
        match size {
            None => self.room = 1,
            Some(Size { replies: 0, .. }) => {}
            Some(Size { replies, bytes }) => {
                self.expect(bytes / replies);
                self.room = (self.room * 2).min(defaults::MERGED_READS);
            }
        }
    }
}

/// The place of a read that begins now.
fn enter(link: &Arc<Link>, live: &Arc<Live>, read: Read) -> Place {
    let mut state = live.merge.0.lock();
    if !state.alone && state.senders == 0 {
        state.alone = true;
        drop(state);
        return Place::Now(Some(Alone(Arc::clone(live))), read);
    }
    // What large values cost is not the round trips.
    if state.waiting.len() >= defaults::READS_WAITING || state.expected > defaults::MERGED_VALUE {
        return Place::Now(None, read);
    }
    let (answer, answered) = oneshot::channel();
    state.waiting.push_back(Waiting { read, began: Instant::now(), answer });
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
        while let Some(waiting) = self.take() {
            let size = Batch::of(waiting).ask(Lent::new(Arc::clone(&self.link), Arc::clone(&self.live))).await;
            self.live.merge.0.lock().learn(size);
            // Those who were answered read again before it looks whether anybody does.
            step_back().await;
        }
    }

    /// The reads of the next write; `None`, and the end of this task, if nothing waits. Those that cannot be sent any
    /// more are told: those whose budget has ended, and all of them once another connection is in use, or none.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let (budget, serves) = (self.link.server().budget(), self.link.uses(&self.live));
        let mut state = self.live.merge.0.lock();
        let late = |waiting: &&Waiting| !serves || waiting.began.elapsed() >= budget;
        let late = state.waiting.iter().take_while(late).count();
        let late: Vec<Waiting> = state.waiting.drain(..late).collect();
        let share = state.share();
        let taken: Vec<Waiting> = state.waiting.drain(..share).collect();
        if taken.is_empty() {
            state.senders -= 1;
            self.ended = true;
        }
        drop(state);
        if !late.is_empty() {
            let error = if serves { silence(&self.link) } else { untold(&self.link) };
            late.into_iter().for_each(|waiting| drop(waiting.answer.send(Err(error.clone()))));
        }
        (!taken.is_empty()).then_some(taken)
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

/// The reads of one write, oldest first.
struct Batch {
    commands: Pipeline,
    callers: VecDeque<Caller>,
}

/// Who waits for a reply that was asked for.
struct Caller {
    with_ttl: bool,
    began: Instant,
    answer: oneshot::Sender<Answer>,
}

/// What came back, and how much.
#[derive(Clone, Copy)]
struct Size {
    replies: usize,
    bytes: usize,
}

impl Batch {
    /// Callers that have gone away are not asked for.
    fn of(waiting: Vec<Waiting>) -> Self {
        let (mut commands, mut callers) =
            (Pipeline::with_capacity(waiting.len()), VecDeque::with_capacity(waiting.len()));
        for Waiting { read: Read { ttl, value }, began, answer } in waiting {
            if answer.is_closed() {
                continue;
            }
            callers.push_back(Caller { with_ttl: ttl.is_some(), began, answer });
            for command in ttl.into_iter().chain([value]) {
                commands.add_command(command);
            }
        }
        Self { commands, callers }
    }

    /// Sends the commands and gives every caller its reply; one whose budget ends before it comes gets an error then.
    /// Answers how large the replies were, if they came.
    async fn ask(self, lent: Lent) -> Option<Size> {
        let Self { commands, mut callers } = self;
        if callers.is_empty() {
            return Some(Size { replies: 0, bytes: 0 });
        }
        let (sent, budget, mut unwanted) = (Instant::now(), lent.budget(), 0);
        let mut connection = lent.another();
        let mut replies = pin!(connection.send_packed_commands(&commands, 0, commands.len()));
        loop {
            let oldest = callers.front()?.began;
            match time::timeout(budget.saturating_sub(oldest.elapsed()), &mut replies).await {
                Ok(Ok(replies)) => return Some(answer(callers, &lent, replies.into_iter().skip(unwanted))),
                Ok(Err(error)) => return tell(callers, &lent.conclude::<()>(Err(error)).err()?),
                Err(_) => unwanted += expire(&mut callers, &lent, sent),
            }
        }
    }
}

/// Gives every caller what the replies say of its key.
fn answer(callers: VecDeque<Caller>, lent: &Lent, mut replies: impl Iterator<Item = Value>) -> Size {
    let mut size = Size { replies: callers.len(), bytes: 0 };
    for Caller { with_ttl, answer, .. } in callers {
        let ttl = with_ttl.then(|| next(&mut replies)).transpose();
        let outcome = ttl.and_then(|ttl| found(ttl, next(&mut replies)?));
        if let Ok(Some((value, _))) = &outcome {
            size.bytes += value.len();
        }
        let _ = answer.send(lent.conclude(outcome));
    }
    size
}

/// Tells those whose budget has ended, and answers how many replies nobody wants any more. Only a connection that had a
/// good part of the budget is silent: the rest may have passed in the queue.
fn expire(callers: &mut VecDeque<Caller>, lent: &Lent, sent: Instant) -> usize {
    let budget = lent.budget();
    let expired = callers.iter().take_while(|caller| caller.began.elapsed() >= budget).count();
    let error = silence(lent.link());
    if sent.elapsed() >= budget / 2 {
        lent.suspect(&error);
    }
    let tell = |caller: Caller| {
        let _ = caller.answer.send(Err(error.clone()));
        1 + usize::from(caller.with_ttl)
    };
    callers.drain(..expired).map(tell).sum()
}

/// Gives every caller the same error.
fn tell(callers: VecDeque<Caller>, error: &CacheError) -> Option<Size> {
    callers.into_iter().for_each(|caller| drop(caller.answer.send(Err(error.clone()))));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(sizes: &[Option<Size>], waiting: usize) -> usize {
        let Merge(state) = Merge::default();
        let mut state = state.into_inner();
        sizes.iter().for_each(|size| state.learn(*size));
        let waits = || Waiting { read: Read::new("", false), began: Instant::now(), answer: oneshot::channel().0 };
        state.waiting.extend((0..waiting).map(|_| waits()));
        state.share()
    }

    const fn replies(replies: usize, each: usize) -> Size {
        Size { replies, bytes: replies * each }
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
    fn a_backlog_takes_few_writes() {
        assert_eq!(learned(&[], 0), 0);
        assert_eq!(learned(&[], 16_384), 4_096);
        assert_eq!(learned(&[Some(replies(1, 1024))], 16_384), 1_024, "as far as the replies stay small");
    }
}
