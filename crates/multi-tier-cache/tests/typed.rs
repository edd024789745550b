//! Typed caches: verbs, errors, what other instances see, what old and foreign entries are.
#![cfg(all(feature = "redis", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use multi_tier_cache::backends::{QuickCacheBackend, RedisCache};
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{
    Cache, CacheError, CacheSystem, CacheSystemBuilder, CallOptions, DashMapCache, Freshness, LoadError, Loaded,
};
use serde::{Deserialize, Serialize};
use test_servers::RedisServer;
use tokio::sync::oneshot;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

fn user(id: u64) -> User {
    User { id, name: format!("user {id}") }
}

async fn in_process(time: &ManualClock) -> CacheSystem {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let l2 = Arc::new(DashMapCache::new().with_clock(time.clock()));
    CacheSystemBuilder::new().with_l1(l1).with_l2(l2).with_clock(time.clock()).build().await.unwrap()
}

async fn instance(server: &RedisServer) -> CacheSystem {
    let l2 = Arc::new(RedisCache::with_url(&server.url()).await.unwrap());
    CacheSystemBuilder::new().with_l2(l2).build().await.unwrap()
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

#[tokio::test]
async fn a_value_is_loaded_once_and_shared() {
    let time = ManualClock::new();
    let users: Cache<u64, User> = in_process(&time).await.cache("users").unwrap();
    assert_eq!(users.get(&7).await.unwrap(), None);
    let first = users.get_or_load(&7, || async { Ok(user(7)) }).await.unwrap();
    let second = users.get_or_load(&7, || async { panic!("it is there") }).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&first, &users.get(&7).await.unwrap().unwrap()));
    assert!(users.contains(&7).await.unwrap());
    users.insert(&7, user(8)).await.unwrap();
    assert_eq!(*users.get(&7).await.unwrap().unwrap(), user(8));
    users.remove(&7).await.unwrap();
    assert!(!users.contains(&7).await.unwrap());
    let stats = users.stats();
    assert_eq!((stats.loads, stats.hits, stats.misses), (1, 4, 3));
}

#[tokio::test]
async fn another_instance_reads_what_one_loaded_and_forgets_what_one_removed() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let (on_a, on_b): (Cache<u64, User>, Cache<u64, User>) = (a.cache("users").unwrap(), b.cache("users").unwrap());
    on_a.get_or_load(&7, || async { Ok(user(7)) }).await.unwrap();
    let found = on_b.get_or_load(&7, || async { panic!("Redis has it") }).await.unwrap();
    assert_eq!(*found, user(7));
    let position = on_b.remove(&7).await.unwrap();
    let options = CallOptions::default().at_least(position);
    let fetched =
        on_a.fetch::<_, CacheError, _, _>(&7, &options, |_| async { Ok(Loaded::new(user(9))) }).await.unwrap();
    assert_eq!(**fetched.value().unwrap(), user(9));
}

#[tokio::test]
async fn the_loaders_own_error_reaches_every_waiter_unchanged() {
    #[derive(Debug, PartialEq)]
    struct Gone(u32);
    let time = ManualClock::new();
    let users: Cache<u64, User> = in_process(&time).await.cache("users").unwrap();
    let loads = Arc::new(AtomicUsize::new(0));
    let calls = (0..50).map(|_| {
        let (users, loads) = (users.clone(), Arc::clone(&loads));
        async move {
            users
                .get_or_try_load(&1, move || async move {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Err::<User, _>(Gone(410))
                })
                .await
        }
    });
    for answer in futures_util::future::join_all(calls).await {
        let Err(LoadError::Load(error)) = answer else { panic!("{answer:?}") };
        assert_eq!(*error, Gone(410));
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(users.stats().failed_loads, 1);
}

#[tokio::test]
async fn absence_is_stored_only_if_asked() {
    let time = ManualClock::new();
    let system = in_process(&time).await;
    let forgetful: Cache<u64, User> = system.cache("forgetful").unwrap();
    let freshness = Freshness::new(minute()).with_negative_ttl(Duration::from_secs(5));
    let users: Cache<u64, User> = system.cache_builder("users").freshness(freshness).build().unwrap();
    for (cache, expected) in [(&forgetful, 2), (&users, 1)] {
        for _ in 0..2 {
            let load = || async { Ok::<_, CacheError>(None) };
            assert_eq!(cache.get_or_load_optional(&1, load).await.unwrap(), None);
        }
        assert_eq!(cache.stats().loads, expected, "{cache:?}");
        assert_eq!(cache.get(&1).await.unwrap(), None);
    }
    time.advance(Duration::from_secs(5));
    let found = users.get_or_load_optional(&1, || async { Ok::<_, CacheError>(Some(user(1))) }).await.unwrap();
    assert_eq!(*found.unwrap(), user(1));
}

#[tokio::test]
async fn values_of_another_schema_are_a_miss_on_both_sides() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let old: Cache<u64, User> = a.cache_builder("users").schema("user", 1).build().unwrap();
    let new: Cache<u64, (u64, String)> = b.cache_builder("users").schema("user", 2).build().unwrap();
    old.get_or_load(&7, || async { Ok(user(7)) }).await.unwrap();
    let found = new.get_or_load(&7, || async { Ok((7, "new".to_owned())) }).await.unwrap();
    assert_eq!(*found, (7, "new".to_owned()));
    assert!(new.stats().rejected > 0);
    old.remove(&7).await.unwrap();
    new.insert(&7, (7, "newer".to_owned())).await.unwrap();
    let back = instance(&server).await;
    let back: Cache<u64, User> = back.cache_builder("users").schema("user", 1).build().unwrap();
    assert_eq!(*back.get_or_load(&7, || async { Ok(user(1)) }).await.unwrap(), user(1));
}

