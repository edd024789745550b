//! The state machine under the model checker: every interleaving it tries must keep the promises, and must break one
//! as soon as a protection is switched off.
//!
//! `RUSTFLAGS="--cfg model_check" cargo test --lib --no-default-features model`
//!
//! The world of these tests: a source holding a version number, which only its writer raises, and two in-process
//! stores, one above the other. Loads read the source, yield, and fill. An entry's bytes are the version it was read
//! at. Time goes on by a nanosecond with every question for it that the tests ask.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use shuttle::{future, thread};

use super::{Horizon, Join, Kind, Left, Local, Origin, Store, Turn};
use crate::clock::{Clock, Moment};
use crate::entry::{Entry, Tag};
use crate::protection::Protection;
use crate::sync::Mutex;
use crate::traits::InProcess;

const ITERATIONS: usize = 20_000;
const KEY: &str = "k";

/// Runs one test at a time: protections are switched for the whole process.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct World {
    local: Local<u64>,
    store: Arc<Shelf>,
    source: AtomicU64,
    loads: AtomicUsize,
    time: Arc<AtomicU64>,
    tags: Vec<Tag>,
}

#[derive(Default)]
struct Shelf(Mutex<BTreeMap<Arc<str>, Entry>>);

impl InProcess for Shelf {
    fn lookup(&self, key: &str) -> Option<Entry> {
        self.0.lock().get(key).cloned()
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        self.0.lock().insert(Arc::clone(key), entry);
    }

    fn evict(&self, key: &str) {
        self.0.lock().remove(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        self.0.lock().retain(|key, _| !matches(key));
    }
}

impl World {
    fn new() -> Arc<Self> {
        Self::with_tags(&[])
    }

    /// One whose values have these tags.
    fn with_tags(tags: &[&str]) -> Arc<Self> {
        let (store, time) = (Arc::new(Shelf::default()), Arc::new(AtomicU64::new(1)));
        let below: Arc<dyn InProcess> = Arc::new(Shelf::default());
        let stores = vec![Store { position: 0, face: Arc::clone(&store) as _ }, Store { position: 1, face: below }];
        let horizon = Horizon::open(Clock::manual(Arc::clone(&time)));
        let local = Local::new(stores, horizon, false, Arc::default());
        let tags = tags.iter().map(|tag| Tag::from(*tag)).collect();
        let (source, loads) = (AtomicU64::new(1), AtomicUsize::new(0));
        Arc::new(Self { local, store, source, loads, time, tags })
    }

    fn tick(&self) {
        self.time.fetch_add(1, Ordering::SeqCst);
    }

    /// What a caller of a loading verb does; `cancel` drops the leader's future after it has read the source.
    async fn get_or_load(&self, cancel: bool) -> Option<u64> {
        loop {
            self.tick();
            if let Some(version) = self.stored() {
                return Some(version);
            }
            let mut lead = match self.local.join(KEY, Kind::Load) {
                Join::Lead(lead) => lead,
                Join::Follow(follower) => match follower.await {
                    Turn::Landed(version) => return Some(version),
                    Turn::Lead(lead) => lead,
                    Turn::Again => continue,
                },
            };
            // A flight may have landed between the look and the join: the leader looks again.
            if let Some(version) = self.stored() {
                lead.land(&version);
                return Some(version);
            }
            let version = self.source.load(Ordering::SeqCst);
            self.loads.fetch_add(1, Ordering::SeqCst);
            future::yield_now().await;
            if cancel {
                return None;
            }
            let loaded = entry(version).tagged(&self.tags);
            self.local.fill(lead.watch(), Origin::Source, vec![(0, loaded.clone()), (1, loaded)], &Left::default());
            lead.land(&version);
            return Some(version);
        }
    }

    /// What a read does that finds a value in the second store only: it copies it into the first.
    fn copy_up(&self) {
        if let Some((position, found)) = self.local.lookup_next(KEY) {
            thread::yield_now();
            self.local.copy_up(KEY, position, &found, vec![(0, found.clone())]);
        }
    }

    /// The writer's order: the source first, then the invalidation. Answers the version that is now current.
    fn write_and_invalidate(&self) -> u64 {
        self.write_and(|local| local.revoke(KEY))
    }

    fn write_and(&self, announce: impl FnOnce(&Local<u64>)) -> u64 {
        let version = self.source.fetch_add(1, Ordering::SeqCst) + 1;
        self.tick();
        announce(&self.local);
        self.tick();
        version
    }

