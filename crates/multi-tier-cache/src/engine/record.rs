//! What an operation leaves behind: counts and times, under the name of its cache.

use tracing::Instrument;

use super::{Answer, Engine, Hit, Source, Wanted};
use crate::clock::Moment;
use crate::error::CacheResult;
use crate::telemetry::{Activity, Operation, Series, Telemetry};

impl Engine {
    /// One request, one count. It `began` then, if it had to wait.
    pub(super) fn counted(&self, answer: Answer, wanted: &Wanted<'_>, began: Option<Moment>) -> Answer {
        if matches!(wanted, Wanted::Judged(judge) if !judge.counts(matches!(answer, Ok(Some(_))))) {
            return answer;
        }
        let (series, typed) = match wanted.series() {
            Some(series) => (series, true),
            None => (self.telemetry.bytes(), false),
        };
        let activity = match &answer {
            Ok(Some(Hit { source: Source::Tier(position), .. })) => {
                if typed {
                    self.stats.hit(*position);
                } else {
                    self.stats.hit_bytes(*position);
                }
                Activity::Hit
            }
            Err(_) if !matches!(wanted, Wanted::Loaded(..)) => Activity::Error,
            _ => {
                self.missed(typed);
                Activity::Miss
            }
        };
        let what = (Operation::Get, activity);
        let duration = began.map(|began| self.telemetry.took(series, what, began));
        // What it makes of the answer a typed cache tells itself.
        match activity {
            _ if typed => {}
            Activity::Error => self.telemetry.ended(series, what, 1, duration),
            _ => self.telemetry.tell(series, what, duration),
        }
        answer
    }

    /// The same for what another request was answered.
    pub(super) fn followed(&self, answer: Answer, wanted: &Wanted<'_>, began: Option<Moment>) -> Answer {
        self.stats.coalesced();
        self.counted(answer, wanted, began)
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

    /// A change of so many keys that begins.
    pub(crate) fn change<'a>(&'a self, series: &'a Series, operation: Operation, keys: usize) -> Change<'a> {
        let awaits = !self.is_local();
        let began = if awaits { Some(self.options.clock.now()) } else { self.telemetry.begins() };
        Change { telemetry: &self.telemetry, series, operation, keys: keys as u64, began, awaits }
    }
}

/// A change under way. Dropped, its caller went away, and nothing is told of it.
pub(crate) struct Change<'a> {
    telemetry: &'a Telemetry,
    series: &'a Series,
    operation: Operation,
    keys: u64,
    began: Option<Moment>,
    awaits: bool,
}

impl Change<'_> {
    /// Carries out a removal, and tells how it ended.
    pub(crate) async fn carried_out<T>(self, work: impl Future<Output = CacheResult<T>>) -> CacheResult<T> {
        // Nothing is waited for in process.
        let outcome =
            if self.awaits { work.instrument(Telemetry::removal_span(self.series)).await } else { work.await };
        self.ended(outcome)
    }

    /// Tells how it ended.
    pub(crate) fn ended<T>(self, outcome: CacheResult<T>) -> CacheResult<T> {
        let activity = match (&outcome, self.operation) {
            (Err(_), _) => Activity::Error,
            (Ok(_), Operation::Put) => Activity::Inserted,
            (Ok(_), _) => Activity::Invalidated,
        };
        let count = if outcome.is_ok() { self.keys } else { 1 };
        let duration = self.began.map(|began| {
            let what = (self.operation, activity);
            if self.awaits { self.telemetry.took(self.series, what, began) } else { self.telemetry.since(began) }
        });
        self.telemetry.ended(self.series, (self.operation, activity), count, duration);
        outcome
    }
}
