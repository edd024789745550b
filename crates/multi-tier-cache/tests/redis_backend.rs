//! The Redis tier against a real server: values, expiry, batches, patterns, replies that are errors.
#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::collections::HashSet;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use multi_tier_cache::backends::{RedisCache, RedisConfig};
use multi_tier_cache::{CacheBackend, CacheError, Capabilities, L2CacheBackend};
use test_servers::RedisServer;

const MINUTE: Duration = Duration::from_secs(60);

async fn cache(server: &RedisServer) -> RedisCache {
    RedisCache::with_url(&server.url()).await.unwrap()
}

fn prefixed(server: &RedisServer, prefix: &str) -> RedisCache {
    RedisCache::with_config(RedisConfig::default().with_url(server.url()).with_prefix(prefix)).unwrap()
}

/// Runs a script behind the cache's back.
fn script(server: &RedisServer, text: &str) -> String {
    server.command(&["EVAL", text, "0"]).unwrap()
}

fn pttl(server: &RedisServer, key: &str) -> i64 {
    server.command(&["PTTL", key]).unwrap().trim_start_matches(':').trim().parse().unwrap()
}

#[tokio::test]
async fn values_are_plain_strings_that_any_client_shares() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server).await;
    let bytes = Bytes::from_static(b"\x00\xff bytes \r\n");
    cache.set_with_ttl("k", bytes.clone(), MINUTE).await.unwrap();
    assert_eq!(cache.get("k").await, Some(bytes));
    server.command(&["SET", "theirs", "v"]).unwrap();
    assert_eq!(cache.try_get("theirs").await.unwrap(), Some(Bytes::from_static(b"v")));
    assert_eq!(cache.try_get("absent").await.unwrap(), None);
    cache.remove("k").await.unwrap();
    cache.remove("k").await.unwrap();
    assert_eq!(cache.try_get("k").await.unwrap(), None);
    cache.set("empty", Bytes::new()).await.unwrap();
    assert_eq!(cache.try_get("empty").await.unwrap(), Some(Bytes::new()));
    assert!((299_000..=300_000).contains(&pttl(&server, "empty")));
    assert_eq!(cache.name(), "Redis");
    assert!(cache.capabilities().has(Capabilities::BATCH.and(Capabilities::TTL).and(Capabilities::SHARED)));
    assert!(cache.capabilities().has(Capabilities::CONDITIONAL_FILL));
    assert!(!cache.capabilities().has(Capabilities::CLEAR), "without a prefix its keys cannot be told from others");
}

