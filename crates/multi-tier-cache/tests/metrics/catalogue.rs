//! What the guide, the dashboard and the alert rules name exists.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use multi_tier_cache::telemetry::{Metric, MetricKind, names};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/guide/metrics.md");
const DASHBOARD: &str = include_str!("../../../../ops/grafana/multi-tier-cache.json");
const ALERTS: &str = include_str!("../../../../ops/prometheus/alerts.yml");

/// What Prometheus and Grafana add to every series.
const ADDED: [&str; 2] = ["job", "instance"];
/// The values that labels of fixed sets have.
const VALUES: [&str; 27] = [
    "get",
    "load",
    "refresh",
    "put",
    "remove",
    "hit",
    "miss",
    "expired",
    "inserted",
    "invalidated",
    "refresh_hit",
    "refresh_miss",
    "fallback",
    "promotion",
    "error",
    "ok",
    "revalidating",
    "load_failed",
    "load_slow",
    "throttled",
    "set",
    "invalidate",
    "acquire",
    "process",
    "coordinator",
    "pattern",
    "bulk",
];

#[test]
fn the_table_of_the_guide_is_that_of_the_code() {
    let mut table = String::from("| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in names::CATALOGUE {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = metric.unit.trim_matches(['{', '}']);
        writeln!(
            table,
            "| `{}` | {} | {unit} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            labels.join(" "),
            metric.help
        )
        .unwrap();
    }
    assert!(PAGE.contains(&table), "write this into docs/guide/metrics.md:\n{table}");
}

#[test]
fn names_and_instruments_follow_their_conventions() {
    for metric in names::CATALOGUE {
        assert!(metric.name.starts_with("mtc_") && metric.instrument.starts_with("cache."), "{metric:?}");
        let counts = metric.kind == MetricKind::Counter;
        assert_eq!(metric.name.ends_with("_total"), counts, "{metric:?}");
        assert_eq!(metric.name.ends_with("_seconds"), metric.unit == "s", "{metric:?}");
        assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '|']), "{metric:?}");
        let same = |other: &&Metric| other.name == metric.name || other.instrument == metric.instrument;
        assert_eq!(names::CATALOGUE.iter().filter(same).count(), 1, "{metric:?}");
    }
}

/// Every expression of the dashboard.
fn charted() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| collect(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    found
}

/// The name, the expression and the rest of each rule.
fn rules() -> Vec<(&'static str, String, &'static str)> {
    let rules = ALERTS.split("\n      - alert: ").skip(1).map(|rule| {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (_, expression) = rest.split_once("        expr: ").unwrap();
        // An expression ends where the next field of the rule begins.
        let lines = expression.lines().enumerate();
        let own = lines.take_while(|(at, line)| *at == 0 || line.starts_with("         ")).map(|(_, line)| line.trim());
        (name, own.collect::<Vec<_>>().join(" ").trim_start_matches('|').trim().to_owned(), rest)
    });
    rules.collect()
}

/// The metric of a series' name in an expression.
fn metric_of(series: &str) -> &'static Metric {
    let of = |metric: &&Metric| match metric.kind {
        MetricKind::Histogram => {
            ["_bucket", "_sum", "_count"].iter().any(|ending| series == format!("{}{ending}", metric.name))
        }
        _ => series == metric.name,
    };
    names::CATALOGUE.iter().find(of).unwrap_or_else(|| panic!("no metric is called {series}"))
}

/// The series that an expression names, and what it says of each in braces.
fn series_of(expression: &str) -> Vec<(&str, &str)> {
    let starts = expression.match_indices("mtc_").map(|(at, _)| &expression[at..]);
    let series = starts.map(|text| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let selectors =
            text[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        (&text[..end], selectors)
    });
    series.collect()
}

/// Fails where an expression names a metric, a label or a value that does not exist.
fn check(expression: &str) -> BTreeSet<&'static str> {
    let open: usize = expression.matches(['(', '{', '[']).count();
    assert_eq!(open, expression.matches([')', '}', ']']).count(), "{expression}");
    let mut allowed: BTreeSet<&str> = ADDED.into_iter().chain(["le"]).collect();
    let mut named = BTreeSet::new();
    for (series, selectors) in series_of(expression) {
        let metric = metric_of(series);
        named.insert(metric.name);
        allowed.extend(metric.labels);
        for selector in selectors.split(',').filter(|selector| !selector.is_empty()) {
            let (label, value) = selector.split_once(['=', '!']).unwrap();
            assert!(metric.labels.contains(&label) || ADDED.contains(&label), "{label} in {expression}");
            let value = value.trim_matches(['=', '~', '"']);
            let known = |value: &str| value.starts_with('$') || VALUES.contains(&value);
            assert!(value.split('|').all(known), "{value} in {expression}");
        }
        let counts = metric.kind != MetricKind::Gauge;
        let ranged = expression.contains("rate(") || expression.contains("increase(");
        assert_eq!(counts, ranged, "a counter is shown by its rate, a gauge as it is: {expression}");
    }
    assert!(!named.is_empty(), "{expression}");
    for grouping in expression.split("by (").skip(1) {
        let labels = grouping.split_once(')').unwrap().0.split(", ");
        labels.for_each(|label| assert!(allowed.contains(label), "{label} in {expression}"));
    }
    named
}

#[test]
fn the_dashboard_shows_every_metric_and_nothing_that_does_not_exist() {
    let charted = charted();
    assert!(charted.len() > 50, "{}", charted.len());
    let shown: BTreeSet<_> = charted.iter().flat_map(|expression| check(expression)).collect();
    let missing: Vec<_> = names::CATALOGUE.iter().filter(|metric| !shown.contains(metric.name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let ids: BTreeSet<_> = dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), dashboard["panels"].as_array().unwrap().len(), "panels have ids of their own");
}

#[test]
fn every_alert_watches_what_exists_and_says_what_it_means() {
    let rules = rules();
    assert!(rules.len() > 8, "{}", rules.len());
    for (name, expression, rest) in &rules {
        assert!(name.starts_with("Cache"), "{name}");
        check(expression);
        assert!(rest.contains("          severity: ") && rest.contains("          summary: "), "{name}");
        assert!(PAGE.contains(&format!("`{name}`")), "the guide does not tell what to do about {name}");
    }
    let distinct: BTreeSet<_> = rules.iter().map(|(name, ..)| name).collect();
    assert_eq!(distinct.len(), rules.len());
}
