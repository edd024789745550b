//! The coordinator as the engine uses it: leases for loads, conditional fills, and changes that others must hear of.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use tokio::runtime::Handle;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::timer::{rest, timer};
use crate::coordinator::{
    Acquire, Acquired, Change, Fill, Grant, Position, Revocation, Revoked, SharedCoordinator, Tag, TagTokens, Token,
};
use crate::defaults;
use crate::error::CacheResult;
use crate::invalidation::{Announced, Bus, CoherenceConfig, CoherenceStats, Counter};
use crate::protection::Protection;
use crate::stack::{Forget, Remote};

/// The tier that coordinates a fleet, and what coordinates it.
pub(crate) struct Shared {
    /// Its place in the stack.
    pub(super) position: usize,
    pub(super) remote: Arc<Remote>,
    coordinator: SharedCoordinator,
    pub(super) bus: Option<Arc<Bus>>,
    coherence: CoherenceConfig,
    /// Whether plain writes are announced.
    pub(super) announces_writes: bool,
    /// How long a removal closes the shared tiers below; zero if there are none.
    pub(super) tombstone: Duration,
    /// Tags as they are revoked, for loads of values that have them.
    revoked_tags: broadcast::Sender<Tag>,
    waits: Counter,
    takeovers: Counter,
    unleased: Counter,
    refused: Counter,
    /// The token of every load, should tokens be per client: a known mistake that tests must find.
    client: Token,
}

/// A change that took effect at the coordinator. Held until its author has dropped the keys here once more.
pub(super) struct Outcome<'a> {
    pub(super) revoked: Option<Revoked>,
    announced: Option<Announced<'a>>,
}

impl Outcome<'_> {
    pub(super) fn position(&self) -> Option<Position> {
        self.announced.as_ref()?.position()
    }

    /// Its place in the log, once this process has forgotten what it had before.
    pub(super) fn settled(self) -> Option<Position> {
        let position = self.position();
        self.announced.into_iter().for_each(Announced::settle);
        position
    }
}

/// Whether a value that is present keeps a lease from being granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    No,
    /// Its caller has seen the present value and has no use for it; one that another load made meanwhile would do.
    Once,
    /// It cannot be read, or must not be.
    Always,
}

/// A caller's place in the line for a lease, with what is left of its wait budget.
pub(super) struct Queue {
    /// Whether to wait while another load holds the lease.
    patient: bool,
    began: Instant,
    pause: Duration,
    waited: bool,
    /// How many keys it stands for.
    pub(super) keys: usize,
}

/// What asking for a lease gave.
pub(super) enum Leased {
    /// A value came meanwhile.
    Value(Bytes, Option<Duration>),
    Lease(Lease),
    /// Another instance's load takes longer than the wait budget.
    Late,
    /// The coordinator cannot be asked.
    Unknown,
}

impl Shared {
    pub(super) fn new(
        position: usize,
        remote: Arc<Remote>,
        coordinator: SharedCoordinator,
        bus: Option<Arc<Bus>>,
        coherence: CoherenceConfig,
        announces_writes: bool,
        has_shared_below: bool,
    ) -> Arc<Self> {
        let tombstone = if has_shared_below { defaults::TOMBSTONE } else { Duration::ZERO };
        Arc::new(Self {
            position,
            remote,
            coordinator,
            bus,
            coherence,
            announces_writes,
            tombstone,
            revoked_tags: broadcast::channel(defaults::TAGS_WAITING).0,
            waits: Counter::default(),
            takeovers: Counter::default(),
            unleased: Counter::default(),
            refused: Counter::default(),
            client: Token::random(),
        })
    }

    /// Whether there is a log, and with it a fence and tags.
    pub(super) fn keeps_log(&self) -> bool {
        self.coordinator.keeps_log()
    }

    pub(super) fn queue(patient: bool) -> Queue {
        Queue { patient, began: Instant::now(), pause: defaults::LEASE_POLL_MIN, waited: false, keys: 1 }
    }

    /// The place of a caller that asks once, and does the waiting itself.
    pub(super) fn look(waited: bool) -> Queue {
        Queue { waited, ..Self::queue(false) }
    }

