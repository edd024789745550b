//! What reads, loads and refreshes come to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use multi_tier_cache::telemetry::names;
use multi_tier_cache::testing::{Fault, Faulty, Fleet, Loads};
use multi_tier_cache::{
    Cache, CacheError, CacheManager, CacheResult, CacheStrategy, CallOptions, DashMapCache, EarlyRefresh, Freshness,
    LoadError, Loaded,
};

use crate::common::{ended, run_all, start};
use crate::users::{TTL, alone, failing_load, load, users};
use crate::{Watch, histogram, number, owned, took};

async fn compute(cache: &CacheManager, key: &str) -> CacheResult<Bytes> {
    let load = || async { Ok(Bytes::from_static(b"value")) };
    cache.get_or_compute_with(key, CacheStrategy::Custom(TTL), load).await
}

#[tokio::test]
async fn each_verb_on_bytes_tells_what_it_did_once() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let cache = system.cache_manager();
    let mut watch = Watch::new(cache);
    cache.get("k").await.unwrap();
    watch.expect_events(&[("bytes get miss", 1)]);
    compute(cache, "k").await.unwrap();
    watch.expect_events(&[("bytes get miss", 1), ("bytes load ok", 1)]);
    compute(cache, "k").await.unwrap();
    cache.get("k").await.unwrap();
    watch.expect_events(&[("bytes get hit", 2)]);
    fleet.time().advance(TTL);
    compute(cache, "k").await.unwrap();
    watch.expect_events(&[("bytes get expired", 1), ("bytes get miss", 1), ("bytes load ok", 1)]);
    cache.update_cache("k", Bytes::from_static(b"new"), None).await.unwrap();
    watch.expect_events(&[("bytes put inserted", 1)]);
    cache.invalidate("k").await.unwrap();
    cache.remove_many(&["k", "l", "m"]).await.unwrap();
    watch.expect_events(&[("bytes remove invalidated", 4)]);
    let failed = cache.get_or_compute_with("k", CacheStrategy::RealTime, || async { panic!("the loader panics") });
    assert!(failed.await.is_err());
    watch.expect_events(&[("bytes get miss", 1), ("bytes load error", 1)]);
}

#[tokio::test]
async fn each_verb_of_a_typed_cache_tells_what_it_did_once() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let users = users(&system, Freshness::new(TTL));
    let mut watch = Watch::new(system.cache_manager());
    assert!(users.get(&7).await.unwrap().is_none());
    watch.expect_events(&[("users get miss", 1)]);
    load(&users, 7).await.unwrap();
    watch.expect_events(&[("users get miss", 1), ("users load ok", 1)]);
    load(&users, 7).await.unwrap();
    users.get(&7).await.unwrap();
    assert_eq!(users.get_many(&[7, 8]).await.unwrap().len(), 2);
    watch.expect_events(&[("users get hit", 3), ("users get miss", 1)]);
    fleet.time().advance(TTL);
    assert!(failing_load(&users, 7).await.is_err());
    watch.expect_events(&[("users get error", 1), ("users get expired", 1), ("users load error", 1)]);
    users.insert(&7, "Grace".to_owned()).await.unwrap();
    users.insert_many([(&8, "Alan".to_owned()), (&9, "Edsger".to_owned())]).await.unwrap();
    users.remove(&7).await.unwrap();
    users.remove_many(&[8, 9]).await.unwrap();
    watch.expect_events(&[("users put inserted", 3), ("users remove invalidated", 3)]);
}

