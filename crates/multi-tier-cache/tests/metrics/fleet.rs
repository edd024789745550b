//! What instances tell of each other: the bus, leases, proof of freshness.

use std::time::Duration;

use bytes::Bytes;
use multi_tier_cache::testing::{Fleet, Loads, Stage, Step, When, followed};
use multi_tier_cache::{Cache, CacheStrategy, CacheSystem};

use crate::common::{ended, run_all, start};
use crate::{Watch, number, owned};

async fn staged(fleet: &Fleet, stage: &Stage) -> CacheSystem {
    fleet.join(fleet.builder().unwrap().with_stage(stage)).await.unwrap()
}

#[tokio::test]
async fn what_is_announced_arrives_and_is_told_by_its_kind() {
    let fleet = Fleet::new();
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    run_all().await;
    let mut watch = Watch::new(other.cache_manager());
    let cache = one.cache_manager();
    cache.invalidate("k").await.unwrap();
    cache.update_cache("k", Bytes::new(), None).await.unwrap();
    cache.remove_many(&["k", "l"]).await.unwrap();
    let last = cache.remove_pattern("k*").await.unwrap();
    assert!(followed(other.cache_manager(), last).await);
    run_all().await;
    assert_eq!(number(cache, "mtc_bus_sent_total"), 4.0);
    let changes = watch.changes("mtc_bus_");
    let expected = [
        ("changes_total bulk", 1),
        ("changes_total pattern", 1),
        ("changes_total remove", 1),
        ("changes_total update", 1),
        ("received_total", 4),
    ];
    let told: Vec<_> =
        changes.into_iter().filter(|(name, _)| name.contains("changes") || name.contains("received")).collect();
    assert_eq!(told, owned(&expected));
}

#[tokio::test]
async fn a_lost_message_is_a_gap_and_the_log_is_read() {
    let (fleet, stage) = (Fleet::new(), Stage::new());
    let (one, other) = (fleet.instance().await.unwrap(), staged(&fleet, &stage).await);
    run_all().await;
    let (cache, there) = (one.cache_manager(), other.cache_manager());
    let mut watch = Watch::new(there);
    stage.fail(Step::Poll, usize::MAX);
    stage.lose_messages(true);
    cache.invalidate("lost").await.unwrap();
    run_all().await;
    stage.lose_messages(false);
    cache.invalidate("heard").await.unwrap();
    while number(there, "mtc_bus_failed_polls_total") == 0.0 {
        tokio::task::yield_now().await;
    }
    stage.mend();
    let last = cache.remove("k").await.unwrap();
    assert!(followed(there, last).await);
    let changes = watch.changes("mtc_bus_");
    let of = |name: &str| changes.iter().find(|(changed, _)| changed == name).map_or(0, |(_, by)| *by);
    assert!(of("gaps_total") == 1 && of("failed_polls_total") >= 1, "{changes:?}");
    assert_eq!((of("resyncs_total"), of("flushes_total")), (1, 0), "{changes:?}");
}

#[tokio::test]
async fn hits_without_proof_and_the_age_of_the_proof_are_told() {
    let (fleet, stage) = (Fleet::new(), Stage::new());
    let system = staged(&fleet, &stage).await;
    let cache = system.cache_manager();
    cache.set_with_strategy("k", Bytes::from_static(b"v"), CacheStrategy::ShortTerm).await.unwrap();
    stage.fail(Step::Poll, usize::MAX);
    let proven = number(cache, "mtc_bus_proof_age_seconds");
    fleet.time().advance(Duration::from_secs(5));
    assert!(cache.get("k").await.unwrap().is_some());
    assert_eq!(number(cache, "mtc_unproven_hits_total"), 1.0);
    assert!((number(cache, "mtc_bus_proof_age_seconds") - proven - 5.0).abs() < 0.1);
}

#[tokio::test]
async fn waiting_for_the_load_of_another_instance_is_told() {
    let (fleet, loads) = (Fleet::new(), Loads::new());
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    let load = |system: &CacheSystem| {
        let (cache, loads): (Cache<u64, String>, _) = (system.cache("users").unwrap(), loads.clone());
        async move { cache.get_or_load(&7, move || loads.load(async { Ok("Ada".to_owned()) })).await }
    };
    let held = loads.hold();
    let first = start(load(&one)).await;
    loads.begun(1).await;
    let second = start(load(&other)).await;
    while number(other.cache_manager(), "mtc_lease_waits_total") == 0.0 {
        tokio::task::yield_now().await;
    }
    held.release();
    ended(first).await.unwrap();
    ended(second).await.unwrap();
    assert_eq!(loads.count(), 1);
    assert_eq!(number(one.cache_manager(), "mtc_lease_waits_total"), 0.0);
}

#[tokio::test]
async fn a_load_that_was_overtaken_by_a_removal_is_a_refused_fill() {
    let (fleet, stage) = (Fleet::new(), Stage::new());
    let (one, other) = (staged(&fleet, &stage).await, fleet.instance().await.unwrap());
    let mut fill = stage.hold(Step::Fill, When::Before);
    let cache = one.cache_manager().clone();
    let load = || async { Ok(Bytes::from_static(b"old")) };
    let loading = start(async move { cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await }).await;
    fill.reached().await;
    other.cache_manager().invalidate("k").await.unwrap();
    fill.release();
    ended(loading).await.unwrap();
    assert_eq!(number(one.cache_manager(), "mtc_refused_fills_total coordinator"), 1.0);
}

#[tokio::test]
async fn an_invalidation_that_failed_is_pending_until_it_is_made_up_for() {
    let (fleet, stage) = (Fleet::new(), Stage::new());
    let system = staged(&fleet, &stage).await;
    let cache = system.cache_manager();
    stage.fail(Step::Revoke, usize::MAX);
    assert!(cache.invalidate("k").await.is_err());
    assert_eq!(number(cache, "mtc_pending_invalidations"), 1.0);
    stage.mend();
    let made_up = async {
        while number(cache, "mtc_pending_invalidations") > 0.0 {
            fleet.time().advance(Duration::from_millis(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), made_up).await.unwrap();
}
