//! The tiers inside this process, and the order between those who fill them and those who revoke.
//!
//! A key is looked up without taking part in any of this. Whoever wants to *store* what it read first watches the
//! key ([`in_flight`]); it may store only while the key has not been revoked since, checked and stored under the
//! lock under which revocations drop the key. Nothing here does I/O or needs a runtime; the model checker drives
//! these types as they are.

mod flight;
mod horizon;
mod in_flight;
mod lead;
#[cfg(all(test, model_check))]
mod model;

use std::sync::Arc;

use tokio::sync::Mutex as TurnLock;

pub(crate) use horizon::{Horizon, Limits};
pub(crate) use in_flight::{InFlight, Join, Kind, Origin, Turn, Watch};
pub(crate) use lead::Lead;

use crate::clock::{Moment, Tick};
use crate::entry::{Entry, Tag};
use crate::telemetry::Telemetry;
use crate::traits::InProcess;

/// The in-process tiers of a stack. `T` is what a flight answers.
pub(crate) struct Local<T: Clone> {
    stores: Vec<Store>,
    /// The first tier of the stack, if it is in-process and nobody has to be told: what most lookups end with.
    first: Option<Arc<dyn InProcess>>,
    /// How many tiers, from the top, are in-process: what a synchronous lookup covers.
    leading: usize,
    in_flight: Arc<InFlight<T>>,
    horizon: Horizon,
    telemetry: Arc<Telemetry>,
}

/// An in-process tier and its place in the stack, from 0.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) position: usize,
    pub(crate) face: Arc<dyn InProcess>,
}

/// Tiers that get no copy of a value, and are not to hold an older one.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) positions: Vec<usize>,
    /// When the value was made, if what is there may be newer.
    pub(crate) older_than: Option<Moment>,
}

impl Left {
    fn drops(&self, stored: &Entry) -> bool {
        let made = stored.facts().map(|facts| facts.made);
        self.older_than.is_none_or(|moment| made.is_none_or(|made| made < moment))
    }
}

/// An entry on its way into the tier at a position.
pub(crate) type Placed = (usize, Entry);

impl<T: Clone> Local<T> {
    /// `stores` in ascending position.
    /// In a `fleet`, others change what the lower tiers hold.
    pub(crate) fn new(stores: Vec<Store>, horizon: Horizon, fleet: bool, telemetry: Arc<Telemetry>) -> Self {
        let leading = stores.iter().enumerate().take_while(|(place, store)| *place == store.position).count();
        // Where hits are told, none is quick.
        let quick = leading > 0 && !telemetry.tells_hits();
        let first = stores.first().filter(|_| quick).map(|store| Arc::clone(&store.face));
        let in_flight = InFlight::new(horizon.clock().clone(), fleet);
        Self { stores, first, leading, in_flight, horizon, telemetry }
    }

