//! Stories of two at once: a put, a removal, a pattern, a promotion or a user's own code, caught by the other at its
//! worst moment. Timers run in virtual time, so no budget ends while a test holds a tier.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::collections::HashMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::gated::{Gate, Gated, Gates, now};
use common::{Count, Fault, NEW, OLD, Op, PATIENCE, Scripted, When};
use common::{assert_at_rest, ended, manager, manager_on, run_all, start};
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{CacheBackend, CacheError, CacheManager, CacheResult, CacheStrategy, CacheSystemBuilder};
use multi_tier_cache::{InProcess, L2CacheBackend, TierConfig};
use serde::{Deserialize, Serialize, Serializer};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Tier = Arc<dyn L2CacheBackend>;

const KEEP: CacheStrategy = CacheStrategy::ShortTerm;

fn quick() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(1_000).unwrap())
}

fn pair() -> (Arc<QuickCacheBackend>, Arc<Scripted>, Arc<CacheManager>) {
    let (l1, l2) = (quick(), Scripted::new("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    (l1, l2, cache)
}

async fn putting(cache: &Arc<CacheManager>) -> JoinHandle<CacheResult<()>> {
    let cache = Arc::clone(cache);
    start(async move { cache.set_with_strategy("k", NEW, KEEP).await }).await
}

async fn reading(cache: &Arc<CacheManager>) -> JoinHandle<CacheResult<Option<Bytes>>> {
    let cache = Arc::clone(cache);
    start(async move { cache.get("k").await }).await
}

async fn removing(cache: &Arc<CacheManager>) -> JoinHandle<CacheResult<()>> {
    let cache = Arc::clone(cache);
    start(async move { cache.invalidate("k").await }).await
}

async fn sweeping(cache: &Arc<CacheManager>) -> JoinHandle<CacheResult<()>> {
    let cache = Arc::clone(cache);
    start(async move { cache.invalidate_pattern("k*").await }).await
}

/// A caller whose computation ends with `value` when it is told to.
async fn computing(
    cache: &Arc<CacheManager>,
    count: &Count,
    value: Bytes,
) -> (oneshot::Sender<()>, JoinHandle<CacheResult<Bytes>>) {
    let (finish, finished) = oneshot::channel();
    let (cache, count) = (Arc::clone(cache), count.clone());
    let caller = start(async move {
        let load = || async {
            count.add();
            let _ = finished.await;
            Ok(value)
        };
        cache.get_or_compute_with("k", KEEP, load).await
    });
    (finish, caller.await)
}

// A put had replaced L2's value and not yet L1's when a reader found the old one in L1. Who asked after the put's Ok
// joined that reader, and was given the old value.
#[tokio::test(start_paused = true)]
async fn who_reads_after_a_put_does_not_join_a_reader_from_before_its_end() {
    let (l1, l2) = (Scripted::new("L1"), Scripted::new("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    l1.plant("k", OLD);
    l2.plant("k", OLD);
    let mut storing = l2.hold(Op::Set, When::Before);
    let put = putting(&cache).await;
    storing.reached().await;
    let mut answering = l1.hold(Op::Get, When::After);
    let early = reading(&cache).await;
    answering.reached().await;
    storing.release();
    ended(put).await.unwrap();
    let late = reading(&cache).await;
    answering.release();
    assert_eq!(ended(early).await.unwrap(), Some(OLD), "it asked while the put was under way");
    assert_eq!(ended(late).await.unwrap(), Some(NEW));
    assert_at_rest(&cache);
}

// A computation began after a put had revoked the key and before it reached L2. It ended last, and its value, read from
// the source before the put, replaced what was put.
#[tokio::test(start_paused = true)]
async fn a_computation_begun_during_a_put_does_not_replace_what_was_put() {
    let (_, l2, cache) = pair();
    let mut storing = l2.hold(Op::Set, When::Before);
    let put = putting(&cache).await;
    storing.reached().await;
    let (finish, computation) = computing(&cache, &Count::default(), OLD).await;
    storing.release();
    ended(put).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(NEW));
    finish.send(()).unwrap();
    assert_eq!(ended(computation).await.unwrap(), OLD, "its own caller may have it");
    assert_eq!((cache.get("k").await.unwrap(), l2.peek("k")), (Some(NEW), Some(NEW)));
    assert_at_rest(&cache);
}

// A pattern revoked the key and waited for a put under way; a reader promoted L2's old value in the meantime. The put
// was Ok, and its writer read the old value from L1 until the pattern's scan had ended.
#[tokio::test(start_paused = true)]
async fn a_writer_reads_its_put_although_a_pattern_is_under_way() {
    let (l1, l2, cache) = pair();
    l2.plant("k", OLD);
    let mut storing = l2.hold(Op::Set, When::Before);
    let put = putting(&cache).await;
    storing.reached().await;
    let mut scanning = l2.hold(Op::Pattern, When::Before);
    let pattern = sweeping(&cache).await;
    assert_eq!(cache.get("k").await.unwrap(), Some(OLD), "nothing has changed yet");
    assert_eq!(l1.get("k").await, Some(OLD), "promoted");
    storing.release();
    ended(put).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(NEW));
    scanning.reached().await;
    scanning.release();
    ended(pattern).await.unwrap();
    assert_eq!((l1.get("k").await, l2.peek("k")), (None, None), "the pattern came last");
    assert_at_rest(&cache);
}

// While a pattern scanned L3 a reader that had found the old value there was writing it into L2. L2 was scanned, then
// written: the pattern was Ok, and the old value stayed.
#[tokio::test(start_paused = true)]
async fn a_pattern_waits_for_copies_on_their_way_into_a_tier_before_it_scans_that_tier() {
    let (l2, l3) = (Scripted::new("L2"), Scripted::new("L3"));
    let cache = manager(vec![quick() as Tier, Arc::clone(&l2) as Tier, Arc::clone(&l3) as Tier]);
    l3.plant("k", OLD);
    let mut scanning = l3.hold(Op::Pattern, When::Before);
    let pattern = sweeping(&cache).await;
    scanning.reached().await;
    let mut storing = l2.hold(Op::Set, When::Before);
    let reader = reading(&cache).await;
    storing.reached().await;
    scanning.release();
    run_all().await;
    assert!(!pattern.is_finished(), "the copy can still land in L2");
    storing.release();
    assert_eq!(ended(reader).await.unwrap(), Some(OLD), "it came before the pattern's end");
    ended(pattern).await.unwrap();
    assert_eq!((l2.peek("k"), l3.peek("k"), cache.get("k").await.unwrap()), (None, None, None));
    assert_at_rest(&cache);
}

// A hit in L4 had been copied into L3 when a pattern refused the other copies: the one that was made was not counted.
#[tokio::test(start_paused = true)]
async fn a_promotion_that_is_stopped_half_way_counts_the_copies_it_made() {
    let [l2, l3, l4] = ["L2", "L3", "L4"].map(Scripted::new);
    let cache =
        manager(vec![quick() as Tier, Arc::clone(&l2) as Tier, Arc::clone(&l3) as Tier, Arc::clone(&l4) as Tier]);
    l4.plant("k", OLD);
    let mut storing = l3.hold(Op::Set, When::Before);
    let reader = reading(&cache).await;
    storing.reached().await;
    let pattern = sweeping(&cache).await;
    storing.release();
    assert_eq!(ended(reader).await.unwrap(), Some(OLD));
    ended(pattern).await.unwrap();
    assert_eq!((l3.calls(Op::Set), l2.calls(Op::Set)), (1, 0));
    assert_eq!(cache.get_stats().promotions, 1);
    assert_eq!((l3.peek("k"), cache.get("k").await.unwrap()), (None, None));
    assert_at_rest(&cache);
}

// The time left of L2's value was counted from the arrival of a slow answer: the copy in L1 outlived its source by the
// way back.
#[tokio::test(start_paused = true)]
async fn a_promoted_copy_does_not_outlive_its_source_by_the_time_of_the_answer() {
    let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let cache = manager_on(&time, vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]).await;
    l2.plant_for("k", OLD, Duration::from_millis(700));
    let mut answering = l2.hold(Op::Get, When::After);
    let reader = reading(&cache).await;
    answering.reached().await;
    time.advance(Duration::from_millis(500));
    answering.release();
    assert_eq!(ended(reader).await.unwrap(), Some(OLD));
    time.advance(Duration::from_millis(199));
    assert_eq!(l1.get("k").await, Some(OLD));
    time.advance(Duration::from_millis(1));
    assert_eq!(l1.get("k").await, None, "700 ms after L2 was asked");
}

// L2's backend panicked while it removed a key. The panic ended the removal before its second drop, and what a reader
// had promoted meanwhile stayed in L1.
#[tokio::test(start_paused = true)]
async fn a_removal_whose_tier_panics_still_drops_what_was_promoted_meanwhile() {
    let (l1, l2, cache) = pair();
    l2.plant("k", OLD);
    l2.fail(Op::Remove, Fault::Panic);
    let mut removing_below = l2.hold(Op::Remove, When::Before);
    let removal = removing(&cache).await;
    removing_below.reached().await;
    assert_eq!(cache.get("k").await.unwrap(), Some(OLD));
    assert_eq!(l1.get("k").await, Some(OLD), "promoted");
    removing_below.release();
    ended(removal).await.unwrap_err();
    assert_eq!(l1.get("k").await, None);
    assert_at_rest(&cache);
}

// L2's backend panicked while it stored a computed value. The flight went down with its leader, and each of those who
// had waited for it computed anew, one after the other.
#[tokio::test(start_paused = true)]
async fn a_tier_that_panics_as_it_stores_costs_no_second_computation() {
    let (_, l2, cache) = pair();
    l2.fail(Op::Set, Fault::Panic);
    let count = Count::default();
    let (finish, first) = computing(&cache, &count, NEW).await;
    let mut callers = vec![first];
    for _ in 0..7 {
        callers.push(computing(&cache, &count, OLD).await.1);
    }
    finish.send(()).unwrap();
    for caller in callers {
        assert_eq!(ended(caller).await.unwrap(), NEW);
    }
    assert_eq!((count.get(), l2.calls(Op::Set)), (1, 1));
    assert_at_rest(&cache);
}

/// A cache of in-process tiers whose promotion condition is given the cache itself.
fn deciding(
    time: &ManualClock,
    (l1, l2): (Tier, Tier),
    condition: impl Fn(&CacheManager, &str) -> bool + Send + Sync + 'static,
) -> Arc<CacheManager> {
    let own = Arc::new(OnceLock::<Weak<CacheManager>>::new());
    let known = Arc::clone(&own);
    let builder = CacheSystemBuilder::new()
        .with_clock(time.clock())
        .with_tier(l1, TierConfig::as_l1())
        .with_tier(l2, TierConfig::as_l2())
        .with_promotion_condition(move |key, _, _| condition(&known.get().unwrap().upgrade().unwrap(), key));
    let cache = now(builder.build()).unwrap().cache_manager;
    own.set(Arc::downgrade(&cache)).unwrap();
    cache
}

// A pattern had marked the keys in flight and not yet swept L2; a reader came, found the old value there, and was asking
// the promotion condition until the pattern had ended. Then its copy went into L1, and stayed.
#[test]
fn a_reader_that_decides_on_a_promotion_while_a_pattern_sweeps_brings_nothing_back() {
    let (sweep, sweeping, go_on_sweeping) = Gate::new();
    let (decision, deciding_now, decide) = Gate::new();
    let (l1, l2, decisions) = (quick(), Gated::new(Vec::new(), Some(sweep)), Gates::new(vec![Some(decision)]));
    now(l2.set("k", OLD)).unwrap();
    let cache = deciding(&ManualClock::new(), (Arc::clone(&l1) as Tier, l2), move |_, _| {
        decisions.pass();
        true
    });
    thread::scope(|scope| {
        let removal = scope.spawn(|| now(cache.invalidate_pattern("k*")));
        sweeping.recv_timeout(PATIENCE).unwrap();
        let reader = scope.spawn(|| now(cache.get("k")));
        deciding_now.recv_timeout(PATIENCE).unwrap();
        go_on_sweeping.send(()).unwrap();
        removal.join().unwrap().unwrap();
        decide.send(()).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), Some(OLD), "it came before the removal ended");
    });
    assert_eq!((now(l1.get("k")), now(cache.get("k")).unwrap()), (None, None));
}

