//! One read of a typed cache as the engine sees it: how it judges what is stored, and how it loads.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tracing::Instrument;

use super::core::{Core, Seen};
use super::loaded::{LoadContext, LoadError, Loaded, Outcome, late};
use crate::clock::Moment;
use crate::defaults;
use crate::engine::{Judge, Load, Made, Source, Stay, panicked, within};
use crate::entry::{Entry, Facts, Tag};
use crate::error::{CacheError, CacheResult, Failure};
use crate::policy::{Freshness, Verdict};
use crate::telemetry::{Began, Series, Telemetry};

/// A loader with its own error.
pub(super) type Loader<'a, V, E> = Box<dyn FnOnce(LoadContext<V>) -> BoxFuture<'a, LoadResult<V, E>> + Send + 'a>;

pub(super) type LoadResult<V, E> = Result<Loaded<V>, LoadError<E>>;

/// The rules of one call.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) freshness: Arc<Freshness>,
    pub(super) tags: Arc<[Tag]>,
    /// Only what a load that began later made is good enough.
    pub(super) newer_than: Option<Moment>,
    /// Whether what is loaded is stored.
    pub(super) stores: bool,
    /// Whether what is stale can be loaded in the background.
    pub(super) in_background: bool,
    /// The places of tiers that are left out.
    pub(super) skipped: Vec<usize>,
}

/// What a read has come across, for a caller that cannot wait for its end.
#[derive(Default)]
pub(super) struct Progress {
    /// An older value that may be answered if the load fails or is slow; in the end, the value itself.
    pub(super) kept: Mutex<Option<Entry>>,
    /// Whether this read's own loader has been started.
    pub(super) loading: AtomicBool,
}

/// What a read is to the engine's counters: one call is one request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tally {
    /// All that its caller asks.
    Request,
    /// Its caller asks again if it finds nothing.
    First,
    /// Another read of its caller goes on, and counts.
    Aside,
    /// All that a refresh in the background asks, for which nobody waits.
    Refresh,
}

/// Judges entries by their age.
pub(super) struct Look<V> {
    pub(super) core: Arc<Core<V>>,
    pub(super) key: Arc<str>,
    pub(super) rules: Rules,
    pub(super) seen: Option<Seen<V>>,
    pub(super) progress: Arc<Progress>,
    pub(super) tally: Tally,
    pub(super) began: Began,
}

impl<V: Send + Sync + 'static> Look<V> {
    pub(super) fn new(core: &Arc<Core<V>>, key: &str, rules: Rules) -> Self {
        let (core, key, began) = (Arc::clone(core), key.into(), core.begins());
        Self { core, key, rules, seen: None, progress: Arc::default(), tally: Tally::Request, began }
    }

    /// The same for a caller that waits no longer for a read of its own.
    pub(super) fn aside(core: &Arc<Core<V>>, key: &str, rules: Rules) -> Self {
        Self { tally: Tally::Aside, ..Self::new(core, key, rules) }
    }

    /// Notes an entry for a failed or slow load; the newest one counts.
    pub(super) fn keep(&self, entry: Entry) {
        let mut kept = self.progress.kept.lock();
        let made = |entry: &Entry| entry.facts().map(|facts| facts.made);
        if kept.as_ref().is_none_or(|kept| made(kept) < made(&entry)) {
            *kept = Some(entry);
        }
    }

    /// Whether a refresh brought a value, its own or one that another instance has loaded.
    pub(super) fn has_newer(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.from != Source::Older)
    }

    fn see(&mut self, entry: &Entry, value: Option<Arc<V>>, verdict: Verdict, from: Source) {
        self.keep(entry.clone());
        self.seen = Some(Seen { entry: entry.clone(), value, verdict, from, is_old_copy: false });
    }
}

