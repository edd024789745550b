//! Single reads that share round trips: what is sent when, and that no caller, reply or fault harms another caller.
#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use multi_tier_cache::backends::{RedisCache, RedisConfig};
use multi_tier_cache::{CacheBackend, CacheResult, L2CacheBackend, defaults};
use test_servers::{Direction, FaultProxy, RedisServer};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(10);
const BUDGET: Duration = Duration::from_millis(400);
const MINUTE: Duration = Duration::from_secs(60);

type Read<'a> = BoxFuture<'a, CacheResult<Option<Bytes>>>;

fn key(number: usize) -> String {
    format!("k{number:06}")
}

fn value(number: usize) -> Bytes {
    Bytes::from(format!("value of {number}"))
}

/// The bytes of a GET of such a key.
fn get_bytes() -> u64 {
    "*2\r\n$3\r\nGET\r\n$7\r\nk000000\r\n".len() as u64
}

/// The bytes of an MGET of so many.
fn mget_bytes(keys: usize) -> u64 {
    (format!("*{}\r\n$4\r\nMGET\r\n", keys + 1).len() + keys * "$7\r\nk000000\r\n".len()) as u64
}

/// What the server says of itself in this field of INFO.
fn counted(server: &RedisServer, field: &str) -> u64 {
    let info = server.command(&["INFO", "stats"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().parse().unwrap()
}

/// A cache that holds the first `keys`, connected.
async fn filled(url: &str, keys: usize) -> RedisCache {
    let config = RedisConfig::default().with_url(url).with_budget(BUDGET);
    let cache = RedisCache::with_config(config).unwrap();
    let pairs: Vec<_> = (0..keys).map(|number| (key(number), value(number))).collect();
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    cache.set_many(&pairs, MINUTE).await.unwrap();
    cache
}

fn poll_once(read: &mut Read<'_>) -> Poll<CacheResult<Option<Bytes>>> {
    Pin::new(read).poll(&mut Context::from_waker(Waker::noop()))
}

/// Waits for `condition`, whatever tasks and servers have to do for it.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn all_found(cache: &RedisCache, keys: &[String]) {
    let found = timeout(PATIENCE, join_all(keys.iter().map(|key| cache.try_get(key)))).await.unwrap();
    for (number, found) in found.into_iter().enumerate() {
        assert_eq!(found.unwrap(), Some(value(number)), "{number}");
    }
}

#[tokio::test]
async fn what_begins_while_replies_are_awaited_is_sent_together_when_they_come() {
    let server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let keys: Vec<_> = (0..1_000).map(key).collect();
    let cache = filled(&proxy.url(), keys.len()).await;

    let before = proxy.bytes_to_server();
    assert_eq!(cache.try_get(&keys[0]).await.unwrap(), Some(value(0)));
    assert_eq!(proxy.bytes_to_server() - before, get_bytes(), "a read alone is one GET");

    let hits = counted(&server, "keyspace_hits");
    proxy.hold(Direction::ToClient);
    let before = proxy.bytes_to_server();
    let mut reads: Vec<_> = keys.iter().map(|key| cache.try_get(key)).collect();
    assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
    // One alone, and then a part of what waits in each of the writes that may be under way.
    let (mut waiting, mut sent) = (keys.len() - 1, get_bytes());
    for _ in 0..defaults::READ_WRITES {
        let share = waiting / defaults::MERGED_SHARE;
        waiting -= share;
        sent += mget_bytes(share);
    }
    until("the first writes", || proxy.bytes_to_server() - before >= sent).await;
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(proxy.bytes_to_server() - before, sent, "the others wait for a reply");

    proxy.pass();
    let found = timeout(PATIENCE, join_all(reads)).await.unwrap();
    for (number, found) in found.into_iter().enumerate() {
        assert_eq!(found.unwrap(), Some(value(number)));
    }
    assert_eq!(counted(&server, "keyspace_hits") - hits, 1_000, "each key is asked for once");
}

#[tokio::test]
async fn more_reads_than_may_wait_are_answered_too() {
    let server = RedisServer::start().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    cache.set(&key(0), value(0)).await.unwrap();
    let name = key(0);
    let reads = (0..defaults::READS_WAITING + 1_000).map(|_| cache.try_get(&name));
    let found = timeout(PATIENCE, join_all(reads)).await.unwrap();
    assert!(found.into_iter().all(|found| found.is_ok_and(|found| found == Some(value(0)))));
}

#[tokio::test]
async fn a_caller_that_is_not_polled_keeps_nobody_waiting() {
    let server = RedisServer::start().unwrap();
    let keys: Vec<_> = (0..50).map(key).collect();
    let cache = filled(&server.url(), keys.len()).await;
    // The first has a round trip of its own, the others wait for one.
    let mut idle: Vec<_> = keys.iter().take(5).map(|key| cache.try_get(key)).collect();
    assert!(idle.iter_mut().all(|read| poll_once(read).is_pending()));
    for _ in 0..3 {
        all_found(&cache, &keys).await;
    }
    for (number, read) in idle.into_iter().enumerate() {
        assert_eq!(read.await.unwrap(), Some(value(number)));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_after_any_poll_costs_nobody_a_reply() {
    let server = RedisServer::start().unwrap();
    let keys: Vec<_> = (0..40).map(key).collect();
    let cache = filled(&server.url(), keys.len()).await;
    for victims in [1, 7, 40] {
        for polls in 0..6 {
            let mut leaving: Vec<_> = keys.iter().take(victims).map(|key| cache.try_get(key)).collect();
            let mut staying: Vec<_> = keys.iter().map(|key| cache.try_get(key)).collect();
            for poll in 0..polls {
                // Those who stay have begun, too: some before, some after.
                if poll == 1 {
                    assert!(staying.iter_mut().all(|read| poll_once(read).is_pending()));
                }
                leaving.retain_mut(|read| poll_once(read).is_pending());
                yield_now().await;
            }
            drop(leaving);
            let found = timeout(PATIENCE, join_all(staying)).await.unwrap();
            for (number, found) in found.into_iter().enumerate() {
                assert_eq!(found.unwrap(), Some(value(number)), "{victims} {polls}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_is_an_error_to_every_caller_within_its_budget_and_serves_again_when_it_is_back() {
    let mut server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let keys: Vec<_> = (0..300).map(key).collect();
    let cache = filled(&proxy.url(), keys.len()).await;
    for _ in 0..3 {
        proxy.hold(Direction::ToClient);
        let before = proxy.bytes_to_server();
        let mut reads = JoinSet::new();
        for key in keys.clone() {
            let cache = cache.clone();
            reads.spawn(async move { (Instant::now(), cache.try_get(&key).await, Instant::now()) });
        }
        until("reads under way", || proxy.bytes_to_server() > before).await;
        server.kill().unwrap();
        proxy.reset();
        for (began, outcome, ended) in timeout(PATIENCE, reads.join_all()).await.unwrap() {
            let error = outcome.unwrap_err();
            assert!(error.is_retryable(), "{error}");
            assert!(ended - began < BUDGET + Duration::from_millis(200), "{:?}: {error}", ended - began);
        }
        proxy.pass();
        server.restart().unwrap();
        let began = Instant::now();
        while cache.set(&key(0), value(0)).await.is_err() {
            assert!(began.elapsed() < PATIENCE);
            sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(cache.try_get(&key(0)).await.unwrap(), Some(value(0)));
    }
}

#[tokio::test]
async fn late_replies_reach_those_who_still_wait_for_them() {
    let server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let cache = filled(&proxy.url(), 9).await;
    let keys: Vec<_> = (0..9).map(key).collect();
    let read = |number: usize| -> BoxFuture<'_, CacheResult<(Option<Bytes>, bool)>> {
        let (cache, key) = (&cache, &keys[number]);
        Box::pin(async move {
            if number.is_multiple_of(2) {
                return Ok((cache.try_get(key).await?, false));
            }
            let found = cache.try_get_with_ttl(key).await?;
            Ok((found.as_ref().map(|(value, _)| value.clone()), found.is_some_and(|(_, ttl)| ttl.is_some())))
        })
    };
    let poll = |read: &mut BoxFuture<'_, CacheResult<(Option<Bytes>, bool)>>| {
        let pending = Pin::new(read).poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(pending);
    };
    proxy.hold(Direction::ToClient);
    let mut alone = read(0);
    poll(&mut alone);
    let mut early: Vec<_> = (1..5).map(read).collect();
    early.iter_mut().for_each(poll);
    // No task runs meanwhile: all of them are sent in one write.
    thread::sleep(BUDGET / 2);
    let mut late: Vec<_> = (5..9).map(read).collect();
    late.iter_mut().for_each(poll);
    for outcome in timeout(PATIENCE, join_all(early)).await.unwrap() {
        assert!(outcome.unwrap_err().is_retryable());
    }
    proxy.pass();
    for (outcome, number) in timeout(PATIENCE, join_all(late)).await.unwrap().into_iter().zip(5..) {
        assert_eq!(outcome.unwrap(), (Some(value(number)), number % 2 == 1));
    }
}

#[tokio::test]
async fn a_budget_without_end_is_no_trouble() {
    let server = RedisServer::start().unwrap();
    filled(&server.url(), 100).await;
    let config = RedisConfig::default().with_url(server.url()).with_budget(Duration::MAX);
    let cache = RedisCache::with_config(config).unwrap();
    all_found(&cache, &(0..100).map(key).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_costs_every_caller_its_budget_at_most() {
    let server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let keys: Vec<_> = (0..300).map(key).collect();
    let cache = filled(&proxy.url(), keys.len()).await;
    proxy.blackhole(Direction::ToClient);
    let mut reads = JoinSet::new();
    for (number, key) in keys.iter().cloned().enumerate() {
        let cache = cache.clone();
        reads.spawn(async move {
            // Some begin while others have been waiting for long.
            sleep(BUDGET / 300 * u32::try_from(number / 2).unwrap()).await;
            let began = Instant::now();
            (cache.try_get(&key).await, began.elapsed())
        });
    }
    for (outcome, took) in timeout(PATIENCE, reads.join_all()).await.unwrap() {
        let error = outcome.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(took < BUDGET + Duration::from_millis(200), "{took:?}: {error}");
    }
    proxy.pass();
    proxy.reset();
    let began = Instant::now();
    while cache.try_get(&keys[0]).await.is_err() {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(2)).await;
    }
    all_found(&cache, &keys).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_the_same_error_among_others_as_alone() {
    let server = RedisServer::start().unwrap();
    let keys: Vec<_> = (0..101).map(key).collect();
    let cache = filled(&server.url(), keys.len()).await;
    cache.remove(&keys[50]).await.unwrap();
    server.command(&["LPUSH", &keys[50], "v"]).unwrap();
    let alone = cache.try_get(&keys[50]).await.unwrap_err();
    assert!(alone.to_string().contains("WRONGTYPE") && !alone.is_retryable(), "{alone}");

    let (bytes, with_ttl) = tokio::join!(
        join_all(keys.iter().map(|key| cache.try_get(key))),
        join_all(keys.iter().map(|key| cache.try_get_with_ttl(key))),
    );
    let with_ttl = with_ttl.into_iter().map(|found| {
        found.map(|found| {
            found.map(|(value, ttl)| {
                assert!(ttl.is_some_and(|ttl| ttl <= MINUTE && ttl > MINUTE / 2), "{ttl:?}");
                value
            })
        })
    });
    for (number, found) in (0..keys.len()).cycle().zip(bytes.into_iter().chain(with_ttl)) {
        match found {
            Err(error) if number == 50 => assert_eq!(error.to_string(), alone.to_string()),
            found => assert_eq!(found.unwrap(), Some(value(number))),
        }
    }
    cache.set(&keys[50], value(50)).await.unwrap();
    all_found(&cache, &keys).await;
}

#[tokio::test]
async fn absent_keys_are_absent_and_present_ones_found_whatever_their_company() {
    let server = RedisServer::start().unwrap();
    let cache = filled(&server.url(), 300).await;
    let present = |number: &usize| number.is_multiple_of(3);
    let gone: Vec<_> = (0..300).filter(|number| !present(number)).map(key).collect();
    cache.remove_bulk(&gone).await.unwrap();
    let keys: Vec<_> = (0..300).map(key).collect();
    let found = join_all(keys.iter().map(|key| cache.try_get(key))).await;
    let with_ttl = join_all(keys.iter().map(|key| cache.try_get_with_ttl(key))).await;
    for (number, (found, with_ttl)) in found.into_iter().zip(with_ttl).enumerate() {
        let expected = present(&number).then(|| value(number));
        assert_eq!(found.unwrap(), expected);
        let with_ttl = with_ttl.unwrap();
        assert!(with_ttl.iter().all(|(_, ttl)| ttl.is_some_and(|ttl| ttl <= MINUTE)));
        assert_eq!(with_ttl.map(|(value, _)| value), expected);
    }
}

/// Redis refuses the whole of an MGET for one key that the user may not read, and for a user that may not MGET.
#[tokio::test]
async fn what_a_user_may_not_read_is_an_error_to_those_who_ask_for_it_only() {
    let server = RedisServer::start().unwrap();
    filled(&server.url(), 200).await;
    for (user, rule) in [("one", "%R~k0000*"), ("two", "%R~k*")] {
        let commands = if user == "one" { "+@all" } else { "+get +pttl +ping +client" };
        let rules: Vec<&str> = commands.split(' ').collect();
        server.command(&[&["ACL", "SETUSER", user, "on", ">secret", rule], &rules[..]].concat()).unwrap();
        let url = server.url().replace("redis://", &format!("redis://{user}:secret@"));
        let config = RedisConfig::default().with_url(url).with_budget(BUDGET);
        let cache = RedisCache::with_config(config).unwrap();
        for _ in 0..2 {
            let keys: Vec<_> = (0..200).map(key).collect();
            let found = timeout(PATIENCE, join_all(keys.iter().map(|key| cache.try_get(key)))).await.unwrap();
            for (number, found) in found.into_iter().enumerate() {
                match found {
                    Err(error) => assert!(user == "one" && number >= 100 && error.to_string().contains("NOPERM")),
                    Ok(found) => {
                        assert_eq!(found, Some(value(number)));
                        assert!(user == "two" || number < 100);
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_some_mebibytes_come_among_small_ones() {
    let server = RedisServer::start().unwrap();
    let cache = RedisCache::with_url(&server.url()).await.unwrap();
    let length = |number: usize| if number.is_multiple_of(10) { 3 << 20 } else { 10 + number };
    for number in 0..60 {
        cache.set(&key(number), vec![b'v'; length(number)].into()).await.unwrap();
    }
    for _ in 0..3 {
        let mut reads = JoinSet::new();
        for number in 0..60 {
            let cache = cache.clone();
            reads.spawn(async move { (number, cache.try_get(&key(number)).await) });
        }
        for (number, found) in timeout(PATIENCE, reads.join_all()).await.unwrap() {
            assert_eq!(found.unwrap().map(|value| value.len()), Some(length(number)));
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn runtimes_share_no_round_trips_and_one_that_ends_takes_only_its_own_reads_along() {
    let server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    let keys: Vec<_> = (0..200).map(key).collect();
    let (ending, staying) = (runtime(), runtime());
    let cache = staying.block_on(filled(&proxy.url(), keys.len()));
    thread::scope(|scope| {
        scope.spawn(|| ending.block_on(all_found(&cache, &keys)));
        scope.spawn(|| staying.block_on(all_found(&cache, &keys)));
    });

    proxy.hold(Direction::ToClient);
    let before = proxy.bytes_to_server();
    let left = {
        let _inside = ending.enter();
        let mut left: Vec<_> = keys.iter().map(|key| cache.try_get(key)).collect();
        assert!(left.iter_mut().all(|read| poll_once(read).is_pending()));
        left
    };
    ending.block_on(until("reads under way", || proxy.bytes_to_server() > before));
    ending.shutdown_background();
    proxy.pass();
    staying.block_on(async {
        all_found(&cache, &keys).await;
        for read in timeout(PATIENCE, join_all(left)).await.unwrap() {
            // What had been answered before the end is an answer.
            assert!(read.is_ok() || read.is_err_and(|error| error.is_retryable()));
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_begins_after_a_removal_never_finds_what_was_removed() {
    let server = RedisServer::start().unwrap();
    let keys: Vec<_> = (0..20).map(key).collect();
    let cache = filled(&server.url(), keys.len()).await;
    let mut readers = JoinSet::new();
    for _ in 0..30 {
        let (cache, keys) = (cache.clone(), keys.clone());
        readers.spawn(async move {
            loop {
                for key in &keys {
                    cache.try_get(key).await.unwrap();
                }
            }
        });
    }
    for round in 0..300 {
        let key = &keys[round % keys.len()];
        cache.set(key, value(round)).await.unwrap();
        assert_eq!(cache.try_get(key).await.unwrap(), Some(value(round)));
        cache.remove(key).await.unwrap();
        assert_eq!(cache.try_get(key).await.unwrap(), None);
    }
    readers.abort_all();
}
