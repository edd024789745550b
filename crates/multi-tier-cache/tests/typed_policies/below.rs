//! Copies in process that are read anew from the tier below, and tiers with a TTL of their own.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::backends::{QuickCacheBackend, RedisCache};
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{
    CacheSystem, CacheSystemBuilder, CallOptions, DashMapCache, Freshness, L2CacheBackend, TierConfig,
};
use test_servers::RedisServer;

use crate::source::{Answer, Source};
use crate::world::{KEY, PLACES, Texts, World, fetch, quiet, seconds, seen, text, texts, until};

const TTL: Duration = seconds(1000);
const INTERVAL: Duration = seconds(5);

fn rules() -> Freshness {
    Freshness::new(TTL).with_refresh_from_below(INTERVAL)
}

/// An instance that hears nothing of others.
async fn alone(time: &ManualClock, shared: Arc<dyn L2CacheBackend>) -> CacheSystem {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let builder = CacheSystemBuilder::new().with_clock(time.clock()).without_invalidation();
    let builder = builder.with_tier(l1, TierConfig::as_l1());
    builder.with_tier(shared, TierConfig::as_l2().with_promotion(false)).build().await.unwrap()
}

/// A reader with a copy of "old" in process, and another instance over the same shared tier.
struct Two {
    time: ManualClock,
    reader: Texts,
    other: Texts,
    systems: [CacheSystem; 2],
    server: Option<RedisServer>,
}

impl Two {
    async fn over_redis(freshness: Freshness) -> Self {
        let server = RedisServer::start().unwrap();
        let time = ManualClock::new();
        let redis = || async { Arc::new(RedisCache::with_url(&server.url()).await.unwrap()) };
        let systems = [alone(&time, redis().await).await, alone(&time, redis().await).await];
        Self::with(time, systems, Some(server), freshness).await
    }

    async fn over_a_map(freshness: Freshness) -> Self {
        let time = ManualClock::new();
        let map = Arc::new(DashMapCache::new().with_clock(time.clock()));
        let systems = [alone(&time, Arc::clone(&map) as _).await, alone(&time, map).await];
        Self::with(time, systems, None, freshness).await
    }

    async fn with(
        time: ManualClock,
        systems: [CacheSystem; 2],
        server: Option<RedisServer>,
        freshness: Freshness,
    ) -> Self {
        let (reader, other) = (texts(&systems[0], freshness), texts(&systems[1], freshness));
        fetch(&reader, &Source::of("old"), &CallOptions::default()).await.unwrap();
        time.advance(seconds(1));
        other.insert(&KEY, "new".to_owned()).await.unwrap();
        time.advance(INTERVAL - seconds(1));
        Self { time, reader, other, systems, server }
    }

    async fn read(&self) -> String {
        let read = fetch(&self.reader, &Source::new(Answer::Panics), &CallOptions::default()).await;
        text(&read.unwrap()).unwrap()
    }

    async fn rest(&self) {
        until("at rest", || self.systems.iter().all(|one| one.cache_manager().get_stats().in_flight_requests == 0))
            .await;
    }

