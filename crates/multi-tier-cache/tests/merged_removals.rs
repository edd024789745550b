//! Removals of single keys that share a round trip: all take effect, nobody waits for another's key, nobody is forgotten.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use multi_tier_cache::backends::{RedisCache, RedisConfig};
use multi_tier_cache::{
    CacheError, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, CallOptions, InvalidationConfig,
};
use test_servers::{Direction, FaultProxy, RedisServer};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(10);
const KEYS: usize = 300;

fn keys() -> Vec<String> {
    (0..KEYS).map(|number| format!("k{number}")).collect()
}

async fn system(url: &str) -> CacheSystem {
    let redis = RedisConfig::default().with_url(url).with_budget(Duration::from_millis(400));
    let redis = Arc::new(RedisCache::with_config(redis).unwrap());
    CacheSystemBuilder::new().with_l2(redis).build().await.unwrap()
}

async fn fill(cache: &CacheManager) -> Vec<String> {
    let keys = keys();
    for key in &keys {
        cache.set_with_strategy(key, Bytes::from("old"), CacheStrategy::ShortTerm).await.unwrap();
    }
    keys
}

/// How often the server ran this command.
fn calls(server: &RedisServer, command: &str) -> usize {
    let info = server.command(&["INFO", "commandstats"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls="))).unwrap_or("0");
    line.split(',').next().unwrap().parse().unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        sleep(Duration::from_millis(1)).await;
    }
}

/// The URL for a user who may use keys that begin with `k1` only.
fn part_of(server: &RedisServer, url: &str) -> String {
    let keys_allowed = ["~k1*", "~mtc:?:?:{k1*", "~mtc:{cache:invalidate}*"];
    let rules = ["ACL", "SETUSER", "part", "on", ">secret", "resetchannels", "&*", "+@all"];
    server.command(&[&rules[..], &keys_allowed[..]].concat()).unwrap();
    url.replace("redis://", "redis://part:secret@")
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn removals_at_once_take_few_messages_and_every_instance_forgets() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (system(&server.url()).await, system(&server.url()).await);
    let (a, b) = (a.cache_manager(), b.cache_manager());
    let keys = fill(a).await;
    for key in &keys {
        b.get_or_compute_with(key, CacheStrategy::ShortTerm, || async { unreachable!() }).await.unwrap();
    }
    let before = calls(&server, "publish");
    let removals = join_all(keys.iter().chain(&keys).map(|key| a.remove(key)));
    let positions = timeout(PATIENCE, removals).await.unwrap();
    let messages = calls(&server, "publish") - before;
    assert!((1..=2 * KEYS / 10).contains(&messages), "{messages} messages for {} removals", 2 * KEYS);
    assert_eq!(a.invalidation_stats().unwrap().messages_sent, messages as u64);
    for (key, position) in keys.iter().chain(&keys).zip(positions) {
        let after = CallOptions::default().at_least(position.unwrap().unwrap());
        assert_eq!(a.get(key).await.unwrap(), None);
        assert_eq!(b.get_with_options(key, &after).await.unwrap(), None);
    }
}

/// A put holds its key's turn and is not polled, by somebody who waits for other removals.
#[tokio::test]
async fn a_key_that_is_being_written_holds_up_its_own_removals_only() {
    let server = RedisServer::start().unwrap();
    let system = system(&server.url()).await;
    let cache = system.cache_manager();
    let keys = fill(cache).await;
    let mut put = pin!(cache.update_cache(&keys[7], Bytes::from("new"), None));
    assert!(poll_once(put.as_mut()).is_pending());
    let mut removals: Vec<_> = keys.iter().map(|key| Box::pin(cache.invalidate(key))).collect();
    assert!(removals.iter_mut().all(|removal| poll_once(removal.as_mut()).is_pending()));
    let mut written = removals.remove(7);
    for removed in timeout(PATIENCE, join_all(removals)).await.unwrap() {
        removed.unwrap();
    }
    for _ in 0..100 {
        assert!(poll_once(written.as_mut()).is_pending(), "in its turn");
        yield_now().await;
    }
    timeout(PATIENCE, put).await.unwrap().unwrap();
    timeout(PATIENCE, written).await.unwrap().unwrap();
    assert_eq!(cache.get(&keys[7]).await.unwrap(), None);
}

#[tokio::test]
async fn a_removal_whose_caller_goes_away_is_carried_out() {
    let server = RedisServer::start().unwrap();
    let system = system(&server.url()).await;
    let cache = system.cache_manager();
    let keys = fill(cache).await;
    for polls in 1..4 {
        let mut removals: Vec<_> = keys.iter().map(|key| Box::pin(cache.invalidate(key))).collect();
        for _ in 0..polls {
            removals.retain_mut(|removal| poll_once(removal.as_mut()).is_pending());
            yield_now().await;
        }
        drop(removals);
        until("the removals", async || server.command(&["DBSIZE"]).unwrap().trim_end() != ":300").await;
        until("no key", async || {
            let left = join_all(keys.iter().map(|key| cache.get(key))).await;
            left.into_iter().all(|found| found.unwrap().is_none())
        })
        .await;
        fill(cache).await;
    }
}

#[tokio::test]
async fn an_audit_names_every_key() {
    let server = RedisServer::start().unwrap();
    let invalidation = InvalidationConfig { enable_audit_stream: true, ..InvalidationConfig::default() };
    let builder = CacheSystemBuilder::new().with_redis_url(&server.url()).with_invalidation(invalidation);
    let system = builder.build().await.unwrap();
    let cache = system.cache_manager();
    let keys = fill(cache).await;
    for removed in join_all(keys.iter().map(|key| cache.invalidate(key))).await {
        removed.unwrap();
    }
    let written = server.command(&["XRANGE", "cache:invalidations", "-", "+"]).unwrap();
    assert!(keys.iter().all(|key| written.contains(&format!("\r\n{key}\r\n"))));
}

#[tokio::test]
async fn a_refused_key_is_an_error_to_those_who_remove_it_only() {
    let server = RedisServer::start().unwrap();
    fill(system(&server.url()).await.cache_manager()).await;
    let system = system(&part_of(&server, &server.url())).await;
    let cache = system.cache_manager();
    let removed = timeout(PATIENCE, join_all(keys().iter().map(|key| cache.invalidate(key)))).await.unwrap();
    let refused: Vec<_> = removed.iter().map(Result::is_err).collect();
    let expected: Vec<_> = keys().iter().map(|key| !key.starts_with("k1")).collect();
    assert_eq!(refused, expected, "{:?}", removed.iter().find(|removed| removed.is_err()));
}

/// A batch is refused for one key. A put waits for the turn of another, and is not polled by somebody who waits for a third.
#[tokio::test]
async fn a_refused_batch_waits_for_nobody() {
    let server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let system = system(&part_of(&server, &proxy.url())).await;
    let cache = system.cache_manager();
    proxy.hold(Direction::ToClient);
    let mut alone = pin!(cache.invalidate("k100"));
    assert!(poll_once(alone.as_mut()).is_pending());
    let before = proxy.bytes_to_server();
    let mut removals: Vec<_> = ["k10", "k11", "k2"].map(|key| Box::pin(cache.invalidate(key))).into();
    assert!(removals.iter_mut().all(|removal| poll_once(removal.as_mut()).is_pending()));
    until("the batch", async || proxy.bytes_to_server() > before).await;
    let mut put = pin!(cache.update_cache("k10", Bytes::from("new"), None));
    assert!(poll_once(put.as_mut()).is_pending());
    proxy.pass();
    let removed = timeout(PATIENCE, join_all(removals)).await.unwrap();
    assert_eq!(removed.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    let (alone, put) = timeout(PATIENCE, async { tokio::join!(alone, put) }).await.unwrap();
    alone.unwrap();
    put.unwrap();
}

/// The task that was to remove a key that is being written ends with its runtime before it begins.
#[test]
fn a_removal_whose_task_never_begins_is_owed() {
    let server = RedisServer::start().unwrap();
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (ending, staying) = (runtime(), runtime());
    let system = staying.block_on(system(&server.url()));
    let cache = system.cache_manager();
    staying.block_on(fill(cache));
    let mut put = Box::pin(cache.update_cache("k1", Bytes::from("new"), None));
    let (mut alone, mut removal) = (Box::pin(cache.invalidate("k2")), Box::pin(cache.invalidate("k1")));
    {
        let _inside = staying.enter();
        assert!(poll_once(put.as_mut()).is_pending());
    }
    {
        let _inside = ending.enter();
        assert!(poll_once(alone.as_mut()).is_pending() && poll_once(removal.as_mut()).is_pending());
    }
    ending.block_on(yield_now());
    ending.shutdown_background();
    assert!(staying.block_on(removal).is_err_and(|error| error.is_retryable()));
    staying.block_on(async {
        put.await.unwrap();
        until("no key", async || cache.get("k1").await.is_ok_and(|found| found.is_none())).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_is_an_error_to_every_caller_and_a_debt() {
    let mut server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let system = system(&proxy.url()).await;
    let cache = system.cache_manager();
    let keys = fill(cache).await;
    proxy.hold(Direction::ToServer);
    let removals = join_all(keys.iter().map(|key| cache.invalidate(key)));
    let kill = async {
        yield_now().await;
        server.kill().unwrap();
        proxy.reset();
    };
    let (removed, ()) = timeout(PATIENCE, async { tokio::join!(removals, kill) }).await.unwrap();
    assert!(removed.iter().all(|removed| removed.as_ref().is_err_and(CacheError::is_retryable)));
    assert_eq!(cache.coherence_stats().pending_invalidations, KEYS);
    proxy.pass();
    server.restart().unwrap();
    until("what is owed", async || cache.coherence_stats().pending_invalidations == 0).await;
    for key in &keys {
        assert_eq!(cache.get(key).await.unwrap(), None);
    }
}

#[test]
fn a_runtime_that_ends_tells_those_who_wait_and_leaves_a_debt() {
    let server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (ending, staying) = (runtime(), runtime());
    let system = staying.block_on(system(&proxy.url()));
    let cache = system.cache_manager();
    let keys = staying.block_on(fill(cache));
    proxy.hold(Direction::ToClient);
    let removals = {
        let _inside = ending.enter();
        let mut removals: Vec<_> = keys.iter().map(|key| Box::pin(cache.invalidate(key))).collect();
        assert!(removals.iter_mut().all(|removal| poll_once(removal.as_mut()).is_pending()));
        removals
    };
    ending.block_on(yield_now());
    ending.shutdown_background();
    proxy.pass();
    staying.block_on(async {
        let mut removals = removals.into_iter();
        // The one that was alone belongs to its caller.
        drop(removals.next());
        for removed in timeout(PATIENCE, join_all(removals)).await.unwrap() {
            assert!(removed.is_err_and(|error| error.is_retryable()));
        }
        until("no key", async || {
            let left = join_all(keys.iter().map(|key| cache.get(key))).await;
            left.into_iter().all(|found| found.is_ok_and(|found| found.is_none()))
        })
        .await;
    });
}
