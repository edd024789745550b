//! The verbs on bytes over entries of typed caches: they see the value's bytes where they ask for them, and nowhere
//! else are there any; neither absence nor what is stale is a value to them.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::testing::Fleet;
use multi_tier_cache::{
    Bytes, Cache, CacheError, CacheKey as _, CacheResult, CacheStrategy, CacheSystem, CacheSystemBuilder, CallOptions,
    Codec, DashMapCache, Freshness, InProcess,
};

const TTL: Duration = Duration::from_secs(10);
const JUST_BEFORE: Duration = Duration::from_millis(9_999);
const WINDOW: Duration = Duration::from_secs(60);
const KEY: &str = "numbers:7";

/// Numbers as decimal text. Counts what it encodes.
#[derive(Clone, Default)]
struct Decimal(Arc<AtomicUsize>);

impl Decimal {
    fn encoded(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Codec<u64> for Decimal {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &u64) -> CacheResult<Bytes> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(format!("number {value}").into())
    }

    fn decode(&self, bytes: &[u8]) -> CacheResult<u64> {
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_prefix("number ")?.parse().ok());
        text.ok_or_else(|| CacheError::SerializationError("not a number".into()))
    }
}

type Numbers = Cache<u64, u64>;

fn rules() -> Freshness {
    Freshness::new(TTL).with_stale_while_revalidate(WINDOW).with_negative_ttl(TTL)
}

async fn in_process() -> CacheSystem {
    CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await.unwrap()
}

fn numbers(system: &CacheSystem, codec: &Decimal) -> Numbers {
    system.cache_builder("numbers").freshness(rules()).build_with_codec(codec.clone()).unwrap()
}

async fn computed(system: &CacheSystem) -> (Bytes, bool) {
    let ran = Arc::new(AtomicUsize::new(0));
    let compute = || async {
        ran.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from("computed"))
    };
    let bytes = system.cache_manager().get_or_compute_with(KEY, CacheStrategy::ShortTerm, compute).await.unwrap();
    (bytes, ran.load(Ordering::SeqCst) > 0)
}

/// Evicts another key from the store that its values are kept in, whatever it encodes.
struct Meddling(Arc<QuickCacheBackend>);

impl Codec<u64> for Meddling {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &u64) -> CacheResult<Bytes> {
        self.0.evict("another key");
        Ok(format!("number {value}").into())
    }

    fn decode(&self, bytes: &[u8]) -> CacheResult<u64> {
        Decimal::default().decode(bytes)
    }
}

// A hit is looked at under a lock of the store, which has one shard here: an encoder that ran there would wait for itself.
#[tokio::test]
async fn bytes_are_made_where_the_store_is_not_locked() {
    let store = Arc::new(QuickCacheBackend::new(10).unwrap());
    let second = Arc::new(DashMapCache::new());
    let system = CacheSystemBuilder::new().with_l1(Arc::clone(&store) as _).with_l2(second).build().await.unwrap();
    let typed: Numbers = system.cache_builder("numbers").build_with_codec(Meddling(store)).unwrap();
    typed.insert(&7, 7).await.unwrap();
    assert_eq!(system.cache_manager().get(KEY).await.unwrap().unwrap(), "number 7");
    assert_eq!(computed(&system).await, (Bytes::from("number 7"), false));
}

#[tokio::test]
async fn bytes_in_process_are_made_when_they_are_asked_for_and_once() {
    let codec = Decimal::default();
    let system = in_process().await;
    let typed = numbers(&system, &codec);
    typed.insert(&7, 7).await.unwrap();
    assert_eq!(*typed.get_or_load(&8, || async { Ok(8) }).await.unwrap(), 8);
    for id in [7, 8] {
        assert_eq!(*typed.get(&id).await.unwrap().unwrap(), id);
    }
    assert_eq!(codec.encoded(), 0, "nobody asked");
    assert_eq!(KEY, format!("{}:{}", typed.name(), 7.key_text()));
    for _ in 0..3 {
        assert_eq!(system.cache_manager().get(KEY).await.unwrap(), Some("number 7".into()));
    }
    assert_eq!(computed(&system).await, ("number 7".into(), false));
    assert_eq!(codec.encoded(), 1);
    assert_eq!((*typed.get(&7).await.unwrap().unwrap(), typed.stats().rejected), (7, 0));
}

