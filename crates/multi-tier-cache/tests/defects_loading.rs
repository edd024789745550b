//! Stories of computations: one per key, handed over, shared. Each went wrong once.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use common::{Count, NEW, OLD, Op, PATIENCE, Scripted, When, assert_at_rest, ended, manager, run_all, start};
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{CacheError, CacheManager, CacheResult, CacheStrategy, L2CacheBackend};
use tokio::sync::{Barrier, oneshot};
use tokio::time::timeout;

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

/// A caller whose computation, once begun, ends only when it is told to.
struct Slow {
    began: oneshot::Receiver<()>,
    finish: oneshot::Sender<CacheResult<Bytes>>,
}

fn slow_compute(cache: &Arc<CacheManager>, count: &Count) -> (Slow, impl Future<Output = CacheResult<Bytes>> + use<>) {
    let (begin, began) = oneshot::channel();
    let (finish, finished) = oneshot::channel::<CacheResult<Bytes>>();
    let (cache, count) = (Arc::clone(cache), count.clone());
    let caller = async move {
        let load = || async {
            count.add();
            let _ = begin.send(());
            finished.await.unwrap()
        };
        cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await
    };
    (Slow { began, finish }, caller)
}

// 2. Concurrent misses that all computed, or hung for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_of_a_cold_key_compute_once() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    for round in 0..5 {
        let key = format!("cold:{round}");
        let barrier = Arc::new(Barrier::new(1_000));
        let mut callers = Vec::new();
        for _ in 0..1_000 {
            let (cache, count, barrier, key) = (Arc::clone(&cache), count.clone(), Arc::clone(&barrier), key.clone());
            callers.push(tokio::spawn(async move {
                barrier.wait().await;
                let load = || async {
                    count.add();
                    tokio::task::yield_now().await;
                    Ok(NEW)
                };
                cache.get_or_compute_with(&key, CacheStrategy::ShortTerm, load).await
            }));
        }
        for caller in callers {
            assert_eq!(ended(caller).await.unwrap(), NEW);
        }
        assert_eq!(count.get(), round + 1);
        assert_eq!(l2.peek(&key), Some(NEW));
    }
    assert_eq!(cache.get_stats().total_requests, 5_000);
    assert_at_rest(&cache);
}

// 2. A plain get that led the flight answered "nothing" to every waiting computation, and all of them computed.
#[tokio::test]
async fn a_get_that_asks_a_slow_tier_does_not_make_every_waiting_caller_compute() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let mut asked = l2.hold(Op::Get, When::After);
    let reader = Arc::clone(&cache);
    let get = start(async move { reader.get("k").await }).await;
    asked.reached().await;
    let mut callers = Vec::new();
    for _ in 0..10 {
        callers.push(start(compute(&cache, &count, NEW)).await);
    }
    asked.release();
    for caller in callers {
        assert_eq!(ended(caller).await.unwrap(), NEW);
    }
    // What the get had read is older than the computed value, and must not replace it.
    assert!(ended(get).await.unwrap().is_none_or(|seen| seen == NEW));
    assert_eq!(count.get(), 1);
    assert_eq!(cache.get("k").await.unwrap(), Some(NEW));
    assert_at_rest(&cache);
}

// 2. A plain get that joined a computation waited for the loader, which may take minutes.
#[tokio::test]
async fn a_get_never_waits_for_a_loader() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let (mut slow, caller) = slow_compute(&cache, &count);
    let leader = start(caller).await;
    timeout(PATIENCE, &mut slow.began).await.unwrap().unwrap();
    let seen = timeout(PATIENCE, cache.get("k")).await.expect("the get waited for the loader");
    assert_eq!(seen.unwrap(), None);
    l2.plant("k", OLD);
    assert_eq!(timeout(PATIENCE, cache.get("k")).await.unwrap().unwrap(), Some(OLD));
    slow.finish.send(Ok(NEW)).unwrap();
    assert_eq!(ended(leader).await.unwrap(), NEW);
    assert_at_rest(&cache);
}

// 2. When the leader was cancelled every waiter computed.
#[tokio::test]
async fn a_leader_cancelled_in_its_loader_is_replaced_by_exactly_one_waiter() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let (mut slow, caller) = slow_compute(&cache, &count);
    let leader = start(caller).await;
    timeout(PATIENCE, &mut slow.began).await.unwrap().unwrap();
    let mut waiters = Vec::new();
    for _ in 0..20 {
        waiters.push(start(compute(&cache, &count, NEW)).await);
    }
    assert_eq!(count.get(), 1);
    leader.abort();
    for waiter in waiters {
        assert_eq!(ended(waiter).await.unwrap(), NEW);
    }
    assert_eq!(count.get(), 2);
    assert_eq!(l2.calls(Op::Set), 1);
    assert_at_rest(&cache);
}

// 2. The same when a chain of leaders goes away, one after the other, and waiters with them.
#[tokio::test]
async fn leaders_cancelled_one_after_the_other_hand_over_each_time() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let mut callers = Vec::new();
    for _ in 0..6 {
        let (slow, caller) = slow_compute(&cache, &count);
        callers.push((slow, start(caller).await));
    }
    // A waiter that goes away leaves the others undisturbed.
    callers.remove(3).1.abort();
    let mut last = callers.pop().unwrap();
    for (taken_over, (slow, leader)) in callers.into_iter().enumerate() {
        run_all().await;
        assert_eq!(count.get(), taken_over + 1);
        drop(slow);
        leader.abort();
    }
    timeout(PATIENCE, &mut last.0.began).await.unwrap().unwrap();
    assert_eq!(count.get(), 5);
    last.0.finish.send(Ok(NEW)).unwrap();
    assert_eq!(ended(last.1).await.unwrap(), NEW);
    assert_at_rest(&cache);
}

