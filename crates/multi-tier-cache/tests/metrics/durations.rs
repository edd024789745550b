//! How long calls took: each that waited once, and no work that nobody waits for.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::testing::{Fault, Fleet, Loads, ManualClock};
use multi_tier_cache::{CacheError, CacheSystem, CacheSystemBuilder, DashMapCache, Freshness, defaults};

use crate::common::{ended, over_faulty, run_all, start};
use crate::users::{TTL, Users, alone, failing_load, load, users};
use crate::{Watch, number, owned, took};

const SOFT: Duration = Duration::from_millis(50);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Loads a value for every key, which takes so long.
async fn load_all(users: &Users, keys: &[u64], time: &ManualClock, takes: Duration) {
    let time = time.clone();
    let bulk = move |keys: Vec<u64>| {
        let time = time.clone();
        async move {
            // All keys have begun to wait.
            tokio::task::yield_now().await;
            time.advance(takes);
            Ok::<_, CacheError>(keys.into_iter().map(|key| (key, "Ada".to_owned())).collect::<Vec<_>>())
        }
    };
    users.get_or_load_many(keys, bulk).await.unwrap();
}

/// An instance over a map that it shares with others, all in this process.
async fn over_map(time: &ManualClock, shared: &Arc<DashMapCache>) -> CacheSystem {
    let l1 = QuickCacheBackend::new(100).unwrap().with_clock(time.clock());
    let builder = CacheSystemBuilder::new().with_clock(time.clock()).with_l1(Arc::new(l1));
    builder.with_l2(Arc::clone(shared) as _).build().await.unwrap()
}

#[tokio::test]
async fn a_refresh_takes_nobodys_time_and_neither_does_a_stale_hit_in_process() {
    let fleet = Fleet::new();
    let system = alone(&fleet).await;
    let (cache, users) = (system.cache_manager(), users(&system, Freshness::new(TTL).with_stale_while_revalidate(TTL)));
    load(&users, 7).await.unwrap();
    fleet.time().advance(TTL);
    assert_eq!((took(cache, "get").0, took(cache, "load").0), (1, 1));
    let time = fleet.time().clone();
    let slow = move || async move {
        time.advance(seconds(2));
        Ok("Grace".to_owned())
    };
    users.get_or_load(&7, slow).await.unwrap();
    run_all().await;
    assert_eq!((took(cache, "get"), took(cache, "load")), ((1, 0.0), (2, 2.0)));
    fleet.time().advance(TTL);
    load_all(&users, &[7], fleet.time(), seconds(3)).await;
    run_all().await;
    assert_eq!((took(cache, "get"), took(cache, "load")), ((1, 0.0), (3, 5.0)), "of a batch");
}

#[tokio::test]
async fn a_fallback_in_process_takes_time_only_if_a_load_was_tried() {
    let fleet = Fleet::new();
    let system = alone(&fleet).await;
    let (cache, users) = (system.cache_manager(), users(&system, Freshness::new(TTL).with_stale_if_error(TTL)));
    load(&users, 7).await.unwrap();
    fleet.time().advance(TTL);
    let mut watch = Watch::new(cache);
    failing_load(&users, 7).await.unwrap();
    watch.expect_events(&[("users get fallback", 1), ("users load error", 1)]);
    assert_eq!(took(cache, "get").0, 2);
    failing_load(&users, 7).await.unwrap();
    watch.expect_events(&[("users get fallback", 1)]);
    assert_eq!(took(cache, "get").0, 2, "in the pause after the failure");
}

#[tokio::test(start_paused = true)]
async fn a_caller_answered_at_a_soft_deadline_took_its_own_time_and_the_load_that_goes_on_adds_none() {
    let fleet = Fleet::new();
    let system = alone(&fleet).await;
    let freshness = Freshness::new(TTL).with_stale_if_error(3 * TTL).with_load_deadlines(Some(SOFT), None);
    let (cache, users, loads) = (system.cache_manager(), users(&system, freshness), Loads::new());
    load(&users, 7).await.unwrap();
    fleet.time().advance(TTL);
    let mut watch = Watch::new(cache);
    let (held, time, counted) = (loads.hold(), fleet.time().clone(), loads.clone());
    let slow = move || {
        time.advance(seconds(3));
        counted.load(async { Ok("Grace".to_owned()) })
    };
    assert_eq!(*users.get_or_load(&7, slow).await.unwrap(), "Ada");
    watch.expect_events(&[("users get fallback", 1)]);
    assert_eq!(took(cache, "get"), (2, 3.0));
    fleet.time().advance(seconds(10));
    held.release();
    loads.ended(1).await;
    run_all().await;
    watch.expect_events(&[("users load ok", 1)]);
    assert_eq!((took(cache, "get"), took(cache, "load")), ((2, 3.0), (2, 13.0)));
}

