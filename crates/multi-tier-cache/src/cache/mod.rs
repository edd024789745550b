//! Typed caches: one handle per kind of value, decoded once, with rules for how old a value may be.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> multi_tier_cache::CacheResult<()> {
//! use multi_tier_cache::{Arc, Cache, CacheSystemBuilder, DashMapCache};
//!
//! let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
//! let users: Cache<u64, String> = system.cache("users")?;
//! let ada = users.get_or_load(&7, || async { Ok("Ada".to_owned()) }).await?;
//! assert_eq!(*ada, "Ada");
//! users.remove(&7).await?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod bulk;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod call;
mod core;
mod fetch;
pub mod key;
mod loaded;
mod many;
mod options;
mod scoped;
mod stats;
mod work;

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::Either;

pub use builder::CacheBuilder;
pub use key::{CacheKey, KeyWriter};
pub use loaded::{Fetched, LoadContext, LoadError, Loaded};
#[cfg(feature = "macros")]
#[doc(inline)]
pub use multi_tier_cache_macros::CacheKey;
/// Makes an async function or method read through a [`Cache`].
///
/// ```
/// use multi_tier_cache::{Arc, Cache, CacheSystemBuilder, DashMapCache, LoadError, cached};
///
/// # #[derive(Debug)]
/// # enum DbError { Gone }
/// # #[derive(Clone)]
/// # struct Database;
/// # impl Database {
/// #     async fn name_of(&self, id: u64) -> Result<String, DbError> {
/// #         if id == 7 { Ok("Ada".to_owned()) } else { Err(DbError::Gone) }
/// #     }
/// # }
/// #[derive(Clone)]
/// struct Directory {
///     database: Database,
///     names: Cache<u64, String>,
/// }
///
/// impl Directory {
///     /// Callers get what this declares; the body is the load and evaluates to `Result<String, DbError>`.
///     #[cached(cache = &self.names, ttl = "30s", tags = [format!("user:{id}")])]
///     async fn name(&self, id: u64) -> Result<Arc<String>, LoadError<DbError>> {
///         let name = self.database.name_of(id).await?;
///         Ok(name.trim().to_owned())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
/// let directory = Directory { database: Database, names: system.cache("names")? };
/// assert_eq!(*directory.name(7).await.unwrap(), "Ada");
/// assert!(matches!(directory.name(8).await, Err(LoadError::Load(error)) if matches!(*error, DbError::Gone)));
///
/// directory.names.remove_tag("user:7").await?;
/// assert_eq!(directory.names.get(&7).await?, None);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "macros")]
#[doc(inline)]
pub use multi_tier_cache_macros::cached;
pub use options::CallOptions;
pub use stats::CacheStats;

use self::core::{Core, Seen};
use fetch::{Fetch, Loader, Look, Rules, Tally};
use key::KeyBuf;

use crate::clock::Moment;
use crate::coordinator::Position;
use crate::engine::{Judge as _, Put, Removal, Source, Wanted, slowly};
use crate::error::{CacheError, CacheResult};
use crate::policy::{Lifespan, Verdict};
use crate::telemetry::Began;

/// A cache of values of one type, one of many in a [`CacheSystem`](crate::CacheSystem). Cheap to clone; clones are the
/// same cache.
///
/// A hit in process answers the decoded value, shared: no decoding, no allocation, no await that waits. All caches of
/// a system share its tiers, its memory and its invalidation bus; each has its own rules and statistics. What one
/// instance removes, all forget, and nothing that was loaded before is stored after, however late the load ends.
///
/// # Cancellation
/// A verb may be dropped at any await. A load that its caller no longer waits for goes on in a task of its own, within
/// its hard deadline, and its value is stored. Outside a Tokio runtime, and under
/// [`get_or_load_scoped`](Self::get_or_load_scoped), it ends with its caller.
pub struct Cache<K, V> {
    core: Arc<Core<V>>,
    keys: PhantomData<fn(K)>,
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), keys: PhantomData }
    }
}

