//! Stale while revalidated: answered at once, refreshed once in the background.

use std::time::Duration;

use multi_tier_cache::{Freshness, LoadError};
use test_servers::RedisServer;

use crate::source::{Answer, Down, Source};
use crate::world::{KEY, PLACES, Place, World, ended, fetch, quiet, redis_instance, seconds, seen, text, texts, until};
use multi_tier_cache::CallOptions;
use multi_tier_cache::testing::ManualClock;

const TTL: Duration = seconds(10);
const WINDOW: Duration = seconds(5);

fn rules() -> Freshness {
    Freshness::new(TTL).with_stale_while_revalidate(WINDOW)
}

#[tokio::test]
async fn the_window_opens_with_the_end_of_the_fresh_time_and_closes_to_the_nanosecond() {
    for place in PLACES {
        let step = place.step();
        for (at, answered, stale, refreshed) in [
            (TTL - step, "old", false, false),
            (TTL, "old", true, true),
            (TTL + step, "old", true, true),
            (TTL + WINDOW - step, "old", true, true),
            (TTL + WINDOW, "new", false, false),
            (TTL + WINDOW + step, "new", false, false),
        ] {
            let (world, source) = (World::new(place, rules()).await, Source::of("new"));
            world.store("old").await;
            world.time.advance(at);
            assert_eq!(world.peek().await.is_some(), answered == "old", "{place:?} at {at:?}");
            assert_eq!(seen(&world.fetch(&source).await), (answered, stale), "{place:?} at {at:?}");
            world.rest().await;
            assert_eq!(world.cache.stats().refreshes, u64::from(refreshed), "{place:?} at {at:?}");
            let then = if at < TTL { "old" } else { "new" };
            assert_eq!(world.peek().await.as_deref(), Some(then), "{place:?} at {at:?}");
        }
    }
}

#[tokio::test]
async fn many_hits_are_answered_at_once_and_refreshed_once() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = source.hold();
        let readers: Vec<_> = (0..100).map(|_| world.start(&source)).collect();
        for reader in readers {
            assert_eq!(seen(&ended(reader).await), ("old", true), "{place:?}");
        }
        source.begun(1).await;
        for _ in 0..100 {
            assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        }
        hold.release();
        world.rest().await;
        assert_eq!((source.calls(), world.cache.stats().refreshes), (1, 1), "{place:?}");
        assert_eq!(seen(&world.fetch(&source).await), ("new", false), "{place:?}");
        assert_eq!(world.cache.stats().stale_hits, 200, "{place:?}");
    }
}

#[tokio::test]
async fn a_refresh_that_fails_or_panics_is_tried_once_a_pause_and_never_reaches_a_caller() {
    for (place, answer) in PLACES.into_iter().flat_map(|place| [(place, Answer::Fails), (place, Answer::Panics)]) {
        let rules = rules().with_error_throttle(seconds(2));
        let (world, source) = (World::new(place, rules).await, Source::new(answer));
        world.store("old").await;
        world.time.advance(TTL);
        for (pause, calls) in [(0, 1), (1, 1), (1, 2), (1, 2), (1, 3)] {
            world.time.advance(seconds(pause));
            for _ in 0..10 {
                assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
                world.rest().await;
            }
            assert_eq!(source.calls(), calls, "{place:?} {answer:?}");
        }
        // At the end of the window there is nothing left to answer.
        world.time.advance(seconds(1));
        match (world.fetch(&source).await, answer) {
            (Err(LoadError::Load(error)), Answer::Fails) => assert_eq!(*error, Down),
            (Err(LoadError::Cache(error)), Answer::Panics) => assert!(error.to_string().contains("panicked")),
            (other, _) => panic!("{place:?} {other:?}"),
        }
        source.answers(Answer::Value("back"));
        assert_eq!(seen(&world.fetch(&source).await), ("back", false), "{place:?}");
    }
}

#[tokio::test]
async fn a_refresh_slower_than_the_window_is_joined_by_those_who_have_nothing_left() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = source.hold();
        assert_eq!(seen(&world.fetch(&source).await), ("old", true));
        source.begun(1).await;
        world.time.advance(WINDOW);
        let late = world.start(&source);
        quiet().await;
        assert!(!late.is_finished());
        hold.release();
        let answer = ended(late).await;
        assert_eq!((text(answer.as_ref().unwrap()).as_deref(), source.calls()), (Some("new"), 1), "{place:?}");
    }
}

