//! Where what happens is told, and under which name.

use std::sync::Arc;
#[cfg(feature = "opentelemetry")]
use std::sync::OnceLock;
use std::time::Duration;

use foldhash::HashMap;
#[cfg(feature = "opentelemetry")]
use opentelemetry::{KeyValue, metrics::Meter};
use parking_lot::RwLock;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, debug_span};

use super::activity::{Activity, Operation};
use super::event::{CacheEvent, EventListener};
use super::names;
#[cfg(feature = "opentelemetry")]
use super::opentelemetry::{Durations, Provider, register};
use super::series::Series;
use super::snapshot::Collector;
#[cfg(feature = "opentelemetry")]
use super::snapshot::Metrics;
use crate::clock::{Clock, Moment};
use crate::defaults;

/// The time series of an engine.
pub(crate) struct Telemetry {
    clock: Clock,
    /// Of the verbs on bytes.
    bytes: Arc<Series>,
    /// Of the caches for which there is no other.
    other: Arc<Series>,
    /// Of typed caches, by what their keys have in front of the first colon.
    named: RwLock<HashMap<Box<str>, Arc<Series>>>,
    listener: Option<Arc<dyn EventListener>>,
    listener_hears_hits: bool,
    tells_hits: bool,
    /// Of the program's meter, once there is one.
    #[cfg(feature = "opentelemetry")]
    durations: OnceLock<Durations>,
}

impl Telemetry {
    pub(crate) fn new(clock: Clock, listener: Option<Arc<dyn EventListener>>) -> Self {
        let series = |name| Arc::new(Series::new(name));
        let listener_hears_hits = listener.as_ref().is_some_and(|listener| listener.hears_hits());
        let traces_hits = tracing::enabled!(target: names::EVENT_TARGET, Level::DEBUG);
        Self {
            clock,
            bytes: series(names::BYTES),
            other: series(names::OTHER),
            named: RwLock::default(),
            listener,
            listener_hears_hits,
            tells_hits: listener_hears_hits || traces_hits,
            #[cfg(feature = "opentelemetry")]
            durations: OnceLock::new(),
        }
    }

    /// Lets `meter` observe what `metrics` answers, and tells it how long calls take, each with `own` attributes. False
    /// if there is a meter already.
    #[cfg(feature = "opentelemetry")]
    pub(crate) fn report_to(
        &self,
        meter: &Meter,
        own: &[KeyValue],
        metrics: impl Fn() -> Option<Metrics> + Send + Sync + 'static,
    ) -> bool {
        let own: Arc<[KeyValue]> = own.into();
        let first = self.durations.set(Durations::new(meter, &own)).is_ok();
        if first {
            register(meter, own, Arc::new(metrics) as Provider);
        }
        first
    }

    /// Whether somebody hears of hits. Where nobody does, those in process are not even looked at.
    pub(crate) fn tells_hits(&self) -> bool {
        self.tells_hits
    }

    /// The present, if somebody listens who is to be told how long things take that are over quickly.
    pub(crate) fn begins(&self) -> Option<Moment> {
        (self.tells_hits || self.listener.is_some()).then(|| self.clock.now())
    }

