//! What a loader decides about its value: TTL, tags, validator, that the previous value still holds.

use std::time::Duration;

use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{CacheError, CallOptions, Freshness, LoadContext, LoadError, Loaded};
use test_servers::RedisServer;

use crate::source::{Answer, Source, Told};
use crate::world::{KEY, PLACES, Place, TAG, Texts, World, fetch, redis_instance, seconds, seen, text, texts, until};

const TTL: Duration = seconds(10);

fn rules() -> Freshness {
    Freshness::new(TTL).with_stale_while_revalidate(seconds(60))
}

async fn load(cache: &Texts, loaded: Loaded<String>) {
    let load = move |_: LoadContext<String>| async move { Ok::<_, CacheError>(loaded) };
    cache.fetch(&KEY, &CallOptions::default(), load).await.unwrap();
}

fn value() -> Loaded<String> {
    Loaded::new("value".to_owned())
}

#[tokio::test]
async fn a_loader_may_shorten_or_prolong_the_ttl() {
    for (place, ttl) in PLACES.into_iter().flat_map(|place| [(place, seconds(2)), (place, seconds(100))]) {
        let world = World::new(place, Freshness::new(TTL)).await;
        load(&world.writer, value().with_ttl(ttl)).await;
        world.time.advance(ttl - place.step());
        assert!(world.peek().await.is_some(), "{place:?} {ttl:?}");
        world.time.advance(place.step());
        assert!(world.peek().await.is_none(), "{place:?} {ttl:?}");
    }
}

#[tokio::test]
async fn a_loaders_ttl_moves_the_windows_with_it() {
    for place in PLACES {
        let world = World::new(place, rules()).await;
        load(&world.writer, value().with_ttl(seconds(2))).await;
        let source = Source::of("new");
        let hold = source.hold();
        world.time.advance(seconds(62) - place.step());
        assert_eq!(seen(&world.fetch(&source).await), ("value", true), "{place:?}");
        world.time.advance(place.step());
        hold.release();
        assert_eq!(world.fetch(&source).await.as_ref().ok().and_then(text).as_deref(), Some("new"), "{place:?}");
    }
}

#[tokio::test]
async fn a_loaders_tags_replace_the_caches() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL)).await;
        load(&world.writer, value().with_tags(["own"])).await;
        world.cache.remove_tag(TAG).await.unwrap();
        assert!(world.cache.contains(&KEY).await.unwrap(), "{place:?}: not its tag");
        world.cache.remove_tag("own").await.unwrap();
        assert!(!world.cache.contains(&KEY).await.unwrap() || place == Place::SharedMap, "{place:?}");
        world.rest().await;
    }
}

#[tokio::test]
async fn too_many_tags_of_a_loader_are_refused_and_nothing_is_stored() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL)).await;
        let tags: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        let load = move |_| async move { Ok::<_, CacheError>(value().with_tags(tags)) };
        let read = world.cache.fetch(&KEY, &CallOptions::default(), load).await;
        assert!(matches!(read, Err(LoadError::Cache(CacheError::ConfigError(_)))), "{place:?} {read:?}");
        assert_eq!(world.stored().await, None, "{place:?}");
    }
}

#[tokio::test]
async fn the_next_load_is_told_the_previous_value_and_its_validator() {
    for place in PLACES {
        let world = World::new(place, rules()).await;
        load(&world.writer, value().with_validator("v1")).await;
        world.time.advance(TTL);
        let source = Source::of("new");
        assert_eq!(seen(&world.fetch(&source).await), ("value", true));
        world.rest().await;
        let told = Told { previous: Some("value".into()), validator: Some("v1".into()) };
        assert_eq!(source.told(), [told], "{place:?}");
        // The new value came without a validator.
        world.time.advance(TTL);
        world.fetch(&source).await.unwrap();
        world.rest().await;
        assert_eq!(source.told()[1], Told { previous: Some("new".into()), validator: None }, "{place:?}");
    }
}

#[tokio::test]
async fn what_expired_is_not_a_previous_value() {
    for place in PLACES {
        let world = World::new(place, rules()).await;
        load(&world.writer, value().with_validator("v1")).await;
        world.time.advance(TTL + seconds(60));
        let source = Source::of("new");
        world.fetch(&source).await.unwrap();
        assert_eq!(source.told(), [Told::default()], "{place:?}");
    }
}

