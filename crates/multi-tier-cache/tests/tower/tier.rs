//! A service as a tier.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Duration;

use multi_tier_cache::backends::{QuickCacheBackend, ServiceTier, StoreReply, StoreRequest, StoreService};
use multi_tier_cache::testing::{Fault, Faulty};
use multi_tier_cache::{
    Arc, Bytes, Cache, CacheBackend, CacheError, CacheSystem, CacheSystemBuilder, Capabilities, DashMapCache,
    L2CacheBackend, TierConfig,
};
use tokio::sync::watch;
use tower::retry::Policy;
use tower::{BoxError, ServiceBuilder, service_fn};

use super::Gate;

/// So many further attempts.
#[derive(Clone)]
struct Attempts(usize);

impl<E> Policy<StoreRequest, StoreReply, E> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut StoreRequest, outcome: &mut Result<StoreReply, E>) -> Option<Ready<()>> {
        let again = outcome.is_err() && self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &StoreRequest) -> Option<StoreRequest> {
        Some(request.clone())
    }
}

fn faulty() -> Arc<Faulty> {
    Faulty::new(Arc::new(DashMapCache::new()))
}

/// A system with this tier below an L1.
async fn over(tier: impl L2CacheBackend + 'static) -> CacheSystem {
    let l1 = Arc::new(QuickCacheBackend::new(100).unwrap());
    let builder = CacheSystemBuilder::new().with_tier(l1, TierConfig::as_l1());
    builder.with_tier(Arc::new(tier), TierConfig::as_l2()).build().await.unwrap()
}

#[tokio::test]
async fn retries_hide_the_failures_of_a_store() {
    let store = faulty();
    let service = ServiceBuilder::new().retry(Attempts(2)).service(StoreService::new(store.clone()));
    let system = over(ServiceTier::new("Retried", service)).await;
    let cache = system.cache_manager();
    store.script([Fault::Fail, Fault::Fail]);
    assert_eq!(cache.get("k").await.unwrap(), None);
    store.script([Fault::Fail, Fault::LoseAnswer]);
    cache.put("k", Bytes::from("v"), &multi_tier_cache::CallOptions::default()).await.unwrap();
    store.script([Fault::Fail]);
    cache.invalidate("k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(cache.health().await[1].errors, 0);
    store.script([Fault::Fail; 3]);
    assert!(cache.get("k").await.is_err(), "there are only three attempts");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_an_operation_before_the_engine_does() {
    let store = faulty();
    let patience = Duration::from_millis(50);
    let service = ServiceBuilder::new().timeout(patience).service(StoreService::new(store.clone()));
    let system = over(ServiceTier::new("Timed", service)).await;
    store.always(Fault::Hang);
    let before = tokio::time::Instant::now();
    let error = system.cache_manager().get("k").await.unwrap_err();
    assert_eq!(before.elapsed(), patience);
    assert!(error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("timed out"), "{error}");
    let CacheError::BackendError(failure) = error else { panic!("{error:?}") };
    assert_eq!(failure.tier(), Some("L2 Timed"));
    // Verbs that load do.
    let names: Cache<u64, String> = system.cache("names").unwrap();
    assert_eq!(*names.get_or_load(&7, || async { Ok("Ada".to_owned()) }).await.unwrap(), "Ada");
}

#[tokio::test]
async fn a_limit_sheds_what_is_too_much_for_a_store() {
    let store = faulty();
    let service = ServiceBuilder::new().load_shed().concurrency_limit(1).service(StoreService::new(store.clone()));
    let tier = Arc::new(ServiceTier::new("Limited", service));
    store.always(Fault::Hang);
    let first = tokio::spawn({
        let tier = Arc::clone(&tier);
        async move { tier.try_get("k").await }
    });
    store.arrived(1).await;
    let shed = tier.try_get("l").await.unwrap_err();
    assert!(shed.is_retryable(), "{shed:?}");
    store.always(Fault::None);
    assert_eq!(first.await.unwrap().unwrap(), None);
    assert_eq!(tier.try_get("l").await.unwrap(), None, "there is room again");
    assert_eq!(store.operations(), 2);
}

#[tokio::test]
async fn a_request_waits_until_the_service_is_ready() {
    let (open, gate) = watch::channel(false);
    let store = faulty();
    let tier = Arc::new(ServiceTier::new("Gated", Gate::new(StoreService::new(store.clone()), gate)));
    let reads: Vec<_> = (0..3)
        .map(|_| {
            let tier = Arc::clone(&tier);
            tokio::spawn(async move { tier.try_get("k").await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(store.operations(), 0);
    open.send_replace(true);
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_is_ready_costs_one_budget() {
    let (_open, gate) = watch::channel(false);
    let system = over(ServiceTier::new("Never", Gate::new(StoreService::new(faulty()), gate))).await;
    let before = tokio::time::Instant::now();
    assert!(system.cache_manager().get("k").await.unwrap_err().is_retryable());
    assert_eq!(before.elapsed(), multi_tier_cache::defaults::TIER_BUDGET);
}

#[tokio::test]
async fn errors_of_the_store_stay_what_they_are_and_others_are_outages() {
    let own = service_fn(|_: StoreRequest| async {
        Err::<StoreReply, BoxError>(Box::new(CacheError::ConfigError("no such shelf".into())))
    });
    let error = ServiceTier::new("Own", own).try_get("k").await.unwrap_err();
    assert!(matches!(&error, CacheError::ConfigError(text) if text == "no such shelf"), "{error:?}");
    let other = service_fn(|_: StoreRequest| async { Err::<StoreReply, BoxError>("the shelf fell".into()) });
    let error = ServiceTier::new("Other", other).remove("k").await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().ends_with("the shelf fell"), "{error:?}");
}

#[tokio::test]
async fn a_reply_to_another_request_is_an_error() {
    let confused = service_fn(|request: StoreRequest| async move {
        Ok::<_, Infallible>(match request {
            StoreRequest::Get { .. } => StoreReply::Done,
            _ => StoreReply::Value(None),
        })
    });
    let tier = ServiceTier::new("Confused", confused);
    assert!(matches!(tier.try_get("k").await, Err(CacheError::BackendError(_))));
    assert!(matches!(tier.remove("k").await, Err(CacheError::BackendError(_))));
    assert!(!tier.health_check().await);
}

#[tokio::test]
async fn what_a_service_was_not_said_to_do_it_is_not_asked() {
    let store = faulty();
    let tier = ServiceTier::new("Plain", StoreService::new(store.clone()));
    assert!(tier.remove_pattern("k*").await.is_err());
    assert!(tier.clear().await.is_err());
    assert_eq!(store.operations(), 0);
    let tier = tier.with_capabilities(Capabilities::PATTERN.and(Capabilities::BATCH));
    assert_eq!(tier.capabilities(), Capabilities::TTL.and(Capabilities::PATTERN));
    tier.remove_pattern("k*").await.unwrap();
}

#[test]
fn what_middleware_may_log_has_no_keys_and_no_values() {
    let set = StoreRequest::Set { key: "secret-key".into(), value: Bytes::from("secret-value"), ttl: Duration::ZERO };
    let reply = StoreReply::Value(Some((Bytes::from("secret-value"), None)));
    assert_eq!(format!("{set:?}"), r#"StoreRequest { operation: "set", .. }"#);
    assert_eq!(format!("{reply:?}"), "Value { found: true, .. }");
}
