//! Writes: filling what was read or loaded, promoting it, and putting what a caller brings.
//!
//! The coordinator comes first: what it refuses is stored nowhere. Then the other tiers that are awaited, from the
//! lowest up; then, at once and under the stamps, those in this process. Writers of one key take turns at the tiers
//! that are awaited, so that what such a tier ends with is what the last writer stored.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tracing::Instrument;

use super::below::took_too_long;
use super::finish::{Finish, Unfinished, finish};
use super::invalidate::Refused;
use super::shared::{Lease, Outcome, Shared};
use super::{Answer, Engine, Hit, Source, check_key};
use crate::clock::Moment;
use crate::coordinator::{Change, Position, Tag, Token};
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult, Failure};
use crate::local::{Lead, Left, Origin, Placed, Watch};
use crate::policy::{Lifespan, promoted};
use crate::protection::Protection;
use crate::stack::{Remote, Tier};
use crate::telemetry::{Operation, Series, Telemetry};

/// What the leader of a flight found or loaded.
pub(super) struct Led {
    pub(super) origin: Origin,
    /// Copies for the tiers above it, or for all.
    pub(super) copies: Vec<Placed>,
    /// The tiers that its caller skips, and what they forget when the copies are stored.
    pub(super) left: Left,
    /// The right to store one at the coordinator.
    pub(super) lease: Option<Lease>,
    pub(super) answer: Answer,
}

/// A flight whose leader has an answer.
pub(super) enum Settled {
    Landed(Answer),
    /// A tier has to be awaited first. Goes on even if its caller goes away.
    Landing(Finish<BoxFuture<'static, Answer>>),
}

impl Settled {
    pub(super) async fn answer(self) -> Answer {
        match self {
            Self::Landed(answer) => answer,
            Self::Landing(work) => work.await,
        }
    }
}

/// A put.
#[derive(Clone, Copy)]
pub(crate) struct Put<'a> {
    pub(crate) span: Lifespan<'a>,
    pub(crate) tags: &'a [Tag],
    /// The places of tiers that get no copy, and keep no older one.
    pub(crate) skipped: &'a [usize],
    /// Whether other instances must hear of it.
    pub(crate) announced: bool,
    /// Under which name it is told.
    pub(crate) series: &'a Arc<Series>,
}

/// A write into an awaited tier that does not coordinate.
#[derive(Debug, Clone, Copy)]
struct Write {
    origin: Origin,
    /// Epoch and place of the log of the lease behind it.
    granted: Option<(u64, u64)>,
    /// When the coordinator was asked last whether the value is the newest.
    since: Moment,
}

impl Led {
    pub(super) fn nothing(answer: Answer) -> Self {
        Self { origin: Origin::Copy, copies: Vec::new(), left: Left::default(), lease: None, answer }
    }

    pub(super) fn uncopied(self) -> Self {
        Self { copies: Vec::new(), ..self }
    }
}

