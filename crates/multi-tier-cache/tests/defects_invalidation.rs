//! Stories of changes: what an invalidation or a put must undo, against every reader that comes at a bad time.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Count, Journal, NEW, OLD, Op, Scripted, When, assert_at_rest, ended, manager, run_all, start};
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::{CacheBackend, CacheManager, CacheStrategy, L2CacheBackend};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Tier = Arc<dyn L2CacheBackend>;

fn quick() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(1_000).unwrap())
}

fn pair() -> (Arc<QuickCacheBackend>, Arc<Scripted>, Arc<CacheManager>) {
    let (l1, l2) = (quick(), Scripted::new("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    (l1, l2, cache)
}

/// Begins to compute `k`; the computation ends with [`OLD`] when told to.
async fn computing_old(cache: &Arc<CacheManager>) -> (oneshot::Sender<()>, JoinHandle<Bytes>) {
    let (finish, finished) = oneshot::channel();
    let (cache, began) = (Arc::clone(cache), Count::default());
    let counting = began.clone();
    let task = start(async move {
        let load = || async {
            counting.add();
            let _ = finished.await;
            Ok(OLD)
        };
        cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap()
    })
    .await;
    assert_eq!(began.get(), 1);
    (finish, task)
}

async fn reading(cache: &Arc<CacheManager>) -> JoinHandle<Option<Bytes>> {
    let cache = Arc::clone(cache);
    start(async move { cache.get("k").await.unwrap() }).await
}

async fn invalidating(cache: &Arc<CacheManager>) -> JoinHandle<multi_tier_cache::CacheResult<()>> {
    let cache = Arc::clone(cache);
    start(async move { cache.invalidate("k").await }).await
}

/// Every change after which a computation that began before it must not store its value.
const CHANGES: [&str; 5] = ["invalidate", "invalidate_pattern", "set_with_strategy", "update_cache", "broadcast"];

async fn change(cache: &CacheManager, how: &str) -> Option<Bytes> {
    match how {
        "invalidate" => cache.invalidate("k").await.unwrap(),
        "invalidate_pattern" => cache.invalidate_pattern("k*").await.unwrap(),
        "set_with_strategy" => cache.set_with_strategy("k", NEW, CacheStrategy::LongTerm).await.unwrap(),
        "update_cache" => cache.update_cache("k", NEW, None).await.unwrap(),
        "put of no time" => cache.update_cache("k", NEW, Some(Duration::ZERO)).await.unwrap(),
        _ => cache.set_with_broadcast("k", NEW, CacheStrategy::ShortTerm).await.unwrap(),
    }
    (!how.starts_with("inv")).then_some(NEW)
}

// 3. A computation that began before an invalidation stored its old value after it.
#[tokio::test]
async fn a_computation_begun_before_a_change_stores_nothing_after_it() {
    for how in CHANGES {
        let (l1, l2, cache) = pair();
        let (finish, leader) = computing_old(&cache).await;
        let expected = change(&cache, how).await;
        finish.send(()).unwrap();
        assert_eq!(ended(leader).await, OLD, "who asked before the change may see what was there");
        run_all().await;
        assert_eq!(l1.get("k").await, expected, "L1 after {how}");
        assert_eq!(l2.peek("k"), expected, "L2 after {how}");
        assert_eq!(cache.get("k").await.unwrap(), expected, "{how}");
        assert_at_rest(&cache);
    }
}

// 3. The same with in-process tiers only, and with awaited ones only.
#[tokio::test]
async fn a_computation_begun_before_a_change_stores_nothing_in_any_kind_of_tier() {
    for how in CHANGES {
        let all_local: Vec<Tier> = vec![quick(), Arc::new(DashMapCache::new())];
        let all_awaited: Vec<Tier> = vec![Scripted::new("L1"), Scripted::new("L2"), Scripted::new("L3")];
        let mixed: Vec<Tier> = vec![Scripted::new("L1"), Arc::new(DashMapCache::new()), Scripted::new("L3")];
        for tiers in [all_local, all_awaited, mixed] {
            let cache = manager(tiers.clone());
            let (finish, leader) = computing_old(&cache).await;
            let expected = change(&cache, how).await;
            finish.send(()).unwrap();
            ended(leader).await;
            run_all().await;
            for tier in &tiers {
                assert_eq!(tier.get("k").await, expected, "{} after {how}", tier.name());
            }
            assert_at_rest(&cache);
        }
    }
}

// 3. A caller who came after the invalidation was given the old computation's value.
#[tokio::test]
async fn who_asks_after_an_invalidation_is_not_given_a_computation_begun_before_it() {
    let (_, l2, cache) = pair();
    let (finish, old) = computing_old(&cache).await;
    cache.invalidate("k").await.unwrap();
    let late = Arc::clone(&cache);
    let load = || async { Ok(NEW) };
    let late = start(async move { late.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap() }).await;
    assert_eq!(ended(late).await, NEW);
    finish.send(()).unwrap();
    assert_eq!(ended(old).await, OLD);
    assert_eq!((cache.get("k").await.unwrap(), l2.peek("k")), (Some(NEW), Some(NEW)));
    assert_at_rest(&cache);
}

// 3. A fill was under way to a slow L2 when the invalidation came; it landed after the removal.
#[tokio::test]
async fn an_invalidation_waits_for_a_fill_under_way_and_removes_it() {
    let (l1, l2, cache) = pair();
    let storing = l2.hold(Op::Set, When::Before);
    let (finish, leader) = computing_old(&cache).await;
    finish.send(()).unwrap();
    run_all().await;
    let removal = invalidating(&cache).await;
    assert!(!removal.is_finished(), "the fill can still land");
    storing.release();
    ended(leader).await;
    ended(removal).await.unwrap();
    assert_eq!((l1.get("k").await, l2.peek("k")), (None, None));
    assert_at_rest(&cache);
}

// 3. A reader that had read L2's old value before its removal promoted it into L1 after it.
#[tokio::test]
async fn a_reader_that_read_the_old_value_before_its_removal_does_not_promote_it_after() {
    for how in CHANGES {
        let (l1, l2, cache) = pair();
        l2.plant("k", OLD);
        let mut read = l2.hold(Op::Get, When::After);
        let reader = reading(&cache).await;
        read.reached().await;
        let expected = change(&cache, how).await;
        read.release();
        assert_eq!(ended(reader).await, Some(OLD));
        assert_eq!(l1.get("k").await, expected, "{how}");
        assert_eq!(cache.get("k").await.unwrap(), expected, "{how}");
        assert_at_rest(&cache);
    }
}

/// Starts a change that the test holds at L2, and lets a reader find the old value there in the meantime.
async fn reading_during(how: &'static str) -> (Arc<QuickCacheBackend>, Arc<CacheManager>) {
    let (l1, l2, cache) = pair();
    l1.set("k", OLD).await.unwrap();
    l2.plant("k", OLD);
    let mut removing = l2.hold(operation(how), When::Before);
    let changing = Arc::clone(&cache);
    let removal = start(async move { change(&changing, how).await }).await;
    removing.reached().await;
    // The change has not ended: the old value may be read, but must not outlive it.
    let reader = reading(&cache).await;
    assert_eq!(ended(reader).await, Some(OLD), "{how}");
    removing.release();
    ended(removal).await;
    assert_at_rest(&cache);
    (l1, cache)
}

/// What a change does to a tier that is awaited.
fn operation(how: &str) -> Op {
    match how {
        "invalidate" | "put of no time" => Op::Remove,
        "invalidate_pattern" => Op::Pattern,
        _ => Op::Set,
    }
}

// 3. L1 was dropped first; a reader came, found the old value still in L2, and promoted it back for a whole TTL.
#[tokio::test]
async fn a_reader_between_the_removals_of_two_tiers_brings_nothing_back() {
    for how in CHANGES {
        let (l1, cache) = reading_during(how).await;
        let expected = (!how.starts_with("inv")).then_some(NEW);
        assert_eq!(l1.get("k").await, expected, "L1 after {how}");
        assert_eq!(cache.get("k").await.unwrap(), expected, "{how}");
    }
}

// 3. The same for a put of no time, which is a removal.
#[tokio::test]
async fn a_reader_during_a_put_of_no_time_brings_nothing_back() {
    let (l1, cache) = reading_during("put of no time").await;
    assert_eq!((l1.get("k").await, cache.get("k").await.unwrap()), (None, None));
}

/// Starts a removal that the test holds at L2, and a reader whose promotion it holds on the way to an awaited L1.
async fn promoting_during(how: &'static str) {
    let (l1, l2) = (Scripted::new("L1"), Scripted::new("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    l2.plant("k", OLD);
    let mut removing = l2.hold(operation(how), When::Before);
    let changing = Arc::clone(&cache);
    let removal = start(async move { change(&changing, how).await }).await;
    removing.reached().await;
    let promoting = l1.hold(Op::Set, When::Before);
    let reader = reading(&cache).await;
    removing.release();
    run_all().await;
    promoting.release();
    assert_eq!(ended(reader).await, Some(OLD), "{how}");
    ended(removal).await;
    run_all().await;
    assert_eq!((l1.peek("k"), l2.peek("k")), (None, None), "{how}");
    assert_eq!(cache.get("k").await.unwrap(), None, "{how}");
    assert_at_rest(&cache);
}

// 3. Where L1 is awaited the promotion reached it after the removal did.
#[tokio::test]
async fn a_promotion_under_way_to_an_awaited_l1_does_not_outlive_a_removal() {
    promoting_during("invalidate").await;
}

// 3. The same with a pattern, which takes no turn among the writers of a key that comes into flight meanwhile.
#[tokio::test]
async fn a_promotion_under_way_to_an_awaited_l1_does_not_outlive_a_removal_by_pattern() {
    promoting_during("invalidate_pattern").await;
}

// 3. A get had read L2's old bytes; a computation replaced them; the get then promoted the old ones over the new.
#[tokio::test]
async fn what_a_get_read_before_a_computation_stored_does_not_replace_it() {
    let (l1, l2, cache) = pair();
    l2.plant("k", OLD);
    let mut read = l2.hold(Op::Get, When::After);
    let reader = reading(&cache).await;
    read.reached().await;
    // "old" is not JSON, so the typed verb computes.
    let load = || async { Ok(7_u8) };
    assert_eq!(cache.get_or_compute_typed("k", CacheStrategy::ShortTerm, load).await.unwrap(), 7);
    read.release();
    assert_eq!(ended(reader).await, Some(OLD));
    assert_eq!((l1.get("k").await, l2.peek("k")), (Some("7".into()), Some("7".into())));
    assert_eq!(cache.get_stats().promotions, 0);
    assert_at_rest(&cache);
}

// 3. The order that prevents it.
#[tokio::test]
async fn tiers_are_emptied_and_replaced_lowest_first() {
    let journal = Journal::default();
    let (l1, l2) = (Scripted::writing("L1", &journal), Scripted::writing("L2", &journal));
    let l3 = Scripted::writing("L3", &journal);
    let cache = manager(vec![l1 as Tier, l2, l3]);
    cache.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap();
    cache.invalidate("k").await.unwrap();
    cache.invalidate_pattern("k*").await.unwrap();
    let order = journal.lock().clone();
    let of = |what: &str| order.iter().filter(|line| line.ends_with(what)).map(|line| &line[..2]).collect::<Vec<_>>();
    for what in ["set k", "remove k", "remove_pattern k*"] {
        assert_eq!(of(what), ["L3", "L2", "L1"], "{what}");
    }
}

// 3. An invalidator that was cancelled left the lower tiers as they were, with L1 empty: the old value came back.
#[tokio::test]
async fn a_cancelled_invalidation_is_carried_out() {
    let (l1, l2, cache) = pair();
    for polls_before_abort in [0, 100] {
        l1.set("k", OLD).await.unwrap();
        l2.plant("k", OLD);
        let mut removing = l2.hold(Op::Remove, When::Before);
        let removal = invalidating(&cache).await;
        removing.reached().await;
        for _ in 0..polls_before_abort {
            tokio::task::yield_now().await;
        }
        removal.abort();
        run_all().await;
        removing.release();
        run_all().await;
        assert_eq!((l1.get("k").await, l2.peek("k")), (None, None));
        assert_at_rest(&cache);
    }
}
