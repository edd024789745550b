//! The fresh time: its end, where it counts from, jitter, and refreshes before it ends.

use std::time::Duration;

use multi_tier_cache::{CacheError, EarlyRefresh, Freshness};

use crate::source::{Answer, Source, ms};
use crate::world::{KEY, PLACES, Place, World, ended, seconds, seen};

const TTL: Duration = seconds(10);

#[tokio::test]
async fn a_value_is_fresh_until_its_ttl_and_loaded_anew_at_it() {
    for place in PLACES {
        for (at, expected) in [
            (Duration::ZERO, "old"),
            (TTL - place.step(), "old"),
            (TTL, "new"),
            (TTL + place.step(), "new"),
            (TTL * 1_000, "new"),
        ] {
            let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("new"));
            world.store("old").await;
            world.time.advance(at);
            let expected_peek = (expected == "old").then(|| expected.to_owned());
            assert_eq!(world.peek().await, expected_peek, "{place:?} at {at:?}");
            let read = world.fetch(&source).await;
            assert_eq!(seen(&read), (expected, false), "{place:?} at {at:?}");
            assert_eq!(source.calls(), usize::from(expected == "new"), "{place:?} at {at:?}");
            let age = if expected == "old" { at } else { Duration::ZERO };
            assert_eq!(read.unwrap().age(), age, "{place:?}");
            world.rest().await;
        }
    }
}

#[tokio::test]
async fn the_ttl_counts_from_the_beginning_of_the_load() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL)).await;
        let (slow, next) = (Source::of("slow"), Source::of("next"));
        let hold = slow.hold();
        let (writer, source) = (world.writer.clone(), slow.clone());
        let load = tokio::spawn(async move { writer.get_or_try_load(&KEY, move || source.value()).await });
        slow.begun(1).await;
        world.time.advance(seconds(4));
        hold.release();
        assert_eq!(**ended(load).await.as_ref().unwrap(), "slow");
        world.time.advance(seconds(6) - place.step());
        let read = world.fetch(&next).await;
        assert_eq!((seen(&read), read.as_ref().unwrap().age()), (("slow", false), TTL - place.step()), "{place:?}");
        world.time.advance(place.step());
        assert_eq!(seen(&world.fetch(&next).await), ("next", false), "{place:?}");
    }
}

#[tokio::test]
async fn a_load_longer_than_the_ttl_is_answered_to_those_who_wait_and_fresh_for_nobody_later() {
    let world = World::new(Place::First, Freshness::new(TTL)).await;
    let (slow, next) = (Source::of("slow"), Source::of("next"));
    let hold = slow.hold();
    let waiting = [world.start(&slow), world.start(&slow)];
    slow.begun(1).await;
    crate::world::quiet().await;
    world.time.advance(TTL);
    hold.release();
    for waiter in waiting {
        assert_eq!(seen(&ended(waiter).await), ("slow", true));
    }
    assert_eq!((world.peek().await, slow.calls()), (None, 1));
    assert_eq!(seen(&world.fetch(&next).await), ("next", false));
}

#[tokio::test]
async fn jitter_shortens_by_up_to_its_fraction_and_never_prolongs() {
    for place in [Place::First, Place::SharedMap] {
        let mut fresh = 0;
        for _ in 0..40 {
            let world = World::new(place, Freshness::new(TTL).with_jitter(0.5)).await;
            world.store("value").await;
            world.time.advance(TTL / 2 - ms(1));
            assert!(world.peek().await.is_some(), "{place:?}: ended before the shortest fresh time");
            world.time.advance(TTL / 4 + ms(1));
            fresh += usize::from(world.peek().await.is_some());
            world.time.advance(TTL / 4);
            assert!(world.peek().await.is_none(), "{place:?}: outlived the TTL");
        }
        assert!((2..39).contains(&fresh), "{place:?}: {fresh} of 40 fresh in the middle");
    }
}