    /// Asks for the lease on `key`, again and again while another load holds it and the caller is patient, within the
    /// wait budget.
    pub(super) async fn lease(
        self: &Arc<Self>,
        key: &Arc<str>,
        mut refresh: Refresh,
        tags: &[Tag],
        queue: &mut Queue,
    ) -> Leased {
        let token = if Protection::TokenPerLoad.is_on() { Token::random() } else { self.client };
        loop {
            let request = Acquire { key, token, lease: self.coherence.lease, refresh: refresh != Refresh::No, tags };
            // Should this future be dropped before the answer comes, the lease it may have got is given back.
            let watched = (!tags.is_empty()).then(|| (tags.to_vec(), self.revoked_tags.subscribe()));
            let (shared, key) = (Arc::clone(self), Arc::clone(key));
            let mut granted = Lease { shared, key, token, grant: None, live: true, watched };
            let acquired = self.remote.perform("acquire", self.coordinator.acquire(request)).await;
            granted.live = !matches!(acquired, Ok(Acquired::Value(..) | Acquired::Busy(_)));
            let busy = match acquired {
                Err(_) => return Leased::Unknown,
                Ok(Acquired::Value(value, ttl)) => return Leased::Value(value, ttl),
                Ok(Acquired::Granted(grant)) => {
                    if queue.waited {
                        self.takeovers.one();
                    }
                    granted.grant = Some(grant);
                    return Leased::Lease(granted);
                }
                Ok(Acquired::Busy(remaining)) => remaining,
            };
            if !self.wait(queue, busy).await {
                return Leased::Late;
            }
            if refresh == Refresh::Once {
                refresh = Refresh::No;
            }
        }
    }

    /// Whether the removal of several keys says as much as their removals one by one: an audit names single keys only.
    pub(super) fn merges_removals(&self) -> bool {
        let audited = self.coordinator.audits() || self.bus.as_ref().is_some_and(|bus| bus.audits());
        self.keeps_log() && !audited
    }

    /// Waits a moment while another load holds a lease; false if the caller waits no longer.
    pub(super) async fn wait(&self, queue: &mut Queue, busy: Duration) -> bool {
        let left = self.coherence.wait_budget.saturating_sub(queue.began.elapsed());
        if !queue.patient || left.is_zero() {
            if queue.patient {
                self.unleased.add(queue.keys);
            }
            return false;
        }
        if !queue.waited {
            self.waits.add(queue.keys);
            queue.waited = true;
        }
        rest(queue.pause.min(left).min(busy.max(defaults::LEASE_POLL_MIN))).await;
        if queue.began.elapsed() > defaults::LEASE_POLL_EAGER {
            queue.pause = (queue.pause * 2).min(defaults::LEASE_POLL_MAX);
        }
        true
    }

