//! What only a real memcached shows: its TTL rules, outages, other clients' items.
#![cfg(feature = "memcached")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use multi_tier_cache::backends::MemcachedCache;
use multi_tier_cache::{CacheBackend, CacheError, L2CacheBackend, defaults};
use test_servers::MemcachedServer;

const TTL: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn start() -> (MemcachedServer, MemcachedCache) {
    let server = MemcachedServer::start().unwrap();
    let cache = MemcachedCache::with_url(&format!("memcache://{}", server.address())).unwrap();
    (server, cache)
}

/// What the server answers to a raw request that ends in `mn`.
fn raw(server: &MemcachedServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(format!("{request}\r\nmn\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    for line in BufReader::new(stream).lines() {
        match line.unwrap().as_str() {
            "MN" => break,
            line => answer = answer + line + "\n",
        }
    }
    answer
}

async fn set(cache: &MemcachedCache, key: &str, value: &'static str) -> Result<(), CacheError> {
    cache.set_with_ttl(key, Bytes::from_static(value.as_bytes()), TTL).await
}

fn assert_outage(error: &CacheError) {
    let CacheError::BackendError(failure) = error else { panic!("{error:?}") };
    assert!(failure.is_retryable(), "{error:?}");
    assert_eq!(failure.tier(), Some("Memcached"));
    assert!(failure.operation().is_some());
}

#[tokio::test]
async fn readable_keys_and_their_values_are_stored_as_they_are() {
    let (server, cache) = start();
    set(&cache, "user:ü", "Ada").await.unwrap();
    assert_eq!(raw(&server, "mg user:ü v f"), "VA 3 f0\nAda\n");
    raw(&server, "ms theirs 5 T0 F7\r\nvalue");
    assert_eq!(cache.try_get_with_ttl("theirs").await.unwrap(), Some((Bytes::from_static(b"value"), None)));
}

#[tokio::test]
async fn the_server_is_told_ttls_that_it_understands() {
    let (server, cache) = start();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (ttl, shortest, longest) in [
        (Duration::from_micros(1), 1, 1),
        (Duration::from_millis(1_500), 2, 2),
        (DAY * 30, 2_591_999, 2_592_000),
        (DAY * 31, 31 * 86_400 - 3, 31 * 86_400),
        (DAY * 36_525, (i32::MAX as u64) - now() - 5, (i32::MAX as u64) - now() + 5),
    ] {
        cache.set_with_ttl("k", Bytes::from_static(b"v"), ttl).await.unwrap();
        let answer = raw(&server, "mg k t");
        let seconds: u64 = answer.trim().strip_prefix("HD t").unwrap().parse().unwrap();
        assert!((shortest..=longest).contains(&seconds), "{ttl:?} became {seconds} s");
    }
}

#[tokio::test]
async fn a_foreign_item_under_a_hashed_name_is_a_miss() {
    let (server, cache) = start();
    set(&cache, "a key", "ours").await.unwrap();
    assert_eq!(cache.get("a key").await.unwrap(), "ours");
    // The name of the empty key, first with another client's item, then with that of a key of the same hash.
    let name = "mtc~99aa06d3014798d86001c324468d497f";
    raw(&server, &format!("ms {name} 3\r\nabc"));
    assert_eq!(cache.try_get("").await.unwrap(), None);
    raw(&server, &format!("ms {name} 7 F{}\r\n\0\0\0\u{1}xyz", 0xA800_0000_u32));
    assert_eq!(cache.try_get("").await.unwrap(), None);
    assert_eq!(cache.get_many(&["", "a key"]).await.unwrap(), [None, Some(Bytes::from_static(b"ours"))]);
    // A readable key of this form is not mistaken for a name.
    assert_eq!(cache.try_get(name).await.unwrap(), None);
    set(&cache, name, "mapped").await.unwrap();
    assert_eq!(cache.get(name).await.unwrap(), "mapped");
    assert_eq!(raw(&server, &format!("mg {name} s")), "HD s7\n");
}

#[tokio::test]
async fn an_item_that_another_client_invalidated_is_a_miss() {
    let (server, cache) = start();
    set(&cache, "k", "stale").await.unwrap();
    raw(&server, "md k I T30");
    assert_eq!(cache.try_get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_value_above_the_limit_is_an_error_for_good_and_no_outage() {
    let (_server, cache) = start();
    set(&cache, "k", "old").await.unwrap();
    let huge = Bytes::from(vec![0; 17 * 1024 * 1024]);
    let error = cache.set_with_ttl("k", huge, TTL).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("larger than the server accepts"), "{error}");
    assert_eq!(cache.try_get("k").await.unwrap(), None, "the old value must not stay readable");
    set(&cache, "k", "new").await.unwrap();
}

#[test]
fn constructors_need_neither_server_nor_runtime() {
    assert!(MemcachedCache::new().is_ok());
    let error = MemcachedCache::with_url("redis://user:secret@localhost").unwrap_err();
    assert!(matches!(&error, CacheError::ConfigError(text) if !text.contains("secret")));
}

#[tokio::test]
async fn without_a_server_operations_fail_at_once_and_an_outage_is_no_miss() {
    let cache = MemcachedCache::with_url("127.0.0.1:1").unwrap();
    assert_outage(&cache.try_get("k").await.unwrap_err());
    let begun = Instant::now();
    for _ in 0..100 {
        assert_outage(&set(&cache, "k", "v").await.unwrap_err());
        assert_outage(&cache.get_many(&["a", "b"]).await.unwrap_err());
        assert_outage(&cache.try_get_with_ttl("k").await.unwrap_err());
        assert_outage(&cache.remove("k").await.unwrap_err());
        assert_eq!(cache.get("k").await, None);
    }
    assert!(begun.elapsed() < defaults::TIER_BUDGET);
    assert!(!cache.health_check().await);
}

#[tokio::test]
async fn a_restarted_server_is_used_again() {
    let (mut server, cache) = start();
    set(&cache, "k", "old").await.unwrap();
    for _ in 0..3 {
        server.kill().unwrap();
        assert_outage(&cache.try_get("k").await.unwrap_err());
        assert!(!cache.health_check().await);
        server.restart().unwrap();
        let deadline = Instant::now() + 5 * defaults::BREAKER_WINDOW;
        while let Err(error) = set(&cache, "k", "new").await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(cache.get("k").await.unwrap(), "new");
    }
}

#[tokio::test]
async fn a_silent_server_costs_one_budget_and_then_nothing() {
    let (server, cache) = start();
    set(&cache, "k", "v").await.unwrap();
    server.pause().unwrap();
    let begun = Instant::now();
    assert_outage(&cache.try_get("k").await.unwrap_err());
    assert!(begun.elapsed() < defaults::TIER_BUDGET + Duration::from_millis(500));
    let begun = Instant::now();
    assert_outage(&cache.try_get("k").await.unwrap_err());
    assert!(begun.elapsed() < Duration::from_millis(100));
    server.resume().unwrap();
    tokio::time::sleep(defaults::BREAKER_WINDOW).await;
    assert_eq!(cache.try_get("k").await.unwrap().unwrap(), "v");
}

// The answer to a read that was given up must not be taken for the answer to the next one.
#[tokio::test]
async fn an_answer_that_comes_late_reaches_nobody() {
    let (server, cache) = start();
    for n in 0..10 {
        cache.set_with_ttl(&format!("k{n}"), Bytes::from(format!("{n}")), TTL).await.unwrap();
    }
    for round in 0..10 {
        server.pause().unwrap();
        let reads = (0..10).map(|n| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let key = format!("k{n}");
                drop(tokio::time::timeout(Duration::from_millis(5 + n), cache.get(&key)).await);
            })
        });
        for read in reads.collect::<Vec<_>>() {
            read.await.unwrap();
        }
        server.resume().unwrap();
        for n in (0..10).rev() {
            assert_eq!(cache.try_get(&format!("k{n}")).await.unwrap().unwrap(), format!("{n}"), "round {round}");
        }
    }
}

