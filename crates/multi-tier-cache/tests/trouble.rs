//! Servers that are absent, locked, frozen, killed, or hold what nobody put there.
#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Count, NEW, OLD, PATIENCE, assert_at_rest, ended, manager};
use multi_tier_cache::backends::{QuickCacheBackend, RedisCache};
use multi_tier_cache::{CacheBackend, CacheError, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder};
use multi_tier_cache::{L2CacheBackend, RedisStreams, defaults};
use test_servers::RedisServer;
use tokio::time::sleep;

type Tier = Arc<dyn L2CacheBackend>;

/// What a busy machine may add to any time.
const SLACK: Duration = Duration::from_millis(800);

fn quick() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(10_000).unwrap())
}

async fn over(server: &RedisServer) -> (Arc<QuickCacheBackend>, Arc<CacheManager>) {
    let l1 = quick();
    let l2 = Arc::new(RedisCache::with_url(&server.url()).await.unwrap());
    (Arc::clone(&l1), manager(vec![l1 as Tier, l2]))
}

async fn compute(cache: &CacheManager, key: &str) -> Bytes {
    let load = || async { Ok(NEW) };
    cache.get_or_compute_with(key, CacheStrategy::ShortTerm, load).await.unwrap()
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_malformed_address_is_a_configuration_error_of_every_constructor() {
    for url in [
        "",
        " ",
        "localhost",
        "localhost:6379",
        "http://localhost:6379",
        "redis:/localhost",
        "redis://",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/db",
        "redis://h/-1",
        "redis://[::1",
        "rediss://h#insecure",
        "redis//h",
        "\0",
    ] {
        let errors = [
            CacheSystem::with_redis_url(url).await.map(drop).unwrap_err(),
            CacheSystemBuilder::new().with_redis_url(url).build().await.map(drop).unwrap_err(),
            RedisCache::with_url(url).await.map(drop).unwrap_err(),
            RedisStreams::new(url).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, CacheError::ConfigError(_)), "{url:?}: {error:?}");
        }
    }
}

#[cfg(feature = "moka")]
#[tokio::test]
async fn a_malformed_address_of_the_bus_is_a_configuration_error() {
    use multi_tier_cache::{InvalidationConfig, L1Cache, MokaCacheConfig};
    let server = RedisServer::start().unwrap();
    let l1 = Arc::new(L1Cache::new(MokaCacheConfig::default()).unwrap());
    let l2 = Arc::new(RedisCache::with_url(&server.url()).await.unwrap());
    let manager = CacheManager::new_with_invalidation(l1, l2, "http://bus", InvalidationConfig::default()).await;
    assert!(matches!(manager, Err(CacheError::ConfigError(_))));
}

