//! Which entries of the in-process tiers may still be served: a flush, a revoked tag or doubt about freshness takes
//! effect here in one step, however many entries it concerns.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::HashMap;
use parking_lot::RwLock;

use crate::clock::{Clock, Moment, Tick};
use crate::defaults;
use crate::entry::{Entry, Tag};
use crate::protection::Protection;

pub(crate) struct Horizon {
    clock: Clock,
    /// Entries born before this moment are gone.
    valid_from: AtomicU64,
    /// Every invalidation before this moment has been applied here. Never, where nothing has to be proven.
    fresh_as_of: AtomicU64,
    limits: Limits,
    revoked_tags: RwLock<HashMap<Tag, Moment>>,
    tags: AtomicUsize,
    unproven: AtomicU64,
}

/// How old a proof of freshness may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Up to here a hit counts as fresh.
    pub(crate) bound: Duration,
    /// Up to here it is served, and counted; not longer than `bound` in the mode `Strict`.
    pub(crate) limit: Duration,
}

impl Horizon {
    /// A horizon that takes everything for fresh.
    pub(crate) fn open(clock: Clock) -> Self {
        let limits = Limits { bound: Duration::MAX, limit: Duration::MAX };
        Self {
            clock,
            valid_from: AtomicU64::new(0),
            fresh_as_of: AtomicU64::new(Moment::NEVER.as_nanos()),
            limits,
            revoked_tags: RwLock::default(),
            tags: AtomicUsize::new(0),
            unproven: AtomicU64::new(0),
        }
    }

