//! A cache as a source of OpenTelemetry's metrics.
//!
//! Counters and gauges are observed: they are read when the program's exporter asks, and cost nothing before. Times of
//! calls are recorded as the calls end.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter};
use opentelemetry::{Key, KeyValue};
use parking_lot::Mutex;

use super::activity::{Activity, Operation};
use super::metric::{Metric, MetricKind};
use super::names;
use super::series::Series;
use super::snapshot::{Metrics, Sample, Value};
use crate::defaults;

/// Where metrics come from; `None` once the cache is gone.
pub(super) type Provider = Arc<dyn Fn() -> Option<Metrics> + Send + Sync>;

/// The times of calls.
pub(super) struct Durations {
    histogram: Histogram<f64>,
    own: Arc<[KeyValue]>,
}

impl Durations {
    pub(super) fn new(meter: &Meter, own: &Arc<[KeyValue]>) -> Self {
        let Metric { instrument, unit, help, .. } = names::OPERATION_DURATION;
        let bounds = defaults::DURATION_BOUNDS.iter().map(Duration::as_secs_f64).collect();
        let builder = meter.f64_histogram(instrument).with_unit(unit).with_description(help).with_boundaries(bounds);
        Self { histogram: builder.build(), own: Arc::clone(own) }
    }

    pub(super) fn record(&self, series: &Series, operation: Operation, activity: Activity, duration: Duration) {
        let mut attributes = vec![
            KeyValue::new(attribute(names::CACHE), Arc::clone(series.shared_name())),
            KeyValue::new(attribute(names::OPERATION), operation.as_str()),
            KeyValue::new(attribute(names::ACTIVITY), activity.as_str()),
        ];
        attributes.extend_from_slice(&self.own);
        self.histogram.record(duration.as_secs_f64(), &attributes);
    }
}

/// Lets `meter` observe every counter and gauge, each with `own` attributes beside those of the metric.
pub(super) fn register(meter: &Meter, own: Arc<[KeyValue]>, provider: Provider) {
    let observed = Arc::new(Observed { provider, own, round: Mutex::default() });
    for (place, metric) in names::CATALOGUE.iter().enumerate() {
        let observed = Arc::clone(&observed);
        let Metric { instrument, unit, help, kind, .. } = *metric;
        match kind {
            MetricKind::Counter => {
                let builder = meter.u64_observable_counter(instrument).with_unit(unit).with_description(help);
                builder.with_callback(move |to| observed.counts(place, to)).build();
            }
            MetricKind::Gauge => {
                let builder = meter.f64_observable_gauge(instrument).with_unit(unit).with_description(help);
                builder.with_callback(move |to| observed.levels(place, to)).build();
            }
            // Only what is told as it happens can be a histogram.
            MetricKind::Histogram => {}
        }
    }
}

/// What the instruments of one cache observe.
struct Observed {
    provider: Provider,
    own: Arc<[KeyValue]>,
    round: Mutex<Round>,
}

/// A collection asks every instrument once, one after the other: all of them observe the same moment.
#[derive(Default)]
struct Round {
    metrics: Option<Arc<Metrics>>,
    asked: Vec<bool>,
}

impl Observed {
    fn counts(&self, place: usize, to: &dyn AsyncInstrument<u64>) {
        self.each(place, |sample| {
            if let Value::Count(count) = sample.value {
                to.observe(count, &self.attributes(sample));
            }
        });
    }

    fn levels(&self, place: usize, to: &dyn AsyncInstrument<f64>) {
        self.each(place, |sample| to.observe(sample.value.number(), &self.attributes(sample)));
    }

    fn each(&self, place: usize, take: impl FnMut(&Sample)) {
        let Some(metrics) = self.metrics(place) else { return };
        let of_metric = metrics.families().iter().filter(|family| names::CATALOGUE.get(place) == Some(&family.metric));
        of_metric.flat_map(|family| &family.samples).for_each(take);
    }

    fn metrics(&self, place: usize) -> Option<Arc<Metrics>> {
        let mut round = self.round.lock();
        if round.metrics.is_none() || round.asked.get(place).is_none_or(|asked| *asked) {
            round.metrics = Some(Arc::new((self.provider)()?));
            round.asked = vec![false; names::CATALOGUE.len()];
        }
        if let Some(asked) = round.asked.get_mut(place) {
            *asked = true;
        }
        round.metrics.clone()
    }

    fn attributes(&self, sample: &Sample) -> Vec<KeyValue> {
        let of_metric = sample.labels.iter().map(|(label, value)| KeyValue::new(attribute(label), value.to_string()));
        of_metric.chain(self.own.iter().cloned()).collect()
    }
}

/// The attribute that stands for a label.
fn attribute(label: &str) -> Key {
    let name: Cow<'static, str> = match label {
        names::CACHE => "cache.name".into(),
        names::OPERATION => "cache.operation".into(),
        names::ACTIVITY => "cache.activity".into(),
        label => format!("cache.{label}").into(),
    };
    Key::from(name)
}
