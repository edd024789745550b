//! A cache in front of a service.

use std::time::Duration;

use multi_tier_cache::testing::{Fleet, Loads, followed, levels_with};
use multi_tier_cache::tower::CacheLayer;
use multi_tier_cache::{Cache, CacheSystem, Freshness, LoadError, Loaded};
use tokio::sync::watch;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use super::Gate;

#[derive(Debug, Clone)]
enum Request {
    Page(u32),
    Change,
    Fail(u32),
}

#[derive(Debug, PartialEq)]
struct Down(u32);

fn key(request: &Request) -> Option<u32> {
    match request {
        Request::Page(page) | Request::Fail(page) => Some(*page),
        Request::Change => None,
    }
}

/// Answers with the number of the call.
fn source(
    loads: &Loads,
) -> impl Service<Request, Response = String, Error = Down, Future: Send> + Clone + Send + use<> {
    let loads = loads.clone();
    service_fn(move |request: Request| {
        let (loads, call) = (loads.clone(), loads.count() + 1);
        async move {
            loads
                .load(async move {
                    match request {
                        Request::Fail(page) => Err(Down(page)),
                        Request::Page(page) => Ok(format!("page {page}, call {call}")),
                        Request::Change => Ok(format!("changed, call {call}")),
                    }
                })
                .await
        }
    })
}

fn pages(system: &CacheSystem) -> Cache<u32, String> {
    system.cache("pages").unwrap()
}

#[tokio::test]
async fn requests_with_one_key_share_one_call() {
    let (pages, loads) = (pages(&Fleet::new().instance().await.unwrap()), Loads::new());
    let held = loads.hold();
    let service = ServiceBuilder::new().layer(CacheLayer::new(pages, key)).service(source(&loads));
    let requests: Vec<_> = (0..100).map(|_| tokio::spawn(service.clone().oneshot(Request::Page(7)))).collect();
    loads.begun(1).await;
    held.release();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap(), "page 7, call 1");
    }
    assert_eq!(service.oneshot(Request::Page(7)).await.unwrap(), "page 7, call 1");
    assert_eq!(loads.count(), 1);
}

#[tokio::test]
async fn an_error_reaches_every_request_that_waits_and_is_not_stored() {
    let (pages, loads) = (pages(&Fleet::new().instance().await.unwrap()), Loads::new());
    let held = loads.hold();
    let service = CacheLayer::new(pages.clone(), key);
    let service = ServiceBuilder::new().layer(service).service(source(&loads));
    let mut requests: Vec<_> = (0..10).map(|_| Box::pin(service.clone().oneshot(Request::Fail(7)))).collect();
    for request in &mut requests {
        // Each is under way, and the first one loads.
        assert!(futures_util::poll!(request.as_mut()).is_pending());
    }
    loads.begun(1).await;
    held.release();
    for request in requests {
        let error = request.await.unwrap_err();
        assert!(matches!(&error, LoadError::Load(error) if **error == Down(7)), "{error:?}");
    }
    assert_eq!(loads.count(), 1);
    assert!(levels_with(&pages, &7).await.unwrap().is_empty());
    assert_eq!(service.oneshot(Request::Page(7)).await.unwrap(), "page 7, call 2");
}

#[tokio::test]
async fn a_request_without_a_key_passes_through() {
    let (pages, loads) = (pages(&Fleet::new().instance().await.unwrap()), Loads::new());
    let mut service = ServiceBuilder::new().layer(CacheLayer::new(pages.clone(), key)).service(source(&loads));
    for call in 1..=3 {
        let answer = service.ready().await.unwrap().call(Request::Change).await.unwrap();
        assert_eq!(answer, format!("changed, call {call}"));
    }
    let stats = pages.stats();
    assert_eq!((stats.hits, stats.misses), (0, 0));
}

