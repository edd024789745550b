//! A cache as a source of OpenTelemetry's metrics.
//!
//! Counters and gauges are observed: they are read when the program's exporter asks, and cost nothing before. Times of
//! calls are recorded as the calls end.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter};
use opentelemetry::{Key, KeyValue};

use super::activity::{Activity, Operation};
use super::metric::{Metric, MetricKind};
use super::names;
use super::series::Series;
use super::snapshot::{Metrics, Sample, Value};
use crate::defaults;

/// Where metrics come from; `None` once the cache is gone.
pub(super) type Provider = Arc<dyn Fn() -> Option<Metrics> + Send + Sync>;

/// The times of calls.
pub(super) struct Durations(Histogram<f64>);

impl Durations {
    pub(super) fn new(meter: &Meter) -> Self {
        let Metric { instrument, unit, help, .. } = names::OPERATION_DURATION;
        let bounds = defaults::DURATION_BOUNDS.iter().map(Duration::as_secs_f64).collect();
        let builder = meter.f64_histogram(instrument).with_unit(unit).with_description(help).with_boundaries(bounds);
        Self(builder.build())
    }

    pub(super) fn record(&self, series: &Series, operation: Operation, activity: Activity, duration: Duration) {
        let attributes = [
            KeyValue::new(attribute(names::CACHE), Arc::clone(series.shared_name())),
            KeyValue::new(attribute(names::OPERATION), operation.as_str()),
            KeyValue::new(attribute(names::ACTIVITY), activity.as_str()),
        ];
        self.0.record(duration.as_secs_f64(), &attributes);
    }
}

/// Lets `meter` observe every counter and gauge.
pub(super) fn register(meter: &Meter, provider: &Provider) {
    for metric in names::CATALOGUE {
        let (provider, metric) = (Arc::clone(provider), *metric);
        let Metric { instrument, unit, help, kind, .. } = metric;
        match kind {
            MetricKind::Counter => {
                let builder = meter.u64_observable_counter(instrument).with_unit(unit).with_description(help);
                let observe = move |to: &dyn AsyncInstrument<u64>| each(&provider, metric, |sample| count(sample, to));
                builder.with_callback(observe).build();
            }
            MetricKind::Gauge => {
                let builder = meter.f64_observable_gauge(instrument).with_unit(unit).with_description(help);
                let observe = move |to: &dyn AsyncInstrument<f64>| {
                    each(&provider, metric, |sample| to.observe(sample.value.number(), &attributes(sample)));
                };
                builder.with_callback(observe).build();
            }
            // Only what is told as it happens can be a histogram.
            MetricKind::Histogram => {}
        }
    }
}

fn each(provider: &Provider, metric: Metric, take: impl FnMut(&Sample)) {
    let Some(metrics) = provider() else { return };
    let of_metric = metrics.families().iter().filter(|family| family.metric == metric);
    of_metric.flat_map(|family| &family.samples).for_each(take);
}

fn count(sample: &Sample, to: &dyn AsyncInstrument<u64>) {
    if let Value::Count(count) = sample.value {
        to.observe(count, &attributes(sample));
    }
}

fn attributes(sample: &Sample) -> Vec<KeyValue> {
    sample.labels.iter().map(|(label, value)| KeyValue::new(attribute(label), value.to_string())).collect()
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
