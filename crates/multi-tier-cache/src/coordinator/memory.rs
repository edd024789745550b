//! A coordinator inside the process: for tests, and for several caches of one process.
//!
//! [`State`] is the protocol without I/O and without time of its own: the model drives it as it is. [`Hub`] puts it
//! behind a lock and is a tier besides.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream;
use tokio::sync::mpsc;

use super::message::{body, chained};
use super::{
    Acquire, Acquired, Change, Coordinator, Fence, Fill, Grant, Messages, Position, Record, Recorded, Revocation,
    Revoked, Tag, TagTokens, Tail, Token,
};
use crate::backends::glob::Glob;
use crate::clock::{Clock, Moment};
use crate::error::CacheResult;
use crate::protection::Protection;
use crate::sync::Mutex;
use crate::traits::{CacheBackend, Capabilities, L2CacheBackend, ValueAndTtl};

/// What a coordinator holds. Cloneable: a clone is what an asynchronous replica had when it was cut off.
#[derive(Debug, Clone)]
pub(crate) struct State {
    values: HashMap<String, (Bytes, Moment)>,
    leases: HashMap<String, Held>,
    tombstones: HashMap<String, Moment>,
    closed_below: Moment,
    tags: HashMap<Tag, u64>,
    tail: Position,
    fence: u64,
    log: VecDeque<Record>,
    log_length: usize,
}

/// A lease: its owner, and the fence it was granted under.
#[derive(Debug, Clone, Copy)]
struct Held {
    by: Token,
    under: Fence,
    until: Moment,
}

impl State {
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn new(log_length: usize) -> Self {
        Self {
            values: HashMap::new(),
            leases: HashMap::new(),
            tombstones: HashMap::new(),
            closed_below: Moment::from_nanos(0),
            tags: HashMap::new(),
            tail: new_epoch(),
            fence: 0,
            log: VecDeque::new(),
            log_length,
        }
    }

    pub(crate) fn value(&self, key: &str, now: Moment) -> Option<(Bytes, Option<Duration>)> {
        let (value, expires) = self.values.get(key).filter(|(_, expires)| *expires > now)?;
        Some((value.clone(), Some(expires.since(now))))
    }

    pub(crate) fn store(&mut self, key: &str, value: Bytes, ttl: Duration, now: Moment) {
        if ttl.is_zero() {
            self.values.remove(key);
        } else {
            self.values.insert(key.to_owned(), (value, now.after(ttl)));
        }
    }

    pub(crate) fn remove_where(&mut self, matches: impl Fn(&str) -> bool) {
        self.values.retain(|key, _| !matches(key));
    }

    pub(crate) fn acquire(&mut self, ask: &Acquire<'_>, now: Moment) -> Acquired {
        if let Some((value, ttl)) = self.value(ask.key, now).filter(|_| !ask.refresh) {
            return Acquired::Value(value, ttl);
        }
        let held = self.lease(ask.key, now);
        if let Some(held) = held.filter(|held| held.by != ask.token) {
            return Acquired::Busy(held.until.since(now));
        }
        // Who asks again keeps the fence of the first grant: it may have begun to read under that one.
        let under = held.map_or(self.current_fence(), |held| held.under);
        self.leases.insert(ask.key.to_owned(), Held { by: ask.token, under, until: now.after(ask.lease) });
        self.create_tokens(ask.tags);
        Acquired::Granted(Grant {
            token: ask.token,
            fence: self.current_fence(),
            seq: self.tail.seq,
            open_below: self.open_below(ask.key, now),
        })
    }

    pub(crate) fn fill(&mut self, fill: &Fill<'_>, now: Moment) -> bool {
        let Grant { token, fence, seq, .. } = fill.grant;
        let held = self.lease(fill.key, now);
        let leased = match held {
            Some(held) => held.by == token,
            None => !Protection::AbsenceRefuses.is_on(),
        };
        if !leased && Protection::FillUnderLease.is_on() {
            return false;
        }
        self.leases.remove(fill.key);
        let under = held.filter(|_| leased).map_or(fence, |held| held.under);
        let current = self.current_fence();
        let unfenced = under == current && fence.epoch == current.epoch || !Protection::Fence.is_on();
        self.create_tokens(fill.tags);
        let current = |tag: &Tag| self.tags.get(tag).is_some_and(|revoked| *revoked <= seq);
        let untouched = fill.tags.iter().all(current) || !Protection::TagCheck.is_on();
        let admitted = unfenced && untouched && !fill.ttl.is_zero();
        if admitted {
            self.store(fill.key, fill.value.clone(), fill.ttl, now);
        }
        admitted
    }