impl<V: Send + Sync + 'static> Judge for Look<V> {
    fn accept(&mut self, entry: Entry, from: Source) -> Option<Entry> {
        let (entry, value) = self.core.decoded(entry)?;
        let made = entry.facts().map_or(Moment::ORIGIN, |facts| facts.made);
        let verdict = match from {
            // Whoever waited for a load has waited for this, unless it had begun too early for a caller that refreshes.
            Source::Loader if self.rules.newer_than.is_some_and(|moment| made < moment) => return None,
            Source::Loader => Verdict::Fresh,
            // Another caller's rules let it pass.
            Source::Older if self.core.judge(&entry, &self.rules.freshness) == Verdict::Expired => return None,
            Source::Older => Verdict::StaleIfError,
            Source::Tier(_) => {
                let verdict = self.core.judge(&entry, &self.rules.freshness);
                if self.rules.newer_than.is_some_and(|moment| made <= moment.after(defaults::COPY_TOLERANCE)) {
                    if verdict != Verdict::Expired {
                        self.keep(entry);
                    }
                    return None;
                }
                let waits = verdict == Verdict::StaleIfError || verdict == Verdict::Stale && !self.rules.in_background;
                match verdict {
                    Verdict::Expired => return None,
                    _ if waits && self.core.may_load(&self.key, &self.rules.freshness) => {
                        self.keep(entry);
                        return None;
                    }
                    verdict => verdict,
                }
            }
        };
        self.see(&entry, value, verdict, from);
        Some(entry)
    }

    fn leads(&mut self) {
        self.progress.kept.lock().take();
    }

    fn asks_for_age(&self) -> bool {
        true
    }

    fn skips(&self, position: usize) -> bool {
        self.rules.skipped.contains(&position)
    }

    fn counts(&self, found: bool) -> bool {
        match self.tally {
            Tally::Request | Tally::Refresh => true,
            Tally::First => found,
            Tally::Aside => false,
        }
    }

    fn is_awaited(&self) -> bool {
        self.tally != Tally::Refresh
    }

    fn waits(&mut self, now: Moment) -> Moment {
        self.began.waits(now)
    }

    fn series(&self) -> Option<&Arc<Series>> {
        Some(&self.core.series)
    }
}

/// Takes what a tier below the first holds, to be copied up.
pub(super) struct Reread<V>(pub(super) Arc<Core<V>>);

impl<V: Send + Sync + 'static> Judge for Reread<V> {
    fn accept(&mut self, entry: Entry, from: Source) -> Option<Entry> {
        if from == Source::Tier(0) {
            return None;
        }
        let (entry, _) = self.0.decoded(entry)?;
        // What another tier of this process holds reflects no more than before, and is not to be read at every hit.
        let facts = Facts { reread: self.0.clock.now(), ..entry.facts()?.clone() };
        Some(entry.with_facts(facts))
    }

    fn asks_for_age(&self) -> bool {
        true
    }

    fn promotes(&self) -> bool {
        true
    }

    fn is_awaited(&self) -> bool {
        false
    }

    fn series(&self) -> Option<&Arc<Series>> {
        Some(&self.0.series)
    }
}

/// A look that loads what it does not find.
pub(super) struct Fetch<'a, V, E> {
    pub(super) look: Look<V>,
    pub(super) loader: Option<Loader<'a, V, E>>,
}

impl<V: Send + Sync + 'static, E: Send + Sync + 'static> Judge for Fetch<'_, V, E> {
    fn accept(&mut self, entry: Entry, from: Source) -> Option<Entry> {
        self.look.accept(entry, from)
    }

    fn leads(&mut self) {
        self.look.leads();
    }

    fn asks_for_age(&self) -> bool {
        true
    }

    fn skips(&self, position: usize) -> bool {
        self.look.skips(position)
    }

    fn is_awaited(&self) -> bool {
        self.look.is_awaited()
    }

    fn waits(&mut self, now: Moment) -> Moment {
        self.look.waits(now)
    }

    fn series(&self) -> Option<&Arc<Series>> {
        self.look.series()
    }
}

