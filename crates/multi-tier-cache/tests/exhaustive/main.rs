//! Every interleaving of a few verbs on a few instances, over the engine as it is: the promises hold in each, and are
//! broken in one as soon as the protection that keeps them is switched off.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod explorer;
mod history;
mod scenarios;
mod tiers;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};
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
        const ALL: &[(&str, Bound, fn() -> World)] = &[$((stringify!($scenario), bound!($($most)?), $scenario)),+];
    };
}

hold! {
    load_against_own_removal,
    load_against_a_peers_removal,
    two_callers_against_a_peers_removal,
    copy_against_a_peers_removal,
    copy_against_own_removal,
    slow_copy_against_load,
    put_against_load,
    put_against_own_load,
    put_against_put,
    put_against_own_put,
    put_against_removal,
    quiet_put_against_load_and_removal,
    pattern_against_loads,
    clear_against_loads,
    many_against_loads,
    tag_against_load,
    own_tag_against_load within 3,
    tag_against_copy,
    tag_against_put,
    promotion_against_removal,
    promotion_by_load_against_removal,
    load_with_tier_below_against_removal,
    load_after_removal_with_tier_below within 2,
    put_with_tier_below_against_removal within 2,
    put_against_put_with_tier_below within 2,
    pattern_with_tier_below_against_load,
    private_tier_against_a_peers_removal within 2,
    private_tier_read_beside_load within 2,
    answer_after_failover within 3,
    gets_beside_put_against_put within 3,
    look_beside_load_against_a_peers_removal within 3,
    look_beside_load_without_promotion within 3,
    at_least_before_a_failover_is_noticed,
    private_tier_read_against_a_peers_removal within 2,
    lost_message,
    trimmed_log,
    failover within 3,
    failover_unnoticed_by_length,
    at_least,
    at_least_without_messages,
    at_least_after_failover,
    one_load_in_the_fleet,
    waiting_load_against_removal,
}

/// Explores `scenario` without some protections, and says what was found.
fn without(protections: &[Protection], scenario: impl Fn() -> World) -> Option<Box<Broken>> {
    let _off = Protection::without_all(protections);
    explore(Bound::None, CAP, scenario).err()
}

const SWITCHES: &[Protection] = &[
    Protection::FillUnderLease,
    Protection::StampBeforeFill,
    Protection::TokenPerLoad,
    Protection::NoLateJoiners,
    Protection::RevokeAtTheEnd,
    Protection::RemoveBeforePublish,
    Protection::AbsenceRefuses,
    Protection::GapDetection,
    Protection::Replay,
    Protection::Fence,
    Protection::TagCheck,
    Protection::Tombstone,
    Protection::TakeBack,
    Protection::PutUnderLease,
    Protection::NewerValueStays,
    Protection::ForkDetection,
    Protection::AtLeast,
    Protection::HandOver,
    Protection::FreshStampAtHandOver,
];

#[test]
#[ignore]
fn ablations() {
    let cap: usize = std::env::var("CAP").ok().and_then(|c| c.parse().ok()).unwrap_or(20_000);
    let only = std::env::var("ONLY").unwrap_or_default();
    let which = std::env::var("WITHOUT").unwrap_or_default();
    let _alone = alone();
    for p in SWITCHES.iter().filter(|p| format!("{p:?}").contains(&which)) {
        println!("=== {p:?}");
        for (name, bound, scenario) in ALL.iter().filter(|(n, ..)| n.contains(&only)) {
            let began = Instant::now();
            let r = std::panic::catch_unwind(|| {
                let _off = p.without();
                explore(*bound, cap, || {
                    let mut w = scenario();
                    if *p == Protection::RemoveBeforePublish {
                        w.let_nothing_commute();
                    }
                    w
                })
            });
            if r.is_err() {
                println!("  {p:?}: {name}: CAP");
            }
            if let Ok(Err(b)) = r {
                println!("  {p:?}: {name}: {} after {} {:?}", b.why, b.explored.schedules, began.elapsed());
            }
        }
    }
}

#[test]
#[ignore]
fn survey() {
    let cap: usize = std::env::var("CAP").ok().and_then(|c| c.parse().ok()).unwrap_or(20_000);
    let only = std::env::var("ONLY").unwrap_or_default();
    let _alone = alone();
    for (name, bound, scenario) in ALL.iter().filter(|(n, ..)| n.contains(&only)) {
        let began = Instant::now();
        let r = std::panic::catch_unwind(|| explore(*bound, cap, scenario));
        match r {
            Ok(Ok(e)) => println!("ok   {name}: {e:?} {:?}", began.elapsed()),
            Ok(Err(b)) => println!("FAIL {name}: {b}  {:?}", began.elapsed()),
            Err(_) => println!("CAP  {name} {:?}", began.elapsed()),
        }
    }
}
