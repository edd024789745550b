//! The connection to Redis under faults: dead, frozen, restarted and locked servers, runtimes that end, TLS.
#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation ends the test")]

use std::fs;
use std::future::Future;
use std::net::TcpListener;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use multi_tier_cache::backends::{RedisCache, RedisConfig};
use multi_tier_cache::{CacheBackend, CacheError, CacheResult, L2CacheBackend, RedisStreams, StreamingBackend};
use test_servers::RedisServer;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const VALUE: Bytes = Bytes::from_static(b"v");
/// How soon a cache must serve again once its server does.
const BACK: Duration = Duration::from_secs(1);

fn lazy(server: &RedisServer) -> RedisCache {
    RedisCache::with_config(RedisConfig::default().with_url(server.url())).unwrap()
}

fn budgeted(server: &RedisServer, milliseconds: u64) -> RedisCache {
    let config = RedisConfig::default().with_url(server.url()).with_budget(Duration::from_millis(milliseconds));
    RedisCache::with_config(config).unwrap()
}

/// Repeats a write until it succeeds and answers how long that took.
async fn eventually_serves(cache: &RedisCache) -> Duration {
    let began = Instant::now();
    loop {
        match cache.set("k", VALUE).await {
            Ok(()) => return began.elapsed(),
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// Repeats a read until it fails as `wanted` says.
async fn eventually_fails(cache: &RedisCache, wanted: impl Fn(&CacheError) -> bool) -> CacheError {
    let began = Instant::now();
    loop {
        let outcome = cache.try_get("k").await;
        match outcome {
            Err(error) if wanted(&error) => return error,
            other => assert!(began.elapsed() < Duration::from_secs(10), "{other:?}"),
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// Asserts that operations fail with a retryable error, and at once.
async fn assert_fails_fast(cache: &RedisCache) {
    let mut times = Vec::new();
    for _ in 0..101 {
        let began = Instant::now();
        let error = cache.try_get("k").await.unwrap_err();
        times.push(began.elapsed());
        assert!(matches!(error, CacheError::BackendError(_)) && error.is_retryable(), "{error:?}");
    }
    times.sort();
    println!("a failure takes {:?} (median), {:?} (longest)", times[50], times[100]);
    assert!(times[50] < Duration::from_millis(1), "{:?}", times[50]);
}

fn client_ids(server: &RedisServer) -> Vec<String> {
    let list = server.command(&["CLIENT", "LIST"]).unwrap();
    list.lines()
        .filter(|line| {
            line.contains("lib-name=multi-tier-cache") || line.contains("cmd=set") || line.contains("cmd=ping")
        })
        .filter_map(|line| line.split_whitespace().find(|part| part.starts_with("id=")).map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_no_error_and_joins_when_it_comes_up() {
    let mut server = RedisServer::start().unwrap();
    server.kill().unwrap();
    let began = Instant::now();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    let streams = RedisStreams::new(&server.url()).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert_fails_fast(&cache).await;
    assert!(!cache.health_check().await);
    assert!(streams.stream_read("s", "$", 1, Some(60_000)).await.unwrap_err().is_retryable());
    server.restart().unwrap();
    let back = eventually_serves(&cache).await;
    println!("a server that came up was joined after {back:?}");
    assert!(back < BACK, "{back:?}");
    assert!(cache.health_check().await);
}

#[tokio::test]
async fn operations_fail_at_once_while_the_server_is_dead_and_succeed_within_a_second_of_its_return() {
    let mut server = RedisServer::start().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    cache.set("k", VALUE).await.unwrap();
    for outage in [50, 1_500] {
        server.kill().unwrap();
        let began = Instant::now();
        cache.try_get("k").await.unwrap_err();
        println!("the first failure took {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_millis(100));
        assert_fails_fast(&cache).await;
        sleep(Duration::from_millis(outage)).await;
        assert_fails_fast(&cache).await;
        server.restart().unwrap();
        let back = eventually_serves(&cache).await;
        println!("back {back:?} after an outage of {outage} ms");
        assert!(back < BACK, "{back:?}");
    }
}

#[tokio::test]
async fn a_restart_during_idleness_is_noticed_before_the_next_operation() {
    let mut server = RedisServer::start().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    cache.set("k", VALUE).await.unwrap();
    server.restart().unwrap();
    sleep(Duration::from_millis(1_800)).await;
    cache.set("k", VALUE).await.unwrap();
}

#[tokio::test]
async fn a_frozen_server_costs_one_budget_and_is_used_again_when_it_thaws() {
    let server = RedisServer::start().unwrap();
    let cache = budgeted(&server, 400);
    cache.set("k", VALUE).await.unwrap();
    server.pause().unwrap();
    let frozen = Instant::now();
    let error = eventually_fails(&cache, |_| true).await;
    assert!(error.is_retryable(), "{error:?}");
    assert!(frozen.elapsed() < Duration::from_millis(600), "{:?}", frozen.elapsed());
    while frozen.elapsed() < Duration::from_secs(3) {
        assert_fails_fast(&cache).await;
        sleep(Duration::from_millis(100)).await;
    }
    server.resume().unwrap();
    let back = eventually_serves(&cache).await;
    println!("back {back:?} after a freeze of 3 s");
    assert!(back < BACK, "{back:?}");
}

#[tokio::test]
async fn an_idle_connection_to_a_frozen_server_is_found_out_by_the_probe() {
    let server = RedisServer::start().unwrap();
    let cache = budgeted(&server, 200);
    cache.set("k", VALUE).await.unwrap();
    server.pause().unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_fails_fast(&cache).await;
    server.resume().unwrap();
    assert!(eventually_serves(&cache).await < BACK);
}

#[tokio::test]
async fn a_slow_answer_does_not_cost_the_connection() {
    let server = RedisServer::start().unwrap();
    let cache = budgeted(&server, 100);
    cache.set("k", VALUE).await.unwrap();
    let before = client_ids(&server);
    server.pause().unwrap();
    let error = cache.try_get("k").await.unwrap_err();
    server.resume().unwrap();
    assert!(error.to_string().contains("within 100ms") && error.is_retryable(), "{error}");
    eventually_serves(&cache).await;
    assert_eq!(before.len(), 1);
    assert_eq!(client_ids(&server), before);
}

#[tokio::test]
async fn the_first_operations_wait_for_the_connection_but_never_longer_than_the_budget() {
    let server = RedisServer::start().unwrap();
    let cache = lazy(&server);
    let mut first = JoinSet::new();
    for n in 0..50 {
        let cache = cache.clone();
        first.spawn(async move { cache.set(&format!("k{n}"), VALUE).await });
    }
    first.join_all().await.into_iter().collect::<CacheResult<()>>().unwrap();
    assert_eq!(client_ids(&server).len(), 1);

    server.pause().unwrap();
    let cache = budgeted(&server, 300);
    let began = Instant::now();
    let error = cache.try_get("k").await.unwrap_err();
    assert!((290..500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert!(error.is_retryable(), "{error:?}");
    let began = Instant::now();
    RedisCache::with_url(&server.url()).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    server.resume().unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_named_not_shown_and_tried_again() {
    let server = RedisServer::builder().password("right").start().unwrap();
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    let cache = RedisCache::with_url(&url).await.unwrap();
    let error = cache.try_get("k").await.unwrap_err();
    assert!(error.to_string().contains("refused the user or password") && !error.is_retryable(), "{error:?}");
    assert!(!format!("{error} {error:?} {cache:?}").contains("hunter2"), "{error:?} {cache:?}");
    assert!(cache.set("k", VALUE).await.is_err() && !cache.health_check().await);

    let none = RedisCache::with_url(&format!("redis://127.0.0.1:{}", server.port())).await.unwrap();
    let error = none.try_get("k").await.unwrap_err();
    assert!(error.to_string().contains("requires a password"), "{error:?}");

    server.command(&["ACL", "SETUSER", "default", ">hunter2"]).unwrap();
    assert!(eventually_serves(&cache).await < BACK);
}

#[tokio::test]
async fn a_password_changed_at_runtime_is_an_error_that_says_so_until_it_is_accepted_again() {
    let server = RedisServer::builder().password("first").start().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    cache.set("k", VALUE).await.unwrap();
    server.command(&["ACL", "SETUSER", "admin", "on", ">admin", "~*", "+@all"]).unwrap();
    let admin = RedisCache::with_url(&format!("redis://admin:admin@127.0.0.1:{}", server.port())).await.unwrap();
    admin.set("k", VALUE).await.unwrap();
    server.command(&["ACL", "SETUSER", "default", "resetpass", ">second"]).unwrap();
    run_as(&server, "admin", &["CLIENT", "KILL", "USER", "default"]);
    let error = eventually_fails(&cache, |error| error.to_string().contains("refused the user or password")).await;
    assert!(!format!("{error:?}").contains("first"), "{error:?}");
    admin.set("k", VALUE).await.unwrap();
    run_as(&server, "admin", &["ACL", "SETUSER", "default", ">first"]);
    assert!(eventually_serves(&cache).await < BACK);
}

/// Runs a command as a user whose password is its name.
fn run_as(server: &RedisServer, user: &str, command: &[&str]) {
    let port = server.port().to_string();
    let output =
        Command::new("redis-cli").args(["-p", &port, "--user", user, "--pass", user]).args(command).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn now<T>(operation: impl Future<Output = T>) -> T {
    match pin!(operation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn without_a_tokio_runtime_every_operation_is_a_typed_error() {
    let config = RedisConfig::default().with_url("redis://127.0.0.1:1").with_eager(true);
    let cache = RedisCache::with_config(config).unwrap();
    let streams = RedisStreams::beside(&cache);
    assert!(matches!(now(cache.try_get("k")), Err(CacheError::ConfigError(text)) if text.contains("runtime")));
    assert!(matches!(now(cache.set("k", VALUE)), Err(CacheError::ConfigError(_))));
    assert!(matches!(now(streams.stream_read("s", "0", 1, Some(5))), Err(CacheError::ConfigError(_))));
    assert_eq!(now(cache.get("k")), None);
    assert!(!now(cache.health_check()));
    assert!(now(RedisCache::with_url("redis://127.0.0.1:1")).is_ok());
}

#[test]
fn a_cache_outlives_the_runtimes_it_is_used_on() {
    let runtime = |threads| -> Runtime {
        let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        builder.enable_all().build().unwrap()
    };
    let server = RedisServer::start().unwrap();
    let cache = lazy(&server);
    let streams = RedisStreams::beside(&cache);
    for threads in [1, 2, 1] {
        runtime(threads).block_on(async {
            cache.set("k", VALUE).await.unwrap();
            streams.stream_add("s", vec![("f".into(), "v".into())], None).await.unwrap();
            assert!(!streams.stream_read("s", "0", 1, Some(1)).await.unwrap().is_empty());
        });
    }
    // One that nobody drives any more does not hold up another, nor does its end.
    let idle = runtime(1);
    idle.block_on(cache.set("k", VALUE)).unwrap();
    let other = runtime(1);
    other.block_on(cache.set("k", VALUE)).unwrap();
    drop(idle);
    other.block_on(async {
        for _ in 0..100 {
            cache.set("k", VALUE).await.unwrap();
        }
    });
}

#[tokio::test]
async fn the_connection_and_its_task_end_with_the_last_handle() {
    let mut server = RedisServer::start().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    let clone = cache.clone();
    drop(cache);
    clone.set("k", VALUE).await.unwrap();
    assert_eq!(client_ids(&server).len(), 1);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks() > 0);
    drop(clone);
    timeout(Duration::from_secs(5), async {
        while tasks() > 0 || !client_ids(&server).is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();

    server.kill().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    assert!(tasks() > 0);
    drop(cache);
    timeout(Duration::from_secs(5), async {
        while tasks() > 0 {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
}

/// Replies come in the order of the requests: a client that forgets a dropped request gives its reply to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn futures_dropped_under_load_never_shift_replies() {
    let server = RedisServer::start().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    for n in 0..100 {
        cache.set(&format!("k{n}"), Bytes::from(format!("v{n}"))).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for task in 0..8_u64 {
        let cache = cache.clone();
        tasks.spawn(async move {
            let mut dropped = 0;
            for round in 0..2_000_u64 {
                let n = (task * 31 + round * 7) % 100;
                let (key, value) = (format!("k{n}"), Bytes::from(format!("v{n}")));
                if round % 3 == 0 {
                    dropped += u32::from(!answered_within(round % 4, cache.get_with_ttl(&key)).await);
                    continue;
                }
                assert_eq!(cache.try_get(&key).await.unwrap(), Some(value.clone()));
                let (key, absent) = (key.as_str(), format!("absent{n}"));
                assert_eq!(cache.get_many(&[&absent, key]).await.unwrap(), [None, Some(value)]);
            }
            dropped
        });
    }
    let dropped: u32 = tasks.join_all().await.into_iter().sum();
    assert!(dropped > 100, "only {dropped} futures were dropped mid-flight");
}

/// Drops a request after one poll and some others with time in between; whether its answer came by then.
async fn answered_within(others: u64, mut request: BoxFuture<'_, Option<(Bytes, Option<Duration>)>>) -> bool {
    for _ in 0..others {
        if (&mut request).now_or_never().is_some() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    request.now_or_never().is_some()
}

/// A certificate authority and a certificate of it for `localhost` and 127.0.0.1, in `directory`.
fn certificates(directory: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    fs::write(directory.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem");
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own_and_never_without_a_valid_certificate() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut server = RedisServer::builder()
        .arguments(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"])
        .arguments(["--tls-cert-file", &file("server.pem"), "--tls-key-file", &file("server.key")])
        .arguments(["--tls-ca-cert-file", &file("ca.pem")])
        .start()
        .unwrap();
    let authority = fs::read(directory.path().join("ca.pem")).unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let config = RedisConfig::default().with_url(format!("rediss://{host}:{port}"));
        let cache = RedisCache::with_config(config.with_root_certificate(authority.clone())).unwrap();
        cache.set("k", VALUE).await.unwrap();
        assert_eq!(cache.try_get("k").await.unwrap(), Some(VALUE));
        let streams = RedisStreams::beside(&cache);
        streams.stream_add("s", vec![("f".into(), "v".into())], None).await.unwrap();
        assert_eq!(streams.stream_read("s", "0", 1, Some(10)).await.unwrap().len(), 1);
        if host == "localhost" {
            server.restart().unwrap();
            let back = eventually_serves(&cache).await;
            assert!(back < BACK, "{back:?}");
        }
    }
    let untrusted = RedisCache::with_url(&format!("rediss://localhost:{port}")).await.unwrap();
    let error = untrusted.try_get("k").await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let plain = RedisConfig::default().with_url(server.url()).with_root_certificate(authority);
    assert!(matches!(RedisCache::with_config(plain), Err(CacheError::ConfigError(_))));
}

#[tokio::test]
async fn a_system_that_is_shut_down_closes_its_connections_and_keeps_serving_from_l1() {
    let server = RedisServer::start().unwrap();
    let system = multi_tier_cache::CacheSystem::with_redis_url(&server.url()).await.unwrap();
    let cache = system.cache_manager();
    cache.set_with_strategy("k", "v".into(), multi_tier_cache::CacheStrategy::ShortTerm).await.unwrap();
    cache.publish_to_stream("s", vec![("a".into(), "b".into())], None).await.unwrap();
    let clients = || server.command(&["INFO", "clients"]).unwrap();
    // Commands, streams, the bus's subscription, and the connection that asks.
    let began = Instant::now();
    while !clients().contains("connected_clients:4") {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", clients());
        sleep(Duration::from_millis(2)).await;
    }
    system.shutdown().await;
    let began = Instant::now();
    while !clients().contains("connected_clients:1") {
        assert!(began.elapsed() < Duration::from_secs(10), "a connection is still open: {}", clients());
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(cache.get("k").await.unwrap().unwrap(), "v");
    assert!(cache.get("other").await.unwrap_err().to_string().contains("shut down"));
    assert!(cache.invalidate("k").await.is_err(), "the shared copy is still there");
}
