//! What the verbs of one typed cache share: its engine, its format, its rules, and what it remembers of loads.

use std::any::type_name;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::bulk::Bulk;
use super::fetch::{Fetch, Loader, Look, Progress, Reread, Rules, Tally};
use super::key::Beginning;
use super::loaded::Fetched;
use super::stats::{Count, Counters};
use crate::clock::{Clock, Moment, Tick};
use crate::defaults;
use crate::engine::{Engine, Given, Keep, Reader, Source, Wanted};
use crate::entry::{Encode, Entry, Facts, Object, Tag};
use crate::error::{CacheError, CacheResult};
use crate::policy::{Freshness, Lifespan, Throttle, Times, Verdict};
use crate::serialization::Codec;
use crate::telemetry::{Activity, Began, Operation, Series};
use crate::wire::envelope::fingerprint;

pub(super) struct Core<V> {
    pub(super) engine: Arc<Engine>,
    pub(super) name: Arc<str>,
    /// What every key begins with.
    pub(super) beginning: Beginning,
    pub(super) freshness: Arc<Freshness>,
    pub(super) tags: Arc<[Tag]>,
    pub(super) counters: Counters,
    /// Under which this cache is told.
    pub(super) series: Arc<Series>,
    pub(super) clock: Clock,
    /// Whether a fresh value in process may be due for something as well.
    watches_age: bool,
    codec: Arc<dyn Codec<V>>,
    encode: Encode,
    schema: u64,
    /// Keys that are being refreshed in the background.
    refreshing: Mutex<HashSet<Arc<str>>>,
    failures: Mutex<HashMap<Arc<str>, Throttle>>,
}

/// What one read makes of an entry.
pub(super) struct Seen<V> {
    pub(super) entry: Entry,
    pub(super) value: Option<Arc<V>>,
    pub(super) verdict: Verdict,
    pub(super) from: Source,
    /// It is a copy in process that is due to be read anew from below.
    pub(super) is_old_copy: bool,
}

