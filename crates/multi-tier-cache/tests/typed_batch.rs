//! Typed caches: many keys at once. One question per tier, one load, and every promise that holds for a single key.
#![cfg(all(feature = "redis", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use common::{Count, PATIENCE, Scripted, assert_at_rest, ended, start};
use common::{Op, When};
use futures_util::future::{BoxFuture, join, join_all};
use multi_tier_cache::backends::{QuickCacheBackend, RedisCache};
use multi_tier_cache::testing::{ManualClock, followed};
use multi_tier_cache::traits::Capabilities;
use multi_tier_cache::{
    Cache, CacheError, CacheSystem, CacheSystemBuilder, CoherenceConfig, DashMapCache, Freshness, LoadError, TierConfig,
};
use parking_lot::Mutex;
use test_servers::RedisServer;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

type Users = Cache<u64, String>;
type Pairs = Vec<(u64, String)>;
type Loading = BoxFuture<'static, Result<Pairs, CacheError>>;

async fn instance(server: &RedisServer) -> CacheSystem {
    let l2 = Arc::new(RedisCache::with_url(&server.url()).await.unwrap());
    CacheSystemBuilder::new().with_l2(l2).build().await.unwrap()
}

async fn in_process(time: &ManualClock) -> CacheSystem {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let l2 = Arc::new(DashMapCache::new().with_clock(time.clock()));
    CacheSystemBuilder::new().with_l1(l1).with_l2(l2).with_clock(time.clock()).build().await.unwrap()
}

fn name(id: u64) -> String {
    format!("user {id}")
}

fn pairs(ids: &[u64]) -> Pairs {
    ids.iter().map(|id| (*id, name(*id))).collect()
}

fn names(ids: &[u64]) -> Vec<Option<Arc<String>>> {
    ids.iter().map(|id| Some(Arc::new(name(*id)))).collect()
}

/// How often the server carried out this command.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

async fn insert_all(users: &Users, ids: &[u64]) {
    let named: Vec<(u64, String)> = pairs(ids);
    users.insert_many(named.iter().map(|(id, name)| (id, name.clone()))).await.unwrap();
}

/// Notes what it is asked for, key by key.
#[derive(Clone, Default)]
struct Loads(Arc<Mutex<Vec<Vec<u64>>>>);

impl Loads {
    fn all(&self) -> Vec<Vec<u64>> {
        self.0.lock().clone()
    }

    fn of_each(&self) -> HashMap<u64, usize> {
        let mut counts = HashMap::new();
        self.all().into_iter().flatten().for_each(|id| *counts.entry(id).or_default() += 1);
        counts
    }

    /// A loader that knows every id.
    fn loader(&self) -> impl Fn(Vec<u64>) -> Loading + use<> {
        let loads = self.clone();
        move |ids| {
            let loads = loads.clone();
            Box::pin(async move {
                loads.0.lock().push(ids.clone());
                tokio::task::yield_now().await;
                Ok(pairs(&ids))
            })
        }
    }
}

/// Drops its future at the end of so many polls.
struct Polled<F> {
    work: Option<Pin<Box<F>>>,
    left: usize,
}

impl<F: Future> Polled<F> {
    fn new(work: F, polls: usize) -> Self {
        Self { work: Some(Box::pin(work)), left: polls }
    }
}

impl<F: Future> Future for Polled<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let poll = self.work.as_mut().unwrap().as_mut().poll(context);
        self.left -= 1;
        if poll.is_pending() && self.left > 0 {
            return Poll::Pending;
        }
        self.work = None;
        match poll {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        }
    }
}

