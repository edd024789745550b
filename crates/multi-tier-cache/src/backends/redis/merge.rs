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
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time;

use super::connection::{Lent, Supervisor};
use super::link::Link;
use super::stored::remaining;
use crate::defaults;
use crate::error::{CacheError, CacheResult};
use crate::traits::ValueAndTtl;

type Answer = CacheResult<Option<ValueAndTtl>>;

/// The reads on one connection.
pub(super) struct Merge(Mutex<State>);

struct State {
    waiting: VecDeque<Waiting>,
    /// Whether a read has a round trip of its own.
    alone: bool,
    /// Tasks that send what waits.
    senders: usize,
    /// How many reads the next write may carry.
    room: usize,
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
    Alone(Alone, Read),
    Waiting(oneshot::Receiver<Answer>),
    /// As many wait as may.
    Crowded(Read),
}

impl Supervisor {
    /// The value under `key`, which is the server's name of it, and its time to live if asked for.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(crate) async fn read(&self, key: &str, with_ttl: bool) -> Answer {
        let (link, read) = (self.link()?, Read::new(key, with_ttl));
        // Without a connection a read is refused or waits for one as every operation.
        let place = if link.is_live() { enter(&link, read) } else { Place::Crowded(read) };
        match place {
            Place::Waiting(answer) => answer.await.unwrap_or_else(|_| Err(link.server().runtime_ended())),
            // In a box, so that those who wait are small: they are many.
            Place::Alone(_alone, read) => Box::pin(self.read_now(link, read)).await,
            Place::Crowded(read) => Box::pin(self.read_now(link, read)).await,
        }
    }

    async fn read_now(&self, link: Arc<Link>, read: Read) -> Answer {
        let mut lent = self.lend(link).await?;
        let outcome = read.send(&mut lent).await;
        lent.conclude(outcome)
    }
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
        let waiting = VecDeque::new();
        Self(Mutex::new(State { waiting, alone: false, senders: 0, room: defaults::MERGED_READS_FIRST }))
    }
}

impl State {
    /// How many reads the next write may carry: twice as many as went well, as long as the replies stay small.
    fn learn(&mut self, size: Option<Size>) {
        self.room = match size {
            None => 1,
            Some(Size { replies, bytes }) => {
                let fit = defaults::MERGED_BYTES / (bytes / replies.max(1)).max(1);
                (self.room * 2).min(fit).clamp(1, defaults::MERGED_READS)
            }
        };
    }
}

/// The place of a read that begins now.
fn enter(link: &Arc<Link>, read: Read) -> Place {
    let merge = link.merge();
    let mut state = merge.0.lock();
    if !state.alone && state.senders == 0 {
        state.alone = true;
        drop(state);
        return Place::Alone(Alone(Arc::clone(link)), read);
    }
    if state.waiting.len() >= defaults::READS_WAITING {
        return Place::Crowded(read);
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
        tokio::spawn(Sender { link: Arc::clone(link), ended: false }.send());
    }
    Place::Waiting(answered)
}

/// A read that has a round trip of its own.
struct Alone(Arc<Link>);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.merge().0.lock().alone = false;
    }
}

/// A task that sends what waits.
struct Sender {
    link: Arc<Link>,
    ended: bool,
}

impl Sender {
    async fn send(mut self) {
        while let Some(waiting) = self.take() {
            let size = Batch::of(waiting).ask(&self.link).await;
            self.link.merge().0.lock().learn(size);
            // Those who were answered read again before it looks whether anybody does.
            yield_now().await;
        }
    }

    /// The reads of the next write; `None`, and the end of this task, if nothing waits.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let mut state = self.link.merge().0.lock();
        let room = state.room.min(state.waiting.len());
        if room == 0 {
            state.senders -= 1;
            self.ended = true;
            return None;
        }
        Some(state.waiting.drain(..room).collect())
    }
}

impl Drop for Sender {
    /// With its runtime, or by a panic, the last task takes those along that wait for it: they are told at once.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.link.merge().0.lock();
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
    async fn ask(self, link: &Arc<Link>) -> Option<Size> {
        let Self { commands, mut callers } = self;
        if callers.is_empty() {
            return Some(Size { replies: 0, bytes: 0 });
        }
        let lent = match link.current() {
            Some(Ok(live)) => Lent::new(Arc::clone(link), live),
            Some(Err(error)) => return tell(callers, &error),
            None => return tell(callers, &link.server().unreachable("not connected yet")),
        };
        let (budget, mut unwanted) = (link.server().budget(), 0);
        let mut connection = lent.another();
        let mut replies = pin!(connection.send_packed_commands(&commands, 0, commands.len()));
        loop {
            let oldest = callers.front()?.began;
            match time::timeout_at((oldest + budget).into(), &mut replies).await {
                Ok(Ok(replies)) => return Some(answer(callers, &lent, replies.into_iter().skip(unwanted))),
                Ok(Err(error)) => return tell(callers, &lent.conclude::<()>(Err(error)).err()?),
                Err(_) => unwanted += expire(&mut callers, &lent, budget),
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

/// Tells those whose budget has ended, and answers how many replies nobody wants any more.
fn expire(callers: &mut VecDeque<Caller>, lent: &Lent, budget: Duration) -> usize {
    let expired = callers.iter().take_while(|caller| caller.began.elapsed() >= budget).count();
    let tell = |caller: Caller| {
        let silence = RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let _ = caller.answer.send(lent.conclude(Err(silence)));
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

    #[test]
    fn a_write_carries_more_after_success_less_where_values_are_large_and_one_after_silence() {
        let Merge(state) = Merge::default();
        let mut state = state.into_inner();
        for expected in [16, 32, 64, 128, defaults::MERGED_READS] {
            state.learn(Some(Size { replies: 4, bytes: 400 }));
            assert_eq!(state.room, expected);
        }
        state.learn(Some(Size { replies: 10, bytes: defaults::MERGED_BYTES }));
        assert_eq!(state.room, 10);
        state.learn(Some(Size { replies: 1, bytes: 4 * defaults::MERGED_BYTES }));
        assert_eq!(state.room, 1);
        state.learn(Some(Size { replies: 1, bytes: 0 }));
        assert_eq!(state.room, 2);
        state.learn(None);
        assert_eq!(state.room, 1);
    }
}
