//! A read that may outlast its caller.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::bulk::Bulk;
use super::core::Core;
use super::fetch::{Fetch, Look, Progress};
use super::loaded::Fetched;
use crate::defaults;
use crate::engine::{Finish, finish, within};
use crate::error::{CacheError, CacheResult};
use crate::policy::Freshness;

/// A read under way. Dropped while its loader runs it goes on in a task of its own; before that it ends, and whoever
/// follows its flight leads in its place.
pub(super) struct Work<V, F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    core: Arc<Core<V>>,
    reading: Option<Finish<F>>,
    progress: Arc<Progress>,
    freshness: Arc<Freshness>,
}

/// Begins a read.
pub(super) fn begin<V: Send + Sync + 'static, E: Send + Sync + 'static>(
    core: &Arc<Core<V>>,
    mut fetch: Fetch<'static, V, E>,
) -> Work<V, impl Future<Output = CacheResult<Fetch<'static, V, E>>> + Send + 'static> {
    let (progress, freshness) = (Arc::clone(&fetch.look.progress), Arc::clone(&fetch.look.rules.freshness));
    let reader = Arc::clone(core);
    let reading = async move {
        reader.read(&mut fetch).await?;
        Ok(fetch)
    };
    Work { core: Arc::clone(core), reading: Some(finish(reading)), progress, freshness }
}

/// Reads of many keys with one loader, each with how its own ended.
pub(super) type Many<V, E> = Vec<(Fetch<'static, V, E>, CacheResult<()>)>;

/// Begins such reads.
pub(super) fn begin_many<V: Send + Sync + 'static, E: Send + Sync + 'static>(
    core: &Arc<Core<V>>,
    freshness: &Arc<Freshness>,
    looks: Vec<Look<V>>,
    bulk: Arc<Bulk<V, E>>,
) -> Work<V, impl Future<Output = CacheResult<Many<V, E>>> + Send + 'static> {
    let (progress, reader) = (Arc::clone(bulk.progress()), Arc::clone(core));
    let reading = async move {
        let fetch = |(place, look)| (place, Fetch { look, loader: Some(bulk.share(place)) });
        let (mut places, mut ended) = (looks.into_iter().enumerate().map(fetch), Vec::new());
        loop {
            let mut chunk: Vec<_> = places.by_ref().take(defaults::BATCH_KEYS).collect();
            if chunk.is_empty() {
                return Ok(ended);
            }
            let outcomes = reader.read_many(&mut chunk, &bulk).await;
            ended.extend(chunk.into_iter().map(|(_, fetch)| fetch).zip(outcomes));
        }
    };
    Work { core: Arc::clone(core), reading: Some(finish(reading)), progress, freshness: Arc::clone(freshness) }
}

impl<V, F, R> Work<V, F>
where
    V: Send + Sync + 'static,
    F: Future<Output = CacheResult<R>> + Send + 'static,
    R: Send,
{
    /// What the read ends with, if that is within `patience`.
    pub(super) async fn within(&mut self, patience: Duration) -> Option<CacheResult<R>> {
        let ended = within(Some(patience), self.reading.as_mut()?).await?;
        self.reading = None;
        Some(ended)
    }

    /// What another `step` of its caller ends with, while the read goes on, which may hold what the step waits for; or
    /// the read, if that ends before.
    pub(super) async fn beside<T>(&mut self, step: impl Future<Output = T>) -> Either<T, CacheResult<R>> {
        let Some(reading) = self.reading.as_mut() else { return Either::Left(step.await) };
        match select(pin!(step), reading).await {
            Either::Left((stepped, _)) => Either::Left(stepped),
            Either::Right((ended, _)) => {
                self.reading = None;
                Either::Right(ended)
            }
        }
    }

    pub(super) async fn end(mut self) -> CacheResult<R> {
        let ended = match self.reading.as_mut() {
            Some(reading) => reading.await,
            None => Err(CacheError::InternalError("a read was waited for twice".into())),
        };
        self.reading = None;
        ended
    }

    /// A value that is too old, but good enough for a caller that waits no longer.
    pub(super) fn kept(&self) -> Option<Fetched<V>> {
        let (entry, value) = self.core.kept(&self.progress, &self.freshness)?;
        Some(self.core.fetched(&entry, value))
    }
}

impl<V, F> Work<V, F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    /// Whether it goes on when its caller waits no longer.
    pub(super) fn goes_on(&self) -> bool {
        self.progress.loading.load(Ordering::Acquire)
    }
}

impl<V, F> Drop for Work<V, F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take()
            && !self.goes_on()
        {
            reading.abandon();
        }
    }
}