/// A value that is stale and may be answered, and the source of a newer one.
pub(crate) async fn stale(place: Place) -> (World, Source) {
    let ttl = if place == Place::Redis { Duration::ZERO } else { TTL };
    let rules = Freshness::new(ttl).with_stale_while_revalidate(seconds(60));
    let (world, source) = (World::new(place, rules).await, Source::of("new"));
    world.store("old").await;
    world.time.advance(TTL);
    (world, source)
}

/// Story: a read of the stale value in a shared tier made the load under way lose the right to store its value, so that
/// a key that was read all the time was never refreshed.
#[tokio::test]
async fn reads_of_the_stale_value_do_not_keep_the_new_one_from_being_stored() {
    for place in [Place::First, Place::SharedMap, Place::Hub, Place::Redis] {
        let (world, source) = stale(place).await;
        let hold = source.hold();
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        source.begun(1).await;
        for _ in 0..10 {
            assert_eq!(world.peek().await.as_deref(), Some("old"), "{place:?}");
        }
        hold.release();
        assert_eq!(world.stored().await.as_deref(), Some("new"), "{place:?}");
    }
}

#[tokio::test]
async fn a_ttl_of_zero_is_stale_at_once_and_refreshed_by_every_read() {
    for place in PLACES {
        let rules = Freshness::new(Duration::ZERO).with_stale_while_revalidate(WINDOW);
        let (world, source) = (World::new(place, rules).await, Source::of("new"));
        world.store("old").await;
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        world.rest().await;
        assert_eq!(world.cache.stats().refreshes, 1, "{place:?}");
    }
}

#[tokio::test]
async fn the_stale_value_of_another_instance_is_answered_from_redis_and_refreshed_once() {
    let (server, time) = (RedisServer::start().unwrap(), ManualClock::new());
    let (one, other) = (redis_instance(&server, &time).await, redis_instance(&server, &time).await);
    let rules = Freshness::new(Duration::ZERO).with_stale_while_revalidate(seconds(60));
    let (writer, reader) = (texts(&one, rules), texts(&other, rules));
    let options = CallOptions::default();
    fetch(&writer, &Source::of("old"), &options).await.unwrap();
    // Values made within the tolerance of each other count as the same for readers of different clocks.
    time.advance(seconds(1));
    let source = Source::of("new");
    let hold = source.hold();
    for _ in 0..20 {
        assert_eq!(seen(&fetch(&reader, &source, &options).await), ("old", true));
    }
    source.begun(1).await;
    hold.release();
    until("the refresh has ended", || other.cache_manager().get_stats().in_flight_requests == 0).await;
    assert_eq!((source.calls(), reader.stats().refreshes), (1, 1));
    let fresh_reader = redis_instance(&server, &time).await;
    let read = fetch(&texts(&fresh_reader, rules), &Source::new(Answer::Fails), &options).await;
    assert_eq!(seen(&read), ("new", true));
}

#[tokio::test]
async fn get_answers_stale_values_and_never_refreshes() {
    for place in [Place::First, Place::SharedMap, Place::Hub] {
        let world = World::new(place, rules()).await;
        world.store("old").await;
        world.time.advance(TTL);
        assert_eq!(world.peek().await.as_deref(), Some("old"), "{place:?}");
        world.rest().await;
        assert_eq!(world.cache.stats().refreshes, 0, "{place:?}");
    }
}

#[tokio::test]
async fn a_call_during_a_refresh_is_one_request() {
    for place in PLACES {
        let rules = Freshness::new(TTL).with_stale_while_revalidate(TTL);
        let (world, refresh, own) = (World::new(place, rules).await, Source::of("refreshed"), Source::of("own"));
        let requests = || world.manager.get_stats().total_requests;
        world.store("old").await;
        world.time.advance(TTL);
        let hold = refresh.hold();
        let before = requests();
        assert_eq!(seen(&world.fetch(&refresh).await), ("old", true), "{place:?}");
        refresh.begun(1).await;
        assert_eq!(seen(&world.fetch(&own).await), ("old", true), "{place:?}");
        assert_eq!(requests() - before, 2, "{place:?}: found");
        world.cache.remove(&KEY).await.unwrap();
        assert_eq!(seen(&world.fetch(&own).await), ("own", false), "{place:?}");
        assert_eq!(requests() - before, 3, "{place:?}: not found, and loaded");
        hold.release();
        world.rest().await;
    }
}
