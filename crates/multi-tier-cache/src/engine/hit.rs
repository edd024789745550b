//! Hits in the leading in-process tiers: where most reads end.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use super::Engine;
use super::stats::Stats;
use crate::clock::Tick;
use crate::entry::Entry;
use crate::telemetry::{Activity, Operation};

impl Engine {
    /// What `take` makes of a hit in the leading in-process tiers: no await, and no allocation unless it is promoted.
    /// An entry that `take` has no use for is no hit.
    pub(crate) fn hit<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let Some(entry) = self.local.look_first(key.as_bytes(), |entry, _| entry.clone()) else {
            return self.hit_next(key, take, Stats::hit);
        };
        let taken = take(entry)?;
        self.stats.hit(0);
        Some(taken)
    }

    /// What `make` makes of the bytes of such a hit, for the verbs on bytes: they have no rules of freshness.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "most reads end here, each with a copy of its own")]
    pub(crate) fn fresh_bytes<R>(&self, key: &str, make: impl FnOnce(Bytes) -> Option<R>) -> Option<R> {
        match self.local.look_first(key.as_bytes(), |entry, _| entry.plain_bytes()) {
            Some(Some(bytes)) => self.made(bytes, make),
            Some(None) => self.encoded(key, make),
            None => self.fresh_next(key, |entry| make(entry.into_bytes().ok()?)),
        }
    }

    /// The object of such a hit, for the same.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    pub(crate) fn fresh_object<T: Any + Send + Sync>(&self, key: &str) -> Option<Arc<T>> {
        let look = |entry: &Entry, tick: Tick<'_>| if entry.is_stale(tick) { None } else { entry.object_as() };
        match self.local.look_first(key.as_bytes(), look) {
            Some(object) => self.made(object?, Some),
            None => self.fresh_next(key, |entry| entry.object_as()),
        }
    }

    /// The bytes of an entry that may be an object, which is not encoded under a lock of the tier.
    #[cold]
    fn encoded<R>(&self, key: &str, make: impl FnOnce(Bytes) -> Option<R>) -> Option<R> {
        let look = |entry: &Entry, tick: Tick<'_>| if entry.is_stale(tick) { None } else { Some(entry.clone()) };
        let entry = self.local.look_first(key.as_bytes(), look)??;
        self.made(entry.into_bytes().ok()?, make)
    }

    #[inline]
    fn made<T, R>(&self, seen: T, make: impl FnOnce(T) -> Option<R>) -> Option<R> {
        let made = make(seen)?;
        self.stats.hit_bytes(0);
        Some(made)
    }

    #[cold]
    fn fresh_next<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let (now, began) = (self.options.clock.tick(), self.telemetry.begins());
        let take = |entry: Entry| if entry.is_stale(now) { None } else { take(entry) };
        let taken = self.hit_next(key, take, Stats::hit_bytes)?;
        let duration = began.map(|began| self.telemetry.since(began));
        self.telemetry.tell(self.telemetry.bytes(), (Operation::Get, Activity::Hit), duration);
        Some(taken)
    }

    /// What `look` copies of a hit in the first tier at this moment, under a lock of the tier. Counted by its caller, in
    /// what [`lend_counter`](Self::lend_counter) gave it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    pub(crate) fn first<R>(&self, key: &[u8], look: impl Fn(&Entry, Tick<'_>) -> Option<R>) -> Option<R> {
        self.local.look_first(key, look)?
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