    /// Carries out a change at the coordinator, and announces it if there is a bus and `announced`.
    pub(super) async fn revoke(&self, change: &Change, tags: &[Tag], announced: bool) -> CacheResult<Outcome<'_>> {
        let work = async {
            if let (Some(bus), true) = (&self.bus, announced) {
                let announced = bus.announce(change, tags, self.tombstone).await?;
                return Ok(Outcome { revoked: announced.at_the_values(), announced: Some(announced) });
            }
            Ok(Outcome { revoked: Some(self.revoke_quietly(change, tags).await?), announced: None })
        };
        self.remote.perform("invalidate", work).await
    }

    /// The lease that a put has left to itself.
    pub(super) fn own_lease(self: &Arc<Self>, key: &Arc<str>, token: Token, revoked: Revoked) -> Lease {
        let grant = Grant { token, fence: revoked.fence, seq: revoked.at.seq, open_below: false };
        let (shared, key) = (Arc::clone(self), Arc::clone(key));
        Lease { shared, key, token, grant: Some(grant), live: true, watched: None }
    }

    /// A removal of `key` that was owed took effect, and others heard of it if they must.
    pub(super) fn settle(&self, key: &str, failures: u64, announced: bool) {
        if announced || self.bus.is_none() {
            self.remote.settle(key, failures);
        }
    }

    /// Moves the fence of the namespace.
    pub(super) async fn fence(&self) -> CacheResult<()> {
        if !Protection::Fence.is_on() {
            return Ok(());
        }
        // Until the scans are done and announced, too.
        let closed =
            if self.tombstone.is_zero() { Duration::ZERO } else { self.tombstone + 2 * defaults::PATTERN_BUDGET };
        self.remote.perform("fence", self.coordinator.fence(closed)).await
    }

    /// Removes the value and any lease on it where nobody else has to hear of it.
    pub(super) async fn forget_quietly(&self, key: &Arc<str>) {
        let change = Change::Keys(vec![Arc::clone(key)]);
        if self.remote.perform("remove", self.revoke_quietly(&change, &[])).await.is_err() {
            self.remote.owe(key);
        }
    }

    /// Replaces the value where nobody else has to hear of it.
    pub(super) async fn replace(&self, key: &str, value: Bytes, ttl: Duration) -> CacheResult<()> {
        let failures = self.remote.failures();
        let stored = self.remote.perform("set", self.coordinator.replace(key, value, ttl)).await;
        if stored.is_ok() {
            self.remote.settle(key, failures);
            return stored;
        }
        self.remote.owe(key);
        let failures = self.remote.failures();
        // A server that refuses a value still removes the older one.
        if self.remote.perform("remove", self.forget(&[key])).await.is_ok() {
            self.remote.settle(key, failures);
        }
        stored
    }

    pub(super) async fn open_below(&self, key: &str) -> CacheResult<bool> {
        self.remote.perform("acquire", self.coordinator.open_below(key)).await
    }

    pub(super) async fn tag_tokens(&self, tags: &[Tag]) -> CacheResult<TagTokens> {
        self.remote.perform("get", self.coordinator.tag_tokens(tags)).await
    }

    /// A tag was revoked: what is being loaded under it could not be kept.
    pub(super) fn tag_revoked(&self, tag: &Tag) {
        // Nobody listens unless something with tags is being loaded.
        let _ = self.revoked_tags.send(Arc::clone(tag));
    }

    /// Longest age of the proof that what is stored in process is fresh.
    pub(super) fn staleness_bound(&self) -> Duration {
        self.coherence.staleness_bound
    }

    pub(super) fn fill_stats(&self, stats: &mut CoherenceStats) {
        if let Some(bus) = &self.bus {
            bus.fill_stats(stats);
        }
        stats.refused_fills = self.refused.get();
        stats.lease_waits = self.waits.get();
        stats.takeovers = self.takeovers.get();
        stats.unleased_loads = self.unleased.get();
        stats.pending_invalidations = self.remote.owed();
    }
}

/// The right to fill a key at the coordinator. Dropped unused, it is given back in the background.
pub(super) struct Lease {
    shared: Arc<Shared>,
    key: Arc<str>,
    token: Token,
    grant: Option<Grant>,
    live: bool,
    /// The tags of the value that is loaded under it, and what is heard of their revocation.
    watched: Option<(Vec<Tag>, broadcast::Receiver<Tag>)>,
}

impl Lease {
    /// Whether the tiers below may be read.
    pub(super) fn is_open_below(&self) -> bool {
        self.grant.is_some_and(|grant| grant.open_below)
    }

    /// The epoch and place of the log that it was granted at.
    pub(super) fn granted_at(&self) -> Option<(u64, u64)> {
        self.grant.map(|grant| (grant.fence.epoch, grant.seq))
    }

    /// Whether it was given back before it was used: what was loaded is not to be stored.
    pub(super) fn is_given_back(&self) -> bool {
        self.grant.is_none()
    }

    /// Runs a load, and keeps the lease from ending before it does, unless a tag of the value is revoked: then others
    /// need not wait for a value that could not be kept. A lease that was lost is not got back: an invalidation may have
    /// ended it.
    pub(super) async fn keep_during<R>(lease: Option<&mut Self>, load: impl Future<Output = R>) -> R {
        let Some(lease) = lease.filter(|_| Handle::try_current().is_ok()) else { return load.await };
        select(pin!(load), pin!(lease.watch_over())).await.factor_first().0
    }

