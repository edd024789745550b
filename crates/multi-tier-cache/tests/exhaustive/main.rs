//! Every interleaving of a few verbs on a few instances, over the engine as it is: the promises hold in each, and are
//! broken in one as soon as the protection that keeps them is switched off.
#![cfg(feature = "test-util")]
#![allow(clippy::expect_used, clippy::indexing_slicing, missing_docs, reason = "a test may panic")]
#![allow(clippy::struct_excessive_bools, reason = "a plan is a list of switches")]

mod explorer;
mod history;
mod scenarios;
mod tiers;
mod world;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use explorer::{Bound, Broken, Explored, explore};
use multi_tier_cache::testing::Protection;
use scenarios::*;
use world::World;

/// More schedules than any scenario has.
const CAP: usize = 400_000;

/// Protections are switched for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn holds(name: &str, bound: Bound, scenario: fn() -> World) {
    let _alone = alone();
    let began = Instant::now();
    match explore(bound, CAP, scenario) {
        Ok(Explored { schedules, equivalent, longest }) => {
            let time = began.elapsed();
            println!("{name}: {schedules} schedules and {equivalent} left off, of up to {longest} steps, in {time:?}");
        }
        Err(broken) => panic!("{name}: {broken}"),
    }
}

macro_rules! bound {
    () => {
        Bound::None
    };
    ($most:literal) => {
        Bound::Interruptions($most)
    };
}

macro_rules! hold {
    ($($scenario:ident $(within $most:literal)?),+ $(,)?) => {
        mod hold {
            use super::*;

            $(
                #[test]
                fn $scenario() {
                    holds(stringify!($scenario), bound!($($most)?), super::$scenario);
                }
            )+
        }
    };
}

hold! {
    load_against_own_removal,
    load_against_a_peers_removal,
    two_callers_against_a_peers_removal,
    copy_against_a_peers_removal,
    copy_against_own_removal,
    slow_copy_against_load,
    look_beside_load_against_a_peers_removal within 1,
    look_beside_load_without_promotion within 1,
    put_against_load,
    put_against_own_load,
    put_against_put,
    gets_beside_put_against_put within 1,
    put_against_own_put within 3,
    put_against_removal,
    quiet_put_against_load_and_removal,
    pattern_against_loads,
    clear_against_loads,
    many_against_loads,
    tag_against_load,
    own_tag_against_load within 2,
    tag_against_copy,
    tag_against_put,
    promotion_against_removal,
    promotion_by_load_against_removal,
    load_with_tier_below_against_removal,
    load_after_removal_with_tier_below within 2,
    put_with_tier_below_against_removal,
    put_against_put_with_tier_below within 3,
    pattern_with_tier_below_against_load,
    private_tier_against_a_peers_removal,
    private_tier_read_against_a_peers_removal,
    private_tier_read_beside_load within 2,
    lost_message,
    trimmed_log,
    failover within 2,
    failover_unnoticed_by_length,
    answer_after_failover within 2,
    at_least,
    at_least_without_messages,
    at_least_after_failover,
    at_least_before_a_failover_is_noticed,
    one_load_in_the_fleet,
    waiting_load_against_removal,
}

/// A verb is dropped after every number of its steps.
fn holds_whenever_cancelled(name: &str, most: usize, scenario: fn(usize) -> World) {
    let _alone = alone();
    let (began, mut schedules) = (Instant::now(), 0);
    for steps in 0..=most {
        match explore(Bound::Interruptions(2), CAP, || scenario(steps)) {
            Ok(explored) => schedules += explored.schedules,
            Err(broken) => panic!("{name}, after {steps} steps: {broken}"),
        }
    }
    println!("{name}: {schedules} schedules, in {:?}", began.elapsed());
}

#[test]
fn a_leader_that_goes_away() {
    holds_whenever_cancelled("cancelled_leader", 10, cancelled_leader);
}

#[test]
fn a_leader_that_goes_away_within_a_runtime() {
    holds_whenever_cancelled("cancelled_leader_within_a_runtime", 8, cancelled_leader_within_a_runtime);
}

#[test]
fn a_removal_whose_caller_goes_away() {
    holds_whenever_cancelled("cancelled_removal", 6, cancelled_removal);
}

#[test]
fn a_put_whose_caller_goes_away() {
    holds_whenever_cancelled("cancelled_put", 8, cancelled_put);
}

