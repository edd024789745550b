//! What once went wrong between instances, each with its story. A hub in memory coordinates.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Fault, NEW, OLD, Op, PATIENCE, Scripted};
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::testing::{Hub, Stage, Step};
use multi_tier_cache::traits::{CacheBackend, Capabilities};
use multi_tier_cache::{Arc, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, CallOptions};
use tokio::time::sleep;

fn over(hub: &Hub) -> CacheSystemBuilder {
    CacheSystemBuilder::new().with_l2(Arc::new(hub.clone()))
}

async fn staged(hub: &Hub) -> (CacheSystem, Stage) {
    let stage = Stage::new();
    (over(hub).with_stage(&stage).build().await.unwrap(), stage)
}

async fn load(cache: &CacheManager, key: &str, value: Bytes) -> Bytes {
    cache.get_or_compute_with(key, CacheStrategy::ShortTerm, || async { Ok(value) }).await.unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        sleep(Duration::from_millis(1)).await;
    }
}

// The plain read of L2 passed over an owed key; asking for the lease then answered with the value that was to go.
#[tokio::test]
async fn a_key_with_a_pending_removal_is_read_from_its_source_only() {
    let hub = Hub::new();
    let (system, stage) = staged(&hub).await;
    let cache = system.cache_manager();
    load(cache, "k", OLD).await;
    stage.fail(Step::Revoke, usize::MAX);
    cache.invalidate("k").await.unwrap_err();
    assert_eq!(cache.coherence_stats().pending_invalidations, 1);
    assert_eq!(load(cache, "k", NEW).await, NEW);
    stage.mend();
    until("the removal", async || cache.coherence_stats().pending_invalidations == 0).await;
}

// A plain put after a failed removal took the debt off the books, and other instances never heard of it.
#[tokio::test]
async fn a_put_after_a_failed_removal_does_not_keep_it_from_other_instances() {
    let hub = Hub::new();
    let (system, stage) = staged(&hub).await;
    let other = over(&hub).build().await.unwrap();
    let (cache, other) = (system.cache_manager(), other.cache_manager());
    assert_eq!(load(other, "k", OLD).await, OLD);
    stage.fail(Step::Revoke, usize::MAX);
    cache.invalidate("k").await.unwrap_err();
    stage.mend();
    cache.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap();
    until("the removal", async || cache.coherence_stats().pending_invalidations == 0).await;
    until("the message", async || other.get("k").await.unwrap() != Some(OLD)).await;
}

// Positions older than what an instance remembers were never reached: every token from before a deploy.
#[tokio::test]
async fn a_newcomer_reaches_positions_from_before_its_time() {
    let hub = Hub::new();
    let (system, _) = staged(&hub).await;
    let cache = system.cache_manager();
    let position = cache.remove("k").await.unwrap().unwrap();
    cache.remove("another").await.unwrap();
    let newcomer = over(&hub).build().await.unwrap();
    let options = CallOptions::default().at_least(position);
    assert_eq!(newcomer.cache_manager().get_with_options("k", &options).await.unwrap(), None);
}

// After a failover nothing can be told of an older position: no cache answers for it.
#[tokio::test]
async fn a_position_of_a_lost_history_bypasses_every_cache() {
    let hub = Hub::new();
    let (system, _) = staged(&hub).await;
    let cache = system.cache_manager();
    let position = cache.remove("k").await.unwrap().unwrap();
    load(cache, "k", OLD).await;
    hub.restart_empty();
    load(cache, "k", OLD).await;
    let options = CallOptions::default().at_least(position);
    until("the new epoch", async || cache.get_with_options("k", &options).await.is_err()).await;
    let loaded = cache.get_or_compute_with_options("k", &options, || async { Ok(NEW) }).await.unwrap();
    assert_eq!(loaded, NEW);
}