    /// A horizon under which freshness must be proven, beginning with the present.
    pub(crate) fn bounded(clock: Clock, limits: Limits) -> Self {
        let born = clock.now().as_nanos();
        Self { fresh_as_of: AtomicU64::new(born), limits, ..Self::open(clock) }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether `entry` may be served.
    #[inline]
    pub(crate) fn admits(&self, entry: &Entry, tick: Tick<'_>) -> bool {
        let fresh_as_of = self.fresh_as_of();
        self.is_current(entry) && (fresh_as_of == Moment::NEVER || self.is_fresh(entry, fresh_as_of, tick))
    }

    /// Whether `entry` outlived every flush and revocation of its tags, however old the proof of that is.
    #[inline]
    fn is_current(&self, entry: &Entry) -> bool {
        entry.born().as_nanos() >= self.valid_from.load(Ordering::Acquire)
            && (self.tags.load(Ordering::Acquire) == 0 || !self.is_revoked(entry))
    }

    #[inline]
    fn is_fresh(&self, entry: &Entry, fresh_as_of: Moment, tick: Tick<'_>) -> bool {
        // What was read from below after the last proof is its own proof.
        let proven = fresh_as_of.max(entry.born());
        !tick.has_passed(proven.after(self.limits.bound)) || self.serves_doubtful(proven, tick)
    }

    #[cold]
    fn serves_doubtful(&self, proven: Moment, tick: Tick<'_>) -> bool {
        if !Protection::StalenessBound.is_on() {
            return true;
        }
        let serve = !tick.has_passed(proven.after(self.limits.limit));
        if serve {
            self.unproven.fetch_add(1, Ordering::Relaxed);
        }
        serve
    }

    fn is_revoked(&self, entry: &Entry) -> bool {
        let tags = entry.tags();
        if tags.is_empty() {
            return false;
        }
        let revoked = self.revoked_tags.read();
        tags.iter().any(|tag| revoked.get(tag).is_some_and(|since| entry.born() < *since))
    }

    /// Whether something whose age is not known may be served.
    pub(crate) fn serves_unproven(&self) -> bool {
        let fresh_as_of = self.fresh_as_of();
        fresh_as_of == Moment::NEVER
            || !self.clock.has_passed(fresh_as_of.after(self.limits.limit))
            || !Protection::StalenessBound.is_on()
    }

    pub(crate) fn fresh_as_of(&self) -> Moment {
        Moment::from_nanos(self.fresh_as_of.load(Ordering::Acquire))
    }

    /// Everything that took effect before `moment` has been applied.
    pub(crate) fn prove(&self, moment: Moment) {
        self.fresh_as_of.fetch_max(moment.as_nanos(), Ordering::AcqRel);
    }

    /// Every entry stored or under way so far is gone.
    pub(crate) fn flush(&self) {
        let mut revoked = self.revoked_tags.write();
        self.valid_from.fetch_max(self.next().as_nanos(), Ordering::AcqRel);
        revoked.clear();
        self.tags.store(0, Ordering::Release);
    }

    /// Every entry stored or under way so far that has this tag is gone.
    pub(crate) fn revoke_tag(&self, tag: &Tag) {
        let mut revoked = self.revoked_tags.write();
        if revoked.len() >= defaults::REVOKED_TAGS && !revoked.contains_key(tag) {
            drop(revoked);
            self.flush();
            return;
        }
        revoked.insert(tag.clone(), self.next());
        self.tags.store(revoked.len(), Ordering::Release);
    }

    /// Hits served although their freshness was not proven.
    pub(crate) fn unproven_hits(&self) -> u64 {
        self.unproven.load(Ordering::Relaxed)
    }

    /// Later than everything born so far.
    fn next(&self) -> Moment {
        self.clock.now().after(Duration::from_nanos(1))
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::testing::ManualClock;

    fn entry(time: &ManualClock) -> Entry {
        Entry::from_bytes(Bytes::new(), Moment::NEVER).born_at(time.clock().now())
    }

    fn admits(horizon: &Horizon, entry: &Entry) -> bool {
        horizon.admits(entry, horizon.clock().tick())
    }

    fn second() -> Duration {
        Duration::from_secs(1)
    }

    #[test]
    fn a_flush_hides_what_was_born_before_it() {
        let time = ManualClock::new();
        let horizon = Horizon::open(time.clock());
        let old = entry(&time);
        assert!(admits(&horizon, &old));
        horizon.flush();
        assert!(!admits(&horizon, &old));
        time.advance(second());
        assert!(admits(&horizon, &entry(&time)));
    }

    #[test]
    fn a_revoked_tag_hides_older_entries_that_have_it() {
        let time = ManualClock::new();
        let horizon = Horizon::open(time.clock());
        let tagged = |name: &str| entry(&time).tagged(&[Tag::from(name)]);
        let (a, b, none) = (tagged("a"), tagged("b"), entry(&time));
        horizon.revoke_tag(&"a".into());
        assert!(!admits(&horizon, &a) && admits(&horizon, &b) && admits(&horizon, &none));
        time.advance(second());
        assert!(admits(&horizon, &tagged("a")));
    }

    #[test]
    fn freshness_ends_with_the_bound_and_service_with_the_limit() {
        let time = ManualClock::new();
        let limits = Limits { bound: second() * 2, limit: second() * 30 };
        let horizon = Horizon::bounded(time.clock(), limits);
        let old = entry(&time);
        time.advance(Duration::from_nanos(1_999_999_999));
        assert!(admits(&horizon, &old) && horizon.unproven_hits() == 0);
        time.advance(Duration::from_nanos(1));
        assert!(admits(&horizon, &old));
        assert_eq!(horizon.unproven_hits(), 1);
        time.advance(second() * 28);
        assert!(!admits(&horizon, &old));
        let reloaded = entry(&time);
        assert!(admits(&horizon, &reloaded), "what was just loaded is its own proof");
        assert_eq!(horizon.unproven_hits(), 1);
        horizon.prove(time.clock().now());
        assert!(admits(&horizon, &old));
    }

    #[test]
    fn more_revoked_tags_than_can_be_remembered_are_a_flush() {
        let time = ManualClock::new();
        let horizon = Horizon::open(time.clock());
        let old = entry(&time);
        for n in 0..=defaults::REVOKED_TAGS {
            horizon.revoke_tag(&n.to_string().into());
        }
        assert!(!admits(&horizon, &old));
    }
}
