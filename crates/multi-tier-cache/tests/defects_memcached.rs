//! Stories in which a real Memcached has a part: its seconds, its clients that block, its outages.
#![cfg(feature = "memcached")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Count, NEW, OLD, PATIENCE, assert_at_rest, ended};
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{Bytes, CacheBackend, CacheError, CacheManager, CacheResult, CacheStrategy};
use multi_tier_cache::{L2CacheBackend, MemcachedCache};
use test_servers::MemcachedServer;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn over(server: &MemcachedServer) -> (Arc<QuickCacheBackend>, Arc<MemcachedCache>, Arc<CacheManager>) {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap());
    let l2 = Arc::new(MemcachedCache::with_url(&server.address()).unwrap());
    let cache = common::manager(vec![Arc::clone(&l1) as Arc<dyn L2CacheBackend>, Arc::clone(&l2) as _]);
    (l1, l2, cache)
}

#[tokio::test]
async fn memcached_keeps_its_established_surface() -> anyhow::Result<()> {
    let same: fn(multi_tier_cache::backends::memcached_cache::MemcachedCache) -> MemcachedCache = |same| same;
    let also: fn(multi_tier_cache::backends::MemcachedCache) -> MemcachedCache = |same| same;
    let _ = (same, also);
    let server = MemcachedServer::start()?;
    let cache: CacheResult<MemcachedCache> = MemcachedCache::with_url(&format!("memcache://{}", server.address()));
    let cache = cache?;
    cache.set("k", Bytes::from("v")).await?;
    assert_eq!((cache.name(), cache.get("k").await), ("Memcached", Some(Bytes::from("v"))));
    let stats: CacheResult<Vec<(String, HashMap<String, String>)>> =
        tokio::task::spawn_blocking(move || cache.get_server_stats()).await?;
    assert!(stats?[0].1.contains_key("curr_items"));
    Ok(())
}

// 9. A TTL below one second was sent as 0, which means for ever.
#[tokio::test]
async fn a_ttl_below_a_second_ends() {
    let server = MemcachedServer::start().unwrap();
    let (l1, l2, cache) = over(&server);
    for (key, ttl) in [("ns", Duration::from_nanos(1)), ("ms", Duration::from_millis(300))] {
        cache.update_cache(key, NEW, Some(ttl)).await.unwrap();
    }
    let load = || async { Ok(NEW) };
    let strategy = CacheStrategy::Custom(Duration::from_millis(900));
    cache.get_or_compute_with("computed", strategy, load).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    for key in ["ns", "ms", "computed"] {
        while l2.try_get(key).await.unwrap().is_some() {
            assert!(Instant::now() < deadline, "{key} outlived its TTL");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!((l1.get(key).await, cache.get(key).await.unwrap()), (None, None), "{key}");
    }
}

// 9. A TTL above 30 days was taken for a date in 1970, and the value was gone at once.
#[tokio::test]
async fn a_ttl_above_thirty_days_is_kept() {
    let server = MemcachedServer::start().unwrap();
    let (_, l2, cache) = over(&server);
    for days in [29, 30, 31, 365] {
        cache.update_cache("k", NEW, Some(DAY * days)).await.unwrap();
        let (value, remaining) = l2.try_get_with_ttl("k").await.unwrap().unwrap();
        let remaining = remaining.unwrap();
        assert_eq!(value, NEW);
        assert!(
            remaining <= DAY * days && remaining + Duration::from_secs(60) > DAY * days,
            "{days} days: {remaining:?}"
        );
    }
    for long in [DAY * 36_600, Duration::MAX] {
        cache.update_cache("k", OLD, Some(long)).await.unwrap();
        assert_eq!(l2.try_get("k").await.unwrap(), Some(OLD), "{long:?}");
    }
    cache.update_cache("k", OLD, Some(Duration::ZERO)).await.unwrap();
    assert_eq!(l2.try_get("k").await.unwrap(), None);
}

// 9. The client blocked the thread, and with it everything else on the runtime, while the server was silent.
#[tokio::test]
async fn a_silent_server_does_not_block_the_runtime() {
    let server = MemcachedServer::start().unwrap();
    let (_, _, cache) = over(&server);
    cache.set_with_strategy("warm", OLD, CacheStrategy::ShortTerm).await.unwrap();
    server.pause().unwrap();
    let ticks = Count::default();
    let counting = ticks.clone();
    let ticker = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(5)).await;
            counting.add();
        }
    });
    let began = Instant::now();
    let load = || async { Ok(NEW) };
    assert_eq!(cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap(), NEW);
    assert!(cache.invalidate("k").await.is_err());
    let took = began.elapsed();
    // One runtime thread: had it been blocked for that time there would be one tick.
    let due = took.as_millis() / 5;
    assert!(took >= Duration::from_millis(500), "the silent server was asked: {took:?}");
    assert!(ticks.get() as u128 >= due / 4, "{} ticks of {due}", ticks.get());
    ticker.abort();
    server.resume().unwrap();
}

