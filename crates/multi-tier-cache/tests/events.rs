//! Events: a listener hears of everything once, `tracing` at the level that is promised, and nobody is harmed by either.
#![cfg(all(feature = "test-util", feature = "redis"))]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::heard::Heard;
use common::run_all;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::telemetry::{Activity, CacheEvent, EventListener, names};
use multi_tier_cache::testing::{Fleet, Loads};
use multi_tier_cache::{
    Cache, CacheError, CacheManager, CacheResult, CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache,
    Freshness,
};
use parking_lot::Mutex;
use test_servers::RedisServer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Event, Level, Metadata, Subscriber};

const TTL: Duration = Duration::from_secs(60);
const VALUE: Bytes = Bytes::from_static(b"value");

/// One that wants to know of no hit.
struct WithoutHits(Heard);

impl EventListener for WithoutHits {
    fn on_event(&self, event: &CacheEvent<'_>) {
        self.0.on_event(event);
    }

    fn hears_hits(&self) -> bool {
        false
    }
}

/// Writes down what is told to `tracing` on this thread, up to a level.
#[derive(Clone)]
struct Log {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<AtomicU64>,
    passages: Arc<Passages>,
}

/// How often a span was entered, and left.
#[derive(Default)]
struct Passages {
    entered: AtomicU64,
    left: AtomicU64,
}

impl Passages {
    fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// How many spans surround what runs now.
    fn depth(&self) -> u64 {
        self.entered() - self.left.load(Ordering::Relaxed)
    }
}

impl Log {
    fn listen(level: Level) -> (Self, DefaultGuard) {
        let log = Self { level, lines: Arc::default(), spans: Arc::default(), passages: Arc::default() };
        let guard = set_default(log.clone());
        (log, guard)
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock())
    }

    /// The events since the last question, without the time that they took.
    fn events(&self) -> Vec<String> {
        let lines = self.take().into_iter().filter(|line| line.contains(names::EVENT));
        lines.map(|line| line.split(" cache.duration_ns").next().unwrap().to_owned()).collect()
    }
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= &self.level && metadata.target().starts_with("multi_tier_cache")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let metadata = span.metadata();
        self.lines.lock().push(format!("{} {} {}{}", metadata.level(), metadata.target(), metadata.name(), fields.0));
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        self.lines.lock().push(format!("{} {} {}{}", metadata.level(), metadata.target(), metadata.name(), fields.0));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {
        self.passages.entered.fetch_add(1, Ordering::Relaxed);
    }

    fn exit(&self, _: &Id) {
        self.passages.left.fetch_add(1, Ordering::Relaxed);
    }
}

async fn in_process(listener: impl EventListener + 'static) -> CacheSystem {
    let l1 = Arc::new(QuickCacheBackend::new(100).unwrap());
    let builder = CacheSystemBuilder::new().with_l1(l1).with_l2(Arc::new(DashMapCache::new()));
    builder.with_event_listener(listener).build().await.unwrap()
}

async fn compute(cache: &CacheManager, key: &str) -> CacheResult<Bytes> {
    cache.get_or_compute_with(key, CacheStrategy::Custom(TTL), || async { Ok(VALUE) }).await
}

