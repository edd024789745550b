//! Loads that borrow from their caller, and end with it.

use std::borrow::Borrow;
use std::future::Future;
use std::sync::Arc;

use super::fetch::{Fetch, Loader, Look, Rules};
use super::{Cache, CacheKey, CallOptions, LoadError, Loaded};
use crate::engine::{Judge as _, Source};
use crate::error::CacheError;

impl<K, V: Send + Sync + 'static> Cache<K, V> {
    /// As [`get_or_try_load`](Self::get_or_try_load), by a loader that may borrow: from arguments, a transaction, `self`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> multi_tier_cache::CacheResult<()> {
    /// # use multi_tier_cache::{Arc, Cache, CacheError, CacheSystemBuilder, DashMapCache};
    /// # let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
    /// let names: Cache<usize, String> = system.cache("names")?;
    /// let mut log = vec!["Ada".to_owned()];
    /// let found = names.get_or_load_scoped(&0, || async {
    ///     log.push("asked".to_owned());
    ///     log.first().cloned().ok_or(CacheError::NotFound)
    /// });
    /// assert_eq!(*found.await.unwrap(), "Ada");
    /// assert_eq!(log.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # What such a load cannot do
    /// It cannot outlast its caller, so nothing of it goes on in the background. What is due to be refreshed early is left
    /// to other verbs; a value that is stale, which they would answer and refresh, is loaded while this caller waits, and
    /// answered if the load fails. The soft deadline of loads does not hold, the hard one does.
    ///
    /// # Cancellation
    /// Dropping the future ends its load; the first of the other callers that wait for the key loads in its place.
    ///
    /// # Deadlocks
    /// The future leads its key for as long as it lives: do not keep one without polling it while the same task asks for
    /// the same key, nor ask for a key inside its own load.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn get_or_load_scoped<Q, E, F, Fut>(&self, key: &Q, load: F) -> Result<Arc<V>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<V, E>> + Send,
    {
        let value = if let Some(value) = self.fresh(key) {
            value
        } else {
            let load = |_| async { load().await.map(Loaded::new).map_err(LoadError::own) };
            let key = self.key(key);
            Box::pin(self.load_scoped(&key, Box::new(move |context| Box::pin(load(context))))).await?
        };
        // Another call's loader may have answered that there is none.
        value.ok_or(LoadError::Cache(CacheError::NotFound))
    }

    async fn load_scoped<E: Send + Sync + 'static>(
        &self,
        key: &str,
        loader: Loader<'_, V, E>,
    ) -> Result<Option<Arc<V>>, LoadError<E>> {
        let rules = Rules { in_background: false, ..self.rules(&CallOptions::default()) };
        let mut fetch = Fetch { look: Look::new(&self.core, key, rules), loader: Some(loader) };
        let _ = self.core.engine.hit(key, |entry| fetch.accept(entry, Source::Tier(0)));
        if fetch.look.seen.is_none() {
            let read = self.core.read(&mut fetch).await;
            read.inspect_err(|_| self.core.failed(fetch.look.began))?;
        }
        let seen = fetch.look.seen.take();
        let seen = seen.ok_or_else(|| CacheError::InternalError("a load ended without a value".into()))?;
        Ok(self.counted(seen, fetch.look.began).value)
    }
}
