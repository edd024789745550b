//! Where an entry may be when a rule meets it, and caches over that.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::backends::{QuickCacheBackend, RedisCache};
use multi_tier_cache::testing::{Hub, ManualClock};
use multi_tier_cache::{
    Cache, CacheManager, CacheSystem, CacheSystemBuilder, CallOptions, DashMapCache, Fetched, Freshness,
    L2CacheBackend, LoadError, TierConfig,
};
use test_servers::RedisServer;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};

use crate::source::{Answer, Down, Source};

pub(crate) type Texts = Cache<u32, String>;
pub(crate) type Fetch = Result<Fetched<String>, LoadError<Down>>;

/// Longer than anything here takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The key that most tests are about.
pub(crate) const KEY: u32 = 7;
/// A tag of every entry.
pub(crate) const TAG: &str = "all";

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Where the entry is that a rule is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the first tier of the reader.
    First,
    /// In a tier in memory that the reader shares with another instance, whose load it was.
    SharedMap,
    /// In a shared tier that is awaited and coordinates, likewise.
    Hub,
    /// In a real Redis, likewise. Time passes there by itself: what must be stale is stored with a TTL of zero.
    Redis,
}

pub(crate) const PLACES: [Place; 3] = [Place::First, Place::SharedMap, Place::Hub];

impl Place {
    /// The finest time that survives the way there.
    pub(crate) fn step(self) -> Duration {
        if self == Self::Hub { Duration::from_millis(1) } else { Duration::from_nanos(1) }
    }
}

/// A reader, and another instance where there is one.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) time: ManualClock,
    pub(crate) cache: Texts,
    pub(crate) manager: Arc<CacheManager>,
    /// Who loads what the reader finds: itself, or the other instance.
    pub(crate) writer: Texts,
    pub(crate) server: Option<RedisServer>,
    _systems: [CacheSystem; 2],
}

impl World {
    pub(crate) async fn new(place: Place, freshness: Freshness) -> Self {
        let time = ManualClock::new();
        if place == Place::Redis {
            let server = RedisServer::start().unwrap();
            let systems = [redis_instance(&server, &time).await, redis_instance(&server, &time).await];
            joined(&time).await;
            return Self::over(place, time, systems, freshness, Some(server));
        }
        let shared: Arc<dyn L2CacheBackend> = match place {
            Place::Hub => Arc::new(Hub::with_clock(time.clock())),
            _ => Arc::new(DashMapCache::new().with_clock(time.clock())),
        };
        let systems = [instance(&time, Arc::clone(&shared)).await, instance(&time, shared).await];
        joined(&time).await;
        Self::over(place, time, systems, freshness, None)
    }

    fn over(
        place: Place,
        time: ManualClock,
        systems: [CacheSystem; 2],
        freshness: Freshness,
        server: Option<RedisServer>,
    ) -> Self {
        let [system, other] = &systems;
        let cache = texts(system, freshness);
        let writer = if place == Place::First { cache.clone() } else { texts(other, freshness) };
        let manager = Arc::clone(system.cache_manager());
        Self { place, time, cache, manager, writer, server, _systems: systems }
    }

    /// Stores a value in its place, as a load by its writer.
    pub(crate) async fn store(&self, value: &'static str) {
        let source = Source::of(value);
        let fetched = fetch(&self.writer, &source, &CallOptions::default()).await.unwrap();
        assert_eq!((text(&fetched).as_deref(), source.calls()), (Some(value), 1), "{:?}", self.place);
    }

    /// Reads with a loader that asks `source`.
    pub(crate) async fn fetch(&self, source: &Source) -> Fetch {
        fetch(&self.cache, source, &CallOptions::default()).await
    }

    pub(crate) async fn fetch_with(&self, source: &Source, options: &CallOptions) -> Fetch {
        fetch(&self.cache, source, options).await
    }

    /// The same in a task of its own, which has begun to wait for its load.
    pub(crate) fn start(&self, source: &Source) -> JoinHandle<Fetch> {
        let (cache, source) = (self.cache.clone(), source.clone());
        tokio::spawn(async move { fetch(&cache, &source, &CallOptions::default()).await })
    }

    /// What is answered without a load; `None` if a load would be needed.
    pub(crate) async fn peek(&self) -> Option<String> {
        self.cache.get(&KEY).await.unwrap().map(|value| value.to_string())
    }

    /// Waits until nothing is under way.
    pub(crate) async fn rest(&self) {
        // Work that others have begun just now is not under way yet.
        for _ in 0..2 {
            quiet().await;
            until("nothing is under way", || self.manager.get_stats().in_flight_requests == 0).await;
        }
    }

    /// What is stored once everything is at rest, however stale.
    pub(crate) async fn stored(&self) -> Option<String> {
        self.rest().await;
        let anything = Freshness::new(seconds(3600)).with_stale_while_revalidate(seconds(3600));
        let source = Source::new(Answer::Fails);
        let read = self.fetch_with(&source, &CallOptions::default().with_freshness(anything)).await;
        self.rest().await;
        read.ok().and_then(|fetched| text(&fetched))
    }
}

pub(crate) async fn instance(time: &ManualClock, shared: Arc<dyn L2CacheBackend>) -> CacheSystem {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let builder = CacheSystemBuilder::new().with_clock(time.clock()).with_tier(l1, TierConfig::as_l1());
    // What is read from below stays there, unless a rule says otherwise.
    builder.with_tier(shared, TierConfig::as_l2().with_promotion(false)).build().await.unwrap()
}

/// Lets instances join their bus: what they had before that is forgotten, up to the present moment of the clock.
async fn joined(time: &ManualClock) {
    quiet().await;
    time.advance(Duration::from_millis(1));
}

/// An instance over a real Redis, which joins its bus. Only what is in process follows `time`.
pub(crate) async fn redis_instance(server: &RedisServer, time: &ManualClock) -> CacheSystem {
    instance(time, Arc::new(RedisCache::with_url(&server.url()).await.unwrap())).await
}

pub(crate) fn texts(system: &CacheSystem, freshness: Freshness) -> Texts {
    system.cache_builder("texts").freshness(freshness).tags([TAG]).build().unwrap()
}

pub(crate) async fn fetch(cache: &Texts, source: &Source, options: &CallOptions) -> Fetch {
    let source = source.clone();
    cache.fetch(&KEY, options, move |context| source.fetch(context)).await
}

pub(crate) fn text(fetched: &Fetched<String>) -> Option<String> {
    fetched.value().map(ToString::to_string)
}

/// The value of an answer and whether it is stale.
#[track_caller]
pub(crate) fn seen(answer: &Fetch) -> (&str, bool) {
    let fetched = answer.as_ref().unwrap();
    (fetched.value().unwrap(), fetched.is_stale())
}

/// Lets every other task run until it waits for a timer, a server or the test.
pub(crate) async fn quiet() {
    for _ in 0..200 {
        yield_now().await;
    }
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        yield_now().await;
    }
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}

/// The task's answer.
pub(crate) async fn ended<R>(task: JoinHandle<R>) -> R {
    ends(task).await.unwrap()
}

/// What `work` ends with; a test whose work does not end has failed.
pub(crate) async fn ends<R>(work: impl Future<Output = R>) -> R {
    timeout(PATIENCE * 100, work).await.unwrap()
}