#[tokio::test]
async fn a_ttl_is_kept_to_the_millisecond_from_none_to_centuries() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server).await;
    let value = Bytes::from_static(b"v");

    cache.set_with_ttl("k", value.clone(), Duration::from_millis(1_500)).await.unwrap();
    assert!((1_000..=1_500).contains(&pttl(&server, "k")));
    let (_, ttl) = cache.try_get_with_ttl("k").await.unwrap().unwrap();
    assert!(ttl.unwrap() <= Duration::from_millis(1_500) && ttl.unwrap() > Duration::from_secs(1));

    cache.set_with_ttl("k", value.clone(), Duration::ZERO).await.unwrap();
    assert_eq!(cache.try_get("k").await.unwrap(), None);

    cache.set_with_ttl("short", value.clone(), Duration::from_nanos(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(cache.try_get("short").await.unwrap(), None);

    let century = Duration::from_secs(100 * 366 * 86_400);
    cache.set_with_ttl("k", value.clone(), century).await.unwrap();
    assert!(pttl(&server, "k") > 3_162_239_000_000);
    cache.set_with_ttl("k", value.clone(), Duration::MAX).await.unwrap();
    assert!(pttl(&server, "k") > 3_162_240_000_000);
    assert_eq!(cache.get("k").await, Some(value));

    server.command(&["SET", "lasting", "v"]).unwrap();
    assert_eq!(cache.get_with_ttl("lasting").await, Some((Bytes::from_static(b"v"), None)));
    assert_eq!(cache.try_get_with_ttl("absent").await.unwrap(), None);
}

#[tokio::test]
async fn batches_larger_than_a_chunk_keep_their_order() {
    let server = RedisServer::start().unwrap();
    let cache = prefixed(&server, "app:");
    let keys: Vec<String> = (0..1_234).map(|n| format!("k{n}")).collect();
    let pairs: Vec<(&str, Bytes)> =
        keys.iter().filter(|key| !key.ends_with('7')).map(|key| (key.as_str(), Bytes::from(key.clone()))).collect();
    cache.set_many(&pairs, MINUTE).await.unwrap();
    assert!(pttl(&server, "app:k1233") > 50_000);

    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let values = cache.get_many(&asked).await.unwrap();
    assert_eq!(values.len(), keys.len());
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(value, (!key.ends_with('7')).then(|| Bytes::from(key.clone())), "{key}");
    }

    let (first, rest) = keys.split_at(600);
    assert_eq!(cache.remove_bulk(first).await.unwrap(), 540);
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    cache.remove_many(&rest).await.unwrap();
    assert!(cache.get_many(&asked).await.unwrap().iter().all(Option::is_none));

    cache.set_many(&pairs, Duration::ZERO).await.unwrap();
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), ":0\r\n");
    assert!(cache.get_many(&[]).await.unwrap().is_empty());
    cache.set_many(&[], MINUTE).await.unwrap();
    cache.remove_many(&[]).await.unwrap();
    assert_eq!(cache.remove_bulk(&[]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_pattern_removes_exactly_its_keys_among_many_others() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server).await;
    script(
        &server,
        "for i = 1, 10000 do redis.call('SET', 'user:' .. i, 'x'); redis.call('SET', 'other:' .. i, 'x'); \
         redis.call('SET', 'mtc:user:' .. i, 'x') end",
    );
    cache.remove_pattern("user:*").await.unwrap();
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), ":20000\r\n");
    let left = script(&server, "return #redis.call('KEYS', 'user:*')");
    assert_eq!(left, ":0\r\n");
}

#[tokio::test]
async fn patterns_follow_redis_and_never_reach_the_librarys_own_keys() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server).await;
    for key in ["mtc:l:a", "mtc:{bus}:log", "m1", "m2", "m*", "[x]"] {
        server.command(&["SET", key, "v"]).unwrap();
    }
    script(&server, "redis.call('SET', 'm\\255', 'v')");
    let listed: HashSet<String> = cache.scan_keys("m*").await.unwrap().into_iter().collect();
    assert_eq!(listed, ["m1", "m2", "m*"].map(String::from).into());
    cache.remove_pattern("mtc:*").await.unwrap();
    cache.remove_pattern("mtc:l:a").await.unwrap();
    cache.remove_pattern("absent").await.unwrap();
    cache.remove_pattern(r"m\*").await.unwrap();
    cache.remove_pattern("m[13]").await.unwrap();
    assert_eq!(script(&server, "return #redis.call('KEYS', '*')"), ":5\r\n");
    cache.remove_pattern("m2").await.unwrap();
    cache.remove_pattern("m*").await.unwrap();
    cache.remove_pattern(r"\[x\]").await.unwrap();
    assert_eq!(script(&server, "return #redis.call('KEYS', '*')"), ":2\r\n");

    for pattern in ["*", "?", "[m]*", ""] {
        let error = cache.remove_pattern(pattern).await.unwrap_err();
        assert!(matches!(error, CacheError::ConfigError(_)), "{pattern}: {error}");
        assert!(matches!(cache.scan_keys(pattern).await, Err(CacheError::ConfigError(_))));
    }
    assert!(matches!(cache.clear().await, Err(CacheError::ConfigError(_))));
    assert_eq!(script(&server, "return #redis.call('KEYS', '*')"), ":2\r\n");
}

