//! The table of keys in flight: who reads or writes a key just now, and what has happened to it since they began.
//!
//! A slot exists while somebody holds a [`Watch`] on its key or a flight is attached to it, so a quiet cache has an
//! empty table. Its stamp says how often the key was revoked and filled; whoever watches compares. Stamps are kept
//! per key, not per stripe of keys: a stripe shared with busy neighbours would refuse the fill of every slow load.
//!
//! Lock order: shard, then flight.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashTable;
use tokio::sync::{Mutex as TurnLock, OwnedMutexGuard};

use super::flight::Flight;
use super::lead::{Follower, Lead};
use crate::clock::{Clock, Moment};
use crate::defaults;
use crate::protection::Protection;
use crate::sync::{Mutex, MutexGuard};

pub(crate) struct InFlight<T> {
    shards: Box<[Mutex<Shard<T>>]>,
    hasher: foldhash::fast::RandomState,
    clock: Clock,
    /// Whether others change what the lower tiers hold: then what was loaded or put here is not newer than what somebody
    /// has found there meanwhile.
    fleet: bool,
    keys: AtomicUsize,
    /// Flights that could still have been joined when their key was revoked.
    closed: AtomicU64,
    /// Fills refused because their key had moved.
    refused: AtomicU64,
}

pub(super) struct Shard<T>(pub(super) HashTable<Slot<T>>);

pub(super) struct Slot<T> {
    pub(super) key: Arc<str>,
    /// Of the key: a table that grows asks for all of them.
    hash: u64,
    stamp: Stamp,
    watchers: usize,
    flights: [Option<Arc<Flight<T>>>; Kind::COUNT],
    turn: Option<Arc<TurnLock<()>>>,
}

/// How often a key was revoked and filled while it was watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    revoked: u64,
    filled: u64,
}

/// What a flight fetches. Readers that must not wait for a loader have flights of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the lower tiers hold.
    Lookup,
    /// What the lower tiers hold, else what a loader computes.
    Load,
}

/// Where a value to be filled comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The source itself (a loader, a caller's put): newer than any copy.
    Source,
    /// A lower tier: older than whatever was filled meanwhile.
    Copy,
}

/// The caller's part in a flight.
pub(crate) enum Join<T: Clone> {
    Lead(Lead<T>),
    Follow(Follower<T>),
}

/// How following a flight ended.
pub(crate) enum Turn<T: Clone> {
    Landed(T),
    /// The leader went away: this caller leads now.
    Lead(Lead<T>),
    /// The flight ended without an answer: start over.
    Again,
}

