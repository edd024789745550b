//! Stories in which a real Redis has a part: late values, shared databases, outages, secrets.
#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Count, NEW, OLD, PATIENCE, TTL, assert_at_rest, ended};
use multi_tier_cache::backends::{QuickCacheBackend, RedisCache, RedisConfig};
use multi_tier_cache::{
    CacheBackend, CacheError, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, L2CacheBackend,
};
use test_servers::RedisServer;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

const NOTHING: &str = ":0\r\n";

fn l1() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(1_000).unwrap())
}

async fn pair(server: &RedisServer) -> (Arc<QuickCacheBackend>, Arc<RedisCache>, Arc<CacheManager>) {
    let (l1, l2) = (l1(), Arc::new(RedisCache::with_url(&server.url()).await.unwrap()));
    let cache = common::manager(vec![Arc::clone(&l1) as Arc<dyn L2CacheBackend>, Arc::clone(&l2) as _]);
    (l1, l2, cache)
}

// 3. A computation that began before an invalidation stored its old value in Redis, for every instance.
#[tokio::test]
async fn a_computation_begun_before_an_invalidation_stores_nothing_in_redis() {
    let server = RedisServer::start().unwrap();
    let (l1, _, cache) = pair(&server).await;
    for pattern in [false, true] {
        let (begin, began) = oneshot::channel();
        let (finish, finished) = oneshot::channel::<()>();
        let computing = Arc::clone(&cache);
        let leader = tokio::spawn(async move {
            let load = || async {
                begin.send(()).unwrap();
                finished.await.unwrap();
                Ok(OLD)
            };
            computing.get_or_compute_with("user:1", CacheStrategy::ShortTerm, load).await.unwrap()
        });
        timeout(PATIENCE, began).await.unwrap().unwrap();
        if pattern {
            cache.invalidate_pattern("user:*").await.unwrap();
        } else {
            cache.invalidate("user:1").await.unwrap();
        }
        finish.send(()).unwrap();
        assert_eq!(ended(leader).await, OLD);
        assert_eq!(server.command(&["EXISTS", "user:1"]).unwrap(), NOTHING);
        assert_eq!(l1.get("user:1").await, None);
    }
    assert_at_rest(&cache);
}

// 4. Racing writers left L1 with one value and Redis with another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_puts_leave_l1_and_redis_equal() {
    let server = RedisServer::start().unwrap();
    let (l1, l2, cache) = pair(&server).await;
    for round in 0..100 {
        let mut writers = Vec::new();
        for n in 0..8 {
            let cache = Arc::clone(&cache);
            let value = Bytes::from(format!("{round}:{n}"));
            writers.push(tokio::spawn(async move {
                match n % 4 {
                    0 => cache.update_cache("k", value, None).await,
                    1 => cache.set_with_broadcast("k", value, CacheStrategy::RealTime).await,
                    2 => cache.invalidate("k").await,
                    _ => cache.set_with_strategy("k", value, CacheStrategy::LongTerm).await,
                }
            }));
        }
        for writer in writers {
            ended(writer).await.unwrap();
        }
        assert_eq!(l1.get("k").await, l2.try_get("k").await.unwrap(), "round {round}");
    }
    assert_at_rest(&cache);
}

// 8. `*` emptied a database that the cache shared with other programs.
#[tokio::test]
async fn a_pattern_that_could_reach_other_programs_keys_is_refused_and_removes_nothing() {
    let server = RedisServer::start().unwrap();
    let (_, _, cache) = pair(&server).await;
    server.command(&["SET", "theirs", "v"]).unwrap();
    cache.set_with_strategy("ours", OLD, CacheStrategy::ShortTerm).await.unwrap();
    for pattern in ["*", "", "?*", "*s", "[to]*", "**", "[^x]*"] {
        let error = cache.invalidate_pattern(pattern).await.unwrap_err();
        assert!(matches!(error, CacheError::ConfigError(_)), "{pattern:?}: {error:?}");
    }
    assert_eq!(server.command(&["EXISTS", "theirs", "ours"]).unwrap(), ":2\r\n");
    cache.invalidate_pattern("o*").await.unwrap();
    assert_eq!(cache.get("ours").await.unwrap(), None);
    assert_eq!(server.command(&["EXISTS", "theirs", "ours"]).unwrap(), ":1\r\n");
}

// 8. The same with a prefix: `*` means everything of this cache, and nothing else.
#[tokio::test]
async fn under_a_prefix_a_star_empties_this_cache_only() {
    let server = RedisServer::start().unwrap();
    let config = RedisConfig::default().with_url(server.url()).with_prefix("shop:");
    let l2 = Arc::new(RedisCache::with_config(config).unwrap());
    let cache = CacheManager::new_with_backends(l1(), l2, None).unwrap();
    for key in ["theirs", "shopping", "mtc:log"] {
        server.command(&["SET", key, "v"]).unwrap();
    }
    for n in 0..50 {
        cache.set_with_strategy(&format!("item:{n}"), OLD, CacheStrategy::ShortTerm).await.unwrap();
    }
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), ":53\r\n");
    cache.invalidate_pattern("*").await.unwrap();
    assert_eq!(server.command(&["EXISTS", "theirs", "shopping", "mtc:log"]).unwrap(), ":3\r\n");
    // And the library's own account of the fence.
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), ":4\r\n");
    assert_eq!(cache.get("item:1").await.unwrap(), None);
}