// 2. Wherever a leader is dropped, its waiter ends with a value, after at most one more computation.
#[tokio::test]
async fn a_leader_dropped_at_any_await_leaves_its_waiter_served_and_nothing_behind() {
    let mut finished = false;
    for polls in 1..60 {
        let (l2, count) = (Scripted::new("L2"), Count::default());
        let cache = over(&l2);
        // A leader that yields wherever it can: in the read below, in its loader, in the fill.
        let (leading, counting) = (Arc::clone(&cache), count.clone());
        let mut waiting = None;
        {
            let mut leader = pin!(tokio::task::unconstrained(async move {
                let load = || async {
                    counting.add();
                    for _ in 0..5 {
                        yield_once().await;
                    }
                    Ok(OLD)
                };
                leading.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await
            }));
            for _ in 0..polls {
                finished |= leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                if waiting.is_none() {
                    waiting = Some(start(compute(&cache, &count, NEW)).await);
                }
                if finished {
                    break;
                }
                // Lets the fill's task take one step.
                tokio::task::yield_now().await;
            }
        }
        let value = ended(waiting.unwrap()).await.unwrap();
        run_all().await;
        assert!((1..=2).contains(&count.get()), "{} computations after {polls} polls", count.get());
        assert_eq!(value == OLD, count.get() == 1, "{polls} polls");
        assert_eq!(cache.get("k").await.unwrap(), Some(value.clone()));
        assert_eq!(l2.peek("k"), Some(value));
        assert_at_rest(&cache);
        if finished {
            break;
        }
    }
    assert!(finished, "the leader was never polled to its end");
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

// 2. A leader cancelled while the value was being stored made a waiter compute again, or stored half of it.
#[tokio::test]
async fn a_leader_cancelled_while_its_value_is_stored_still_serves_its_waiters() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let mut storing = l2.hold(Op::Set, When::Before);
    let leader = start(compute(&cache, &count, NEW)).await;
    let waiter = start(compute(&cache, &count, OLD)).await;
    storing.reached().await;
    leader.abort();
    run_all().await;
    storing.release();
    assert_eq!(ended(waiter).await.unwrap(), NEW);
    assert_eq!((count.get(), l2.peek("k")), (1, Some(NEW)));
    assert_eq!(cache.get("k").await.unwrap(), Some(NEW));
    assert_at_rest(&cache);
}

// 2. A failed computation hung its waiters, or was stored.
#[tokio::test]
async fn a_failed_computation_reaches_every_waiter_and_stores_nothing() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let (slow, caller) = slow_compute(&cache, &count);
    let mut callers = vec![start(caller).await];
    for _ in 0..5 {
        callers.push(start(compute(&cache, &count, NEW)).await);
    }
    slow.finish.send(Err(CacheError::BackendError("the database is closed".into()))).unwrap();
    for caller in callers {
        let error = ended(caller).await.unwrap_err();
        assert!(error.to_string().contains("the database is closed"), "{error}");
    }
    assert_eq!((count.get(), l2.calls(Op::Set)), (1, 0));
    assert_eq!(cache.get_stats().misses, 6);
    assert_at_rest(&cache);
    assert_eq!(compute(&cache, &count, NEW).await.unwrap(), NEW);
    assert_eq!(count.get(), 2);
}

// 2. A panic in a loader left its key in flight, and every later caller waited for ever.
#[tokio::test]
async fn a_panicking_loader_is_an_error_to_all_and_the_next_caller_computes() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let (go, gone) = oneshot::channel::<()>();
    let panicking = Arc::clone(&cache);
    let leader = start(async move {
        let load = || async {
            gone.await.unwrap();
            panic!("out of cheese")
        };
        panicking.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await
    });
    let (leader, waiter) = (leader.await, start(compute(&cache, &count, OLD)).await);
    go.send(()).unwrap();
    for caller in [leader, waiter] {
        let error = ended(caller).await.unwrap_err();
        assert!(matches!(&error, CacheError::InternalError(text) if text.contains("out of cheese")), "{error:?}");
    }
    assert_eq!((count.get(), l2.peek("k")), (0, None));
    assert_at_rest(&cache);
    assert_eq!(compute(&cache, &count, NEW).await.unwrap(), NEW);
}

// 2. Two computations of different keys shared a lock, and one key's slow loader held up the others.
#[tokio::test]
async fn a_slow_loader_holds_up_no_other_key() {
    let (l2, count) = (Scripted::new("L2"), Count::default());
    let cache = over(&l2);
    let (slow, caller) = slow_compute(&cache, &count);
    let leader = start(caller).await;
    for n in 0..500 {
        let load = || async { Ok(NEW) };
        let other = format!("other:{n}");
        let other = cache.get_or_compute_with(&other, CacheStrategy::ShortTerm, load);
        assert_eq!(timeout(PATIENCE, other).await.unwrap().unwrap(), NEW);
    }
    slow.finish.send(Ok(NEW)).unwrap();
    ended(leader).await.unwrap();
    assert_at_rest(&cache);
}
