//! Callers that go away: at every await, with and without others that wait.

use std::time::Duration;

use futures_util::FutureExt;
use multi_tier_cache::testing::{Hub, ManualClock, Stage};
use multi_tier_cache::{CacheSystemBuilder, CallOptions, Freshness, QuickCacheBackend, TierConfig};
use std::sync::Arc;
use tokio::task::yield_now;

use crate::revalidate::stale;
use crate::source::{Answer, Source};
use crate::world::{KEY, PLACES, Place, World, ended, fetch, quiet, seconds, seen, texts, until};

const TTL: Duration = seconds(10);

fn policies() -> [(&'static str, Freshness); 4] {
    let plain = Freshness::new(TTL);
    [
        ("plain", plain),
        ("revalidated", plain.with_stale_while_revalidate(seconds(60))),
        ("if error", plain.with_stale_if_error(seconds(60))),
        ("soft", plain.with_stale_if_error(seconds(60)).with_load_deadlines(Some(seconds(1)), Some(seconds(5)))),
    ]
}

/// Polls `work` so many times, letting others run in between; true if it ended.
async fn polled(work: impl Future<Output = impl Sized>, times: usize) -> bool {
    let mut work = Box::pin(work);
    for _ in 0..times {
        if work.as_mut().now_or_never().is_some() {
            return true;
        }
        yield_now().await;
    }
    false
}

#[tokio::test]
async fn a_caller_dropped_at_any_await_leaks_nothing_and_a_load_that_began_is_stored() {
    for ((name, rules), stale) in policies().into_iter().flat_map(|policy| [(policy, false), (policy, true)]) {
        for place in PLACES {
            let mut ended = false;
            for polls in 0..100 {
                let (world, source) = (World::new(place, rules).await, Source::of("new"));
                if stale {
                    world.store("old").await;
                    world.time.advance(TTL);
                }
                ended = polled(world.fetch(&source), polls).await;
                world.rest().await;
                let what = format!("{place:?} {name}, stale {stale}, after {polls} polls");
                assert!(source.calls() <= 1, "{what}");
                if source.calls() == 1 {
                    assert_eq!(world.peek().await.as_deref(), Some("new"), "{what}");
                }
                if ended {
                    break;
                }
            }
            assert!(ended, "{place:?} {name}: never ended");
        }
    }
}

#[tokio::test]
async fn a_caller_dropped_at_any_step_of_the_coordinator_leaks_nothing_and_a_load_that_began_is_stored() {
    for (name, rules) in policies() {
        let mut ended = false;
        for polls in 0..200 {
            let (time, stage) = (ManualClock::new(), Stage::new());
            let l1 = Arc::new(QuickCacheBackend::new(100).unwrap().with_clock(time.clock()));
            let hub = Arc::new(Hub::with_clock(time.clock()));
            let builder = CacheSystemBuilder::new().with_clock(time.clock()).with_stage(&stage);
            let tiers = builder.with_tier(l1, TierConfig::as_l1()).with_tier(hub, TierConfig::as_l2());
            let system = tiers.build().await.unwrap();
            stage.take_steps_apart();
            let (cache, source) = (texts(&system, rules), Source::of("new"));
            ended = polled(fetch(&cache, &source, &CallOptions::default()), polls).await;
            until("at rest", || system.cache_manager().get_stats().in_flight_requests == 0).await;
            quiet().await;
            if source.calls() == 1 {
                let stored = cache.get(&KEY).await.unwrap();
                assert_eq!(stored.as_deref().map(String::as_str), Some("new"), "{name} after {polls} polls");
            } else {
                let read = fetch(&cache, &Source::of("next"), &CallOptions::default()).await;
                assert_eq!(seen(&read), ("next", false), "{name} after {polls} polls: nothing holds up the next");
            }
            if ended {
                break;
            }
        }
        assert!(ended, "{name}: never ended");
    }
}

#[tokio::test]
async fn a_load_goes_on_when_all_who_wait_for_it_are_dropped() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("new"));
        let hold = source.hold();
        let readers: Vec<_> = (0..10).map(|_| world.start(&source)).collect();
        source.begun(1).await;
        quiet().await;
        for reader in readers {
            reader.abort();
            assert!(reader.await.unwrap_err().is_cancelled());
        }
        hold.release();
        source.ended(1).await;
        world.rest().await;
        assert_eq!((world.peek().await.as_deref(), source.calls()), (Some("new"), 1), "{place:?}");
    }
}

#[tokio::test]
async fn who_waits_has_the_value_although_the_first_caller_was_dropped() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("new"));
        let hold = source.hold();
        let first = world.start(&source);
        source.begun(1).await;
        let second = world.start(&source);
        quiet().await;
        first.abort();
        let _ = first.await;
        hold.release();
        assert_eq!((seen(&ended(second).await), source.calls()), (("new", false), 1), "{place:?}");
        world.rest().await;
    }
}

/// A caller goes away while its load is held, which then ends.
async fn drop_while_loading(world: &World, source: &Source) {
    let hold = source.hold();
    let reader = world.start(source);
    source.begun(1).await;
    reader.abort();
    let _ = reader.await;
    hold.release();
    world.rest().await;
}

#[tokio::test]
async fn a_failed_load_whose_caller_was_dropped_still_pauses_the_next() {
    for place in PLACES {
        let rules = Freshness::new(TTL).with_stale_if_error(seconds(60));
        let (world, source) = (World::new(place, rules).await, Source::new(Answer::Fails));
        world.store("old").await;
        world.time.advance(TTL);
        drop_while_loading(&world, &source).await;
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        assert_eq!(source.calls(), 1, "{place:?}");
    }
}

#[tokio::test]
async fn a_refresh_outlives_the_caller_that_began_it() {
    for place in [Place::First, Place::SharedMap, Place::Hub, Place::Redis] {
        let (world, source) = stale(place).await;
        drop_while_loading(&world, &source).await;
        assert_eq!((world.peek().await.as_deref(), source.calls()), (Some("new"), 1), "{place:?}");
    }
}
