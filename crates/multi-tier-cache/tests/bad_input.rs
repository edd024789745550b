//! Input that nobody should send, and everybody does: keys, values, times, configurations.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Count, NEW, OLD, Op, Scripted, TTL, assert_at_rest, manager};
use multi_tier_cache::backends::glob::Glob;
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{CacheBackend, CacheError, CacheManager, CacheStrategy, CacheSystemBuilder, CacheTier};
use multi_tier_cache::{L2CacheBackend, TierConfig, defaults};

type Tier = Arc<dyn L2CacheBackend>;

const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

fn quick() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(1_000).unwrap())
}

fn pair() -> (Arc<QuickCacheBackend>, Arc<Scripted>, Arc<CacheManager>) {
    let (l1, l2) = (quick(), Scripted::new("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    (l1, l2, cache)
}

/// Keys that break careless protocols and patterns, each another.
fn keys() -> Vec<String> {
    let plain = [
        "",
        " ",
        "  ",
        "a b",
        "a\r\nb",
        "\r\n",
        "\r\nFLUSHALL\r\n",
        "\n",
        "a\nb",
        "\t",
        "\0",
        "a\0b",
        "\u{7f}",
        "\u{1b}[0m",
        "{",
        "}",
        "{}",
        "{tag}",
        "{tag}k",
        "k{tag}",
        "{a}{b}",
        "*",
        "?",
        "[",
        "]",
        "[ab]",
        "[^a]",
        "[a-z]",
        "\\",
        "\\*",
        "\"",
        "'",
        "$3",
        "é",
        "e\u{301}",
        "日本語",
        "\u{feff}k",
        "🦀",
        "get k",
        "k 0 0 3",
        "../../etc",
        "%s%n",
        "mtc",
        "-1",
    ];
    let mut keys: Vec<String> = plain.into_iter().map(str::to_owned).collect();
    keys.extend([249, 250, 251, 4_096, defaults::MAX_KEY_BYTES].map(|length| "x".repeat(length)));
    keys
}

#[tokio::test]
async fn any_key_is_kept_apart_from_every_other() {
    #[cfg(feature = "redis")]
    let server = test_servers::RedisServer::start().unwrap();
    #[cfg(feature = "memcached")]
    let memcached = test_servers::MemcachedServer::start().unwrap();
    let stacks: Vec<Vec<Tier>> = vec![
        vec![quick()],
        vec![quick(), Arc::new(DashMapCache::new())],
        vec![Scripted::new("L1"), Scripted::new("L2")],
        #[cfg(feature = "redis")]
        vec![quick(), Arc::new(multi_tier_cache::RedisCache::with_url(&server.url()).await.unwrap())],
        #[cfg(feature = "memcached")]
        vec![quick(), Arc::new(multi_tier_cache::MemcachedCache::with_url(&memcached.address()).unwrap())],
        #[cfg(feature = "moka")]
        vec![Arc::new(multi_tier_cache::MokaCache::new(multi_tier_cache::MokaCacheConfig::default()).unwrap())],
    ];
    for tiers in stacks {
        let cache = manager(tiers.clone());
        let value = |key: &str| Bytes::from(format!("of {key}"));
        for key in keys() {
            assert_eq!(cache.get(&key).await.unwrap(), None, "{key:?}");
            cache.set_with_strategy(&key, value(&key), CacheStrategy::ShortTerm).await.unwrap();
        }
        for key in keys() {
            assert_eq!(cache.get(&key).await.unwrap(), Some(value(&key)), "{key:?}");
            for tier in &tiers {
                assert_eq!(tier.get(&key).await, Some(value(&key)), "{key:?} in {}", tier.name());
            }
        }
        for (gone, key) in keys().iter().enumerate() {
            cache.invalidate(key).await.unwrap();
            assert_eq!(cache.get(key).await.unwrap(), None, "{key:?}");
            if let Some(next) = keys().get(gone + 1) {
                assert_eq!(cache.get(next).await.unwrap(), Some(value(next)), "{next:?} after {key:?} was removed");
            }
            let load = || async { Ok(NEW) };
            assert_eq!(cache.get_or_compute_with(key, CacheStrategy::RealTime, load).await.unwrap(), NEW, "{key:?}");
        }
        assert_at_rest(&cache);
    }
}

#[tokio::test]
async fn a_key_escaped_as_a_pattern_removes_that_key_only() {
    let cache = manager(vec![quick() as Tier, Arc::new(DashMapCache::new())]);
    for key in keys() {
        cache.set_with_strategy(&key, OLD, CacheStrategy::ShortTerm).await.unwrap();
    }
    for (gone, key) in keys().iter().enumerate() {
        cache.invalidate_pattern(&Glob::escape(key)).await.unwrap();
        for (other, name) in keys().iter().enumerate() {
            assert_eq!(cache.get(name).await.unwrap().is_some(), other > gone, "{name:?} after {key:?}");
        }
    }
}

// A pattern with many stars once took exponential time.
#[tokio::test]
async fn no_pattern_takes_for_ever_or_panics() {
    let cache = manager(vec![quick() as Tier, Arc::new(DashMapCache::new())]);
    let (long, stars) = ("a".repeat(5_000), "a*".repeat(200) + "b");
    cache.set_with_strategy(&long, OLD, CacheStrategy::ShortTerm).await.unwrap();
    let began = Instant::now();
    let odd = ["[", "[]", "[^", "[a-", "\\", "a\\", "[\\", "**********b", "[z-a]", "[^]]", "a[b"].map(str::to_owned);
    for pattern in odd.into_iter().chain([stars, "[".repeat(100_000), "?".repeat(100_000), "*".repeat(100_000) + "b"]) {
        cache.invalidate_pattern(&pattern).await.unwrap();
        assert_eq!(cache.get(&long).await.unwrap(), Some(OLD));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_key_over_the_limit_is_a_configuration_error_of_every_verb_that_would_store_or_ask() {
    let (l1, l2, cache) = pair();
    let key = "x".repeat(defaults::MAX_KEY_BYTES + 1);
    let (key, short) = (key.as_str(), CacheStrategy::ShortTerm);
    let load = || async { Ok(NEW) };
    let number = || async { Ok(1_u8) };
    let outcomes = [
        cache.get(key).await.map(drop),
        cache.get_typed::<u8>(key).await.map(drop),
        cache.set_with_strategy(key, NEW, short.clone()).await,
        cache.update_cache(key, NEW, None).await,
        cache.set_with_broadcast(key, NEW, short.clone()).await,
        cache.invalidate(key).await,
        cache.get_or_compute_with(key, short.clone(), load).await.map(drop),
        cache.get_or_compute_typed(key, short, number).await.map(drop),
    ];
    for outcome in outcomes {
        let text = outcome.as_ref().unwrap_err().to_string();
        assert!(matches!(outcome, Err(CacheError::ConfigError(_))), "{text}");
        assert!(text.contains("65537") && text.len() < 200, "it says how long, and not the key: {text}");
    }
    assert_eq!((l1.size(), l2.calls(Op::Get), l2.calls(Op::Set)), (0, 0, 0));
    assert_at_rest(&cache);
}

#[tokio::test]
async fn an_empty_value_is_a_value() {
    let (_, l2, cache) = pair();
    cache.set_with_strategy("put", Bytes::new(), CacheStrategy::ShortTerm).await.unwrap();
    l2.plant("below", Bytes::new());
    let (count, empty) = (Count::default(), Some(Bytes::new()));
    for key in ["put", "below", "computed"] {
        for _ in 0..2 {
            let load = || async {
                count.add();
                Ok(Bytes::new())
            };
            assert_eq!(cache.get_or_compute_with(key, CacheStrategy::RealTime, load).await.unwrap(), Bytes::new());
        }
        assert_eq!((cache.get(key).await.unwrap(), l2.peek(key)), (empty.clone(), empty.clone()), "{key}");
    }
    assert_eq!(count.get(), 1);
    let error = cache.get_typed::<u8>("put").await.unwrap_err();
    assert!(matches!(error, CacheError::SerializationError(_)), "{error:?}");
    let load = || async { Ok(5_u8) };
    assert_eq!(cache.get_or_compute_typed("put", CacheStrategy::RealTime, load).await.unwrap(), 5);
    assert_eq!(l2.peek("put").as_deref(), Some(&b"5"[..]));
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_by_puts_and_returned_uncached_by_computations() {
    let (l1, l2) = (quick(), Scripted::new("L2"));
    let configured = CacheSystemBuilder::new()
        .with_l1(Arc::clone(&l1) as Arc<dyn CacheBackend>)
        .with_l2(Arc::clone(&l2) as Tier)
        .with_max_value_bytes(10);
    let configured = configured.build().await.unwrap();
    let default = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    for (cache, limit) in [(configured.cache_manager(), 10), (&default, 8 * 1024 * 1024)] {
        let (fits, over) = (Bytes::from(vec![b'1'; limit]), Bytes::from(vec![b'1'; limit + 1]));
        let short = CacheStrategy::ShortTerm;
        for outcome in [
            cache.set_with_strategy("over", over.clone(), short.clone()).await,
            cache.update_cache("over", over.clone(), None).await,
            cache.set_with_broadcast("over", over.clone(), short.clone()).await,
        ] {
            let error = outcome.unwrap_err();
            assert!(matches!(&error, CacheError::ConfigError(text) if text.contains(&limit.to_string())), "{error:?}");
        }
        for round in 1..=2 {
            let load = || async { Ok(over.clone()) };
            assert_eq!(cache.get_or_compute_with("over", short.clone(), load).await.unwrap(), over);
            let text = || async { Ok("1".repeat(limit)) };
            let typed: String = cache.get_or_compute_typed("over", short.clone(), text).await.unwrap();
            assert_eq!((typed.len(), l1.get("over").await, l2.peek("over")), (limit, None, None), "round {round}");
        }
        cache.set_with_strategy("fits", fits.clone(), short.clone()).await.unwrap();
        assert_eq!((l1.get("fits").await, l2.peek("fits")), (Some(fits.clone()), Some(fits)));
        assert_at_rest(cache);
    }
}

// What another program wrote into a shared tier knows nothing of this cache's limit.
#[tokio::test]
async fn a_value_over_the_limit_in_a_lower_tier_is_served_and_not_copied() {
    let (l1, l2) = (quick(), Scripted::new("L2"));
    let tiers = [(Arc::clone(&l1) as Tier, TierConfig::as_l1()), (Arc::clone(&l2) as Tier, TierConfig::as_l2())];
    let mut builder = CacheSystemBuilder::new().with_max_value_bytes(2);
    for (tier, config) in tiers {
        builder = builder.with_tier(tier, config.with_promotion_frequency(1).with_promotion(true));
    }
    let system = builder.build().await.unwrap();
    l2.plant("k", OLD);
    assert_eq!(system.cache_manager().get("k").await.unwrap(), Some(OLD));
    assert_eq!((l1.get("k").await, system.cache_manager().get_stats().promotions), (None, 0));
}

#[tokio::test]
async fn a_zero_ttl_stores_nothing_and_removes_what_was_there() {
    let (l1, l2, cache) = pair();
    let nothing = || CacheStrategy::Custom(Duration::ZERO);
    let count = Count::default();
    for round in 1..=2 {
        cache.set_with_strategy("k", OLD, CacheStrategy::ShortTerm).await.unwrap();
        cache.set_with_strategy("k", NEW, nothing()).await.unwrap();
        assert_eq!((l1.get("k").await, l2.peek("k")), (None, None));
        let load = || async {
            count.add();
            Ok(NEW)
        };
        assert_eq!(cache.get_or_compute_with("k", nothing(), load).await.unwrap(), NEW);
        assert_eq!((l1.get("k").await, l2.peek("k"), count.get()), (None, None, round));
    }
    assert_at_rest(&cache);
}

#[tokio::test]
async fn a_ttl_below_a_millisecond_ends_and_a_century_does_not_overflow() {
    let time = ManualClock::new();
    let (l1, l2) = (
        Arc::new(QuickCacheBackend::new(100).unwrap().with_clock(time.clock())),
        Arc::new(DashMapCache::new().with_clock(time.clock())),
    );
    let l3 = Scripted::new("L3");
    let system = CacheSystemBuilder::new()
        .with_clock(time.clock())
        .with_tier(Arc::clone(&l1) as Tier, TierConfig::as_l1())
        .with_tier(Arc::clone(&l2) as Tier, TierConfig::as_l2())
        .with_tier(Arc::clone(&l3) as Tier, TierConfig::as_l4())
        .build()
        .await
        .unwrap();
    let cache = system.cache_manager();
    for short in [Duration::from_nanos(1), Duration::from_micros(500)] {
        cache.update_cache("k", NEW, Some(short)).await.unwrap();
        assert_eq!((l1.get("k").await, l2.get("k").await), (Some(NEW), Some(NEW)));
        assert_eq!(l3.ttl("k"), Some(short * 8));
        time.advance(short);
        assert_eq!((l1.get("k").await, l2.get("k").await), (None, None));
    }
    for long in [CENTURY, CENTURY * 1_000, Duration::MAX] {
        let load = || async { Ok(NEW) };
        cache.update_cache("k", OLD, Some(long)).await.unwrap();
        cache.get_or_compute_with("j", CacheStrategy::Custom(long), load).await.unwrap();
        time.advance(Duration::from_secs(365 * 24 * 60 * 60));
        for (key, value) in [("k", OLD), ("j", NEW)] {
            assert_eq!((l1.get(key).await, l2.get(key).await), (Some(value.clone()), Some(value)), "{long:?}");
            assert!(l3.ttl(key).unwrap() >= CENTURY);
        }
        cache.invalidate("j").await.unwrap();
    }
}

#[tokio::test]
async fn a_scale_that_is_not_finite_and_positive_or_a_frequency_of_zero_is_a_configuration_error() {
    let tier = || Scripted::new("tier") as Tier;
    for scale in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1.0, -f64::MIN_POSITIVE] {
        for level in [1, 4] {
            let bad = CacheManager::new_with_tiers(vec![CacheTier::new(tier(), level, true, 10, scale)], None);
            assert!(matches!(bad, Err(CacheError::ConfigError(_))), "{scale}");
            let bad = CacheSystemBuilder::new().with_tier(tier(), TierConfig::new(level).with_ttl_scale(scale));
            assert!(matches!(bad.build().await, Err(CacheError::ConfigError(_))), "{scale}");
        }
    }
    for promotes in [true, false] {
        let bad = CacheManager::new_with_tiers(vec![CacheTier::new(tier(), 2, promotes, 0, 1.0)], None);
        assert!(matches!(bad, Err(CacheError::ConfigError(_))));
    }
    // Extreme, but allowed.
    let (tiny, huge) = (Scripted::new("tiny"), Scripted::new("huge"));
    let tiers = vec![
        CacheTier::new(Arc::clone(&tiny) as Tier, 1, true, usize::MAX, f64::MIN_POSITIVE),
        CacheTier::new(Arc::clone(&huge) as Tier, usize::MAX, true, 1, f64::MAX),
    ];
    let cache = CacheManager::new_with_tiers(tiers, None).unwrap();
    tiny.plant("k", OLD);
    cache.set_with_strategy("k", NEW, CacheStrategy::LongTerm).await.unwrap();
    assert_eq!((tiny.peek("k"), huge.peek("k")), (None, Some(NEW)));
    assert_eq!(cache.get("k").await.unwrap(), Some(NEW));
    cache.set_with_strategy("k", NEW, CacheStrategy::Custom(CENTURY)).await.unwrap();
    assert_at_rest(&cache);
}

#[tokio::test]
async fn levels_that_repeat_or_descend_and_no_tier_at_all_are_configuration_errors() {
    let tiers = |levels: &[usize]| {
        let tier = |level: &usize| CacheTier::new(Scripted::new("tier"), *level, true, 10, 1.0);
        CacheManager::new_with_tiers(levels.iter().map(tier).collect(), None)
    };
    for levels in [&[][..], &[1, 1], &[2, 1], &[1, 2, 2], &[1, 3, 2], &[3, 2, 1]] {
        let error = tiers(levels).map(drop).unwrap_err();
        assert!(matches!(error, CacheError::ConfigError(_)), "{levels:?}: {error:?}");
    }
    for levels in [&[0][..], &[7], &[1, 2, 3], &[0, 5, usize::MAX]] {
        assert!(tiers(levels).is_ok(), "{levels:?}");
    }
    let given =
        || CacheSystemBuilder::new().with_l1(quick() as Arc<dyn CacheBackend>).with_l2(Scripted::new("L2") as Tier);
    let more = || Scripted::new("more") as Tier;
    for builder in [
        given().with_tier(more(), TierConfig::as_l1()),
        given().with_tier(more(), TierConfig::as_l2()),
        given().with_l3(more()).with_l3(more()),
        given().with_l4(more()).with_tier(more(), TierConfig::as_l3().with_level(4)),
    ] {
        let error = builder.build().await.unwrap_err();
        assert!(matches!(error, CacheError::ConfigError(_)), "{error:?}");
    }
    // Out of order is no mistake in a builder: it sorts.
    assert!(given().with_l4(more()).with_l3(more()).build().await.is_ok());
}

#[tokio::test]
async fn stores_without_room_or_time_are_configuration_errors() {
    assert!(matches!(QuickCacheBackend::new(0), Err(CacheError::ConfigError(_))));
    assert!(matches!(DashMapCache::with_capacity(0), Err(CacheError::ConfigError(_))));
    #[cfg(feature = "moka")]
    {
        use multi_tier_cache::MokaCacheConfig;
        let good = MokaCacheConfig::default();
        for config in [
            MokaCacheConfig { max_capacity: 0, ..good },
            MokaCacheConfig { time_to_live: Duration::ZERO, ..good },
            MokaCacheConfig { time_to_idle: Duration::ZERO, ..good },
        ] {
            let builder = CacheSystemBuilder::new().with_moka_config(config).with_l2(Scripted::new("L2") as Tier);
            assert!(matches!(builder.build().await, Err(CacheError::ConfigError(_))), "{config:?}");
        }
    }
}

#[tokio::test]
async fn streams_without_a_streaming_backend_are_a_configuration_error() {
    let (_, _, cache) = pair();
    let fields = || vec![("field".to_owned(), "value".to_owned())];
    for error in [
        cache.publish_to_stream("s", fields(), Some(10)).await.unwrap_err(),
        cache.read_stream_latest("s", 1).await.unwrap_err(),
        cache.read_stream("s", "0", 1, Some(10)).await.unwrap_err(),
    ] {
        assert!(matches!(error, CacheError::ConfigError(_)), "{error:?}");
    }
}

/// JSON has no keys of that kind.
type Odd = HashMap<(u8, u8), u8>;

async fn odd() -> multi_tier_cache::CacheResult<Odd> {
    Ok(Odd::from([((1, 2), 3)]))
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_is_an_error_of_its_caller_and_stored_nowhere() {
    let (l1, l2, cache) = pair();
    let error = cache.get_or_compute_typed("k", CacheStrategy::ShortTerm, odd).await.unwrap_err();
    assert!(matches!(error, CacheError::SerializationError(_)), "{error:?}");
    assert_eq!((l1.get("k").await, l2.peek("k")), (None, None));
    assert_at_rest(&cache);
}

// In-process tiers can keep it as it is; to those who compute bytes it is not there.
#[tokio::test]
async fn a_stored_value_without_bytes_is_a_miss_to_a_computation_of_bytes() {
    let cache = manager(vec![quick() as Tier]);
    let shared = cache.get_or_compute_shared("k", CacheStrategy::Custom(TTL), odd).await.unwrap();
    assert_eq!(shared.len(), 1);
    let load = || async { Ok(NEW) };
    assert_eq!(cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap(), NEW);
}