#[tokio::test]
async fn a_stale_answer_has_a_reason() {
    let fleet = Fleet::new();
    let system = alone(&fleet).await;
    let freshness = Freshness::new(TTL)
        .with_stale_while_revalidate(TTL)
        .with_stale_if_error(3 * TTL)
        .with_load_deadlines(Some(Duration::from_millis(1)), None);
    let users = users(&system, freshness);
    let cache = system.cache_manager();
    load(&users, 7).await.unwrap();
    fleet.time().advance(TTL);
    let mut watch = Watch::new(cache);
    load(&users, 7).await.unwrap();
    run_all().await;
    watch.expect_events(&[("users get hit", 1), ("users load ok", 1), ("users refresh refresh_hit", 1)]);
    assert_eq!(stale(cache), owned(&[("revalidating", 1)]));
    fleet.time().advance(2 * TTL);
    failing_load(&users, 7).await.unwrap();
    failing_load(&users, 7).await.unwrap();
    watch.expect_events(&[("users get fallback", 2), ("users load error", 1)]);
    assert_eq!(stale(cache), owned(&[("load_failed", 1), ("revalidating", 1), ("throttled", 1)]));
    fleet.time().advance(Duration::from_secs(10));
    let (loads, slow) = (Loads::new(), users.clone());
    let held = loads.hold();
    let counted = loads.clone();
    let load = move || counted.load(async { Ok("Grace".to_owned()) });
    assert_eq!(*slow.get_or_load(&7, load).await.unwrap(), "Ada");
    watch.expect_events(&[("users get fallback", 1)]);
    assert_eq!(stale(cache), owned(&[("load_failed", 1), ("load_slow", 1), ("revalidating", 1), ("throttled", 1)]));
    held.release();
    loads.ended(1).await;
    run_all().await;
    watch.expect_events(&[("users load ok", 1)]);
}

/// The stale answers so far, by reason.
fn stale(cache: &CacheManager) -> Vec<(String, i64)> {
    let mut since_ever = Watch { cache, before: std::collections::BTreeMap::default() };
    since_ever.changes("mtc_stale_answers_total users")
}

#[tokio::test]
async fn refreshes_tell_whether_they_brought_a_value() {
    let fleet = Fleet::new();
    let system = alone(&fleet).await;
    let early = EarlyRefresh::At(0.5);
    let users = users(&system, Freshness::new(TTL).with_early_refresh(early));
    load(&users, 7).await.unwrap();
    fleet.time().advance(TTL * 3 / 4);
    let mut watch = Watch::new(system.cache_manager());
    failing_load(&users, 7).await.unwrap();
    run_all().await;
    watch.expect_events(&[("users get hit", 1), ("users load error", 1), ("users refresh refresh_miss", 1)]);
    let cache = system.cache_manager();
    assert_eq!(
        (number(cache, "mtc_refreshes_started_total users"), number(cache, "mtc_loads_started_total users")),
        (1.0, 2.0)
    );
}

#[tokio::test]
async fn callers_that_wait_for_one_load_are_coalesced() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let (users, loads) = (users(&system, Freshness::new(TTL)), Loads::new());
    let cache = system.cache_manager();
    let held = loads.hold();
    let mut callers = Vec::new();
    for _ in 0..10 {
        let (users, loads) = (users.clone(), loads.clone());
        let load = move || loads.load(async { Ok("Ada".to_owned()) });
        callers.push(start(async move { users.get_or_load(&7, load).await }).await);
    }
    loads.begun(1).await;
    assert_eq!((number(cache, "mtc_loads_running"), number(cache, "mtc_in_flight_keys")), (1.0, 1.0));
    fleet.time().advance(Duration::from_secs(2));
    held.release();
    for caller in callers {
        ended(caller).await.unwrap();
    }
    assert_eq!((number(cache, "mtc_coalesced_total"), number(cache, "mtc_loads_running")), (9.0, 0.0));
    assert_eq!((took(cache, "load"), took(cache, "get")), ((1, 2.0), (10, 20.0)));
}

#[tokio::test]
async fn a_copy_made_above_is_a_promotion_of_its_cache() {
    let fleet = Fleet::new();
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    load(&users(&one, Freshness::new(TTL)), 7).await.unwrap();
    compute(one.cache_manager(), "k").await.unwrap();
    let cache = other.cache_manager();
    let there = users(&other, Freshness::new(TTL));
    let mut watch = Watch::new(cache);
    there.get(&7).await.unwrap();
    cache.get("k").await.unwrap();
    watch.expect_events(&[
        ("bytes get hit", 1),
        ("bytes get promotion", 1),
        ("users get hit", 1),
        ("users get promotion", 1),
    ]);
    assert_eq!((number(cache, "mtc_promotions_total"), cache.get_stats().promotions), (2.0, 2));
    assert_eq!(
        (number(cache, "mtc_tier_hits_total L1 QuickCache"), number(cache, "mtc_tier_hits_total L2 Hub")),
        (0.0, 2.0)
    );
}

