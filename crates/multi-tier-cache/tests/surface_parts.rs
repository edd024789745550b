//! The rest of the established API, part by part: backends, serializers, errors, messages, and the default system.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use multi_tier_cache::{
    Arc, Bytes, CacheBackend, CacheError, CacheResult, CacheSerializer, DashMapCache, JsonSerializer,
};
use multi_tier_cache::{CacheManager, CacheStrategy, CacheTier, TierConfig, TierStats};
use multi_tier_cache::{InvalidationConfig, InvalidationMessage, InvalidationStats, L2CacheBackend, QuickCacheBackend};

fn fails(with: CacheError) -> CacheResult<()> {
    Err(with)
}

#[test]
fn errors_are_made_matched_and_shown_as_before() {
    fn into_anyhow() -> anyhow::Result<()> {
        fails(CacheError::BackendError("down".into()))?;
        Ok(())
    }
    fn into_box() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        fails(CacheError::ConfigError("bad".to_string()))?;
        Ok(())
    }
    assert_eq!(into_anyhow().unwrap_err().to_string(), "Backend error: down");
    assert_eq!(into_box().unwrap_err().to_string(), "Configuration error: bad");
    let all = [
        (CacheError::BackendError(format!("at {}", 1).into()), "Backend error: at 1"),
        (CacheError::SerializationError("x".into()), "Serialization error: x"),
        (CacheError::InvalidationError("x".into()), "Invalidation error: x"),
        (CacheError::ConfigError("x".to_string()), "Configuration error: x"),
        (CacheError::NotFound, "Key not found"),
        (CacheError::InternalError("x".to_string()), "Internal error: x"),
    ];
    for (error, text) in all {
        assert_eq!(error.clone().to_string(), text);
        // Exactly six, and the first three show their message.
        let message = match error {
            CacheError::BackendError(failure)
            | CacheError::SerializationError(failure)
            | CacheError::InvalidationError(failure) => failure.to_string(),
            CacheError::ConfigError(message) | CacheError::InternalError(message) => message,
            CacheError::NotFound => "Key not found".to_string(),
        };
        assert!(text.ends_with(&message));
    }
}

#[test]
fn errors_of_clients_and_codecs_convert() {
    fn converts<E>()
    where
        CacheError: From<E>,
    {
    }
    converts::<serde_json::Error>();
    converts::<std::num::TryFromIntError>();
    #[cfg(feature = "redis")]
    converts::<redis::RedisError>();
    #[cfg(feature = "bincode")]
    converts::<bincode::Error>();
    #[cfg(feature = "msgpack")]
    {
        converts::<rmp_serde::encode::Error>();
        converts::<rmp_serde::decode::Error>();
    }
    #[cfg(feature = "postcard")]
    converts::<postcard::Error>();
}

#[test]
fn serializers_are_named_and_give_back_what_they_were_given() {
    let all = [
        (CacheSerializer::default(), "Json"),
        (CacheSerializer::Json(JsonSerializer), "Json"),
        #[cfg(feature = "bincode")]
        (CacheSerializer::Bincode(multi_tier_cache::BincodeSerializer), "Bincode"),
        #[cfg(feature = "msgpack")]
        (CacheSerializer::MsgPack(multi_tier_cache::MsgPackSerializer), "MsgPack"),
    ];
    for (serializer, name) in all {
        let bytes: Bytes = serializer.serialize(&(1_u8, "two".to_string())).unwrap();
        let back: (u8, String) = serializer.deserialize(&bytes).unwrap();
        assert_eq!((back, serializer.name()), ((1, "two".to_string()), name));
    }
}

#[test]
fn messages_and_their_configuration_are_written_literally() {
    let config = InvalidationConfig {
        channel: "my:channel".to_string(),
        auto_broadcast_on_write: true,
        enable_audit_stream: true,
        audit_stream: "my:audit".to_string(),
        audit_stream_maxlen: Some(10),
    };
    assert_eq!(InvalidationConfig { audit_stream_maxlen: None, ..config }.channel, "my:channel");
    let InvalidationConfig { channel, auto_broadcast_on_write, enable_audit_stream, audit_stream, audit_stream_maxlen } =
        InvalidationConfig::default();
    assert_eq!((channel.as_str(), audit_stream.as_str()), ("cache:invalidate", "cache:invalidations"));
    assert_eq!((auto_broadcast_on_write, enable_audit_stream, audit_stream_maxlen), (false, false, Some(10_000)));

    let value = Bytes::from_static(b"v");
    for message in [
        InvalidationMessage::remove("k"),
        InvalidationMessage::update("k", value, Some(Duration::from_secs(9))),
        InvalidationMessage::remove_pattern("k*"),
        InvalidationMessage::remove_bulk(vec!["k".to_string()]),
    ] {
        let json: String = message.to_json().unwrap();
        let back = InvalidationMessage::from_json(&json).unwrap();
        assert_eq!(back.to_json().unwrap(), json);
        match back {
            InvalidationMessage::Remove { key } => assert_eq!(key, "k"),
            InvalidationMessage::Update { ref key, ref value, ttl_secs } => {
                assert_eq!((key.as_str(), &value[..], ttl_secs), ("k", &b"v"[..], Some(9)));
                assert_eq!(back.ttl(), Some(Duration::from_secs(9)));
            }
            InvalidationMessage::RemovePattern { pattern } => assert_eq!(pattern, "k*"),
            InvalidationMessage::RemoveBulk { keys } => assert_eq!(keys, ["k"]),
        }
    }
    let InvalidationStats {
        messages_sent,
        messages_received,
        removes_received,
        updates_received,
        patterns_received,
        bulk_removes_received,
        processing_errors,
        ..
    } = InvalidationStats::default();
    let received = removes_received + updates_received + patterns_received + bulk_removes_received;
    assert_eq!(messages_sent + messages_received + received + processing_errors, 0_u64);
}

