//! OpenTelemetry: what an exporter gets is what the snapshot says, by the conventional names.
#![cfg(all(feature = "opentelemetry", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use multi_tier_cache::entry::Entry;
use multi_tier_cache::telemetry::{MetricKind, Value, names};
use multi_tier_cache::testing::Fleet;
use multi_tier_cache::traits::Usage;
use multi_tier_cache::{
    Cache, CacheBackend, CacheError, CacheResult, CacheSystem, CacheSystemBuilder, DashMapCache, Freshness, InProcess,
};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics, ScopeMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

const TTL: Duration = Duration::from_secs(60);

/// A program's exporter that keeps what it is given.
struct Exporter {
    provider: SdkMeterProvider,
    exported: InMemoryMetricExporter,
}

/// The numbers of one collection, by instrument and attributes; of histograms how many, and their sum.
type Numbers = BTreeMap<(String, String), (f64, f64)>;

impl Exporter {
    fn new() -> Self {
        let exported = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exported.clone()).with_interval(Duration::from_secs(3_600)).build();
        Self { provider: SdkMeterProvider::builder().with_reader(reader).build(), exported }
    }

    fn attach(&self, system: &CacheSystem) {
        self.attach_as(system, &[]);
    }

    fn attach_as(&self, system: &CacheSystem, attributes: &[KeyValue]) {
        system.report_to(&self.provider.meter("cache"), attributes).unwrap();
    }

    fn collect(&self) -> Numbers {
        self.exported.reset();
        self.provider.force_flush().unwrap();
        let exported = self.exported.get_finished_metrics().unwrap();
        let metrics = exported.iter().flat_map(ResourceMetrics::scope_metrics).flat_map(ScopeMetrics::metrics);
        metrics.flat_map(numbers).collect()
    }
}

fn numbers(metric: &Metric) -> Vec<((String, String), (f64, f64))> {
    let named = |attributes: Vec<&KeyValue>| {
        let mut attributes: Vec<_> = attributes.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
        attributes.sort();
        (metric.name().to_owned(), attributes.join(" "))
    };
    match metric.data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            assert!(sum.is_monotonic(), "{}", metric.name());
            #[expect(clippy::cast_precision_loss, reason = "a count of a test is small")]
            let point = |value: u64| (value as f64, 0.0);
            sum.data_points().map(|data| (named(data.attributes().collect()), point(data.value()))).collect()
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            gauge.data_points().map(|data| (named(data.attributes().collect()), (data.value(), 0.0))).collect()
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            #[expect(clippy::cast_precision_loss, reason = "a count of a test is small")]
            let points = histogram
                .data_points()
                .map(|data| (named(data.attributes().collect()), (data.count() as f64, data.sum())));
            points.collect()
        }
        other => panic!("{}: {other:?}", metric.name()),
    }
}

fn number(numbers: &Numbers, instrument: &str, attributes: &str) -> Option<(f64, f64)> {
    numbers.get(&(instrument.to_owned(), attributes.to_owned())).copied()
}

#[tokio::test]
async fn events_times_and_sizes_have_their_conventional_names() {
    let (fleet, exporter) = (Fleet::new(), Exporter::new());
    let system = fleet.instance().await.unwrap();
    exporter.attach(&system);
    let users: Cache<u64, String> = system.cache("users").unwrap();
    let slow = fleet.time().clone();
    let load = move || async move {
        slow.advance(Duration::from_secs(2));
        Ok("Ada".to_owned())
    };
    users.get_or_load(&7, load).await.unwrap();
    users.get(&7).await.unwrap();
    assert!(users.get_or_load(&8, || async { Err(CacheError::NotFound) }).await.is_err());
    users.remove(&7).await.unwrap();
    let seen = exporter.collect();
    let events = |operation: &str, activity: &str| {
        let attributes = format!("cache.activity={activity} cache.name=users cache.operation={operation}");
        number(&seen, "cache.event.count", &attributes).map(|(count, _)| count)
    };
    assert_eq!(
        (events("get", "hit"), events("get", "miss"), events("get", "error")),
        (Some(1.0), Some(1.0), Some(1.0))
    );
    assert_eq!((events("load", "ok"), events("load", "error")), (Some(1.0), Some(1.0)));
    assert_eq!(events("remove", "invalidated"), Some(1.0));
    let took = |operation: &str, activity: &str| {
        let attributes = format!("cache.activity={activity} cache.name=users cache.operation={operation}");
        number(&seen, "cache.operation.duration", &attributes)
    };
    assert_eq!((took("load", "ok"), took("get", "miss")), (Some((1.0, 2.0)), Some((1.0, 2.0))));
    assert_eq!((took("load", "error"), took("get", "error")), (Some((1.0, 0.0)), Some((1.0, 0.0))));
    assert_eq!(took("remove", "invalidated"), Some((1.0, 0.0)));
    assert_eq!(number(&seen, "cache.size", "cache.backend=QuickCache cache.tier=L1").map(|(size, _)| size), Some(0.0));
}