    pub(crate) fn renew(&mut self, key: &str, token: Token, lease: Duration, now: Moment) -> bool {
        match self.leases.get_mut(key) {
            Some(held) if held.by == token && held.until > now => {
                held.until = now.after(lease);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn release(&mut self, key: &str, token: Token) {
        if self.leases.get(key).is_some_and(|held| held.by == token) {
            self.leases.remove(key);
        }
    }

    pub(crate) fn replace(&mut self, key: &str, value: Bytes, ttl: Duration, now: Moment) {
        self.leases.remove(key);
        self.store(key, value, ttl, now);
    }

    /// Carries out a change and answers the message to publish.
    pub(crate) fn revoke(&mut self, revocation: &Revocation<'_>, now: Moment) -> Option<String> {
        let Revocation { change, nonce, with_values, announced, tombstone, lease, tags } = *revocation;
        if with_values {
            match change {
                Change::Keys(keys) => keys.iter().for_each(|key| self.drop_key(key, tombstone, now)),
                Change::Put(key, token) => {
                    self.drop_key(key, tombstone, now);
                    let held = Held { by: *token, under: self.current_fence(), until: now.after(lease) };
                    self.leases.insert(key.to_string(), held);
                }
                Change::Tag(tag) => drop(self.tags.insert(Arc::clone(tag), self.tail.seq + 1)),
                Change::Pattern(_) | Change::Clear => {}
            }
            self.create_tokens(tags);
        }
        let logged = announced || with_values && matches!(change, Change::Tag(_));
        logged.then(|| self.log(change.into(), nonce))
    }

    fn drop_key(&mut self, key: &str, tombstone: Duration, now: Moment) {
        self.values.remove(key);
        self.leases.remove(key);
        if !tombstone.is_zero() {
            self.tombstones.insert(key.to_owned(), now.after(tombstone));
        }
    }

    fn lease(&self, key: &str, now: Moment) -> Option<Held> {
        self.leases.get(key).filter(|held| held.until > now).copied()
    }

    fn revoked(&self) -> Revoked {
        Revoked { at: self.tail, fence: self.current_fence() }
    }

    fn current_fence(&self) -> Fence {
        Fence { epoch: self.tail.epoch, count: self.fence }
    }

    fn log(&mut self, change: Recorded, nonce: u64) -> String {
        let previous = self.tail.nonce;
        self.tail = Position { seq: self.tail.seq + 1, nonce, ..self.tail };
        let message = chained(&body(&change), self.tail, previous);
        self.log.push_back(Record { at: self.tail, previous, change });
        if self.log.len() > self.log_length {
            self.log.pop_front();
        }
        message
    }

    pub(crate) fn fence(&mut self, closed_below: Duration, now: Moment) {
        self.fence += 1;
        self.closed_below = self.closed_below.max(now.after(closed_below));
    }

    pub(crate) fn open_below(&self, key: &str, now: Moment) -> bool {
        let closed = self.closed_below > now || self.tombstones.get(key).is_some_and(|until| *until > now);
        !closed || !Protection::Tombstone.is_on()
    }

    pub(crate) fn poll(&mut self, forked: Option<Position>, now: Moment) -> Tail {
        if forked.is_some_and(|forked| forked.epoch == self.tail.epoch) {
            self.begin_epoch();
        }
        Tail { at: self.tail, clock: now.as_nanos() / 1_000_000 }
    }

    pub(crate) fn read_log(&self, seq: u64, count: usize) -> Vec<Record> {
        self.log.iter().filter(|record| record.at.seq > seq).take(count).cloned().collect()
    }

    pub(crate) fn tag_tokens(&self, tags: &[Tag]) -> TagTokens {
        TagTokens { epoch: self.tail.epoch, tokens: tags.iter().map(|tag| self.tags.get(tag).copied()).collect() }
    }

    /// Loses everything, as a server that is flushed or restarts empty.
    #[cfg(feature = "test-util")]
    pub(crate) fn flush(&mut self) {
        *self = Self::new(self.log_length);
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn evict_leases(&mut self) {
        self.leases.clear();
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn evict_tags(&mut self) {
        self.tags.clear();
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn evict_bus(&mut self) {
        self.begin_epoch();
    }

    fn begin_epoch(&mut self) {
        (self.tail, self.fence) = (new_epoch(), 0);
        self.log.clear();
        self.tags.clear();
    }

    fn create_tokens(&mut self, tags: &[Tag]) {
        for tag in tags {
            self.tags.entry(Arc::clone(tag)).or_insert(self.tail.seq);
        }
    }
}

fn new_epoch() -> Position {
    Position { epoch: fastrand::u64(..), seq: 0, nonce: 0 }
}

/// A tier in memory that caches of one process share, and their coordinator. Clones are the same tier.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

pub(crate) struct Shared {
    state: Mutex<State>,
    clock: Clock,
    listeners: Mutex<Vec<mpsc::UnboundedSender<Vec<u8>>>>,
}

impl Hub {
    /// An empty tier that keeps `log_length` invalidations.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn with_log(clock: Clock, log_length: usize) -> Self {
        let (state, listeners) = (Mutex::new(State::new(log_length)), Mutex::new(Vec::new()));
        Self(Arc::new(Shared { state, clock, listeners }))
    }

    pub(crate) fn with_state<R>(&self, change: impl FnOnce(&mut State, Moment) -> R) -> R {
        change(&mut self.0.state.lock(), self.0.clock.now())
    }

    /// The same, when the future is first polled.
    fn step<'a, R>(
        &'a self,
        change: impl FnOnce(&mut State, Moment) -> R + Send + 'a,
    ) -> BoxFuture<'a, CacheResult<R>> {
        Box::pin(async move { Ok(self.with_state(change)) })
    }

    /// Sends a payload to every listener, as any program can.
    pub(crate) fn publish(&self, payload: &[u8]) {
        self.0.listeners.lock().retain(|listener| listener.send(payload.to_vec()).is_ok());
    }

    fn listen_here(&self) -> mpsc::UnboundedReceiver<Vec<u8>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.listeners.lock().push(sender);
        receiver
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn listener(&self) -> mpsc::UnboundedReceiver<Vec<u8>> {
        self.listen_here()
    }

    /// Ends every subscription.
    #[cfg(feature = "test-util")]
    pub(crate) fn cut(&self) {
        self.0.listeners.lock().clear();
    }
}

fn done<'a, R: Send + 'a>(outcome: R) -> BoxFuture<'a, CacheResult<R>> {
    Box::pin(ready(Ok(outcome)))
}

impl CacheBackend for Hub {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.with_state(|state, now| state.value(key, now)).map(|(value, _)| value) })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.step(move |state, now| state.store(key, value, ttl, now))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.step(move |state, _| state.remove_where(|stored| stored == key))
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(ready(true))
    }

    fn name(&self) -> &'static str {
        "Hub"
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        let glob = Glob::new(pattern);
        self.step(move |state, _| state.remove_where(|key| glob.matches(key)))
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        self.step(move |state, _| state.remove_where(|_| true))
    }

    fn capabilities(&self) -> Capabilities {
        let what = Capabilities::TTL.and(Capabilities::PATTERN).and(Capabilities::CLEAR);
        what.and(Capabilities::SHARED).and(Capabilities::BUDGETED).and(Capabilities::CONDITIONAL_FILL)
    }

    fn concrete(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}

