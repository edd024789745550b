//! Listeners: what they cost others, and what they hear of calls whose callers went away.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use bytes::Bytes;
use common::gated::Gate;
use common::heard::Heard;
use common::{Op, PATIENCE, Scripted, When, run_all};
use futures_util::FutureExt;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::telemetry::{Activity, CacheEvent, EventListener, Operation, names};
use multi_tier_cache::testing::{Fault, Faulty, Fleet, ManualClock, Stage, Step, When as At};
use multi_tier_cache::{Cache, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache, TierConfig};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const TTL: Duration = Duration::from_secs(60);
const VALUE: Bytes = Bytes::from_static(b"value");

static ENCODED: AtomicUsize = AtomicUsize::new(0);

/// A value that counts how often it is encoded.
#[derive(Debug, PartialEq, Deserialize)]
struct Costly(String);

impl Serialize for Costly {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::Relaxed);
        serializer.serialize_str(&self.0)
    }
}

/// Two tiers in process that promote, the upper of which keeps values for half as long. The condition notes the levels
/// that it is asked about.
async fn in_process(time: &ManualClock, asked: &Arc<Mutex<Vec<usize>>>) -> CacheSystem {
    let asked = Arc::clone(asked);
    let l1 = QuickCacheBackend::new(100).unwrap().with_clock(time.clock());
    let l2 = DashMapCache::new().with_clock(time.clock());
    CacheSystemBuilder::new()
        .with_clock(time.clock())
        .with_tier(Arc::new(l1), TierConfig::new(1).with_ttl_scale(0.5))
        .with_tier(Arc::new(l2), TierConfig::as_l2())
        .with_event_listener(Heard::default())
        .with_promotion_condition(move |_, _, level| {
            asked.lock().push(level);
            true
        })
        .build()
        .await
        .unwrap()
}

/// A listener of hits sees to it that they are looked at more closely, which must not make promotions of them.
#[tokio::test]
async fn a_promotion_condition_is_not_asked_about_hits_of_the_first_tier() {
    let (time, asked) = (ManualClock::new(), Arc::default());
    let system = in_process(&time, &asked).await;
    let (cache, costly): (_, Cache<u64, Costly>) = (system.cache_manager(), system.cache("costly").unwrap());
    costly.insert(&7, Costly("Ada".to_owned())).await.unwrap();
    cache.set_with_strategy("k", VALUE, CacheStrategy::Custom(TTL)).await.unwrap();
    for _ in 0..3 {
        assert!(costly.get(&7).await.unwrap().is_some());
        assert!(costly.get_many(&[7]).await.unwrap()[0].is_some());
        assert!(cache.get("k").await.unwrap().is_some());
        cache.get_or_compute_with("k", CacheStrategy::Custom(TTL), || async { Ok(VALUE) }).await.unwrap();
    }
    assert_eq!((&*asked.lock(), ENCODED.load(Ordering::Relaxed)), (&vec![], 0));
    time.advance(TTL / 2);
    for _ in 0..3 {
        assert!(cache.get("k").await.unwrap().is_some());
    }
    assert_eq!(*asked.lock(), [2], "the first hit was one of the second tier");
}

/// Is held up where it hears of a promotion.
struct HeldUp(Mutex<Option<Gate>>);

impl EventListener for HeldUp {
    fn on_event(&self, event: &CacheEvent<'_>) {
        if (event.operation, event.activity) == (Operation::Get, Activity::Promotion)
            && let Some(gate) = self.0.lock().take()
        {
            gate.pass();
        }
    }
}

/// A cache whose listener is held up, told and let go by these.
async fn held_up(l3: &Arc<Scripted>, l2: Option<&Arc<Scripted>>) -> (Arc<CacheManager>, Receiver<()>, Sender<()>) {
    let (gate, reached, release) = Gate::new();
    let l1 = Arc::new(QuickCacheBackend::new(100).unwrap());
    let mut builder = CacheSystemBuilder::new().with_tier(l1, TierConfig::as_l1());
    if let Some(l2) = l2 {
        builder = builder.with_tier(Arc::clone(l2) as _, TierConfig::as_l2().with_promotion_frequency(1));
    }
    let builder = builder.with_tier(Arc::clone(l3) as _, TierConfig::as_l3().with_promotion_frequency(1));
    let system = builder.with_event_listener(HeldUp(Mutex::new(Some(gate)))).build().await.unwrap();
    (system.cache_manager, reached, release)
}

fn get(cache: &Arc<CacheManager>) -> JoinHandle<Option<Bytes>> {
    let cache = Arc::clone(cache);
    tokio::spawn(async move { cache.get("k").await.unwrap() })
}

