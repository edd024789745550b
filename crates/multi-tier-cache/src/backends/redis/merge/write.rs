//! One write with several reads, and who gets which reply.

use std::pin::pin;

use bytes::Bytes;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisResult, Value};
use tokio::time::{self, Instant};

use super::super::connection::Lent;
use super::super::stored::remaining;
use super::{Waiting, silence};
use crate::traits::ValueAndTtl;

/// The reads of one write, oldest first.
pub(super) struct Write {
    reads: Vec<Waiting>,
    lent: Lent,
}

/// How a write asks for its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// By one command for all of them.
    Together,
    /// By a command for each.
    Singly,
}

/// What came back, and how much.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Replied {
    pub(super) reads: usize,
    pub(super) bytes: usize,
    /// Whether the one command for all keys was refused.
    pub(super) refused: bool,
}

impl Write {
    /// Callers that have gone away are not asked for.
    pub(super) fn of(mut reads: Vec<Waiting>, lent: Lent) -> Self {
        reads.retain(|read| read.answer.as_ref().is_some_and(|answer| !answer.is_closed()));
        Self { reads, lent }
    }

    /// Sends the commands and gives every caller its reply; one whose budget ends before it comes gets an error then.
    /// Answers how large the replies were, if they came.
    pub(super) async fn ask(mut self, mut form: Form) -> Option<Replied> {
        let mut replied = Replied::default();
        while !self.reads.is_empty() {
            let replies = self.round_trip(form).await?.into_iter();
            match form {
                Form::Together => self.share(replies, &mut replied),
                Form::Singly => self.give(replies, &mut replied),
            }
            self.reads.retain(|read| read.answer.is_some());
            form = Form::Singly;
        }
        Some(replied)
    }

    /// The replies to one write; `None` if none came, and every caller knows.
    async fn round_trip(&mut self, form: Form) -> Option<Vec<Value>> {
        let Self { reads, lent } = self;
        let (commands, sent, budget) = (commands(reads, form), Instant::now(), lent.budget());
        let mut connection = lent.another();
        let mut replies = pin!(connection.send_packed_commands(&commands, 0, commands.len()));
        loop {
            let oldest = reads.iter().find(|read| read.answer.is_some())?.began;
            match time::timeout(budget.saturating_sub(oldest.elapsed()), &mut replies).await {
                Ok(Ok(replies)) => return Some(replies),
                Ok(Err(error)) => {
                    let error = lent.conclude::<()>(Err(error)).err()?;
                    reads.iter_mut().for_each(|read| read.tell(Err(error.clone())));
                    return None;
                }
                Err(_) => expire(reads, lent, sent),
            }
        }
    }

    /// Gives every caller what the reply to all of them says of its key, if that is a value.
    fn share(&mut self, mut replies: impl Iterator<Item = Value>, replied: &mut Replied) {
        let ages = self.reads.iter().filter(|read| read.with_ttl).count();
        let ages: Vec<Value> = replies.by_ref().take(ages).collect();
        let Some(Ok(Value::Array(values))) = replies.next().map(Value::extract_error) else {
            replied.refused = true;
            return;
        };
        let mut ages = ages.into_iter();
        for (read, value) in self.reads.iter_mut().zip(values) {
            let age = if read.with_ttl { ages.next() } else { None };
            if !matches!(value, Value::Nil) {
                conclude(read, &self.lent, found(age, value), replied);
            }
        }
    }

    /// Gives every caller its own reply.
    fn give(&mut self, mut replies: impl Iterator<Item = Value>, replied: &mut Replied) {
        for read in &mut self.reads {
            let age = read.with_ttl.then(|| next(&mut replies)).transpose();
            let outcome = age.and_then(|age| found(age, next(&mut replies)?));
            conclude(read, &self.lent, outcome, replied);
        }
    }
}

fn conclude(read: &mut Waiting, lent: &Lent, outcome: RedisResult<Option<ValueAndTtl>>, replied: &mut Replied) {
    replied.reads += 1;
    if let Ok(Some((value, _))) = &outcome {
        replied.bytes += value.len();
    }
    read.tell(lent.conclude(outcome));
}

/// Tells those whose budget has ended. Only a connection that had a good part of the budget is silent: the rest may have
/// passed in the queue.
fn expire(reads: &mut [Waiting], lent: &Lent, sent: Instant) {
    let budget = lent.budget();
    let error = silence(lent.link());
    if sent.elapsed() >= budget / 2 {
        lent.suspect(&error);
    }
    let expired = reads.iter_mut().take_while(|read| read.answer.is_none() || read.began.elapsed() >= budget);
    expired.for_each(|read| read.tell(Err(error.clone())));
}

/// The commands of one write. The times to live come before the values: should another client write in between, a newer
/// value comes with the older time, and never an older value with a newer one, which would let a copy of it outlive its
/// successor.
fn commands(reads: &[Waiting], form: Form) -> Pipeline {
    let mut commands = Pipeline::with_capacity(reads.len());
    let keys = reads.iter().map(|read| read.key.len()).sum();
    let mut together = Cmd::with_capacity(reads.len() + 1, keys);
    together.arg("MGET");
    for read in reads {
        if read.with_ttl {
            commands.add_command(command("PTTL", &read.key));
        }
        match form {
            Form::Together => {
                together.arg(&read.key);
            }
            Form::Singly => {
                commands.add_command(command("GET", &read.key));
            }
        }
    }
    if form == Form::Together {
        commands.add_command(together);
    }
    commands
}

/// A read alone, in the same order.
pub(super) async fn read_alone(lent: &mut Lent, key: &str, with_ttl: bool) -> RedisResult<Option<ValueAndTtl>> {
    let value = command("GET", key);
    if !with_ttl {
        return found(None, lent.connection().send_packed_command(&value).await?);
    }
    let mut both = Pipeline::with_capacity(2);
    both.add_command(command("PTTL", key)).add_command(value);
    let mut replies = lent.connection().send_packed_commands(&both, 0, both.len()).await?.into_iter();
    let ttl = next(&mut replies)?;
    found(Some(ttl), next(&mut replies)?)
}

fn command(name: &str, key: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len());
    command.arg(name).arg(key);
    command
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