#[tokio::test]
async fn not_modified_keeps_value_and_validator_and_makes_it_fresh_again() {
    for place in PLACES {
        let world = World::new(place, rules()).await;
        load(&world.writer, value().with_validator("v1")).await;
        let source = Source::new(Answer::NotModified);
        for round in 1..=3 {
            world.time.advance(TTL);
            assert_eq!(seen(&world.fetch(&source).await), ("value", true), "{place:?}");
            world.rest().await;
            let read = world.fetch(&source).await;
            assert_eq!(seen(&read), ("value", false), "{place:?}");
            assert_eq!(read.unwrap().age(), Duration::ZERO, "{place:?}");
            assert_eq!((source.calls(), world.cache.stats().not_modified), (round, round as u64), "{place:?}");
            let told = Told { previous: Some("value".into()), validator: Some("v1".into()) };
            assert_eq!(source.told().last(), Some(&told), "{place:?}");
        }
    }
}

#[tokio::test]
async fn not_modified_may_bring_a_ttl_a_validator_and_tags() {
    for place in [Place::First, Place::Hub] {
        let world = World::new(place, rules()).await;
        load(&world.writer, value().with_validator("v1")).await;
        world.time.advance(TTL);
        let again = Loaded::not_modified().with_ttl(seconds(100)).with_validator("v2").with_tags(["own"]);
        load(&world.cache, again).await;
        world.rest().await;
        world.time.advance(seconds(99));
        assert_eq!(seen(&world.fetch(&Source::new(Answer::Panics)).await), ("value", false), "{place:?}");
        world.time.advance(seconds(1));
        let source = Source::of("new");
        world.fetch(&source).await.unwrap();
        world.rest().await;
        assert_eq!(source.told()[0].validator.as_deref(), Some("v2"), "{place:?}");
    }
}

#[tokio::test]
async fn not_modified_without_a_previous_value_is_a_configuration_error() {
    for place in PLACES {
        let world = World::new(place, rules().with_negative_ttl(TTL)).await;
        let source = Source::new(Answer::NotModified);
        let read = world.fetch(&source).await;
        assert!(matches!(read, Err(LoadError::Cache(CacheError::ConfigError(_)))), "{place:?} {read:?}");
        assert_eq!(world.stored().await, None, "{place:?}");
        // An absence is no value either.
        load(&world.cache, Loaded::absent()).await;
        let read = world.fetch_with(&source, &CallOptions::default().refreshing()).await;
        let fallback = matches!(&read, Ok(fetched) if fetched.value().is_none());
        let refused = matches!(read, Err(LoadError::Cache(CacheError::ConfigError(_))));
        assert!(refused || fallback, "{place:?} {read:?}");
    }
}

#[tokio::test]
async fn an_unstored_value_is_answered_to_all_who_wait_and_kept_nowhere() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL)).await;
        load(&world.cache, value().unstored()).await;
        assert_eq!(world.stored().await, None, "{place:?}");
    }
}

#[tokio::test]
async fn ttl_validator_and_previous_value_survive_redis() {
    let (server, time) = (RedisServer::start().unwrap(), ManualClock::new());
    let (one, other) = (redis_instance(&server, &time).await, redis_instance(&server, &time).await);
    let rules = Freshness::new(Duration::ZERO).with_stale_while_revalidate(seconds(60));
    let (writer, reader) = (texts(&one, rules), texts(&other, rules));
    load(&writer, value().with_validator("v1")).await;
    time.advance(seconds(1));
    let source = Source::new(Answer::NotModified);
    let read = fetch(&reader, &source, &CallOptions::default()).await;
    assert_eq!(seen(&read), ("value", true));
    source.ended(1).await;
    until("at rest", || other.cache_manager().get_stats().in_flight_requests == 0).await;
    assert_eq!(source.told(), [Told { previous: Some("value".into()), validator: Some("v1".into()) }]);
    writer.remove(&KEY).await.unwrap();
    load(&writer, value().with_ttl(seconds(5))).await;
    let third = redis_instance(&server, &time).await;
    let read = fetch(&texts(&third, rules), &Source::new(Answer::Panics), &CallOptions::default()).await;
    assert_eq!(seen(&read), ("value", false));
}