/// Switches protections off until a promise is broken.
fn found_without(protections: &[Protection], scenario: impl Fn() -> World) -> Option<Box<Broken>> {
    let _alone = alone();
    let _off = Protection::without_all(protections);
    // Without this one, what is one step of the coordinator otherwise is two.
    let by_two = protections.contains(&Protection::RemoveBeforePublish);
    let start = || {
        let mut world = scenario();
        if by_two {
            world.let_nothing_commute();
        }
        world
    };
    explore(Bound::None, CAP, start).err()
}

macro_rules! found {
    ($($name:ident: $($protection:ident)+ => $scenario:expr),+ $(,)?) => {
        /// A checker that misses a known mistake proves nothing.
        mod found {
            use super::*;

            $(
                #[test]
                fn $name() {
                    let found = found_without(&[$(Protection::$protection),+], $scenario);
                    let broken = found.expect("a schedule that breaks a promise");
                    println!("{}: {}, in schedule {}", stringify!($name), broken.why, broken.number());
                }
            )+
        }
    };
}

found! {
    naive: FillUnderLease StampBeforeFill NoLateJoiners RevokeAtTheEnd RemoveBeforePublish PutUnderLease
        => copy_against_a_peers_removal,
    fills_without_a_lease: FillUnderLease => load_against_a_peers_removal,
    fills_without_a_stamp: StampBeforeFill => copy_against_a_peers_removal,
    leases_per_client: TokenPerLoad => two_callers_against_a_peers_removal,
    late_joiners: NoLateJoiners => load_against_own_removal,
    a_local_drop_before_the_removal_only: RevokeAtTheEnd => copy_against_own_removal,
    publishing_before_removing: RemoveBeforePublish => copy_against_a_peers_removal,
    fills_whose_lease_is_absent: AbsenceRefuses => load_against_a_peers_removal,
    lost_messages: GapDetection => lost_message,
    a_trimmed_log: GapDetection => trimmed_log,
    failover_without_replay: Replay => failover_unnoticed_by_length,
    forks_that_nobody_sees: ForkDetection => failover_unnoticed_by_length,
    patterns_without_a_fence: Fence => pattern_against_loads,
    clears_without_a_fence: Fence => clear_against_loads,
    tags_that_are_not_compared: TagCheck => tag_against_copy,
    reads_below_a_removal: Tombstone => load_after_removal_with_tier_below,
    late_writes_below: TakeBack => load_with_tier_below_against_removal,
    late_puts_below: TakeBack => put_with_tier_below_against_removal,
    late_writes_into_ones_own_tier: TakeBack => private_tier_against_a_peers_removal,
    puts_without_a_lease: PutUnderLease => put_against_put,
    old_copies_over_new_values: NewerValueStays => slow_copy_against_load,
    older_values_after_newer_ones: NewerValueStays => look_beside_load_without_promotion,
    positions_that_are_not_waited_for: AtLeast => at_least_after_failover,
    leaders_without_heirs: HandOver => || cancelled_leader(5),
}

/// What can be observed is the same with every order tried and with equivalent ones left out.
fn loses_nothing(scenario: fn() -> World) {
    let _alone = alone();
    let observe = |nothing_commutes: bool| {
        let observed = Arc::new(Mutex::new(BTreeSet::new()));
        let start = || {
            let (mut world, observed) = (scenario(), Arc::clone(&observed));
            world.at_rest(move |history| {
                observed.lock().expect("no panic").insert(history.outcome());
                Ok(())
            });
            if nothing_commutes {
                world.let_nothing_commute();
            }
            world
        };
        let explored = explore(Bound::None, CAP, start).map_err(|broken| broken.to_string()).expect("it holds");
        let observed = observed.lock().expect("no panic").clone();
        (observed, explored.schedules)
    };
    let ((reduced, few), (whole, many)) = (observe(false), observe(true));
    println!("{} outcomes in {few} schedules, {} in {many}", reduced.len(), whole.len());
    assert_eq!(reduced, whole);
}

#[test]
fn the_reduction_loses_nothing() {
    loses_nothing(copy_against_a_peers_removal);
}

#[test]
#[ignore = "minutes: 280,000 schedules"]
fn the_reduction_loses_nothing_in_longer_programs() {
    loses_nothing(copy_against_own_removal);
    loses_nothing(promotion_by_load_against_removal);
}

#[test]
#[ignore = "minutes: 270,000 schedules"]
fn newer_values_stay_newer_in_more_orders() {
    holds(
        "look_beside_load_against_a_peers_removal",
        Bound::Interruptions(2),
        look_beside_load_against_a_peers_removal,
    );
    holds("look_beside_load_without_promotion", Bound::Interruptions(2), look_beside_load_without_promotion);
    holds("gets_beside_put_against_put", Bound::Interruptions(2), gets_beside_put_against_put);
}