    /// What a hit finds.
    fn stored(&self) -> Option<u64> {
        let found = self
            .local
            .look_first(KEY.as_bytes(), |entry, _| entry.clone())
            .or_else(|| Some(self.local.lookup_next(KEY)?.1));
        found.and_then(|entry| version(&entry))
    }
}

fn entry(version: u64) -> Entry {
    Entry::from_bytes(Bytes::copy_from_slice(&version.to_le_bytes()), Moment::NEVER)
}

fn version(entry: &Entry) -> Option<u64> {
    Some(u64::from_le_bytes(entry.bytes().ok()?.as_ref().try_into().ok()?))
}

fn spawn_load(world: &Arc<World>, cancel: bool) -> thread::JoinHandle<Option<u64>> {
    let world = Arc::clone(world);
    thread::spawn(move || future::block_on(world.get_or_load(cancel)))
}

/// I1, I2: after an invalidation, nothing older is stored or answered.
fn invalidation_during_loads() {
    change_during_loads(&World::new(), |local| local.revoke(KEY));
}

/// The same for every key that matches.
fn pattern_during_loads() {
    change_during_loads(&World::new(), |local| local.revoke_where(&|key| key == KEY));
}

/// The same in one step, however many there are.
fn flush_during_loads() {
    change_during_loads(&World::new(), Local::flush);
}

fn tag_during_loads() {
    change_during_loads(&World::with_tags(&["t", "u"]), |local| local.revoke_tag(&"t".into()));
}

fn change_during_loads(world: &Arc<World>, announce: fn(&Local<u64>)) {
    let loads = [spawn_load(world, false), spawn_load(world, false)];
    let current = world.write_and(announce);
    if let Some(stored) = world.stored() {
        assert!(stored >= current, "the store holds {stored} after {current} was announced");
    }
    let answered = future::block_on(world.get_or_load(false));
    assert!(answered >= Some(current), "{answered:?} answered after {current} was announced");
    for load in loads {
        load.join().expect("no panic");
    }
    let stored = world.stored();
    assert!(stored.is_none() || stored >= Some(current), "{stored:?} at rest after {current}");
    assert_eq!(world.local.in_flight(), 0, "a key was left in flight");
}

/// What is copied from one in-process tier into another goes with the rest.
fn pattern_during_copy() {
    let world = World::new();
    world.local.fill(&mut world.local.watch(KEY), Origin::Source, vec![(1, entry(1))], &Left::default());
    let copy = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.copy_up())
    };
    world.write_and(|local| local.revoke_where(&|key| key == KEY));
    copy.join().expect("no panic");
    assert_eq!(world.stored(), None, "a copy stayed");
}

/// A put where no tier is awaited is one step.
fn plain_put_during_loads() {
    let world = World::new();
    let loads = [spawn_load(&world, false), spawn_load(&world, false)];
    let put = world
        .write_and(|local| local.put(KEY, local.horizon().clock().now(), |position| (position == 0).then(|| entry(2))));
    let answered = future::block_on(world.get_or_load(false));
    assert_eq!(answered, Some(put));
    for load in loads {
        load.join().expect("no panic");
    }
    assert_eq!(world.stored(), Some(put), "at rest");
    assert_eq!(world.local.in_flight(), 0, "a key was left in flight");
}

/// A put takes effect when it is done; what began while it was under way is neither stored nor joined after it.
fn put_during_loads() {
    let world = World::new();
    let loads = [spawn_load(&world, false), spawn_load(&world, false)];
    let mut watch = world.local.watch(KEY);
    world.local.revoke_watched(&mut watch);
    // Here the put is on its way to a tier that is awaited.
    thread::yield_now();
    let put = world.source.fetch_add(1, Ordering::SeqCst) + 1;
    world.local.conclude(&mut watch, vec![(0, entry(put))]);
    drop(watch);
    let answered = future::block_on(world.get_or_load(false));
    assert!(answered >= Some(put), "{answered:?} answered after {put} was put");
    for load in loads {
        load.join().expect("no panic");
    }
    assert!(world.stored() >= Some(put), "{:?} at rest after {put}", world.stored());
    assert_eq!(world.local.in_flight(), 0, "a key was left in flight");
}

/// I10: a cancelled leader costs one further load, and nobody waits for ever.
fn cancelled_leader() {
    let world = World::new();
    let callers = [spawn_load(&world, true), spawn_load(&world, false), spawn_load(&world, false)];
    for caller in callers {
        caller.join().expect("no panic");
    }
    assert!(world.loads.load(Ordering::SeqCst) <= 2, "more than one further load");
    assert_eq!(world.local.in_flight(), 0, "a key was left in flight");
}

