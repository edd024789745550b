//! What a metric is.

/// How the numbers of a metric are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// It only grows, from 0 when the cache was made.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often a duration fell between two bounds.
    Histogram,
}

/// A metric: one name for all its time series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// Its name in OpenTelemetry.
    pub instrument: &'static str,
    /// How its numbers are to be read.
    pub kind: MetricKind,
    /// What they count or measure: `s` for seconds, `By` for bytes, else what is counted, in braces.
    pub unit: &'static str,
    /// The labels of its time series, in their order.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
}

impl MetricKind {
    /// Its name in Prometheus' text format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