#[tokio::test]
async fn a_thousand_keys_take_one_question_and_one_load_of_what_is_missing() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let (on_a, on_b): (Users, Users) = (a.cache("users").unwrap(), b.cache("users").unwrap());
    let ids: Vec<u64> = (0..1_000).map(|n| n * 7 % 1_000).collect();
    let of = |rest| ids.iter().copied().filter(move |id| id % 3 == rest).collect::<Vec<_>>();
    insert_all(&on_a, &of(1)).await;
    insert_all(&on_b, &of(0)).await;
    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    let loads = Loads::default();
    let found = on_b.get_or_load_many(&ids, loads.loader()).await.unwrap();
    assert_eq!(found, names(&ids));
    let [asked] = &loads.all()[..] else { panic!("{} loads", loads.all().len()) };
    assert_eq!(*asked, of(2));
    assert_eq!(
        (calls(&server, "mget"), calls(&server, "pttl")),
        (1, 666),
        "and one PTTL for each key, in the same trip"
    );
    assert_eq!(on_b.stats().misses, 333);

    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    assert_eq!(on_a.get_many(&of(2)).await.unwrap(), names(&of(2)));
    assert_eq!(calls(&server, "mget"), 1);
    assert_eq!(on_a.get_many(&[0, 5_000, 1]).await.unwrap(), [names(&[0])[0].clone(), None, names(&[1])[0].clone()]);
    assert_at_rest(a.cache_manager());
    assert_at_rest(b.cache_manager());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_batches_of_two_instances_load_no_key_twice() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let (on_a, on_b): (Users, Users) = (a.cache("users").unwrap(), b.cache("users").unwrap());
    let loads = Loads::default();
    let batches = (0..50_u64).map(|n| {
        let users = if n % 2 == 0 { on_a.clone() } else { on_b.clone() };
        let load = loads.loader();
        let mut ids: Vec<u64> = (n * 5..n * 5 + 100).collect();
        if n % 3 == 0 {
            ids.reverse();
        }
        tokio::spawn(async move {
            assert_eq!(users.get_or_load_many(&ids, load).await.unwrap(), names(&ids));
        })
    });
    let single = (0..345).step_by(10).map(|id| {
        let (users, loads) = (on_a.clone(), loads.clone());
        tokio::spawn(async move {
            let load = move || async move { Ok(loads.loader()(vec![id]).await?.remove(0).1) };
            assert_eq!(*users.get_or_load(&id, load).await.unwrap(), name(id));
        })
    });
    for task in batches.chain(single).collect::<Vec<_>>() {
        ended(task).await;
    }
    let each = loads.of_each();
    assert_eq!(each.len(), 345);
    assert!(each.values().all(|loads| *loads == 1), "{each:?}");
    assert_at_rest(a.cache_manager());
    assert_at_rest(b.cache_manager());
}

#[tokio::test]
async fn duplicates_and_no_keys_at_all() {
    let time = ManualClock::new();
    let users: Users = in_process(&time).await.cache("users").unwrap();
    let loads = Loads::default();
    assert!(users.get_many(&[]).await.unwrap().is_empty());
    assert!(users.get_or_load_many(&[], loads.loader()).await.unwrap().is_empty());
    assert_eq!(users.insert_many(Vec::<(&u64, String)>::new()).await.unwrap(), None);
    assert!(loads.all().is_empty());
    assert_eq!(users.get_or_load_many(&[3, 1, 3, 3], loads.loader()).await.unwrap(), names(&[3, 1, 3, 3]));
    assert_eq!(loads.of_each(), HashMap::from([(1, 1), (3, 1)]));
    assert_eq!(users.get_many(&[1, 3, 1]).await.unwrap(), names(&[1, 3, 1]));
    users.insert_many([(&1, "a"), (&2, "b"), (&1, "c")].map(|(id, name)| (id, name.to_owned()))).await.unwrap();
    let found = users.get_many(&[1, 2]).await.unwrap();
    assert_eq!(found, ["c", "b"].map(|name| Some(Arc::new(name.to_owned()))));
    let texts: Cache<String, String> = in_process(&time).await.cache("texts").unwrap();
    let load =
        |keys: Vec<String>| async move { Ok::<_, CacheError>(HashMap::from([(keys[0].clone(), "x".to_owned())])) };
    assert_eq!(texts.get_or_load_many(["a b"], load).await.unwrap(), [Some(Arc::new("x".to_owned()))]);
}

