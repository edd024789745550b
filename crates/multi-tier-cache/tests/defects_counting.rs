//! Stories of what was counted wrongly, or kept too long: bytes that do not decode, coalesced callers, keys in flight.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::Arc;

use bytes::Bytes;
use common::{Count, Fault, NEW, OLD, Op, Scripted, When, assert_at_rest, ended, manager, run_all, start};
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{CacheBackend, CacheError, CacheManager, CacheResult, CacheStrategy, L2CacheBackend};
use tokio::sync::oneshot;

fn l1() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(1_000).unwrap())
}

fn over(l2: &Arc<Scripted>) -> Arc<CacheManager> {
    manager(vec![l1(), Arc::clone(l2) as Arc<dyn L2CacheBackend>])
}

/// A caller of the computing verb that counts its computation.
fn compute(cache: &Arc<CacheManager>, count: &Count, value: Bytes) -> impl Future<Output = CacheResult<Bytes>> + use<> {
    let (cache, count) = (Arc::clone(cache), count.clone());
    async move {
        let load = || async {
            count.add();
            Ok(value)
        };
        cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await
    }
}

/// A caller whose computation ends when it is told to.
fn slow_compute(
    cache: &Arc<CacheManager>,
    count: &Count,
) -> (oneshot::Sender<Bytes>, impl Future<Output = CacheResult<Bytes>> + use<>) {
    let (finish, finished) = oneshot::channel();
    let (cache, count) = (Arc::clone(cache), count.clone());
    let caller = async move {
        let load = || async {
            count.add();
            Ok(finished.await.unwrap())
        };
        cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await
    };
    (finish, caller)
}

// 6. Bytes that do not decode were an error until their TTL ended.
#[tokio::test]
async fn undecodable_bytes_are_a_counted_miss_and_are_replaced_in_every_tier() {
    let (l1, l2) = (l1(), Scripted::new("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Arc<dyn L2CacheBackend>, Arc::clone(&l2) as _]);
    type Ages = HashMap<String, u8>;
    let ages: Ages = HashMap::from([("ada".to_owned(), 36)]);
    for (in_l1, in_l2) in [(true, true), (true, false), (false, true)] {
        cache.invalidate("k").await.unwrap();
        if in_l1 {
            l1.set("k", Bytes::from_static(b"{\"ada\":")).await.unwrap();
        }
        if in_l2 {
            l2.plant("k", &b"\xff not JSON"[..]);
        }
        let error = cache.get_typed::<Ages>("k").await.unwrap_err();
        assert!(matches!(error, CacheError::SerializationError(_)), "{error:?}");
        let before = cache.get_stats();
        let load = || async { Ok(ages.clone()) };
        let loaded: Ages = cache.get_or_compute_typed("k", CacheStrategy::ShortTerm, load).await.unwrap();
        assert_eq!(loaded, ages);
        let after = cache.get_stats();
        assert_eq!((after.misses, after.total_hits), (before.misses + 1, before.total_hits), "{in_l1} {in_l2}");
        assert_eq!(l1.get("k").await.as_deref(), Some(&b"{\"ada\":36}"[..]));
        assert_eq!(l2.peek("k").as_deref(), Some(&b"{\"ada\":36}"[..]));
        assert_eq!(cache.get_typed::<Ages>("k").await.unwrap(), Some(ages.clone()));
    }
    assert_at_rest(&cache);
}

// 6. A tier with a decodable value below one with garbage was never asked.
#[tokio::test]
async fn undecodable_bytes_do_not_hide_a_good_value_in_a_lower_tier() {
    let (l2, l3) = (Scripted::new("L2"), Scripted::new("L3"));
    let cache = manager(vec![l1(), Arc::clone(&l2) as Arc<dyn L2CacheBackend>, Arc::clone(&l3) as _]);
    l2.plant("k", &b"\xff"[..]);
    l3.plant("k", &b"7"[..]);
    let load = || async { Err(CacheError::BackendError("no need to compute".into())) };
    let seven: u8 = cache.get_or_compute_typed("k", CacheStrategy::ShortTerm, load).await.unwrap();
    assert_eq!(seven, 7);
    assert_eq!(l2.peek("k").as_deref(), Some(&b"7"[..]));
    assert_eq!(cache.get_tier_stats()[2].hit_count(), 1);
    assert_at_rest(&cache);
}

// 12. Callers that waited for another's computation were not counted, or twice.
#[tokio::test]
async fn every_coalesced_caller_counts_once_as_its_leader_does() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let (finish, caller) = slow_compute(&cache, &count);
    let mut callers = vec![start(caller).await];
    for _ in 0..9 {
        callers.push(start(compute(&cache, &count, NEW)).await);
    }
    assert_eq!(cache.get_stats().in_flight_requests, 1);
    finish.send(NEW).unwrap();
    for caller in callers {
        ended(caller).await.unwrap();
    }
    let stats = cache.get_stats();
    assert_eq!((stats.misses, stats.total_hits, stats.total_requests), (10, 0, 10));

    compute(&cache, &count, NEW).await.unwrap();
    assert_eq!(cache.get_stats().l1_hits, 1);

    // Nine who wait for a tenth's read of L2 are hits of L2.
    cache.invalidate("k").await.unwrap();
    l2.plant("k", OLD);
    let mut asked = l2.hold(Op::Get, When::After);
    let mut callers = Vec::new();
    for _ in 0..10 {
        callers.push(start(compute(&cache, &count, NEW)).await);
    }
    asked.reached().await;
    asked.release();
    for caller in callers {
        assert_eq!(ended(caller).await.unwrap(), OLD);
    }
    let stats = cache.get_stats();
    assert_eq!((stats.l1_hits, stats.l2_hits, stats.misses, stats.promotions), (1, 10, 10, 1));
    assert_eq!(cache.get_tier_stats()[1].hit_count(), 10);
    assert_at_rest(&cache);
}

// 12. A caller that went away left its key in flight for ever.
#[tokio::test]
async fn nothing_stays_in_flight_when_all_callers_go_away() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    for fault in [Fault::Hang, Fault::Outage] {
        l2.fail(Op::Get, fault);
        let mut callers = Vec::new();
        for n in 0..20 {
            let cache = Arc::clone(&cache);
            callers.push(match n % 3 {
                0 => start(compute(&cache, &count, NEW)).await,
                1 => start(async move { cache.get("k").await.map(Option::unwrap_or_default) }).await,
                _ => {
                    let load = || pending::<CacheResult<Bytes>>();
                    start(async move { cache.get_or_compute_with("k", CacheStrategy::RealTime, load).await }).await
                }
            });
        }
        for caller in callers {
            caller.abort();
        }
        run_all().await;
        assert_at_rest(&cache);
        l2.mend();
        cache.invalidate("k").await.ok();
    }
}
