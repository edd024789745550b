//! A program written for the established API: every name, path and signature of it, used as its users do.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use multi_tier_cache::{Arc, Bytes};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Through the modules.
mod by_module {
    pub(crate) use multi_tier_cache::backends::dashmap_cache::DashMapCache;
    #[cfg(feature = "moka")]
    pub(crate) use multi_tier_cache::backends::moka_cache::{MokaCache, MokaCacheConfig};
    pub(crate) use multi_tier_cache::backends::quickcache_cache::QuickCacheBackend;
    #[cfg(feature = "redis")]
    pub(crate) use multi_tier_cache::backends::redis_cache::RedisCache;
    pub(crate) use multi_tier_cache::backends::{DashMapCache as DashMap, QuickCacheBackend as QuickCache};
    #[cfg(feature = "moka")]
    pub(crate) use multi_tier_cache::backends::{L1Cache, MokaCache as Moka, MokaCacheConfig as MokaConfig};
    #[cfg(feature = "redis")]
    pub(crate) use multi_tier_cache::backends::{L2Cache, RedisCache as Redis};
    pub(crate) use multi_tier_cache::builder::CacheSystemBuilder;
    pub(crate) use multi_tier_cache::cache_manager::{
        CacheManager, CacheManagerStats, CacheStrategy, CacheTier, TierConfig, TierStats,
    };
    pub(crate) use multi_tier_cache::error::{CacheError, CacheResult};
    pub(crate) use multi_tier_cache::invalidation::{InvalidationConfig, InvalidationMessage, InvalidationStats};
    #[cfg(feature = "redis")]
    pub(crate) use multi_tier_cache::redis_streams::RedisStreams;
    #[cfg(feature = "bincode")]
    pub(crate) use multi_tier_cache::serialization::BincodeSerializer;
    #[cfg(feature = "msgpack")]
    pub(crate) use multi_tier_cache::serialization::MsgPackSerializer;
    pub(crate) use multi_tier_cache::serialization::{CacheSerializer, JsonSerializer};
    pub(crate) use multi_tier_cache::traits::{CacheBackend, L2CacheBackend, StreamEntry, StreamingBackend};
}

/// Through the crate root: the very same items.
mod by_root {
    #[cfg(feature = "bincode")]
    pub(crate) use multi_tier_cache::BincodeSerializer;
    #[cfg(feature = "msgpack")]
    pub(crate) use multi_tier_cache::MsgPackSerializer;
    pub(crate) use multi_tier_cache::{
        CacheBackend, CacheError, CacheManager, CacheManagerStats, CacheResult, CacheSerializer, CacheStrategy,
        CacheSystem, CacheSystemBuilder, CacheTier, DashMapCache, InvalidationConfig, InvalidationMessage,
        InvalidationStats, JsonSerializer, L2CacheBackend, QuickCacheBackend, StreamEntry, StreamingBackend,
        TierConfig, TierStats,
    };
    #[cfg(feature = "moka")]
    pub(crate) use multi_tier_cache::{L1Cache, MokaCache, MokaCacheConfig};
    #[cfg(feature = "redis")]
    pub(crate) use multi_tier_cache::{L2Cache, RedisCache, RedisStreams};
}

use by_root::*;

macro_rules! same {
    ($($name:ident),*) => {
        $({
            let same: fn(by_module::$name) -> by_root::$name = |item| item;
            let _ = same;
        })*
    };
}