// The promotion condition ran under the lock that changes of the key take: one that removed the key it was asked about
// waited for itself for ever. And a removed key must not be promoted, whatever the condition answers.
#[test]
fn a_promotion_condition_may_remove_the_key_it_is_asked_about() {
    for answer in [false, true] {
        let (l1, l2) = (quick(), Arc::new(DashMapCache::new()));
        now(l2.set("k", OLD)).unwrap();
        let cache = deciding(&ManualClock::new(), (Arc::clone(&l1) as Tier, l2), move |cache, key| {
            now(cache.invalidate(key)).unwrap();
            answer
        });
        let (send, read) = channel();
        let reader = Arc::clone(&cache);
        thread::spawn(move || send.send(now(reader.get("k"))));
        assert_eq!(read.recv_timeout(PATIENCE).unwrap().unwrap(), Some(OLD), "found before it was removed");
        assert_eq!((now(l1.get("k")), now(cache.get("k")).unwrap()), (None, None), "{answer}");
    }
}

// A promotion was being decided when the very same bytes were put again for less time. The copy was made all the same,
// and L1 kept the value for the longer time that the first put had given it.
#[test]
fn a_promotion_does_not_undo_a_put_of_the_same_bytes_for_less_time() {
    const LESS: Duration = Duration::from_millis(300);
    let time = ManualClock::new();
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let l2 = Arc::new(DashMapCache::new().with_clock(time.clock()));
    let same = NEW;
    let again = same.clone();
    let cache = deciding(&time, (Arc::clone(&l1) as Tier, l2), move |cache, key| {
        now(cache.set_with_strategy(key, again.clone(), CacheStrategy::Custom(LESS))).unwrap();
        true
    });
    now(cache.set_with_strategy("k", same, CacheStrategy::LongTerm)).unwrap();
    l1.evict("k"); // as if L1 had needed the room
    assert_eq!(now(cache.get("k")).unwrap(), Some(NEW));
    assert_eq!(now(l1.get("k")), Some(NEW), "put by the condition");
    time.advance(LESS);
    assert_eq!((now(l1.get("k")), now(cache.get("k")).unwrap()), (None, None));
}

