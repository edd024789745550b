//! A read that may outlast its caller.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Core;
use super::fetch::{Fetch, Progress};
use super::loaded::Fetched;
use crate::engine::{Finish, finish, within};
use crate::error::{CacheError, CacheResult};
use crate::policy::{Freshness, Verdict};

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
        let entry = self.progress.kept.lock().clone()?;
        let usable = self.core.judge(&entry, &self.freshness) != Verdict::Expired;
        let (entry, value) = usable.then(|| self.core.decoded(entry))??;
        Some(self.core.fetched(&entry, value))
    }
}

impl<V, F> Drop for Work<V, F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take()
            && !self.progress.loading.load(Ordering::Acquire)
        {
            reading.abandon();
        }
    }
}
