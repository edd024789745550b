//! The service that a cache stands in front of.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower_service::Service;

use super::CacheLayer;
use crate::cache::{CacheKey, CallOptions, LoadError};
use crate::error::CacheError;

/// A service behind a cache; made by [`CacheLayer`].
pub struct CacheService<S, K, V, F> {
    inner: S,
    layer: CacheLayer<K, V, F>,
}

impl<S, K, V, F> CacheService<S, K, V, F> {
    pub(super) fn new(inner: S, layer: CacheLayer<K, V, F>) -> Self {
        Self { inner, layer }
    }
}

impl<S, R, K, V, F> Service<R> for CacheService<S, K, V, F>
where
    S: Service<R, Response = V> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + Sync + 'static,
    R: Send + 'static,
    K: CacheKey + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Fn(&R) -> Option<K>,
{
    type Response = V;
    /// The inner service's error, the very one for every request that waited for that call, or the cache's.
    type Error = LoadError<S::Error>;
    type Future = BoxFuture<'static, Result<V, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let inner = self.inner.clone();
        let Some(key) = (self.layer.key)(&request) else {
            return Box::pin(
                async move { ask(inner, request).await.map_err(|error| LoadError::Load(Arc::new(error))) },
            );
        };
        let (cache, keep) = (self.layer.cache.clone(), Arc::clone(&self.layer.keep));
        Box::pin(async move {
            let load = move |_| async move { ask(inner, request).await.map(|response| keep(response)) };
            let fetched = cache.fetch(&key, &CallOptions::default(), load).await?;
            let response = fetched.into_value().ok_or(LoadError::Cache(CacheError::NotFound))?;
            Ok(Arc::unwrap_or_clone(response))
        })
    }
}

/// One request, sent when the service is ready.
async fn ask<R, S: Service<R>>(mut service: S, request: R) -> Result<S::Response, S::Error> {
    poll_fn(|context| service.poll_ready(context)).await?;
    service.call(request).await
}

impl<S: Clone, K, V, F: Clone> Clone for CacheService<S, K, V, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, V: Send + Sync + 'static, F> fmt::Debug for CacheService<S, K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}
