//! What an operation leaves behind: counts and times, under the name of its cache.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::FutureExt;
use tracing::Instrument;

use super::finish::finish;
use super::{Answer, Engine, Hit, Source, Wanted};
use crate::clock::Moment;
use crate::coordinator::Position;
use crate::error::{CacheError, CacheResult};
use crate::telemetry::{Activity, Began, Operation, Series, Telemetry};

/// What is to be removed.
pub(crate) enum Removal<'a> {
    Key(Cow<'a, str>),
    /// Each once.
    Keys(Vec<Cow<'a, str>>),
    Pattern(Cow<'a, str>),
    Tag(Cow<'a, str>),
    Everything,
}

impl<'a> Removal<'a> {
    pub(crate) fn keys(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().map(Cow::Borrowed).collect();
        keys.sort_unstable();
        keys.dedup();
        Self::Keys(keys)
    }

    /// What is counted: keys, or one for everything of a kind.
    fn count(&self) -> usize {
        if let Self::Keys(keys) = self { keys.len() } else { 1 }
    }

    fn into_owned(self) -> Removal<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Key(key) => Removal::Key(owned(key)),
            Self::Keys(keys) => Removal::Keys(keys.into_iter().map(owned).collect()),
            Self::Pattern(pattern) => Removal::Pattern(owned(pattern)),
            Self::Tag(tag) => Removal::Tag(owned(tag)),
            Self::Everything => Removal::Everything,
        }
    }
}

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
            // Nothing is waited for in process.
            let unended = || Err(CacheError::InternalError("a removal in process did not end at once".into()));
            return change.ended(self.carry_out_removal(&what).now_or_never().unwrap_or_else(unended));
        }
        let (engine, what, span) = (Arc::clone(self), what.into_owned(), Telemetry::removal_span(series));
        let work = async move { change.ended(engine.carry_out_removal(&what).await) };
        finish(work.instrument(span)).await
    }

    async fn carry_out_removal(self: &Arc<Self>, what: &Removal<'_>) -> CacheResult<Option<Position>> {
        match what {
            Removal::Key(key) => self.invalidate(key).await,
            Removal::Keys(keys) => {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                self.invalidate_many(&keys).await
            }
            Removal::Pattern(pattern) => self.invalidate_pattern(pattern).await,
            Removal::Tag(tag) => self.remove_tag(tag).await,
            Removal::Everything => self.clear().await,
        }
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
