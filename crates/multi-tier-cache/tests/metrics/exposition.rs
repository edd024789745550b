//! Prometheus' text: valid by its own rules, bounded, and without secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use multi_tier_cache::telemetry::{Metrics, names};
use multi_tier_cache::{Cache, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache, defaults};
use test_servers::RedisServer;

use crate::common::Scripted;

type Labels = BTreeMap<String, String>;

/// A text taken apart: every series by the name of its line, and its labels.
struct Exposition {
    kinds: BTreeMap<String, String>,
    series: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    /// Fails the test where the text breaks a rule of the format.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let (mut kinds, mut series) = (BTreeMap::new(), BTreeMap::new());
        let (mut helped, mut family) = (BTreeSet::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(helped.insert(name.to_owned()), "{name} is helped twice");
                assert!(!help.is_empty() && !help.contains('\\'), "{help}");
                name.clone_into(&mut family);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family, "TYPE follows HELP");
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} has a type twice");
            } else {
                let (name, labels, value) = sample(line);
                let kind = &kinds[&family];
                let base = if kind == "histogram" { histogram_base(&name) } else { &name };
                assert_eq!(base, family, "a sample outside its family");
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
                assert!(series.insert((name, labels), value).is_none(), "twice: {line}");
            }
        }
        let parsed = Self { kinds, series };
        parsed.check_histograms();
        parsed
    }

    fn check_histograms(&self) {
        let names = self.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name);
        for name in names {
            let counts = self.series.iter().filter(|((line, _), _)| *line == format!("{name}_count"));
            for ((_, labels), count) in counts {
                assert!(self.series.contains_key(&(format!("{name}_sum"), labels.clone())), "{name} {labels:?}");
                let mut buckets: Vec<(f64, f64)> = self
                    .series
                    .iter()
                    .filter(|((line, of), _)| *line == format!("{name}_bucket") && without_bound(of) == *labels)
                    .map(|((_, of), value)| (of["le"].parse().unwrap_or(f64::INFINITY), *value))
                    .collect();
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{name} {labels:?}");
            }
        }
    }
}

fn without_bound(labels: &Labels) -> Labels {
    labels.iter().filter(|(name, _)| *name != "le").map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn histogram_base(line: &str) -> &str {
    let endings = ["_bucket", "_sum", "_count"];
    endings.iter().find_map(|ending| line.strip_suffix(ending)).unwrap_or_else(|| panic!("{line} is of no histogram"))
}

/// Fails for a name that no label may have, or that Prometheus keeps for itself.
fn check_label(label: &str) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && label.chars().all(allowed), "{label}");
    assert!(!label.starts_with("__"), "{label}");
}

/// Name, labels and value of a line.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
    let Some((name, rest)) = series.split_once('{') else { return (series.to_owned(), Labels::new(), value) };
    let (mut labels, mut rest) = (Labels::new(), rest.strip_suffix('}').unwrap());
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap();
        let (mut text, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in quoted.char_indices() {
            match (escaped, c) {
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (false, '\\') => escaped = true,
                (true, 'n') => (text, escaped) = (text + "\n", false),
                (true, '\\' | '"') | (false, _) => {
                    text.push(c);
                    escaped = false;
                }
                (true, other) => panic!("\\{other} in {line}"),
            }
        }
        check_label(label);
        assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
        rest = &quoted[end.unwrap() + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, value)
}

/// One of everything: a fleet with an outage behind it.
async fn lively(server: &RedisServer) -> CacheSystem {
    let builder = CacheSystemBuilder::new().with_redis_url(&server.url()).with_l3(Scripted::new("L3"));
    let system = builder.build().await.unwrap();
    let users: Cache<u64, String> = system.cache("users").unwrap();
    users.get_or_load(&7, || async { Ok("Ada".to_owned()) }).await.unwrap();
    system.cache_manager().invalidate("k").await.unwrap();
    system
}

#[tokio::test]
async fn the_text_is_valid_and_has_every_metric_of_the_catalogue() {
    let server = RedisServer::start().unwrap();
    let system = lively(&server).await;
    let exposition = Exposition::parse(&system.metrics().prometheus());
    for metric in names::CATALOGUE {
        // A store bounded by entries does not know its bytes.
        if metric.name != names::TIER_BYTES.name {
            let kind = exposition.kinds.get(metric.name).unwrap_or_else(|| panic!("{} is missing", metric.name));
            assert_eq!(kind, metric.kind.as_str());
        }
        for sample in system
            .metrics()
            .families()
            .iter()
            .filter(|family| family.metric == *metric)
            .flat_map(|family| &family.samples)
        {
            let labels: Vec<&str> = sample.labels.iter().map(|(name, _)| &**name).collect();
            assert_eq!(labels, metric.labels, "{}", metric.name);
        }
    }
}

async fn small(names: &[String]) -> (Arc<CacheManager>, Vec<Cache<String, String>>) {
    let system = CacheSystemBuilder::new().with_l2(Scripted::new("L2")).build().await.unwrap();
    let caches = names.iter().map(|name| system.cache(name).unwrap()).collect();
    (system.cache_manager, caches)
}

#[tokio::test]
async fn ten_thousand_keys_make_no_more_series_than_one() {
    let (manager, caches) = small(&["users".to_owned()]).await;
    let mut series = Vec::new();
    for keys in [1, 10_000] {
        for number in 0..keys {
            let key = format!("key-{number}");
            caches[0].get_or_load(&key, || async { Ok("value".to_owned()) }).await.unwrap();
            manager.set_with_strategy(&key, Bytes::new(), CacheStrategy::RealTime).await.unwrap();
            manager.get(&key).await.unwrap();
            manager.invalidate(&key).await.unwrap();
        }
        let text = manager.metrics().prometheus();
        assert!(!text.contains("key-"), "{text}");
        series.push(Exposition::parse(&text).series.len());
    }
    assert_eq!(series[0], series[1]);
}

