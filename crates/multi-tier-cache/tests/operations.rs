//! What the guide's page on operations tells people to do works: its server, its user, and the causes that it names.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::TcpListener;
use std::time::Duration;

use multi_tier_cache::backends::{RedisCache, RedisConfig};
use multi_tier_cache::{Cache, CacheBackend, CacheError, CacheSystem, CacheSystemBuilder, CallOptions};
use test_servers::RedisServer;

const PAGE: &str = include_str!("../docs/guide/operations.md");

/// The lines of the first fenced block that contains `marker`.
fn block(marker: &str) -> Vec<&'static str> {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    let block = blocks.into_iter().find(|block| block.contains(marker)).unwrap();
    block.lines().skip(1).collect()
}

/// The arguments of redis-server in the page's Compose file.
fn composed() -> Vec<String> {
    arguments(block("services:").into_iter())
}

/// Those of the first service in a Compose file, without the name of the program.
fn arguments<'a>(mut lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let command = lines.find_map(|line| line.trim().strip_prefix("command: ")).unwrap();
    let words: Vec<String> = serde_json::from_str(command).unwrap();
    assert_eq!(words[0], "redis-server");
    words.into_iter().skip(1).collect()
}

async fn system(url: &str) -> CacheSystem {
    let config = RedisConfig::default().with_url(url).with_prefix("app:");
    CacheSystemBuilder::new().with_redis_config(config).build().await.unwrap()
}

#[test]
fn every_place_that_configures_a_server_says_the_same() {
    let configured = block("maxmemory-policy volatile-lfu\n").into_iter().flat_map(|line| {
        let (directive, value) = line.split_once(' ').unwrap();
        [format!("--{directive}"), value.trim_matches('"').to_owned()]
    });
    assert_eq!(configured.collect::<Vec<_>>(), composed());
    let example = include_str!("../../../examples/axum-service/docker-compose.yml");
    assert_eq!(arguments(example.lines()), composed(), "in the example");
}

#[tokio::test]
async fn the_recommended_server_serves_a_cache_with_two_connections() {
    let server = RedisServer::builder().arguments(composed()).start().unwrap();
    assert!(server.command(&["CONFIG", "GET", "maxmemory-policy"]).unwrap().contains("volatile-lfu"));
    let system = system(&server.url()).await;
    let users: Cache<u64, String> = system.cache("users").unwrap();
    users.insert(&7, "Ada".to_owned()).await.unwrap();
    let clients = server.command(&["CLIENT", "LIST"]).unwrap();
    // One of them asks.
    assert_eq!(clients.matches("addr=").count() - clients.matches("laddr=").count() - 1, 2, "{clients}");
    // What the policy may not evict has no time to live.
    assert_eq!(server.command(&["PTTL", "mtc:{cache:invalidate}:4:app::bus"]).unwrap(), ":-1\r\n");
    assert_eq!(server.command(&["PTTL", "mtc:{cache:invalidate}:4:app::log"]).unwrap(), ":-1\r\n");
}

#[tokio::test]
async fn a_cache_works_under_the_documented_user() {
    let rule = block("ACL SETUSER")[0];
    let protocol = include_str!("../../../PROTOCOL.md");
    assert!(protocol.lines().any(|line| line.trim() == rule), "another rule than that of PROTOCOL.md");
    let server = RedisServer::start().unwrap();
    let words: Vec<&str> = rule.split_whitespace().collect();
    assert_eq!(server.command(&words).unwrap(), "+OK\r\n");

    let system = system(&format!("redis://cache:secret@127.0.0.1:{}", server.port())).await;
    let users: Cache<u64, String> = system.cache_builder("users").tags(["users"]).build().unwrap();
    let name = |id: u64| move || async move { Ok(format!("user {id}")) };
    assert_eq!(*users.get_or_load(&7, name(7)).await.unwrap(), "user 7");
    users.insert_many([(&8, "Ada".to_owned()), (&9, "Grace".to_owned())]).await.unwrap();
    assert_eq!(users.get_many(&[7, 8, 9]).await.unwrap().iter().flatten().count(), 3);
    users.remove_many(&[7, 8]).await.unwrap();
    let position = users.remove_tag("users").await.unwrap();
    let options = CallOptions::default().at_least(position);
    assert_eq!(system.cache_manager().get_with_options("users:9", &options).await.unwrap(), None);
    let stats = system.cache_manager().coherence_stats();
    assert_eq!((stats.failed_polls, stats.pending_invalidations, stats.subscriptions), (0, 0, 1), "{stats:?}");
    let health = system.cache_manager().health().await;
    assert!(health.iter().all(|tier| tier.healthy && tier.errors == 0), "{health:?}");

    server.command(&["ACL", "SETUSER", "cache", "+scan"]).unwrap();
    users.clear().await.unwrap();
}

#[tokio::test]
async fn troubles_are_told_in_the_words_of_the_table() {
    let server = RedisServer::builder().password("right").start().unwrap();
    let at = |user: &str| format!("redis://{user}127.0.0.1:{}", server.port());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    server.command(&["ACL", "SETUSER", "poor", "on", ">pw", "~*", "+set"]).unwrap();
    server.command(&["LPUSH", "list", "x"]).unwrap();
    let nobody = format!("redis://127.0.0.1:{free}");
    let unknown = "redis://no-such-host.invalid".to_owned();
    for (url, expected) in [
        (nobody, "Connection refused"),
        (unknown, "failed to lookup address information"),
        (at(""), "requires a password, and its URL has none"),
        (at(":wrong@"), "refused the user or password of its URL"),
        (at("poor:pw@"), "NOPERM"),
        (at(":right@"), "the key holds a value of another type"),
    ] {
        assert_told(expected, &failure(&url).await);
    }
    let malformed = RedisCache::with_url("redis://:pass@host:port:0").await.unwrap_err();
    assert!(matches!(malformed, CacheError::ConfigError(_)));
    assert_told("is not usable", &malformed);
    server.pause().unwrap();
    let silent = RedisConfig::default().with_url(at(":right@")).with_budget(Duration::from_millis(50));
    let silent = RedisCache::with_config(silent).unwrap().try_get("k").await.unwrap_err();
    server.resume().unwrap();
    assert!(silent.is_retryable(), "{silent:?}");
}

/// What a read of a list's key is answered with.
async fn failure(url: &str) -> CacheError {
    RedisCache::with_url(url).await.unwrap().try_get("list").await.unwrap_err()
}

#[track_caller]
fn assert_told(expected: &str, error: &CacheError) {
    assert!(error.to_string().contains(expected), "{error}");
    let told = PAGE.lines().any(|line| line.starts_with('|') && line.contains(expected));
    assert!(told, "the page does not name `{expected}`");
}