impl<K, V: Send + Sync + 'static> Cache<K, V> {
    /// The name that this cache's keys begin with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The value of `key`, if it is stored and may be answered at once: fresh, or stale and within the window of
    /// [`with_stale_while_revalidate`](crate::Freshness::with_stale_while_revalidate). A remembered absence is `None`.
    ///
    /// # Errors
    /// `BackendError` if no tier has the key and one of them could not be asked.
    pub async fn get<Q>(&self, key: &Q) -> CacheResult<Option<Arc<V>>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        match self.fresh(key) {
            Some(value) => Ok(value),
            // Boxed, as every way but the quickest: a hit must not move a future that is made for it.
            None => slowly(|| self.get_slowly(self.key(key))).await,
        }
    }

    async fn get_slowly(&self, key: KeyBuf) -> CacheResult<Option<Arc<V>>> {
        if let Some(seen) = self.hit(&key) {
            if seen.is_old_copy {
                self.core.reread(&key);
            }
            return Ok(seen.value);
        }
        let mut look = Look::new(&self.core, &key, self.rules(&CallOptions::default()));
        let read = self.core.engine.read(&key, Wanted::Judged(&mut look)).await;
        read.inspect_err(|_| self.core.failed(look.began))?;
        let Some(seen) = look.seen.filter(|seen| seen.verdict <= Verdict::Stale) else {
            self.core.missed(look.began);
            return Ok(None);
        };
        Ok(self.counted(seen, look.began).value)
    }

    /// Whether [`get`](Self::get) would answer a value.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn contains<Q>(&self, key: &Q) -> CacheResult<bool>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        Ok(self.get(key).await?.is_some())
    }

    /// The value of `key`, loaded by `load` if no tier has it: once, however many ask.
    ///
    /// # Errors
    /// The loader's error, to every caller that waited for it; a retryable `BackendError` for a load that was given up
    /// at its hard deadline; `InternalError` if the loader panicked.
    pub async fn get_or_load<Q, F, Fut>(&self, key: &Q, load: F) -> CacheResult<Arc<V>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = CacheResult<V>> + Send + 'static,
    {
        match self.fresh(key) {
            Some(Some(value)) => Ok(value),
            Some(None) => Err(CacheError::NotFound),
            None => {
                // The error is made another in the box as well.
                slowly(|| async { self.get_or_try_load(key, load).await.map_err(LoadError::into_cache_error) }).await
            }
        }
    }

    /// The same with the loader's own type of error, which reaches every caller that waits, unchanged.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn get_or_try_load<Q, E, F, Fut>(&self, key: &Q, load: F) -> Result<Arc<V>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        if let Some(value) = self.fresh(key) {
            return value.ok_or(LoadError::Cache(CacheError::NotFound));
        }
        let load = move |_| async move { load().await.map(Loaded::new) };
        let fetched = slowly(|| async { self.fetch(key, &CallOptions::default(), load).await }).await?;
        // Another call's loader may have answered that there is none.
        fetched.into_value().ok_or(LoadError::Cache(CacheError::NotFound))
    }

    /// The value of `key`, or that its source has none. `None` is not stored, or as a negative entry if the cache has a
    /// [negative TTL](crate::Freshness::with_negative_ttl).
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn get_or_load_optional<Q, E, F, Fut>(&self, key: &Q, load: F) -> Result<Option<Arc<V>>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
    {
        if let Some(value) = self.fresh(key) {
            return Ok(value);
        }
        let load = move |_| async move { load().await.map(Loaded::from) };
        slowly(|| async { self.fetch(key, &CallOptions::default(), load).await.map(Fetched::into_value) }).await
    }

    /// The complete form: the loader knows the value it replaces and decides how its own is kept, the caller sets
    /// options of this call and learns how old the answer is.
    ///
    /// # Errors
    /// [`LoadError`]; `ConfigError` inside it for options that cannot be followed, such as a tier to be skipped that does
    /// not exist.
    pub async fn fetch<Q, E, F, Fut>(&self, key: &Q, options: &CallOptions, load: F) -> Result<Fetched<V>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        E: Send + Sync + 'static,
        F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let key = self.key(key);
        let load = move |context| async move { load(context).await.map_err(LoadError::own) };
        let loader: Loader<'static, V, E> = Box::new(move |context| Box::pin(load(context)));
        if options.is_plain()
            && let Some(seen) = self.hit(&key)
        {
            return Ok(self.answered(&key, self.rules(options), seen, Some(loader)));
        }
        Box::pin(self.fetch_below(&key, options, loader)).await
    }

    async fn fetch_below<E: Send + Sync + 'static>(
        &self,
        key: &str,
        options: &CallOptions,
        loader: Loader<'static, V, E>,
    ) -> Result<Fetched<V>, LoadError<E>> {
        let mut began = self.core.begins();
        let moment = began.waits(self.core.clock.now());
        let fetched = self.fetch_from(key, options, loader, moment).await;
        fetched.inspect_err(|_| self.core.failed(began))
    }

    /// The same of a call that began then.
    async fn fetch_from<E: Send + Sync + 'static>(
        &self,
        key: &str,
        options: &CallOptions,
        loader: Loader<'static, V, E>,
        began: Moment,
    ) -> Result<Fetched<V>, LoadError<E>> {
        let mut rules = self.rules(options);
        rules.freshness.check()?;
        self.core.engine.check_tags(&rules.tags)?;
        rules.skipped = self.core.engine.places(&options.skipped)?;
        if options.refreshes {
            rules.newer_than = Some(self.core.clock.now());
        }
        let mut fetch = Fetch { look: Look::new(&self.core, key, rules.clone()), loader: Some(loader) };
        if let Some(position) = options.at_least {
            fetch.look.began = Began::Waiting(began);
            if !self.core.engine.reach(position).await? {
                self.core.engine.load_alone(&mut fetch).await?;
                return self.ended(key, rules, fetch);
            }
        }
        // What is in process and too old is known before the first wait.
        if rules.skipped.is_empty() {
            let _ = self.core.engine.hit(key, |entry| fetch.accept(entry, Source::Tier(0)));
        }
        if fetch.look.seen.is_some() {
            return self.ended(key, rules, fetch);
        }
        // A refresh ends its flight with its load; what it is to replace is answered meanwhile. An outage is for the
        // read that may load.
        if self.core.is_refreshing(key) {
            fetch.look.tally = Tally::First;
            let _ = self.core.engine.read(key, Wanted::Judged(&mut fetch.look)).await;
            if fetch.look.seen.is_some() {
                return self.ended(key, rules, fetch);
            }
        }
        fetch.look.began = Began::Waiting(began);
        let mut work = work::begin(&self.core, fetch);
        if let Some(soft) = rules.freshness.soft_patience() {
            if let Some(fetch) = work.within(soft).await {
                return self.ended(key, rules, fetch?);
            }
            let kept = match work.kept() {
                Some(kept) => Some(kept),
                None => match work.beside(self.kept_below(key, &rules)).await {
                    Either::Left(kept) => kept,
                    Either::Right(ended) => return self.ended(key, rules, ended?),
                },
            };
            if let Some(fetched) = kept {
                self.core.answered_late(fetched.stale, began);
                if !work.goes_on() {
                    self.core.engine.gave_up();
                }
                return Ok(fetched);
            }
        }
        let fetch = work.end().await?;
        self.ended(key, rules, fetch)
    }

    /// A value for a caller that waits no longer for another's load, and so has not asked the tiers itself.
    async fn kept_below(&self, key: &str, rules: &Rules) -> Option<Fetched<V>> {
        let mut look = Look::aside(&self.core, key, rules.clone());
        let _ = self.core.engine.read(key, Wanted::Judged(&mut look)).await;
        if let Some(seen) = look.seen {
            return Some(self.core.fetched(&seen.entry, seen.value));
        }
        let (entry, value) = self.core.kept(&look.progress, &rules.freshness)?;
        Some(self.core.fetched(&entry, value))
    }

    /// What a read that ended has seen.
    fn ended<E: Send + Sync + 'static>(
        &self,
        key: &str,
        rules: Rules,
        mut fetch: Fetch<'static, V, E>,
    ) -> Result<Fetched<V>, LoadError<E>> {
        let seen = fetch.look.seen.take();
        let seen = seen.ok_or_else(|| CacheError::InternalError("a load ended without a value".into()))?;
        Ok(self.answered(key, rules, self.counted(seen, fetch.look.began), fetch.loader))
    }

    /// The answer, which is refreshed in the background if it is no longer fresh or soon will not be.
    fn answered<E: Send + Sync + 'static>(
        &self,
        key: &str,
        rules: Rules,
        seen: Seen<V>,
        loader: Option<Loader<'static, V, E>>,
    ) -> Fetched<V> {
        let Seen { entry, value, verdict, from, is_old_copy } = seen;
        if let (Verdict::RefreshEarly | Verdict::Stale, Source::Tier(_), Some(loader)) = (verdict, from, loader) {
            self.core.refresh(key, rules, &entry, loader);
        } else if is_old_copy {
            self.core.reread(key);
        }
        self.core.fetched(&entry, value)
    }

    /// Replaces the value of `key` in every tier, and drops it on every other instance. Answers its place in the log;
    /// `None` without a bus.
    ///
    /// # Errors
    /// `SerializationError` if it cannot be encoded, with nothing changed; `InvalidationError` if the shared tier could
    /// not be reached: others may still have the older value. This instance does not.
    pub async fn insert<Q>(&self, key: &Q, value: impl Into<Arc<V>>) -> CacheResult<Option<Position>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        self.insert_with(key, value, &CallOptions::default()).await
    }

    /// [`insert`](Self::insert) under these options.
    ///
    /// # Errors
    /// As [`insert`](Self::insert); `ConfigError` for options that cannot be followed, those for reads among them.
    pub async fn insert_with<Q>(
        &self,
        key: &Q,
        value: impl Into<Arc<V>>,
        options: &CallOptions,
    ) -> CacheResult<Option<Position>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        self.put(&self.key(key), value.into(), options).await
    }

    async fn put(&self, key: &str, value: Arc<V>, options: &CallOptions) -> CacheResult<Option<Position>> {
        options.check_insert()?;
        let Rules { freshness, tags, .. } = self.rules(options);
        freshness.check()?;
        let skipped = self.core.engine.places(&options.skipped)?;
        let now = self.core.clock.now();
        let times = freshness.times(now, now, fastrand::f64());
        let entry = self.core.entry(Some(value), &times, None, &tags);
        let span = Lifespan { ttl: times.expires.since(now), rules: Some(&freshness) };
        let put = Put { span, tags: &tags, skipped: &skipped, announced: true, series: &self.core.series };
        self.core.engine.put(key, entry, put).await
    }

    /// Removes `key` from every tier, for every instance: no read that starts after this answers a value that was
    /// loaded before. Answers its place in the log; `None` without a bus.
    ///
    /// # Errors
    /// `InvalidationError` if a tier could not be reached; it may still hold the key. This instance is clean.
    pub async fn remove<Q>(&self, key: &Q) -> CacheResult<Option<Position>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        self.remove_told(Removal::Key((*self.key(key)).into())).await
    }

    /// Removes several keys, with one message.
    ///
    /// # Errors
    /// As [`remove`](Self::remove); some keys may be gone then and others not.
    pub async fn remove_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> CacheResult<Option<Position>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized + 'a,
    {
        let keys: Vec<KeyBuf> = keys.into_iter().map(|key| self.key(key)).collect();
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        if keys.is_empty() {
            return Ok(None);
        }
        self.remove_told(Removal::keys(keys)).await
    }

    /// Removes every entry with this tag, of every cache of the system and on every instance: one step, however many
    /// entries there are.
    ///
    /// # Errors
    /// As [`CacheManager::remove_tag`](crate::CacheManager::remove_tag).
    pub async fn remove_tag(&self, tag: &str) -> CacheResult<Option<Position>> {
        self.remove_told(Removal::Tag(tag.into())).await
    }

    /// Removes every entry of this cache. Slow: it scans the tiers' keys. A tag on every entry
    /// ([`CacheBuilder::tags`]) does the same in one step.
    ///
    /// # Errors
    /// As [`CacheManager::invalidate_pattern`](crate::CacheManager::invalidate_pattern).
    pub async fn clear(&self) -> CacheResult<Option<Position>> {
        let pattern = format!("{}*", literal(&self.core.beginning));
        self.remove_told(Removal::Pattern(pattern.into())).await
    }

    fn remove_told<'a>(&'a self, what: Removal<'a>) -> impl Future<Output = CacheResult<Option<Position>>> + 'a {
        self.core.engine.remove(&self.core.series, what)
    }

    /// What happened in this cache so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.core.counters.snapshot()
    }

    /// Where `key` is kept, and under which name.
    #[cfg(feature = "test-util")]
    pub(crate) fn entry<Q: CacheKey + ?Sized>(&self, key: &Q) -> (&crate::engine::Engine, KeyBuf) {
        (&self.core.engine, self.key(key))
    }

    fn key<Q: CacheKey + ?Sized>(&self, key: &Q) -> KeyBuf {
        KeyBuf::new(&self.core.beginning, key)
    }

    /// The answer to most reads.
    #[inline]
    #[expect(clippy::option_option, reason = "that there is no value is an answer too")]
    fn fresh<Q: CacheKey + ?Sized>(&self, key: &Q) -> Option<Option<Arc<V>>> {
        let (core, mut full) = (&self.core, KeyBuf::default());
        full.write(&core.beginning, key);
        let value = core.engine.first(full.as_bytes(), |entry, tick| core.fresh(entry, tick))?;
        core.counters.fresh_hits.increment();
        Some(value)
    }

    fn rules(&self, options: &CallOptions) -> Rules {
        let core = &self.core;
        let own = options.own_rules(&core.freshness).map(Arc::new);
        Rules {
            freshness: own.unwrap_or_else(|| Arc::clone(&core.freshness)),
            tags: if options.tags.is_empty() { Arc::clone(&core.tags) } else { options.tags.clone().into() },
            newer_than: None,
            stores: !options.reads_only,
            in_background: true,
            skipped: Vec::new(),
        }
    }

    /// What is in process, decoded, and may be answered at once.
    fn hit(&self, key: &str) -> Option<Seen<V>> {
        let began = self.core.begins();
        let seen = self.core.engine.hit(key, |entry| self.core.glance(entry))?;
        Some(self.counted(seen, began))
    }

    fn counted(&self, seen: Seen<V>, began: Began) -> Seen<V> {
        self.core.answered(&seen, began);
        seen
    }
}

/// A glob pattern that matches this text only.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("name", &self.core.name).finish_non_exhaustive()
    }
}
