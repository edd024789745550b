//! What tiers tell: sizes, evictions, times, outages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::testing::{Fault, Loads, ManualClock};
use multi_tier_cache::{CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache, defaults};
use test_servers::RedisServer;

use crate::common::{ended, over_faulty, start};
use crate::number;

const VALUE: Bytes = Bytes::from_static(b"value");

#[tokio::test]
async fn stores_in_process_tell_how_full_they_are_and_what_they_evict() {
    let l1 = QuickCacheBackend::with_max_bytes(100_000).unwrap();
    let l2 = DashMapCache::with_capacity(10).unwrap();
    let system = CacheSystemBuilder::new().with_l1(Arc::new(l1)).with_l2(Arc::new(l2)).build().await.unwrap();
    let cache = system.cache_manager();
    for number in 0..1_000 {
        cache.set_with_strategy(&format!("k{number}"), VALUE, CacheStrategy::ShortTerm).await.unwrap();
    }
    assert_eq!(
        (number(cache, "mtc_tier_entries L2 DashMap"), number(cache, "mtc_tier_evictions_total L2 DashMap")),
        (10.0, 990.0)
    );
    let (entries, evictions) =
        (number(cache, "mtc_tier_entries L1 QuickCache"), number(cache, "mtc_tier_evictions_total L1 QuickCache"));
    assert_eq!(entries + evictions, 1_000.0);
    let bytes = number(cache, "mtc_tier_bytes L1 QuickCache");
    assert!(entries > 300.0 && bytes > entries * 200.0 && bytes <= 100_000.0, "{entries} {bytes}");
    for _ in 0..100 {
        cache.set_with_strategy("k999", VALUE, CacheStrategy::ShortTerm).await.unwrap();
    }
    assert_eq!(number(cache, "mtc_tier_evictions_total L1 QuickCache"), evictions, "a replacement is no eviction");
    cache.invalidate("k999").await.unwrap();
    assert_eq!(number(cache, "mtc_tier_evictions_total L2 DashMap"), 990.0, "a removal is no eviction");
}

#[tokio::test]
async fn a_tier_that_fails_opens_its_breaker_until_it_answers_again() {
    let time = ManualClock::new();
    let (system, l2) = over_faulty(&time).await;
    let cache = system.cache_manager();
    let breaker = || number(cache, "mtc_tier_breaker_open L2 Faulty");
    assert!(cache.get("k").await.unwrap().is_none());
    assert_eq!(breaker(), 0.0);
    l2.script([Fault::Fail]);
    assert!(cache.get("k").await.is_err());
    assert!(cache.get("k").await.is_err(), "left alone");
    assert_eq!((breaker(), number(cache, "mtc_tier_errors_total L2 Faulty")), (1.0, 2.0));
    assert_eq!(
        number(cache, "mtc_tier_operation_duration_seconds L2 Faulty get"),
        2.0,
        "what was not tried took no time"
    );
    time.advance(defaults::BREAKER_WINDOW);
    cache.get("k").await.unwrap();
    assert_eq!(breaker(), 0.0);
    l2.script([Fault::Fail]);
    assert!(cache.invalidate("k").await.is_err());
    assert_eq!(number(cache, "mtc_tier_pending_removals L2 Faulty"), 1.0);
}

#[tokio::test]
async fn a_killed_redis_is_left_alone_and_owes_what_it_was_not_told() {
    let mut server = RedisServer::start().unwrap();
    let system = CacheSystem::with_redis_url(&server.url()).await.unwrap();
    let cache = system.cache_manager();
    cache.get("k").await.unwrap();
    cache.invalidate("k").await.unwrap();
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Redis"), 0.0);
    assert_eq!(number(cache, "mtc_bus_sent_total"), 1.0);
    assert_eq!(number(cache, "mtc_tier_operation_duration_seconds L2 Redis invalidate"), 1.0);
    server.kill().unwrap();
    assert!(cache.invalidate("k").await.is_err());
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Redis"), 1.0);
    assert_eq!(
        (number(cache, "mtc_pending_invalidations"), number(cache, "mtc_tier_pending_removals L2 Redis")),
        (1.0, 1.0)
    );
    assert!(number(cache, "mtc_tier_errors_total L2 Redis") >= 1.0);
    server.restart().unwrap();
    let back = async {
        while cache.get("k").await.is_err() || number(cache, "mtc_pending_invalidations") > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.unwrap();
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Redis"), 0.0);
}

#[tokio::test]
async fn an_idle_tier_whose_health_check_succeeds_is_not_left_alone() {
    let time = ManualClock::new();
    let (system, l2) = over_faulty(&time).await;
    let cache = system.cache_manager();
    l2.script([Fault::Fail]);
    assert!(cache.get("k").await.is_err());
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Faulty"), 1.0);
    time.advance(defaults::TIER_FAILURE_COUNTS);
    assert!(system.health_report().await.tiers[1].healthy);
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Faulty"), 0.0);
    assert!(cache.get("k").await.is_ok(), "it is asked again");
    l2.script([Fault::Fail, Fault::Fail]);
    assert!(cache.get("k").await.is_err());
    assert!(!system.health_report().await.tiers[1].healthy);
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Faulty"), 1.0, "a failed check shows nothing");
}

#[tokio::test]
async fn a_failure_of_an_idle_tier_is_told_for_a_while() {
    let time = ManualClock::new();
    let (system, l2) = over_faulty(&time).await;
    let cache = system.cache_manager();
    l2.script([Fault::Fail]);
    assert!(cache.get("k").await.is_err());
    time.advance(defaults::TIER_FAILURE_TOLD.saturating_sub(Duration::from_millis(1)));
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Faulty"), 1.0);
    time.advance(Duration::from_millis(1));
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Faulty"), 0.0);
}

#[tokio::test]
async fn an_idle_redis_that_is_back_is_not_left_alone() {
    let mut server = RedisServer::start().unwrap();
    let system = CacheSystem::with_redis_url(&server.url()).await.unwrap();
    let cache = system.cache_manager();
    cache.get("k").await.unwrap();
    server.kill().unwrap();
    assert!(cache.get("k").await.is_err());
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Redis"), 1.0);
    server.restart().unwrap();
    let back = async {
        loop {
            let health = cache.health().await;
            if health[1].healthy && !health[1].left_alone {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.unwrap();
    assert_eq!(number(cache, "mtc_tier_breaker_open L2 Redis"), 0.0);
}

#[tokio::test]
async fn no_load_runs_where_nothing_bounds_them() {
    let builder = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new()));
    let system = builder.with_max_concurrent_loads(usize::MAX).build().await.unwrap();
    let (cache, loads) = (Arc::clone(system.cache_manager()), Loads::new());
    assert_eq!(number(&cache, "mtc_loads_running"), 0.0);
    let (held, counted, loading) = (loads.hold(), loads.clone(), Arc::clone(&cache));
    let load = move || counted.load(async { Ok(VALUE) });
    let call = start(async move { loading.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await });
    let call = call.await;
    loads.begun(1).await;
    assert_eq!(number(&cache, "mtc_loads_running"), 1.0);
    held.release();
    ended(call).await.unwrap();
    assert_eq!(number(&cache, "mtc_loads_running"), 0.0);
}