#[tokio::test]
async fn behind_a_wrong_password_l1_serves_and_the_errors_say_why() {
    let server = RedisServer::builder().password("right").start().unwrap();
    let system = CacheSystem::with_redis_url(&server.url().replace("right", "wrong")).await.unwrap();
    let cache = system.cache_manager();
    assert!(system.health_check().await && !cache.health().await[1].healthy);
    assert_eq!((compute(cache, "k").await, compute(cache, "k").await), (NEW, NEW));
    cache.set_with_strategy("put", NEW, CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(cache.get("put").await.unwrap(), Some(NEW));
    for error in [cache.get("absent").await.unwrap_err(), cache.invalidate("k").await.unwrap_err()] {
        assert!(error.to_string().contains("password"), "{error}");
    }
    assert_eq!(cache.get_stats().misses, 1);
    assert_at_rest(cache);
}

// WRONGTYPE: another program keeps a list under our key.
#[tokio::test]
async fn a_key_of_another_type_is_an_error_to_get_and_replaced_by_whoever_stores() {
    let server = RedisServer::start().unwrap();
    let (l1, cache) = over(&server).await;
    let list = |key: &str| server.command(&["RPUSH", key, "theirs"]).unwrap();
    for key in ["computed", "typed", "put"] {
        list(key);
        let error = cache.get(key).await.unwrap_err();
        assert!(matches!(&error, CacheError::BackendError(_)) && !error.is_retryable(), "{error:?}");
        assert!(cache.get_typed::<u8>(key).await.is_err());
    }
    assert_eq!(compute(&cache, "computed").await, NEW);
    let load = || async { Ok(7_u8) };
    assert_eq!(cache.get_or_compute_typed("typed", CacheStrategy::ShortTerm, load).await.unwrap(), 7);
    cache.set_with_strategy("put", NEW, CacheStrategy::ShortTerm).await.unwrap();
    for (key, value) in [("computed", "$3\r\nnew\r\n"), ("typed", "$1\r\n7\r\n"), ("put", "$3\r\nnew\r\n")] {
        assert_eq!(server.command(&["GET", key]).unwrap(), value);
    }
    list("removed");
    cache.invalidate("removed").await.unwrap();
    assert_eq!((cache.get("removed").await.unwrap(), l1.get("removed").await), (None, None));
    let stats = cache.get_stats();
    assert_eq!((stats.misses, stats.total_hits), (3, 0), "two computed and one absent; errors are neither");
    assert_at_rest(&cache);
}

#[tokio::test]
async fn bytes_of_another_program_that_do_not_decode_are_computed_anew() {
    let server = RedisServer::start().unwrap();
    let (l1, cache) = over(&server).await;
    server.command(&["SET", "k", "\u{1}not json"]).unwrap();
    let error = cache.get_typed::<Vec<u8>>("k").await.unwrap_err();
    assert!(matches!(error, CacheError::SerializationError(_)), "{error:?}");
    let load = || async { Ok(vec![1_u8, 2]) };
    let loaded = cache.get_or_compute_typed("k", CacheStrategy::ShortTerm, load).await.unwrap();
    assert_eq!((loaded, cache.get_stats().misses), (vec![1, 2], 1));
    assert_eq!(server.command(&["GET", "k"]).unwrap(), "$5\r\n[1,2]\r\n");
    assert_eq!(l1.get("k").await.as_deref(), Some(&b"[1,2]"[..]));
    assert_eq!(cache.get_typed::<Vec<u8>>("k").await.unwrap(), Some(vec![1, 2]));
    assert_at_rest(&cache);
}

#[tokio::test]
async fn a_tier_that_is_down_at_the_start_joins_when_it_comes_up() {
    let mut server = RedisServer::start().unwrap();
    server.kill().unwrap();
    let began = Instant::now();
    let system = CacheSystem::with_redis_url(&server.url()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", began.elapsed());
    let cache = system.cache_manager();
    assert!(system.l2_cache.is_some() && system.health_check().await);
    assert_eq!(compute(cache, "before").await, NEW);
    assert_eq!(cache.get("before").await.unwrap(), Some(NEW));
    assert!(cache.publish_to_stream("s", vec![("f".into(), "v".into())], None).await.is_err());

    server.restart().unwrap();
    let cache = &cache;
    until("L2 joins", || async { cache.health().await[1].healthy }).await;
    cache.set_with_strategy("after", NEW, CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(server.command(&["GET", "after"]).unwrap(), "$3\r\nnew\r\n");
    until("streams join", || async {
        cache.publish_to_stream("s", vec![("f".into(), "v".into())], None).await.is_ok()
    })
    .await;
    assert_at_rest(cache);
}

// Callers of the computing verbs never learn that a tier dies, freezes and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_computing_caller_sees_an_error_of_a_tier_that_dies_under_load() {
    let mut server = RedisServer::start().unwrap();
    let (_, cache) = over(&server).await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Count::default());
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (cache, stop, done) = (Arc::clone(&cache), Arc::clone(&stop), done.clone());
            tokio::spawn(async move {
                let mut n = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    // Half of the keys are shared by all workers, half are new: no caller lives on L1 alone.
                    let key = if n.is_multiple_of(2) { format!("shared:{n}") } else { format!("{worker}:{n}") };
                    let load = || async { Ok(n) };
                    let seen = cache.get_or_compute_typed(&key, CacheStrategy::ShortTerm, load).await;
                    assert_eq!(seen.unwrap(), n);
                    let bytes = || async { Ok(OLD) };
                    let key = format!("bytes:{key}");
                    let seen = cache.get_or_compute_with(&key, CacheStrategy::RealTime, bytes).await.unwrap();
                    assert!(seen == OLD || seen == NEW);
                    cache.set_with_strategy(&key, NEW, CacheStrategy::RealTime).await.unwrap();
                    done.add();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let progress = async |phase: &str| {
        let before = done.get();
        until(phase, || async { done.get() >= before + 100 }).await;
    };
    progress("under way").await;
    server.kill().unwrap();
    progress("killed").await;
    server.restart().unwrap();
    progress("restarted").await;
    server.pause().unwrap();
    progress("frozen").await;
    server.resume().unwrap();
    progress("resumed").await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    progress("out of memory").await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    until("L2 serves", || async { cache.health().await[1].healthy }).await;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        ended(worker).await;
    }
    assert_at_rest(&cache);
}

// A frozen server (connections open, nothing answers) costs its budget once, not once a caller.
#[tokio::test]
async fn a_frozen_tier_costs_at_most_one_budget_and_then_little() {
    let server = RedisServer::start().unwrap();
    let (_, cache) = over(&server).await;
    compute(&cache, "warm").await;
    server.pause().unwrap();
    let began = Instant::now();
    assert_eq!(compute(&cache, "first").await, NEW);
    let first = began.elapsed();
    assert!(first <= defaults::TIER_BUDGET + defaults::VERIFY_BUDGET + SLACK, "{first:?}");
    let began = Instant::now();
    for n in 0..200 {
        assert_eq!(compute(&cache, &format!("more:{n}")).await, NEW);
    }
    let more = began.elapsed();
    assert!(more <= SLACK, "200 more took {more:?}");
    assert_eq!(compute(&cache, "warm").await, NEW);
    server.resume().unwrap();
    until("L2 thaws", || async { cache.health().await[1].healthy }).await;
    assert_at_rest(&cache);
}

// A write that timed out at a frozen server lies in a socket; thawed, the server must not carry it out after a removal.
#[tokio::test]
async fn a_put_that_timed_out_does_not_land_after_a_later_removal() {
    let server = RedisServer::start().unwrap();
    let (l1, cache) = over(&server).await;
    for round in 0..3 {
        compute(&cache, "warm").await;
        server.pause().unwrap();
        cache.set_with_strategy("k", OLD, CacheStrategy::LongTerm).await.unwrap();
        assert!(cache.invalidate("k").await.is_err());
        server.resume().unwrap();
        let cache = &cache;
        until("the removal", || async { cache.invalidate("k").await.is_ok() }).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), ":0\r\n", "round {round}");
        assert_eq!((l1.get("k").await, cache.get("k").await.unwrap()), (None, None));
    }
}

