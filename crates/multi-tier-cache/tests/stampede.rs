//! One computation per key, however many callers, and whatever becomes of the one who computes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{
    CacheBackend, CacheError, CacheManager, CacheResult, CacheStrategy, CacheTier, DashMapCache, L2CacheBackend,
};
use tokio::task::{JoinSet, yield_now};

/// A tier that is awaited: every operation gives way several times before it is done.
struct Yielding(DashMapCache);

impl CacheBackend for Yielding {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            yield_now().await;
            self.0.get(key).await
        })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            yield_now().await;
            self.0.set_with_ttl(key, value, ttl).await?;
            yield_now().await;
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            yield_now().await;
            self.0.remove(key).await
        })
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn name(&self) -> &'static str {
        "Yielding"
    }
}

impl L2CacheBackend for Yielding {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move {
            yield_now().await;
            self.0.get_with_ttl(key).await
        })
    }
}

fn in_process() -> Arc<CacheManager> {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap());
    Arc::new(CacheManager::new_with_backends(l1, Arc::new(DashMapCache::new()), None).unwrap())
}

fn awaited() -> Arc<CacheManager> {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap());
    Arc::new(CacheManager::new_with_backends(l1, Arc::new(Yielding(DashMapCache::new())), None).unwrap())
}

/// No tier keeps anything: whatever coalesces here does so in flight.
fn storing_nothing() -> Arc<CacheManager> {
    struct Nothing;
    impl CacheBackend for Nothing {
        fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Bytes>> {
            Box::pin(std::future::ready(None))
        }
        fn set_with_ttl<'a>(&'a self, _: &'a str, _: Bytes, _: Duration) -> BoxFuture<'a, CacheResult<()>> {
            Box::pin(std::future::ready(Err(CacheError::BackendError("read-only".into()))))
        }
        fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, CacheResult<()>> {
            Box::pin(std::future::ready(Ok(())))
        }
        fn health_check(&self) -> BoxFuture<'_, bool> {
            Box::pin(std::future::ready(true))
        }
        fn name(&self) -> &'static str {
            "Nothing"
        }
    }
    impl L2CacheBackend for Nothing {
        fn get_with_ttl<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
            Box::pin(std::future::ready(None))
        }
    }
    Arc::new(CacheManager::new_with_tiers(vec![CacheTier::new(Arc::new(Nothing), 1, false, 1, 1.0)], None).unwrap())
}

async fn slow_load(loads: &AtomicUsize) -> CacheResult<Bytes> {
    loads.fetch_add(1, Ordering::SeqCst);
    for _ in 0..4 {
        yield_now().await;
    }
    Ok(Bytes::from_static(b"value"))
}

fn caller(cache: &Arc<CacheManager>, loads: &Arc<AtomicUsize>) -> impl Future<Output = CacheResult<Bytes>> + use<> {
    let (cache, loads) = (Arc::clone(cache), Arc::clone(loads));
    async move { cache.get_or_compute_with("cold", CacheStrategy::ShortTerm, || slow_load(&loads)).await }
}

