//! Verbs on many keys of a typed cache.

use std::borrow::Borrow;
use std::future::Future;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use futures_util::future::Either;
use futures_util::stream::{self, StreamExt};

use super::bulk::{Bulk, BulkLoader};
use super::core::Seen;
use super::fetch::{Look, Progress, Rules, Tally};
use super::work::{self, Many};
use super::{Cache, CacheKey, CallOptions, LoadError};
use crate::clock::Moment;
use crate::coordinator::Position;
use crate::defaults;
use crate::engine::{Judge as _, Source};
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::policy::Verdict;

/// The keys of one call in their order, and the answer of each.
struct Asked<V> {
    order: Vec<Arc<str>>,
    answers: HashMap<Arc<str>, Option<Arc<V>>>,
}

/// What this process has of a key.
enum Here<V> {
    Seen(Seen<V>),
    /// A look that knows what is there and too old.
    Missed(Look<V>),
}

/// What a batch with a loader has come to.
struct Batch<K, V> {
    asked: Asked<V>,
    /// No tier of this process has a value that may be answered.
    missed: Vec<(K, Look<V>)>,
    /// They are answered, and to be loaded anew in the background.
    due: Vec<(K, Arc<str>, Entry)>,
}

/// What became of the keys that no tier of this process has.
enum Missed<V, E> {
    Ended(Many<V, E>),
    /// The load takes longer than its caller waits.
    Kept(Vec<(Arc<str>, Option<Arc<V>>)>),
}

/// A key and its entry, decoded.
type Kept<V> = (Arc<str>, (Entry, Option<Arc<V>>));