#[tokio::test]
async fn several_servers_share_the_keys_and_fail_one_by_one() {
    let (mut one, other) = (MemcachedServer::start().unwrap(), MemcachedServer::start().unwrap());
    let cache = MemcachedCache::with_url(&format!("{},memcache://{}", one.address(), other.address())).unwrap();
    let keys: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
    let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), Bytes::from(key.clone()))).collect();
    let names: Vec<_> = keys.iter().map(String::as_str).collect();
    cache.set_many(&pairs, TTL).await.unwrap();
    let values = cache.get_many(&names).await.unwrap();
    assert!(values.iter().zip(&keys).all(|(value, key)| value.as_ref().unwrap() == key));
    for (server, stats) in cache.server_stats().await.unwrap() {
        let items: usize = stats["curr_items"].parse().unwrap();
        assert!((50..150).contains(&items), "{items} on {server}");
    }
    one.kill().unwrap();
    let mut lost = 0;
    for key in &keys {
        match cache.try_get(key).await {
            Ok(value) => assert_eq!(&value.unwrap(), key),
            Err(error) => {
                assert_outage(&error);
                lost += 1;
            }
        }
    }
    assert!((50..150).contains(&lost), "{lost}");
    assert!(!cache.health_check().await);
}

#[tokio::test]
async fn statistics_can_be_asked_from_inside_a_runtime() {
    let (server, cache) = start();
    for stats in [cache.get_server_stats().unwrap(), cache.server_stats().await.unwrap()] {
        assert_eq!(stats[0].0, server.address());
        assert_eq!(stats[0].1["pid"], server.pid().to_string());
    }
    drop(server);
    assert_outage(&cache.get_server_stats().unwrap_err());
    assert_outage(&cache.server_stats().await.unwrap_err());
}

// A program may have several runtimes, and tests have one each: a connection of one that ended is not used by another.
#[test]
fn a_cache_outlives_the_runtime_it_was_first_used_on() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_server, cache) = start();
    let idle = runtime();
    idle.block_on(set(&cache, "k", "v")).unwrap();
    for _ in 0..2 {
        let begun = Instant::now();
        assert_eq!(runtime().block_on(cache.try_get("k")).unwrap().unwrap(), "v");
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
    drop(idle);
    assert_eq!(runtime().block_on(cache.try_get("k")).unwrap().unwrap(), "v");
}

#[tokio::test]
async fn a_server_that_speaks_nonsense_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"VA 99999999999 t5\r\nHTTP/1.1 400\r\n");
        }
    });
    let cache = MemcachedCache::with_url(&address).unwrap();
    assert!(cache.try_get("k").await.is_err());
    assert!(cache.server_stats().await.is_err());
}
