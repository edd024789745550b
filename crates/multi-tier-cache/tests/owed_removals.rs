//! A tier that could not be told to forget a key owes its removal: the old value is not served, the removal is made up
//! for, and keys that are not concerned pay nothing for it. Timers run in virtual time.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use common::{Fault, Held, NEW, OLD, Op, Scripted, When, assert_at_rest, ended, manager, manager_on, run_all, start};
use futures_util::FutureExt;
use futures_util::future::join_all;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{CacheManager, CacheStrategy, Capabilities, InProcess, L2CacheBackend, defaults};
use tokio::runtime::{self, Runtime};
use tokio::time::{Instant, sleep};

type Tier = Arc<dyn L2CacheBackend>;

const KEEP: CacheStrategy = CacheStrategy::ShortTerm;
const ROUND_TRIP: Duration = Duration::from_millis(20);

fn quick() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(1_000).unwrap())
}

/// A tier with a breaker, and the clock that the breaker goes by.
async fn over_breaker() -> (ManualClock, Arc<QuickCacheBackend>, Arc<Scripted>, Arc<CacheManager>) {
    let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let cache = manager_on(&time, vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]).await;
    (time, l1, l2, cache)
}

/// A tier that keeps budgets of its own, as those with a driver do: it is never left alone.
fn over_budgeted() -> (Arc<Scripted>, Arc<CacheManager>) {
    over_capable_of(Capabilities::BUDGETED)
}

fn over_capable_of(capabilities: Capabilities) -> (Arc<Scripted>, Arc<CacheManager>) {
    let l2 = Scripted::capable_of("L2", capabilities);
    let cache = manager(vec![quick() as Tier, Arc::clone(&l2) as Tier]);
    (l2, cache)
}

/// Lets a removal of `k` fail once, and keeps the background from making up for it while [`Held`] lives.
async fn owing_k(l2: &Scripted, cache: &CacheManager) -> Held {
    let making_up = l2.hold(Op::RemoveMany, When::Before);
    l2.fail_times(Op::Remove, Fault::Outage, 1);
    cache.invalidate("k").await.unwrap_err();
    making_up
}

async fn owed(cache: &CacheManager) -> usize {
    cache.health().await.iter().map(|tier| tier.owed_removals).sum()
}

/// Long enough for the background to try again after a failure.
async fn a_while() {
    sleep(2 * defaults::BREAKER_WINDOW).await;
    run_all().await;
}

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

// L2 had failed on another key and was left alone for a moment; a put in that moment passed it over and was Ok. When
// L1's copy had gone, L2 answered with the value from before the put.
#[tokio::test(start_paused = true)]
async fn a_tier_that_a_put_passed_over_does_not_answer_with_the_value_before_it() {
    let (time, l1, l2, cache) = over_breaker().await;
    l2.plant("k", OLD);
    l2.fail_times(Op::Get, Fault::Outage, 1);
    cache.get("other").await.unwrap_err();
    let _making_up = l2.hold(Op::RemoveMany, When::Before);
    cache.set_with_strategy("k", NEW, KEEP).await.unwrap();
    assert_eq!((l2.calls(Op::Set), l2.peek("k"), cache.get("k").await.unwrap()), (0, Some(OLD), Some(NEW)));
    l1.evict("k"); // as if L1 had needed the room
    cache.get("k").await.unwrap_err();
    time.advance(defaults::BREAKER_WINDOW);
    assert_eq!((cache.get("k").await.unwrap(), l2.peek("k")), (None, None));
    assert_at_rest(&cache);
}

// After an outage with hundreds of failed removals everybody waited until they had all been made up for, one by one,
// each at the price of a round trip.
#[tokio::test(start_paused = true)]
async fn hundreds_of_owed_keys_keep_nobody_else_waiting() {
    const KEYS: u32 = 500;
    let (time, _, l2, cache) = over_breaker().await;
    l2.plant("other", OLD);
    l2.fail_all(Fault::Outage);
    for n in 0..KEYS {
        l2.plant(&format!("k{n}"), OLD);
        cache.invalidate(&format!("k{n}")).await.unwrap_err();
    }
    assert_eq!(owed(&cache).await, KEYS as usize);
    l2.mend();
    l2.slow_down(Op::Get, ROUND_TRIP);
    l2.slow_down(Op::Remove, ROUND_TRIP);
    time.advance(defaults::BREAKER_WINDOW);
    let began = Instant::now();
    assert_eq!(cache.get("other").await.unwrap(), Some(OLD));
    assert!(began.elapsed() < 2 * ROUND_TRIP, "one round trip of its own, not {:?}", began.elapsed());
    assert!(owed(&cache).await > 400, "still being made up for");

    sleep((KEYS + 1) * 2 * ROUND_TRIP).await;
    assert_eq!(owed(&cache).await, 0);
    assert!((0..KEYS).all(|n| l2.peek(&format!("k{n}")).is_none()), "without a single reader");
    assert_eq!(l2.peek("other"), Some(OLD));
    assert_at_rest(&cache);
}

