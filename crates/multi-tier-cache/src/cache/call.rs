//! What `#[cached]` writes: a read in two steps. The first one answers a fresh hit in process, so that a call owns
//! what its load needs only if there may be one.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::core::Seen;
use super::fetch::Loader;
use super::key::{CacheKey, KeyBuf};
use super::loaded::{Fetched, LoadError, Loaded};
use super::{Cache, CallOptions};
use crate::error::{CacheError, CacheResult};
use crate::policy::Verdict;

/// The first step, which borrows its arguments for its own time only.
#[inline]
#[expect(clippy::needless_pass_by_value, reason = "a key here is a reference, or a tuple of them")]
pub fn begin<K, V>(cache: &Cache<K, V>, key: impl Arguments<K>, options: CallOptions) -> Begun<K, V>
where
    V: Send + Sync + 'static,
{
    let plain = options.is_plain();
    if plain && let Some(value) = cache.fresh(&key) {
        return Begun::Hit(value);
    }
    let key = cache.key(&key);
    let seen = if plain { cache.hit(&key) } else { None };
    match seen {
        Some(seen) if seen.verdict == Verdict::Fresh => {
            if seen.is_old_copy {
                cache.core.reread(&key);
            }
            Begun::Hit(seen.value)
        }
        seen => Begun::Open(Call { cache: cache.clone(), key, options, ttl: None, seen }),
    }
}

/// How far the first step came.
#[expect(clippy::large_enum_variant, reason = "a short key is on the stack; it lives as long as the call")]
#[derive(Debug)]
pub enum Begun<K, V> {
    /// To the end: this is the answer.
    Hit(Option<Arc<V>>),
    /// There is nothing fresh in process.
    Open(Call<K, V>),
}

/// The rest of a call.
pub struct Call<K, V> {
    cache: Cache<K, V>,
    key: KeyBuf,
    options: CallOptions,
    ttl: Option<Duration>,
    /// What may be answered at once, and is to be refreshed.
    seen: Option<Seen<V>>,
}

impl<K, V: Send + Sync + 'static> Call<K, V> {
    /// How long a loaded value is fresh.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The tags of what is loaded.
    #[must_use]
    pub fn with_tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.options = self.options.with_tags(tags);
        self
    }

    /// The second step.
    pub async fn answer<A: Answer<Value = V>>(self, load: impl Future<Output = A::Load> + Send + 'static) -> A {
        let Self { cache, key, options, ttl, seen } = self;
        let load = async move {
            Ok(match (A::loaded(load.await).map_err(LoadError::own)?, ttl) {
                (Some(value), Some(ttl)) => Loaded::new(value).with_ttl(ttl),
                (value, _) => Loaded::from(value),
            })
        };
        let loader: Loader<'static, V, A::Error> = Box::new(move |_| Box::pin(load));
        let fetched = match seen {
            Some(seen) => Ok(cache.answered(&key, cache.rules(&options), seen, Some(loader))),
            None => cache.fetch_below(&key, &options, loader).await,
        };
        A::answer(fetched.map(Fetched::into_value))
    }
}

impl<K, V> fmt::Debug for Call<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// What makes a key of a cache with keys `K`: something borrowed from one, or from each of its parts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the key of a cache whose keys are `{K}`",
    note = "`#[cached]` makes the key of all arguments in their order; for another one write `#[cached(…, key = …)]`"
)]
pub trait Arguments<K>: CacheKey {}

impl<K: Borrow<Q>, Q: CacheKey + ?Sized> Arguments<K> for &Q {}

impl Arguments<()> for () {}

macro_rules! tuples {
    ($(($($part:ident $borrowed:ident)*))*) => {$(
        impl<$($part: Borrow<$borrowed>, $borrowed: CacheKey + ?Sized),*> Arguments<($($part,)*)>
            for ($(&$borrowed,)*)
        {
        }
    )*};
}