#[tokio::test]
async fn a_request_that_goes_away_leaves_its_call_to_the_others() {
    let (pages, loads) = (pages(&Fleet::new().instance().await.unwrap()), Loads::new());
    let held = loads.hold();
    let service = ServiceBuilder::new().layer(CacheLayer::new(pages, key)).service(source(&loads));
    let first = tokio::spawn(service.clone().oneshot(Request::Page(7)));
    loads.begun(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    held.release();
    assert_eq!(service.oneshot(Request::Page(7)).await.unwrap(), "page 7, call 1");
    assert_eq!(loads.count(), 1);
}

#[tokio::test]
async fn a_hit_needs_no_readiness_and_a_load_waits_for_it() {
    let (pages, loads) = (pages(&Fleet::new().instance().await.unwrap()), Loads::new());
    let (open, gate) = watch::channel(true);
    let service = ServiceBuilder::new().layer(CacheLayer::new(pages, key)).service(Gate::new(source(&loads), gate));
    service.clone().oneshot(Request::Page(7)).await.unwrap();
    open.send_replace(false);
    assert_eq!(service.clone().oneshot(Request::Page(7)).await.unwrap(), "page 7, call 1");
    let waiting = [Request::Page(8), Request::Change].map(|request| tokio::spawn(service.clone().oneshot(request)));
    tokio::task::yield_now().await;
    assert_eq!(loads.count(), 1, "it was called before it was ready");
    open.send_replace(true);
    for request in waiting {
        request.await.unwrap().unwrap();
    }
    assert_eq!(loads.count(), 3);
}

#[tokio::test]
async fn the_limit_of_the_inner_service_holds_for_its_calls() {
    let (pages, loads) = (pages(&Fleet::new().instance().await.unwrap()), Loads::new());
    let held = loads.hold();
    let inner = ServiceBuilder::new().concurrency_limit(2).service(source(&loads));
    let service = ServiceBuilder::new().layer(CacheLayer::new(pages, key)).service(inner);
    let requests: Vec<_> = (0..6).map(|page| tokio::spawn(service.clone().oneshot(Request::Page(page)))).collect();
    loads.begun(2).await;
    tokio::task::yield_now().await;
    assert_eq!(loads.count(), 2);
    held.release();
    for request in requests {
        request.await.unwrap().unwrap();
    }
    assert_eq!(loads.count(), 6);
}

#[tokio::test]
async fn an_invalidation_is_seen_by_the_service_of_every_instance() {
    let (fleet, loads) = (Fleet::new(), Loads::new());
    let (here, there) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    let ours = pages(&here);
    let service = ServiceBuilder::new().layer(CacheLayer::new(pages(&there), key)).service(source(&loads));
    assert_eq!(service.clone().oneshot(Request::Page(7)).await.unwrap(), "page 7, call 1");
    let position = ours.remove(&7).await.unwrap();
    assert!(followed(there.cache_manager(), position).await);
    assert_eq!(service.oneshot(Request::Page(7)).await.unwrap(), "page 7, call 2");
}

#[tokio::test]
async fn responses_are_kept_as_the_layer_is_told() {
    let (fleet, loads) = (Fleet::new(), Loads::new());
    let second = Duration::from_secs(1);
    let system = fleet.instance().await.unwrap();
    let pages: Cache<u32, String> =
        system.cache_builder("pages").freshness(Freshness::new(60 * second)).build().unwrap();
    let layer = CacheLayer::new(pages.clone(), key).keeping(move |page: String| {
        if page.contains("page 7") {
            Loaded::new(page).with_ttl(second).with_tags(["short"])
        } else {
            Loaded::new(page).unstored()
        }
    });
    let service = ServiceBuilder::new().layer(layer).service(source(&loads));
    let get = |page| service.clone().oneshot(Request::Page(page));
    assert_eq!(get(8).await.unwrap(), "page 8, call 1");
    assert_eq!(get(8).await.unwrap(), "page 8, call 2");
    assert_eq!(get(7).await.unwrap(), "page 7, call 3");
    assert_eq!(get(7).await.unwrap(), "page 7, call 3");
    fleet.time().advance(second);
    assert_eq!(get(7).await.unwrap(), "page 7, call 4");
    pages.remove_tag("short").await.unwrap();
    assert_eq!(get(7).await.unwrap(), "page 7, call 5");
}
