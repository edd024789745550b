//! Reads that fail: each is told once, whatever its verb.

use std::sync::Arc;

use multi_tier_cache::testing::{Fault, Faulty, Fleet, Loads};
use multi_tier_cache::{CacheError, CacheSystemBuilder, CallOptions, DashMapCache, Freshness, LoadError, Loaded};

use crate::common::{ended, start};
use crate::users::{TTL, failing_load, load, users};
use crate::{Watch, took};

/// The source of all loads here.
async fn away<T>() -> Result<T, CacheError> {
    Err(CacheError::NotFound)
}

#[tokio::test]
async fn a_failed_load_is_one_failed_read_whatever_the_verb() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let (cache, users) = (system.cache_manager(), users(&system, Freshness::new(TTL)));
    let (mut watch, options) = (Watch::new(cache), CallOptions::default());
    let once = [("users get error", 1), ("users load error", 1)];
    assert!(users.get_or_load(&7, away).await.is_err());
    watch.expect_events(&once);
    assert!(users.get_or_try_load(&7, away).await.is_err());
    watch.expect_events(&once);
    assert!(users.get_or_load_optional(&7, away).await.is_err());
    watch.expect_events(&once);
    assert!(users.get_or_load_scoped(&7, away).await.is_err());
    watch.expect_events(&once);
    assert!(users.fetch(&7, &options, |_| away::<Loaded<String>>()).await.is_err());
    watch.expect_events(&once);
    assert_eq!(took(cache, "get").0, 5, "each has waited");
    assert!(users.get_or_load_many(&[7, 8], |_| away::<Vec<(u64, String)>>()).await.is_err());
    watch.expect_events(&[("users get error", 2), ("users load error", 2)]);
    assert_eq!(took(cache, "get").0, 7);
}

#[tokio::test]
async fn everybody_who_waits_for_a_load_that_fails_has_failed_once() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let (users, loads) = (users(&system, Freshness::new(TTL)), Loads::new());
    let (held, mut watch) = (loads.hold(), Watch::new(system.cache_manager()));
    let mut callers = Vec::new();
    for _ in 0..3 {
        let (users, loads) = (users.clone(), loads.clone());
        callers.push(start(async move { users.get_or_load(&7, move || loads.load(away())).await }).await);
    }
    let (batch, counted) = (users.clone(), loads.clone());
    let bulk = move |_| counted.load(away::<Vec<(u64, String)>>());
    let batch = start(async move { batch.get_or_load_many(&[7], bulk).await }).await;
    loads.begun(1).await;
    held.release();
    for caller in callers {
        assert!(ended(caller).await.is_err());
    }
    assert!(ended(batch).await.is_err());
    watch.expect_events(&[("users get error", 4), ("users load error", 1)]);
}

#[tokio::test]
async fn a_call_that_cannot_be_followed_has_failed_once() {
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let users = users(&system, Freshness::new(TTL));
    let mut watch = Watch::new(system.cache_manager());
    let options = CallOptions::default().skipping(9);
    let fetched = users.fetch(&7, &options, |_| away::<Loaded<String>>()).await;
    assert!(matches!(fetched, Err(LoadError::Cache(CacheError::ConfigError(_)))));
    watch.expect_events(&[("users get error", 1)]);
}

#[tokio::test]
async fn an_outage_of_a_tier_fails_each_lookup_once_and_no_load() {
    let l2 = Faulty::new(Arc::new(DashMapCache::new()));
    let system = CacheSystemBuilder::new().with_l2(l2.clone()).build().await.unwrap();
    let users = users(&system, Freshness::new(TTL));
    let mut watch = Watch::new(system.cache_manager());
    l2.always(Fault::Fail);
    assert!(users.get(&7).await.is_err());
    watch.expect_events(&[("users get error", 1)]);
    assert!(users.contains(&7).await.is_err());
    watch.expect_events(&[("users get error", 1)]);
    assert!(users.get_many(&[7, 8, 7]).await.is_err());
    watch.expect_events(&[("users get error", 2)]);
    assert!(failing_load(&users, 7).await.is_err());
    watch.expect_events(&[("users get error", 1), ("users load error", 1)]);
    load(&users, 7).await.unwrap();
    watch.expect_events(&[("users get miss", 1), ("users load ok", 1)]);
}

#[cfg(feature = "macros")]
#[tokio::test]
async fn a_cached_function_that_fails_has_failed_once() {
    use multi_tier_cache::{CacheResult, cached};

    use crate::users::Users;

    #[cached(cache = users, key = id)]
    async fn name(users: &Users, id: u64) -> CacheResult<Arc<String>> {
        if id == 7 { Ok("Ada".to_owned()) } else { Err(CacheError::NotFound) }
    }

    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let users = users(&system, Freshness::new(TTL));
    let mut watch = Watch::new(system.cache_manager());
    assert!(name(&users, 8).await.is_err());
    watch.expect_events(&[("users get error", 1), ("users load error", 1)]);
    assert_eq!(took(system.cache_manager(), "get").0, 1);
    assert_eq!(*name(&users, 7).await.unwrap(), "Ada");
    assert_eq!(*name(&users, 7).await.unwrap(), "Ada");
    watch.expect_events(&[("users get hit", 1), ("users get miss", 1), ("users load ok", 1)]);
}