#[tokio::test]
async fn a_listener_hears_of_everything_once() {
    let heard = Heard::default();
    for fleet in [None, Some(Fleet::new())] {
        let system = match &fleet {
            None => in_process(heard.clone()).await,
            Some(fleet) => fleet.join(fleet.builder().unwrap().with_event_listener(heard.clone())).await.unwrap(),
        };
        let cache = system.cache_manager();
        cache.get("k").await.unwrap();
        assert_eq!(heard.take(), ["bytes get miss"]);
        compute(cache, "k").await.unwrap();
        assert_eq!(heard.take(), ["bytes load ok", "bytes get miss"]);
        for _ in 0..2 {
            compute(cache, "k").await.unwrap();
            assert!(cache.get("k").await.unwrap().is_some());
        }
        assert_eq!(heard.take(), ["bytes get hit"; 4]);
        cache.update_cache("k", VALUE, None).await.unwrap();
        cache.remove_many(&["k", "l"]).await.unwrap();
        cache.remove_pattern("k*").await.unwrap();
        assert_eq!(heard.take(), ["bytes put inserted", "bytes remove invalidated x2", "bytes remove invalidated"]);

        let users: Cache<u64, String> = system.cache("users").unwrap();
        let load = || users.get_or_load(&7, || async { Ok("Ada".to_owned()) });
        load().await.unwrap();
        assert_eq!(heard.take(), ["users load ok", "users get miss"]);
        load().await.unwrap();
        assert!(users.get(&7).await.unwrap().is_some());
        assert!(users.get_or_load_scoped(&7, || async { Err(CacheError::NotFound) }).await.is_ok());
        users.get_many(&[7, 8]).await.unwrap();
        assert_eq!(
            heard.take(),
            ["users get hit", "users get hit", "users get hit", "users get hit", "users get miss"]
        );
        let failed: CacheResult<_> = users.get_or_load(&9, || async { Err(CacheError::NotFound) }).await;
        assert!(failed.is_err());
        assert_eq!(heard.take(), ["users load error", "users get error"]);
        users.remove(&7).await.unwrap();
        assert_eq!(heard.take(), ["users remove invalidated"]);
        let stats = cache.get_stats();
        assert_eq!((stats.l1_hits, users.stats().hits), (8, 4), "what is told is counted as ever");
    }
}

#[tokio::test]
async fn expired_entries_promotions_refreshes_and_fallbacks_are_heard_of() {
    let (fleet, heard) = (Fleet::new(), Heard::default());
    let builder = || fleet.builder().unwrap().without_invalidation();
    let other = fleet.join(builder()).await.unwrap();
    let system = fleet.join(builder().with_event_listener(heard.clone())).await.unwrap();
    let freshness = Freshness::new(TTL).with_stale_while_revalidate(TTL).with_stale_if_error(2 * TTL);
    let users = |system: &CacheSystem| -> Cache<u64, String> {
        system.cache_builder("users").freshness(freshness).build().unwrap()
    };
    users(&other).insert(&7, "Ada".to_owned()).await.unwrap();
    let users = users(&system);
    let failing = || users.get_or_load(&7, || async { Err(CacheError::NotFound) });
    users.get(&7).await.unwrap();
    assert_eq!(heard.take(), ["users get promotion", "users get hit"]);
    fleet.time().advance(TTL);
    failing().await.unwrap();
    run_all().await;
    assert_eq!(heard.take(), ["users get hit", "users load error", "users refresh refresh_miss"]);
    fleet.time().advance(Duration::from_secs(30));
    users.get_or_load(&7, || async { Ok("Grace".to_owned()) }).await.unwrap();
    run_all().await;
    assert_eq!(heard.take(), ["users get hit", "users load ok", "users refresh refresh_hit"]);
    fleet.time().advance(TTL * 5 / 2);
    failing().await.unwrap();
    assert_eq!(heard.take(), ["users load error", "users get fallback"]);
    fleet.time().advance(TTL);
    assert!(failing().await.is_err());
    assert_eq!(heard.take(), ["users get expired", "users load error", "users get error"]);
}