impl<T: Clone> InFlight<T> {
    pub(crate) fn new(clock: Clock, fleet: bool) -> Arc<Self> {
        let shards = if cfg!(model_check) { 1 } else { defaults::IN_FLIGHT_SHARDS };
        Arc::new(Self {
            shards: (0..shards).map(|_| Mutex::new(Shard(HashTable::new()))).collect(),
            hasher: foldhash::fast::RandomState::default(),
            clock,
            fleet,
            keys: AtomicUsize::new(0),
            closed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// The number of keys being read or written just now.
    pub(crate) fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Flights that were closed to further callers, and fills that were refused, by a revocation.
    pub(crate) fn refusals(&self) -> (u64, u64) {
        (self.closed.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Leads a new flight for `key`, or follows the one under way.
    pub(crate) fn join(self: &Arc<Self>, key: &str, kind: Kind) -> Join<T> {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let slot = self.slot(&mut shard, key, hash);
        if let Some(flight) = slot.flight(kind) {
            let flight = Arc::clone(flight);
            let place = Place { table: Arc::clone(self), key: Arc::clone(&slot.key), hash };
            return Join::Follow(Follower::new(place, kind, flight, slot.stamp));
        }
        let flight = Arc::new(Flight::led());
        slot.attach(kind, Arc::clone(&flight));
        let watch = self.watch_slot(slot, hash);
        Join::Lead(Lead::new(watch, kind, flight))
    }

    /// Watches `key` without leading a flight: for writers.
    pub(crate) fn watch(self: &Arc<Self>, key: &str) -> Watch<T> {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let slot = self.slot(&mut shard, key, hash);
        self.watch_slot(slot, hash)
    }

    /// Marks `key` as changed at its source: fills begun before are refused, flights begun before are no longer
    /// joined. `change` runs under the same lock, so that no fill comes between.
    pub(crate) fn revoke(&self, key: &str, change: impl FnOnce()) {
        let mut change = Some(change);
        if !Protection::DropUnderLock.is_on()
            && let Some(change) = change.take()
        {
            change();
        }
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        self.update(&mut shard, key, hash, |slot| self.revoke_slot(slot));
        if let Some(change) = change {
            change();
        }
    }

    /// Revokes every key in flight for which `matches` holds.
    pub(crate) fn revoke_where(&self, matches: &dyn Fn(&str) -> bool) {
        for shard in &self.shards {
            shard.lock().0.retain(|slot| {
                if matches(&slot.key) {
                    self.revoke_slot(slot);
                }
                self.keep(slot)
            });
        }
    }

    /// Closes every flight to further callers; what they store is judged by its tags.
    pub(crate) fn close_flights(&self) {
        for shard in &self.shards {
            shard.lock().0.retain(|slot| {
                self.count_closed(slot.close());
                self.keep(slot)
            });
        }
    }

    fn revoke_slot(&self, slot: &mut Slot<T>) {
        self.count_closed(slot.revoke());
    }

    fn count_closed(&self, flights: usize) {
        if flights > 0 {
            self.closed.fetch_add(flights as u64, Ordering::Relaxed);
        }
    }

    /// Runs `change`, which may fill `key` from a local copy, under the lock that revocations take. It answers whether
    /// it did.
    pub(crate) fn exclusively(&self, key: &str, change: impl FnOnce() -> bool) -> bool {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let filled = change();
        if filled {
            self.update(&mut shard, key, hash, |slot| slot.stamp.filled += 1);
        }
        filled
    }

    /// The write turns in use for matching keys.
    pub(crate) fn turns_where(&self, matches: &dyn Fn(&str) -> bool) -> Vec<Arc<TurnLock<()>>> {
        let mut turns = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            turns.extend(shard.0.iter().filter(|slot| matches(&slot.key)).filter_map(|slot| slot.turn.clone()));
        }
        turns
    }

    /// Whether somebody has the turn to write `key`.
    pub(crate) fn is_being_written(&self, key: &str) -> bool {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let slot = shard.0.find(hash, |slot| &*slot.key == key);
        slot.and_then(|slot| slot.turn.as_ref()).is_some_and(|turn| turn.try_lock().is_err())
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    #[expect(clippy::indexing_slicing, reason = "reduced modulo the length")]
    pub(super) fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<T>> {
        self.shards[(hash >> 48) as usize % self.shards.len()].lock()
    }

    fn slot<'a>(&self, shard: &'a mut Shard<T>, key: &str, hash: u64) -> &'a mut Slot<T> {
        let vacant = match shard.0.entry(hash, |slot| &*slot.key == key, |slot| slot.hash) {
            hashbrown::hash_table::Entry::Occupied(slot) => return slot.into_mut(),
            hashbrown::hash_table::Entry::Vacant(vacant) => vacant,
        };
        self.keys.fetch_add(1, Ordering::Relaxed);
        vacant.insert(Slot::new(key, hash)).into_mut()
    }

    pub(super) fn watch_slot(self: &Arc<Self>, slot: &mut Slot<T>, hash: u64) -> Watch<T> {
        slot.watchers += 1;
        let place = Place { table: Arc::clone(self), key: Arc::clone(&slot.key), hash };
        Watch { place, stamp: slot.stamp, born: self.clock.now(), released: false }
    }

    /// Changes the slot of `key`, if there is one, and removes it when nothing is left in it.
    pub(super) fn update<R>(
        &self,
        shard: &mut Shard<T>,
        key: &str,
        hash: u64,
        change: impl FnOnce(&mut Slot<T>) -> R,
    ) -> Option<R> {
        let mut occupied = shard.0.find_entry(hash, |slot| &*slot.key == key).ok()?;
        let changed = change(occupied.get_mut());
        if !self.keep(occupied.get()) {
            occupied.remove();
        }
        Some(changed)
    }

    fn keep(&self, slot: &Slot<T>) -> bool {
        let keep = slot.watchers > 0 || slot.flights.iter().any(Option::is_some);
        if !keep {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
        keep
    }
}

impl<T: Clone> Slot<T> {
    fn new(key: &str, hash: u64) -> Self {
        Self {
            key: key.into(),
            hash,
            stamp: Stamp::default(),
            watchers: 0,
            flights: [const { None }; Kind::COUNT],
            turn: None,
        }
    }

    fn flight(&self, kind: Kind) -> Option<&Arc<Flight<T>>> {
        self.flights.get(kind as usize)?.as_ref()
    }

    fn attach(&mut self, kind: Kind, flight: Arc<Flight<T>>) {
        if let Some(place) = self.flights.get_mut(kind as usize) {
            *place = Some(flight);
        }
    }

    /// Detaches `flight`; false if a revocation did so before.
    pub(super) fn detach(&mut self, kind: Kind, flight: &Arc<Flight<T>>) -> bool {
        match self.flights.get_mut(kind as usize) {
            Some(place) if place.as_ref().is_some_and(|attached| Arc::ptr_eq(attached, flight)) => {
                *place = None;
                true
            }
            _ => false,
        }
    }

    pub(super) fn is_attached(&self, kind: Kind, flight: &Arc<Flight<T>>) -> bool {
        self.flight(kind).is_some_and(|attached| Arc::ptr_eq(attached, flight))
    }

    /// Answers how many flights it closed.
    fn revoke(&mut self) -> usize {
        self.stamp.revoked += 1;
        self.close()
    }

    fn close(&mut self) -> usize {
        if !Protection::NoLateJoiners.is_on() {
            return 0;
        }
        let open = self.flights.iter().flatten().count();
        self.flights = [const { None }; Kind::COUNT];
        open
    }

    fn admits(&self, since: Stamp, origin: Origin, fleet: bool) -> bool {
        let unrevoked = self.stamp.revoked == since.revoked || !Protection::StampBeforeFill.is_on();
        let newest = origin == Origin::Source && !fleet
            || self.stamp.filled == since.filled
            || !Protection::NewerValueStays.is_on();
        unrevoked && newest
    }
}

impl Kind {
    const COUNT: usize = 2;
}

/// A key in a table.
pub(super) struct Place<T> {
    pub(super) table: Arc<InFlight<T>>,
    pub(super) key: Arc<str>,
    pub(super) hash: u64,
}

impl<T: Clone> Place<T> {
    pub(super) fn with_slot<R>(&self, change: impl FnOnce(&mut Slot<T>) -> R) -> Option<R> {
        let mut shard = self.table.shard(self.hash);
        self.table.update(&mut shard, &self.key, self.hash, change)
    }
}

/// Interest in a key: keeps its slot, and remembers the key's stamp from the moment the interest began.
pub(crate) struct Watch<T: Clone> {
    pub(super) place: Place<T>,
    pub(super) stamp: Stamp,
    born: Moment,
    released: bool,
}

impl<T: Clone> Watch<T> {
    pub(crate) fn key(&self) -> &Arc<str> {
        &self.place.key
    }

    /// When the watch began: what is stored under it reflects every invalidation up to then.
    pub(crate) fn born(&self) -> Moment {
        self.born
    }

    /// Whether a value read since the watch began may still be stored.
    pub(crate) fn admits(&self, origin: Origin) -> bool {
        self.place.with_slot(|slot| slot.admits(self.stamp, origin, self.place.table.fleet)).unwrap_or(false)
    }

    /// Whether the key has not been revoked since the watch began, whatever was filled.
    pub(crate) fn is_unrevoked(&self) -> bool {
        let unrevoked = |slot: &mut Slot<T>| slot.stamp.revoked == self.stamp.revoked;
        self.place.with_slot(unrevoked).unwrap_or(false) || !Protection::StampBeforeFill.is_on()
    }

    /// Runs `insert` unless the key has moved since the watch began; true if it ran.
    pub(crate) fn fill(&mut self, origin: Origin, insert: impl FnOnce(&Arc<str>)) -> bool {
        let (place, stamp) = (&self.place, &mut self.stamp);
        let filled = place.with_slot(|slot| {
            let admitted = slot.admits(*stamp, origin, place.table.fleet);
            if admitted {
                insert(&place.key);
                slot.stamp.filled += 1;
                if origin == Origin::Copy && place.table.fleet && Protection::NewerValueStays.is_on() {
                    // Stores may drop what they are given: flights begun before are older than this copy.
                    slot.close();
                }
                *stamp = slot.stamp;
            }
            admitted
        });
        let filled = filled.unwrap_or(false);
        if !filled {
            place.table.refused.fetch_add(1, Ordering::Relaxed);
        }
        filled
    }

    /// Somebody is answered with a value of which no copy was kept here, and others may have made it: what was stored
    /// since the watch began may be older (`evict` drops it), and so may what is under way. A value found below also
    /// closes the flights begun before it; one loaded before a revocation says nothing of what began after that.
    pub(crate) fn observed(&mut self, origin: Origin, evict: impl FnOnce(&Arc<str>)) {
        let (place, stamp) = (&self.place, self.stamp);
        place.with_slot(|slot| {
            if origin == Origin::Source && slot.stamp.revoked != stamp.revoked {
                return;
            }
            if Protection::NewerValueStays.is_on() {
                if slot.stamp != stamp {
                    evict(&place.key);
                }
                if origin == Origin::Copy {
                    slot.close();
                }
            }
            slot.stamp.filled += 1;
        });
    }

    /// Revokes the key and goes on watching from there: the beginning of a put or a removal.
    pub(crate) fn revoke(&mut self, change: impl FnOnce()) {
        let (table, stamp) = (&self.place.table, &mut self.stamp);
        self.place.with_slot(|slot| {
            table.revoke_slot(slot);
            *stamp = slot.stamp;
            change();
        });
    }

    /// Revokes the key once more: the end of a put or removal, for what readers did meanwhile. `change` runs under the
    /// lock and is told whether the key is otherwise as this writer left it.
    pub(crate) fn conclude(&mut self, change: impl FnOnce(bool)) {
        let (table, stamp) = (&self.place.table, &mut self.stamp);
        self.place.with_slot(|slot| {
            let unmoved = slot.admits(*stamp, Origin::Source, table.fleet);
            if Protection::RevokeAtTheEnd.is_on() {
                table.revoke_slot(slot);
            }
            *stamp = slot.stamp;
            change(unmoved);
        });
    }

    /// Waits until no other writer of this key is at work in the tiers that are awaited. First come, first served.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        let turn = self.place.with_slot(|slot| Arc::clone(slot.turn.get_or_insert_default()));
        turn.unwrap_or_default().lock_owned().await
    }

    /// The same if no other writer is at work, or waits to be.
    pub(crate) fn try_turn(&self) -> Option<OwnedMutexGuard<()>> {
        let turn = self.place.with_slot(|slot| Arc::clone(slot.turn.get_or_insert_default()));
        turn.unwrap_or_default().try_lock_owned().ok()
    }
}

impl<T: Clone> Watch<T> {
    /// Ends the interest, with a last change of the slot.
    pub(super) fn release(&mut self, change: impl FnOnce(&mut Slot<T>)) {
        if !self.released {
            self.released = true;
            self.place.with_slot(|slot| {
                slot.watchers -= 1;
                change(slot);
            });
        }
    }
}

impl<T: Clone> Drop for Watch<T> {
    fn drop(&mut self) {
        self.release(|_| {});
    }
}
