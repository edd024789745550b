//! What an operation leaves behind: counts and times, under the name of its cache.

use std::sync::Arc;

use tracing::Instrument;

use super::finish::finish;
use super::{Answer, Engine, Hit, Removal, Source, Wanted};
use crate::clock::Moment;
use crate::coordinator::Position;
use crate::error::CacheResult;
use crate::telemetry::{Activity, Began, Operation, Series, Telemetry};

impl Engine {
    /// One request, one count.
    pub(super) fn counted(&self, answer: Answer, wanted: &Wanted<'_>, began: Began) -> Answer {
        self.count(&answer, wanted, began);
        answer
    }

    /// The same for what another request was answered.
    pub(super) fn followed(&self, answer: Answer, wanted: &Wanted<'_>, began: Began) -> Answer {
        if self.count(&answer, wanted, began) && wanted.is_awaited() {
            self.stats.coalesced();
        }
        answer
    }

    /// Whether it is a request.
    fn count(&self, answer: &Answer, wanted: &Wanted<'_>, began: Began) -> bool {
        if matches!(wanted, Wanted::Judged(judge) if !judge.counts(matches!(answer, Ok(Some(_))))) {
            return false;
        }
        let typed = wanted.series().is_some();
        let activity = match answer {
            Ok(Some(Hit { source: Source::Tier(position), .. })) if typed => {
                self.stats.hit(*position);
                Activity::Hit
            }
            Ok(Some(Hit { source: Source::Tier(position), .. })) => {
                self.stats.hit_bytes(*position);
                Activity::Hit
            }
            Err(_) if !matches!(wanted, Wanted::Loaded(..)) => Activity::Error,
            _ => {
                self.missed(typed);
                Activity::Miss
            }
        };
        // What it makes of the answer, and how long that took, a typed cache tells itself.
        if !typed {
            self.told(activity, began);
        }
        true
    }

    /// A read of the verbs on bytes went so.
    pub(super) fn told(&self, activity: Activity, began: Began) {
        let (series, what) = (self.telemetry.bytes(), (Operation::Get, activity));
        let duration = self.telemetry.elapsed(series, what, began);
        match activity {
            Activity::Error => self.telemetry.ended(series, what, 1, duration),
            _ => self.telemetry.tell(series, what, duration),
        }
    }

    /// No tier had a value for a request of a `typed` cache, or of the verbs on bytes.
    pub(super) fn missed(&self, typed: bool) {
        if typed { self.stats.miss() } else { self.stats.miss_bytes() }
    }

    /// Counts a request whose read its caller has given up, answered in another way.
    pub(crate) fn gave_up(&self) {
        self.missed(true);
    }

    /// Copies were made of what was found in a lower tier.
    pub(super) fn promoted(&self, key: &str, copies: usize) {
        if copies > 0 {
            self.telemetry.note(&self.telemetry.owner(key), Operation::Get, Activity::Promotion, copies as u64);
        }
    }

    /// A put in process, which began then.
    #[inline]
    pub(super) fn put_here(&self, series: &Series, began: Moment) {
        series.count(Operation::Put, Activity::Inserted, 1);
        // How long it took is told to a listener, but not counted: another reading of the clock would be much of it.
        if self.telemetry.is_heard() {
            let duration = self.telemetry.since(began);
            self.telemetry.tell(series, (Operation::Put, Activity::Inserted), Some(duration));
        }
    }

    /// Carries out a removal, and tells under the name of `series` how it ended, also if its caller goes away.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        series: &Arc<Series>,
        what: Removal<'_>,
    ) -> CacheResult<Option<Position>> {
        let change = self.change(series, Operation::Remove, what.count());
        if self.is_local() {
            return change.ended(self.remove_here(&what).map(|()| None));
        }
        let (engine, what, span) = (Arc::clone(self), what.into_owned(), Telemetry::removal_span(series));
        let work = async move { change.ended(engine.remove_below(&what).await) };
        finish(work.instrument(span)).await
    }

    /// A change of so many keys that begins.
    pub(super) fn change(&self, series: &Arc<Series>, operation: Operation, keys: usize) -> Change {
        let mut began = self.telemetry.at_once();
        if !self.is_local() {
            began.waits(self.options.clock.now());
        }
        let (telemetry, series) = (Arc::clone(&self.telemetry), Arc::clone(series));
        Change { telemetry, series, operation, keys: keys as u64, began }
    }
}

/// A change under way. Dropped, it could not be carried out, and nothing is told of it.
pub(super) struct Change {
    telemetry: Arc<Telemetry>,
    series: Arc<Series>,
    operation: Operation,
    keys: u64,
    began: Began,
}

impl Change {
    /// Tells how it ended.
    pub(super) fn ended<T>(self, outcome: CacheResult<T>) -> CacheResult<T> {
        let activity = match (&outcome, self.operation) {
            (Err(_), _) => Activity::Error,
            (Ok(_), Operation::Put) => Activity::Inserted,
            (Ok(_), _) => Activity::Invalidated,
        };
        let count = if outcome.is_ok() { self.keys } else { 1 };
        let what = (self.operation, activity);
        let duration = self.telemetry.elapsed(&self.series, what, self.began);
        self.telemetry.ended(&self.series, what, count, duration);
        outcome
    }
}