// 3. The same story as with Redis: an old computation must not store its value after an invalidation.
#[tokio::test]
async fn a_computation_begun_before_a_removal_stores_nothing_in_memcached() {
    let server = MemcachedServer::start().unwrap();
    let (l1, l2, cache) = over(&server);
    let (begin, began) = oneshot::channel();
    let (finish, finished) = oneshot::channel::<()>();
    let computing = Arc::clone(&cache);
    let leader = tokio::spawn(async move {
        let load = || async {
            begin.send(()).unwrap();
            finished.await.unwrap();
            Ok(OLD)
        };
        computing.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap()
    });
    timeout(PATIENCE, began).await.unwrap().unwrap();
    cache.invalidate("k").await.unwrap();
    finish.send(()).unwrap();
    assert_eq!(ended(leader).await, OLD);
    assert_eq!((l1.get("k").await, l2.try_get("k").await.unwrap()), (None, None));
    assert_at_rest(&cache);
}

// 8. It cannot match patterns, said Ok, and kept every key.
#[tokio::test]
async fn a_pattern_is_an_error_and_never_a_silent_success() {
    let server = MemcachedServer::start().unwrap();
    let (l1, l2, cache) = over(&server);
    cache.set_with_strategy("user:1", OLD, CacheStrategy::ShortTerm).await.unwrap();
    let error = cache.invalidate_pattern("user:*").await.unwrap_err();
    assert!(matches!(error, CacheError::InvalidationError(_)) && !error.is_retryable(), "{error:?}");
    assert_eq!((l1.get("user:1").await, l2.try_get("user:1").await.unwrap()), (None, Some(OLD)));
}

// 10. An outage was a miss, and `invalidate` was Ok.
#[tokio::test]
async fn an_outage_is_an_error_to_get_and_invalidate_and_nothing_to_those_who_compute() {
    let mut server = MemcachedServer::start().unwrap();
    let (l1, _, cache) = over(&server);
    cache.set_with_strategy("k", OLD, CacheStrategy::ShortTerm).await.unwrap();
    server.kill().unwrap();
    let error = cache.get("absent").await.unwrap_err();
    assert!(matches!(error, CacheError::BackendError(_)) && error.is_retryable(), "{error:?}");
    assert!(matches!(cache.invalidate("k").await.unwrap_err(), CacheError::InvalidationError(_)));
    assert_eq!(l1.get("k").await, None);
    let load = || async { Ok(NEW) };
    assert_eq!(cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap(), NEW);
    let stats = cache.get_stats();
    assert_eq!((stats.misses, stats.total_requests), (1, 1));
    assert_at_rest(&cache);
}

// A value over Memcached's own limit (here 16 MiB, commonly 1 MiB) must not leave an older one behind.
#[tokio::test]
async fn a_put_that_memcached_refuses_leaves_no_older_value_in_it() {
    let server = MemcachedServer::start().unwrap();
    let l2 = Arc::new(MemcachedCache::with_url(&server.address()).unwrap());
    let builder = multi_tier_cache::CacheSystemBuilder::new()
        .with_l1(Arc::new(QuickCacheBackend::new(10).unwrap()))
        .with_l2(Arc::clone(&l2) as _)
        .with_max_value_bytes(64 * 1024 * 1024);
    let system = builder.build().await.unwrap();
    let cache = system.cache_manager();
    cache.set_with_strategy("k", OLD, CacheStrategy::ShortTerm).await.unwrap();
    let large = Bytes::from(vec![7; 20 * 1024 * 1024]);
    cache.set_with_strategy("k", large.clone(), CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(large));
    assert_eq!(l2.try_get("k").await.unwrap(), None);
}
