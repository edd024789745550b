//! Stacks of tiers: what a builder makes of them, what is promoted and for how long, and who is counted.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{NEW, OLD, Op, Scripted, TTL, assert_at_rest, manager};
use futures_util::future::BoxFuture;
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::traits::{CacheBackend, L2CacheBackend};
use multi_tier_cache::{CacheError, CacheManager, CacheResult, CacheStrategy, CacheSystem, CacheSystemBuilder};
use multi_tier_cache::{CacheTier, TierConfig};
use parking_lot::Mutex;

type Tier = Arc<dyn L2CacheBackend>;

fn quick() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(100_000).unwrap())
}

fn dash() -> Arc<DashMapCache> {
    Arc::new(DashMapCache::new())
}

fn quick_on(time: &ManualClock) -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(100_000).unwrap().with_clock(time.clock()))
}

fn dash_on(time: &ManualClock) -> Arc<DashMapCache> {
    Arc::new(DashMapCache::new().with_clock(time.clock()))
}

fn names(system: &CacheSystem) -> Vec<(usize, String)> {
    let stats = system.cache_manager().get_tier_stats();
    stats.into_iter().map(|tier| (tier.tier_level, tier.backend_name)).collect()
}

fn named(tiers: &[(usize, &str)]) -> Vec<(usize, String)> {
    tiers.iter().map(|(level, name)| (*level, (*name).to_owned())).collect()
}