tuples! {
    (A A2 B B2)
    (A A2 B B2 C C2)
    (A A2 B B2 C C2 D D2)
    (A A2 B B2 C C2 D D2 E E2)
    (A A2 B B2 C C2 D D2 E E2 F F2)
    (A A2 B B2 C C2 D D2 E E2 F F2 G G2)
    (A A2 B B2 C C2 D D2 E E2 F F2 G G2 H H2)
}

/// A key that was given as an expression, by value or by reference.
#[derive(Debug)]
pub struct Given<T>(pub T);

impl<'a, T: ?Sized> Given<&'a T> {
    /// The key itself.
    #[must_use]
    pub fn borrowed(&self) -> &'a T {
        self.0
    }
}

/// Given by value: what is not found as a method of a reference is found here.
pub trait ByValue {
    /// The type of the key.
    type Key;

    /// The key itself.
    fn borrowed(&self) -> &Self::Key;
}

impl<T> ByValue for Given<T> {
    type Key = T;

    fn borrowed(&self) -> &T {
        &self.0
    }
}

/// What a cached function may return, and what its body then evaluates to.
#[diagnostic::on_unimplemented(
    message = "a function with `#[cached]` cannot return `{Self}`",
    label = "not what a cache answers",
    note = "it returns `Result<Arc<V>, LoadError<E>>` or `CacheResult<Arc<V>>`, or either with `Option<Arc<V>>`; its \
            body evaluates to the same without the `Arc` and the `LoadError`"
)]
pub trait Answer: Sized + 'static {
    /// The cache's values.
    type Value: Send + Sync + 'static;
    /// The load's own error.
    type Error: Send + Sync + 'static;
    /// What the body evaluates to.
    type Load;

    /// What the load came to.
    ///
    /// # Errors
    /// The load's own.
    fn loaded(load: Self::Load) -> Result<Option<Self::Value>, Self::Error>;

    /// What the caller gets.
    fn answer(read: Result<Option<Arc<Self::Value>>, LoadError<Self::Error>>) -> Self;
}

impl<V: Send + Sync + 'static, E: Send + Sync + 'static> Answer for Result<Arc<V>, LoadError<E>> {
    type Value = V;
    type Error = E;
    type Load = Result<V, E>;

    fn loaded(load: Self::Load) -> Result<Option<V>, E> {
        load.map(Some)
    }

    fn answer(read: Result<Option<Arc<V>>, LoadError<E>>) -> Self {
        read?.ok_or(LoadError::Cache(CacheError::NotFound))
    }
}

impl<V: Send + Sync + 'static, E: Send + Sync + 'static> Answer for Result<Option<Arc<V>>, LoadError<E>> {
    type Value = V;
    type Error = E;
    type Load = Result<Option<V>, E>;

    fn loaded(load: Self::Load) -> Result<Option<V>, E> {
        load
    }

    fn answer(read: Result<Option<Arc<V>>, LoadError<E>>) -> Self {
        read
    }
}

impl<V: Send + Sync + 'static> Answer for CacheResult<Arc<V>> {
    type Value = V;
    type Error = CacheError;
    type Load = CacheResult<V>;

    fn loaded(load: Self::Load) -> CacheResult<Option<V>> {
        load.map(Some)
    }

    fn answer(read: Result<Option<Arc<V>>, LoadError<CacheError>>) -> Self {
        read.map_err(LoadError::into_cache_error)?.ok_or(CacheError::NotFound)
    }
}

impl<V: Send + Sync + 'static> Answer for CacheResult<Option<Arc<V>>> {
    type Value = V;
    type Error = CacheError;
    type Load = CacheResult<Option<V>>;

    fn loaded(load: Self::Load) -> CacheResult<Option<V>> {
        load
    }

    fn answer(read: Result<Option<Arc<V>>, LoadError<CacheError>>) -> Self {
        read.map_err(LoadError::into_cache_error)
    }
}