#[tokio::test]
async fn names_of_caches_are_bounded() {
    let names: Vec<String> = (0..3 * defaults::TELEMETRY_CACHES).map(|number| format!("cache-{number}")).collect();
    let (manager, caches) = small(&names).await;
    for cache in &caches {
        cache.insert("k", "value".to_owned()).await.unwrap();
    }
    let metrics = manager.metrics();
    let family = metrics.families().iter().find(|family| family.metric == names::EVENTS).unwrap();
    let told: BTreeSet<_> = family.samples.iter().map(|sample| sample.labels[0].1.clone()).collect();
    assert_eq!(told.len(), defaults::TELEMETRY_CACHES + 2, "and those on bytes, and the others together");
    let inserted = [("cache", "other"), ("operation", "put"), ("activity", "inserted")];
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let others = 2.0 * defaults::TELEMETRY_CACHES as f64;
    assert_eq!(metrics.number(&names::EVENTS, &inserted), Some(others));
}

#[tokio::test]
async fn names_that_are_taken_or_strange_are_written_all_the_same() {
    let names = ["bytes", "other", "a\"b\\c\nd", "a:b", "ü"].map(str::to_owned);
    let (manager, caches) = small(&names).await;
    for cache in &caches {
        cache.insert("k", "value".to_owned()).await.unwrap();
        cache.get("k").await.unwrap();
    }
    let labelled = manager.metrics().labelled("my system", "one").and(manager.metrics().labelled("my system", "two"));
    let exposition = Exposition::parse(&labelled.prometheus());
    for name in names {
        let pairs = [("cache", &*name), ("operation", "put"), ("activity", "inserted"), ("my_system", "two")];
        let labels = pairs.map(|(label, value)| (label.to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!(exposition.series.get(&("mtc_events_total".to_owned(), labels)), Some(&1.0), "{name}");
    }
}

#[tokio::test]
async fn whatever_label_a_program_adds_the_text_stays_valid() {
    let (manager, caches) = small(&["users".to_owned()]).await;
    caches[0].insert("k", "value".to_owned()).await.unwrap();
    let series = |metrics: &Metrics| Exposition::parse(&metrics.prometheus()).series;
    let plain = series(&manager.metrics());
    for label in ["cache", "le", "quantile", "tier", "", "_", "__", "__x", "__9", "9a", "ü", "üü", "a b", "a\"\n"] {
        let once = series(&manager.metrics().labelled(label, "one"));
        assert_eq!(once.len(), plain.len(), "{label}");
        for (line, labels) in once.keys() {
            let known = plain
                .keys()
                .filter(|(name, own)| name == line && own.iter().all(|own| labels.get(own.0) == Some(own.1)));
            assert_eq!(known.count(), 1, "{label}: {line} {labels:?}");
        }
        let twice = series(&manager.metrics().labelled(label, "one").labelled(label, "two"));
        assert_eq!(twice.len(), plain.len(), "{label}");
        assert!(
            twice.keys().all(|(_, labels)| labels.values().filter(|value| *value == "two").count() == 1),
            "{label}"
        );
        assert!(twice.keys().all(|(_, labels)| !labels.values().any(|value| value == "one")), "{label}");
        let two = [("a", "one"), ("b", "two")]
            .map(|(own, value)| manager.metrics().labelled(label, own).labelled("p", value));
        let [one, other] = two;
        assert_eq!(series(&one.and(other)).len(), 2 * plain.len(), "{label}");
    }
}

#[tokio::test]
async fn promotions_of_a_cache_beyond_those_that_are_named_are_told_with_the_others() {
    let shared = Arc::new(DashMapCache::new());
    let system =
        || CacheSystemBuilder::new().with_l2(Arc::clone(&shared) as _).with_promotion_condition(|_, _, _| true);
    let (one, other) = (system().build().await.unwrap(), system().build().await.unwrap());
    let known: Vec<Cache<u64, String>> =
        (0..defaults::TELEMETRY_CACHES).map(|number| other.cache(&format!("cache-{number}")).unwrap()).collect();
    for name in ["cache-7", "further"] {
        let writer: Cache<u64, String> = one.cache(name).unwrap();
        writer.insert(&7, "Ada".to_owned()).await.unwrap();
        let reader: Cache<u64, String> = other.cache(name).unwrap();
        assert!(reader.get(&7).await.unwrap().is_some());
    }
    let metrics = other.metrics();
    let promotions =
        |cache| metrics.number(&names::EVENTS, &[("cache", cache), ("operation", "get"), ("activity", "promotion")]);
    assert_eq!(["cache-7", "other", "bytes"].map(promotions), [Some(1.0), Some(1.0), Some(0.0)]);
    drop(known);
}

#[tokio::test]
async fn no_key_value_or_password_is_told() {
    let server = RedisServer::builder().password("hunter2-secret").start().unwrap();
    let system = CacheSystem::with_redis_url(&server.url()).await.unwrap();
    let users: Cache<String, String> = system.cache("users").unwrap();
    users.get_or_load("secret-key-123", || async { Ok("secret-value-456".to_owned()) }).await.unwrap();
    system.cache_manager().invalidate("secret-key-123").await.unwrap();
    let metrics = system.metrics();
    let text = metrics.prometheus() + &format!("{metrics:?}");
    assert!(!text.contains("secret") && !text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_stack_without_a_fleet_tells_nothing_of_one() {
    let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await.unwrap();
    let text = system.metrics().prometheus();
    Exposition::parse(&text);
    assert!(!text.contains("mtc_bus_") && !text.contains("mtc_lease_"), "{text}");
}
