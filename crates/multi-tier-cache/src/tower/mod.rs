//! A cache in front of a `tower` service: [`CacheLayer`]. The other direction, a service as a tier of a cache, is
//! [`ServiceTier`](crate::backends::ServiceTier).

mod service;

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

pub use service::CacheService;

use crate::cache::{Cache, Loaded};

/// How a response is kept.
type Keep<V> = Arc<dyn Fn(V) -> Loaded<V> + Send + Sync>;

/// Answers requests from a typed cache, and asks the service for what is missing: once, however many ask.
///
/// The key function gives a request the key of its response. For `None` (a request that changes something, say) the
/// service is asked, and nothing is cached. Put into the key whatever the response depends on: the user, the language.
///
/// Responses are the cache's values. They are cloned for each caller: make them cheap to clone, `Bytes` or an `Arc`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multi_tier_cache::tower::CacheLayer;
/// use multi_tier_cache::{Arc, Cache, CacheError, CacheSystemBuilder, DashMapCache};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// #[derive(Clone)]
/// enum Request {
///     Price { article: u64 },
///     Order { article: u64 },
/// }
///
/// let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
/// let prices: Cache<u64, u64> = system.cache("prices")?;
/// let key = |request: &Request| match request {
///     Request::Price { article } => Some(*article),
///     Request::Order { .. } => None,
/// };
/// let shop = ServiceBuilder::new()
///     .layer(CacheLayer::new(prices.clone(), key))
///     .service(service_fn(|request: Request| async move {
///         Ok::<_, CacheError>(match request {
///             Request::Price { article } => article * 100,
///             Request::Order { article } => article,
///         })
///     }));
/// assert_eq!(shop.clone().oneshot(Request::Price { article: 7 }).await?, 700);
/// assert!(prices.contains(&7).await?);
/// prices.remove(&7).await?; // the next request asks the service
/// # Ok(())
/// # }
/// ```
///
/// # Readiness
///
/// The layered service is always ready: a hit needs nothing of the inner one. A request that does need it waits, in its
/// own future, until a clone of the inner service is ready. So backpressure reaches those who load and those who wait for
/// them; the deadline of loads holds for the wait and the call together. Put what sheds load (`load_shed`) inside of this
/// layer; outside it would see no pressure.
///
/// # Cancellation
///
/// Once its load has begun, a request that goes away leaves it to a task, and the response is stored. Before that, another
/// request that waits for the key takes over. A request without a key ends with its caller.
pub struct CacheLayer<K, V, F> {
    cache: Cache<K, V>,
    key: F,
    keep: Keep<V>,
}

impl<K, V: 'static, F> CacheLayer<K, V, F> {
    /// Answers from `cache` what has a `key`.
    pub fn new<R>(cache: Cache<K, V>, key: F) -> Self
    where
        F: Fn(&R) -> Option<K>,
    {
        Self { cache, key, keep: Arc::new(Loaded::new) }
    }

    /// Decides how each response is kept: its TTL, its tags, or that it is answered and not stored
    /// ([`Loaded::unstored`]), as failures that are responses should be. As the cache keeps values, unless set.
    #[must_use]
    pub fn keeping(mut self, keep: impl Fn(V) -> Loaded<V> + Send + Sync + 'static) -> Self {
        self.keep = Arc::new(keep);
        self
    }
}

impl<S, K, V, F: Clone> Layer<S> for CacheLayer<K, V, F> {
    type Service = CacheService<S, K, V, F>;

    fn layer(&self, inner: S) -> Self::Service {
        CacheService::new(inner, self.clone())
    }
}

impl<K, V, F: Clone> Clone for CacheLayer<K, V, F> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), key: self.key.clone(), keep: Arc::clone(&self.keep) }
    }
}

impl<K, V: Send + Sync + 'static, F> fmt::Debug for CacheLayer<K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer").field("cache", &self.cache.name()).finish_non_exhaustive()
    }
}