// A caller of the sharing verb hit bytes in L2 and put their decoded form in their place there, which then counted as a
// change: its own promotion into L1 was refused, at every hit.
#[test]
fn decoding_a_hit_does_not_stop_its_promotion() {
    let (l1, l2) = (quick(), Arc::new(DashMapCache::new()));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    now(l2.set("k", Bytes::from_static(b"5"))).unwrap();
    let load = || async { Ok(7_u8) };
    assert_eq!(*now(cache.get_or_compute_shared("k", KEEP, load)).unwrap(), 5, "there is no need to compute");
    assert_eq!((cache.get_stats().promotions, now(l1.get("k"))), (1, Some(Bytes::from_static(b"5"))));
    assert_at_rest(&cache);
}

// A shared value that cannot be encoded was a hit for a caller who wants bytes, and there were none to give: an error
// for as long as it stayed.
#[test]
fn a_shared_value_without_bytes_is_a_miss_for_a_caller_who_wants_bytes() {
    let cache = manager(vec![quick() as Tier]);
    let no_json_key = HashMap::from([((1_u8, 2_u8), 3_u8)]);
    now(cache.get_or_compute_shared("k", KEEP, || async { Ok(no_json_key) })).unwrap();
    let load = || async { Ok(NEW) };
    assert_eq!(now(cache.get_or_compute_with("k", KEEP, load)).unwrap(), NEW);
    assert_eq!(cache.get_stats().misses, 2);
    assert_at_rest(&cache);
}