#[tokio::test]
async fn refresh_at_a_fraction_begins_exactly_there_once_and_answers_the_old_value_meanwhile() {
    for place in PLACES {
        let rules = Freshness::new(TTL).with_early_refresh(EarlyRefresh::At(0.8));
        let (world, source) = (World::new(place, rules).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(seconds(8) - place.step());
        assert_eq!(seen(&world.fetch(&source).await), ("old", false));
        world.rest().await;
        assert_eq!(source.calls(), 0, "{place:?}: just before");
        world.time.advance(place.step());
        let hold = source.hold();
        for _ in 0..20 {
            assert_eq!(seen(&world.fetch(&source).await), ("old", false), "{place:?}");
        }
        source.begun(1).await;
        assert_eq!(seen(&world.fetch(&source).await), ("old", false), "{place:?}");
        hold.release();
        world.rest().await;
        assert_eq!((source.calls(), world.cache.stats().refreshes), (1, 1), "{place:?}");
        world.time.advance(seconds(2));
        assert_eq!(seen(&world.fetch(&source).await), ("new", false), "{place:?}: the refreshed value lives on");
    }
}

#[tokio::test]
async fn an_early_refresh_that_fails_or_panics_leaves_the_value_and_pauses() {
    for (place, answer) in PLACES.into_iter().flat_map(|place| [(place, Answer::Fails), (place, Answer::Panics)]) {
        let early = Freshness::new(TTL).with_early_refresh(EarlyRefresh::At(0.5));
        let rules = early.with_error_throttle(seconds(2));
        let (world, source) = (World::new(place, rules).await, Source::new(answer));
        world.store("old").await;
        world.time.advance(seconds(5));
        for _ in 0..5 {
            assert_eq!(seen(&world.fetch(&source).await), ("old", false), "{place:?}");
            world.rest().await;
        }
        assert_eq!(source.calls(), 1, "{place:?} {answer:?}");
        world.time.advance(seconds(2));
        assert_eq!(seen(&world.fetch(&source).await), ("old", false), "{place:?}");
        world.rest().await;
        assert_eq!(source.calls(), 2, "{place:?} {answer:?}");
    }
}

#[tokio::test]
async fn xfetch_refreshes_always_with_a_huge_beta_and_never_with_a_tiny_one() {
    for place in PLACES {
        for (beta, refreshes) in [(1e12, true), (1e-12, false)] {
            let rules = Freshness::new(TTL).with_early_refresh(EarlyRefresh::XFetch { beta });
            let (world, slow, source) = (World::new(place, rules).await, Source::of("old"), Source::of("new"));
            // Only a load that took its time is worth a head start.
            let hold = slow.hold();
            let (writer, load) = (world.writer.clone(), slow.clone());
            let load = tokio::spawn(async move { writer.get_or_try_load(&KEY, move || load.value()).await });
            slow.begun(1).await;
            world.time.advance(ms(100));
            hold.release();
            ended(load).await.unwrap();
            world.time.advance(seconds(1));
            for _ in 0..100 {
                assert!(!seen(&world.fetch(&source).await).1, "{place:?}");
            }
            world.rest().await;
            assert_eq!(source.calls() > 0, refreshes, "{place:?} beta {beta}");
            assert_eq!(world.peek().await.as_deref(), Some(if refreshes { "new" } else { "old" }), "{place:?}");
        }
    }
}

#[tokio::test]
async fn rules_that_cannot_be_followed_are_refused_by_the_builder_and_by_the_call() {
    let (world, source) = (World::new(Place::First, Freshness::new(TTL)).await, Source::of("value"));
    for bad in [
        Freshness::new(Duration::ZERO),
        Freshness::new(TTL).with_jitter(f64::NAN),
        Freshness::new(TTL).with_early_refresh(EarlyRefresh::At(1.0)),
        Freshness::new(TTL).with_load_deadlines(Some(TTL), Some(TTL)),
    ] {
        let options = multi_tier_cache::CallOptions::default().with_freshness(bad);
        let refused = world.fetch_with(&source, &options).await;
        let Err(multi_tier_cache::LoadError::Cache(CacheError::ConfigError(_))) = refused else {
            panic!("{refused:?}")
        };
        let refused = world.cache.insert_with(&KEY, "value".to_owned(), &options).await;
        assert!(matches!(refused, Err(CacheError::ConfigError(_))), "{refused:?}");
        let built = world.manager.cache_builder::<u32, String>("bad").freshness(bad).build();
        assert!(matches!(built, Err(CacheError::ConfigError(_))));
    }
    assert_eq!(source.calls(), 0);
}