    async fn watch_over<R>(&mut self) -> R {
        let shared = Arc::clone(&self.shared);
        while let Some(timer) = timer(shared.coherence.lease / 3) {
            let is_revoked = matches!(select(pin!(timer), pin!(self.tag_revoked())).await, Either::Right(_));
            if is_revoked && self.is_outdated().await {
                self.grant = None;
                let _ = shared.remote.perform("release", shared.coordinator.release(&self.key, self.token)).await;
                self.live = false;
                break;
            }
            if let Ok(false) = shared.coordinator.renew(&self.key, self.token, shared.coherence.lease).await {
                break;
            }
        }
        pending().await
    }

    /// Ends when a tag of the value may have been revoked.
    async fn tag_revoked(&mut self) {
        let Some((tags, revoked)) = &mut self.watched else { return pending().await };
        loop {
            match revoked.recv().await {
                Ok(tag) if !tags.contains(&tag) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => return pending().await,
            }
        }
    }

    /// Whether a tag of the value was revoked after the lease was granted: it may have been heard of later than that.
    async fn is_outdated(&self) -> bool {
        let (Some(grant), Some((tags, _))) = (&self.grant, &self.watched) else { return false };
        let Ok(current) = self.shared.tag_tokens(tags).await else { return false };
        current.epoch == grant.fence.epoch && current.tokens.iter().flatten().any(|revoked| *revoked > grant.seq)
    }

    /// Stores the value if the lease still holds; true if it was stored. After an error it may have been stored, or be
    /// stored later, but never over a later invalidation.
    /// `value` is as it is to be stored, with its tags in front.
    pub(super) async fn fill(mut self, value: Bytes, ttl: Duration, tags: &[Tag]) -> CacheResult<bool> {
        let Some(grant) = self.grant.take() else { return Ok(false) };
        self.live = false;
        let shared = Arc::clone(&self.shared);
        let failures = shared.remote.failures();
        let filled = if Protection::FillUnderLease.is_on() {
            let fill = Fill { key: &self.key, grant, value, ttl, tags };
            shared.remote.perform("set", shared.coordinator.fill(fill)).await?
        } else {
            shared.remote.perform("set", shared.coordinator.replace(&self.key, value, ttl)).await?;
            true
        };
        if !filled {
            shared.refused.one();
        } else if shared.bus.is_none() {
            // With a bus, others must still hear of a removal that failed.
            shared.remote.settle(&self.key, failures);
        }
        Ok(filled)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.live {
            let (shared, key, token) = (Arc::clone(&self.shared), Arc::clone(&self.key), self.token);
            runtime.spawn(async move {
                let _ = shared.remote.perform("release", shared.coordinator.release(&key, token)).await;
            });
        }
    }
}

impl Forget for Shared {
    fn forget<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            let change = Change::Keys(keys.iter().map(|key| Arc::from(*key)).collect());
            self.revoke_bare(&change).await
        })
    }

    fn forget_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            if !self.keeps_log() {
                return self.remote.scan_for(pattern).await;
            }
            self.coordinator.fence(self.tombstone).await?;
            self.remote.scan_for(pattern).await?;
            self.revoke_bare(&Change::Pattern(pattern.into())).await
        })
    }

    fn forget_tag<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move { self.revoke_bare(&Change::Tag(tag.into())).await })
    }
}

impl Shared {
    /// Without the tier's own accounting, which its caller does.
    async fn revoke_bare(&self, change: &Change) -> CacheResult<()> {
        if let Some(bus) = &self.bus {
            let _announced = bus.announce(change, &[], self.tombstone).await?;
            bus.apply(&change.into());
            return Ok(());
        }
        self.revoke_quietly(change, &[]).await.map(drop)
    }

    /// Carries out a change of which no other instance has to hear.
    async fn revoke_quietly(&self, change: &Change, tags: &[Tag]) -> CacheResult<Revoked> {
        let (nonce, lease, tombstone) = (fastrand::u64(1..), self.coherence.lease, self.tombstone);
        let quietly = Revocation { change, nonce, with_values: true, announced: false, tombstone, lease, tags };
        self.coordinator.revoke(quietly).await
    }
}