// A pattern that takes longer than an operation may take could never be made up for: each attempt was cut off, and
// nothing in the tier was read any more.
#[tokio::test(start_paused = true)]
async fn an_owed_pattern_that_takes_long_is_made_up_for_and_keeps_nobody_waiting() {
    let (time, _, l2, cache) = over_breaker().await;
    l2.plant("other", OLD);
    l2.plant("user:1", OLD);
    l2.fail_all(Fault::Outage);
    cache.invalidate_pattern("user:*").await.unwrap_err();
    l2.mend();
    let long = defaults::TIER_BUDGET * 3 / 2;
    l2.slow_down(Op::Pattern, long);
    time.advance(defaults::BREAKER_WINDOW);
    let began = Instant::now();
    assert_eq!(cache.get("other").await.unwrap(), Some(OLD));
    assert!(began.elapsed() < ROUND_TRIP, "{:?}", began.elapsed());
    assert_eq!((owed(&cache).await, l2.peek("user:1")), (1, Some(OLD)));
    sleep(long + 2 * defaults::BREAKER_WINDOW).await;
    assert_eq!((owed(&cache).await, l2.peek("user:1")), (0, None));
    assert_at_rest(&cache);
}

// The caller whose pattern had failed repeated it and was told Ok, but the tier was still held to owe it.
#[tokio::test(start_paused = true)]
async fn a_pattern_that_its_caller_repeats_is_settled() {
    let (l2, cache) = over_budgeted();
    l2.fail_times(Op::Pattern, Fault::Outage, 1);
    cache.invalidate_pattern("user:*").await.unwrap_err();
    let mut making_up = l2.hold(Op::Pattern, When::Before);
    run_all().await;
    making_up.reached().await;
    assert_eq!(owed(&cache).await, 1);
    cache.invalidate_pattern("user:*").await.unwrap();
    assert_eq!(owed(&cache).await, 0);
}

// During an outage each computed value that L2 did not take was noted as owed. Afterwards the values that L2 still had
// were removed, though nothing newer was known; and with enough keys nothing in L2 was read any more.
#[tokio::test(start_paused = true)]
async fn values_that_an_outage_kept_from_a_tier_are_not_owed() {
    let (l2, cache) = over_budgeted();
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    l2.fail_all(Fault::Outage);
    for key in &keys {
        l2.plant(key, OLD);
        assert_eq!(cache.get_or_compute_with(key, KEEP, || async { Ok(NEW) }).await.unwrap(), NEW);
    }
    assert_eq!(owed(&cache).await, 0);
    l2.mend();
    a_while().await;
    l2.plant("other", OLD);
    assert_eq!(cache.get("other").await.unwrap(), Some(OLD));
    assert!(keys.iter().all(|key| l2.peek(key) == Some(OLD)));
    assert_at_rest(&cache);
}

// A hung tier costs one caller a window its budget. While it owed a removal it cost every caller that: each tried to
// make up for it first.
#[tokio::test(start_paused = true)]
async fn a_hung_tier_that_owes_a_removal_costs_one_budget_a_window() {
    let (time, _, l2, cache) = over_breaker().await;
    l2.fail_all(Fault::Hang);
    cache.set_with_strategy("owed", NEW, KEEP).await.unwrap();
    for window in 0..5 {
        time.advance(defaults::BREAKER_WINDOW);
        let before = l2.calls(Op::Get);
        let mut callers = Vec::new();
        for n in 0..10 {
            let (cache, key) = (Arc::clone(&cache), format!("{window}:{n}"));
            let asked = Instant::now();
            callers.push(start(async move { (cache.get(&key).await.is_err(), asked.elapsed()) }).await);
        }
        let mut delayed = 0;
        for caller in callers {
            let (failed, took) = ended(caller).await;
            assert!(failed && took < defaults::TIER_BUDGET + ROUND_TRIP, "{took:?}");
            delayed += usize::from(took > ROUND_TRIP);
        }
        assert_eq!((delayed, l2.calls(Op::Get) - before), (1, 1), "window {window}");
    }
    assert_at_rest(&cache);
}

