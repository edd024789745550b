//! Named barriers around what one instance asks of its coordinator.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::coordinator::{
    Acquire, Acquired, Coordinator, Fill, Messages, Position, Record, Revocation, Revoked, SharedCoordinator, Tag,
    TagTokens, Tail, Token,
};
use crate::error::{CacheError, CacheResult, Failure};

/// What an instance asks of its coordinator, and what it hears from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Taking the lease on a key.
    Acquire,
    /// Storing a value under a lease.
    Fill,
    /// Making a lease last longer.
    Renew,
    /// Giving a lease back.
    Release,
    /// Storing a value unconditionally.
    Replace,
    /// A removal, the first half of a put, a tag's or a pattern's revocation.
    Revoke,
    /// Moving the fence.
    Fence,
    /// Asking whether the tiers below may be read.
    OpenBelow,
    /// Asking where the log stands.
    Poll,
    /// Reading the log.
    ReadLog,
    /// Asking for the tokens of tags.
    TagTokens,
    /// Subscribing.
    Listen,
    /// A message, before the instance hears it.
    Message,
}

/// Where a step is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before it reaches the coordinator.
    Before,
    /// Between its effect and its answer.
    After,
}

/// Barriers, failures and losses between one instance and its coordinator; give it to
/// [`with_stage`](crate::CacheSystemBuilder::with_stage). Clones are the same stage.
#[derive(Clone, Default)]
pub struct Stage(Arc<Inner>);

#[derive(Default)]
struct Inner {
    holds: Mutex<Vec<Hold>>,
    failing: Mutex<Vec<(Step, usize)>>,
    calls: Mutex<Vec<Step>>,
    deaf: Mutex<bool>,
    cut: Notify,
    stepping: Mutex<bool>,
}

struct Hold {
    step: Step,
    when: When,
    reached: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// A step that will be held, or is.
#[derive(Debug)]
pub struct Held {
    reached: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Held {
    /// Waits until the step has come to where it is held.
    ///
    /// # Panics
    /// If the instance is gone.
    pub async fn reached(&mut self) {
        assert!((&mut self.reached).await.is_ok(), "the step to be held never came");
    }

    /// Lets it go on. Dropping it does the same.
    pub fn release(self) {
        let _ = self.release.send(());
    }
}

impl Stage {
    /// A stage that lets everything pass.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the next `step`.
    #[must_use]
    pub fn hold(&self, step: Step, when: When) -> Held {
        let (reached, was_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        self.0.holds.lock().push(Hold { step, when, reached, released });
        Held { reached: was_reached, release }
    }

    /// Lets the next `times` calls of `step` fail before they reach the coordinator, as an outage.
    pub fn fail(&self, step: Step, times: usize) {
        self.0.failing.lock().push((step, times));
    }

    /// Ends all failures.
    pub fn mend(&self) {
        self.0.failing.lock().clear();
    }

    /// How often the instance took this step.
    #[must_use]
    pub fn calls(&self, step: Step) -> usize {
        self.0.calls.lock().iter().filter(|called| **called == step).count()
    }

    /// Loses every message from now on, or no more.
    pub fn lose_messages(&self, lose: bool) {
        *self.0.deaf.lock() = lose;
    }

    /// Ends the subscription; the instance subscribes anew.
    pub fn cut(&self) {
        self.0.cut.notify_waiters();
    }

    /// Makes every step two awaits, one before and one after its effect: for schedulers that explore interleavings.
    pub fn take_steps_apart(&self) {
        *self.0.stepping.lock() = true;
    }

    pub(crate) fn around(&self, coordinator: SharedCoordinator) -> SharedCoordinator {
        Arc::new(Staged { stage: self.clone(), coordinator })
    }

    async fn pass<R>(&self, step: Step, work: impl Future<Output = CacheResult<R>>) -> CacheResult<R> {
        self.0.calls.lock().push(step);
        self.wait(step, When::Before).await;
        if self.fails(step) {
            return Err(CacheError::BackendError(Failure::new("made to fail by the test").retryable()));
        }
        let outcome = work.await;
        self.wait(step, When::After).await;
        outcome
    }

    async fn wait(&self, step: Step, when: When) {
        let stepping = *self.0.stepping.lock();
        if stepping {
            tokio::task::yield_now().await;
        }
        let held = {
            let mut holds = self.0.holds.lock();
            let place = holds.iter().position(|hold| hold.step == step && hold.when == when);
            place.map(|place| holds.remove(place))
        };
        if let Some(Hold { reached, released, .. }) = held {
            let _ = reached.send(());
            let _ = released.await;
        }
    }

    fn fails(&self, step: Step) -> bool {
        let mut failing = self.0.failing.lock();
        let Some((_, times)) = failing.iter_mut().find(|(failing, times)| *failing == step && *times > 0) else {
            return false;
        };
        *times -= 1;
        true
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("calls", &self.0.calls.lock().len()).finish_non_exhaustive()
    }
}

struct Staged {
    stage: Stage,
    coordinator: SharedCoordinator,
}

macro_rules! staged {
    ($self:ident, $step:ident, $call:expr) => {
        Box::pin(async move { $self.stage.pass(Step::$step, $call).await })
    };
}

impl Coordinator for Staged {
    fn keeps_log(&self) -> bool {
        self.coordinator.keeps_log()
    }

