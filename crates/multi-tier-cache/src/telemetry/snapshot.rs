//! Everything that is counted, at one moment: the one source of every format.

use std::borrow::Cow;

use super::histogram::HistogramSnapshot;
use super::metric::Metric;
use super::names;

/// Every metric of a cache at some moment; the numbers may be a few requests apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    families: Vec<Family>,
}

/// A metric with its time series.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Family {
    /// What it is.
    pub metric: Metric,
    /// One for every set of labels.
    pub samples: Vec<Sample>,
}

/// One number, or one histogram, of a metric.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// Names and values, in the order of [`Metric::labels`].
    pub labels: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The number.
    pub value: Value,
}

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(f64),
    /// Of a histogram.
    Histogram(HistogramSnapshot),
}

impl Metrics {
    /// The metrics that have a time series, in the order of the [catalogue](names::CATALOGUE).
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The sample of `metric` with these labels, in any order.
    #[must_use]
    pub fn sample(&self, metric: &Metric, labels: &[(&str, &str)]) -> Option<&Sample> {
        let family = self.families.iter().find(|family| family.metric.name == metric.name)?;
        family.samples.iter().find(|sample| sample.has(labels))
    }

    /// The number of a counter or gauge; of a histogram, how many durations it has.
    #[must_use]
    pub fn number(&self, metric: &Metric, labels: &[(&str, &str)]) -> Option<f64> {
        Some(self.sample(metric, labels)?.value.number())
    }

    /// The same metrics with one more label on each sample: what tells the caches of a program apart that has several.
    /// Characters that no label may have become underscores, and what is taken gets one in front.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> multi_tier_cache::CacheResult<()> {
    /// # use multi_tier_cache::{Arc, CacheSystemBuilder, DashMapCache};
    /// # let build = || CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build();
    /// # let (sessions, products) = (build().await?, build().await?);
    /// let both = sessions.metrics().labelled("system", "sessions").and(products.metrics().labelled("system", "products"));
    /// assert_eq!(both.families()[0].samples.len(), 2 * sessions.metrics().families()[0].samples.len());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn labelled(mut self, label: &str, value: &str) -> Self {
        let label = free_label(label);
        for sample in self.families.iter_mut().flat_map(|family| &mut family.samples) {
            sample.labels.retain(|(known, _)| *known != label);
            sample.labels.push((label.clone().into(), value.to_owned().into()));
        }
        self
    }

    /// These metrics and those of another cache, which must differ in a [label](Self::labelled).
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for family in other.families {
            match self.families.iter_mut().find(|known| known.metric.name == family.metric.name) {
                Some(known) => known.samples.extend(family.samples),
                None => self.families.push(family),
            }
        }
        self
    }
}

/// A label that Prometheus allows and no metric has.
fn free_label(label: &str) -> String {
    let mut label: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    while label.starts_with("__") {
        label.remove(0);
    }
    let taken = ["le", "quantile"];
    let is_taken = taken.contains(&&*label) || names::CATALOGUE.iter().any(|metric| metric.labels.contains(&&*label));
    if label.is_empty() || is_taken || label.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{label}")
    } else {
        label
    }
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        let known = |(name, value): &(&str, &str)| self.labels.iter().any(|(own, text)| own == name && text == value);
        self.labels.len() == labels.len() && labels.iter().all(known)
    }
}

impl Value {
    #[expect(clippy::cast_precision_loss, reason = "every format has floating-point numbers")]
    pub(super) fn number(&self) -> f64 {
        match self {
            Self::Count(count) => *count as f64,
            Self::Level(level) => *level,
            Self::Histogram(histogram) => histogram.count() as f64,
        }
    }
}

/// Takes samples as they come.
#[derive(Default)]
pub(crate) struct Collector(Vec<Family>);

impl Collector {
    /// `labels` are the values of the metric's own, in their order.
    pub(crate) fn count(&mut self, metric: &Metric, labels: &[&str], count: u64) {
        self.add(metric, labels, Value::Count(count));
    }

    pub(crate) fn level(&mut self, metric: &Metric, labels: &[&str], level: f64) {
        self.add(metric, labels, Value::Level(level));
    }

    /// The same for a whole number.
    #[expect(clippy::cast_precision_loss, reason = "every format has floating-point numbers")]
    pub(crate) fn amount(&mut self, metric: &Metric, labels: &[&str], amount: usize) {
        self.level(metric, labels, amount as f64);
    }

    pub(crate) fn histogram(&mut self, metric: &Metric, labels: &[&str], histogram: HistogramSnapshot) {
        self.add(metric, labels, Value::Histogram(histogram));
    }

    fn add(&mut self, metric: &Metric, labels: &[&str], value: Value) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let owned = |(name, value): (&&'static str, &&str)| (Cow::Borrowed(*name), Cow::Owned((*value).to_owned()));
        let sample = Sample { labels: metric.labels.iter().zip(labels).map(owned).collect(), value };
        match self.0.iter_mut().find(|family| family.metric.name == metric.name) {
            Some(family) => family.samples.push(sample),
            None => self.0.push(Family { metric: *metric, samples: vec![sample] }),
        }
    }

    pub(crate) fn finish(mut self) -> Metrics {
        let place = |family: &Family| names::CATALOGUE.iter().position(|metric| metric.name == family.metric.name);
        self.0.sort_by_key(place);
        Metrics { families: self.0 }
    }
}