#[tokio::test]
async fn an_object_of_the_same_type_is_shared_without_bytes() {
    let codec = Decimal::default();
    let system = in_process().await;
    let typed = numbers(&system, &codec);
    let own = typed.get_or_load(&7, || async { Ok(7) }).await.unwrap();
    let load = || async { panic!("it is there") };
    let manager = system.cache_manager();
    let shared = manager.get_or_compute_shared::<u64, _, _>(KEY, CacheStrategy::ShortTerm, load).await.unwrap();
    assert!(Arc::ptr_eq(&own, &shared));
    assert_eq!(codec.encoded(), 0);
}

#[tokio::test]
async fn bytes_from_a_tier_below_are_the_values_without_its_head() {
    let (fleet, codec) = (Fleet::new(), Decimal::default());
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    numbers(&one, &codec).insert(&7, 7).await.unwrap();
    assert!(fleet.hub().peek(KEY).unwrap().len() > "number 7".len(), "there is a head");
    assert_eq!(other.cache_manager().get(KEY).await.unwrap(), Some("number 7".into()));
    assert_eq!(computed(&other).await, ("number 7".into(), false));
    let options = CallOptions::default();
    assert_eq!(other.cache_manager().get_with_options(KEY, &options).await.unwrap(), Some("number 7".into()));
    other.cache_manager().invalidate(KEY).await.unwrap();
    assert_eq!(numbers(&other, &codec).get(&7).await.unwrap(), None);
}

#[tokio::test]
async fn a_remembered_absence_is_no_value() {
    let (fleet, codec) = (Fleet::new(), Decimal::default());
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    let typed = numbers(&one, &codec);
    assert_eq!(typed.get_or_load_optional(&7, || async { Ok::<_, CacheError>(None) }).await.unwrap(), None);
    assert!(fleet.hub().peek(KEY).is_some(), "it is remembered");
    for system in [&one, &other] {
        assert_eq!(system.cache_manager().get(KEY).await.unwrap(), None);
        assert_eq!(system.cache_manager().get_typed::<u64>(KEY).await.unwrap(), None);
    }
    assert_eq!(computed(&one).await, ("computed".into(), true));
}

#[tokio::test]
async fn what_is_stale_is_answered_by_its_own_cache_only() {
    let (fleet, codec) = (Fleet::new(), Decimal::default());
    let (one, other) = (fleet.instance().await.unwrap(), fleet.instance().await.unwrap());
    let (typed, there) = (numbers(&one, &codec), numbers(&other, &codec));
    typed.insert(&7, 7).await.unwrap();
    fleet.time().advance(JUST_BEFORE);
    assert_eq!(one.cache_manager().get(KEY).await.unwrap(), Some("number 7".into()));
    assert_eq!(other.cache_manager().get(KEY).await.unwrap(), Some("number 7".into()));
    fleet.time().advance(TTL.saturating_sub(JUST_BEFORE));
    for (cache, system) in [(&typed, &one), (&there, &other)] {
        assert_eq!(system.cache_manager().get(KEY).await.unwrap(), None);
        assert_eq!(*cache.get(&7).await.unwrap().unwrap(), 7, "within the window of its own rules");
    }
    assert_eq!(computed(&other).await, ("computed".into(), true));
}

#[tokio::test]
async fn what_the_verbs_on_bytes_store_is_foreign_to_a_typed_cache() {
    let codec = Decimal::default();
    let system = Fleet::new().instance().await.unwrap();
    let typed = numbers(&system, &codec);
    system.cache_manager().set_with_strategy(KEY, "number 7".into(), CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(typed.get(&7).await.unwrap(), None);
    assert_eq!(*typed.get_or_load(&7, || async { Ok(8) }).await.unwrap(), 8);
    assert!(typed.stats().rejected > 0);
    assert_eq!(system.cache_manager().get(KEY).await.unwrap(), Some("number 8".into()));
}