#[tokio::test]
async fn a_duration_has_the_activity_of_its_event() {
    let (fleet, exporter) = (Fleet::new(), Exporter::new());
    let system = fleet.join(fleet.builder().unwrap().without_invalidation()).await.unwrap();
    exporter.attach(&system);
    let freshness = Freshness::new(TTL).with_stale_if_error(TTL);
    let users: Cache<u64, String> = system.cache_builder("users").freshness(freshness).build().unwrap();
    let away = || async { Err(CacheError::NotFound) };
    users.get_or_load(&7, || async { Ok("Ada".to_owned()) }).await.unwrap();
    assert!(users.get_or_load(&8, away).await.is_err());
    fleet.time().advance(TTL);
    assert_eq!(*users.get_or_load(&7, away).await.unwrap(), "Ada");
    users.insert(&7, "Grace".to_owned()).await.unwrap();
    users.remove_many(&[7, 8]).await.unwrap();
    let seen = exporter.collect();
    let took: Vec<_> = seen.iter().filter(|((instrument, _), _)| instrument == "cache.operation.duration").collect();
    for ((_, attributes), (count, _)) in &took {
        let events = number(&seen, "cache.event.count", attributes).map(|(count, _)| count);
        // Both keys of a removal are told, and were removed in one go.
        let expected = if attributes.contains("=remove") { 2.0 } else { *count };
        assert_eq!(events, Some(expected), "{attributes}");
    }
    let told: Vec<_> = took.iter().map(|((_, attributes), (count, _))| (&**attributes, *count)).collect();
    let expected = [
        ("cache.activity=error cache.name=users cache.operation=get", 1.0),
        ("cache.activity=error cache.name=users cache.operation=load", 2.0),
        ("cache.activity=fallback cache.name=users cache.operation=get", 1.0),
        ("cache.activity=inserted cache.name=users cache.operation=put", 1.0),
        ("cache.activity=invalidated cache.name=users cache.operation=remove", 1.0),
        ("cache.activity=miss cache.name=users cache.operation=get", 1.0),
        ("cache.activity=ok cache.name=users cache.operation=load", 1.0),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn two_caches_of_a_program_keep_their_own_numbers() {
    let (fleet, exporter) = (Fleet::new(), Exporter::new());
    let systems = [("one", fleet.instance().await.unwrap()), ("two", fleet.instance().await.unwrap())];
    for (loads, (name, system)) in (1..).zip(&systems) {
        exporter.attach_as(system, &[KeyValue::new("system", *name)]);
        let users: Cache<u64, String> = system.cache(name).unwrap();
        let same: Cache<u64, String> = system.cache("users").unwrap();
        for key in 0..loads {
            users.get_or_load(&key, || async { Ok("Ada".to_owned()) }).await.unwrap();
            same.get(&(100 + key)).await.unwrap();
        }
    }
    let seen = exporter.collect();
    for (name, loads) in [("one", 1.0), ("two", 2.0)] {
        let of = |instrument: &str, attributes: &str| {
            number(&seen, instrument, &format!("{attributes} system={name}").replace("  ", " ")).map(|(count, _)| count)
        };
        let missed = "cache.activity=miss cache.name=users cache.operation=get";
        assert_eq!(
            (of("cache.event.count", missed), of("cache.operation.duration", missed)),
            (Some(loads), Some(loads))
        );
        assert_eq!(of("cache.size", "cache.backend=QuickCache cache.tier=L1"), Some(loads));
        assert_eq!(number(&seen, "cache.misses", &format!("system={name}")).map(|(count, _)| count), Some(2.0 * loads));
    }
    let alike = seen.keys().filter(|(_, attributes)| !attributes.contains("system="));
    assert_eq!(alike.count(), 0, "every instrument has the attributes");
}

/// A store that is asked how full it is counts the question.
#[derive(Default)]
struct Asked {
    store: DashMapCache,
    questions: AtomicU64,
}

impl InProcess for Asked {
    fn lookup(&self, key: &str) -> Option<Entry> {
        self.store.lookup(key)
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        InProcess::store(&self.store, key, entry);
    }

    fn evict(&self, key: &str) {
        self.store.evict(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        self.store.evict_where(matches);
    }

    fn usage(&self) -> Usage {
        let number = self.questions.fetch_add(1, Ordering::Relaxed) + 1;
        Usage::of_entries(number).with_bytes(number).with_evictions(number)
    }
}

impl CacheBackend for Asked {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        self.store.get(key)
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.store.set_with_ttl(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.store.remove(key)
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        self.store.health_check()
    }

    fn name(&self) -> &'static str {
        "Asked"
    }

    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        Some(self)
    }
}

#[tokio::test]
async fn all_that_is_collected_at_once_is_of_one_moment() {
    let (exporter, l1) = (Exporter::new(), Arc::new(Asked::default()));
    let builder = CacheSystemBuilder::new().with_l1(l1.clone()).with_l2(Arc::new(DashMapCache::new()));
    let system = builder.build().await.unwrap();
    exporter.attach(&system);
    let mut before = 0.0;
    for round in 1..=3 {
        system.cache_manager().get("k").await.unwrap();
        let seen = exporter.collect();
        let told = ["cache.size", "cache.tier.bytes", "cache.tier.evictions"].map(|instrument| {
            number(&seen, instrument, "cache.backend=Asked cache.tier=L1").map(|(number, _)| number).unwrap()
        });
        assert_eq!((told[1], told[2]), (told[0], told[0]));
        assert!(told[0] > before, "the next collection sees another moment");
        before = told[0];
        assert_eq!(number(&seen, "cache.misses", ""), Some((f64::from(round), 0.0)));
    }
    assert_eq!(l1.questions.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_exporter_gets_every_counter_and_gauge_of_the_snapshot() {
    let (fleet, exporter) = (Fleet::new(), Exporter::new());
    let system = fleet.instance().await.unwrap();
    exporter.attach(&system);
    let users: Cache<u64, String> = system.cache("users").unwrap();
    users.get_or_load(&7, || async { Ok("Ada".to_owned()) }).await.unwrap();
    system.cache_manager().invalidate("k").await.unwrap();
    let (seen, metrics) = (exporter.collect(), system.metrics());
    for family in metrics.families().iter().filter(|family| family.metric.kind != MetricKind::Histogram) {
        let series = seen.keys().filter(|(instrument, _)| *instrument == family.metric.instrument);
        assert_eq!(series.count(), family.samples.len(), "{}", family.metric.name);
        for sample in &family.samples {
            let mut attributes: Vec<_> = sample
                .labels
                .iter()
                .map(|(label, value)| format!("cache.{}={value}", if label == names::CACHE { "name" } else { label }))
                .collect();
            attributes.sort();
            #[expect(clippy::cast_precision_loss, reason = "a count of a test is small")]
            let expected = match &sample.value {
                Value::Count(count) => *count as f64,
                Value::Level(level) => *level,
                Value::Histogram(histogram) => panic!("{histogram:?}"),
            };
            let told = number(&seen, family.metric.instrument, &attributes.join(" "));
            assert_eq!(told.map(|(value, _)| value), Some(expected), "{} {attributes:?}", family.metric.name);
        }
    }
}

#[tokio::test]
async fn a_cache_reports_to_one_meter_and_does_not_live_on_for_it() {
    let exporter = Exporter::new();
    let system = Fleet::new().instance().await.unwrap();
    exporter.attach(&system);
    let again = system.report_to(&exporter.provider.meter("again"), &[]);
    assert!(matches!(again, Err(CacheError::ConfigError(_))), "{again:?}");
    assert!(!exporter.collect().is_empty());
    system.shutdown().await;
    drop(system);
    // What a task of the cache still holds ends with the task.
    tokio::task::yield_now().await;
    let left = exporter.collect();
    assert!(!left.keys().any(|(instrument, _)| instrument == "cache.size"), "{left:?}");
}

#[tokio::test]
async fn no_key_is_an_attribute() {
    let exporter = Exporter::new();
    let system = Fleet::new().instance().await.unwrap();
    exporter.attach(&system);
    system.cache_manager().get("secret-key-123").await.unwrap();
    system.cache_manager().invalidate("secret-key-123").await.unwrap();
    let seen = exporter.collect();
    assert!(!format!("{seen:?}").contains("secret"), "{seen:?}");
}
