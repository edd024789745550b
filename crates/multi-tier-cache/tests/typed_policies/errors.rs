//! Stale if the load fails, and the pause between loads that fail.

use std::time::Duration;

use multi_tier_cache::{CallOptions, Freshness, LoadError};

use crate::source::{Answer, Down, Source};
use crate::world::{PLACES, Place, World, ended, quiet, seconds, seen, text};

const TTL: Duration = seconds(10);
const WINDOW: Duration = seconds(60);
const PAUSE: Duration = seconds(5);

fn rules() -> Freshness {
    Freshness::new(TTL).with_stale_if_error(WINDOW).with_error_throttle(PAUSE)
}

#[tokio::test]
async fn a_failed_load_is_answered_with_the_stale_value_within_the_window_to_the_nanosecond() {
    for place in PLACES {
        let step = place.step();
        for (at, calls, answered) in [
            (TTL - step, 0, Some(("old", false))),
            (TTL, 1, Some(("old", true))),
            (TTL + WINDOW - step, 1, Some(("old", true))),
            (TTL + WINDOW, 1, None),
            (TTL + WINDOW + step, 1, None),
        ] {
            let (world, source) = (World::new(place, rules()).await, Source::new(Answer::Fails));
            world.store("old").await;
            world.time.advance(at);
            let read = world.fetch(&source).await;
            match (&read, answered) {
                (Ok(_), Some(answered)) => assert_eq!(seen(&read), answered, "{place:?} at {at:?}"),
                (Err(LoadError::Load(error)), None) => assert_eq!(**error, Down),
                _ => panic!("{place:?} at {at:?}: {read:?}"),
            }
            assert_eq!(source.calls(), calls, "{place:?} at {at:?}");
            world.rest().await;
        }
    }
}

#[tokio::test]
async fn a_stale_value_is_loaded_first_and_the_new_one_answered() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(TTL);
        assert_eq!(world.peek().await, None, "{place:?}: a read without a loader does not answer it");
        assert_eq!(seen(&world.fetch(&source).await), ("new", false), "{place:?}");
        assert_eq!(world.peek().await.as_deref(), Some("new"), "{place:?}");
    }
}

#[tokio::test]
async fn a_source_that_always_fails_is_asked_once_per_key_and_pause() {
    for (place, answer) in PLACES.into_iter().flat_map(|place| [(place, Answer::Fails), (place, Answer::Panics)]) {
        let (world, source) = (World::new(place, rules()).await, Source::new(answer));
        world.store("old").await;
        world.time.advance(TTL);
        for round in 1..=5 {
            let hold = source.hold();
            let readers: Vec<_> = (0..50).map(|_| world.start(&source)).collect();
            source.begun(round).await;
            quiet().await;
            hold.release();
            for reader in readers {
                assert_eq!(seen(&ended(reader).await), ("old", true), "{place:?}");
            }
            for moment in [Duration::ZERO, PAUSE - Duration::from_nanos(1)] {
                world.time.advance(moment);
                assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
                assert_eq!(source.calls(), round, "{place:?} {answer:?}");
            }
            world.time.advance(Duration::from_nanos(1));
        }
        world.rest().await;
        let stats = world.cache.stats();
        assert_eq!((stats.failed_loads, stats.fallbacks), (5, 5 * 52), "{place:?}");
    }
}

#[tokio::test]
async fn another_key_is_not_held_up_by_a_pause() {
    let (world, source) = (World::new(Place::First, rules()).await, Source::new(Answer::Fails));
    world.store("old").await;
    world.cache.get_or_try_load(&8, || Source::of("eight").value()).await.unwrap();
    world.time.advance(TTL);
    assert_eq!(seen(&world.fetch(&source).await), ("old", true));
    let eight = world.cache.get_or_try_load(&8, || Source::of("new eight").value()).await.unwrap();
    assert_eq!(*eight, "new eight");
}

#[tokio::test]
async fn a_success_ends_the_pause() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::new(Answer::Fails));
        world.store("old").await;
        world.time.advance(TTL);
        assert_eq!(seen(&world.fetch(&source).await), ("old", true));
        source.answers(Answer::Value("new"));
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}: still in the pause");
        world.time.advance(PAUSE);
        assert_eq!(seen(&world.fetch(&source).await), ("new", false), "{place:?}");
        source.answers(Answer::Fails);
        world.time.advance(TTL);
        assert_eq!(seen(&world.fetch(&source).await), ("new", true), "{place:?}: asked at once");
        assert_eq!(source.calls(), 3, "{place:?}");
    }
}

#[tokio::test]
async fn without_anything_stale_the_error_surfaces_and_every_read_asks_again() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::new(Answer::Fails));
        for calls in 1..=3 {
            let read = world.fetch(&source).await;
            assert!(matches!(read, Err(LoadError::Load(_))), "{place:?} {read:?}");
            assert_eq!(source.calls(), calls, "{place:?}");
        }
        source.answers(Answer::Panics);
        let Err(LoadError::Cache(error)) = world.fetch(&source).await else { panic!() };
        assert!(error.to_string().contains("as the test asked"), "{error}");
        world.rest().await;
    }
}

#[tokio::test]
async fn a_pause_of_zero_asks_every_time() {
    for place in PLACES {
        let world = World::new(place, rules().with_error_throttle(Duration::ZERO)).await;
        let source = Source::new(Answer::Fails);
        world.store("old").await;
        world.time.advance(TTL);
        for calls in 1..=3 {
            assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
            assert_eq!(source.calls(), calls, "{place:?}");
        }
    }
}

#[tokio::test]
async fn both_windows_overlap_and_the_longer_one_counts_last() {
    for place in PLACES {
        let world = World::new(place, rules().with_stale_while_revalidate(seconds(3))).await;
        let source = Source::new(Answer::Fails);
        world.store("old").await;
        world.time.advance(TTL);
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        world.rest().await;
        assert_eq!((source.calls(), world.cache.stats().refreshes), (1, 1), "{place:?}: in the background");
        world.time.advance(seconds(3));
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        assert_eq!(source.calls(), 1, "{place:?}: still in the pause");
        world.time.advance(seconds(2));
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        assert_eq!((source.calls(), world.cache.stats().refreshes), (2, 1), "{place:?}: in the foreground");
        world.time.advance(seconds(55));
        assert!(world.fetch(&source).await.is_err(), "{place:?}");
    }
}

#[tokio::test]
async fn a_caller_whose_rules_answer_nothing_stale_is_not_given_another_callers_fallback() {
    for place in PLACES {
        let (world, failing, own) = (World::new(place, rules()).await, Source::new(Answer::Fails), Source::of("own"));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = failing.hold();
        let lenient = world.start(&failing);
        failing.begun(1).await;
        let (cache, source) = (world.cache.clone(), own.clone());
        let strict = tokio::spawn(async move {
            let options = CallOptions::default().with_freshness(Freshness::new(TTL));
            crate::world::fetch(&cache, &source, &options).await
        });
        quiet().await;
        hold.release();
        assert_eq!(seen(&ended(lenient).await), ("old", true), "{place:?}");
        let strict = ended(strict).await;
        assert_eq!(strict.as_ref().ok().and_then(text).as_deref(), Some("own"), "{place:?}: {strict:?}");
    }
}
