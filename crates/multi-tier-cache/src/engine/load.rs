//! What a caller brings to a read: how it judges a stored entry, and how it computes one.
//!
//! The engine is compiled once and knows no user's type; these adapters do.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;
use tracing::Instrument;

use super::read::panicked;
use super::{Engine, Source, within};
use crate::clock::{Clock, Moment};
use crate::defaults;
use crate::entry::{Encode, Entry, Object};
use crate::error::{CacheError, CacheResult, Failure};
use crate::serialization::CacheSerializer;
use crate::telemetry::{Activity, Began, Series, Telemetry};

/// How a caller judges what is stored.
pub(crate) trait Judge: Send {
    /// Takes an entry if the caller can use it, possibly with its decoded form added; `None` makes it a miss.
    fn accept(&mut self, entry: Entry, from: Source) -> Option<Entry>;

    /// A flight is led from here on: what was seen before may have been revoked meanwhile.
    fn leads(&mut self) {}

    /// Whether what it accepts is copied up, whatever the lot says.
    fn promotes(&self) -> bool {
        false
    }

    /// Whether it must know how old an entry is.
    fn asks_for_age(&self) -> bool {
        false
    }

    /// Whether a read that ended so counts as a request.
    fn counts(&self, _found: bool) -> bool {
        true
    }

    /// Whether somebody waits for it, who may be coalesced with others.
    fn is_awaited(&self) -> bool {
        true
    }

    /// Whether the tier at this place is left out: not asked, and not given a copy.
    fn skips(&self, _position: usize) -> bool {
        false
    }

    /// The read waits from `now` on. Answers when it began.
    fn waits(&mut self, now: Moment) -> Moment {
        now
    }

    /// Under which name it is told what becomes of the read; `None` for the verbs on bytes.
    fn series(&self) -> Option<&Arc<Series>> {
        None
    }
}

impl Engine {
    /// A value from its source only: no tier is read or filled, no flight joined.
    pub(crate) async fn load_alone(&self, loader: &mut dyn Load) -> CacheResult<Entry> {
        let (typed, began) = (loader.series().is_some(), loader.waits(self.options.clock.now()));
        self.missed(typed);
        let made = self.load(loader, self.permit()).await;
        if !typed {
            self.told(Activity::Miss, Began::Waiting(began));
        }
        Ok(made?.entry)
    }

    /// Runs the loader; a panic in it, or in encoding what it made, is an error to its caller and to every follower.
    pub(super) async fn load<P>(
        &self,
        loader: &mut dyn Load,
        permit: impl Future<Output = Option<P>>,
    ) -> CacheResult<Made> {
        let Some(_permit) = permit.await else { return loader.instead(overloaded(self.options.max_loads)) };
        let load = async {
            let made = loader.load().await?;
            if !self.is_local() {
                made.entry.payload()?;
            }
            Ok(made)
        };
        AssertUnwindSafe(load).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
    }

    /// Waits until fewer loads run than may; `None` if that takes too long.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        match self.loads.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => within(Some(defaults::LOAD_QUEUE_WAIT), self.loads.acquire()).await?.ok(),
        }
    }
}

/// A caller's loader. Polled by its own caller only, at most once.
pub(crate) trait Load: Judge {
    /// Computes the value. Its entry never expires; the engine gives each tier's copy its deadline.
    fn load(&mut self) -> BoxFuture<'_, CacheResult<Made>>;

    /// What stands in for a load that may not begin.
    fn instead(&mut self, error: CacheError) -> CacheResult<Made> {
        Err(error)
    }
}

/// What a loader made.
pub(crate) struct Made {
    pub(crate) entry: Entry,
    pub(crate) stay: Stay,
}

/// For how long what was made is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stay {
    /// As the caller asked before the load.
    AsAsked,
    /// For so long; the entry has its tags.
    For(Duration),
    /// Not at all.
    Not,
    /// It was not made but kept by the caller: an older value in place of a load that failed.
    Older,
}

impl Made {
    fn as_asked(entry: Entry) -> Self {
        Self { entry, stay: Stay::AsAsked }
    }
}

/// The loader is asked a second time: cannot happen while a leader leads once.
fn spent() -> CacheError {
    CacheError::InternalError("a loader was asked for a second value".into())
}

/// A loader of the verbs on bytes, without rules of freshness: what a typed cache keeps beyond its fresh time is not for
/// its caller.
pub(crate) struct Fresh<'a> {
    pub(crate) load: &'a mut dyn Load,
    pub(crate) clock: &'a Clock,
    pub(crate) telemetry: &'a Telemetry,
}

impl Judge for Fresh<'_> {
    fn accept(&mut self, entry: Entry, from: Source) -> Option<Entry> {
        // Whoever waited for a load has waited for this.
        if from != Source::Loader && entry.is_stale(self.clock.tick()) { None } else { self.load.accept(entry, from) }
    }
}