// One of a tier's servers was dead and owed a removal. Readers of the keys on its other servers took turns at making up
// for it, so that fifty of them took fifty round trips.
#[tokio::test(start_paused = true)]
async fn one_dead_server_of_several_does_not_hold_up_the_keys_of_the_others() {
    let (l2, cache) = over_budgeted();
    l2.slow_down(Op::Get, ROUND_TRIP);
    l2.slow_down(Op::Remove, ROUND_TRIP);
    l2.fail_keys_from("dead", Fault::Outage);
    cache.invalidate("dead1").await.unwrap_err();
    let keys: Vec<String> = (0..50).map(|n| format!("ok{n}")).collect();
    keys.iter().for_each(|key| l2.plant(key, OLD));
    let began = Instant::now();
    for value in join_all(keys.iter().map(|key| cache.get(key))).await {
        assert_eq!(value.unwrap(), Some(OLD));
    }
    assert!(began.elapsed() < 2 * ROUND_TRIP, "fifty at once take one round trip, not {:?}", began.elapsed());
    assert_eq!(owed(&cache).await, 1);
    assert_at_rest(&cache);
}

// An owed pattern was being made up for: its scan was over, its answer under way. A put came, and the same pattern
// again, which failed. The answer of the first scan settled both, and what was put came back.
#[tokio::test(start_paused = true)]
async fn a_pattern_that_fails_while_an_older_one_is_made_up_for_is_owed() {
    let (l2, cache) = over_budgeted();
    l2.fail_times(Op::Pattern, Fault::Outage, 1);
    cache.invalidate_pattern("k*").await.unwrap_err();
    let mut answering = l2.hold(Op::Pattern, When::After);
    run_all().await;
    answering.reached().await;
    cache.set_with_strategy("k", NEW, KEEP).await.unwrap();
    l2.fail(Op::Pattern, Fault::Outage);
    cache.invalidate_pattern("k*").await.unwrap_err();
    answering.release();
    run_all().await;
    assert_eq!((owed(&cache).await, l2.peek("k")), (1, Some(NEW)), "the second removal is still to come");
    assert_eq!((cache.get("k").await.unwrap(), l2.peek("k")), (None, None));
    assert_at_rest(&cache);
}

// A reader of an owed key removed it; the answer was under way when the key was put and removed again, and that removal
// failed. The reader's answer settled the newer debt too, and what was put came back.
#[tokio::test(start_paused = true)]
async fn a_readers_removal_does_not_settle_one_that_failed_after_it() {
    let (l2, cache) = over_budgeted();
    l2.plant("k", OLD);
    let _making_up = owing_k(&l2, &cache).await;
    let mut answering = l2.hold(Op::Remove, When::After);
    let early = Arc::clone(&cache);
    let reader = start(async move { early.get("k").await }).await;
    answering.reached().await;
    cache.set_with_strategy("k", NEW, KEEP).await.unwrap();
    l2.fail_times(Op::Remove, Fault::Outage, 1);
    cache.invalidate("k").await.unwrap_err();
    answering.release();
    assert_eq!(ended(reader).await.unwrap(), None);
    assert_eq!((owed(&cache).await, l2.peek("k")), (1, Some(NEW)), "the second removal is still to come");
    assert_eq!((cache.get("k").await.unwrap(), l2.peek("k")), (None, None));
    assert_eq!(owed(&cache).await, 0);
    assert_at_rest(&cache);
}

// A reader began to make up for an owed key and was not polled again, as in a `select!` that another branch won. It had
// taken a lock with it, and every other reader of the tier waited.
#[tokio::test(start_paused = true)]
async fn a_reader_that_is_no_longer_polled_holds_up_no_other_key() {
    let (l2, cache) = over_budgeted();
    l2.plant("other", OLD);
    let _making_up = owing_k(&l2, &cache).await;
    let mut removing = l2.hold(Op::Remove, When::Before);
    let mut stuck = pin!(cache.get("k"));
    assert!(stuck.as_mut().now_or_never().is_none());
    removing.reached().await;
    let began = Instant::now();
    assert_eq!(cache.get("other").await.unwrap(), Some(OLD));
    assert!(began.elapsed() < ROUND_TRIP, "{:?}", began.elapsed());
    removing.release();
    assert_eq!(stuck.await.unwrap(), None);
    assert_at_rest(&cache);
}