async fn poll_once<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_of_one_cold_key_cost_one_load() {
    for cache in [in_process(), awaited()] {
        let loads = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..10_000 {
            callers.spawn(caller(&cache, &loads));
        }
        while let Some(answer) = callers.join_next().await {
            assert_eq!(answer.unwrap().unwrap(), "value");
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        let stats = cache.get_stats();
        assert_eq!((stats.total_requests, stats.in_flight_requests), (10_000, 0), "{stats:?}");
    }
}

// Story: a leader that was dropped (a request that timed out) once made every waiter compute, or hang.
#[tokio::test]
async fn a_leader_cancelled_at_any_await_costs_one_further_load() {
    for make in [in_process, awaited, storing_nothing] {
        for cut in 1.. {
            let cache = make();
            let loads = Arc::new(AtomicUsize::new(0));
            let mut leader = Box::pin(caller(&cache, &loads));
            let mut answer = poll_once(&mut leader).await;
            let mut followers = JoinSet::new();
            for _ in 0..20 {
                followers.spawn(caller(&cache, &loads));
            }
            for _ in 1..cut {
                yield_now().await;
                if answer.is_none() {
                    answer = poll_once(&mut leader).await;
                }
            }
            drop(leader);
            while let Some(answer) = followers.join_next().await {
                assert_eq!(answer.unwrap().unwrap(), "value");
            }
            let loads = loads.load(Ordering::SeqCst);
            assert!(loads <= 2, "{loads} loads after a cut at poll {cut}");
            assert_eq!(cache.get_stats().in_flight_requests, 0, "cut at poll {cut}");
            if answer.is_some() {
                assert_eq!(loads, 1, "the leader was done before the cut");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_chain_of_cancelled_leaders_ends_with_the_last_caller() {
    let cache = storing_nothing();
    let loads = Arc::new(AtomicUsize::new(0));
    let mut callers: Vec<_> = (0..50).map(|_| Box::pin(caller(&cache, &loads))).collect();
    for caller in &mut callers {
        assert!(poll_once(caller).await.is_none());
    }
    // Each takes over, gets as far as its loader, and goes away.
    while callers.len() > 1 {
        let mut first = callers.remove(0);
        assert!(poll_once(&mut first).await.is_none());
        drop(first);
    }
    assert_eq!(callers.pop().unwrap().await.unwrap(), "value");
    assert_eq!(loads.load(Ordering::SeqCst), 50, "one load for each leader, none for a waiter");
    assert_eq!(cache.get_stats().in_flight_requests, 0);
}

#[tokio::test]
async fn cancelled_waiters_leave_nothing_behind() {
    let cache = in_process();
    let loads = Arc::new(AtomicUsize::new(0));
    let mut leader = Box::pin(caller(&cache, &loads));
    assert!(poll_once(&mut leader).await.is_none());
    for _ in 0..100 {
        let mut waiter = Box::pin(caller(&cache, &loads));
        assert!(poll_once(&mut waiter).await.is_none());
    }
    assert_eq!(cache.get_stats().in_flight_requests, 1);
    assert_eq!(leader.await.unwrap(), "value");
    let mut leader = Box::pin(caller(&storing_nothing(), &loads));
    assert!(poll_once(&mut leader).await.is_none());
    drop(leader);
    assert_eq!(cache.get_stats().in_flight_requests, 0);
}

#[tokio::test]
async fn a_failed_computation_reaches_every_waiter_and_is_not_stored() {
    let cache = in_process();
    let loads = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
        callers.spawn(async move {
            let fail = || async {
                loads.fetch_add(1, Ordering::SeqCst);
                yield_now().await;
                Err(CacheError::BackendError("the database is down".into()))
            };
            cache.get_or_compute_with("cold", CacheStrategy::ShortTerm, fail).await
        });
    }
    while let Some(answer) = callers.join_next().await {
        assert_eq!(answer.unwrap().unwrap_err().to_string(), "Backend error: the database is down");
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.get("cold").await.unwrap(), None);
}

#[tokio::test]
async fn a_panicking_loader_is_an_error_to_everyone_and_the_next_caller_loads() {
    let cache = in_process();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let cache = Arc::clone(&cache);
        callers.spawn(async move {
            let burst = || async {
                yield_now().await;
                panic!("a bug in the loader")
            };
            cache.get_or_compute_with("cold", CacheStrategy::ShortTerm, burst).await
        });
    }
    while let Some(answer) = callers.join_next().await {
        let error = answer.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "Internal error: the loader panicked: a bug in the loader");
    }
    let loads = Arc::new(AtomicUsize::new(0));
    assert_eq!(caller(&cache, &loads).await.unwrap(), "value");
    assert_eq!((loads.load(Ordering::SeqCst), cache.get_stats().in_flight_requests), (1, 0));
}

// Story: whoever came after an invalidation was given the value of a computation begun before it.
#[tokio::test]
async fn a_caller_after_an_invalidation_does_not_join_the_old_computation() {
    for cache in [in_process(), awaited()] {
        let loading = AtomicUsize::new(0);
        let old = cache.get_or_compute_with("k", CacheStrategy::ShortTerm, || async {
            loading.fetch_add(1, Ordering::SeqCst);
            for _ in 0..50 {
                yield_now().await;
            }
            Ok(Bytes::from_static(b"old"))
        });
        let mut old = Box::pin(old);
        while loading.load(Ordering::SeqCst) == 0 {
            assert!(poll_once(&mut old).await.is_none());
            yield_now().await;
        }
        cache.invalidate("k").await.unwrap();
        let load = || async { Ok(Bytes::from_static(b"new")) };
        let answer = cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap();
        assert_eq!(answer, "new");
        assert_eq!(old.await.unwrap(), "old", "who asked before may have the old value");
        assert_eq!(cache.get("k").await.unwrap().unwrap(), "new", "the late fill was refused");
        assert_eq!(cache.get_stats().in_flight_requests, 0);
    }
}

#[tokio::test]
async fn loaders_may_borrow_and_the_computing_caller_keeps_its_value() {
    let cache = in_process();
    let names = ["a".to_owned(), "b".to_owned()];
    let joined: String =
        cache.get_or_compute_typed("names", CacheStrategy::ShortTerm, || async { Ok(names.join(",")) }).await.unwrap();
    assert_eq!(joined, "a,b");
    let shared = cache
        .get_or_compute_shared::<String, _, _>("names", CacheStrategy::ShortTerm, || async { unreachable!() })
        .await
        .unwrap();
    let again = cache
        .get_or_compute_shared::<String, _, _>("names", CacheStrategy::ShortTerm, || async { unreachable!() })
        .await
        .unwrap();
    assert!(Arc::ptr_eq(&shared, &again), "decoded once");
    assert_eq!(*again, "a,b");
}