    fn acquire<'a>(&'a self, ask: Acquire<'a>) -> BoxFuture<'a, CacheResult<Acquired>> {
        staged!(self, Acquire, self.coordinator.acquire(ask))
    }

    fn fill<'a>(&'a self, fill: Fill<'a>) -> BoxFuture<'a, CacheResult<bool>> {
        staged!(self, Fill, self.coordinator.fill(fill))
    }

    fn renew<'a>(&'a self, key: &'a str, token: Token, lease: Duration) -> BoxFuture<'a, CacheResult<bool>> {
        staged!(self, Renew, self.coordinator.renew(key, token, lease))
    }

    fn release<'a>(&'a self, key: &'a str, token: Token) -> BoxFuture<'a, CacheResult<()>> {
        staged!(self, Release, self.coordinator.release(key, token))
    }

    fn replace<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        staged!(self, Replace, self.coordinator.replace(key, value, ttl))
    }

    fn revoke<'a>(&'a self, revocation: Revocation<'a>) -> BoxFuture<'a, CacheResult<Revoked>> {
        staged!(self, Revoke, self.coordinator.revoke(revocation))
    }

    fn fence(&self, closed_below: Duration) -> BoxFuture<'_, CacheResult<()>> {
        staged!(self, Fence, self.coordinator.fence(closed_below))
    }

    fn open_below<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<bool>> {
        staged!(self, OpenBelow, self.coordinator.open_below(key))
    }

    fn poll(&self, forked: Option<Position>) -> BoxFuture<'_, CacheResult<Tail>> {
        staged!(self, Poll, self.coordinator.poll(forked))
    }

    fn read_log(&self, seq: u64, count: usize) -> BoxFuture<'_, CacheResult<Vec<Record>>> {
        staged!(self, ReadLog, self.coordinator.read_log(seq, count))
    }

    fn tag_tokens<'a>(&'a self, tags: &'a [Tag]) -> BoxFuture<'a, CacheResult<TagTokens>> {
        staged!(self, TagTokens, self.coordinator.tag_tokens(tags))
    }

    fn listen(&self) -> BoxFuture<'_, CacheResult<Messages>> {
        Box::pin(async move {
            let messages = self.stage.pass(Step::Listen, self.coordinator.listen()).await?;
            let stage = self.stage.clone();
            let heard = stream::unfold((messages, stage), |(mut messages, stage)| async move {
                loop {
                    let message = match select(pin!(stage.0.cut.notified()), messages.next()).await {
                        Either::Left(_) => return None,
                        Either::Right((message, _)) => message?,
                    };
                    stage.wait(Step::Message, When::Before).await;
                    let lost = *stage.0.deaf.lock();
                    if !lost {
                        return Some((message, (messages, stage)));
                    }
                }
            });
            Ok(heard.boxed())
        })
    }
}
