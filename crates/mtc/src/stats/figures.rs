//! Figures from families: of what was counted since the look before, or since the start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::exposition::{Exposition, Family, Kind, Labels, Sample};
use super::names::{FIGURES, How, PREFIXES, Recipe, Unit};
use crate::measure::micros;
use crate::units::{duration, significant};

/// A figure that could be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) title: &'static str,
    labels: Labels,
    number: Number,
}

/// What a figure says.
#[derive(Debug, Clone, PartialEq)]
enum Number {
    Plain(f64),
    Seconds(f64),
    /// From 0 to 1.
    Share(f64),
    Percentiles(Duration, Duration),
}

/// Every figure that these families give.
pub(super) fn figures(found: &Exposition) -> Vec<Figure> {
    FIGURES.iter().flat_map(|recipe| prepare(recipe, found)).collect()
}

/// `now`, with what was counted since `before` in the place of what was counted since the start.
pub(super) fn since(now: &Exposition, before: &Exposition) -> Exposition {
    let mut since = now.clone();
    for (name, family) in &mut since.families {
        let earlier = before.families.get(name);
        for sample in &mut family.samples {
            if is_count(family.kind, &sample.name) {
                let earlier = earlier.and_then(|earlier| earlier.value(sample)).unwrap_or_default();
                // A counter that went back was begun anew.
                sample.value = if sample.value < earlier { sample.value } else { sample.value - earlier };
            }
        }
    }
    since
}

/// Whether a sample of a family of this kind counts up.
pub(super) fn is_count(kind: Kind, name: &str) -> bool {
    match kind {
        _ if name.ends_with("_created") => false,
        Kind::Counter | Kind::Histogram => true,
        Kind::Summary => name.ends_with("_count") || name.ends_with("_sum"),
        Kind::Untyped => name.ends_with("_total"),
        Kind::Gauge => false,
    }
}

impl Family {
    fn value(&self, like: &Sample) -> Option<f64> {
        let same = |sample: &&Sample| sample.name == like.name && sample.labels == like.labels;
        self.samples.iter().find(same).map(|sample| sample.value)
    }
}

fn prepare(recipe: &Recipe, found: &Exposition) -> Vec<Figure> {
    let Some(family) = first(found, recipe.families) else { return Vec::new() };
    let groups: BTreeSet<Labels> = family.samples.iter().map(|sample| only(&sample.labels, recipe.by)).collect();
    let figure = |labels: Labels| {
        let number = number(recipe, family, found, &labels)?;
        Some(Figure { title: recipe.title, labels, number })
    };
    groups.into_iter().filter_map(figure).collect()
}

/// The first family of these names, without the prefix, that there is.
fn first<'e>(found: &'e Exposition, names: &[&str]) -> Option<&'e Family> {
    let full = names.iter().flat_map(|name| PREFIXES.iter().map(move |prefix| format!("{prefix}{name}")));
    full.into_iter().find_map(|name| found.families.get(&name))
}

fn number(recipe: &Recipe, family: &Family, found: &Exposition, labels: &Labels) -> Option<Number> {
    let part = sum(family, labels);
    match &recipe.how {
        How::Count => Some(Number::Plain(part)),
        How::Largest(unit) => {
            let largest = matching(family, labels).map(|sample| sample.value).fold(f64::NEG_INFINITY, f64::max);
            let largest = if *unit == Unit::Seconds { Number::Seconds(largest) } else { Number::Plain(largest) };
            Some(largest)
        }
        How::ShareOf(whole) => share(part, sum(first(found, whole)?, &Labels::new())),
        How::ShareWith(rest) => share(part, part + sum(first(found, rest)?, labels)),
        How::Percentiles => percentiles(family, labels),
    }
}

/// None of nothing.
fn share(part: f64, whole: f64) -> Option<Number> {
    (whole > 0.0).then(|| Number::Share((part / whole).min(1.0)))
}

fn sum(family: &Family, labels: &Labels) -> f64 {
    matching(family, labels).map(|sample| sample.value).filter(|value| value.is_finite()).sum()
}

/// The samples with these labels, whatever others they have.
fn matching<'f>(family: &'f Family, labels: &'f Labels) -> impl Iterator<Item = &'f Sample> {
    let has = |sample: &&Sample| labels.iter().all(|(name, value)| sample.labels.get(name) == Some(value));
    family.samples.iter().filter(move |sample| has(sample) && !sample.name.ends_with("_created"))
}

