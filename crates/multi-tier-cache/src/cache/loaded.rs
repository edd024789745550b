//! What passes between a typed cache and its users: what a loader is told, what it answers, what a reader gets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::entry::Tag;
use crate::error::{CacheError, Failure};

/// What a loader is told: the value that it is to replace, if there is one that may still be served.
pub struct LoadContext<V> {
    pub(super) previous: Option<Arc<V>>,
    pub(super) validator: Option<Arc<str>>,
}

impl<V> LoadContext<V> {
    /// The value that the load is to replace.
    #[must_use]
    pub fn previous(&self) -> Option<&Arc<V>> {
        self.previous.as_ref()
    }

    /// What the source called that value's version: an `ETag`, a revision.
    #[must_use]
    pub fn validator(&self) -> Option<&str> {
        self.validator.as_deref()
    }
}

impl<V> fmt::Debug for LoadContext<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let previous = self.previous.is_some();
        f.debug_struct("LoadContext").field("previous", &previous).field("validator", &self.validator).finish()
    }
}

/// What a loader answers: a value, that there is none, or that the previous one still holds, and for how long and under
/// which tags it is to be kept.
///
/// ```
/// use std::time::Duration;
/// use multi_tier_cache::cache::Loaded;
///
/// let page = Loaded::new("<html>".to_owned())
///     .with_ttl(Duration::from_secs(30))
///     .with_tags(["page:7"])
///     .with_validator("W/\"17\"");
/// # let _: Loaded<String> = page;
/// ```
#[derive(Debug, Clone)]
pub struct Loaded<V> {
    pub(super) outcome: Outcome<V>,
    pub(super) ttl: Option<Duration>,
    pub(super) tags: Option<Vec<Tag>>,
    pub(super) validator: Option<Arc<str>>,
    pub(super) stored: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Outcome<V> {
    Value(V),
    Absent,
    NotModified,
}

impl<V> Loaded<V> {
    /// A value, kept as the cache keeps values unless told otherwise.
    #[must_use]
    pub fn new(value: V) -> Self {
        Self::of(Outcome::Value(value))
    }

    /// There is no value. Remembered only if the cache has a
    /// [negative TTL](crate::Freshness::with_negative_ttl), or this answer a TTL.
    #[must_use]
    pub fn absent() -> Self {
        Self::of(Outcome::Absent)
    }

    /// The [previous](LoadContext::previous) value still holds: it is fresh again. A `ConfigError` if there was none.
    #[must_use]
    pub fn not_modified() -> Self {
        Self::of(Outcome::NotModified)
    }

    fn of(outcome: Outcome<V>) -> Self {
        Self { outcome, ttl: None, tags: None, validator: None, stored: true }
    }

    /// How long the value is fresh, in place of the cache's TTL.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The names under which the value can be removed, in place of the call's and the cache's.
    #[must_use]
    pub fn with_tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(|tag| Arc::from(tag.as_ref())).collect());
        self
    }

    /// What the source calls this version of the value; the next load is told. At most 64 KiB.
    #[must_use]
    pub fn with_validator(mut self, validator: impl AsRef<str>) -> Self {
        self.validator = Some(Arc::from(validator.as_ref()));
        self
    }

    /// The value is answered to those who wait for it, and stored nowhere.
    #[must_use]
    pub fn unstored(mut self) -> Self {
        self.stored = false;
        self
    }
}

impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        value.map_or_else(Self::absent, Self::new)
    }
}

/// What a read answers: the value or that there is none, and how old that is.
#[derive(Debug)]
pub struct Fetched<V> {
    pub(super) value: Option<Arc<V>>,
    pub(super) age: Duration,
    pub(super) stale: bool,
}

impl<V> Clone for Fetched<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

impl<V> Fetched<V> {
    /// The value; `None` if the source has none.
    #[must_use]
    pub fn value(&self) -> Option<&Arc<V>> {
        self.value.as_ref()
    }

    /// The same, taken out.
    #[must_use]
    pub fn into_value(self) -> Option<Arc<V>> {
        self.value
    }

    /// The time since the load began that made it.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Whether its fresh time is over: it is answered by a rule for stale values.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale
    }
}

/// Why a value could not be had.
#[derive(Debug)]
pub enum LoadError<E> {
    /// The loader's own error: the very one, for every caller that waited for that load.
    Load(Arc<E>),
    /// The load took longer than its hard deadline and was given up.
    TimedOut(Duration),
    /// The cache failed, or another call's loader with another type of error.
    Cache(CacheError),
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::TimedOut(after) => Self::TimedOut(*after),
            Self::Cache(error) => Self::Cache(error.clone()),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => write!(f, "the load failed: {error}"),
            Self::TimedOut(after) => write!(f, "the load was given up after {after:?}"),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

/// For every type of error that can be shown, also those that are no `std::error::Error` themselves (`String`,
/// `anyhow::Error`): the loader's error is part of the text, not a source.
impl<E: fmt::Debug + fmt::Display> std::error::Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Load(_) | Self::TimedOut(_) => None,
            Self::Cache(error) => Some(error),
        }
    }
}

impl<E: Send + Sync + 'static> From<CacheError> for LoadError<E> {
    fn from(error: CacheError) -> Self {
        if let Some(own) = error.payload::<E>() {
            return Self::Load(own);
        }
        match error.payload::<Late>() {
            Some(late) => Self::TimedOut(late.0),
            None => Self::Cache(error),
        }
    }
}

impl<E> LoadError<E> {
    pub(super) fn own(error: E) -> Self {
        Self::Load(Arc::new(error))
    }
}

impl LoadError<CacheError> {
    pub(super) fn into_cache_error(self) -> CacheError {
        match self {
            Self::Load(error) => (*error).clone(),
            Self::TimedOut(after) => late(after),
            Self::Cache(error) => error,
        }
    }
}

/// The error of a load that was given up.
pub(super) fn late(after: Duration) -> CacheError {
    let failure = Failure::new(format!("the load was given up after {after:?}")).during("load").retryable();
    CacheError::BackendError(failure.carrying(Arc::new(Late(after))))
}

/// A load was given up after so long.
struct Late(Duration);