#[test]
fn tiers_and_strategies_have_their_values() {
    let shape = |tier: &TierConfig| (tier.tier_level, tier.promotion_enabled, tier.promotion_frequency, tier.ttl_scale);
    assert_eq!(shape(&TierConfig::new(6)), (6, true, 10, 1.0));
    assert!(!TierConfig::as_l1().promotion_enabled);
    let scales = [TierConfig::as_l1(), TierConfig::as_l2(), TierConfig::as_l3(), TierConfig::as_l4()];
    assert_eq!(scales.map(|tier| (tier.tier_level, tier.ttl_scale)), [(1, 1.0), (2, 1.0), (3, 2.0), (4, 8.0)]);
    let built = TierConfig::new(1).with_promotion(false).with_promotion_frequency(3).with_ttl_scale(0.5).with_level(9);
    assert_eq!(shape(&built), (9, false, 3, 0.5));

    let tier = CacheTier::new(Arc::new(DashMapCache::new()), 2, true, 10, 1.0);
    let CacheTier { backend, tier_level, promotion_enabled, promotion_frequency, ttl_scale, stats, .. } = tier.clone();
    let backend: Arc<dyn L2CacheBackend> = backend;
    assert_eq!((backend.name(), tier_level, promotion_enabled, promotion_frequency), ("DashMap", 2, true, 10));
    assert!((ttl_scale - 1.0).abs() < f64::EPSILON);
    let TierStats { tier_level, hits, backend_name, .. } = stats.clone();
    let hits: AtomicU64 = hits;
    assert_eq!((tier_level, hits.into_inner(), backend_name, stats.hit_count()), (2, 0, "DashMap".to_string(), 0));
    assert!(CacheManager::new_with_tiers(vec![tier], None).is_ok(), "and needs no runtime");

    let seconds = |strategy: CacheStrategy| match strategy {
        CacheStrategy::RealTime
        | CacheStrategy::ShortTerm
        | CacheStrategy::MediumTerm
        | CacheStrategy::LongTerm
        | CacheStrategy::Custom(_)
        | CacheStrategy::Default => strategy.to_duration().as_secs(),
    };
    let all = [CacheStrategy::RealTime, CacheStrategy::ShortTerm, CacheStrategy::MediumTerm, CacheStrategy::LongTerm];
    assert_eq!(all.map(seconds), [10, 300, 3_600, 10_800]);
    assert_eq!((seconds(CacheStrategy::Custom(Duration::from_secs(7))), seconds(CacheStrategy::Default)), (7, 300));
}

// Synchronous constructors need no runtime.
#[test]
fn in_process_backends_are_made_outside_a_runtime() {
    let quick: CacheResult<QuickCacheBackend> = QuickCacheBackend::new(2_000);
    assert_eq!(quick.unwrap().size(), 0);
    let dash = DashMapCache::new();
    let (cleaned, len, empty): (usize, usize, bool) = (dash.cleanup_expired(), dash.len(), dash.is_empty());
    assert_eq!((cleaned, len, empty), (0, 0, true));
    #[cfg(feature = "moka")]
    {
        use multi_tier_cache::{L1Cache, MokaCache, MokaCacheConfig};
        let MokaCacheConfig { max_capacity, time_to_live, time_to_idle } = MokaCacheConfig::default();
        assert_eq!((max_capacity, time_to_live.as_secs(), time_to_idle.as_secs()), (5_000, 3_600, 120));
        let config = MokaCacheConfig {
            max_capacity: 10_u64,
            time_to_live: Duration::from_secs(60),
            time_to_idle: Duration::from_secs(30),
        };
        let moka: CacheResult<MokaCache> = MokaCache::new(config);
        let l1: L1Cache = moka.unwrap();
        assert_eq!(l1.name(), "Moka");
    }
}

