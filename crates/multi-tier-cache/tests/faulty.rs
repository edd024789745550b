//! The faults of the test kit, and what a cache makes of them.
#![cfg(feature = "test-util")]

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::testing::{Fault, Faulty};
use multi_tier_cache::{Bytes, Cache, CacheBackend, CacheError, CacheSystemBuilder, DashMapCache};

const TTL: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_script_is_followed_then_what_is_always_done() {
    let store = Arc::new(DashMapCache::new());
    let tier = Faulty::new(Arc::clone(&store) as _);
    tier.script([Fault::Fail, Fault::LoseAnswer]);
    let set = || tier.set_with_ttl("k", Bytes::from_static(b"v"), TTL);
    assert!(set().await.is_err() && store.is_empty());
    assert!(set().await.is_err() && store.len() == 1);
    assert_eq!(tier.try_get("k").await.unwrap().unwrap(), "v");
    tier.always(Fault::Fail);
    assert!(tier.try_get("k").await.unwrap_err().is_retryable());
    assert_eq!((tier.get("k").await, tier.health_check().await), (None, false));
    assert_eq!(tier.operations(), 6);
}

#[tokio::test]
async fn what_hangs_goes_on_when_it_is_told() {
    let tier = Faulty::new(Arc::new(DashMapCache::new()));
    tier.always(Fault::Hang);
    let hanging = tokio::spawn({
        let tier = Arc::clone(&tier);
        async move { tier.try_get("k").await }
    });
    tier.arrived(1).await;
    assert!(!hanging.is_finished());
    tier.always(Fault::None);
    assert_eq!(hanging.await.unwrap().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_hung_tier_costs_a_read_its_budget_and_no_more() {
    let tier = Faulty::new(Arc::new(DashMapCache::new()));
    let system = CacheSystemBuilder::new().with_l2(tier.clone()).build().await.unwrap();
    let numbers: Cache<u8, u8> = system.cache("numbers").unwrap();
    tier.always(Fault::Hang);
    let began = tokio::time::Instant::now();
    assert_eq!(*numbers.get_or_load(&1, || async { Ok(2) }).await.unwrap(), 2);
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(matches!(numbers.get(&2).await, Err(CacheError::BackendError(_))));
}
