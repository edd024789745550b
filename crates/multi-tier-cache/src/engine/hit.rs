//! Hits in the leading in-process tiers: where most reads end.

use super::Engine;
use super::stats::Stats;
use crate::clock::Tick;
use crate::entry::Entry;
use crate::telemetry::{Activity, Operation};

impl Engine {
    /// What `take` makes of a hit in the leading in-process tiers: no await, and no allocation unless it is promoted.
    /// An entry that `take` has no use for is no hit.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "an entry that is returned is copied: a fifth of the price of a hit")]
    pub(crate) fn hit<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let Some((entry, _)) = self.local.lookup_first(key) else { return self.hit_next(key, take, Stats::hit) };
        let taken = take(entry)?;
        self.stats.hit(0);
        Some(taken)
    }

    /// The same for the verbs on bytes, which have no rules of freshness.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    pub(crate) fn fresh_hit<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let Some((entry, tick)) = self.local.lookup_first(key) else { return self.fresh_hit_next(key, take) };
        if entry.is_stale(tick) {
            return None;
        }
        let taken = take(entry)?;
        self.stats.hit_bytes(0);
        Some(taken)
    }

    /// What `take` makes of a hit in the first tier at this moment. Counted by its caller, in what
    /// [`lend_counter`](Self::lend_counter) gave it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "an entry that is returned is copied: a fifth of the price of a hit")]
    pub(crate) fn first<R>(&self, key: &str, take: impl FnOnce(Entry, Tick<'_>) -> Option<R>) -> Option<R> {
        let (entry, tick) = self.local.lookup_first(key)?;
        take(entry, tick)
    }

    fn fresh_hit_next<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let (now, began) = (self.options.clock.tick(), self.telemetry.begins());
        let take = |entry: Entry| if entry.is_stale(now) { None } else { take(entry) };
        let taken = self.hit_next(key, take, Stats::hit_bytes)?;
        let duration = began.map(|began| self.telemetry.since(began));
        self.telemetry.tell(self.telemetry.bytes(), (Operation::Get, Activity::Hit), duration);
        Some(taken)
    }

    fn hit_next<R>(
        &self,
        key: &str,
        take: impl FnOnce(Entry) -> Option<R>,
        count: impl FnOnce(&Stats, usize),
    ) -> Option<R> {
        let (position, entry) = self.local.lookup_next(key)?;
        let taken = take(entry.clone())?;
        self.promote_locally(key, position, &entry);
        count(&self.stats, position);
        Some(taken)
    }
}
