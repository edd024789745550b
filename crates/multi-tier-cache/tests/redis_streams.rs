//! Redis Streams against a real server.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation ends the test")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use multi_tier_cache::backends::{RedisCache, RedisConfig};
use multi_tier_cache::{CacheBackend, CacheError, RedisStreams, StreamingBackend};
use test_servers::RedisServer;

fn fields(value: &str) -> Vec<(String, String)> {
    vec![("f".to_owned(), value.to_owned()), ("g".to_owned(), "2".to_owned())]
}

/// Waits until the server has `count` clients blocked.
async fn blocked(server: &RedisServer, count: usize) {
    clients(server, "blocked_clients", count).await;
}

async fn clients(server: &RedisServer, field: &str, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !server.command(&["INFO", "clients"]).unwrap().contains(&format!("{field}:{count}\r\n")) {
        assert!(Instant::now() < deadline, "never had {field}:{count}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn entries_are_read_latest_first_and_from_an_id_on() {
    let server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(streams.stream_add("s", fields(&n.to_string()), None).await.unwrap());
    }
    let latest = streams.stream_read_latest("s", 2).await.unwrap();
    assert_eq!(latest, [(ids[4].clone(), fields("4")), (ids[3].clone(), fields("3"))]);
    let all = streams.stream_read("s", "0", 100, None).await.unwrap();
    assert_eq!(all.iter().map(|(id, _)| id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert_eq!(streams.stream_read("s", &ids[1], 2, None).await.unwrap(), all[2..4]);
    assert_eq!(streams.stream_read("s", "0", 100, Some(1_000)).await.unwrap(), all);
    for empty in [
        streams.stream_read("s", "$", 10, None).await,
        streams.stream_read("absent", "0", 10, None).await,
        streams.stream_read_latest("absent", 10).await,
        streams.stream_read("s", "0", 0, Some(0)).await,
        streams.stream_read_latest("s", 0).await,
    ] {
        assert_eq!(empty.unwrap(), []);
    }
    let error = streams.stream_add("s", Vec::new(), None).await.unwrap_err();
    assert!(matches!(error, CacheError::ConfigError(_)), "{error:?}");
}

#[tokio::test]
async fn maxlen_trims_about() {
    let server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    for _ in 0..1_000 {
        streams.stream_add("s", fields("x"), Some(100)).await.unwrap();
    }
    let length = server.command(&["XLEN", "s"]).unwrap();
    let length: usize = length.trim_start_matches(':').trim().parse().unwrap();
    assert!((100..400).contains(&length), "{length}");
}

#[tokio::test]
async fn a_blocking_read_delays_no_other_traffic() {
    let server = RedisServer::start().unwrap();
    let cache = RedisCache::with_config(RedisConfig::default().with_url(server.url())).unwrap();
    let streams = cache.streams();
    let reader = tokio::spawn({
        let streams = streams.clone();
        async move { streams.stream_read("s", "$", 10, Some(10_000)).await }
    });
    blocked(&server, 1).await;
    let began = Instant::now();
    for _ in 0..50 {
        cache.set("k", Bytes::from_static(b"v")).await.unwrap();
        streams.stream_add("other", fields("x"), None).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(!reader.is_finished());
    let id = streams.stream_add("s", fields("new"), None).await.unwrap();
    assert_eq!(reader.await.unwrap().unwrap(), [(id, fields("new"))]);
}

#[tokio::test]
async fn a_blocking_read_outlasts_the_operation_budget_and_is_empty_at_its_end() {
    let server = RedisServer::start().unwrap();
    let config = RedisConfig::default().with_url(server.url()).with_budget(Duration::from_millis(300));
    let streams = RedisCache::with_config(config).unwrap().streams();
    let began = Instant::now();
    assert_eq!(streams.stream_read("s", "$", 10, Some(700)).await.unwrap(), []);
    assert!((700..1_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_block_of_zero_waits_until_there_is_an_entry() {
    let server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    let reader = tokio::spawn({
        let streams = streams.clone();
        async move { streams.stream_read("s", "0", 10, Some(0)).await }
    });
    blocked(&server, 1).await;
    assert!(server.command(&["CLIENT", "LIST"]).unwrap().contains("cmd=xread"));
    streams.stream_add("s", fields("x"), None).await.unwrap();
    assert_eq!(reader.await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_dropped_blocking_read_closes_its_connection_and_a_finished_one_keeps_it() {
    let server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    let reads: Vec<_> = (0..3)
        .map(|_| {
            let streams = streams.clone();
            tokio::spawn(async move { streams.stream_read("s", "$", 10, Some(60_000)).await })
        })
        .collect();
    blocked(&server, 3).await;
    for read in reads {
        read.abort();
    }
    blocked(&server, 0).await;
    // The shared connection, and the one that asks.
    clients(&server, "connected_clients", 2).await;

    streams.stream_read("s", "$", 10, Some(1)).await.unwrap();
    let ids = |list: String| -> Vec<String> {
        list.split_whitespace().filter(|part| part.starts_with("id=")).map(str::to_owned).collect()
    };
    let before = ids(server.command(&["CLIENT", "LIST"]).unwrap());
    streams.stream_read("s", "$", 10, Some(1)).await.unwrap();
    let after = ids(server.command(&["CLIENT", "LIST"]).unwrap());
    assert_eq!(before[..2], after[..2], "the connection was used again");
    assert_eq!(after.len(), 3);
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_without_an_error() {
    let mut server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    streams.stream_read("s", "$", 10, Some(1)).await.unwrap();
    server.restart().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while streams.stream_add("s", fields("x"), None).await.is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(streams.stream_read("s", "0", 10, Some(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_blocking_read_ends_with_a_typed_error_when_the_server_dies() {
    let mut server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    let reader = tokio::spawn({
        let streams = streams.clone();
        async move { streams.stream_read("s", "$", 10, Some(60_000)).await }
    });
    blocked(&server, 1).await;
    let began = Instant::now();
    server.kill().unwrap();
    let error = reader.await.unwrap().unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(matches!(error, CacheError::BackendError(_)) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_group_gives_each_entry_to_one_consumer_until_acknowledged() {
    let server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    streams.stream_create_group("s", "g", "0").await.unwrap();
    streams.stream_create_group("s", "g", "0").await.unwrap();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(streams.stream_add("s", fields(&n.to_string()), None).await.unwrap());
    }
    let one = streams.stream_read_group("s", "g", "one", 3, None).await.unwrap();
    let two = streams.stream_read_group("s", "g", "two", 3, Some(1_000)).await.unwrap();
    assert_eq!((one.len(), two.len()), (3, 1));
    assert_eq!(two[0], (ids[3].clone(), fields("3")));
    assert_eq!(streams.stream_read_group("s", "g", "two", 3, Some(1)).await.unwrap(), []);
    streams.stream_ack("s", "g", &ids[..3]).await.unwrap();
    streams.stream_ack("s", "g", &[]).await.unwrap();
    assert!(server.command(&["XPENDING", "s", "g"]).unwrap().starts_with("*4\r\n:1\r\n"));

    let error = streams.stream_read_group("s", "absent", "one", 1, None).await.unwrap_err();
    assert!(error.to_string().contains("NOGROUP") && !error.is_retryable(), "{error:?}");
    server.command(&["SET", "string", "v"]).unwrap();
    let error = streams.stream_create_group("string", "g", "0").await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error:?}");
}

#[tokio::test]
async fn fields_that_are_not_utf8_do_not_hide_the_rest() {
    let server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    server.command(&["EVAL", r"redis.call('XADD', 's', '*', 'a', '\255b')", "0"]).unwrap();
    streams.stream_add("s", fields("x"), None).await.unwrap();
    let all = streams.stream_read("s", "0", 10, None).await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].1, [("a".to_owned(), "\u{fffd}b".to_owned())]);
}

#[tokio::test]
async fn a_url_with_the_newer_protocol_reads_the_same() {
    let server = RedisServer::start().unwrap();
    let streams = RedisStreams::new(&format!("{}/?protocol=resp3", server.url())).await.unwrap();
    let id = streams.stream_add("s", fields("x"), None).await.unwrap();
    assert_eq!(streams.stream_read("s", "0", 10, None).await.unwrap(), [(id, fields("x"))]);
    assert_eq!(streams.stream_read("s", "$", 10, Some(1)).await.unwrap(), []);
}
