//! The test kit for users: a fleet in one process, loads that are counted and held, where a key is.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::time::Duration;

use common::{ended, start};
use multi_tier_cache::testing::{Fault, Faulty, Fleet, Loads, followed, levels_with, levels_with_key};
use multi_tier_cache::{Arc, Cache, CacheStrategy, CacheSystem, DashMapCache};

type Names = Cache<u64, String>;

fn names(system: &CacheSystem) -> Names {
    system.cache_builder("names").tags(["names"]).build().unwrap()
}

#[tokio::test]
async fn instances_of_a_fleet_hear_of_each_other_and_share_its_clock() {
    let (fleet, loads) = (Fleet::new(), Loads::new());
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    let (here, there) = (names(&one), names(&other));
    for cache in [&here, &there] {
        let loads = loads.clone();
        let name = cache.get_or_load(&7, move || loads.load(async { Ok("Ada".to_owned()) })).await.unwrap();
        assert_eq!(*name, "Ada");
    }
    assert_eq!((loads.count(), levels_with(&there, &7).await.unwrap()), (1, vec![1, 2]));
    for round in 0..3 {
        let position = match round {
            0 => here.insert(&7, "Grace".to_owned()).await,
            1 => here.remove_tag("names").await,
            _ => here.remove(&7).await,
        };
        assert!(followed(other.cache_manager(), position.unwrap()).await, "{round}");
        let expected: &[usize] = if round == 0 { &[2] } else { &[] };
        assert_eq!(levels_with(&there, &7).await.unwrap(), expected, "{round}");
    }
    here.insert(&7, "Ada".to_owned()).await.unwrap();
    fleet.time().advance(Duration::from_secs(300));
    assert_eq!(there.get(&7).await.unwrap(), None);
}

#[tokio::test]
async fn an_instance_that_hears_of_its_own_change_keeps_what_it_has_stored_since() {
    let fleet = Fleet::new();
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    let (here, there) = (names(&one), names(&other));
    for round in 0..20 {
        let position = here.insert(&7, format!("Ada {round}")).await.unwrap();
        assert!(followed(one.cache_manager(), position).await && followed(other.cache_manager(), position).await);
        assert_eq!(levels_with(&here, &7).await.unwrap(), [1, 2], "{round}");
        assert_eq!(levels_with(&there, &7).await.unwrap(), [2]);
        let removed = here.remove(&7).await.unwrap();
        here.get_or_load(&7, || async { Ok("Grace".to_owned()) }).await.unwrap();
        assert!(followed(one.cache_manager(), removed).await);
        assert_eq!(levels_with(&here, &7).await.unwrap(), [1, 2]);
        // What another has changed is dropped, whoever wrote last.
        let changed = there.insert(&7, "Alan".to_owned()).await.unwrap();
        assert!(followed(one.cache_manager(), changed).await);
        assert_eq!(levels_with(&here, &7).await.unwrap(), [2]);
    }
}

#[tokio::test]
async fn where_a_key_is_can_be_asked_without_a_trace() {
    let fleet = Fleet::new();
    let below = Faulty::new(Arc::new(DashMapCache::new().with_clock(fleet.time().clock())));
    let system = fleet.join(fleet.builder().unwrap().with_l3(below.clone())).await.unwrap();
    let cache = system.cache_manager();
    // A tier of its own forgets, in the background, what was there before the instance joined.
    common::run_all().await;
    assert!(levels_with_key(cache, "k").await.unwrap().is_empty());
    cache.set_with_strategy("k", "v".into(), CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(levels_with_key(cache, "k").await.unwrap(), [1, 2, 3]);
    let stats = cache.get_stats();
    assert_eq!((stats.total_requests, stats.promotions), (0, 0));
    below.always(Fault::Fail);
    assert!(levels_with_key(cache, "k").await.is_err(), "what cannot be told is no answer");
}

#[tokio::test]
async fn loads_are_held_and_let_go() {
    let (fleet, loads) = (Fleet::new(), Loads::new());
    let cache = names(&fleet.instance().await.unwrap());
    let load = |id: u64| {
        let (cache, loads) = (cache.clone(), loads.clone());
        async move { cache.get_or_load(&id, move || loads.load(async move { Ok(format!("name {id}")) })).await.unwrap() }
    };
    let held = loads.hold();
    let (one, other) = (start(load(1)).await, start(load(2)).await);
    loads.begun(2).await;
    assert!(!one.is_finished() && !other.is_finished());
    drop(held);
    assert_eq!((&**ended(one).await, &**ended(other).await), ("name 1", "name 2"));
    loads.ended(2).await;
    assert_eq!(*load(3).await, "name 3");
    assert_eq!(loads.count(), 3);
}

#[tokio::test]
async fn a_position_without_a_bus_cannot_be_told() {
    let fleet = Fleet::new();
    let position = names(&fleet.instance().await.unwrap()).remove(&7).await.unwrap();
    let alone = fleet.builder().unwrap().without_invalidation().build().await.unwrap();
    assert!(!followed(alone.cache_manager(), position).await);
    assert!(followed(alone.cache_manager(), None).await);
}