#[test]
fn every_item_has_both_paths() {
    same!(CacheManager, CacheManagerStats, CacheStrategy, CacheTier, TierConfig, TierStats, CacheSystemBuilder);
    same!(CacheError, InvalidationConfig, InvalidationMessage, InvalidationStats, CacheSerializer, JsonSerializer);
    same!(DashMapCache, QuickCacheBackend, StreamEntry);
    let _: fn(by_module::DashMap) -> DashMapCache = |same| same;
    let _: fn(by_module::QuickCache) -> QuickCacheBackend = |same| same;
    let _: fn(by_module::CacheResult<u8>) -> CacheResult<u8> = |same| same;
    let _: fn(Arc<dyn by_module::CacheBackend>) -> Arc<dyn CacheBackend> = |same| same;
    let _: fn(Arc<dyn by_module::L2CacheBackend>) -> Arc<dyn L2CacheBackend> = |same| same;
    let _: fn(Arc<dyn by_module::StreamingBackend>) -> Arc<dyn StreamingBackend> = |same| same;
    #[cfg(feature = "bincode")]
    same!(BincodeSerializer);
    #[cfg(feature = "msgpack")]
    same!(MsgPackSerializer);
    #[cfg(feature = "moka")]
    {
        same!(MokaCache, MokaCacheConfig, L1Cache);
        let _: fn(by_module::Moka, by_module::MokaConfig) -> (L1Cache, MokaCacheConfig) = |l1, config| (l1, config);
    }
    #[cfg(feature = "redis")]
    {
        same!(RedisCache, RedisStreams, L2Cache);
        let _: fn(by_module::Redis) -> L2Cache = |same| same;
    }
}

#[test]
fn types_keep_their_traits() {
    fn shown<T: Debug + Clone>() {}
    fn made<T: Debug + Clone + Default>() {}
    fn error<T: std::error::Error + Debug + Clone + Send + Sync + 'static>() {}
    fn shared<T: Send + Sync + 'static>() {}
    shown::<CacheManagerStats>();
    shown::<CacheStrategy>();
    shown::<TierConfig>();
    shown::<InvalidationMessage>();
    shown::<InvalidationStats>();
    made::<CacheSerializer>();
    made::<InvalidationConfig>();
    error::<CacheError>();
    shared::<CacheManager>();
    shared::<CacheSystem>();
    shared::<Arc<dyn CacheBackend>>();
    shared::<Arc<dyn L2CacheBackend>>();
    shared::<Arc<dyn StreamingBackend>>();
    fn cloned<T: Clone>() {}
    cloned::<CacheSystem>();
    cloned::<CacheTier>();
    cloned::<TierStats>();
    let _ = (DashMapCache::default(), CacheSystemBuilder::default());
    #[cfg(feature = "moka")]
    {
        fn copied<T: Debug + Clone + Copy + Default>() {}
        copied::<MokaCacheConfig>();
    }
    #[cfg(feature = "redis")]
    cloned::<RedisStreams>();
}

/// A backend as one wrote it for the established crate: the required methods and no more.
#[derive(Default)]
struct OldBackend(Mutex<HashMap<String, Bytes>>);

impl CacheBackend for OldBackend {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.0.lock().get(key).cloned() })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, _ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.0.lock().insert(key.to_string(), value);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.0.lock().remove(key);
            Ok(())
        })
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }

    fn name(&self) -> &'static str {
        "Old"
    }
}

impl L2CacheBackend for OldBackend {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move { self.0.lock().get(key).cloned().map(|value| (value, Some(Duration::from_secs(60)))) })
    }
}

/// Streams as one had to write them then: with the group methods, which were required.
#[derive(Default)]
struct OldStreams(Mutex<Vec<StreamEntry>>);

impl StreamingBackend for OldStreams {
    fn stream_add<'a>(
        &'a self,
        _stream_key: &'a str,
        fields: Vec<(String, String)>,
        _maxlen: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<String>> {
        Box::pin(async move {
            let mut entries = self.0.lock();
            let id = format!("{}-0", entries.len() + 1);
            entries.push((id.clone(), fields));
            Ok(id)
        })
    }

    fn stream_read_latest<'a>(
        &'a self,
        _stream_key: &'a str,
        count: usize,
    ) -> BoxFuture<'a, CacheResult<Vec<(String, Vec<(String, String)>)>>> {
        Box::pin(async move { Ok(self.0.lock().iter().rev().take(count).cloned().collect()) })
    }

    fn stream_read<'a>(
        &'a self,
        _stream_key: &'a str,
        _last_id: &'a str,
        count: usize,
        _block_ms: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<Vec<(String, Vec<(String, String)>)>>> {
        Box::pin(async move { Ok(self.0.lock().iter().take(count).cloned().collect()) })
    }

    fn stream_create_group<'a>(
        &'a self,
        _stream_key: &'a str,
        _group_name: &'a str,
        _id: &'a str,
    ) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async { Ok(()) })
    }

    fn stream_read_group<'a>(
        &'a self,
        _stream_key: &'a str,
        _group_name: &'a str,
        _consumer_name: &'a str,
        _count: usize,
        _block_ms: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<Vec<(String, Vec<(String, String)>)>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn stream_ack<'a>(
        &'a self,
        _stream_key: &'a str,
        _group_name: &'a str,
        _ids: &'a [String],
    ) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// And without them, as one may now.