#[tokio::test]
async fn a_name_is_needed_that_is_not_the_librarys_own() {
    let time = ManualClock::new();
    let system = in_process(&time).await;
    for (name, what) in [("", "not empty"), ("mtc", "`mtc`"), ("mtc:", "`mtc:`"), ("mtc:l", "`mtc:l`")] {
        let Err(CacheError::ConfigError(why)) = system.cache::<u64, User>(name) else { panic!("{name}") };
        assert!(why.contains("name") && why.contains(what), "{name}: {why}");
    }
    for name in ["mtc2", "m", "my:mtc:"] {
        assert_eq!(system.cache::<u64, User>(name).unwrap().name(), name);
    }
}

#[tokio::test(start_paused = true)]
async fn loads_beyond_the_cap_wait_and_then_fail() {
    let l2 = Arc::new(DashMapCache::new());
    let system = CacheSystemBuilder::new().with_l2(l2).with_max_concurrent_loads(1).build().await.unwrap();
    let rules = Freshness::new(minute()).with_load_deadlines(None, None);
    let users: Cache<u64, User> = system.cache_builder("users").freshness(rules).build().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let first = tokio::spawn({
        let users = users.clone();
        async move {
            users.get_or_load(&1, || async { ended.await.map(|()| user(1)).map_err(|_| CacheError::NotFound) }).await
        }
    });
    tokio::task::yield_now().await;
    let late = users.get_or_try_load(&2, || async { Ok::<_, Infallible>(user(2)) }).await;
    let Err(LoadError::Cache(error)) = late else { panic!("{late:?}") };
    assert!(error.is_retryable(), "{error}");
    let waiting = tokio::spawn({
        let users = users.clone();
        async move { users.get_or_load(&3, || async { Ok(user(3)) }).await }
    });
    tokio::task::yield_now().await;
    end.send(()).unwrap();
    assert_eq!(*first.await.unwrap().unwrap(), user(1));
    assert_eq!(*waiting.await.unwrap().unwrap(), user(3));
}

#[tokio::test]
async fn a_cache_with_an_l1_of_its_own_is_not_pushed_out_by_others() {
    let own = Arc::new(QuickCacheBackend::new(100).unwrap());
    let l1 = Arc::new(QuickCacheBackend::new(100).unwrap());
    let builder = CacheSystemBuilder::new().with_l1(l1.clone()).with_l2(Arc::new(DashMapCache::new()));
    let system = builder.with_l1_of("users", own.clone()).build().await.unwrap();
    let users: Cache<u64, User> = system.cache("users").unwrap();
    let others: Cache<u64, u64> = system.cache("users of another kind").unwrap();
    users.insert(&1, user(1)).await.unwrap();
    for n in 0..10_000 {
        others.insert(&n, n).await.unwrap();
    }
    assert_eq!((own.size(), l1.size() > 50), (1, true));
    let before = system.cache_manager().get_stats().l1_hits;
    assert_eq!(*users.get(&1).await.unwrap().unwrap(), user(1));
    assert_eq!(system.cache_manager().get_stats().l1_hits, before + 1);
    users.clear().await.unwrap();
    assert_eq!((own.size(), users.get(&1).await.unwrap()), (0, None));
}

#[tokio::test]
async fn an_l1_of_its_own_must_be_in_process() {
    let far = multi_tier_cache::testing::Faulty::new(Arc::new(DashMapCache::new()));
    let Err(CacheError::ConfigError(why)) =
        CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).with_l1_of("users", far).build().await
    else {
        panic!("it is not in process")
    };
    assert!(why.contains("Faulty"), "{why}");
}