#[tokio::test]
async fn the_age_of_a_hit_counts_from_its_load_wherever_it_was_made() {
    let fleet = Fleet::new();
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    load(&users(&one, Freshness::new(TTL)), 7).await.unwrap();
    fleet.time().advance(Duration::from_secs(30));
    let there = users(&other, Freshness::new(TTL));
    for _ in 0..2 {
        // The first is a hit of the shared tier, the second one in process.
        there.get(&7).await.unwrap();
    }
    let (count, sum) = histogram(other.cache_manager(), &names::HIT_AGE, &[("cache", "users")]);
    assert_eq!(count, 2);
    assert!((sum - 60.0).abs() < 0.1, "{sum}");
}

#[tokio::test]
async fn what_is_not_modified_or_of_another_type_is_told() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let cache = system.cache_manager();
    let users = users(&system, Freshness::new(TTL).with_stale_if_error(TTL));
    load(&users, 7).await.unwrap();
    fleet.time().advance(TTL);
    let unchanged = |_| async { Ok::<_, CacheError>(Loaded::not_modified()) };
    let fetched: Result<_, LoadError<CacheError>> = users.fetch(&7, &CallOptions::default(), unchanged).await;
    assert!(fetched.is_ok());
    assert_eq!(number(cache, "mtc_loads_not_modified_total users"), 1.0);
    let numbers: Cache<u64, u64> = system.cache("users").unwrap();
    assert_eq!(numbers.get(&7).await.unwrap(), None);
    assert!(number(cache, "mtc_entries_rejected_total users") >= 1.0);
}

#[tokio::test]
async fn handles_of_one_name_are_added_up_and_what_they_counted_stays() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let mut watch = Watch::new(system.cache_manager());
    for round in 0..5 {
        let users = users(&system, Freshness::new(TTL));
        load(&users, round).await.unwrap();
        users.get(&round).await.unwrap();
    }
    watch.expect_events(&[("users get hit", 5), ("users get miss", 5), ("users load ok", 5)]);
    assert_eq!(system.cache_manager().get_stats().l1_hits, 5);
}

#[tokio::test]
async fn a_read_that_no_tier_could_answer_is_an_error() {
    let l2 = Faulty::new(Arc::new(DashMapCache::new()));
    let system = multi_tier_cache::CacheSystemBuilder::new().with_l2(l2.clone()).build().await.unwrap();
    let users = users(&system, Freshness::new(TTL));
    let mut watch = Watch::new(system.cache_manager());
    l2.always(Fault::Fail);
    assert!(system.cache_manager().get("k").await.is_err() && users.get(&7).await.is_err());
    assert!(users.get_many(&[7, 8]).await.is_err());
    watch.expect_events(&[("bytes get error", 1), ("users get error", 3)]);
    assert!(users.remove(&7).await.is_err());
    watch.expect_events(&[("users remove error", 1)]);
}

/// By the machine's clock a few hits are taken now and then; one that is moved by hand would show by chance only.
#[tokio::test]
async fn every_hit_tells_its_age_where_time_is_moved_by_hand() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let users = users(&system, Freshness::new(TTL));
    load(&users, 7).await.unwrap();
    for _ in 0..200 {
        users.get(&7).await.unwrap();
    }
    let ages = histogram(system.cache_manager(), &names::HIT_AGE, &[("cache", "users")]);
    assert_eq!(ages, (200, 0.0));
}

#[tokio::test]
async fn a_key_that_is_named_several_times_is_removed_once() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let (cache, users) = (system.cache_manager(), users(&system, Freshness::new(TTL)));
    let mut watch = Watch::new(cache);
    cache.remove_many(&["k", "k", "k"]).await.unwrap();
    watch.expect_events(&[("bytes remove invalidated", 1)]);
    cache.remove_many(&["k", "l", "k"]).await.unwrap();
    watch.expect_events(&[("bytes remove invalidated", 2)]);
    users.remove_many(&[7, 7, 7]).await.unwrap();
    watch.expect_events(&[("users remove invalidated", 1)]);
}