#[tokio::test]
async fn a_listener_that_panics_harms_nobody() {
    std::panic::set_hook(Box::new(|_| {}));
    let system = in_process(|_: &CacheEvent<'_>| panic!("a defect of the listener")).await;
    let cache = system.cache_manager();
    compute(cache, "k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(VALUE));
    let loads = Loads::new();
    let users: Cache<u64, String> = system.cache("users").unwrap();
    for _ in 0..2 {
        let loads = loads.clone();
        users.get_or_load(&7, move || loads.load(async { Ok("Ada".to_owned()) })).await.unwrap();
    }
    assert_eq!(loads.count(), 1);
    users.remove(&7).await.unwrap();
    common::assert_at_rest(cache);
    assert_eq!(cache.get_stats().total_hits, 2);
}

#[tokio::test]
async fn a_listener_may_leave_hits_out() {
    let heard = Heard::default();
    let system = in_process(WithoutHits(heard.clone())).await;
    let users: Cache<u64, String> = system.cache("users").unwrap();
    for _ in 0..3 {
        users.get_or_load(&7, || async { Ok("Ada".to_owned()) }).await.unwrap();
        compute(system.cache_manager(), "k").await.unwrap();
    }
    assert_eq!(heard.take(), ["users load ok", "users get miss", "bytes load ok", "bytes get miss"]);
    assert_eq!(system.cache_manager().get_stats().total_hits, 4);
}

#[tokio::test]
async fn what_takes_time_is_told_with_it() {
    let (fleet, loads) = (Fleet::new(), Loads::new());
    let took: Arc<Mutex<Vec<_>>> = Arc::default();
    let told = Arc::clone(&took);
    let listener = move |event: &CacheEvent<'_>| told.lock().push((event.activity, event.duration));
    let system = fleet.join(fleet.builder().unwrap().with_event_listener(listener)).await.unwrap();
    let users: Cache<u64, String> = system.cache("users").unwrap();
    let (held, counted) = (loads.hold(), loads.clone());
    let caller =
        common::start(async move { users.get_or_load(&7, move || counted.load(async { Ok("Ada".to_owned()) })).await });
    let caller = caller.await;
    loads.begun(1).await;
    fleet.time().advance(Duration::from_secs(3));
    held.release();
    common::ended(caller).await.unwrap();
    let three = Some(Duration::from_secs(3));
    assert_eq!(*took.lock(), [(Activity::Ok, three), (Activity::Miss, three)]);
}

#[tokio::test]
async fn tracing_has_the_levels_that_are_promised() {
    let (log, _guard) = Log::listen(Level::DEBUG);
    let fleet = Fleet::new();
    let system = fleet.instance().await.unwrap();
    let cache = system.cache_manager();
    log.take();
    compute(cache, "k").await.unwrap();
    cache.get("k").await.unwrap();
    cache.invalidate("k").await.unwrap();
    let failed = cache.get_or_compute_with("k", CacheStrategy::RealTime, || async { Err(CacheError::NotFound) });
    assert!(failed.await.is_err());
    let event = |level: &str, operation: &str, activity: &str| {
        format!(
            "{level} multi_tier_cache::event cache.event cache.name=\"bytes\" cache.operation=\"{operation}\" \
             cache.activity=\"{activity}\" cache.count=1"
        )
    };
    let expected = [
        event("DEBUG", "load", "ok"),
        event("DEBUG", "get", "miss"),
        event("DEBUG", "get", "hit"),
        event("INFO", "remove", "invalidated"),
        event("ERROR", "load", "error"),
        event("DEBUG", "get", "miss"),
    ];
    assert_eq!(log.events(), expected);
    cache.update_cache("k", VALUE, None).await.unwrap();
    let line = log.take().into_iter().find(|line| line.contains("inserted")).unwrap();
    assert!(line.starts_with("INFO ") && line.contains(" cache.duration_ns="), "{line}");
}

#[tokio::test]
async fn spans_surround_what_is_waited_for() {
    let (log, _guard) = Log::listen(Level::DEBUG);
    let system = Fleet::new().instance().await.unwrap();
    let users: Cache<u64, String> = system.cache("users").unwrap();
    log.take();
    users.get_or_load(&7, || async { Ok("Ada".to_owned()) }).await.unwrap();
    users.insert(&7, "Grace".to_owned()).await.unwrap();
    users.remove(&7).await.unwrap();
    let spans: Vec<_> = log.take().into_iter().filter(|line| line.contains("::span")).collect();
    let span = |name: &str| format!("DEBUG multi_tier_cache::span {name} cache.name=\"users\"");
    let expected = [names::SPAN_READ, names::SPAN_LOAD, names::SPAN_PUT, names::SPAN_INVALIDATE].map(span);
    assert_eq!(spans, expected);
}

#[tokio::test]
async fn one_span_surrounds_all_that_a_batch_waits_for() {
    let (log, _guard) = Log::listen(Level::DEBUG);
    let system = Fleet::new().instance().await.unwrap();
    let users: Cache<u64, String> = system.cache("users").unwrap();
    let spans = || -> Vec<_> {
        let told = log.take().into_iter().filter(|line| line.contains("::span"));
        told.map(|line| line.strip_prefix("DEBUG multi_tier_cache::span ").unwrap().to_owned()).collect()
    };
    let span = |name: &str| format!("{name} cache.name=\"users\"");
    spans();
    users.get_many(&[7, 8, 9]).await.unwrap();
    assert_eq!(spans(), [span(names::SPAN_READ)]);
    assert!(log.passages.entered() > 0, "what is read is read within it");
    let (around, inside) = (Arc::clone(&log.passages), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&inside);
    let loaded = move |keys: Vec<u64>| {
        seen.store(around.depth(), Ordering::Relaxed);
        async move { Ok::<_, CacheError>(keys.into_iter().map(|key| (key, String::new()))) }
    };
    users.get_or_load_many(&[7, 8], loaded.clone()).await.unwrap();
    let read = spans();
    assert_eq!((&read[0], read.len()), (&span(names::SPAN_READ), 3));
    assert!(read[1..].iter().all(|told| *told == span(names::SPAN_LOAD)), "{read:?}");
    assert_eq!(inside.load(Ordering::Relaxed), 2, "the loader runs within the load, and that within the read");
    let before = log.passages.entered();
    users.get_many(&[7, 8]).await.unwrap();
    users.get_or_load_many(&[7, 8], loaded).await.unwrap();
    assert_eq!((spans(), log.passages.entered()), (vec![], before), "hits in process wait for nothing");
    assert_eq!(log.passages.depth(), 0);
}

#[tokio::test]
async fn hits_are_told_only_to_those_who_listened_when_the_cache_was_built() {
    let system = in_process(WithoutHits(Heard::default())).await;
    let cache = system.cache_manager();
    compute(cache, "k").await.unwrap();
    let (log, guard) = Log::listen(Level::DEBUG);
    compute(cache, "k").await.unwrap();
    assert_eq!(log.take(), [""; 0]);
    drop(guard);
    let (log, _guard) = Log::listen(Level::INFO);
    let system = Fleet::new().instance().await.unwrap();
    compute(system.cache_manager(), "k").await.unwrap();
    compute(system.cache_manager(), "k").await.unwrap();
    assert_eq!(log.events(), [""; 0], "hits, misses and loads are no news at INFO");
}

#[tokio::test]
async fn no_key_value_or_password_is_in_an_event() {
    let (log, _guard) = Log::listen(Level::TRACE);
    let mut server = RedisServer::builder().password("hunter2-secret").start().unwrap();
    let told: Arc<Mutex<String>> = Arc::default();
    let listening = Arc::clone(&told);
    let listener = move |event: &CacheEvent<'_>| writeln!(listening.lock(), "{event:?}").unwrap();
    let builder = CacheSystemBuilder::new().with_redis_url(&server.url()).with_event_listener(listener);
    let system = builder.build().await.unwrap();
    let users: Cache<String, String> = system.cache("users").unwrap();
    users.get_or_load("secret-key-123", || async { Ok("secret-value-456".to_owned()) }).await.unwrap();
    users.remove("secret-key-123").await.unwrap();
    server.kill().unwrap();
    assert!(users.remove("secret-key-123").await.is_err());
    assert!(system.cache_manager().get("secret-key-123").await.is_err());
    let text = log.take().join("\n") + &told.lock();
    assert!(text.contains("invalidated") && text.contains("Error"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
