//! Writes: filling what was read or loaded, promoting it, and putting what a caller brings.
//!
//! Tiers that are awaited come first, from the lowest up; then, at once and under the stamps, those in this process.
//! Writers of one key take turns at the tiers that are awaited, so that what such a tier ends with is what the last
//! writer stored.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::finish::{Unfinished, finish};
use super::{Answer, Engine, Hit, Source, check_key};
use crate::clock::Moment;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::local::{Lead, Origin, Placed, Watch};
use crate::policy::promoted;
use crate::stack::{Remote, Tier};

impl Engine {
    /// Stores `copies`, then lands the flight with `answer`. Copies are dropped if the key was revoked meanwhile; the
    /// answer is given in any case.
    pub(super) async fn settle(
        self: &Arc<Self>,
        mut lead: Lead<Answer>,
        origin: Origin,
        copies: Vec<Placed>,
        answer: Answer,
    ) -> Answer {
        if copies.iter().all(|(position, _)| self.remote(*position).is_none()) {
            let made = copies.len();
            let filled = copies.is_empty() || self.local.fill(lead.watch(), origin, copies);
            self.count_promotions(origin, if filled { made } else { 0 });
            lead.land(answer.clone());
            return answer;
        }
        let (engine, landing) = (Arc::clone(self), answer.clone());
        let task = async move {
            engine.fill(lead.watch(), origin, copies).await;
            lead.land(landing);
        };
        finish(task).await;
        answer
    }

    async fn fill(&self, watch: &mut Watch<Answer>, origin: Origin, copies: Vec<Placed>) {
        let _turn = watch.turn().await;
        let mut made = 0;
        let (remote, local): (Vec<_>, Vec<_>) =
            copies.into_iter().partition(|(position, _)| self.remote(*position).is_some());
        for (position, entry) in remote.into_iter().rev() {
            if !watch.admits(origin) {
                break;
            }
            let ttl = entry.expires().since(self.options.clock.now());
            if let (Some(remote), Ok(bytes), false) = (self.remote(position), entry.bytes(), ttl.is_zero()) {
                made += usize::from(remote.fill(watch.key(), bytes, ttl).await.is_ok());
            }
        }
        let count = local.len();
        if self.local.fill(watch, origin, local) {
            made += count;
        }
        self.count_promotions(origin, made);
    }

    /// Replaces `key` in every tier. Ok if at least one tier took the value.
    pub(crate) async fn put(self: &Arc<Self>, key: &str, value: Bytes, ttl: Duration) -> CacheResult<()> {
        check_key(key)?;
        self.check_value(value.len())?;
        let entry = Entry::from_bytes(value, Moment::NEVER);
        if self.is_local() {
            let now = self.options.clock.now();
            self.local.put(key, |position| self.entry_at(position, &entry, ttl, now));
            return Ok(());
        }
        let (engine, watch, entries) = (Arc::clone(self), self.local.watch(key), self.entries(&entry, ttl));
        finish(async move { engine.put_everywhere(watch, entries).await }).await
    }

    async fn put_everywhere(&self, mut watch: Watch<Answer>, entries: Vec<Placed>) -> CacheResult<()> {
        if entries.is_empty() {
            return self.remove_everywhere(watch).await;
        }
        let unfinished = Unfinished::key(self, watch.key());
        let _turn = watch.turn().await;
        self.local.revoke_watched(&mut watch);
        let mut outcome = Err(CacheError::InternalError("a put reached no tier".into()));
        for (position, remote) in self.remotes() {
            let Some((_, entry)) = entries.iter().find(|(place, _)| *place == position) else {
                let _ = remote.remove(watch.key()).await;
                continue;
            };
            let ttl = entry.expires().since(self.options.clock.now());
            let stored = remote.replace(watch.key(), entry.bytes()?, ttl).await;
            outcome = if outcome.is_ok() { outcome } else { stored };
        }
        let (local, _): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(position, _)| self.remote(*position).is_none());
        outcome = if local.is_empty() { outcome } else { Ok(()) };
        self.local.conclude(&mut watch, local);
        unfinished.done();
        outcome
    }

    /// Copies of a hit for the tiers above it.
    pub(super) fn copies_above(&self, key: &str, hit: &Hit, promote: bool) -> Vec<Placed> {
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
            (!ttl.is_zero()).then(|| (position, hit.entry.expiring(now.after(ttl))))
        };
        self.tiers.iter().take(source).enumerate().filter_map(copy).collect()
    }

    /// Copies of a loaded value for every tier; none if it is not to be kept.
    pub(super) fn copies_everywhere(&self, entry: &Entry, ttl: Duration) -> Vec<Placed> {
        if self.may_store(entry) { self.entries(entry, ttl) } else { Vec::new() }
    }

    /// One entry per tier with a TTL of its own; a TTL of zero leaves the tier out.
    fn entries(&self, entry: &Entry, ttl: Duration) -> Vec<Placed> {
        let now = self.options.clock.now();
        let of_tier = |position| Some((position, self.entry_at(position, entry, ttl, now)?));
        (0..self.tiers.len()).filter_map(of_tier).collect()
    }

    fn entry_at(&self, position: usize, entry: &Entry, ttl: Duration, now: Moment) -> Option<Entry> {
        let ttl = self.tiers.get(position)?.scale.apply(ttl);
        (!ttl.is_zero()).then(|| entry.expiring(now.after(ttl)))
    }

    /// Copies a hit of a leading in-process tier into the tiers above it, if the lot or the condition says so.
    pub(super) fn promote_locally(&self, key: &str, position: usize, entry: &Entry) {
        if !self.tiers.get(position).is_some_and(|tier| self.may_promote(tier)) {
            return;
        }
        let hit = Hit { entry: entry.clone(), source: Source::Tier(position) };
        let copies = self.copies_above(key, &hit, true);
        let made = copies.len();
        if made > 0 && self.local.copy_up(key, position, entry, copies) {
            self.stats.promoted(made);
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

    fn remote(&self, position: usize) -> Option<&Arc<Remote>> {
        self.tiers.get(position)?.remote()
    }

    fn count_promotions(&self, origin: Origin, made: usize) {
        if origin == Origin::Copy {
            self.stats.promoted(made);
        }
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
