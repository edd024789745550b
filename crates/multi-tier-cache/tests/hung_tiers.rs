//! A user's tier that stops answering: what it may cost, and whom. Timers run in virtual time.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Fault, NEW, OLD, Op, Scripted, TTL, assert_at_rest, run_all, start};
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{CacheManager, CacheStrategy, CacheSystemBuilder, L2CacheBackend, TierConfig, defaults};
use tokio::time::{Instant, timeout};

type Tier = Arc<dyn L2CacheBackend>;

async fn over(l2: &Arc<Scripted>, time: &ManualClock) -> Arc<CacheManager> {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let system = CacheSystemBuilder::new()
        .with_clock(time.clock())
        .with_tier(l1 as Tier, TierConfig::as_l1())
        .with_tier(Arc::clone(l2) as Tier, TierConfig::as_l2())
        .build()
        .await
        .unwrap();
    system.cache_manager
}

async fn compute(cache: &CacheManager, key: &str) {
    let load = || async { Ok(NEW) };
    assert_eq!(cache.get_or_compute_with(key, CacheStrategy::ShortTerm, load).await.unwrap(), NEW);
}

fn calls(l2: &Scripted) -> usize {
    [Op::Get, Op::Set, Op::Remove].into_iter().map(|op| l2.calls(op)).sum()
}

#[tokio::test(start_paused = true)]
async fn a_hung_tier_is_tried_once_a_window_and_each_try_ends_after_its_budget() {
    let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
    let cache = over(&l2, &time).await;
    l2.fail_all(Fault::Hang);
    for window in 1..=5 {
        let began = Instant::now();
        for n in 0..20 {
            compute(&cache, &format!("{window}:{n}")).await;
        }
        assert_eq!((calls(&l2), began.elapsed().as_secs()), (window, defaults::TIER_BUDGET.as_secs()));
        time.advance(defaults::BREAKER_WINDOW);
    }
    l2.mend();
    compute(&cache, "back").await;
    compute(&cache, "again").await;
    assert_eq!((l2.peek("back"), l2.peek("again")), (Some(NEW), Some(NEW)));
    assert_at_rest(&cache);
}

#[tokio::test(start_paused = true)]
async fn a_tier_whose_removals_and_health_checks_answer_but_whose_writes_hang_costs_one_budget_a_window() {
    let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
    let cache = over(&l2, &time).await;
    l2.fail(Op::Set, Fault::Hang);
    let began = Instant::now();
    for n in 0..20 {
        // It is in the first tier; what the second may still hold of it is owed, and made up for at once.
        cache.set_with_strategy(&format!("k{n}"), NEW, CacheStrategy::ShortTerm).await.unwrap();
        run_all().await;
        assert!(cache.health().await[1].healthy);
    }
    assert_eq!(began.elapsed().as_secs(), defaults::TIER_BUDGET.as_secs());
    assert!(cache.health().await[1].left_alone);
}

#[tokio::test(start_paused = true)]
async fn callers_at_once_share_one_try_and_one_budget() {
    let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
    let cache = over(&l2, &time).await;
    l2.fail_all(Fault::Hang);
    compute(&cache, "first").await;
    time.advance(defaults::BREAKER_WINDOW);
    let (before, began) = (calls(&l2), Instant::now());
    let mut callers = Vec::new();
    for n in 0..50 {
        let cache = Arc::clone(&cache);
        callers.push(start(async move { compute(&cache, &format!("{n}")).await }).await);
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!((calls(&l2) - before, began.elapsed().as_secs()), (1, defaults::TIER_BUDGET.as_secs()));
    assert_at_rest(&cache);
}

#[tokio::test(start_paused = true)]
async fn puts_and_removals_end_although_a_tier_hangs() {
    let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
    let cache = over(&l2, &time).await;
    cache.set_with_strategy("k", OLD, CacheStrategy::ShortTerm).await.unwrap();
    l2.fail_all(Fault::Hang);
    for op in [Op::Set, Op::Remove] {
        let began = Instant::now();
        match op {
            Op::Set => cache.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap(),
            _ => assert!(cache.invalidate("k").await.unwrap_err().is_retryable()),
        }
        assert!(began.elapsed() <= defaults::TIER_BUDGET, "{op:?} took {:?}", began.elapsed());
        time.advance(defaults::BREAKER_WINDOW);
    }
    assert!(cache.get("k").await.is_err(), "L1 is clean, and L2 cannot be asked");
    assert_at_rest(&cache);
}

// A writer that waits for a hung tier must not hold up readers of L1, nor other keys.
#[tokio::test(start_paused = true)]
async fn readers_do_not_wait_for_a_writer_that_waits_for_a_hung_tier() {
    let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
    let cache = over(&l2, &time).await;
    cache.set_with_strategy("other", OLD, CacheStrategy::ShortTerm).await.unwrap();
    l2.fail(Op::Set, Fault::Hang);
    let (writing, began) = (Arc::clone(&cache), Instant::now());
    let writer = start(async move { writing.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await }).await;
    assert_eq!(cache.get("other").await.unwrap(), Some(OLD));
    l2.plant("below", OLD);
    assert_eq!(cache.get("below").await.unwrap(), Some(OLD));
    assert!(!writer.is_finished() && began.elapsed() < Duration::from_millis(10));
    writer.await.unwrap().unwrap();
    run_all().await;
    assert_at_rest(&cache);
}

// Who asks how the cache is must be answered above all when it is not well.
#[tokio::test(start_paused = true)]
async fn the_health_of_a_hung_tier_is_reported_within_a_bound() {
    let (time, l1, l2) = (ManualClock::new(), Scripted::new("L1"), Scripted::new("L2"));
    let cache = over(&l2, &time).await;
    l2.fail(Op::Health, Fault::Hang);
    let health = timeout(TTL, cache.health()).await.expect("health() hangs with its tier");
    assert!(health[0].healthy && !health[1].healthy, "{health:?}");

    l1.fail(Op::Health, Fault::Hang);
    let system = CacheSystemBuilder::new().with_tier(l1 as Tier, TierConfig::as_l1()).build().await.unwrap();
    assert!(!timeout(TTL, system.health_check()).await.expect("health_check() hangs with L1"));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_a_hung_tier_does_not_remove_is_an_error_within_a_bound() {
    let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
    let cache = over(&l2, &time).await;
    l2.fail(Op::Pattern, Fault::Hang);
    let outcome = timeout(Duration::from_secs(3_600), cache.invalidate_pattern("k*")).await;
    assert!(outcome.expect("an hour, and no answer").is_err());
}