fn only(labels: &Labels, names: &[&str]) -> Labels {
    let named = labels.iter().filter(|(name, _)| names.contains(&name.as_str()));
    named.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn percentiles(family: &Family, labels: &Labels) -> Option<Number> {
    if family.kind == Kind::Summary {
        let told = |quantile: &str| {
            let of = |sample: &&Sample| sample.labels.get("quantile").is_some_and(|label| label == quantile);
            matching(family, labels).filter(of).map(|sample| sample.value).reduce(f64::max)
        };
        return Some(Number::Percentiles(seconds(told("0.5")?), seconds(told("0.99")?)));
    }
    let mut buckets: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for sample in matching(family, labels).filter(|sample| sample.name.ends_with("_bucket")) {
        let Some(bound) = sample.labels.get("le").and_then(|bound| bound.parse::<f64>().ok()) else { continue };
        // Bounds are not negative, so that their bits are in their order.
        buckets.entry(bound.to_bits()).or_insert((bound, 0.0)).1 += sample.value;
    }
    let buckets: Vec<_> = buckets.into_values().collect();
    Some(Number::Percentiles(quantile(&buckets, 0.5)?, quantile(&buckets, 0.99)?))
}

/// The quantile of cumulative buckets, taken to be evenly filled; within the last one, its lower bound.
fn quantile(buckets: &[(f64, f64)], quantile: f64) -> Option<Duration> {
    let total = buckets.last()?.1;
    if total <= 0.0 {
        return None;
    }
    let (rank, mut below) = (quantile * total, (0.0, 0.0));
    for &(bound, count) in buckets {
        if count >= rank {
            let inside = if count > below.1 { (rank - below.1) / (count - below.1) } else { 1.0 };
            return Some(seconds(if bound.is_finite() { below.0 + (bound - below.0) * inside } else { below.0 }));
        }
        below = (bound, count);
    }
    Some(seconds(below.0))
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

impl Figure {
    /// Name and number, for people.
    pub(super) fn cells(&self) -> [String; 3] {
        let labels: Vec<_> = self.labels.values().map(|value| crate::units::printable(value, false)).collect();
        [self.title.to_owned(), labels.join(" "), self.number.text()]
    }

    pub(super) fn json(&self) -> Value {
        let mut json = self.number.json();
        if let Some(fields) = json.as_object_mut() {
            fields.insert("name".to_owned(), self.title.into());
            fields.insert("labels".to_owned(), json!(self.labels));
        }
        json
    }
}

impl Number {
    fn text(&self) -> String {
        match self {
            Self::Plain(number) => plain(*number),
            Self::Seconds(number) => duration(seconds(*number)),
            Self::Share(share) => format!("{} %", significant(share * 100.0)),
            Self::Percentiles(p50, p99) => format!("p50 {}, p99 {}", duration(*p50), duration(*p99)),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Plain(number) => json!({ "value": number }),
            Self::Seconds(number) => json!({ "seconds": number }),
            Self::Share(share) => json!({ "share": share }),
            Self::Percentiles(p50, p99) => json!({ "p50_us": micros(*p50), "p99_us": micros(*p99) }),
        }
    }
}

/// A whole number as it is, others with three digits.
pub(super) fn plain(number: f64) -> String {
    if number.is_finite() && number.fract() == 0.0 { format!("{number:.0}") } else { significant(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"
# TYPE mtc_requests_total counter
mtc_requests_total{cache="users"} 100
# TYPE mtc_hits_total counter
mtc_hits_total{cache="users",tier="L1"} 60
mtc_hits_total{cache="users",tier="L2"} 20
# TYPE mtc_misses_total counter
mtc_misses_total{cache="users"} 20
# TYPE mtc_operation_duration_seconds histogram
mtc_operation_duration_seconds_bucket{tier="L2",operation="get",le="0.001"} 50
mtc_operation_duration_seconds_bucket{tier="L2",operation="get",le="0.002"} 100
mtc_operation_duration_seconds_bucket{tier="L2",operation="get",le="+Inf"} 100
# TYPE mtc_bus_lag_seconds gauge
mtc_bus_lag_seconds 0.25
"#;

    fn shown(found: &Exposition) -> Vec<String> {
        figures(found).iter().map(|figure| figure.cells().join("|")).collect()
    }

    #[test]
    fn figures_are_made_of_what_there_is() {
        let found = Exposition::parse(FIRST);
        assert_eq!(
            shown(&found),
            [
                "requests|users|100",
                "hit rate|users|80.0 %",
                "hits in tier|L1|60.0 %",
                "hits in tier|L2|20.0 %",
                "tier|get L2|p50 1.00 ms, p99 1.98 ms",
                "bus lag||250 ms",
            ]
        );
        assert_eq!(shown(&Exposition::default()), Vec::<String>::new());
    }

    #[test]
    fn counters_are_told_since_the_look_before() {
        let later =
            FIRST.replace("} 100\n# TYPE mtc_hits", "} 150\n# TYPE mtc_hits").replace("\"L1\"} 60", "\"L1\"} 100");
        let later = Exposition::parse(&later.replace("lag_seconds 0.25", "lag_seconds 0.5"));
        let since = since(&later, &Exposition::parse(FIRST));
        let shown = shown(&since);
        for figure in ["requests|users|50", "hit rate|users|100 %", "hits in tier|L1|80.0 %", "bus lag||500 ms"] {
            assert!(shown.contains(&figure.to_owned()), "{figure}: {shown:?}");
        }
        assert!(!shown.iter().any(|figure| figure.starts_with("tier|")), "nothing happened: {shown:?}");
    }

    #[test]
    fn a_counter_that_was_begun_anew_counts_from_zero() {
        let before = Exposition::parse("# TYPE mtc_loads_total counter\nmtc_loads_total 90");
        let now = Exposition::parse("# TYPE mtc_loads_total counter\nmtc_loads_total 5");
        assert_eq!(shown(&since(&now, &before)), ["loads||5"]);
    }

    #[test]
    fn a_quantile_beyond_the_last_bound_is_that_bound() {
        let buckets = [(0.1, 0.0), (0.2, 1.0), (f64::INFINITY, 10.0)];
        assert_eq!(quantile(&buckets, 0.99), Some(Duration::from_millis(200)));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(1.0, 0.0)], 0.5), None);
    }
}
