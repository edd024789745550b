//! A `tower` service as a tier, and a store as such a service.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tower_service::Service;

use crate::error::{CacheError, CacheResult, Failure};
use crate::traits::{CacheBackend, Capabilities, L2CacheBackend, ValueAndTtl};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service that stores, as a tier: so that retries, timeouts, limits and breakers of `tower` can be put around a store,
/// or a store be written as a service.
///
/// Each operation is one request to a clone of the service, sent when that clone is ready. An error that is a [`CacheError`]
/// stays what it is; any other is an outage: retryable, with the service's own error as its cause.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use std::time::Duration;
///
/// use multi_tier_cache::backends::{ServiceTier, StoreService};
/// use multi_tier_cache::{Arc, CacheSystemBuilder, DashMapCache};
/// use tower::ServiceBuilder;
///
/// let service = ServiceBuilder::new()
///     .load_shed()
///     .concurrency_limit(64)
///     .timeout(Duration::from_millis(100))
///     .service(StoreService::new(Arc::new(DashMapCache::new())));
/// let system = CacheSystemBuilder::new().with_l2(Arc::new(ServiceTier::new("Shelf", service))).build().await?;
/// assert!(system.cache_manager().health().await.iter().all(|tier| tier.healthy));
/// # Ok(())
/// # }
/// ```
///
/// # What middleware must keep
///
/// * **Order.** Changes of one key take effect in the order in which they were begun. A retry inside the request's future
///   keeps it. Middleware whose work goes on after that future was dropped (`tower`'s buffer) does not: an old value may
///   come back after its removal.
/// * **Time.** The engine drops an operation after [`TIER_BUDGET`](crate::defaults::TIER_BUDGET), and leaves a tier that
///   failed alone for [`BREAKER_WINDOW`](crate::defaults::BREAKER_WINDOW). Retries must fit into the budget. A service that
///   ends its requests in time and fails fast by itself may say [`Capabilities::BUDGETED`].
///
/// A tier made of Redis is no coordinator: no leases, tags or bus. Use it below another Redis, or for a single instance.
pub struct ServiceTier<S> {
    name: &'static str,
    /// Cloned for every request; the lock makes of a service that threads cannot share a tier that they can.
    service: Mutex<S>,
    capabilities: Capabilities,
}

impl<S> ServiceTier<S> {
    /// A tier of this name, which tells remaining TTLs and has no further capability.
    pub fn new(name: &'static str, service: S) -> Self {
        Self { name, service: Mutex::new(service), capabilities: Capabilities::TTL }
    }

    /// What the service can do besides: [`PATTERN`](Capabilities::PATTERN) and [`CLEAR`](Capabilities::CLEAR), without which
    /// it never gets such a request, [`SHARED`](Capabilities::SHARED), [`BUDGETED`](Capabilities::BUDGETED). Others have no
    /// request and are left out.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        let possible = [Capabilities::PATTERN, Capabilities::CLEAR, Capabilities::SHARED, Capabilities::BUDGETED];
        let said = possible.into_iter().filter(|one| capabilities.has(*one));
        self.capabilities = said.fold(Capabilities::TTL, Capabilities::and);
        self
    }
}

/// What a tier asks of a service. Every request may be repeated.
///
/// Its `Debug` form, which middleware may log, has no keys and no values.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreRequest {
    /// The value of a key: [`StoreReply::Value`].
    Get {
        /// The key.
        key: Arc<str>,
        /// Whether its remaining TTL is wanted, too.
        with_ttl: bool,
    },
    /// Stores a value in place of what was there; a TTL of zero leaves nothing stored: [`StoreReply::Done`].
    Set {
        /// The key.
        key: Arc<str>,
        /// The value.
        value: Bytes,
        /// For how long.
        ttl: Duration,
    },
    /// Removes a key, present or not: [`StoreReply::Done`].
    Remove {
        /// The key.
        key: Arc<str>,
    },
    /// Removes every key that matches a Redis glob: [`StoreReply::Done`].
    RemovePattern {
        /// The glob.
        pattern: Arc<str>,
    },
    /// Removes everything that this cache stored: [`StoreReply::Done`].
    Clear,
    /// [`StoreReply::Done`] if the store works, else an error. Writes nothing.
    Health,
}

impl StoreRequest {
    /// The operation, in one word.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Get { .. } => "get",
            Self::Set { .. } => "set",
            Self::Remove { .. } => "remove",
            Self::RemovePattern { .. } => "remove_pattern",
            Self::Clear => "clear",
            Self::Health => "health_check",
        }
    }
}

impl fmt::Debug for StoreRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreRequest").field("operation", &self.operation()).finish_non_exhaustive()
    }
}

/// What a service answers.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreReply {
    /// The value with its remaining TTL, if that is known; `None` if the key is absent or expired.
    Value(Option<ValueAndTtl>),
    /// It is done.
    Done,
}

impl fmt::Debug for StoreReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(found) => f.debug_struct("Value").field("found", &found.is_some()).finish_non_exhaustive(),
            Self::Done => f.write_str("Done"),
        }
    }
}