impl Load for Fresh<'_> {
    fn load(&mut self) -> BoxFuture<'_, CacheResult<Made>> {
        Box::pin(async {
            let began = self.clock.now();
            let loading = self.load.load().instrument(Telemetry::load_span(self.telemetry.bytes()));
            let made = AssertUnwindSafe(loading).catch_unwind().await;
            let made = made.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            self.telemetry.loaded(self.telemetry.bytes(), began, made.is_ok());
            made
        })
    }
}

/// Loads bytes; accepts any entry that has them or can be encoded.
pub(crate) struct BytesLoad<F>(Option<F>);

impl<F> BytesLoad<F> {
    pub(crate) fn new(compute: F) -> Self {
        Self(Some(compute))
    }
}

impl<F: Send> Judge for BytesLoad<F> {
    fn accept(&mut self, entry: Entry, _: Source) -> Option<Entry> {
        entry.bytes().is_ok().then_some(entry)
    }
}

impl<F, Fut> Load for BytesLoad<F>
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = CacheResult<Bytes>> + Send,
{
    fn load(&mut self) -> BoxFuture<'_, CacheResult<Made>> {
        Box::pin(async {
            let compute = self.0.take().ok_or_else(spent)?;
            Ok(Made::as_asked(Entry::from_bytes(compute().await?, Moment::NEVER)))
        })
    }
}

/// Loads a `T` and keeps it for its caller, who gets it back without a decode; stores its bytes.
pub(crate) struct TypedLoad<T, F> {
    serializer: CacheSerializer,
    compute: Option<F>,
    pub(crate) value: Option<T>,
}

impl<T, F> TypedLoad<T, F> {
    pub(crate) fn new(serializer: CacheSerializer, compute: F) -> Self {
        Self { serializer, compute: Some(compute), value: None }
    }
}

impl<T: DeserializeOwned + Send, F: Send> Judge for TypedLoad<T, F> {
    fn accept(&mut self, entry: Entry, _: Source) -> Option<Entry> {
        self.value = Some(self.serializer.deserialize(&entry.bytes().ok()?).ok()?);
        Some(entry)
    }
}

impl<T, F, Fut> Load for TypedLoad<T, F>
where
    T: Serialize + DeserializeOwned + Send,
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = CacheResult<T>> + Send,
{
    fn load(&mut self) -> BoxFuture<'_, CacheResult<Made>> {
        Box::pin(async {
            let compute = self.compute.take().ok_or_else(spent)?;
            let value = compute().await?;
            let bytes = self.serializer.serialize(&value)?;
            self.value = Some(value);
            Ok(Made::as_asked(Entry::from_bytes(bytes, Moment::NEVER)))
        })
    }
}

/// Loads a `T` and shares it: tiers inside the process keep the object, others its bytes.
pub(crate) struct SharedLoad<T, F> {
    serializer: CacheSerializer,
    compute: Option<F>,
    pub(crate) value: Option<Arc<T>>,
}

impl<T, F> SharedLoad<T, F> {
    pub(crate) fn new(serializer: CacheSerializer, compute: F) -> Self {
        Self { serializer, compute: Some(compute), value: None }
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static, F: Send> Judge for SharedLoad<T, F> {
    fn accept(&mut self, entry: Entry, _: Source) -> Option<Entry> {
        if let Some(value) = entry.object_as::<T>() {
            self.value = Some(value);
            return Some(entry);
        }
        let value: Arc<T> = Arc::new(self.serializer.deserialize(&entry.bytes().ok()?).ok()?);
        self.value = Some(Arc::clone(&value));
        entry.with_object(value).ok()
    }
}

impl<T, F, Fut> Load for SharedLoad<T, F>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = CacheResult<T>> + Send,
{
    fn load(&mut self) -> BoxFuture<'_, CacheResult<Made>> {
        Box::pin(async {
            let compute = self.compute.take().ok_or_else(spent)?;
            let value = Arc::new(compute().await?);
            self.value = Some(Arc::clone(&value));
            let entry = Entry::from_object(value, encoder::<T>(self.serializer.clone()), Moment::NEVER);
            Ok(Made::as_asked(entry))
        })
    }
}

fn encoder<T: Serialize + Send + Sync + 'static>(serializer: CacheSerializer) -> Encode {
    Arc::new(move |object: &Object| match object.downcast_ref::<T>() {
        Some(value) => serializer.serialize(value),
        None => Err(CacheError::InternalError("an object is not of the type it was stored as".into())),
    })
}

fn overloaded(most: usize) -> CacheError {
    let message = format!("{most} loads run already, and none ended within {:?}", defaults::LOAD_QUEUE_WAIT);
    CacheError::BackendError(Failure::new(message).during("load").retryable())
}