/// A waiter that takes over loads under a stamp of its own: what it loads afresh may be stored.
fn hand_over_and_fill() {
    let world = World::new();
    let Join::Lead(lead) = world.local.join(KEY, Kind::Load) else { panic!("nobody else leads") };
    let Join::Follow(mut follower) = world.local.join(KEY, Kind::Load) else { panic!("one flight a key") };
    let other = {
        let world = Arc::clone(&world);
        // Another value comes into the store meanwhile, which a copy must not replace.
        thread::spawn(move || {
            world.local.fill(&mut world.local.watch(KEY), Origin::Source, vec![(0, entry(5))], &Left::default())
        })
    };
    other.join().expect("no panic");
    drop(lead);
    let mut turn = future::block_on(&mut follower);
    let Turn::Lead(lead) = &mut turn else { panic!("the only follower leads") };
    assert!(lead.watch().admits(Origin::Copy), "a fresh stamp admits");
}

/// I6: the slow copy of an older value does not replace what was loaded meanwhile.
fn slow_copy() {
    let world = World::new();
    let mut slow = world.local.watch(KEY);
    let copied = entry(world.source.load(Ordering::SeqCst));
    let loader = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            let newer = world.source.fetch_add(1, Ordering::SeqCst) + 1;
            world.local.fill(&mut world.local.watch(KEY), Origin::Source, vec![(0, entry(newer))], &Left::default());
        })
    };
    thread::yield_now();
    world.local.fill(&mut slow, Origin::Copy, vec![(0, copied)], &Left::default());
    loader.join().expect("no panic");
    assert_eq!(world.stored(), Some(2), "an older copy replaced a newer value");
}

fn holds(scenario: fn()) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shuttle::check_random(scenario, ITERATIONS);
    shuttle::check_pct(scenario, ITERATIONS, 3);
}

fn breaks_without(protection: Protection, scenario: fn()) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _off = protection.without();
    let random = catch_unwind(AssertUnwindSafe(|| shuttle::check_random(scenario, ITERATIONS)));
    let found =
        random.is_err() || catch_unwind(AssertUnwindSafe(|| shuttle::check_pct(scenario, ITERATIONS, 3))).is_err();
    assert!(found, "no failure was found without {protection:?}: the model proves nothing about it");
}

#[test]
fn nothing_stale_is_stored_or_answered_after_an_invalidation() {
    holds(invalidation_during_loads);
}

#[test]
fn nothing_stale_is_stored_or_answered_after_a_pattern() {
    holds(pattern_during_loads);
}

#[test]
fn nothing_stale_is_stored_or_answered_after_a_flush() {
    holds(flush_during_loads);
}

#[test]
fn nothing_stale_is_stored_or_answered_after_a_tag_was_revoked() {
    holds(tag_during_loads);
}

#[test]
fn nothing_is_copied_past_a_pattern() {
    holds(pattern_during_copy);
}

#[test]
fn nothing_older_is_stored_or_answered_after_a_plain_put() {
    holds(plain_put_during_loads);
}

#[test]
fn nothing_older_is_stored_or_answered_after_a_put() {
    holds(put_during_loads);
}

#[test]
fn the_model_finds_the_missing_second_revocation() {
    breaks_without(Protection::RevokeAtTheEnd, put_during_loads);
}

#[test]
fn a_cancelled_leader_costs_one_further_load() {
    holds(cancelled_leader);
}

#[test]
fn a_waiter_that_takes_over_may_fill() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shuttle::check_random(hand_over_and_fill, ITERATIONS);
}

#[test]
fn an_older_copy_never_replaces_a_newer_value() {
    holds(slow_copy);
}

#[test]
fn the_model_finds_the_missing_stamp() {
    breaks_without(Protection::StampBeforeFill, invalidation_during_loads);
}

#[test]
fn the_model_finds_late_joiners() {
    for scenario in [invalidation_during_loads, pattern_during_loads, flush_during_loads, tag_during_loads] {
        breaks_without(Protection::NoLateJoiners, scenario);
    }
}

#[test]
fn the_model_finds_the_missing_stamp_after_a_pattern_and_a_put() {
    breaks_without(Protection::StampBeforeFill, pattern_during_loads);
    breaks_without(Protection::StampBeforeFill, plain_put_during_loads);
}

#[test]
fn the_model_finds_drops_outside_the_lock() {
    breaks_without(Protection::DropUnderLock, invalidation_during_loads);
}

#[test]
fn the_model_finds_the_missing_hand_over() {
    breaks_without(Protection::HandOver, cancelled_leader);
}

#[test]
fn the_model_finds_the_stale_stamp_of_a_hand_over() {
    breaks_without(Protection::FreshStampAtHandOver, hand_over_and_fill);
}

#[test]
fn the_model_finds_the_replaced_newer_value() {
    breaks_without(Protection::NewerValueStays, slow_copy);
}