impl<K, V: Send + Sync + 'static> Cache<K, V> {
    /// The values of `keys`, in their order, each as [`get`](Self::get) answers it; a key that comes twice is read
    /// once. A shared tier is asked for all keys at once: up to 1,000 of them in one round trip.
    ///
    /// # Errors
    /// `BackendError` if no tier has one of the keys and one of them could not be asked.
    pub async fn get_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> CacheResult<Vec<Option<Arc<V>>>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized + 'a,
    {
        let (rules, mut asked) = (self.rules(&CallOptions::default()), Asked::new());
        let mut looks = Vec::new();
        for key in keys {
            let Some(key) = asked.first_time(&self.key(key)) else { continue };
            match self.hit(&key) {
                Some(seen) => {
                    if seen.is_old_copy {
                        self.core.reread(&key);
                    }
                    asked.answer(&key, seen.value);
                }
                None => looks.push(Look::new(&self.core, &key, rules.clone())),
            }
        }
        for looks in looks.chunks_mut(defaults::BATCH_KEYS) {
            let outcomes = self.core.look_at_many(looks).await;
            let failed = outcomes.iter().zip(&*looks).filter(|(outcome, _)| outcome.is_err());
            failed.for_each(|(_, look)| self.core.failed(look.began));
            outcomes.into_iter().collect::<CacheResult<()>>()?;
        }
        for mut look in looks {
            match look.seen.take().filter(|seen| seen.verdict <= Verdict::Stale) {
                Some(seen) => asked.answer(&look.key, self.counted(seen, look.began).value),
                None => self.core.missed(look.began),
            }
        }
        Ok(asked.in_order())
    }

    /// The values of `keys`, in their order; those that no tier has are loaded by `load`, all in one call. A key that
    /// it answers no pair for has no value: `None`, remembered if the cache has a
    /// [negative TTL](crate::Freshness::with_negative_ttl). Pairs that it was not asked for are ignored.
    ///
    /// Each key is loaded once, however many calls of whatever kind ask for it: those that another call is loading are
    /// waited for. `load` is called again only for keys whose other loader was cancelled, is in another instance and
    /// takes too long, or gave a value that may not be answered here; and, in the background, for all that are stale.
    /// It is not told of [previous values](crate::cache::LoadContext).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> multi_tier_cache::CacheResult<()> {
    /// # use multi_tier_cache::{Cache, CacheError, CacheSystemBuilder, DashMapCache};
    /// # let system = CacheSystemBuilder::new().with_l2(std::sync::Arc::new(DashMapCache::new())).build().await?;
    /// # async fn names(ids: Vec<u64>) -> Result<Vec<(u64, String)>, CacheError> {
    /// #     Ok(ids.into_iter().filter(|id| *id < 10).map(|id| (id, format!("user {id}"))).collect())
    /// # }
    /// let users: Cache<u64, String> = system.cache("users")?;
    /// let found = users.get_or_load_many(&[7, 99, 7], names).await.unwrap();
    /// assert_eq!(found[0].as_deref(), Some(&"user 7".to_owned()));
    /// assert_eq!((found[1].is_none(), &found[0]), (true, &found[2]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Deadlines
    /// The [deadlines](crate::Freshness::with_load_deadlines) of a load hold for the whole call of `load`. At the soft one
    /// the keys that are waited for are answered with their stale values, if a window allows one for each of them, and the
    /// load goes on in the background; otherwise all are waited for.
    ///
    /// # Cancellation
    /// Once `load` has been called it goes on in a task of its own, and what it brings is stored, but for keys that were
    /// invalidated meanwhile.
    ///
    /// # Errors
    /// [`LoadError`] if a key could not be had: an error of `load` reaches every key that it was called for, and
    /// whoever waits for one, except where an older value may be answered instead
    /// ([`with_stale_if_error`](crate::Freshness::with_stale_if_error)). What could be had is stored, and a hit for the
    /// next call.
    pub async fn get_or_load_many<'a, Q, E, F, Fut, R>(
        &self,
        keys: impl IntoIterator<Item = &'a Q>,
        load: F,
    ) -> Result<Vec<Option<Arc<V>>>, LoadError<E>>
    where
        K: Borrow<Q> + Clone + Send + Sync + 'static,
        Q: CacheKey + ToOwned<Owned = K> + ?Sized + 'a,
        E: Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoIterator<Item = (K, V)>,
    {
        let (rules, load) = (self.rules(&CallOptions::default()), Arc::new(load));
        let mut batch = Batch { asked: Asked::new(), missed: Vec::new(), due: Vec::new() };
        for key in keys {
            let Some(text) = batch.asked.first_time(&self.key(key)) else { continue };
            match self.look_here(&text, &rules) {
                Here::Seen(seen) => self.seen(&mut batch, key.to_owned(), &text, seen),
                Here::Missed(look) => batch.missed.push((key.to_owned(), look)),
            }
        }
        self.look_below(&mut batch).await;
        let mut outcome = Ok(());
        if !batch.missed.is_empty() {
            let (keys, looks): (Vec<K>, Vec<_>) = std::mem::take(&mut batch.missed).into_iter().unzip();
            let bulk = Bulk::new(Self::bulk_loader::<Q, E, F, Fut, R>(keys.clone(), &load));
            match self.load_missed(&rules, looks, bulk).await? {
                Missed::Kept(values) => values.into_iter().for_each(|(key, value)| batch.asked.answer(&key, value)),
                Missed::Ended(ended) => {
                    for (key, (mut fetch, ended)) in keys.into_iter().zip(ended) {
                        match fetch.look.seen.take() {
                            Some(seen) if ended.is_ok() => {
                                let seen = self.counted(seen, fetch.look.began);
                                self.seen(&mut batch, key, &fetch.look.key, seen);
                            }
                            _ => {
                                self.core.failed(fetch.look.began);
                                outcome = outcome.and(ended.and(Err(without_value())));
                            }
                        }
                    }
                }
            }
        }
        if !batch.due.is_empty() {
            let (keys, old) = batch.due.into_iter().map(|(key, text, entry)| (key, (text, entry))).unzip();
            let bulk = Bulk::new(Self::bulk_loader::<Q, E, F, Fut, R>(keys, &load));
            self.core.refresh_many(&rules, old, bulk);
        }
        outcome?;
        Ok(batch.asked.in_order())
    }

    /// What is in process and may be answered, decoded if it has to be.
    fn look_here(&self, key: &str, rules: &Rules) -> Here<V> {
        if let Some(seen) = self.hit(key) {
            return Here::Seen(seen);
        }
        let mut look = Look::new(&self.core, key, rules.clone());
        let _ = self.core.engine.hit(key, |entry| look.accept(entry, Source::Tier(0)));
        match look.seen.take() {
            Some(seen) => Here::Seen(self.counted(seen, look.began)),
            None => Here::Missed(look),
        }
    }

    /// A refresh ends its flight with its load; what it is to replace is answered meanwhile.
    async fn look_below(&self, batch: &mut Batch<K, V>) {
        let missed = std::mem::take(&mut batch.missed).into_iter();
        let (refreshing, missed): (Vec<_>, Vec<_>) = missed.partition(|(_, look)| self.core.is_refreshing(&look.key));
        batch.missed = missed;
        let (keys, mut looks): (Vec<K>, Vec<_>) = refreshing.into_iter().unzip();
        looks.iter_mut().for_each(|look| look.tally = Tally::First);
        for looks in looks.chunks_mut(defaults::BATCH_KEYS) {
            // An outage is for the read that may load.
            self.core.look_at_many(looks).await;
        }
        for (key, mut look) in keys.into_iter().zip(looks) {
            match look.seen.take() {
                Some(seen) => {
                    let seen = self.counted(seen, look.began);
                    self.seen(batch, key, &Arc::clone(&look.key), seen);
                }
                None => batch.missed.push((key, look)),
            }
        }
    }

    /// Reads what no tier of this process has, and loads what no other has, for no longer than older values allow.
    async fn load_missed<E: Send + Sync + 'static>(
        &self,
        rules: &Rules,
        looks: Vec<Look<V>>,
        bulk: Arc<Bulk<V, E>>,
    ) -> CacheResult<Missed<V, E>> {
        let began = self.core.clock.now();
        let waiting: Vec<_> = looks.iter().map(|look| (Arc::clone(&look.key), Arc::clone(&look.progress))).collect();
        let mut work = work::begin_many(&self.core, &rules.freshness, looks, bulk);
        if let Some(soft) = rules.freshness.soft_patience() {
            if let Some(ended) = work.within(soft).await {
                return Ok(Missed::Ended(ended?));
            }
            match work.beside(self.kept_of_all(waiting, rules)).await {
                Either::Left(Some(kept)) => return Ok(Missed::Kept(self.count_kept(kept, began, work.goes_on()))),
                Either::Left(None) => {}
                Either::Right(ended) => return Ok(Missed::Ended(ended?)),
            }
        }
        Ok(Missed::Ended(work.end().await?))
    }

    /// A value for each of these keys, if there is one that may be answered to a caller that waits no longer.
    async fn kept_of_all(&self, waiting: Vec<(Arc<str>, Arc<Progress>)>, rules: &Rules) -> Option<Vec<Kept<V>>> {
        let (mut kept, mut looks) = (Vec::new(), Vec::new());
        for (key, progress) in waiting {
            match self.core.kept(&progress, &rules.freshness) {
                Some(found) => kept.push((key, found)),
                None => looks.push(Look::aside(&self.core, &key, rules.clone())),
            }
        }
        for looks in looks.chunks_mut(defaults::BATCH_KEYS) {
            self.core.look_at_many(looks).await;
        }
        for look in looks {
            kept.push((look.key, self.core.kept(&look.progress, &rules.freshness)?));
        }
        Some(kept)
    }

    /// Counts what is answered at a soft deadline. The read of a key that was not found fresh has not ended, and counts
    /// by itself only if it goes on.
    fn count_kept(&self, kept: Vec<Kept<V>>, began: Moment, goes_on: bool) -> Vec<(Arc<str>, Option<Arc<V>>)> {
        let counted = |(key, (entry, value)): Kept<V>| {
            let (core, stale) = (&self.core, entry.is_stale(self.core.clock.tick()));
            core.answered_late(stale, began);
            if stale && !goes_on {
                core.engine.gave_up();
            }
            (key, value)
        };
        kept.into_iter().map(counted).collect()
    }

    /// Notes an answer, and whether it is to be loaded anew.
    fn seen(&self, batch: &mut Batch<K, V>, key: K, text: &Arc<str>, seen: Seen<V>) {
        let Seen { entry, value, verdict, from, is_old_copy } = seen;
        if let (Verdict::RefreshEarly | Verdict::Stale, Source::Tier(_)) = (verdict, from) {
            batch.due.push((key, Arc::clone(text), entry));
        } else if is_old_copy {
            self.core.reread(text);
        }
        batch.asked.answer(text, value);
    }

    /// `load` for keys that go by their places among these.
    fn bulk_loader<Q, E, F, Fut, R>(keys: Vec<K>, load: &Arc<F>) -> BulkLoader<V, E>
    where
        K: Borrow<Q> + Clone + Send + Sync + 'static,
        Q: CacheKey + ?Sized,
        E: Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoIterator<Item = (K, V)>,
    {
        let (load, keys) = (Arc::clone(load), Arc::new(keys));
        Arc::new(move |places| {
            let (load, keys) = (Arc::clone(&load), Arc::clone(&keys));
            Box::pin(async move {
                let text = |key: &K| key.borrow().key_text();
                let asked = places.iter().filter_map(|place| keys.get(*place).cloned()).collect();
                let pairs = load(asked).await?;
                let known = places.iter().filter_map(|place| Some((text(keys.get(*place)?), *place)));
                let known: HashMap<String, usize> = known.collect();
                Ok(pairs.into_iter().filter_map(|(key, value)| Some((*known.get(&text(&key))?, value))).collect())
            })
        })
    }

    /// Replaces the values of several keys, as [`insert`](Self::insert) does: one put for each, at most 256 at a time,
    /// side by side. Of a key that comes twice the last value stays. Answers the latest of their places in the log;
    /// `None` without a bus.
    ///
    /// # Errors
    /// Those of [`insert`](Self::insert): the first, once all puts have ended. The others have taken effect.
    pub async fn insert_many<'a, Q, T>(
        &self,
        pairs: impl IntoIterator<Item = (&'a Q, T)>,
    ) -> CacheResult<Option<Position>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized + 'a,
        T: Into<Arc<V>>,
    {
        let mut values: HashMap<Arc<str>, Arc<V>> = HashMap::new();
        for (key, value) in pairs {
            values.insert(Arc::from(&*self.key(key)), value.into());
        }
        let put = |(key, value): (Arc<str>, _)| async move { self.put(&key, value, &CallOptions::default()).await };
        let puts: Vec<_> = values.into_iter().map(put).collect();
        let (mut latest, mut outcome): (Option<Position>, _) = (None, Ok(()));
        let mut puts = stream::iter(puts).buffer_unordered(defaults::BATCH_WIDTH);
        while let Some(put) = puts.next().await {
            match put {
                Ok(position) => latest = latest.into_iter().chain(position).max_by_key(|position| position.seq),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| latest)
    }
}

impl<V> Asked<V> {
    fn new() -> Self {
        Self { order: Vec::new(), answers: HashMap::new() }
    }

    /// Notes a key; answers it if it was not there yet.
    fn first_time(&mut self, key: &str) -> Option<Arc<str>> {
        let known = self.answers.get_key_value(key).map(|(known, _)| Arc::clone(known));
        let is_new = known.is_none();
        let key = known.unwrap_or_else(|| key.into());
        self.order.push(Arc::clone(&key));
        is_new.then(|| {
            self.answers.insert(Arc::clone(&key), None);
            key
        })
    }

    fn answer(&mut self, key: &str, value: Option<Arc<V>>) {
        if let Some(answer) = self.answers.get_mut(key) {
            *answer = value;
        }
    }

    fn in_order(self) -> Vec<Option<Arc<V>>> {
        self.order.iter().map(|key| self.answers.get(key).cloned().flatten()).collect()
    }
}

fn without_value() -> CacheError {
    CacheError::InternalError("a load ended without a value".into())
}