impl L2CacheBackend for Hub {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<ValueAndTtl>> {
        Box::pin(async move { self.with_state(|state, now| state.value(key, now)) })
    }
}

impl Coordinator for Hub {
    fn acquire<'a>(&'a self, ask: Acquire<'a>) -> BoxFuture<'a, CacheResult<Acquired>> {
        self.step(move |state, now| state.acquire(&ask, now))
    }

    fn fill<'a>(&'a self, fill: Fill<'a>) -> BoxFuture<'a, CacheResult<bool>> {
        self.step(move |state, now| state.fill(&fill, now))
    }

    fn renew<'a>(&'a self, key: &'a str, token: Token, lease: Duration) -> BoxFuture<'a, CacheResult<bool>> {
        self.step(move |state, now| state.renew(key, token, lease, now))
    }

    fn release<'a>(&'a self, key: &'a str, token: Token) -> BoxFuture<'a, CacheResult<()>> {
        self.step(move |state, _| state.release(key, token))
    }

    fn replace<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.step(move |state, now| state.replace(key, value, ttl, now))
    }

    fn revoke<'a>(&'a self, revocation: Revocation<'a>) -> BoxFuture<'a, CacheResult<Revoked>> {
        Box::pin(async move {
            if !Protection::RemoveBeforePublish.is_on() && revocation.announced {
                let logged = self.with_state(|state, _| state.log(revocation.change.into(), revocation.nonce));
                self.publish(logged.as_bytes());
                tokio::task::yield_now().await;
                let late = Revocation { announced: false, ..revocation };
                return Ok(self.with_state(|state, now| {
                    state.revoke(&late, now);
                    state.revoked()
                }));
            }
            Ok(self.with_state(|state, now| {
                // Under the lock: messages come in the order of the log.
                if let Some(message) = state.revoke(&revocation, now) {
                    self.publish(message.as_bytes());
                }
                state.revoked()
            }))
        })
    }

    fn fence(&self, closed_below: Duration) -> BoxFuture<'_, CacheResult<()>> {
        self.step(move |state, now| state.fence(closed_below, now))
    }

    fn open_below<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<bool>> {
        self.step(move |state, now| state.open_below(key, now))
    }

    fn poll(&self, forked: Option<Position>) -> BoxFuture<'_, CacheResult<Tail>> {
        self.step(move |state, now| state.poll(forked, now))
    }

    fn read_log(&self, seq: u64, count: usize) -> BoxFuture<'_, CacheResult<Vec<Record>>> {
        self.step(move |state, _| state.read_log(seq, count))
    }

    fn tag_tokens<'a>(&'a self, tags: &'a [Tag]) -> BoxFuture<'a, CacheResult<TagTokens>> {
        self.step(move |state, _| state.tag_tokens(tags))
    }

    fn listen(&self) -> BoxFuture<'_, CacheResult<Messages>> {
        let messages =
            stream::unfold(self.listen_here(), |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        done(messages.boxed())
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("Hub").field("values", &state.values.len()).field("tail", &state.tail).finish_non_exhaustive()
    }
}