// Outside Tokio a removal cannot go on when its caller drops it. Dropped while it waited for L3, it left the old value
// in L2, to be promoted by the next reader.
#[test]
fn a_removal_dropped_outside_tokio_is_owed_by_every_tier() {
    let (l1, [l2, l3]) = (quick(), ["L2", "L3"].map(|name| Scripted::capable_of(name, Capabilities::BUDGETED)));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier, Arc::clone(&l3) as Tier]);
    cache.set_with_strategy("k", OLD, KEEP).now_or_never().unwrap().unwrap();
    let _removing = l3.hold(Op::Remove, When::Before);
    let removal = cache.invalidate("k").now_or_never();
    assert!(removal.is_none(), "dropped while it waits");
    assert_eq!(InProcess::lookup(&*l1, "k").map(|entry| entry.bytes().unwrap()), None);
    assert_eq!((l2.peek("k"), l3.peek("k")), (Some(OLD), Some(OLD)));
    assert_eq!(cache.get("k").now_or_never().unwrap().unwrap(), None);
    assert_eq!((l2.peek("k"), l3.peek("k")), (None, None), "made up for by the reader");
    assert_at_rest(&cache);
}

// A removal by pattern whose caller had gone was under way in a task when its runtime shut down. The scan was never
// made, and a later runtime read what should have gone.
#[test]
fn a_pattern_whose_runtime_shuts_down_is_owed() {
    let (l2, cache) = over_budgeted();
    l2.plant("k", OLD);
    let mut scanning = l2.hold(Op::Pattern, When::Before);
    let first = runtime();
    first.block_on(async {
        let caller = Arc::clone(&cache);
        let caller = start(async move { caller.invalidate_pattern("k*").await }).await;
        scanning.reached().await;
        caller.abort();
        run_all().await;
    });
    drop(first);
    assert_eq!(l2.peek("k"), Some(OLD));
    assert_eq!((runtime().block_on(cache.get("k")).unwrap(), l2.peek("k")), (None, None));
    assert_at_rest(&cache);
}

// A backend panicked in the midst of a scan. The panic passed over the note of what was owed, and the old value was read.
#[tokio::test(start_paused = true)]
async fn a_pattern_whose_backend_panics_is_owed() {
    let (l2, cache) = over_budgeted();
    l2.plant("k", OLD);
    l2.fail(Op::Pattern, Fault::Panic);
    cache.invalidate_pattern("k*").await.unwrap_err();
    a_while().await;
    assert_eq!((owed(&cache).await, l2.peek("k")), (1, Some(OLD)));
    assert_eq!((cache.get("k").await.unwrap(), l2.peek("k")), (None, None), "removed by its reader");
    assert_at_rest(&cache);
}

// A pattern was refused for good (say, the right to scan was withdrawn). What was owed after it was never made up for,
// and keys that had nothing to do with it were not read.
#[tokio::test(start_paused = true)]
async fn a_pattern_that_is_refused_for_good_costs_other_keys_nothing() {
    let (l2, cache) = over_budgeted();
    for key in ["k", "other", "zz1"] {
        l2.plant(key, OLD);
    }
    l2.fail_all(Fault::Outage);
    cache.invalidate_pattern("zz*").await.unwrap_err();
    cache.invalidate("k").await.unwrap_err();
    l2.mend();
    l2.fail(Op::Pattern, Fault::Refusal);
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(cache.get("other").await.unwrap(), Some(OLD));
    a_while().await;
    let scans = l2.calls(Op::Pattern);
    assert_eq!((owed(&cache).await, l2.peek("k")), (1, None));
    a_while().await;
    assert_eq!(l2.calls(Op::Pattern), scans, "a refusal is not asked for again and again");
    assert_eq!((cache.get("zz1").await.unwrap(), l2.peek("zz1")), (None, None), "removed by its reader");
    assert_at_rest(&cache);
}

// One key that a tier refuses to remove was in one batch with others: the batch failed as often as it was tried, and
// none of them was made up for.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_for_good_does_not_keep_its_batch_owed() {
    let (l2, cache) = over_capable_of(Capabilities::BUDGETED.and(Capabilities::BATCH));
    let others = ["k1", "k2", "k3"];
    l2.fail_all(Fault::Outage);
    for key in ["bad", "k1", "k2", "k3"] {
        l2.plant(key, OLD);
        cache.invalidate(key).await.unwrap_err();
    }
    l2.mend();
    l2.fail_keys_from("bad", Fault::Refusal);
    a_while().await;
    assert_eq!((owed(&cache).await, l2.peek("bad")), (1, Some(OLD)));
    assert!(others.iter().all(|key| l2.peek(key).is_none()));
    cache.get("bad").await.unwrap_err();
    assert_eq!(cache.get("k1").await.unwrap(), None);
    assert_at_rest(&cache);
}