// 8. A pattern answered Ok and left its keys: those that begin like the library's own.
#[tokio::test]
async fn no_pattern_answers_ok_and_leaves_a_key_that_it_matches() {
    let server = RedisServer::start().unwrap();
    let (_, _, cache) = pair(&server).await;
    for (key, pattern) in
        [("a:[1]", r"a:\[1\]"), ("a{b}c", "a{b}*"), ("ä:1", "ä:?"), ("mtc:user", "mtc:u*"), ("mtc:x", "m*")]
    {
        if cache.set_with_strategy(key, OLD, CacheStrategy::ShortTerm).await.is_err() {
            continue;
        }
        let outcome = cache.invalidate_pattern(pattern).await;
        let kept = cache.get(key).await.unwrap();
        assert!(kept.is_none() || outcome.is_err(), "{pattern} was Ok and {key} is still there");
    }
}

// 8. One DEL with every key blocked the server, and KEYS walked all of it at once.
#[tokio::test]
async fn ten_thousand_keys_are_removed_in_bounded_batches() {
    let server = RedisServer::start().unwrap();
    let (_, l2, cache) = pair(&server).await;
    for chunk in (0..10_000).collect::<Vec<_>>().chunks(1_000) {
        let keys: Vec<String> = chunk.iter().map(|n| format!("many:{n}")).collect();
        let pairs: Vec<(&str, Bytes)> = keys.iter().map(|key| (key.as_str(), OLD)).collect();
        l2.set_many(&pairs, TTL).await.unwrap();
    }
    server.command(&["SET", "one", "v"]).unwrap();
    cache.invalidate_pattern("many:*").await.unwrap();
    // "one", and the library's own account of the fence.
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), ":2\r\n");
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    assert!(!stats.contains("cmdstat_keys:") && !stats.contains("cmdstat_del:"), "{stats}");
    let unlinks = stats.split("cmdstat_unlink:calls=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    assert!(unlinks.parse::<u32>().unwrap() >= 20, "{unlinks} UNLINKs");
}

// 10. While Redis was away every read was a miss, `invalidate` was Ok, and the statistics said all was well.
#[tokio::test]
async fn an_outage_is_an_error_to_get_and_invalidate_and_nothing_to_those_who_compute() {
    let mut server = RedisServer::start().unwrap();
    let (l1, _, cache) = pair(&server).await;
    cache.set_with_strategy("k", OLD, CacheStrategy::ShortTerm).await.unwrap();
    server.kill().unwrap();
    until(|| async { cache.get("absent").await.is_err() }).await;
    let before = cache.get_stats();

    assert_eq!(cache.get("k").await.unwrap(), Some(OLD), "L1 serves");
    let error = cache.get("other").await.unwrap_err();
    assert!(matches!(error, CacheError::BackendError(_)) && error.is_retryable(), "{error:?}");
    let error = cache.invalidate("k").await.unwrap_err();
    assert!(matches!(error, CacheError::InvalidationError(_)) && error.is_retryable(), "{error:?}");
    assert_eq!(l1.get("k").await, None);
    assert!(cache.invalidate_pattern("k*").await.is_err());
    cache.update_cache("k", NEW, None).await.unwrap();
    let count = Count::default();
    for _ in 0..3 {
        let load = || async {
            count.add();
            Ok(NEW)
        };
        assert_eq!(cache.get_or_compute_with("c", CacheStrategy::ShortTerm, load).await.unwrap(), NEW);
    }
    assert_eq!(count.get(), 1);

    let stats = cache.get_stats();
    assert_eq!((stats.l1_hits - before.l1_hits, stats.misses - before.misses), (3, 1), "{stats:?}");
    assert_at_rest(&cache);
    let health = cache.health().await;
    assert!(health[0].healthy && !health[1].healthy && health[1].errors > 0, "{health:?}");

    server.restart().unwrap();
    until(|| async { cache.invalidate("k").await.is_ok() }).await;
    cache.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), "$3\r\nnew\r\n");
}

async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(5)).await;
    }
}

// 11. `health_check` wrote a key of its own, and read it back.
#[tokio::test]
async fn a_health_check_writes_no_key_anywhere() {
    let server = RedisServer::start().unwrap();
    // Alone: the bus polls its log.
    let system = CacheSystemBuilder::new().with_redis_url(&server.url()).without_invalidation().build().await.unwrap();
    server.command(&["SET", "theirs", "v"]).unwrap();
    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    for _ in 0..3 {
        assert!(system.health_check().await);
        assert!(system.cache_manager().health().await.iter().all(|tier| tier.healthy));
    }
    assert_eq!(server.command(&["KEYS", "*"]).unwrap(), "*1\r\n$6\r\ntheirs\r\n");
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    for writing in ["set", "setex", "psetex", "del", "unlink", "hset", "xadd", "eval", "expire"] {
        assert!(!stats.contains(&format!("cmdstat_{writing}:")), "{stats}");
    }
    assert_eq!(system.cache_manager().get_stats().total_requests, 0);
}

// 11. `health_check` of the default system said that all was well only while Redis was up; L1 is what it speaks of.
#[tokio::test]
async fn the_system_is_healthy_while_l1_works() {
    let mut server = RedisServer::start().unwrap();
    let system = CacheSystem::with_redis_url(&server.url()).await.unwrap();
    server.kill().unwrap();
    assert!(system.health_check().await);
    assert!(!system.cache_manager().health().await[1].healthy);
}
