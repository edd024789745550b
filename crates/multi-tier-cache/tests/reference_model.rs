//! Random operations on one to four tiers against a plain map of values and deadlines, with a clock moved by hand.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::backends::glob::Glob;
use multi_tier_cache::clock::{Clock, Moment};
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{
    CacheBackend, CacheManager, CacheResult, CacheStrategy, CacheSystemBuilder, DashMapCache, L2CacheBackend,
    TierConfig,
};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum TierKind {
    QuickCache,
    DashMap,
    /// A user's backend with the asynchronous face only.
    Awaited,
}

#[derive(Debug, Clone)]
struct Tier {
    kind: TierKind,
    scale: f64,
    promotes: bool,
}

#[derive(Debug, Clone)]
enum Operation {
    Get(u8),
    GetOrCompute(u8, u64),
    Set(u8, u64),
    Update(u8, u64),
    Invalidate(u8),
    InvalidatePattern(&'static str),
    Advance(u64),
}

struct AwaitedTier {
    clock: Clock,
    map: Mutex<HashMap<String, (Bytes, Moment)>>,
}

impl CacheBackend for AwaitedTier {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { Some(self.get_with_ttl(key).await?.0) })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.map.lock().unwrap().insert(key.to_owned(), (value, self.clock.now().after(ttl)));
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.map.lock().unwrap().remove(key);
            Ok(())
        })
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    fn name(&self) -> &'static str {
        "Awaited"
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            let glob = Glob::new(pattern);
            self.map.lock().unwrap().retain(|key, _| !glob.matches(key));
            Ok(())
        })
    }
}

impl L2CacheBackend for AwaitedTier {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let (value, deadline) = self.map.lock().unwrap().get(key).cloned()?;
            let now = self.clock.now();
            (deadline > now).then(|| (value, Some(deadline.since(now))))
        })
    }
}

/// What must come out: per tier a map from key to value and deadline in nanoseconds, and the counts.
struct Model {
    tiers: Vec<Tier>,
    maps: Vec<HashMap<u8, (Bytes, u64)>>,
    now: u64,
    hits: Vec<u64>,
    misses: u64,
    promotions: usize,
}

impl Model {
    fn new(tiers: &[Tier]) -> Self {
        let maps = vec![HashMap::new(); tiers.len()];
        Self { tiers: tiers.to_vec(), maps, now: 0, hits: vec![0; tiers.len()], misses: 0, promotions: 0 }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
    fn scaled(nanos: u64, scale: f64) -> u64 {
        (nanos as f64 * scale) as u64
    }

    fn get(&mut self, key: u8) -> Option<Bytes> {
        let now = self.now;
        let live = |map: &HashMap<u8, (Bytes, u64)>| map.get(&key).filter(|(_, deadline)| *deadline > now).cloned();
        let Some(source) = self.maps.iter().position(|map| live(map).is_some()) else {
            self.misses += 1;
            return None;
        };
        let (value, deadline) = live(&self.maps[source])?;
        self.hits[source] += 1;
        if self.tiers[source].promotes {
            for above in 0..source {
                let remaining = deadline - now;
                let scale = self.tiers[above].scale / self.tiers[source].scale;
                let ttl = Self::scaled(remaining, scale).min(remaining);
                self.maps[above].insert(key, (value.clone(), now + ttl));
                self.promotions += 1;
            }
        }
        Some(value)
    }

    fn set(&mut self, key: u8, value: &Bytes, ttl: u64) {
        for (tier, map) in self.tiers.iter().zip(&mut self.maps) {
            map.remove(&key);
            if ttl > 0 {
                map.insert(key, (value.clone(), self.now + Self::scaled(ttl, tier.scale)));
            }
        }
    }

    fn remove(&mut self, matches: impl Fn(u8) -> bool) {
        self.maps.iter_mut().for_each(|map| map.retain(|key, _| !matches(*key)));
    }
}

fn key(key: u8) -> String {
    format!("key:{key}")
}

fn tier() -> impl Strategy<Value = Tier> {
    let kind = prop_oneof![Just(TierKind::QuickCache), Just(TierKind::DashMap), Just(TierKind::Awaited)];
    let scale = prop_oneof![Just(1.0), Just(2.0), Just(4.0), Just(0.5)];
    (kind, scale, any::<bool>()).prop_map(|(kind, scale, promotes)| Tier { kind, scale, promotes })
}

fn operation() -> impl Strategy<Value = Operation> {
    let (key, ttl) = (0_u8..6, prop_oneof![Just(0), 1_u64..2_000, Just(3_600_000)]);
    prop_oneof![
        4 => key.clone().prop_map(Operation::Get),
        4 => (key.clone(), ttl.clone()).prop_map(|(key, ttl)| Operation::GetOrCompute(key, ttl)),
        2 => (key.clone(), ttl.clone()).prop_map(|(key, ttl)| Operation::Set(key, ttl)),
        1 => (key.clone(), ttl).prop_map(|(key, ttl)| Operation::Update(key, ttl)),
        2 => key.prop_map(Operation::Invalidate),
        1 => prop_oneof![Just("key:[0-2]"), Just("key:?"), Just("*5"), Just("other:*")]
            .prop_map(Operation::InvalidatePattern),
        3 => (1_u64..1_500).prop_map(Operation::Advance),
    ]
}

async fn cache(tiers: &[Tier], clock: &ManualClock) -> Arc<CacheManager> {
    let mut builder = CacheSystemBuilder::new().with_clock(clock.clock());
    for (position, tier) in tiers.iter().enumerate() {
        let backend: Arc<dyn L2CacheBackend> = match tier.kind {
            TierKind::QuickCache => Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(clock.clock())),
            TierKind::DashMap => Arc::new(DashMapCache::new().with_clock(clock.clock())),
            TierKind::Awaited => Arc::new(AwaitedTier { clock: clock.clock(), map: Mutex::default() }),
        };
        let config = TierConfig::new(position + 1)
            .with_ttl_scale(tier.scale)
            .with_promotion(tier.promotes)
            .with_promotion_frequency(1);
        builder = builder.with_tier(backend, config);
    }
    builder.build().await.unwrap().cache_manager
}