impl Engine {
    /// Stores the copies, then lands the flight. Copies are dropped if the key was revoked meanwhile; the answer is
    /// given in any case.
    pub(super) fn settle(self: &Arc<Self>, mut lead: Lead<Answer>, led: Led) -> Settled {
        let Led { origin, copies, left, lease, answer } = led;
        if copies
            .iter()
            .map(|(position, _)| position)
            .chain(&left.positions)
            .all(|position| self.remote(*position).is_none())
        {
            let made = copies.len();
            let changes = !copies.is_empty() || !left.positions.is_empty();
            let filled = changes && self.local.fill(lead.watch(), origin, copies, &left);
            if !filled && self.may_be_newer_than_here(&answer) {
                self.local.observed(lead.watch(), origin);
            }
            let promoted = (filled && origin == Origin::Copy).then(|| Arc::clone(lead.watch().key()));
            lead.land(&answer);
            // Whoever listens holds up nobody who waits for the key.
            if let Some(key) = promoted {
                self.promoted(&key, made);
            }
            return Settled::Landed(answer);
        }
        let engine = Arc::clone(self);
        let work: BoxFuture<'static, Answer> = Box::pin(async move {
            let made = engine.fill(lead.watch(), Led { origin, copies, left, lease, answer: Ok(None) }).await;
            let key = Arc::clone(lead.watch().key());
            lead.land(&answer);
            if origin == Origin::Copy {
                engine.promoted(&key, made);
            }
            answer
        });
        Settled::Landing(finish(work))
    }

    /// Whether an answer was loaded, or is what a tier holds that other instances change too: what was stored here
    /// meanwhile may be older.
    fn may_be_newer_than_here(&self, answer: &Answer) -> bool {
        let source = answer.as_ref().ok().and_then(|hit| Some(hit.as_ref()?.source));
        self.shared.is_some()
            && match source {
                Some(Source::Tier(position)) => self.is_shared(position),
                Some(Source::Loader) => true,
                Some(Source::Older) | None => false,
            }
    }

    /// Answers how many copies were made.
    async fn fill(&self, watch: &mut Watch<Answer>, led: Led) -> usize {
        let Led { origin, copies, left, lease, .. } = led;
        if lease.as_ref().is_some_and(Lease::is_given_back) {
            return 0;
        }
        let _turn = watch.turn().await;
        let (remote, local): (Vec<_>, Vec<_>) =
            copies.into_iter().partition(|(position, _)| self.remote(*position).is_some());
        let granted = lease.as_ref().and_then(Lease::granted_at);
        let since = self.options.clock.now();
        let mut made = 0;
        let mut below = true;
        // What was read there during a load is no newer: a change would have taken the load's lease away.
        let leads = if origin == Origin::Source { watch.is_unrevoked() } else { watch.admits(origin) };
        if leads {
            self.forget_at(&left.positions, watch.key()).await;
        }
        if let (Some(lease), Some(shared)) = (lease, &self.shared)
            && let Some((_, entry)) = remote.iter().find(|(position, _)| *position == shared.position)
            && leads
            && let ttl = entry.expires().since(self.options.clock.now())
            && let Ok(stored) = self.stored_form(entry, ttl, granted)
        {
            match lease.fill(stored, ttl, entry.tags()).await {
                Ok(true) => made += 1,
                Ok(false) => return 0,
                Err(_) => below = false,
            }
        }
        for (position, entry) in remote.into_iter().rev().filter(|(position, _)| below && !self.coordinates(*position))
        {
            if !watch.admits(origin) {
                break;
            }
            let write = Write { origin, granted, since };
            made += usize::from(self.write_at(position, watch, write, &entry).await.is_ok());
        }
        let count = local.len();
        if self.local.fill(watch, origin, local, &left) {
            made += count;
        } else if self.shared.is_some() {
            self.local.observed(watch, origin);
        }
        made
    }

    /// Fills an awaited tier that does not coordinate. The value is taken back if the key was revoked meanwhile.
    async fn write_at(&self, position: usize, watch: &Watch<Answer>, write: Write, entry: &Entry) -> CacheResult<()> {
        let now = self.options.clock.now();
        let ttl = entry.expires().since(now);
        let Some(remote) = self.remote(position).filter(|_| !ttl.is_zero()) else { return Err(unstored()) };
        let bytes = self.stored_form(entry, ttl, write.granted)?;
        let below = self.is_below(position);
        if below && (took_too_long(write.since, now) || !self.below.note(watch.key(), now)) {
            return Err(unstored());
        }
        let stored = remote.fill(watch.key(), bytes, ttl, self.shared.is_some()).await;
        let late = below && took_too_long(write.since, self.options.clock.now());
        if (late || self.shared.is_some() && !watch.admits(write.origin)) && Protection::TakeBack.is_on() {
            self.below.taken_back.one();
            remote.owe(watch.key());
            return Err(unstored());
        }
        stored
    }

    /// Replaces `key` in every tier. Ok if at least one tier took the value, and, for a put that others must hear of,
    /// they did. Answers its place in the log.
    pub(crate) async fn put(self: &Arc<Self>, key: &str, value: Entry, put: Put<'_>) -> CacheResult<Option<Position>> {
        check_key(key)?;
        if let Some(len) = value.len_hint() {
            self.check_value(len)?;
        }
        self.check_tags(put.tags)?;
        if !self.is_local() {
            value.payload()?;
        }
        let entry = value.tagged(put.tags);
        if self.is_local() {
            let now = self.options.clock.now();
            self.local.put(key, now, |position| {
                let skipped = put.skipped.contains(&position);
                if skipped { None } else { self.entry_at(position, &entry, put.span, now) }
            });
            self.put_here(put.series, now);
            return Ok(None);
        }
        self.follow_log();
        let (engine, watch) = (Arc::clone(self), self.local.watch(key));
        let mut entries = self.entries(&entry, put.span);
        entries.retain(|(position, _)| !put.skipped.contains(position));
        let announced = put.announced;
        let (span, change) = (Telemetry::put_span(put.series), self.change(put.series, Operation::Put, 1));
        let work = async move { change.ended(engine.put_everywhere(watch, entries, announced).await) };
        finish(work.instrument(span)).await
    }

    async fn put_everywhere(
        &self,
        mut watch: Watch<Answer>,
        entries: Vec<Placed>,
        announced: bool,
    ) -> CacheResult<Option<Position>> {
        if entries.is_empty() {
            return self.remove_everywhere(&mut [watch]).await;
        }
        let unfinished = Unfinished::key(self, watch.key());
        let _turn = watch.turn().await;
        self.local.revoke_watched(&mut watch);
        let (remote, local): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(position, _)| self.remote(*position).is_some());
        let placed = match &self.shared {
            Some(shared) => self.put_shared(shared, &mut watch, &remote, announced).await,
            None => self.put_remote(&watch, &remote, self.plain_write(), Err(unstored())).await.map(Placement::taken),
        };
        let reached_all = matches!(&placed, Ok(Placement { accepted: true, .. }));
        if self.shared.is_some() && !reached_all {
            // What it did not come to must not be left with an older value.
            let missed = self.remotes().filter(|(position, _)| !self.coordinates(*position));
            missed.for_each(|(_, remote)| remote.owe(watch.key()));
        }
        let outcome = match placed {
            Ok(Placement { accepted, outcome }) => {
                self.local.conclude(&mut watch, if accepted { local } else { Vec::new() });
                Ok(outcome.and_then(Outcome::settled))
            }
            Err(error) if announced && self.announces() => {
                self.local.conclude(&mut watch, Vec::new());
                Err(super::invalidate::still_there(error))
            }
            Err(error) => {
                let kept = !local.is_empty();
                self.local.conclude(&mut watch, local);
                if kept { Ok(None) } else { Err(error) }
            }
        };
        unfinished.done();
        outcome
    }

    /// A put where a coordinator decides: what it takes goes into the other tiers as well.
    async fn put_shared<'a>(
        &'a self,
        shared: &'a Arc<Shared>,
        watch: &mut Watch<Answer>,
        entries: &[Placed],
        announced: bool,
    ) -> CacheResult<Placement<'a>> {
        let key = Arc::clone(watch.key());
        let Some((_, entry)) = entries.iter().find(|(position, _)| *position == shared.position) else {
            let outcome = self.remove_shared(std::slice::from_ref(watch), Refused::Owed).await?;
            self.put_remote(watch, entries, self.plain_write(), Ok(())).await?;
            return Ok(Placement { accepted: true, outcome });
        };
        let ttl = entry.expires().since(self.options.clock.now());
        if shared.bus.is_none() && entry.tags().is_empty() || !Protection::PutUnderLease.is_on() {
            let stored = shared.replace(&key, self.stored_form(entry, ttl, None)?, ttl).await;
            return self.put_remote(watch, entries, self.plain_write(), stored).await.map(Placement::taken);
        }
        let mut below = Ok(());
        for (_, remote) in self.remotes().filter(|(position, _)| self.is_below(*position)) {
            below = remote.remove(&key).await.and(below);
        }
        let since = self.options.clock.now();
        // A removal that others have not heard of yet is announced by this put.
        let announced = announced || shared.remote.owes(&key);
        let (token, failures) = (Token::random(), shared.remote.failures());
        let change = Change::Put(Arc::clone(&key), token);
        let outcome = shared.revoke(&change, entry.tags(), announced).await.inspect_err(|_| shared.remote.owe(&key))?;
        let Some(revoked) = outcome.revoked else { return Err(unstored()) };
        shared.settle(&key, failures, announced);
        let granted = Some((revoked.fence.epoch, revoked.at.seq));
        let lease = shared.own_lease(&key, token, revoked);
        let filled = lease.fill(self.stored_form(entry, ttl, granted)?, ttl, entry.tags()).await;
        let outcome = Some(outcome);
        match filled.and_then(|filled| below.map(|()| filled)) {
            Ok(true) => {
                // The coordinator has it: a failure of another tier is made up for there.
                let write = Write { origin: Origin::Source, granted, since };
                let _ = self.put_remote(watch, entries, write, Ok(())).await;
                Ok(Placement { accepted: true, outcome })
            }
            // A later change came first: this one has taken effect before it.
            Ok(false) => Ok(Placement { accepted: false, outcome }),
            Err(error) => {
                // What the coordinator or a tier below did not take, the others may hold in an older form.
                self.remotes().for_each(|(_, remote)| remote.owe(&key));
                if announced { Err(error) } else { Ok(Placement { accepted: true, outcome }) }
            }
        }
    }

    /// Puts into the awaited tiers that do not coordinate, lowest first. Ok if `outcome` was, or one of them took it.
    async fn put_remote(
        &self,
        watch: &Watch<Answer>,
        entries: &[Placed],
        write: Write,
        mut outcome: CacheResult<()>,
    ) -> CacheResult<()> {
        for (position, remote) in self.remotes().filter(|(position, _)| !self.coordinates(*position)) {
            let Some((_, entry)) = entries.iter().find(|(place, _)| *place == position) else {
                let _ = remote.remove(watch.key()).await;
                continue;
            };
            let stored = if self.shared.is_some() {
                // What it cannot take, or must not keep, must not leave the older value there either.
                let admitted = watch.admits(Origin::Source);
                let stored =
                    if admitted { self.write_at(position, watch, write, entry).await } else { Err(unstored()) };
                stored.inspect_err(|_| remote.owe(watch.key()))
            } else {
                let ttl = entry.expires().since(self.options.clock.now());
                remote.replace(watch.key(), self.stored_form(entry, ttl, write.granted)?, ttl).await
            };
            outcome = if outcome.is_ok() { outcome } else { stored };
        }
        outcome
    }

    /// A write that no lease was asked for.
    fn plain_write(&self) -> Write {
        Write { origin: Origin::Source, granted: None, since: self.options.clock.now() }
    }

    /// Copies of a hit for the tiers above it; with a lease, for the coordinator too.
    pub(super) fn copies_above(&self, key: &str, hit: &Hit, promote: bool, leased: bool) -> Vec<Placed> {
        let Source::Tier(source) = hit.source else { return Vec::new() };
        let Some(tier) = self.tiers.get(source).filter(|_| promote && self.may_store(&hit.entry)) else {
            return Vec::new();
        };
        if let Some(condition) = &self.options.promote_if
            && !hit.entry.bytes().is_ok_and(|bytes| condition(key, &bytes, tier.level))
        {
            return Vec::new();
        }
        let now = self.options.clock.now();
        let remaining = hit.entry.remaining(now);
        let copy = |(position, above): (usize, &Tier)| {
            let ttl = promoted(remaining, tier.scale, above.scale);
            let admitted = !ttl.is_zero() && (leased || !self.is_shared(position));
            admitted.then(|| (position, hit.entry.expiring(now.after(ttl))))
        };
        self.tiers.iter().take(source).enumerate().filter_map(copy).collect()
    }

    /// Copies of a loaded value for every tier; none if it is not to be kept. Where there is a coordinator, only a
    /// lease lets it out of this process.
    pub(super) fn copies_everywhere(&self, entry: &Entry, span: Lifespan<'_>, leased: bool) -> Vec<Placed> {
        if !self.may_store(entry) {
            return Vec::new();
        }
        let mut copies = self.entries(entry, span);
        copies.retain(|(position, _)| leased || self.shared.is_none() || self.remote(*position).is_none());
        copies
    }

    /// One entry per tier with a TTL of its own; a TTL of zero leaves the tier out.
    fn entries(&self, entry: &Entry, span: Lifespan) -> Vec<Placed> {
        let now = self.options.clock.now();
        let of_tier = |position| Some((position, self.entry_at(position, entry, span, now)?));
        (0..self.tiers.len()).filter_map(of_tier).collect()
    }

    fn entry_at(&self, position: usize, entry: &Entry, span: Lifespan<'_>, now: Moment) -> Option<Entry> {
        let tier = self.tiers.get(position)?;
        let ttl = span.in_tier(tier.level, tier.scale);
        (!ttl.is_zero()).then(|| entry.expiring(now.after(ttl)))
    }

    /// Copies a hit of a leading in-process tier into the tiers above it, if the lot or the condition says so.
    pub(super) fn promote_locally(&self, key: &str, position: usize, entry: &Entry) {
        if position == 0 || !self.tiers.get(position).is_some_and(|tier| self.may_promote(tier)) {
            return;
        }
        let hit = Hit { entry: entry.clone(), source: Source::Tier(position) };
        let copies = self.copies_above(key, &hit, true, false);
        let made = copies.len();
        if made > 0 && self.local.copy_up(key, position, entry, copies) {
            self.promoted(key, made);
        }
    }

    /// Draws a tier's lot for one hit. A condition decides instead of the lot, once the value is known.
    pub(super) fn may_promote(&self, tier: &Tier) -> bool {
        if self.options.promote_if.is_some() { tier.promotes() } else { tier.promotion.draw() }
    }

    /// The tiers that are awaited, lowest first.
    pub(super) fn remotes(&self) -> impl Iterator<Item = (usize, &Arc<Remote>)> {
        self.tiers.iter().enumerate().rev().filter_map(|(position, tier)| Some((position, tier.remote()?)))
    }

    pub(super) fn remote(&self, position: usize) -> Option<&Arc<Remote>> {
        self.tiers.get(position)?.remote()
    }

    fn may_store(&self, entry: &Entry) -> bool {
        entry.len_hint().is_none_or(|len| self.check_value(len).is_ok())
    }

    fn check_value(&self, len: usize) -> CacheResult<()> {
        let limit = self.options.max_value_bytes;
        if len <= limit {
            return Ok(());
        }
        Err(CacheError::ConfigError(format!(
            "a value of {len} bytes exceeds the limit of {limit}; raise it with CacheSystemBuilder::with_max_value_bytes"
        )))
    }
}

/// How a put ended where a coordinator decides.
struct Placement<'a> {
    /// Whether the value is the newest.
    accepted: bool,
    outcome: Option<Outcome<'a>>,
}

impl Placement<'_> {
    fn taken((): ()) -> Self {
        Self { accepted: true, outcome: None }
    }
}

pub(super) fn unstored() -> CacheError {
    CacheError::BackendError(Failure::new("no tier took the value"))
}
