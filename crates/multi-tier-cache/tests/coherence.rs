//! Several instances and one Redis: what one invalidates, all forget.
#![cfg(all(feature = "redis", feature = "test-util"))]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{NEW, OLD, PATIENCE};
use multi_tier_cache::{CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, CallOptions};
use test_servers::RedisServer;
use tokio::time::sleep;

async fn system(server: &RedisServer) -> CacheSystem {
    CacheSystemBuilder::new().with_redis_url(&server.url()).build().await.unwrap()
}

async fn load(cache: &CacheManager, key: &str, value: &'static str) -> Bytes {
    cache.get_or_compute_with(key, CacheStrategy::ShortTerm, || async { Ok(Bytes::from(value)) }).await.unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_invalidation_is_seen_by_every_instance() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (system(&server).await, system(&server).await);
    let (a, b) = (a.cache_manager(), b.cache_manager());
    until("b's subscription", async || b.coherence_stats().subscriptions == 1).await;
    assert_eq!(load(a, "k", "old").await, OLD);
    assert_eq!(load(b, "k", "new").await, OLD, "from L2");
    let position = a.remove("k").await.unwrap().unwrap();
    let began = Instant::now();
    let options = CallOptions::default().at_least(position);
    assert_eq!(b.get_with_options("k", &options).await.unwrap(), None);
    until("the message", async || b.invalidation_stats().unwrap().removes_received == 1).await;
    println!("{:?} {:?}", began.elapsed(), b.coherence_stats());
    assert_eq!(load(b, "k", "new").await, NEW);
    assert_eq!(load(a, "k", "old").await, NEW);
    assert_eq!(a.invalidation_stats().unwrap().messages_sent, 1);
}

#[tokio::test]
async fn a_put_is_seen_by_every_instance() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (system(&server).await, system(&server).await);
    let (a, b) = (a.cache_manager(), b.cache_manager());
    load(a, "k", "old").await;
    load(b, "k", "old").await;
    a.update_cache("k", NEW, None).await.unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), "$3\r\nnew\r\n");
    until("the put", async || b.get("k").await.unwrap() == Some(NEW)).await;
    assert_eq!(a.get("k").await.unwrap(), Some(NEW));
    println!("{:?}", b.coherence_stats());
}

#[tokio::test]
async fn a_tag_removes_what_it_names_everywhere() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (system(&server).await, system(&server).await);
    let (a, b) = (a.cache_manager(), b.cache_manager());
    let tagged = CallOptions::default().with_tags(["t"]);
    for key in ["one", "two"] {
        let old = a.get_or_compute_with_options(key, &tagged, || async { Ok(OLD) }).await.unwrap();
        assert_eq!(old, OLD);
        assert_eq!(b.get(key).await.unwrap(), Some(OLD));
        assert_eq!(load(b, key, "new").await, OLD);
    }
    load(a, "untagged", "old").await;
    let position = a.remove_tag("t").await.unwrap().unwrap();
    for key in ["one", "two"] {
        assert_eq!(a.get(key).await.unwrap(), None);
        assert_eq!(b.get_with_options(key, &CallOptions::default().at_least(position)).await.unwrap(), None);
        assert_eq!(load(b, key, "new").await, NEW);
    }
    assert_eq!(a.get("untagged").await.unwrap(), Some(OLD));
}