struct FewStreams(OldStreams);

impl StreamingBackend for FewStreams {
    fn stream_add<'a>(
        &'a self,
        key: &'a str,
        fields: Vec<(String, String)>,
        maxlen: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<String>> {
        self.0.stream_add(key, fields, maxlen)
    }

    fn stream_read_latest<'a>(&'a self, key: &'a str, count: usize) -> BoxFuture<'a, CacheResult<Vec<StreamEntry>>> {
        self.0.stream_read_latest(key, count)
    }

    fn stream_read<'a>(
        &'a self,
        key: &'a str,
        last_id: &'a str,
        count: usize,
        block_ms: Option<usize>,
    ) -> BoxFuture<'a, CacheResult<Vec<StreamEntry>>> {
        self.0.stream_read(key, last_id, count, block_ms)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

fn old_pair() -> CacheManager {
    let streams: Arc<dyn StreamingBackend> = Arc::new(OldStreams::default());
    let l1 = Arc::new(QuickCacheBackend::new(100).unwrap());
    CacheManager::new_with_backends(l1, Arc::new(OldBackend::default()), Some(streams)).unwrap()
}

// `?` into anyhow, from every fallible verb.
#[tokio::test]
async fn the_verbs_of_a_manager_have_their_established_signatures() -> anyhow::Result<()> {
    let mut cache = old_pair();
    cache.set_serializer(CacheSerializer::Json(JsonSerializer));
    let user = User { id: 1, name: "Ada".to_string() };
    let bytes: Bytes = Bytes::from_static(b"{\"id\":1,\"name\":\"Ada\"}");

    let nothing: Option<Bytes> = cache.get("user:1").await?;
    assert!(nothing.is_none());
    cache.set_with_strategy("user:1", bytes.clone(), CacheStrategy::MediumTerm).await?;
    let some: Option<User> = cache.get_typed::<User>("user:1").await?;
    assert_eq!(some, Some(user.clone()));
    let loaded: User = cache
        .get_or_compute_typed("user:2", CacheStrategy::Custom(Duration::from_secs(30)), || async {
            Ok(User { id: 2, name: "Grace".to_string() })
        })
        .await?;
    assert_eq!(loaded.id, 2);
    let loaded: Bytes =
        cache.get_or_compute_with("raw", CacheStrategy::RealTime, || async { Ok(Bytes::from("raw")) }).await?;
    assert_eq!(loaded, "raw");
    cache.update_cache("user:1", bytes.clone(), Some(Duration::from_secs(60))).await?;
    cache.set_with_broadcast("user:1", bytes, CacheStrategy::Default).await?;
    cache.invalidate("user:1").await?;
    assert!(cache.invalidate_pattern("user:*").await.is_err(), "the old backend cannot match patterns");
    assert!(cache.invalidation_stats().is_none() && cache.get_invalidation_stats().is_none());

    let id: String = cache.publish_to_stream("events", vec![("type".to_string(), "x".to_string())], Some(1000)).await?;
    let latest: Vec<(String, Vec<(String, String)>)> = cache.read_stream_latest("events", 10).await?;
    assert_eq!(latest[0].0, id);
    let read: Vec<(String, Vec<(String, String)>)> = cache.read_stream("events", "0", 10, Some(100)).await?;
    assert_eq!(read, latest);

    let CacheManagerStats {
        total_requests,
        l1_hits,
        l2_hits,
        total_hits,
        misses,
        hit_rate,
        l1_hit_rate,
        promotions,
        in_flight_requests,
        ..
    } = cache.get_stats();
    let counts: [u64; 5] = [total_requests, l1_hits, l2_hits, total_hits, misses];
    let rates: [f64; 2] = [hit_rate, l1_hit_rate];
    let sizes: [usize; 2] = [promotions, in_flight_requests];
    assert_eq!((counts, sizes), ([4, 1, 0, 1, 3], [0, 0]));
    assert!(rates.iter().all(|rate| (rate - 25.0).abs() < 1e-9), "{rates:?}");
    let tiers: Vec<TierStats> = cache.get_tier_stats();
    assert_eq!((tiers[0].tier_level, tiers[0].backend_name.as_str(), tiers[0].hit_count()), (1, "QuickCache", 1));
    Ok(())
}