#[tokio::test]
async fn a_key_without_an_answer_has_no_value() {
    let time = ManualClock::new();
    let system = in_process(&time).await;
    let freshness = Freshness::new(Duration::from_secs(60)).with_negative_ttl(Duration::from_secs(5));
    let (forgetful, remembering): (Users, Users) =
        (system.cache("forgetful").unwrap(), system.cache_builder("users").freshness(freshness).build().unwrap());
    for (users, expected) in [(&forgetful, 2), (&remembering, 1)] {
        let asked = Count::default();
        for _ in 0..2 {
            let counted = asked.clone();
            let load = move |ids: Vec<u64>| {
                if ids.contains(&2) {
                    counted.add();
                }
                // One that it was not asked for comes along.
                async move { Ok::<_, CacheError>(pairs(&[1, 77])) }
            };
            let found = users.get_or_load_many(&[1, 2], load).await.unwrap();
            assert_eq!(found, [names(&[1])[0].clone(), None]);
        }
        assert_eq!(asked.get(), expected);
        assert_eq!(users.get_many(&[2, 77]).await.unwrap(), [None, None]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_a_panic_and_a_deadline_reach_every_key_that_was_loaded() {
    #[derive(Debug, PartialEq)]
    struct Gone(u32);
    let time = ManualClock::new();
    let system = in_process(&time).await;
    let freshness = Freshness::new(Duration::from_secs(60))
        .with_stale_if_error(Duration::from_secs(60))
        .with_error_throttle(Duration::ZERO)
        .with_load_deadlines(None, Some(Duration::from_secs(3)));
    let users: Users = system.cache_builder("users").freshness(freshness).build().unwrap();
    insert_all(&users, &[1]).await;
    let gone = |_: Vec<u64>| async {
        tokio::task::yield_now().await;
        Err::<Pairs, _>(Gone(410))
    };
    let begun = Count::default();
    let (single, counted) = (users.clone(), begun.clone());
    let follower = async move {
        let load = move || async move {
            counted.add();
            Ok::<_, Gone>(name(3))
        };
        single.get_or_try_load(&3, load).await
    };
    let (batch, single) = join(users.get_or_load_many(&[1, 2, 3], gone), follower).await;
    for error in [batch.unwrap_err(), single.unwrap_err()] {
        let LoadError::Load(error) = error else { panic!("{error:?}") };
        assert_eq!(*error, Gone(410));
    }
    assert_eq!((begun.get(), users.stats().failed_loads), (0, 2));
    let panics = |_| async { if true { panic!("not today") } else { Ok::<Pairs, Gone>(Pairs::new()) } };
    let LoadError::Cache(error) = users.get_or_load_many(&[1, 2], panics).await.unwrap_err() else { panic!() };
    assert!(error.to_string().contains("not today"), "{error}");
    let never = |_| std::future::pending::<Result<Pairs, Gone>>();
    let LoadError::TimedOut(after) = users.get_or_load_many(&[2, 3], never).await.unwrap_err() else { panic!() };
    assert_eq!(after, Duration::from_secs(3));
    // Key by key: one has an older value that will do, one has none.
    time.advance(Duration::from_secs(70));
    assert_eq!(users.get_or_load_many(&[1], gone).await.unwrap(), names(&[1]));
    assert!(users.get_or_load_many(&[1, 2], gone).await.is_err());
    let loads = Loads::default();
    assert_eq!(users.get_or_load_many(&[2, 1], loads.loader()).await.unwrap(), names(&[2, 1]));
    assert_at_rest(system.cache_manager());
}

#[tokio::test]
async fn stale_values_are_answered_and_loaded_anew_together() {
    let time = ManualClock::new();
    let system = in_process(&time).await;
    let freshness = Freshness::new(Duration::from_secs(10)).with_stale_while_revalidate(Duration::from_secs(60));
    let users: Users = system.cache_builder("users").freshness(freshness).build().unwrap();
    insert_all(&users, &[1, 2, 3]).await;
    time.advance(Duration::from_secs(20));
    let (asked, mut loads) = mpsc::unbounded_channel();
    let load = move |mut ids: Vec<u64>| {
        ids.sort_unstable();
        asked.send(ids.clone()).unwrap();
        async move { Ok::<_, CacheError>(ids.into_iter().map(|id| (id, format!("new {id}"))).collect::<Pairs>()) }
    };
    let found = users.get_or_load_many(&[1, 4, 2, 3], load).await.unwrap();
    let new = |id: u64| Some(Arc::new(format!("new {id}")));
    assert_eq!(found, [names(&[1])[0].clone(), new(4), names(&[2])[0].clone(), names(&[3])[0].clone()]);
    assert_eq!(timeout(PATIENCE, loads.recv()).await.unwrap(), Some(vec![4]));
    assert_eq!(timeout(PATIENCE, loads.recv()).await.unwrap(), Some(vec![1, 2, 3]));
    common::run_all().await;
    assert_eq!(users.get_many(&[1, 2, 3]).await.unwrap(), [new(1), new(2), new(3)]);
    assert_eq!(users.stats().refreshes, 3);
}

#[tokio::test]
async fn what_is_removed_during_a_bulk_load_is_not_stored() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let (on_a, on_b): (Users, Users) = (a.cache("users").unwrap(), b.cache("users").unwrap());
    for remover in [&on_a, &on_b] {
        let (begun, began) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();
        let gates = Arc::new(Mutex::new(Some((begun, released))));
        let users = on_a.clone();
        let task = tokio::spawn(async move {
            let load = move |ids: Vec<u64>| {
                let (begun, released) = gates.lock().take().unwrap();
                async move {
                    begun.send(()).unwrap();
                    released.await.unwrap();
                    Ok::<_, CacheError>(ids.into_iter().map(|id| (id, "old".to_owned())).collect::<Pairs>())
                }
            };
            users.get_or_load_many(&[1, 2, 3], load).await
        });
        timeout(PATIENCE, began).await.unwrap().unwrap();
        remover.remove(&2).await.unwrap();
        release.send(()).unwrap();
        let old = || Some(Arc::new("old".to_owned()));
        assert_eq!(ended(task).await.unwrap(), [old(), old(), old()], "it began before the removal");
        let after = [old(), None, old()];
        assert_eq!(on_b.get_many(&[1, 2, 3]).await.unwrap(), after);
        assert_eq!(on_a.get_many(&[1, 2, 3]).await.unwrap(), after);
        let position = on_a.remove_many(&[1, 2, 3]).await.unwrap();
        for system in [&a, &b] {
            assert!(followed(system.cache_manager(), position).await);
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_cancelled_at_any_await_leaves_nothing_behind() {
    let server = RedisServer::start().unwrap();
    let system = instance(&server).await;
    let users: Users = system.cache("users").unwrap();
    let ids: Vec<u64> = (0..20).collect();
    let mut completed = false;
    for polls in 1.. {
        let (first, second) = (Loads::default(), Loads::default());
        let cancelled = Polled::new(users.get_or_load_many(&ids, first.loader()), polls);
        let follower = users.get_or_load_many(&ids[5..], second.loader());
        let both = join(cancelled, follower);
        let (cancelled, followed) = timeout(PATIENCE, both).await.unwrap();
        assert_eq!(followed.unwrap(), names(&ids[5..]), "after {polls} polls");
        for loads in [&first, &second] {
            assert!(loads.of_each().values().all(|loads| *loads == 1), "after {polls} polls");
        }
        let found = timeout(PATIENCE, users.get_or_load_many(&ids, first.loader())).await.unwrap();
        assert_eq!(found.unwrap(), names(&ids), "after {polls} polls");
        completed = cancelled.is_some();
        let lookup = Polled::new(users.get_many(&ids), polls);
        assert!(timeout(PATIENCE, lookup).await.unwrap().is_none_or(|found| found.unwrap() == names(&ids)));
        users.remove_many(&ids).await.unwrap();
        let lookup = Polled::new(users.get_many(&ids), polls);
        assert!(timeout(PATIENCE, lookup).await.unwrap().is_none_or(|found| found.unwrap() == vec![None; 20]));
        if completed {
            break;
        }
    }
    assert!(completed);
    assert_at_rest(system.cache_manager());
}

#[tokio::test]
async fn a_bulk_load_that_has_begun_goes_on_without_its_caller() {
    let server = RedisServer::start().unwrap();
    let system = instance(&server).await;
    let users: Users = system.cache("users").unwrap();
    let (begun, mut began) = mpsc::unbounded_channel();
    let (release, released) = oneshot::channel::<()>();
    let released = Arc::new(Mutex::new(Some(released)));
    let (caller, load) = (users.clone(), move |ids: Vec<u64>| {
        let (begun, released) = (begun.clone(), released.lock().take().unwrap());
        async move {
            begun.send(()).unwrap();
            released.await.unwrap();
            Ok::<_, CacheError>(pairs(&ids))
        }
    });
    let task = tokio::spawn(async move { caller.get_or_load_many(&[1, 2], load).await });
    timeout(PATIENCE, began.recv()).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    release.send(()).unwrap();
    let again = Loads::default();
    assert_eq!(users.get_or_load_many(&[1, 2], again.loader()).await.unwrap(), names(&[1, 2]));
    assert!(again.all().is_empty());
}

#[tokio::test]
async fn batches_in_a_circle_do_not_wait_for_each_other() {
    let l2 = Scripted::new("L2");
    let system = CacheSystemBuilder::new().with_l2(Arc::clone(&l2) as _).build().await.unwrap();
    let users: Users = system.cache("users").unwrap();
    let mut held = l2.hold(Op::Get, When::Before);
    let loads = Loads::default();
    let batch = |ids: [u64; 3]| {
        let (users, load) = (users.clone(), loads.loader());
        async move { (users.get_or_load_many(&ids, load).await.unwrap(), ids) }
    };
    let first = start(batch([1, 2, 3])).await;
    held.reached().await;
    let second = start(batch([4, 1, 2])).await;
    let third = start(batch([3, 4, 1])).await;
    held.release();
    for task in [first, second, third] {
        let (found, ids) = ended(task).await;
        assert_eq!(found, names(&ids));
    }
    assert_eq!(loads.of_each(), HashMap::from([(1, 1), (2, 1), (3, 1), (4, 1)]));
    assert_at_rest(system.cache_manager());
}

#[tokio::test]
async fn what_is_removed_while_a_lower_tier_answers_is_not_copied_up() {
    let l2 = Scripted::new("L2");
    let promoted = TierConfig::as_l2().with_promotion_frequency(1);
    let stack = || {
        let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap());
        let builder = CacheSystemBuilder::new().with_tier(l1, TierConfig::as_l1());
        builder.with_tier(Arc::clone(&l2) as _, promoted.clone())
    };
    let (writer, system) = (stack().build().await.unwrap(), stack().build().await.unwrap());
    insert_all(&writer.cache("users").unwrap(), &[1, 2]).await;
    let users: Users = system.cache("users").unwrap();
    let mut held = l2.hold(Op::Get, When::After);
    let reader = users.clone();
    let reading = start(async move { reader.get_many(&[1, 2]).await }).await;
    held.reached().await;
    users.remove(&1).await.unwrap();
    held.release();
    assert_eq!(ended(reading).await.unwrap(), names(&[1, 2]), "it began before the removal");
    let reads = l2.calls(Op::Get);
    assert_eq!(users.get_many(&[1, 2]).await.unwrap(), [None, names(&[2])[0].clone()]);
    assert_eq!(l2.calls(Op::Get) - reads, 1, "the other key was copied up");
    assert_at_rest(system.cache_manager());
}

#[tokio::test]
async fn one_key_that_a_tier_refuses_costs_the_others_nothing() {
    let l2 = Scripted::capable_of("L2", Capabilities::BATCH);
    let system = CacheSystemBuilder::new().with_l2(Arc::clone(&l2) as _).build().await.unwrap();
    let users: Users = system.cache("users").unwrap();
    insert_all(&users, &[1, 2, 13]).await;
    let others = CacheSystemBuilder::new().with_l2(Arc::clone(&l2) as _).build().await.unwrap();
    let users: Users = others.cache("users").unwrap();
    l2.fail_keys_from("users:13", common::Fault::Refusal);
    assert!(users.get_many(&[1, 2, 13]).await.is_err(), "an outage is not a miss");
    assert_eq!(users.get_many(&[1, 2]).await.unwrap(), names(&[1, 2]));
    let loads = Loads::default();
    assert_eq!(users.get_or_load_many(&[1, 13, 2], loads.loader()).await.unwrap(), names(&[1, 13, 2]));
    assert_eq!(loads.of_each(), HashMap::from([(13, 1)]));
}

#[tokio::test]
async fn without_redis_batches_load_and_lookups_say_so() {
    let mut server = RedisServer::start().unwrap();
    let system = instance(&server).await;
    let users: Users = system.cache("users").unwrap();
    insert_all(&users, &[1, 2]).await;
    server.kill().unwrap();
    let loads = Loads::default();
    assert_eq!(users.get_or_load_many(&[5, 6, 5], loads.loader()).await.unwrap(), names(&[5, 6, 5]));
    assert_eq!(loads.of_each(), HashMap::from([(5, 1), (6, 1)]));
    assert!(users.get_many(&[7, 8]).await.is_err(), "an outage is not a miss");
    assert!(users.insert_many([(&9, name(9))]).await.is_err());
    assert_at_rest(system.cache_manager());
}

#[tokio::test]
async fn tags_of_many_entries_take_one_question() {
    let server = RedisServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let on_a: Users = a.cache_builder("users").tags(["users"]).build().unwrap();
    let on_b: Users = b.cache_builder("users").tags(["users"]).build().unwrap();
    let (ids, loads) = ((0..100).collect::<Vec<u64>>(), Loads::default());
    on_a.get_or_load_many(&ids, loads.loader()).await.unwrap();
    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    assert_eq!(on_b.get_many(&ids).await.unwrap(), names(&ids));
    assert_eq!(calls(&server, "mget"), 2, "one for the values, one for the tags");
    let position = on_a.remove_tag("users").await.unwrap();
    assert!(followed(b.cache_manager(), position).await);
    assert_eq!(on_b.get_many(&ids[90..]).await.unwrap(), vec![None; 10]);
    assert_eq!(loads.all().len(), 1);
}

#[tokio::test]
async fn keys_that_another_instance_loads_are_waited_for_without_a_lease_in_hand() {
    let server = RedisServer::start().unwrap();
    let a = instance(&server).await;
    // A batch that waited with its lease would wait for longer than the test.
    let l2 = Arc::new(RedisCache::with_url(&server.url()).await.unwrap());
    let patient = CoherenceConfig::default().with_wait_budget(2 * PATIENCE);
    let b = CacheSystemBuilder::new().with_l2(l2).with_coherence(patient).build().await.unwrap();
    let (on_a, on_b): (Users, Users) = (a.cache("users").unwrap(), b.cache("users").unwrap());
    let (done, mut loaded) = mpsc::unbounded_channel();
    let (begun, began) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let held = tokio::spawn(async move {
        let load = move || async move {
            begun.send(()).unwrap();
            released.await.unwrap();
            Ok(name(1))
        };
        on_a.get_or_load(&1, load).await
    });
    timeout(PATIENCE, began).await.unwrap().unwrap();
    let loads = Loads::default();
    let (users, load) = (on_b.clone(), loads.loader());
    let batch = tokio::spawn(async move {
        let load = move |ids: Vec<u64>| {
            let (loading, done) = (load(ids), done.clone());
            async move {
                let loaded = loading.await;
                done.send(()).unwrap();
                loaded
            }
        };
        users.get_or_load_many(&[1, 2], load).await
    });
    // The other key is not kept waiting, neither here nor in the fleet.
    timeout(PATIENCE, loaded.recv()).await.unwrap();
    assert_eq!(*on_b.get_or_load(&2, || async { panic!("it is loaded") }).await.unwrap(), name(2));
    release.send(()).unwrap();
    assert_eq!(ended(batch).await.unwrap(), names(&[1, 2]));
    assert_eq!(*ended(held).await.unwrap(), name(1));
    assert_eq!(loads.all(), [[2]]);
}

#[tokio::test]
async fn callers_of_the_same_batch_cost_one_load() {
    let time = ManualClock::new();
    let users: Users = in_process(&time).await.cache("users").unwrap();
    let (loads, running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let ids: Vec<u64> = (0..30).collect();
    let calls = (0..100).map(|_| {
        let (loads, running) = (Arc::clone(&loads), Arc::clone(&running));
        users.get_or_load_many(&ids, move |ids| {
            let (loads, running) = (Arc::clone(&loads), Arc::clone(&running));
            async move {
                assert!(!running.swap(true, Ordering::SeqCst));
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.store(false, Ordering::SeqCst);
                Ok::<_, CacheError>(pairs(&ids))
            }
        })
    });
    for found in join_all(calls).await {
        assert_eq!(found.unwrap(), names(&ids));
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bulk_load_counts_once_among_the_loads_that_may_run() {
    let l2 = Arc::new(DashMapCache::new());
    let system = CacheSystemBuilder::new().with_l2(l2).with_max_concurrent_loads(1).build().await.unwrap();
    let users: Users = system.cache("users").unwrap();
    let ids: Vec<u64> = (0..30).collect();
    let slow = |ids: Vec<u64>| async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Ok::<_, CacheError>(pairs(&ids))
    };
    let loads = Loads::default();
    let (first, second) = join(users.get_or_load_many(&ids, slow), users.get_or_load_many(&[30], loads.loader())).await;
    assert_eq!(first.unwrap(), names(&ids));
    let LoadError::Cache(error) = second.unwrap_err() else { panic!() };
    assert!(error.is_retryable() && loads.all().is_empty(), "{error}");
    assert_eq!(users.get_or_load_many(&[30], loads.loader()).await.unwrap(), names(&[30]));
    assert_at_rest(system.cache_manager());
}
