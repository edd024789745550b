//! What refreshes in the background bring, and who counts as having waited for another.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::testing::{Fleet, Loads};
use multi_tier_cache::{CacheError, CacheSystemBuilder, Freshness};

use crate::common::{Op, Scripted, When, ended, run_all, start};
use crate::users::{TTL, alone, load, users};
use crate::{Watch, number};

#[tokio::test]
async fn a_refresh_that_finds_what_another_instance_loaded_has_brought_a_value() {
    let fleet = Fleet::new();
    let (system, other) = (alone(&fleet).await, alone(&fleet).await);
    let freshness = Freshness::new(TTL).with_stale_while_revalidate(TTL);
    let (cache, users, there) = (system.cache_manager(), users(&system, freshness), users(&other, freshness));
    load(&users, 7).await.unwrap();
    users.get_or_load_many(&[8], |_| async { Ok::<_, CacheError>([(8, "Alan".to_owned())]) }).await.unwrap();
    fleet.time().advance(TTL);
    there.insert(&7, "Grace".to_owned()).await.unwrap();
    there.insert(&8, "Edsger".to_owned()).await.unwrap();
    let mut watch = Watch::new(cache);
    assert_eq!(*load(&users, 7).await.unwrap(), "Ada");
    run_all().await;
    watch.expect_events(&[("users get hit", 1), ("users get promotion", 1), ("users refresh refresh_hit", 1)]);
    let unasked = |_| async { Err::<Vec<(u64, String)>, _>(CacheError::NotFound) };
    users.get_or_load_many(&[8], unasked).await.unwrap();
    run_all().await;
    watch.expect_events(&[("users get hit", 1), ("users get promotion", 1), ("users refresh refresh_hit", 1)]);
    assert_eq!(**users.get(&7).await.unwrap().as_ref().unwrap(), "Grace");
    assert_eq!(number(cache, "mtc_loads_started_total users"), 2.0);
}

/// Two handles of one cache have refreshes of their own.
#[tokio::test]
async fn a_refresh_that_waits_for_another_is_no_request() {
    let fleet = Fleet::new();
    let system = alone(&fleet).await;
    let freshness = Freshness::new(TTL).with_stale_while_revalidate(TTL);
    let (cache, users, again) = (system.cache_manager(), users(&system, freshness), users(&system, freshness));
    load(&users, 7).await.unwrap();
    fleet.time().advance(TTL);
    let (mut watch, loads) = (Watch::new(cache), Loads::new());
    let held = loads.hold();
    for users in [&users, &again] {
        let counted = loads.clone();
        users.get_or_load(&7, move || counted.load(async { Ok("Grace".to_owned()) })).await.unwrap();
        run_all().await;
    }
    held.release();
    loads.ended(1).await;
    run_all().await;
    assert_eq!(loads.count(), 1, "the second refresh has waited for the first");
    watch.expect_events(&[("users get hit", 2), ("users load ok", 1), ("users refresh refresh_hit", 2)]);
    assert_eq!(number(cache, "mtc_coalesced_total"), 0.0);
}

/// A caller that follows a load looks at its soft deadline for an older value, and meets a lookup under way.
#[tokio::test(start_paused = true)]
async fn a_caller_that_looks_around_while_it_waits_has_waited_once() {
    let l2 = Scripted::new("L2");
    let system = CacheSystemBuilder::new().with_l2(Arc::clone(&l2) as _).build().await.unwrap();
    let (cache, loads, soft) = (system.cache_manager(), Loads::new(), Duration::from_millis(50));
    let hasty = users(&system, Freshness::new(TTL).with_load_deadlines(Some(soft), None));
    let users = users(&system, Freshness::new(TTL));
    let (held, counted, patient) = (loads.hold(), loads.clone(), users.clone());
    let slow = move || counted.load(async { Ok("Ada".to_owned()) });
    let leader = start(async move { patient.get_or_load(&7, slow).await }).await;
    loads.begun(1).await;
    let mut lookup = l2.hold(Op::Get, When::Before);
    let getter = start(async move { users.get(&7).await }).await;
    lookup.reached().await;
    let follower = start(async move { load(&hasty, 7).await }).await;
    tokio::time::advance(soft + Duration::from_millis(1)).await;
    run_all().await;
    lookup.release();
    assert_eq!(ended(getter).await.unwrap(), None);
    assert!(!follower.is_finished(), "there was no older value");
    assert_eq!(number(cache, "mtc_coalesced_total"), 0.0, "the look was not the request");
    held.release();
    ended(leader).await.unwrap();
    ended(follower).await.unwrap();
    assert_eq!((number(cache, "mtc_coalesced_total"), loads.count()), (1.0, 1));
}

#[tokio::test]
async fn each_key_of_a_batch_that_another_call_loads_was_waited_for_once() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let (cache, users, loads) = (system.cache_manager(), users(&system, Freshness::new(TTL)), Loads::new());
    let held = loads.hold();
    let mut callers = Vec::new();
    for _ in 0..3 {
        let (users, loads) = (users.clone(), loads.clone());
        let bulk = move |keys: Vec<u64>| {
            let pairs: Vec<_> = keys.into_iter().map(|key| (key, "Ada".to_owned())).collect();
            loads.load(async { Ok::<_, CacheError>(pairs) })
        };
        callers.push(start(async move { users.get_or_load_many(&[1, 2], bulk).await }).await);
    }
    loads.begun(1).await;
    held.release();
    for caller in callers {
        ended(caller).await.unwrap();
    }
    assert_eq!((number(cache, "mtc_coalesced_total"), loads.count()), (4.0, 1));
}