impl<V: Send + Sync + 'static> Core<V> {
    pub(super) fn new(
        engine: Arc<Engine>,
        name: &str,
        freshness: Arc<Freshness>,
        tags: Arc<[Tag]>,
        codec: Arc<dyn Codec<V>>,
        type_and_version: (Option<&str>, u32),
    ) -> Self {
        let encoder = Arc::clone(&codec);
        let encode: Encode = Arc::new(move |object: &Object| match object.downcast_ref::<V>() {
            Some(value) => encoder.encode(value),
            None => Err(CacheError::InternalError("an object is not of the type it was stored as".into())),
        });
        let (beginning, counters) = (Beginning::new(name), Counters::new(engine.lend_counter()));
        let series = engine.telemetry().series(name, &beginning);
        series.add(counters.source());
        Self {
            beginning,
            name: name.into(),
            watches_age: freshness.watches_age(),
            freshness,
            tags,
            counters,
            series,
            clock: engine.clock().clone(),
            engine,
            codec,
            encode,
            schema: fingerprint(type_and_version.0.unwrap_or(type_name::<V>()), type_and_version.1),
            refreshing: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// An entry of this cache with its value decoded; `None`, counted, if it is of another type, schema or format.
    pub(super) fn decoded(&self, entry: Entry) -> Option<(Entry, Option<Arc<V>>)> {
        let decoded = self.decode(entry);
        if decoded.is_none() {
            self.counters.rejected.one();
        }
        decoded
    }

    fn decode(&self, entry: Entry) -> Option<(Entry, Option<Arc<V>>)> {
        let facts = entry.facts().filter(|facts| facts.schema == self.schema)?;
        if facts.absent {
            return Some((entry, None));
        }
        if let Some(value) = entry.object_as::<V>() {
            return Some((entry, Some(value)));
        }
        if facts.codec != self.codec.id() {
            return None;
        }
        let value = Arc::new(self.codec.decode(&entry.bytes().ok()?).ok()?);
        Some((entry.with_object(Arc::clone(&value) as Object).ok()?, Some(value)))
    }

    /// The value of an entry in process that is decoded and fresh, with nothing to be done after it. `None` within is a
    /// remembered absence.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a part of every hit")]
    #[expect(clippy::option_option, reason = "that there is no value is an answer too")]
    pub(super) fn fresh(&self, entry: &Entry, tick: Tick<'_>) -> Option<Option<Arc<V>>> {
        if self.watches_age {
            let fresh = |seen: &Seen<V>| seen.verdict == Verdict::Fresh && !seen.is_old_copy;
            let seen = self.glance(entry.clone()).filter(fresh)?;
            if tick.is_sampled() {
                self.sample_age(&seen.entry, tick);
            }
            return Some(seen.value);
        }
        let facts = entry.facts()?;
        if facts.schema != self.schema || tick.has_passed(facts.fresh_until) {
            return None;
        }
        let value = if facts.absent { None } else { Some(entry.object_as::<V>()?) };
        if tick.is_sampled() {
            self.sample_age(entry, tick);
        }
        Some(value)
    }

    /// Tells how old a hit is, one of those that are sampled.
    #[cold]
    fn sample_age(&self, entry: &Entry, tick: Tick<'_>) {
        if let Some(facts) = entry.facts() {
            self.series.aged(tick.roughly().since(facts.made), tick.slice());
        }
    }

    /// A read begins.
    pub(super) fn begins(&self) -> Began {
        self.engine.telemetry().at_once()
    }

    /// A read is answered with what it has seen.
    pub(super) fn answered(&self, seen: &Seen<V>, began: Began) {
        let tick = self.clock.tick();
        if matches!(seen.from, Source::Tier(_)) && tick.is_sampled() {
            self.sample_age(&seen.entry, tick);
        }
        let counters = &self.counters;
        let (counter, activity) = match (seen.from, seen.verdict) {
            (Source::Loader, _) => (&counters.misses, Activity::Miss),
            (Source::Older, _) => (&counters.load_failed, Activity::Fallback),
            (_, Verdict::StaleIfError | Verdict::Expired) => (&counters.throttled, Activity::Fallback),
            (Source::Tier(_), Verdict::Stale) => (&counters.stale_hits, Activity::Hit),
            (Source::Tier(_), Verdict::Fresh | Verdict::RefreshEarly) => (&counters.hits, Activity::Hit),
        };
        self.read_ended(counter, activity, began);
    }

    /// A read is answered that nobody had a value for.
    pub(super) fn missed(&self, began: Began) {
        self.read_ended(&self.counters.misses, Activity::Miss, began);
    }

    /// A read that began then is answered, with a stale value or not, for its load takes longer than it may.
    pub(super) fn answered_late(&self, stale: bool, began: Moment) {
        let began = Began::Waiting(began);
        if stale {
            self.read_ended(&self.counters.load_slow, Activity::Fallback, began);
        } else {
            self.read_ended(&self.counters.hits, Activity::Hit, began);
        }
    }

    fn read_ended(&self, counter: &Count, activity: Activity, began: Began) {
        counter.one();
        let (telemetry, what) = (self.engine.telemetry(), (Operation::Get, activity));
        telemetry.tell(&self.series, what, telemetry.elapsed(&self.series, what, began));
    }

    /// A read ended with an error.
    pub(super) fn failed(&self, began: Began) {
        let (telemetry, what) = (self.engine.telemetry(), (Operation::Get, Activity::Error));
        telemetry.ended(&self.series, what, 1, telemetry.elapsed(&self.series, what, began));
    }

    /// A refresh in the background ended, and brought a value or not.
    fn refreshed(&self, brought: bool) {
        let activity = if brought { Activity::RefreshHit } else { Activity::RefreshMiss };
        self.engine.telemetry().note(&self.series, Operation::Refresh, activity, 1);
    }

    /// An entry in process that is decoded and may be answered at once.
    pub(super) fn glance(&self, entry: Entry) -> Option<Seen<V>> {
        let freshness = &*self.freshness;
        let facts = entry.facts().filter(|facts| facts.schema == self.schema)?;
        let value = if facts.absent { None } else { Some(entry.object_as::<V>()?) };
        let verdict = self.judge(&entry, freshness);
        let is_old_copy = freshness.rereads_below(entry.born().max(facts.reread), || self.clock.now());
        (verdict <= Verdict::Stale).then_some(Seen { entry, value, verdict, from: Source::Tier(0), is_old_copy })
    }

    /// What was kept for a slow or failed load, decoded, if these rules still allow it.
    pub(super) fn kept(&self, progress: &Progress, freshness: &Freshness) -> Option<(Entry, Option<Arc<V>>)> {
        let kept = progress.kept.lock().clone()?;
        let usable = self.judge(&kept, freshness) != Verdict::Expired;
        usable.then(|| self.decoded(kept)).flatten()
    }

    /// A new entry; `None` stands for absence.
    pub(super) fn entry(
        &self,
        value: Option<Arc<V>>,
        times: &Times,
        validator: Option<Arc<str>>,
        tags: &[Tag],
    ) -> Entry {
        let facts = self.facts(times, validator);
        match value {
            Some(value) => Entry::from_object(value, Arc::clone(&self.encode), Moment::NEVER).with_facts(facts),
            None => Entry::absent(facts),
        }
        .tagged(tags)
    }

    pub(super) fn facts(&self, times: &Times, validator: Option<Arc<str>>) -> Facts {
        Facts {
            made: times.made,
            fresh_until: times.fresh_until,
            reread: Moment::ORIGIN,
            cost: times.cost,
            absent: false,
            validator,
            codec: self.codec.id(),
            schema: self.schema,
        }
    }

    /// What a reader does with an entry under these rules.
    pub(super) fn judge(&self, entry: &Entry, freshness: &Freshness) -> Verdict {
        let Some(facts) = entry.facts() else { return Verdict::Expired };
        if !freshness.has_early_refresh() && !self.clock.has_passed(facts.fresh_until) {
            return Verdict::Fresh;
        }
        // However long its tier keeps it, absence has no window.
        let expires = if facts.absent { facts.fresh_until.min(entry.expires()) } else { entry.expires() };
        let times = Times { made: facts.made, fresh_until: facts.fresh_until, expires, cost: facts.cost };
        freshness.judge(&times, self.clock.now(), fastrand::f64())
    }

    pub(super) fn fetched(&self, entry: &Entry, value: Option<Arc<V>>) -> Fetched<V> {
        let now = self.clock.now();
        let (made, fresh_until) = entry.facts().map_or((now, now), |facts| (facts.made, facts.fresh_until));
        Fetched { value, age: now.since(made), stale: fresh_until <= now }
    }

    /// Whether a load of `key` may be tried while there is something to answer without it.
    pub(super) fn may_load(&self, key: &str, freshness: &Freshness) -> bool {
        let failures = self.failures.lock();
        let allows = |throttle: &Throttle| throttle.allows(self.clock.now(), freshness.error_throttle());
        failures.get(key).is_none_or(allows)
    }

    pub(super) fn load_failed(&self, key: &Arc<str>, freshness: &Freshness) {
        self.counters.failed_loads.one();
        let (now, pause) = (self.clock.now(), freshness.error_throttle());
        if pause.is_zero() {
            return;
        }
        let mut failures = self.failures.lock();
        if failures.len() >= defaults::THROTTLED_KEYS {
            failures.retain(|_, throttle| !throttle.allows(now, pause));
        }
        if failures.len() < defaults::THROTTLED_KEYS {
            failures.entry(Arc::clone(key)).or_default().failed(now);
        }
    }

    pub(super) fn load_succeeded(&self, key: &str) {
        if let Some(throttle) = self.failures.lock().get_mut(key) {
            throttle.succeeded();
        }
    }

    /// Loads a value anew in the background, if it may be and nobody does.
    pub(super) fn refresh<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        key: &str,
        rules: Rules,
        old: &Entry,
        loader: Loader<'static, V, E>,
    ) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Some((refreshing, mut fetch)) = self.due(key, rules, old, loader) else { return };
        runtime.spawn(async move {
            // A failure is counted, throttled, and known to whoever asks once the value may not be answered any more.
            let read = refreshing.core.read(&mut fetch).await;
            refreshing.core.refreshed(read.is_ok() && fetch.look.has_newer());
        });
    }

    /// The load that is to replace a value, and the right to it.
    fn due<E>(
        self: &Arc<Self>,
        key: &str,
        rules: Rules,
        old: &Entry,
        loader: Loader<'static, V, E>,
    ) -> Option<(Refreshing<V>, Fetch<'static, V, E>)> {
        let refreshing = self.begin_refresh(key)?;
        // Asked only now: a refresh that ended just before has told whether it failed.
        if !self.may_load(key, &rules.freshness) {
            return None;
        }
        self.counters.refreshes.one();
        let rules = Rules { newer_than: old.facts().map(|facts| facts.made), ..rules };
        let look = Look { tally: Tally::Refresh, ..Look::new(self, key, rules) };
        Some((refreshing, Fetch { look, loader: Some(loader) }))
    }

    /// The same for many values of one loader, which is asked for all of them at once.
    pub(super) fn refresh_many<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        rules: &Rules,
        old: Vec<(Arc<str>, Entry)>,
        bulk: Arc<Bulk<V, E>>,
    ) {
        let Ok(runtime) = Handle::try_current() else { return };
        let due = |(place, (key, entry)): (usize, (Arc<str>, Entry))| {
            let (refreshing, fetch) = self.due(&key, rules.clone(), &entry, bulk.share(place))?;
            Some((refreshing, (place, fetch)))
        };
        let (refreshing, mut fetches): (Vec<_>, Vec<_>) = old.into_iter().enumerate().filter_map(due).unzip();
        let core = Arc::clone(self);
        runtime.spawn(async move {
            let _refreshing = refreshing;
            let reads = core.read_many(&mut fetches, &bulk).await;
            for ((_, fetch), read) in fetches.iter().zip(reads) {
                core.refreshed(read.is_ok() && fetch.look.has_newer());
            }
        });
    }

    /// Reads a value anew from the tiers below the first in the background, if nobody does.
    pub(super) fn reread(self: &Arc<Self>, key: &str) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(rereading) = self.begin_refresh(key) else { return };
        runtime.spawn(async move {
            let core = &rereading.core;
            // An outage leaves the copy as it is.
            let read = core.engine.read(&rereading.key, Wanted::Judged(&mut Reread(Arc::clone(core)))).await;
            core.refreshed(read.is_ok_and(|hit| hit.is_some()));
        });
    }

    /// Reads from the tiers, and loads what they do not have.
    pub(super) async fn read<E: Send + Sync + 'static>(&self, fetch: &mut Fetch<'_, V, E>) -> CacheResult<()> {
        let (key, rules) = (Arc::clone(&fetch.look.key), fetch.look.rules.clone());
        let span = Lifespan { ttl: rules.freshness.ttl(), rules: Some(&rules.freshness) };
        let keep = Keep { span, tags: &rules.tags };
        self.engine.read(&key, Wanted::Loaded(fetch, keep)).await.map(drop)
    }

    /// The same for many keys, each with its place in what `bulk` loads. Answers in their order.
    pub(super) async fn read_many<E: Send + Sync + 'static>(
        &self,
        fetches: &mut [(usize, Fetch<'static, V, E>)],
        bulk: &Bulk<V, E>,
    ) -> Vec<CacheResult<()>> {
        let Some(rules) = fetches.first().map(|(_, fetch)| fetch.look.rules.clone()) else { return Vec::new() };
        let span = Lifespan { ttl: rules.freshness.ttl(), rules: Some(&rules.freshness) };
        let keep = Keep { span, tags: &rules.tags };
        let readers = fetches.iter_mut().map(|(place, fetch)| {
            let key = Arc::clone(&fetch.look.key);
            Reader { place: *place, key, wanted: Wanted::Loaded(fetch, keep), given: Given::default() }
        });
        let mut readers: Vec<Reader<'_>> = readers.collect();
        self.engine.read_many(&mut readers, &|places| bulk.begin(places)).await;
        readers.into_iter().map(outcome).collect()
    }

    /// Looks into the tiers for many keys. Answers in their order.
    pub(super) async fn look_at_many(&self, looks: &mut [Look<V>]) -> Vec<CacheResult<()>> {
        let readers = looks.iter_mut().enumerate().map(|(place, look)| {
            let key = Arc::clone(&look.key);
            Reader { place, key, wanted: Wanted::Judged(look), given: Given::default() }
        });
        let mut readers: Vec<Reader<'_>> = readers.collect();
        self.engine.read_many(&mut readers, &|_| {}).await;
        readers.into_iter().map(outcome).collect()
    }

    pub(super) fn is_refreshing(&self, key: &str) -> bool {
        self.refreshing.lock().contains(key)
    }

    /// The right to refresh `key` in the background, if nobody has it and there are not too many refreshes already.
    fn begin_refresh(self: &Arc<Self>, key: &str) -> Option<Refreshing<V>> {
        let key: Arc<str> = key.into();
        let mut refreshing = self.refreshing.lock();
        let begins = refreshing.len() < defaults::REFRESHES && refreshing.insert(Arc::clone(&key));
        begins.then(|| Refreshing { core: Arc::clone(self), key })
    }
}

impl<V> Drop for Core<V> {
    fn drop(&mut self) {
        self.engine.take_back(&self.counters.fresh_hits);
        self.series.end(&self.counters.source());
    }
}

/// How the read of one key of a batch ended.
fn outcome(reader: Reader<'_>) -> CacheResult<()> {
    let unanswered = || Err(CacheError::InternalError("a key of a batch was left without an answer".into()));
    reader.given.answer.unwrap_or_else(unanswered).map(drop)
}

/// A key that is being refreshed, until this is dropped.
struct Refreshing<V> {
    core: Arc<Core<V>>,
    key: Arc<str>,
}

impl<V> Drop for Refreshing<V> {
    fn drop(&mut self) {
        self.core.refreshing.lock().remove(&self.key);
    }
}