#[tokio::test(start_paused = true)]
async fn each_key_of_a_batch_answered_at_a_soft_deadline_took_the_time_of_its_caller() {
    let fleet = Fleet::new();
    let system = alone(&fleet).await;
    let freshness = Freshness::new(TTL).with_stale_if_error(3 * TTL).with_load_deadlines(Some(SOFT), None);
    let (cache, users, loads) = (system.cache_manager(), users(&system, freshness), Loads::new());
    load_all(&users, &[1, 2], fleet.time(), seconds(0)).await;
    fleet.time().advance(TTL);
    let mut watch = Watch::new(cache);
    let (held, time, counted) = (loads.hold(), fleet.time().clone(), loads.clone());
    let slow = move |keys: Vec<u64>| {
        time.advance(seconds(3));
        let pairs: Vec<_> = keys.into_iter().map(|key| (key, "Grace".to_owned())).collect();
        counted.load(async { Ok::<_, CacheError>(pairs) })
    };
    users.get_or_load_many(&[1, 2], slow).await.unwrap();
    watch.expect_events(&[("users get fallback", 2)]);
    assert_eq!(took(cache, "get"), (4, 6.0));
    held.release();
    loads.ended(1).await;
    run_all().await;
    watch.expect_events(&[("users load ok", 2)]);
    assert_eq!(took(cache, "get"), (4, 6.0));
}

#[tokio::test]
async fn a_batch_takes_the_time_of_each_key_that_waited() {
    let fleet = Fleet::new();
    let (system, other) = (alone(&fleet).await, alone(&fleet).await);
    let (cache, users, there) =
        (system.cache_manager(), users(&system, Freshness::new(TTL)), users(&other, Freshness::new(TTL)));
    load(&there, 3).await.unwrap();
    load(&users, 1).await.unwrap();
    assert_eq!(took(cache, "get"), (1, 0.0));
    let found = users.get_many(&[1, 2, 3, 1]).await.unwrap();
    assert_eq!(found.iter().filter(|value| value.is_some()).count(), 3);
    assert_eq!(took(cache, "get"), (3, 0.0), "a miss and a hit of the shared tier");
    load_all(&users, &[1, 3, 4, 5], fleet.time(), seconds(2)).await;
    assert_eq!((took(cache, "get"), took(cache, "load")), ((5, 4.0), (3, 4.0)));
    users.get_many(&[1, 3, 4, 5]).await.unwrap();
    assert_eq!(took(cache, "get").0, 5, "hits in process wait for nothing");
}

#[tokio::test]
async fn a_batch_over_tiers_in_process_waits_for_nothing() {
    let time = ManualClock::new();
    let system = over_map(&time, &Arc::new(DashMapCache::new().with_clock(time.clock()))).await;
    let (cache, users) = (system.cache_manager(), users(&system, Freshness::new(TTL)));
    users.insert(&1, "Ada".to_owned()).await.unwrap();
    users.get_many(&[1, 2]).await.unwrap();
    users.get(&2).await.unwrap();
    assert_eq!(took(cache, "get").0, 0);
}

#[tokio::test]
async fn what_failed_took_time_too() {
    let time = ManualClock::new();
    let (system, l2) = over_faulty(&time).await;
    let (cache, users) = (Arc::clone(system.cache_manager()), users(&system, Freshness::new(TTL)));
    for (reads, expected) in [(&[7][..], (1, 2.0)), (&[8, 9][..], (3, 6.0))] {
        l2.always(Fault::Hang);
        let (before, users) = (l2.operations(), users.clone());
        let reading = start(async move { users.get_many(reads).await }).await;
        l2.arrived(before + 1).await;
        time.advance(seconds(2));
        l2.always(Fault::Fail);
        assert!(ended(reading).await.is_err());
        l2.always(Fault::None);
        // Another read finds it well again.
        time.advance(defaults::BREAKER_WINDOW);
        cache.get("k").await.unwrap();
        assert_eq!(took(&cache, "get"), expected);
    }
}

/// A caller waits for the load of another, which takes too long, and knows of no older value; meanwhile another
/// instance stores a new one.
#[tokio::test(start_paused = true)]
async fn a_fresh_value_found_at_a_soft_deadline_is_a_hit() {
    let time = ManualClock::new();
    let shared = Arc::new(DashMapCache::new().with_clock(time.clock()));
    let (system, other) = (over_map(&time, &shared).await, over_map(&time, &shared).await);
    let cache = system.cache_manager();
    let (patient, there) = (users(&system, Freshness::new(TTL)), users(&other, Freshness::new(TTL)));
    let hasty = users(&system, Freshness::new(TTL).with_load_deadlines(Some(SOFT), None));
    let (loads, mut watch) = (Loads::new(), Watch::new(cache));
    let (held, counted) = (loads.hold(), loads.clone());
    let slow = move || counted.load(async { Ok("Ada".to_owned()) });
    let leader = start(async move { patient.get_or_load(&7, slow).await }).await;
    loads.begun(1).await;
    let waiting = start(async move { load(&hasty, 7).await }).await;
    there.insert(&7, "Grace".to_owned()).await.unwrap();
    time.advance(seconds(2));
    tokio::time::advance(SOFT + Duration::from_millis(1)).await;
    assert_eq!(*ended(waiting).await.unwrap(), "Grace");
    watch.expect_events(&[("users get hit", 1)]);
    assert_eq!(took(cache, "get"), (1, 2.0));
    let stale: Vec<_> = watch.changes("mtc_stale_answers_total users");
    assert_eq!(stale, owned(&[]));
    held.release();
    ended(leader).await.unwrap();
    assert_eq!(number(cache, "mtc_stale_answers_total users load_slow"), 0.0);
}