#[tokio::test]
async fn a_prefix_is_literal_and_bounds_every_verb() {
    let server = RedisServer::start().unwrap();
    let (one, two) = (prefixed(&server, "a*:"), prefixed(&server, "ab:"));
    for cache in [&one, &two] {
        cache.set_many(&[("k", Bytes::from_static(b"v")), ("l", Bytes::from_static(b"v"))], MINUTE).await.unwrap();
    }
    assert_eq!(server.command(&["EXISTS", "a*:k", "ab:k"]).unwrap(), ":2\r\n");
    let mut keys = one.scan_keys("*").await.unwrap();
    keys.sort();
    assert_eq!(keys, ["k", "l"]);
    one.remove_pattern("k*").await.unwrap();
    one.clear().await.unwrap();
    assert_eq!(one.try_get("l").await.unwrap(), None);
    assert_eq!(two.scan_keys("?").await.unwrap().len(), 2);

    let short = prefixed(&server, "mt");
    server.command(&["SET", "mtc:own", "v"]).unwrap();
    short.set("x", Bytes::new()).await.unwrap();
    short.clear().await.unwrap();
    assert_eq!(server.command(&["EXISTS", "mtc:own", "mtx"]).unwrap(), ":1\r\n");

    let reserved = RedisConfig::default().with_url(server.url()).with_prefix("mtc:x");
    assert!(matches!(RedisCache::with_config(reserved), Err(CacheError::ConfigError(_))));
}

#[tokio::test]
async fn a_key_of_another_type_is_a_typed_error_until_it_is_replaced() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server).await;
    server.command(&["LPUSH", "list", "v"]).unwrap();
    let error = cache.try_get("list").await.unwrap_err();
    assert!(matches!(error, CacheError::BackendError(_)) && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("WRONGTYPE") && error.to_string().contains("type"), "{error}");
    assert!(cache.try_get_with_ttl("list").await.is_err());
    assert_eq!(cache.get("list").await, None);
    assert_eq!(cache.get_many(&["list"]).await.unwrap(), [None]);
    cache.set("list", Bytes::from_static(b"v")).await.unwrap();
    assert_eq!(cache.try_get("list").await.unwrap(), Some(Bytes::from_static(b"v")));
}

#[tokio::test]
async fn a_refusal_keeps_the_servers_code_and_says_whether_a_retry_helps() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let error = cache.set("k", Bytes::from_static(b"v")).await.unwrap_err();
    assert!(error.to_string().contains("OOM") && error.is_retryable(), "{error:?}");
    let CacheError::BackendError(failure) = &error else { panic!("{error:?}") };
    assert_eq!((failure.tier(), failure.operation()), (Some("Redis"), Some("set")));
    assert!(failure.source().is_some());
    let batch = cache.set_many(&[("k", Bytes::new())], MINUTE).await.unwrap_err();
    assert!(batch.to_string().contains("OOM") && batch.is_retryable(), "{batch:?}");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();

    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let error = cache.set("k", Bytes::from_static(b"v")).await.unwrap_err();
    assert!(error.to_string().contains("READONLY") && error.is_retryable(), "{error:?}");
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();

    server.command(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+get"]).unwrap();
    let reader = format!("redis://reader:pw@127.0.0.1:{}", server.port());
    let reader = RedisCache::with_url(&reader).await.unwrap();
    assert_eq!(reader.try_get("k").await.unwrap(), None);
    let error = reader.set("k", Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("NOPERM") && !error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_health_check_writes_nothing() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server).await;
    assert!(cache.health_check().await);
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), ":0\r\n");
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    assert!(!stats.contains("cmdstat_set:") && stats.contains("cmdstat_ping"), "{stats}");
}

#[tokio::test]
async fn user_password_and_database_come_from_the_url() {
    let server = RedisServer::builder().password("s3cret:/@").start().unwrap();
    server.command(&["ACL", "SETUSER", "app", "on", ">p@ss", "~*", "+@all"]).unwrap();
    for user in [":s3cret%3A%2F%40", "default:s3cret%3A%2F%40", "app:p%40ss"] {
        let cache = RedisCache::with_url(&format!("redis://{user}@127.0.0.1:{}/3", server.port())).await.unwrap();
        cache.set("k", Bytes::from_static(b"v")).await.unwrap();
        assert!(!format!("{cache:?}").contains("s3cret") && !format!("{cache:?}").contains("p%40ss"), "{cache:?}");
    }
    assert!(server.command(&["INFO", "keyspace"]).unwrap().contains("db3:keys=1"));
}

#[tokio::test]
async fn a_value_of_eight_mebibytes_survives() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server).await;
    let large = Bytes::from(vec![7; 8 * 1024 * 1024]);
    cache.set("large", large.clone()).await.unwrap();
    assert_eq!(cache.get_with_ttl("large").await.unwrap().0, large);
}