// Loaders borrow from their caller, and the whole may still be spawned.
#[tokio::test]
async fn loaders_borrow_locals_and_their_futures_are_send() -> anyhow::Result<()> {
    async fn find(id: &u64, name: &str) -> CacheResult<User> {
        tokio::task::yield_now().await;
        Ok(User { id: *id, name: name.to_owned() })
    }
    async fn generic<T>(cache: &CacheManager, key: &str, value: &T) -> CacheResult<T>
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        cache.get_or_compute_typed(key, CacheStrategy::ShortTerm, || async { Ok(value.clone()) }).await
    }
    let cache = Arc::new(old_pair());
    let task = tokio::spawn(async move {
        let (id, name, mut calls) = (3_u64, String::from("Alan"), 0_u32);
        let (id, name) = (&id, name.as_str());
        let user: User = cache.get_or_compute_typed("u", CacheStrategy::ShortTerm, || find(id, name)).await?;
        let bytes = cache
            .get_or_compute_with("b", CacheStrategy::ShortTerm, || async {
                calls += 1;
                Ok(Bytes::copy_from_slice(name.as_bytes()))
            })
            .await?;
        let same = generic(&cache, "g", &user).await?;
        anyhow::Ok((user == same, bytes == name.as_bytes(), calls))
    });
    assert_eq!(task.await??, (true, true, 1));
    Ok(())
}

#[tokio::test]
async fn a_builder_takes_every_kind_of_tier() -> anyhow::Result<()> {
    let l1: Arc<dyn CacheBackend> = Arc::new(OldBackend::default());
    let tier = || -> Arc<dyn L2CacheBackend> { Arc::new(DashMapCache::new()) };
    let config = TierConfig { tier_level: 5, promotion_enabled: true, promotion_frequency: 20, ttl_scale: 1.5 };
    let system: CacheSystem = CacheSystemBuilder::new()
        .with_l1(l1)
        .with_l2(Arc::new(OldBackend::default()))
        .with_l3(tier())
        .with_l4(tier())
        .with_tier(tier(), config)
        .with_streams(Arc::new(FewStreams(OldStreams::default())))
        .build()
        .await?;
    assert!(system.health_check().await);
    let levels: Vec<usize> = system.cache_manager().get_tier_stats().iter().map(|tier| tier.tier_level).collect();
    assert_eq!(levels, [1, 2, 3, 4, 5]);
    let manager: &Arc<CacheManager> = system.cache_manager();
    assert_eq!(manager.publish_to_stream("s", vec![("a".into(), "b".into())], None).await?, "1-0");
    let group = FewStreams(OldStreams::default());
    assert!(group.stream_create_group("s", "g", "0").await.is_err());
    assert!(group.stream_read_group("s", "g", "c", 1, None).await.is_err());
    assert!(group.stream_ack("s", "g", &["1-0".to_string()]).await.is_err());

    // The fields are the user's to take.
    let clone = system.clone();
    let cache_manager: Arc<CacheManager> = system.cache_manager;
    assert!(Arc::ptr_eq(&cache_manager, &clone.cache_manager));
    #[cfg(feature = "moka")]
    {
        let l1: Option<Arc<L1Cache>> = system.l1_cache;
        assert!(l1.is_none());
    }
    #[cfg(feature = "redis")]
    {
        let l2: Option<Arc<L2Cache>> = system.l2_cache;
        assert!(l2.is_none());
    }
    Ok(())
}

#[cfg(not(feature = "redis"))]
#[tokio::test]
async fn without_redis_the_default_system_is_an_l1() -> anyhow::Result<()> {
    let system = CacheSystem::new().await?;
    assert_eq!(system.cache_manager().get_tier_stats().len(), 1);
    Ok(())
}