impl<V: Send + Sync + 'static, E: Send + Sync + 'static> Load for Fetch<'_, V, E> {
    fn load(&mut self) -> BoxFuture<'_, CacheResult<Made>> {
        Box::pin(async move {
            let began = self.look.core.clock.now();
            let span = Telemetry::load_span(&self.look.core.series);
            let made = self.load_once().instrument(span).await;
            let core = &self.look.core;
            core.engine.telemetry().loaded(&core.series, began, made.is_ok());
            match made {
                Ok(made) => {
                    core.load_succeeded(&self.look.key);
                    Ok(made)
                }
                Err(error) => {
                    core.load_failed(&self.look.key, &self.look.rules.freshness);
                    self.instead(error)
                }
            }
        })
    }

    fn instead(&mut self, error: CacheError) -> CacheResult<Made> {
        let kept = self.look.core.kept(&self.look.progress, &self.look.rules.freshness);
        let (entry, value) = kept.ok_or(error)?;
        self.look.see(&entry, value, Verdict::StaleIfError, Source::Older);
        Ok(Made { entry, stay: Stay::Older })
    }
}

impl<V: Send + Sync + 'static, E: Send + Sync + 'static> Fetch<'_, V, E> {
    async fn load_once(&mut self) -> CacheResult<Made> {
        let Some(loader) = self.loader.take() else {
            return Err(CacheError::InternalError("a loader was asked for a second value".into()));
        };
        let (core, rules) = (Arc::clone(&self.look.core), self.look.rules.clone());
        let kept = self.look.progress.kept.lock().clone();
        let previous = kept.clone().and_then(|entry| core.decoded(entry));
        let validator = kept.as_ref().and_then(|entry| entry.facts()?.validator.clone());
        let context = LoadContext { previous: previous.as_ref().and_then(|(_, value)| value.clone()), validator };
        core.counters.loads.one();
        self.look.progress.loading.store(true, Ordering::Release);
        let began = core.clock.now();
        let patience = rules.freshness.load_patience();
        // The loader may panic before it gives its future, too.
        let loading = AssertUnwindSafe(async { loader(context).await }).catch_unwind();
        let loaded = match within(patience, loading).await {
            Some(Ok(Ok(loaded))) => loaded,
            Some(Err(panic)) => return Err(panicked(panic.as_ref())),
            Some(Ok(Err(LoadError::Load(error)))) => {
                let failure = Failure::new("the loader failed").during("load").carrying(error);
                return Err(CacheError::BackendError(failure));
            }
            Some(Ok(Err(LoadError::Cache(error)))) => return Err(error),
            Some(Ok(Err(LoadError::TimedOut(after)))) => return Err(late(after)),
            None => return Err(late(patience.unwrap_or_default())),
        };
        self.made(loaded, began, previous)
    }

    fn made(
        &mut self,
        loaded: Loaded<V>,
        began: Moment,
        previous: Option<(Entry, Option<Arc<V>>)>,
    ) -> CacheResult<Made> {
        let (core, rules) = (Arc::clone(&self.look.core), &self.look.rules);
        let Loaded { outcome, ttl, tags, validator, stored } = loaded;
        let (now, draw) = (core.clock.now(), fastrand::f64());
        let freshness = ttl.map_or(*rules.freshness, |ttl| rules.freshness.with_ttl(ttl));
        let (value, times, remembered, validator) = match outcome {
            Outcome::Value(value) => (Some(Arc::new(value)), freshness.times(began, now, draw), true, validator),
            Outcome::Absent => {
                let freshness = ttl.map_or(freshness, |ttl| freshness.with_negative_ttl(ttl));
                let times = freshness.negative_times(began, now, draw);
                (None, times.unwrap_or_else(|| freshness.times(began, now, draw)), times.is_some(), validator)
            }
            Outcome::NotModified => {
                let Some((entry, Some(value))) = previous else {
                    let message = "Loaded::not_modified without a previous value; answer it only if \
                                   LoadContext::previous is Some";
                    return Err(CacheError::ConfigError(message.into()));
                };
                core.counters.not_modified.one();
                let known = entry.facts().and_then(|facts| facts.validator.clone());
                (Some(value), freshness.times(began, now, draw), true, validator.or(known))
            }
        };
        let tags = tags.map_or_else(|| Arc::clone(&rules.tags), Into::into);
        core.engine.check_tags(&tags)?;
        let entry = core.entry(value.clone(), &times, validator, &tags);
        let left = times.expires.since(now);
        let stay = if stored && remembered && rules.stores && !left.is_zero() { Stay::For(left) } else { Stay::Not };
        self.look.see(&entry, value, Verdict::Fresh, Source::Loader);
        Ok(Made { entry, stay })
    }
}