    /// Reads until the answer is `expected`.
    async fn comes(&self, expected: &str) {
        for _ in 0..2_000 {
            if self.read().await == expected {
                return;
            }
            quiet().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{expected} never came from below");
    }
}

#[tokio::test]
async fn a_copy_older_than_the_interval_is_answered_and_read_anew_from_a_shared_map() {
    let two = Two::over_a_map(rules()).await;
    assert_eq!(two.read().await, "old");
    quiet().await;
    assert_eq!(two.read().await, "new");
    assert_eq!((two.reader.stats().loads, two.reader.stats().refreshes), (1, 0));
}

#[tokio::test]
async fn a_copy_older_than_the_interval_is_answered_and_read_anew_from_redis() {
    let two = Two::over_redis(rules()).await;
    assert_eq!(two.read().await, "old");
    two.comes("new").await;
    assert_eq!((two.reader.stats().loads, two.reader.stats().refreshes), (1, 0));
    assert!(two.other.contains(&KEY).await.unwrap());
}

#[tokio::test]
async fn a_copy_within_the_interval_is_not_read_anew() {
    let rules = Freshness::new(TTL).with_refresh_from_below(INTERVAL + Duration::from_nanos(1));
    for two in [Two::over_a_map(rules).await, Two::over_redis(rules).await] {
        let before = two.systems[0].cache_manager().get_stats().l2_hits;
        for _ in 0..20 {
            assert_eq!(two.read().await, "old");
            quiet().await;
        }
        two.rest().await;
        assert_eq!(two.systems[0].cache_manager().get_stats().l2_hits, before);
        two.time.advance(Duration::from_nanos(1));
        two.comes("new").await;
    }
}

#[tokio::test]
async fn a_copy_read_anew_from_another_tier_of_the_process_is_left_alone_for_the_interval() {
    let two = Two::over_a_map(rules()).await;
    let l2_hits = || two.systems[0].cache_manager().get_stats().l2_hits;
    two.comes("new").await;
    for _ in 0..3 {
        // Older than the interval, as is what the tier below holds.
        two.time.advance(INTERVAL);
        let before = l2_hits();
        for _ in 0..20 {
            assert_eq!(two.read().await, "new");
            quiet().await;
            two.rest().await;
        }
        two.time.advance(INTERVAL - Duration::from_nanos(1));
        assert_eq!(two.read().await, "new");
        quiet().await;
        assert_eq!(l2_hits() - before, 1);
    }
    two.reader.remove(&KEY).await.unwrap();
    assert_eq!(two.reader.get(&KEY).await.unwrap(), None);
}

#[tokio::test]
async fn get_reads_anew_from_below_too() {
    for two in [Two::over_a_map(rules()).await, Two::over_redis(rules()).await] {
        assert_eq!(two.reader.get(&KEY).await.unwrap().unwrap().as_str(), "old");
        quiet().await;
        two.rest().await;
        two.comes("new").await;
    }
}

#[tokio::test]
async fn an_outage_below_leaves_the_copy_as_it_is() {
    let mut two = Two::over_redis(rules()).await;
    two.server.as_mut().unwrap().kill().unwrap();
    for _ in 0..20 {
        assert_eq!(two.read().await, "old");
        two.rest().await;
    }
}

#[tokio::test]
async fn a_copy_read_anew_does_not_survive_a_removal_made_meanwhile() {
    for two in [Two::over_a_map(rules()).await, Two::over_redis(rules()).await] {
        assert_eq!(two.read().await, "old");
        two.reader.remove(&KEY).await.unwrap();
        quiet().await;
        two.rest().await;
        assert_eq!(two.reader.get(&KEY).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_short_ttl_of_the_first_tier_sends_reads_below_without_a_load() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL).with_tier_ttl(1, seconds(2))).await;
        let source = Source::of("value");
        world.fetch(&source).await.unwrap();
        for (at, l2_hits) in [(Duration::ZERO, 0), (seconds(2) - Duration::from_nanos(1), 0)] {
            world.time.advance(at);
            assert_eq!(seen(&world.fetch(&source).await), ("value", false), "{place:?}");
            assert_eq!(world.manager.get_stats().l2_hits, l2_hits, "{place:?} at {at:?}");
        }
        world.time.advance(Duration::from_nanos(1));
        assert_eq!(seen(&world.fetch(&source).await), ("value", false), "{place:?}");
        assert_eq!((world.manager.get_stats().l2_hits, source.calls()), (1, 1), "{place:?}");
    }
}

#[tokio::test]
async fn a_short_ttl_of_the_second_tier_leaves_the_first_alone_with_the_value() {
    for place in PLACES.into_iter().skip(1) {
        let world = World::new(place, Freshness::new(TTL).with_tier_ttl(2, seconds(2))).await;
        let (source, others) = (Source::of("value"), Source::of("others"));
        world.fetch(&source).await.unwrap();
        world.time.advance(seconds(2) - Duration::from_nanos(1));
        assert!(world.writer.contains(&KEY).await.unwrap(), "{place:?}");
        world.time.advance(Duration::from_nanos(1));
        assert!(!world.writer.contains(&KEY).await.unwrap(), "{place:?}");
        assert_eq!(seen(&world.fetch(&others).await), ("value", false), "{place:?}");
        assert_eq!(others.calls(), 0, "{place:?}");
    }
}

#[tokio::test]
async fn a_long_ttl_of_a_tier_keeps_nothing_fresh_and_answers_nothing_after_the_windows() {
    for place in PLACES {
        let window = Freshness::new(seconds(10)).with_stale_if_error(seconds(5));
        let rules = window.with_tier_ttl(1, TTL).with_tier_ttl(2, TTL);
        for (at, expected) in [(10, Some(("old", true))), (15, None)] {
            let (world, source) = (World::new(place, rules).await, Source::new(Answer::Fails));
            world.store("old").await;
            world.time.advance(seconds(at));
            let read = world.fetch(&source).await;
            assert_eq!(read.is_ok().then(|| seen(&read)), expected, "{place:?} after {at} s");
            assert_eq!(source.calls(), 1, "{place:?} after {at} s");
        }
    }
}
