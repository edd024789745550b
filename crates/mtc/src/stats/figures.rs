//! Figures from families: of what was counted since the look before, or since the start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::exposition::{Exposition, Family, Kind, Labels, Sample};
use super::names::{FIGURES, How, Recipe, Selection, Unit};
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
    let groups: BTreeSet<Labels> = recipe.of.samples(found).map(|sample| only(&sample.labels, recipe.by)).collect();
    let figure = |labels: Labels| {
        let number = number(recipe, found, &labels)?;
        // Of what there are many, only what happened is worth a line.
        let shown = labels.is_empty() || number != Number::Plain(0.0);
        shown.then_some(Figure { title: recipe.title, labels, number })
    };
    groups.into_iter().filter_map(figure).collect()
}

fn number(recipe: &Recipe, found: &Exposition, labels: &Labels) -> Option<Number> {
    let part = sum(&recipe.of, found, labels);
    match &recipe.how {
        How::Count => Some(Number::Plain(part)),
        How::Largest(unit) => {
            let largest = matching(&recipe.of, found, labels).map(|sample| sample.value).reduce(f64::max)?;
            Some(if *unit == Unit::Seconds { Number::Seconds(largest) } else { Number::Plain(largest) })
        }
        How::ShareOf(whole) => share(part, whole.iter().map(|of| sum(of, found, labels)).sum()),
        How::Percentiles => percentiles(&recipe.of, found, labels),
    }
}

impl Selection {
    fn samples<'e>(&self, found: &'e Exposition) -> impl Iterator<Item = &'e Sample> {
        let selected = |sample: &&Sample| {
            let has = |value: &str, allowed: &[&str]| allowed.contains(&value);
            self.only.iter().all(|(name, values)| sample.labels.get(*name).is_some_and(|value| has(value, values)))
        };
        let family = found.families.get(self.metric.name);
        family.into_iter().flat_map(|family| &family.samples).filter(selected)
    }
}

/// None of nothing.
fn share(part: f64, whole: f64) -> Option<Number> {
    (whole > 0.0).then(|| Number::Share((part / whole).min(1.0)))
}

fn sum(of: &Selection, found: &Exposition, labels: &Labels) -> f64 {
    matching(of, found, labels).map(|sample| sample.value).filter(|value| value.is_finite()).sum()
}

/// The samples with these labels, whatever others they have.
fn matching<'e>(of: &Selection, found: &'e Exposition, labels: &Labels) -> impl Iterator<Item = &'e Sample> {
    let has = |sample: &&Sample| labels.iter().all(|(name, value)| sample.labels.get(name) == Some(value));
    of.samples(found).filter(move |sample| has(sample) && !sample.name.ends_with("_created"))
}

fn only(labels: &Labels, names: &[&str]) -> Labels {
    let named = labels.iter().filter(|(name, _)| names.contains(&name.as_str()));
    named.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn percentiles(of: &Selection, found: &Exposition, labels: &Labels) -> Option<Number> {
    let mut buckets: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for sample in matching(of, found, labels).filter(|sample| sample.name.ends_with("_bucket")) {
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
# TYPE mtc_events_total counter
mtc_events_total{cache="other",operation="get",activity="hit"} 0
mtc_events_total{cache="users",operation="get",activity="hit"} 80
mtc_events_total{cache="users",operation="get",activity="miss"} 20
mtc_events_total{cache="users",operation="get",activity="promotion"} 20
mtc_events_total{cache="users",operation="load",activity="ok"} 19
mtc_events_total{cache="users",operation="load",activity="error"} 1
# TYPE mtc_tier_hits_total counter
mtc_tier_hits_total{tier="L1",backend="QuickCache"} 60
mtc_tier_hits_total{tier="L2",backend="Redis"} 20
# TYPE mtc_tier_operation_duration_seconds histogram
mtc_tier_operation_duration_seconds_bucket{tier="L2",backend="Redis",operation="get",le="0.001"} 50
mtc_tier_operation_duration_seconds_bucket{tier="L2",backend="Redis",operation="get",le="0.002"} 100
mtc_tier_operation_duration_seconds_bucket{tier="L2",backend="Redis",operation="get",le="+Inf"} 100
# TYPE mtc_bus_proof_age_seconds gauge
mtc_bus_proof_age_seconds 0.25
# TYPE mtc_bus_gaps_total counter
mtc_bus_gaps_total 0
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
                "reads|users|100",
                "hit rate|users|80.0 %",
                "hits of tier|L1|60",
                "hits of tier|L2|20",
                "loads|users|20",
                "failed loads|users|1",
                "tier takes|get L2|p50 1.00 ms, p99 1.98 ms",
                "proven fresh||250 ms",
                "bus gaps||0",
            ]
        );
        assert_eq!(shown(&Exposition::default()), Vec::<String>::new());
    }

    #[test]
    fn counters_are_told_since_the_look_before() {
        let later = FIRST.replace("\"hit\"} 80", "\"hit\"} 130").replace("\"QuickCache\"} 60", "\"QuickCache\"} 100");
        let later = Exposition::parse(&later.replace("age_seconds 0.25", "age_seconds 0.5"));
        let shown = shown(&since(&later, &Exposition::parse(FIRST)));
        assert_eq!(
            shown,
            ["reads|users|50", "hit rate|users|100 %", "hits of tier|L1|40", "proven fresh||500 ms", "bus gaps||0"]
        );
    }

    #[test]
    fn a_counter_that_was_begun_anew_counts_from_zero() {
        let before = Exposition::parse("# TYPE mtc_bus_gaps_total counter\nmtc_bus_gaps_total 90");
        let now = Exposition::parse("# TYPE mtc_bus_gaps_total counter\nmtc_bus_gaps_total 5");
        assert_eq!(shown(&since(&now, &before)), ["bus gaps||5"]);
    }

    #[test]
    fn a_quantile_beyond_the_last_bound_is_that_bound() {
        let buckets = [(0.1, 0.0), (0.2, 1.0), (f64::INFINITY, 10.0)];
        assert_eq!(quantile(&buckets, 0.99), Some(Duration::from_millis(200)));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(1.0, 0.0)], 0.5), None);
    }
}