async fn check(tiers: Vec<Tier>, operations: Vec<Operation>) {
    let clock = ManualClock::new();
    let cache = cache(&tiers, &clock).await;
    let mut model = Model::new(&tiers);
    for (step, operation) in operations.iter().enumerate() {
        let fresh = Bytes::from(format!("value of step {step}"));
        match *operation {
            Operation::Get(k) => assert_eq!(cache.get(&key(k)).await.unwrap(), model.get(k), "step {step}"),
            Operation::GetOrCompute(k, ttl) => {
                let strategy = CacheStrategy::Custom(Duration::from_millis(ttl));
                let load = || async { Ok(fresh.clone()) };
                let answer = cache.get_or_compute_with(&key(k), strategy, load).await.unwrap();
                let expected = model.get(k).unwrap_or_else(|| {
                    model.set(k, &fresh, ttl * 1_000_000);
                    fresh.clone()
                });
                assert_eq!(answer, expected, "step {step}");
            }
            Operation::Set(k, ttl) => {
                let strategy = CacheStrategy::Custom(Duration::from_millis(ttl));
                cache.set_with_strategy(&key(k), fresh.clone(), strategy).await.unwrap();
                model.set(k, &fresh, ttl * 1_000_000);
            }
            Operation::Update(k, ttl) => {
                cache.update_cache(&key(k), fresh.clone(), Some(Duration::from_millis(ttl))).await.unwrap();
                model.set(k, &fresh, ttl * 1_000_000);
            }
            Operation::Invalidate(k) => {
                cache.invalidate(&key(k)).await.unwrap();
                model.remove(|other| other == k);
            }
            Operation::InvalidatePattern(pattern) => {
                cache.invalidate_pattern(pattern).await.unwrap();
                let glob = Glob::new(pattern);
                model.remove(|other| glob.matches(&key(other)));
            }
            Operation::Advance(millis) => {
                clock.advance(Duration::from_millis(millis));
                model.now += millis * 1_000_000;
            }
        }
    }
    let stats = cache.get_stats();
    let hits: Vec<u64> = cache.get_tier_stats().iter().map(multi_tier_cache::TierStats::hit_count).collect();
    assert_eq!((hits, stats.misses, stats.promotions), (model.hits.clone(), model.misses, model.promotions));
    assert_eq!(stats.total_requests, model.hits.iter().sum::<u64>() + model.misses);
    assert_eq!(stats.in_flight_requests, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_of_tiers_behaves_like_maps_with_deadlines(
        tiers in prop::collection::vec(tier(), 1..=4),
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(tiers, operations));
    }
}