#[tokio::test]
async fn the_methods_of_backends_come_from_their_traits() -> anyhow::Result<()> {
    async fn uses(backend: Arc<dyn L2CacheBackend>, name: &str) -> anyhow::Result<()> {
        assert_eq!(backend.name(), name);
        assert!(backend.health_check().await);
        backend.set("a", Bytes::from("1")).await?;
        backend.set_with_ttl("b", Bytes::from("2"), Duration::from_secs(60)).await?;
        let value: Option<Bytes> = backend.get("a").await;
        assert_eq!(value.as_deref(), Some(&b"1"[..]));
        let (_, remaining): (Bytes, Option<Duration>) = backend.get_with_ttl("b").await.unwrap();
        assert!(remaining.unwrap() <= Duration::from_secs(60));
        backend.remove("a").await?;
        backend.remove_pattern("b*").await?;
        assert!(backend.get("a").await.is_none() && backend.get("b").await.is_none());
        let upcast: Arc<dyn CacheBackend> = backend;
        assert_eq!(upcast.name(), name);
        Ok(())
    }
    uses(Arc::new(QuickCacheBackend::new(10)?), "QuickCache").await?;
    uses(Arc::new(DashMapCache::new()), "DashMap").await?;
    #[cfg(feature = "moka")]
    uses(Arc::new(multi_tier_cache::MokaCache::new(multi_tier_cache::MokaCacheConfig::default())?), "Moka").await?;
    #[cfg(feature = "redis")]
    {
        let server = test_servers::RedisServer::start()?;
        uses(Arc::new(multi_tier_cache::RedisCache::with_url(&server.url()).await?), "Redis").await?;
    }
    Ok(())
}

#[cfg(feature = "redis")]
mod with_redis {
    use multi_tier_cache::{
        Arc, Bytes, CacheBackend, CacheManager, CacheStrategy, CacheSystem, L2Cache, RedisCache, RedisStreams,
        StreamingBackend,
    };
    use test_servers::RedisServer;

    #[tokio::test]
    async fn the_default_system_is_quick_cache_redis_and_its_streams() -> anyhow::Result<()> {
        let server = RedisServer::start()?;
        // The address of these comes from the environment: made, and not polled.
        drop(CacheSystem::new());
        drop(RedisCache::new());
        let system: CacheSystem = CacheSystem::with_redis_url(&server.url()).await?;
        let manager: Arc<CacheManager> = Arc::clone(system.cache_manager());
        manager.set_with_strategy("k", Bytes::from("v"), CacheStrategy::ShortTerm).await?;
        let l2: Arc<L2Cache> = system.l2_cache.clone().unwrap();
        let keys: Vec<String> = l2.scan_keys("k*").await?;
        assert_eq!(keys, ["k"]);
        assert_eq!(l2.get("k").await, Some(Bytes::from("v")), "the handle sees the manager's store");
        l2.set("theirs", Bytes::from("w")).await?;
        assert_eq!(manager.get("theirs").await?, Some(Bytes::from("w")), "and the manager the handle's");
        let removed: usize = l2.remove_bulk(&keys).await?;
        assert_eq!(removed, 1);
        #[cfg(feature = "moka")]
        assert!(system.l1_cache.is_none());
        let id = manager.publish_to_stream("s", vec![("f".to_string(), "v".to_string())], Some(100)).await?;
        let streams: RedisStreams = RedisStreams::new(&server.url()).await?;
        let clone = streams.clone();
        assert_eq!(clone.stream_read("s", "0", 10, None).await?[0].0, id);
        assert!(streams.stream_read("s", "$", 10, Some(10)).await?.is_empty(), "a wait that ends without an entry");
        Ok(())
    }

    #[cfg(feature = "moka")]
    #[tokio::test]
    async fn managers_of_the_default_pair() -> anyhow::Result<()> {
        use multi_tier_cache::{CacheSystemBuilder, InvalidationConfig, L1Cache, MokaCacheConfig};
        let server = RedisServer::start()?;
        let l1 = Arc::new(L1Cache::new(MokaCacheConfig::default())?);
        let l2 = Arc::new(L2Cache::with_url(&server.url()).await?);
        let manager = CacheManager::new(Arc::clone(&l1), Arc::clone(&l2)).await?;
        assert!(manager.invalidation_stats().is_none());
        manager.publish_to_stream("s", vec![("f".to_string(), "v".to_string())], None).await?;
        let config = InvalidationConfig { enable_audit_stream: true, ..Default::default() };
        let manager = CacheManager::new_with_invalidation(l1, l2, &server.url(), config).await?;
        manager.set_with_strategy("k", Bytes::from("v"), CacheStrategy::ShortTerm).await?;
        manager.invalidate("k").await?;
        assert_eq!(manager.get("k").await?, None);
        assert!(manager.invalidation_stats().is_some() && manager.get_invalidation_stats().is_some());

        let config = MokaCacheConfig { max_capacity: 10, ..Default::default() };
        let l2 = Arc::new(L2Cache::with_url(&server.url()).await?);
        let system = CacheSystemBuilder::new().with_moka_config(config).with_l2(l2).build().await?;
        let CacheSystem { cache_manager, l1_cache, l2_cache, .. } = system;
        assert!(l1_cache.is_some() && l2_cache.is_some());
        assert_eq!(cache_manager.get_tier_stats()[0].backend_name, "Moka");
        Ok(())
    }
}