// An L1 of the user's own that cannot match patterns was not read any more once the bus was joined.
#[tokio::test]
async fn a_first_tier_of_the_users_own_works_beside_the_bus() {
    let hub = Hub::new();
    let own = Scripted::without_patterns("own");
    let system = over(&hub).with_l1(own.clone()).build().await.unwrap();
    let other = over(&hub).build().await.unwrap();
    let (cache, other) = (system.cache_manager(), other.cache_manager());
    until("the subscription", async || cache.coherence_stats().subscriptions == 1).await;
    other.remove_pattern("a*").await.unwrap();
    until("the pattern", async || cache.invalidation_stats().unwrap().patterns_received == 1).await;
    for key in ["k", "abc"] {
        load(cache, key, OLD).await;
        let before = cache.get_stats().l1_hits;
        assert_eq!(load(cache, key, NEW).await, OLD);
        assert_eq!(cache.get_stats().l1_hits, before + 1, "{key}");
    }
    other.remove("k").await.unwrap();
    until("the message", async || cache.get("k").await.unwrap().is_none()).await;
    other.remove_pattern("a*").await.unwrap();
    until("the pattern", async || cache.get("abc").await.unwrap().is_none()).await;
}

// A put gave up at a dead tier below before it came to the coordinator, answered Ok, and L2 kept the older value.
#[tokio::test]
async fn a_dead_tier_below_does_not_keep_a_put_from_the_coordinator() {
    let hub = Hub::new();
    let l1 = Arc::new(QuickCacheBackend::new(100).unwrap());
    let l3 = Scripted::capable_of("L3", Capabilities::SHARED);
    let system = over(&hub).with_l1(l1.clone()).with_l3(l3.clone()).build().await.unwrap();
    let cache = system.cache_manager();
    load(cache, "k", OLD).await;
    l3.fail_all(Fault::Outage);
    cache.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap();
    assert_ne!(hub.peek("k"), Some(OLD));
    l1.remove("k").await.unwrap();
    assert_ne!(cache.get("k").await.ok().flatten(), Some(OLD));
    l3.mend();
    until("L3's removal", async || cache.health().await[2].owed_removals == 0).await;
    assert_ne!(l3.peek("k"), Some(OLD));
    assert!(l3.calls(Op::Remove) > 0);
}

// The first verb after a shutdown brought the background tasks back.
#[tokio::test]
async fn a_bus_that_was_shut_down_stays_so() {
    let hub = Hub::new();
    let (system, stage) = staged(&hub).await;
    system.shutdown().await;
    tokio::task::yield_now().await;
    let polls = stage.calls(Step::Poll);
    let _ = system.cache_manager().get("k").await;
    sleep(Duration::from_millis(600)).await;
    assert_eq!(stage.calls(Step::Poll), polls);
}

// Stored bytes that are not of the type asked for were an error, not a miss.
#[tokio::test]
async fn bytes_of_another_type_are_computed_anew_under_options_too() {
    let hub = Hub::new();
    let (system, _) = staged(&hub).await;
    let cache = system.cache_manager();
    cache.set_with_strategy("k", "\"text\"".into(), CacheStrategy::ShortTerm).await.unwrap();
    let options = CallOptions::default();
    let number = cache.get_or_compute_typed_with_options("k", &options, || async { Ok(7_u32) }).await.unwrap();
    assert_eq!(number, 7);
    let shared = cache.get_or_compute_shared_with_options("k", &options, || async { Ok(8_u32) }).await.unwrap();
    assert_eq!(*shared, 7);
}

// Removals that were acknowledged, and lost in a failover before their own instance had heard them back, were not
// done again.
#[tokio::test]
async fn what_a_failover_lost_is_done_again_though_its_echo_never_came() {
    let hub = Hub::new();
    let (system, stage) = staged(&hub).await;
    let other = over(&hub).build().await.unwrap();
    let (cache, other) = (system.cache_manager(), other.cache_manager());
    load(other, "k", OLD).await;
    let replica = hub.replica();
    stage.lose_messages(true);
    let mut poll = stage.hold(Step::Poll, multi_tier_cache::testing::When::Before);
    poll.reached().await;
    cache.remove("k").await.unwrap();
    hub.fail_over(replica);
    other.remove("another").await.unwrap();
    poll.release();
    until("the replay", async || cache.coherence_stats().replayed > 0).await;
    until("the removal", async || hub.peek("k").is_none()).await;
    until("the message", async || other.get("k").await.unwrap().is_none()).await;
}
