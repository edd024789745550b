//! Hits in the leading in-process tiers: where most reads end.

use super::Engine;
use crate::clock::Tick;
use crate::entry::Entry;

impl Engine {
    /// What `take` makes of a hit in the leading in-process tiers: no await, and no allocation unless it is promoted.
    /// An entry that `take` has no use for is no hit.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "an entry that is returned is copied: a fifth of the price of a hit")]
    pub(crate) fn hit<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let Some((entry, _)) = self.local.lookup_first(key) else { return self.hit_next(key, take) };
        let taken = take(entry)?;
        self.stats.hit(0);
        Some(taken)
    }

    /// The same for callers without rules of freshness.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    pub(crate) fn fresh_hit<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let Some((entry, tick)) = self.local.lookup_first(key) else {
            let now = self.options.clock.tick();
            return self.hit_next(key, |entry| if entry.is_stale(now) { None } else { take(entry) });
        };
        if entry.is_stale(tick) {
            return None;
        }
        let taken = take(entry)?;
        self.stats.hit(0);
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

    fn hit_next<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let (position, entry) = self.local.lookup_next(key)?;
        let taken = take(entry.clone())?;
        self.promote_locally(key, position, &entry);
        self.stats.hit(position);
        Some(taken)
    }
}