    pub(crate) fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    /// What `look` makes of the live entry of the first tier, if that is in-process, at a moment at which it lived.
    /// It is called under a lock of the tier: it copies what its caller needs.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "what is looked for decides what is done: most reads end here")]
    pub(crate) fn look_first<R>(&self, key: &[u8], mut look: impl FnMut(&Entry, Tick<'_>) -> R) -> Option<R> {
        let first = self.first.as_ref()?;
        let (mut seen, mut expired) = (None, false);
        first.visit(key, &mut |entry| {
            let tick = self.horizon.clock().tick();
            expired = tick.has_passed(entry.expires());
            if !expired && self.horizon.admits(entry, tick) {
                seen = Some(look(entry, tick));
            }
        });
        if expired {
            let entry = self.instead_of_expired(&**first, str::from_utf8(key).ok()?)?;
            let tick = self.horizon.clock().tick();
            seen = self.horizon.admits(&entry, tick).then(|| look(&entry, tick));
        }
        seen
    }

    /// The first live entry of the other leading tiers, and where it was.
    pub(crate) fn lookup_next(&self, key: &str) -> Option<Placed> {
        let asked = usize::from(self.first.is_some());
        let next = self.stores.iter().take(self.leading).skip(asked);
        next.into_iter().find_map(|store| {
            let (mut found, mut expired) = (None, false);
            store.face.visit(key.as_bytes(), &mut |entry| {
                expired = self.horizon.clock().has_passed(entry.expires());
                if !expired {
                    found = Some(entry.clone());
                }
            });
            let live = if expired { self.instead_of_expired(&*store.face, key) } else { found };
            let admitted = live.filter(|entry| self.horizon.admits(entry, self.horizon.clock().tick()));
            Some((store.position, admitted?))
        })
    }

    /// What a tier has in place of an entry that was found expired: it drops that, and another may have come meanwhile.
    #[cold]
    fn instead_of_expired(&self, face: &dyn InProcess, key: &str) -> Option<Entry> {
        let live = face.lookup(key);
        if live.is_none() {
            self.telemetry.expired(key);
        }
        live
    }

    /// How many tiers from the top are in-process.
    pub(crate) fn leading(&self) -> usize {
        self.leading
    }

    /// Looks into the in-process tier at `position`.
    pub(crate) fn lookup_at(&self, position: usize, key: &str) -> Option<Entry> {
        self.lookup_in(self.stores.iter().find(|store| store.position == position)?, key)
    }

    fn lookup_in(&self, store: &Store, key: &str) -> Option<Entry> {
        store.face.lookup(key).filter(|entry| self.horizon.admits(entry, self.horizon.clock().tick()))
    }

    pub(crate) fn join(&self, key: &str, kind: Kind) -> Join<T> {
        self.in_flight.join(key, kind)
    }

    pub(crate) fn watch(&self, key: &str) -> Watch<T> {
        self.in_flight.watch(key)
    }

    /// Stores `entries` unless the key has moved since the watch began, and drops what the tiers `left` out hold; true
    /// if it did.
    pub(crate) fn fill(&self, watch: &mut Watch<T>, origin: Origin, entries: Vec<Placed>, left: &Left) -> bool {
        let born = watch.born();
        watch.fill(origin, |key| {
            for store in self.stores.iter().rev().filter(|store| left.positions.contains(&store.position)) {
                if left.older_than.is_none() || store.face.lookup(key).is_some_and(|stored| left.drops(&stored)) {
                    store.face.evict(key);
                }
            }
            self.store(key, entries, Some(born));
        })
    }

    /// A value that others may have made is about to be answered, and no copy of it was kept here.
    pub(crate) fn observed(&self, watch: &mut Watch<T>, origin: Origin) {
        watch.observed(origin, |key| self.evict(key));
    }

    /// Replaces `key` in every in-process tier at once, dropping it where there is no entry for it: a put where no
    /// other tier has to be asked. The value is known since `born`.
    pub(crate) fn put(&self, key: &str, born: Moment, entry_at: impl Fn(usize) -> Option<Entry>) {
        let key: Arc<str> = key.into();
        self.in_flight.revoke(&key, || {
            for store in self.stores.iter().rev() {
                match entry_at(store.position) {
                    Some(entry) => store.face.store(&key, entry.born_at(born)),
                    None => store.face.evict(&key),
                }
            }
        });
    }

    /// Ends a put: what was read and copied meanwhile goes, `entries` stay unless the key was revoked.
    pub(crate) fn conclude(&self, watch: &mut Watch<T>, entries: Vec<Placed>) {
        let (key, born) = (Arc::clone(watch.key()), watch.born());
        watch.conclude(|unmoved| {
            self.evict(&key);
            if unmoved {
                self.store(&key, entries, Some(born));
            }
        });
    }

    /// Stores `copies` of the entry at `position`, if it is still there; true if they were stored.
    pub(crate) fn copy_up(&self, key: &str, position: usize, source: &Entry, copies: Vec<Placed>) -> bool {
        let key: Arc<str> = key.into();
        self.in_flight.exclusively(&key, || {
            let unmoved = self
                .lookup_at(position, &key)
                .is_some_and(|stored| stored.is_same_value(source) && stored.expires() == source.expires());
            if unmoved {
                self.store(&key, copies, None);
            }
            unmoved
        })
    }

    /// Puts another form of the entry at `position` in its place, if it is still the same value.
    pub(crate) fn replace_same(&self, key: &str, position: usize, entry: &Entry) {
        let key: Arc<str> = key.into();
        self.in_flight.exclusively(&key, || match self.lookup_at(position, &key) {
            Some(stored) if stored.is_same_value(entry) => {
                let same = entry.expiring(stored.expires()).born_at(stored.born());
                self.store(&key, vec![(position, same)], None);
                // The same value is nothing newer: a copy of it under way stays welcome.
                false
            }
            _ => false,
        });
    }

    /// Drops `key` here and refuses every fill and join begun before.
    pub(crate) fn revoke(&self, key: &str) {
        self.in_flight.revoke(key, || self.evict(key));
    }

    /// The same for a writer that goes on watching.
    pub(crate) fn revoke_watched(&self, watch: &mut Watch<T>) {
        let key = Arc::clone(watch.key());
        watch.revoke(|| self.evict(&key));
    }

    /// The same for every key for which `matches` holds.
    pub(crate) fn revoke_where(&self, matches: &dyn Fn(&str) -> bool) {
        // Twice: between the first refusal and the first eviction a reader may begin, find the old value in a tier not
        // yet swept, and copy it into one that is. The second refusal waits for or refuses that copy.
        for _ in 0..2 {
            self.in_flight.revoke_where(matches);
            for store in self.stores.iter().rev() {
                store.face.evict_where(matches);
            }
        }
    }

    /// Drops every entry with this tag, and closes the flights that may bring one.
    pub(crate) fn revoke_tag(&self, tag: &Tag) {
        self.horizon.revoke_tag(tag);
        self.in_flight.close_flights();
    }

    /// Forgets everything, in one step however much it is.
    pub(crate) fn flush(&self) {
        self.horizon.flush();
        self.in_flight.revoke_where(&|_| true);
    }

    /// Flights closed to further callers and fills refused, by revocations so far.
    pub(crate) fn refusals(&self) -> (u64, u64) {
        self.in_flight.refusals()
    }

    /// The write turns in use for matching keys.
    pub(crate) fn turns_where(&self, matches: &dyn Fn(&str) -> bool) -> Vec<Arc<TurnLock<()>>> {
        self.in_flight.turns_where(matches)
    }

    /// Whether a fill, a put or a removal of `key` is at work in the tiers that are awaited.
    pub(crate) fn is_being_written(&self, key: &str) -> bool {
        self.in_flight.is_being_written(key)
    }

    /// The number of keys being read or written just now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Lowest tier first, so that no reader finds the old value below a new one.
    fn evict(&self, key: &str) {
        for store in self.stores.iter().rev() {
            store.face.evict(key);
        }
    }

    /// What was read from below or made under a watch is as old as the watch; a copy within the process keeps its age.
    fn store(&self, key: &Arc<str>, entries: Vec<Placed>, born: Option<Moment>) {
        for (position, entry) in entries.into_iter().rev() {
            if let Some(store) = self.stores.iter().find(|store| store.position == position) {
                let born = born.filter(|_| entry.born() == Moment::ORIGIN).unwrap_or(entry.born());
                store.face.store(key, entry.born_at(born));
            }
        }
    }
}