// A put that Redis has no memory for must not leave the older value there.
#[tokio::test]
async fn a_put_that_redis_refuses_leaves_no_older_value_in_it() {
    let server = RedisServer::start().unwrap();
    let (_, cache) = over(&server).await;
    cache.set_with_strategy("k", OLD, CacheStrategy::LongTerm).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    cache.set_with_strategy("k", NEW, CacheStrategy::LongTerm).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(NEW));
    assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), ":0\r\n");
}

// Redis counts in milliseconds; less than one is rounded up, and ends.
#[tokio::test]
async fn redis_keeps_every_ttl_from_a_nanosecond_to_centuries() {
    let server = RedisServer::start().unwrap();
    let (l1, cache) = over(&server).await;
    for short in [Duration::from_nanos(1), Duration::from_micros(900)] {
        cache.update_cache("k", NEW, Some(short)).await.unwrap();
        until("it ends", || async { server.command(&["EXISTS", "k"]).unwrap() == ":0\r\n" }).await;
        assert_eq!((l1.get("k").await, cache.get("k").await.unwrap()), (None, None));
    }
    for long in [Duration::from_secs(100 * 366 * 86_400), Duration::MAX] {
        cache.update_cache("k", NEW, Some(long)).await.unwrap();
        let pttl: u64 = server.command(&["PTTL", "k"]).unwrap().trim_start_matches(':').trim().parse().unwrap();
        assert!(pttl > 99 * 365 * 86_400_000, "{pttl}");
    }
    cache.update_cache("k", NEW, Some(Duration::ZERO)).await.unwrap();
    assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), ":0\r\n");
}

#[tokio::test]
async fn the_largest_value_fits_and_a_larger_one_is_served_uncached() {
    let server = RedisServer::start().unwrap();
    let (_, cache) = over(&server).await;
    let (fits, over) =
        (Bytes::from(vec![7; defaults::MAX_VALUE_BYTES]), Bytes::from(vec![7; defaults::MAX_VALUE_BYTES + 1]));
    cache.set_with_strategy("fits", fits.clone(), CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(server.command(&["STRLEN", "fits"]).unwrap(), ":8388608\r\n");
    assert_eq!(cache.get("fits").await.unwrap(), Some(fits));
    let load = || async { Ok(over.clone()) };
    assert_eq!(cache.get_or_compute_with("over", CacheStrategy::ShortTerm, load).await.unwrap(), over);
    assert_eq!(server.command(&["EXISTS", "over"]).unwrap(), ":0\r\n");
}