// 1. The first two tiers given were dropped as soon as a third was.
#[tokio::test]
async fn the_first_two_tiers_are_kept_with_whatever_is_added_in_any_order() {
    let (l1, l2) = (Scripted::new("one"), Scripted::new("two"));
    let (l3, l4, l5) = (Scripted::new("three"), Scripted::new("four"), Scripted::new("five"));
    let system = CacheSystemBuilder::new()
        .with_tier(Arc::clone(&l5) as Tier, TierConfig::new(5))
        .with_l4(Arc::clone(&l4) as Tier)
        .with_l3(Arc::clone(&l3) as Tier)
        .with_l2(Arc::clone(&l2) as Tier)
        .with_l1(Arc::clone(&l1) as Arc<dyn CacheBackend>)
        .build()
        .await
        .unwrap();
    assert_eq!(names(&system), named(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")]));
    system.cache_manager().set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap();
    for tier in [l1, l2, l3, l4, l5] {
        assert_eq!(tier.peek("k"), Some(NEW), "{}", tier.name());
    }
}

// 1. Each way of adding a tier by itself.
#[tokio::test]
async fn each_way_of_adding_a_tier_keeps_the_first_two() {
    let given = || {
        let builder = CacheSystemBuilder::new().with_l1(Scripted::new("one") as Arc<dyn CacheBackend>);
        builder.with_l2(Scripted::new("two") as Tier)
    };
    let expected = |level| named(&[(1, "one"), (2, "two"), (level, "more")]);
    let more = || Scripted::new("more") as Tier;
    assert_eq!(names(&given().with_l3(more()).build().await.unwrap()), expected(3));
    assert_eq!(names(&given().with_l4(more()).build().await.unwrap()), expected(4));
    assert_eq!(names(&given().with_tier(more(), TierConfig::as_l4()).build().await.unwrap()), expected(4));
    assert_eq!(names(&given().build().await.unwrap()), named(&[(1, "one"), (2, "two")]));
}

#[tokio::test]
async fn own_tiers_turn_the_defaults_off() {
    let only = |level| CacheSystemBuilder::new().with_tier(Scripted::new("only") as Tier, TierConfig::new(level));
    for level in [1, 2, 7] {
        let system = only(level).build().await.unwrap();
        assert_eq!(names(&system), named(&[(level, "only")]));
        #[cfg(feature = "redis")]
        assert!(system.l2_cache.is_none());
        #[cfg(feature = "moka")]
        assert!(system.l1_cache.is_none());
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn the_third_and_fourth_tier_add_to_the_defaults() {
    let server = test_servers::RedisServer::start().unwrap();
    let builder = || CacheSystemBuilder::new().with_redis_url(&server.url());
    let system = builder().build().await.unwrap();
    assert_eq!(names(&system), named(&[(1, "QuickCache"), (2, "Redis")]));
    assert!(system.l2_cache.is_some());
    let system = builder().with_l3(Scripted::new("cold") as Tier).with_l4(Scripted::new("colder") as Tier);
    let system = system.build().await.unwrap();
    assert_eq!(names(&system), named(&[(1, "QuickCache"), (2, "Redis"), (3, "cold"), (4, "colder")]));
    assert!(system.l2_cache.is_some());
    let id = system.cache_manager().publish_to_stream("s", vec![("f".into(), "v".into())], None).await.unwrap();
    assert_eq!(system.cache_manager().read_stream_latest("s", 1).await.unwrap()[0].0, id);
}

// The field says which L1 is in use: Moka or not.
#[cfg(feature = "moka")]
#[tokio::test]
async fn l1_cache_is_some_exactly_with_moka() {
    use multi_tier_cache::{L1Cache, MokaCacheConfig};
    let builder = || CacheSystemBuilder::new().with_l2(Scripted::new("two") as Tier);
    assert!(builder().build().await.unwrap().l1_cache.is_none());
    let system = builder().with_moka_config(MokaCacheConfig::default()).build().await.unwrap();
    assert_eq!(names(&system), named(&[(1, "Moka"), (2, "two")]));
    let l1 = system.l1_cache.clone().unwrap();
    system.cache_manager().set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(l1.get("k").await, Some(NEW), "the handle is the tier itself");
    let own = Arc::new(L1Cache::new(MokaCacheConfig::default()).unwrap());
    let system = builder().with_l1(Arc::clone(&own) as Arc<dyn CacheBackend>).build().await.unwrap();
    assert!(Arc::ptr_eq(&own, &system.l1_cache.unwrap()));
    let system = builder().with_l1(Scripted::new("one") as Arc<dyn CacheBackend>).build().await.unwrap();
    assert!(system.l1_cache.is_none());
    let system = builder().with_moka_config(MokaCacheConfig::default()).with_l3(Scripted::new("three") as Tier);
    assert!(system.build().await.unwrap().l1_cache.is_some());
}

#[tokio::test]
async fn any_number_of_tiers_is_searched_in_order() {
    for count in 1..=8 {
        let tiers: Vec<_> = (0..count).map(|_| Scripted::new("tier")).collect();
        let cache = manager(tiers.iter().map(|tier| Arc::clone(tier) as Tier).collect());
        let lowest = &tiers[count - 1];
        lowest.plant("k", OLD);
        assert_eq!(cache.get("k").await.unwrap(), Some(OLD));
        for tier in &tiers {
            assert_eq!((tier.peek("k"), tier.calls(Op::Get)), (Some(OLD), 1));
        }
        assert_eq!(cache.get_stats().promotions, count - 1);
        let hits: Vec<u64> = cache.get_tier_stats().iter().map(multi_tier_cache::TierStats::hit_count).collect();
        assert_eq!((hits[count - 1], hits.iter().sum::<u64>()), (1, 1));
        assert_at_rest(&cache);
    }
}

// The copy was made in the background: the next read missed it, and the statistics lagged behind.
#[tokio::test]
async fn a_promotion_is_finished_and_counted_before_the_read_returns() {
    let awaited: Tier = Scripted::new("L3");
    for (name, source) in [("awaited", awaited), ("in-process", dash() as Tier)] {
        let (l1, l2) = (quick(), Scripted::new("L2"));
        let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier, Arc::clone(&source)]);
        for (round, key) in ["get", "typed", "compute", "compute typed"].into_iter().enumerate() {
            source.set_with_ttl(key, Bytes::from_static(b"7"), TTL).await.unwrap();
            let none = || async { Err::<Bytes, _>(CacheError::NotFound) };
            let no_number = || async { Err::<u8, _>(CacheError::NotFound) };
            match key {
                "get" => drop(cache.get(key).await.unwrap().unwrap()),
                "typed" => assert_eq!(cache.get_typed::<u8>(key).await.unwrap(), Some(7)),
                "compute" => {
                    drop(cache.get_or_compute_with(key, CacheStrategy::RealTime, none).await.unwrap());
                }
                _ => assert_eq!(cache.get_or_compute_typed(key, CacheStrategy::RealTime, no_number).await.unwrap(), 7),
            }
            assert_eq!(cache.get_stats().promotions, (round + 1) * 2, "{key} from {name}");
            assert!(l1.get(key).await.is_some() && l2.peek(key).is_some(), "{key} from {name}");
        }
    }
    // Two in-process tiers, one above the other.
    let (l1, l2) = (quick(), dash());
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    l2.set("k", OLD).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(OLD));
    assert_eq!((l1.get("k").await, cache.get_stats().promotions), (Some(OLD), 1));
    assert_at_rest(&cache);
}

#[tokio::test]
async fn one_hit_in_n_is_promoted() {
    let stacks: [(Tier, usize, u32); 4] =
        [(dash(), 10, 20_000), (Scripted::new("L2"), 5, 5_000), (dash(), 1, 500), (Scripted::new("L2"), 1, 500)];
    for (l2, one_in, reads) in stacks {
        let tiers =
            vec![CacheTier::new(quick(), 1, false, 1, 1.0), CacheTier::new(Arc::clone(&l2), 2, true, one_in, 1.0)];
        let cache = CacheManager::new_with_tiers(tiers, None).unwrap();
        for n in 0..reads {
            let key = n.to_string();
            l2.set(&key, OLD).await.unwrap();
            assert_eq!(cache.get(&key).await.unwrap(), Some(OLD));
        }
        let promoted = f64::from(u32::try_from(cache.get_stats().promotions).unwrap());
        let probability = 1.0 / f64::from(u32::try_from(one_in).unwrap());
        let mean = f64::from(reads) * probability;
        // Six standard deviations: a false alarm in half a billion runs.
        let slack = 6.0 * (mean * (1.0 - probability)).sqrt();
        assert!((promoted - mean).abs() <= slack, "{promoted} of {reads} at 1/{one_in} in {}", l2.name());
        assert_eq!(cache.get_stats().l2_hits, u64::from(reads));
    }
}

#[tokio::test]
async fn a_tier_without_promotion_never_promotes() {
    for l2 in [dash() as Tier, Scripted::new("L2")] {
        let l1 = quick();
        let config = TierConfig::as_l2().with_promotion_frequency(1).with_promotion(false);
        let system = CacheSystemBuilder::new()
            .with_tier(Arc::clone(&l1) as Tier, TierConfig::as_l1())
            .with_tier(Arc::clone(&l2), config)
            .with_promotion_condition(|_, _, _| true)
            .build()
            .await
            .unwrap();
        l2.set("k", OLD).await.unwrap();
        for _ in 0..100 {
            assert_eq!(system.cache_manager().get("k").await.unwrap(), Some(OLD));
        }
        assert_eq!((l1.size(), system.cache_manager().get_stats().promotions), (0, 0));
    }
}

#[tokio::test]
async fn a_condition_sees_key_value_and_tier_and_decides_instead_of_the_lot() {
    for l3 in [dash() as Tier, Scripted::new("L3")] {
        let (l1, l2, seen) = (quick(), Scripted::new("L2"), Arc::new(Mutex::new(Vec::new())));
        let writing = Arc::clone(&seen);
        let condition = move |key: &str, value: &Bytes, level: usize| {
            writing.lock().push((key.to_owned(), value.clone(), level));
            key.starts_with("hot") && value.len() < 10
        };
        let system = CacheSystemBuilder::new()
            .with_tier(Arc::clone(&l1) as Tier, TierConfig::as_l1())
            .with_tier(Arc::clone(&l2) as Tier, TierConfig::as_l2())
            // By lot it would be promoted once in a million.
            .with_tier(Arc::clone(&l3), TierConfig::as_l3().with_promotion_frequency(1_000_000))
            .with_promotion_condition(condition)
            .build()
            .await
            .unwrap();
        for (key, value) in [("hot", &b"small"[..]), ("cold", b"small"), ("hot:large", b"0123456789")] {
            l3.set(key, Bytes::from_static(value)).await.unwrap();
            assert!(system.cache_manager().get(key).await.unwrap().is_some());
            assert_eq!(seen.lock().pop(), Some((key.to_owned(), Bytes::from_static(value), 3)));
            assert_eq!((l1.get(key).await.is_some(), l2.peek(key).is_some()), (key == "hot", key == "hot"), "{key}");
        }
        assert_eq!(system.cache_manager().get_stats().promotions, 2);
    }
}

#[tokio::test]
async fn each_tier_keeps_a_value_for_the_asked_time_times_its_scale() {
    let time = ManualClock::new();
    let tiers = [Scripted::new("1"), Scripted::new("2"), Scripted::new("3"), Scripted::new("4"), Scripted::new("5")];
    let [l1, l2, l3, l4, l5] = tiers.clone();
    let system = CacheSystemBuilder::new()
        .with_clock(time.clock())
        .with_l1(l1 as Arc<dyn CacheBackend>)
        .with_l2(l2 as Tier)
        .with_l3(l3 as Tier)
        .with_l4(l4 as Tier)
        .with_tier(l5 as Tier, TierConfig::new(5).with_ttl_scale(0.25))
        .build()
        .await
        .unwrap();
    let cache = system.cache_manager();
    let seconds = |key: &str| tiers.iter().map(|tier| tier.ttl(key).unwrap().as_secs()).collect::<Vec<_>>();
    cache.set_with_strategy("put", NEW, CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(seconds("put"), [300, 300, 600, 2_400, 75]);
    let load = || async { Ok(NEW) };
    cache.get_or_compute_with("loaded", CacheStrategy::Custom(TTL), load).await.unwrap();
    assert_eq!(seconds("loaded"), [100, 100, 200, 800, 25]);
    cache.update_cache("updated", NEW, None).await.unwrap();
    assert_eq!(seconds("updated"), [300, 300, 600, 2_400, 75]);
}

// 7. A value promoted from a tier with scale 8 was given eight times its remaining time: 100 s became 800 s.
#[tokio::test]
async fn a_promoted_copy_never_outlives_its_source() {
    let time = ManualClock::new();
    let (l1, l4) = (quick_on(&time), dash_on(&time));
    let system = CacheSystemBuilder::new()
        .with_clock(time.clock())
        .with_tier(Arc::clone(&l1) as Tier, TierConfig::as_l1())
        .with_tier(Arc::clone(&l4) as Tier, TierConfig::as_l4().with_promotion_frequency(1))
        .build()
        .await
        .unwrap();
    let cache = system.cache_manager();
    cache.set_with_strategy("k", OLD, CacheStrategy::Custom(TTL)).await.unwrap();
    assert_eq!(l1.get_with_ttl("k").await, Some((OLD, Some(TTL))));
    assert_eq!(l4.get_with_ttl("k").await, Some((OLD, Some(TTL * 8))));
    time.advance(Duration::from_secs(700));
    assert_eq!((l1.get("k").await, cache.get("k").await.unwrap()), (None, Some(OLD)));
    assert_eq!(l1.get_with_ttl("k").await, Some((OLD, Some(Duration::from_millis(12_500)))));
    for _ in 0..20 {
        time.advance(Duration::from_secs(5));
        drop(cache.get("k").await.unwrap());
        let remaining =
            |found: Option<(Bytes, Option<Duration>)>| found.map_or(Duration::ZERO, |(_, ttl)| ttl.unwrap());
        assert!(remaining(l1.get_with_ttl("k").await) <= remaining(l4.get_with_ttl("k").await));
    }
    assert_eq!((l4.get("k").await, cache.get("k").await.unwrap()), (None, None), "800 s after the put");
}

// 7. The rule for every pair of scales, and for tiers that are awaited.
#[tokio::test]
async fn a_promoted_copy_lives_in_its_own_tiers_scale_and_is_capped_by_its_source() {
    let time = ManualClock::new();
    for (from, to, expected) in
        [(8.0, 1.0, 12.5), (1.0, 1.0, 100.0), (2.0, 8.0, 100.0), (1.0, 0.5, 50.0), (0.5, 1.0, 100.0)]
    {
        for source in [dash_on(&time) as Tier, Scripted::new("source")] {
            let target = Scripted::new("target");
            let system = CacheSystemBuilder::new()
                .with_clock(time.clock())
                .with_tier(Arc::clone(&target) as Tier, TierConfig::new(1).with_ttl_scale(to))
                .with_tier(Arc::clone(&source), TierConfig::new(4).with_ttl_scale(from).with_promotion_frequency(1))
                .build()
                .await
                .unwrap();
            source.set_with_ttl("k", OLD, TTL).await.unwrap();
            assert_eq!(system.cache_manager().get("k").await.unwrap(), Some(OLD));
            assert_eq!(
                target.ttl("k"),
                Some(Duration::from_secs_f64(expected)),
                "{from} to {to} from {}",
                source.name()
            );
        }
    }
}

/// A tier that cannot tell how long its values live.
struct Timeless(Arc<Scripted>);

impl CacheBackend for Timeless {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        self.0.get(key)
    }
    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.0.set_with_ttl(key, value, ttl)
    }
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.0.remove(key)
    }
    fn health_check(&self) -> BoxFuture<'_, bool> {
        self.0.health_check()
    }
    fn name(&self) -> &'static str {
        "Timeless"
    }
}