impl<S> ServiceTier<S>
where
    S: Service<StoreRequest, Response = StoreReply> + Clone,
    S::Error: Into<BoxError>,
{
    async fn ask(&self, request: StoreRequest) -> CacheResult<StoreReply> {
        let mut service = self.service.lock().clone();
        poll_fn(|context| service.poll_ready(context)).await.map_err(outage)?;
        service.call(request).await.map_err(outage)
    }

    async fn read(&self, key: &str, with_ttl: bool) -> CacheResult<Option<ValueAndTtl>> {
        match self.ask(StoreRequest::Get { key: key.into(), with_ttl }).await? {
            StoreReply::Value(found) => Ok(found),
            StoreReply::Done => Err(self.misunderstood("get")),
        }
    }

    async fn change(&self, request: StoreRequest) -> CacheResult<()> {
        let operation = request.operation();
        match self.ask(request).await? {
            StoreReply::Done => Ok(()),
            StoreReply::Value(_) => Err(self.misunderstood(operation)),
        }
    }

    fn misunderstood(&self, operation: &'static str) -> CacheError {
        let failure = Failure::new(format!("the service of {} answered `{operation}` with another's reply", self.name));
        CacheError::BackendError(failure.in_tier(self.name).during(operation))
    }
}

impl<S> CacheBackend for ServiceTier<S>
where
    S: Service<StoreRequest, Response = StoreReply> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
{
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.try_get(key).await.ok().flatten() })
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.change(StoreRequest::Set { key: key.into(), value, ttl }))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(self.change(StoreRequest::Remove { key: key.into() }))
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { self.change(StoreRequest::Health).await.is_ok() })
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            if !self.capabilities.has(Capabilities::PATTERN) {
                return Err(CacheError::unsupported(self.name, "remove_pattern"));
            }
            self.change(StoreRequest::RemovePattern { pattern: pattern.into() }).await
        })
    }

    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(async move { Ok(self.read(key, false).await?.map(|(value, _)| value)) })
    }

    fn clear(&self) -> BoxFuture<'_, CacheResult<()>> {
        Box::pin(async {
            if !self.capabilities.has(Capabilities::CLEAR) {
                return Err(CacheError::unsupported(self.name, "clear"));
            }
            self.change(StoreRequest::Clear).await
        })
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

impl<S> L2CacheBackend for ServiceTier<S>
where
    S: Service<StoreRequest, Response = StoreReply> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
{
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<ValueAndTtl>> {
        Box::pin(async move { self.try_get_with_ttl(key).await.ok().flatten() })
    }

    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<ValueAndTtl>>> {
        Box::pin(self.read(key, true))
    }
}

impl<S> fmt::Debug for ServiceTier<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, capabilities, .. } = self;
        f.debug_struct("ServiceTier").field("name", name).field("capabilities", capabilities).finish_non_exhaustive()
    }
}

/// A store as a service, for middleware to be put around it; [`ServiceTier`] makes a tier of the whole. Always ready.
#[derive(Clone)]
pub struct StoreService {
    store: Arc<dyn L2CacheBackend>,
}

impl StoreService {
    /// The service of this store.
    pub fn new(store: Arc<dyn L2CacheBackend>) -> Self {
        Self { store }
    }
}

impl Service<StoreRequest> for StoreService {
    type Response = StoreReply;
    type Error = CacheError;
    type Future = BoxFuture<'static, CacheResult<StoreReply>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<CacheResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: StoreRequest) -> Self::Future {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            match request {
                StoreRequest::Get { key, with_ttl: true } => {
                    return store.try_get_with_ttl(&key).await.map(StoreReply::Value);
                }
                StoreRequest::Get { key, with_ttl: false } => {
                    let found = store.try_get(&key).await?;
                    return Ok(StoreReply::Value(found.map(|value| (value, None))));
                }
                StoreRequest::Set { key, value, ttl } => store.set_with_ttl(&key, value, ttl).await?,
                StoreRequest::Remove { key } => store.remove(&key).await?,
                StoreRequest::RemovePattern { pattern } => store.remove_pattern(&pattern).await?,
                StoreRequest::Clear => store.clear().await?,
                StoreRequest::Health if store.health_check().await => {}
                StoreRequest::Health => return Err(unhealthy(store.name())),
            }
            Ok(StoreReply::Done)
        })
    }
}

impl fmt::Debug for StoreService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreService").field("store", &self.store.name()).finish()
    }
}

fn unhealthy(store: &'static str) -> CacheError {
    let failure = Failure::new(format!("{store} does not work")).in_tier(store).during("health_check");
    CacheError::BackendError(failure.retryable())
}

/// What the middleware's or the store's error is to the engine.
fn outage(error: impl Into<BoxError>) -> CacheError {
    match error.into().downcast::<CacheError>() {
        Ok(error) => *error,
        Err(error) => CacheError::BackendError(Failure::new(error.to_string()).caused_by(Cause(error)).retryable()),
    }
}

/// A boxed error as an error.
#[derive(Debug)]
struct Cause(BoxError);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