#[derive(Debug, Deserialize)]
struct PanicsOnEncoding;

impl Serialize for PanicsOnEncoding {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("a user's Serialize panics");
    }
}

// A user's `Serialize` panicked, and the panic went through the cache into the caller.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_users_serialize_is_an_error() {
    let (_, l2, cache) = pair();
    let load = || async { Ok(PanicsOnEncoding) };
    let typed = cache.get_or_compute_typed("k", KEEP, load).await.unwrap_err();
    let shared = cache.get_or_compute_shared("k", KEEP, load).await.unwrap_err();
    for error in [typed, shared] {
        assert!(matches!(error, CacheError::InternalError(_)), "{error:?}");
    }
    assert_eq!(l2.calls(Op::Set), 0);
    assert_at_rest(&cache);
}

// The timer of a tier's budget panicked in a Tokio runtime that was built without time.
#[test]
fn a_cache_works_in_a_runtime_without_timers() {
    let (l1, l2, cache) = pair();
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    let load = || async { Ok(NEW) };
    assert_eq!(runtime.block_on(cache.get_or_compute_with("k", KEEP, load)).unwrap(), NEW);
    assert_eq!((now(l1.get("k")), l2.peek("k")), (Some(NEW), Some(NEW)));
    assert_at_rest(&cache);
}

struct Database;

impl Database {
    async fn load(&self, key: &str) -> CacheResult<Bytes> {
        std::future::ready(Ok(Bytes::from(key.to_owned()))).await
    }
}

// Loaders that borrow from their caller made the verbs' futures unfit for `tokio::spawn`. That this compiles is the test.
#[tokio::test(start_paused = true)]
async fn verbs_whose_loaders_borrow_can_be_spawned() {
    let (_, _, cache) = pair();
    let task = tokio::spawn(async move {
        let (database, key) = (Database, String::from("k"));
        let nested = || async { database.load(&key).await };
        assert_eq!(cache.get_or_compute_with(&key, KEEP, nested).await.unwrap(), "k");
        assert_eq!(cache.get_or_compute_with(&key, KEEP, || database.load(&key)).await.unwrap(), "k");
        let shared = || async { database.load(&key).await.map(|bytes| bytes.to_vec()) };
        assert_eq!(*cache.get_or_compute_shared(&key, KEEP, shared).await.unwrap(), b"k");
    });
    ended(task).await;
}