impl L2CacheBackend for Timeless {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move { Some((self.0.get(key).await?, None)) })
    }
}

#[tokio::test]
async fn a_copy_whose_sources_time_is_unknown_lives_five_minutes() {
    let time = ManualClock::new();
    let (l1, source) = (quick_on(&time), Scripted::new("source"));
    let system = CacheSystemBuilder::new()
        .with_clock(time.clock())
        .with_tier(Arc::clone(&l1) as Tier, TierConfig::as_l1())
        .with_tier(Arc::new(Timeless(Arc::clone(&source))), TierConfig::as_l4().with_promotion_frequency(1))
        .build()
        .await
        .unwrap();
    source.plant("k", OLD);
    assert_eq!(system.cache_manager().get("k").await.unwrap(), Some(OLD));
    assert_eq!(l1.get_with_ttl("k").await, Some((OLD, Some(Duration::from_secs(300)))));
}

// A user's backend as L1, awaited, with the required methods only.
#[tokio::test]
async fn an_awaited_backend_serves_as_l1() {
    let (l1, l2) = (Scripted::new("own"), Scripted::new("L2"));
    let own: Arc<dyn CacheBackend> = Arc::new(Timeless(Arc::clone(&l1)));
    let cache = CacheManager::new_with_backends(own, Arc::clone(&l2) as Tier, None).unwrap();
    let load = || async { Ok(NEW) };
    for _ in 0..3 {
        assert_eq!(cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap(), NEW);
    }
    assert_eq!((l1.peek("k"), l2.peek("k")), (Some(NEW), Some(NEW)));
    assert_eq!((cache.get_stats().misses, cache.get_stats().l1_hits, l2.calls(Op::Get)), (1, 2, 1));
    cache.invalidate("k").await.unwrap();
    assert_eq!((l1.peek("k"), l2.peek("k"), cache.get("k").await.unwrap()), (None, None, None));
    assert!(cache.invalidate_pattern("k*").await.is_err(), "it cannot match patterns and says so");
    assert_at_rest(&cache);
}