    /// Whether anybody may be told of changes.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        self.listener.is_some() || LevelFilter::current() >= LevelFilter::INFO
    }

    /// Tells that something happened once, which its own statistics count. It took so long, if that is known.
    pub(crate) fn tell(&self, series: &Series, what: (Operation, Activity), duration: Option<Duration>) {
        let (operation, activity) = what;
        self.announce(&CacheEvent { cache: series.name(), operation, activity, count: 1, duration });
    }

    fn announce(&self, event: &CacheEvent<'_>) {
        let is_hit = event.activity == Activity::Hit;
        if let Some(listener) = self.listener.as_deref().filter(|_| self.listener_hears_hits || !is_hit) {
            event.tell(listener);
        }
        if self.tells_hits || !is_hit {
            event.trace();
        }
    }

    /// The series of the verbs on bytes.
    pub(crate) fn bytes(&self) -> &Arc<Series> {
        &self.bytes
    }

    /// The series of the typed cache of this name, whose keys begin with `beginning`.
    pub(crate) fn series(&self, name: &str, beginning: &str) -> Arc<Series> {
        let own = own_part(beginning);
        let mut named = self.named.write();
        if let Some(known) = named.get(own) {
            return Arc::clone(known);
        }
        let series = match name {
            names::BYTES => Arc::clone(&self.bytes),
            names::OTHER => Arc::clone(&self.other),
            _ if named.len() >= defaults::TELEMETRY_CACHES => Arc::clone(&self.other),
            name => Arc::new(Series::new(name)),
        };
        // Names may be without number.
        if named.len() >= defaults::TELEMETRY_CACHES_KNOWN {
            return series;
        }
        named.insert(own.into(), Arc::clone(&series));
        series
    }

    /// The series of the cache that a key belongs to.
    pub(crate) fn owner(&self, key: &str) -> Arc<Series> {
        let named = self.named.read();
        let known = named.get(own_part(key)).filter(|_| key.contains(':'));
        match known {
            Some(series) => Arc::clone(series),
            // A typed cache that is not known cannot be told from the verbs on bytes.
            None => Arc::clone(&self.bytes),
        }
    }

    /// Something happened so many times.
    pub(crate) fn note(&self, series: &Series, operation: Operation, activity: Activity, count: u64) {
        self.ended(series, (operation, activity), count, None);
    }

    /// The same for something that took time, if it is known how much.
    pub(crate) fn ended(&self, series: &Series, what: (Operation, Activity), count: u64, duration: Option<Duration>) {
        let (operation, activity) = what;
        series.count(operation, activity, count);
        self.announce(&CacheEvent { cache: series.name(), operation, activity, count, duration });
    }

    /// Entries were found whose time had ended.
    #[cold]
    pub(crate) fn expired(&self, key: &str) {
        self.note(&self.owner(key), Operation::Get, Activity::Expired, 1);
    }

    /// A call that began then, and waited, has ended so. Answers how long it took.
    pub(crate) fn took(&self, series: &Series, what: (Operation, Activity), began: Moment) -> Duration {
        let (duration, (operation, activity)) = (self.since(began), what);
        series.took(operation, duration);
        #[cfg(feature = "opentelemetry")]
        if let Some(durations) = self.durations.get() {
            durations.record(series, operation, activity, duration);
        }
        #[cfg(not(feature = "opentelemetry"))]
        let _ = activity;
        duration
    }

    /// A load that began then has ended.
    pub(crate) fn loaded(&self, series: &Series, began: Moment, ok: bool) {
        let what = (Operation::Load, if ok { Activity::Ok } else { Activity::Error });
        let duration = self.took(series, what, began);
        self.ended(series, what, 1, Some(duration));
    }

    pub(crate) fn since(&self, began: Moment) -> Duration {
        self.clock.now().since(began)
    }

    /// The span of a read below the first tiers in process.
    pub(crate) fn read_span(series: &Series) -> Span {
        debug_span!(target: names::SPAN_TARGET, names::SPAN_READ, cache.name = series.name())
    }

    /// The span of a run of a loader.
    pub(crate) fn load_span(series: &Series) -> Span {
        debug_span!(target: names::SPAN_TARGET, names::SPAN_LOAD, cache.name = series.name())
    }

    /// The span of a put.
    pub(crate) fn put_span(series: &Series) -> Span {
        debug_span!(target: names::SPAN_TARGET, names::SPAN_PUT, cache.name = series.name())
    }

    /// The span of a removal.
    pub(crate) fn removal_span(series: &Series) -> Span {
        debug_span!(target: names::SPAN_TARGET, names::SPAN_INVALIDATE, cache.name = series.name())
    }

    pub(crate) fn promotions(&self) -> u64 {
        self.all().iter().map(|series| series.tallied(Operation::Get, Activity::Promotion)).sum()
    }

    pub(crate) fn collect(&self, into: &mut Collector) {
        self.all().iter().for_each(|series| series.collect(into));
    }

    /// Every series once, by name.
    fn all(&self) -> Vec<Arc<Series>> {
        let mut all: Vec<_> = self.named.read().values().cloned().collect();
        all.push(Arc::clone(&self.bytes));
        all.push(Arc::clone(&self.other));
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all.dedup_by(|one, other| Arc::ptr_eq(one, other));
        all
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new(Clock::system(), None)
    }
}

fn own_part(key: &str) -> &str {
    key.split_once(':').map_or(key, |(own, _)| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_the_rest_is_told_together() {
        let telemetry = Telemetry::default();
        for number in 0..defaults::TELEMETRY_CACHES + 50 {
            let name = format!("cache-{number}");
            telemetry.note(&telemetry.series(&name, &format!("{name}:")), Operation::Load, Activity::Ok, 1);
        }
        let all = telemetry.all();
        assert_eq!(all.len(), defaults::TELEMETRY_CACHES + 2);
        let other = all
            .iter()
            .find(|series| series.name() == names::OTHER)
            .map(|other| other.tallied(Operation::Load, Activity::Ok));
        assert_eq!(other, Some(50));
        assert!(Arc::ptr_eq(&telemetry.series("cache-7", "cache-7:"), &telemetry.owner("cache-7:key")));
        assert!(Arc::ptr_eq(telemetry.bytes(), &telemetry.owner("cache-7")));
        assert!(Arc::ptr_eq(telemetry.bytes(), &telemetry.series("bytes", "bytes:")));
    }

    #[test]
    fn a_cache_beyond_those_that_are_known_is_not_remembered() {
        let telemetry = Telemetry::default();
        for number in 0..defaults::TELEMETRY_CACHES_KNOWN + 50 {
            let series = telemetry.series(&format!("cache-{number}"), &format!("cache-{number}:"));
            assert_eq!(Arc::ptr_eq(&series, &telemetry.other), number >= defaults::TELEMETRY_CACHES);
        }
        assert_eq!(telemetry.named.read().len(), defaults::TELEMETRY_CACHES_KNOWN);
        let owner = |number: usize| telemetry.owner(&format!("cache-{number}:key"));
        assert!(Arc::ptr_eq(&telemetry.other, &owner(defaults::TELEMETRY_CACHES_KNOWN - 1)));
        assert!(Arc::ptr_eq(&telemetry.bytes, &owner(defaults::TELEMETRY_CACHES_KNOWN)));
    }
}