/// It is called by the reader, which stores copies in a turn of its own: the removal waits for that turn to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_listener_that_is_held_up_by_a_promotion_holds_up_no_removal() {
    for middle in [Some(Scripted::new("L2")), None] {
        let l3 = Scripted::new("L3");
        l3.plant("k", VALUE);
        let (cache, reached, release) = held_up(&l3, middle.as_ref()).await;
        let reader = get(&cache);
        reached.recv_timeout(PATIENCE).unwrap();
        timeout(PATIENCE / 2, cache.invalidate("k")).await.expect("a removal waits for a listener").unwrap();
        assert!(middle.is_none_or(|l2| l2.peek("k").is_none()) && l3.peek("k").is_none());
        assert_eq!(timeout(PATIENCE / 2, cache.get("k")).await.unwrap().unwrap(), None);
        release.send(()).unwrap();
        assert_eq!(reader.await.unwrap(), Some(VALUE));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_listener_that_is_held_up_by_a_promotion_holds_up_nobody_who_waits_for_the_value() {
    for middle in [Some(Scripted::new("L2")), None] {
        let l3 = Scripted::new("L3");
        l3.plant("k", VALUE);
        let (cache, reached, release) = held_up(&l3, middle.as_ref()).await;
        let mut asked = l3.hold(Op::Get, When::After);
        let leader = get(&cache);
        asked.reached().await;
        let mut follower = Box::pin(cache.get("k"));
        assert!(follower.as_mut().now_or_never().is_none(), "it waits for the leader");
        asked.release();
        reached.recv_timeout(PATIENCE).unwrap();
        let value = timeout(PATIENCE / 2, follower).await.expect("a follower waits for a listener");
        assert_eq!(value.unwrap(), Some(VALUE));
        release.send(()).unwrap();
        assert_eq!(leader.await.unwrap(), Some(VALUE));
    }
}

/// Begins something whose caller goes away at once.
fn given_up<R>(call: impl Future<Output = R>) {
    assert!(call.now_or_never().is_none(), "it waits");
}

#[tokio::test]
async fn a_change_is_told_when_it_ends_though_its_caller_went_away() {
    let (heard, l2) = (Heard::default(), Faulty::new(Arc::new(DashMapCache::new())));
    let builder = CacheSystemBuilder::new().with_l2(l2.clone()).with_event_listener(heard.clone());
    let system = builder.build().await.unwrap();
    let (cache, users): (_, Cache<u64, String>) = (system.cache_manager(), system.cache("users").unwrap());
    l2.always(Fault::Hang);
    given_up(cache.update_cache("a", VALUE, None));
    given_up(cache.invalidate("b"));
    given_up(cache.remove_many(&["c", "d"]));
    given_up(cache.remove_pattern("e*"));
    given_up(users.insert(&1, "Ada".to_owned()));
    given_up(users.remove(&2));
    given_up(users.remove_many(&[3, 4, 5]));
    run_all().await;
    assert_eq!(heard.take(), [""; 0], "none has ended");
    l2.always(Fault::None);
    run_all().await;
    let mut told = heard.take();
    told.sort();
    let expected = [
        "bytes put inserted",
        "bytes remove invalidated",
        "bytes remove invalidated",
        "bytes remove invalidated x2",
        "users put inserted",
        "users remove invalidated",
        "users remove invalidated x3",
    ];
    assert_eq!(told, expected);
    let events = |cache, operation, activity| {
        let labels = [("cache", cache), ("operation", operation), ("activity", activity)];
        system.metrics().number(&names::EVENTS, &labels)
    };
    assert_eq!(events("bytes", "remove", "invalidated"), Some(4.0));
    assert_eq!(events("users", "put", "inserted"), Some(1.0));
}

#[tokio::test]
async fn a_change_that_fails_is_told_as_such_though_its_caller_went_away() {
    let (heard, l2) = (Heard::default(), Faulty::new(Arc::new(DashMapCache::new())));
    let builder = CacheSystemBuilder::new().with_l2(l2.clone()).with_event_listener(heard.clone());
    let system = builder.build().await.unwrap();
    let users: Cache<u64, String> = system.cache("users").unwrap();
    l2.always(Fault::Hang);
    given_up(system.cache_manager().invalidate("k"));
    given_up(users.remove_many(&[1, 2]));
    l2.always(Fault::Fail);
    run_all().await;
    let mut told = heard.take();
    told.sort();
    assert_eq!(told, ["bytes remove error", "users remove error"]);
}

#[tokio::test]
async fn a_change_of_a_fleet_is_told_when_it_ends_though_its_caller_went_away() {
    let (fleet, stage, heard) = (Fleet::new(), Stage::new(), Heard::default());
    let builder = fleet.builder().unwrap().with_stage(&stage).with_event_listener(heard.clone());
    let system = fleet.join(builder).await.unwrap();
    let users: Cache<u64, String> = system.cache("users").unwrap();
    let mut revoking = stage.hold(Step::Revoke, At::Before);
    given_up(users.remove(&7));
    revoking.reached().await;
    assert_eq!(heard.take(), [""; 0]);
    revoking.release();
    run_all().await;
    assert_eq!(heard.take(), ["users remove invalidated"]);
    let mut revoking = stage.hold(Step::Revoke, At::Before);
    given_up(users.insert(&7, "Ada".to_owned()));
    revoking.reached().await;
    assert_eq!(heard.take(), [""; 0]);
    revoking.release();
    run_all().await;
    assert_eq!(heard.take(), ["users put inserted"]);
}