#[tokio::test]
async fn each_tier_counts_its_own_hits() {
    let (l1, l2, l3) = (quick(), Scripted::new("L2"), dash());
    let tiers = [Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier, Arc::clone(&l3) as Tier];
    let tiers = tiers.into_iter().zip([1, 5, 9]).map(|(tier, level)| CacheTier::new(tier, level, false, 1, 1.0));
    let cache = CacheManager::new_with_tiers(tiers.collect(), None).unwrap();
    l1.set("one", OLD).await.unwrap();
    l2.plant("two", OLD);
    l3.set("three", OLD).await.unwrap();
    for (key, times) in [("one", 3), ("two", 2), ("three", 4), ("none", 5)] {
        for _ in 0..times {
            drop(cache.get(key).await.unwrap());
        }
    }
    let seen: Vec<_> = cache.get_tier_stats().iter().map(|tier| (tier.tier_level, tier.hit_count())).collect();
    assert_eq!(seen, [(1, 3), (5, 2), (9, 4)]);
    let stats = cache.get_stats();
    assert_eq!((stats.l1_hits, stats.l2_hits, stats.misses, stats.total_requests), (3, 6, 5, 14));
    assert!((stats.hit_rate - 900.0 / 14.0).abs() < 1e-9 && (stats.l1_hit_rate - 300.0 / 14.0).abs() < 1e-9);
    assert_at_rest(&cache);
}
