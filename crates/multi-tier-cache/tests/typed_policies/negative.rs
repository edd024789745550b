//! Remembered absence: its own TTL, and what ends it.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{CacheError, CallOptions, Freshness, LoadError, Loaded};
use test_servers::RedisServer;

use crate::source::{Answer, Source};
use crate::world::{KEY, PLACES, Place, TAG, Texts, World, redis_instance, seconds, seen, texts};

const TTL: Duration = seconds(60);
const NEGATIVE: Duration = seconds(5);

fn rules() -> Freshness {
    Freshness::new(TTL).with_negative_ttl(NEGATIVE)
}

async fn optional(cache: &Texts, source: &Source) -> Option<Arc<String>> {
    let source = source.clone();
    cache.get_or_load_optional(&KEY, move || source.optional()).await.unwrap()
}

#[tokio::test]
async fn absence_has_its_own_ttl_to_the_nanosecond() {
    for place in PLACES {
        for (at, known) in [
            (Duration::ZERO, true),
            (NEGATIVE - place.step(), true),
            (NEGATIVE, false),
            (NEGATIVE + place.step(), false),
        ] {
            let (world, source) = (World::new(place, rules()).await, Source::of("value"));
            assert_eq!(optional(&world.writer, &Source::new(Answer::Absent)).await, None);
            world.time.advance(at);
            assert_eq!(world.peek().await, None);
            let read = optional(&world.cache, &source).await;
            assert_eq!((read.is_none(), source.calls()), (known, usize::from(!known)), "{place:?} at {at:?}");
            world.rest().await;
        }
    }
}

#[tokio::test]
async fn the_windows_of_staleness_are_not_for_absence() {
    for place in PLACES {
        let windows = rules().with_stale_while_revalidate(TTL).with_stale_if_error(TTL);
        // A tier that keeps everything for longer must not give absence a window either.
        for rules in [windows, windows.with_tier_ttl(1, seconds(3600)).with_tier_ttl(2, seconds(3600))] {
            let (world, source) = (World::new(place, rules).await, Source::of("value"));
            assert_eq!(optional(&world.writer, &Source::new(Answer::Absent)).await, None);
            world.time.advance(NEGATIVE);
            let read = optional(&world.cache, &source).await;
            assert_eq!(read.as_deref().map(String::as_str), Some("value"), "{place:?} {rules:?}");
        }
    }
}

#[tokio::test]
async fn an_insert_replaces_absence() {
    for place in PLACES {
        let world = World::new(place, rules()).await;
        assert_eq!(optional(&world.cache, &Source::new(Answer::Absent)).await, None);
        world.cache.insert(&KEY, "value".to_owned()).await.unwrap();
        world.time.advance(NEGATIVE);
        assert_eq!(world.peek().await.as_deref(), Some("value"), "{place:?}");
        assert_eq!(optional(&world.writer, &Source::new(Answer::Fails)).await.unwrap().as_str(), "value", "{place:?}");
    }
}

#[tokio::test]
async fn a_removal_or_a_removed_tag_ends_absence() {
    for (place, by_tag) in PLACES.into_iter().flat_map(|place| [(place, false), (place, true)]) {
        let (world, source) = (World::new(place, rules()).await, Source::of("value"));
        assert_eq!(optional(&world.cache, &Source::new(Answer::Absent)).await, None);
        if by_tag {
            world.cache.remove_tag(TAG).await.unwrap();
        } else {
            world.cache.remove(&KEY).await.unwrap();
        }
        world.time.advance(Duration::from_nanos(1));
        assert_eq!(optional(&world.cache, &source).await.unwrap().as_str(), "value", "{place:?} by tag: {by_tag}");
    }
}

#[tokio::test]
async fn a_verb_that_needs_a_value_says_not_found_and_loads_nothing() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("value"));
        assert_eq!(optional(&world.writer, &Source::new(Answer::Absent)).await, None);
        let asked = source.clone();
        let read = world.cache.get_or_try_load(&KEY, move || asked.value()).await;
        assert!(matches!(read, Err(LoadError::Cache(CacheError::NotFound))), "{place:?} {read:?}");
        assert_eq!(source.calls(), 0, "{place:?}");
    }
}

#[tokio::test]
async fn without_a_negative_ttl_only_an_answer_with_one_of_its_own_is_remembered() {
    for place in PLACES {
        for (ttl, remembered) in [(None, false), (Some(seconds(3)), true)] {
            let world = World::new(place, Freshness::new(TTL)).await;
            let load = move |_| async move {
                let absent = Loaded::<String>::absent();
                Ok::<_, CacheError>(ttl.map_or(absent.clone(), |ttl| absent.with_ttl(ttl)))
            };
            let fetched = world.writer.fetch(&KEY, &CallOptions::default(), load).await.unwrap();
            assert_eq!(fetched.value(), None);
            let source = Source::new(Answer::Absent);
            world.time.advance(seconds(3) - place.step());
            assert_eq!(optional(&world.cache, &source).await, None);
            assert_eq!(source.calls(), usize::from(!remembered), "{place:?}");
            world.time.advance(place.step());
            assert_eq!(optional(&world.cache, &source).await, None);
            assert_eq!(source.calls(), 1 + usize::from(!remembered), "{place:?}");
        }
    }
}

#[tokio::test]
async fn a_value_that_vanished_at_its_source_becomes_absent() {
    for place in PLACES {
        let rules = rules().with_stale_while_revalidate(TTL);
        let (world, source) = (World::new(place, rules).await, Source::new(Answer::Absent));
        world.store("old").await;
        world.time.advance(TTL);
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        world.rest().await;
        let read = world.fetch(&Source::of("wrong")).await.unwrap();
        assert_eq!((read.value(), source.calls()), (None, 1), "{place:?}");
    }
}

#[tokio::test]
async fn another_instance_learns_of_absence_from_redis() {
    let (server, time) = (RedisServer::start().unwrap(), ManualClock::new());
    let (one, other) = (redis_instance(&server, &time).await, redis_instance(&server, &time).await);
    let (writer, reader) = (texts(&one, rules()), texts(&other, rules()));
    assert_eq!(optional(&writer, &Source::new(Answer::Absent)).await, None);
    let source = Source::of("value");
    assert_eq!((optional(&reader, &source).await, source.calls()), (None, 0));
    assert_eq!(World::new(Place::First, rules()).await.peek().await, None);
    reader.insert(&KEY, "inserted".to_owned()).await.unwrap();
    assert_eq!(optional(&reader, &source).await.unwrap().as_str(), "inserted");
    assert_eq!(source.calls(), 0);
}
