//! OpenTelemetry: what an exporter gets is what the snapshot says, by the conventional names.
#![cfg(all(feature = "opentelemetry", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use multi_tier_cache::telemetry::{MetricKind, Value, names};
use multi_tier_cache::testing::Fleet;
use multi_tier_cache::{Cache, CacheError, CacheSystem};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics, ScopeMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

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
        system.report_to(&self.provider.meter("cache"), &[]).unwrap();
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
