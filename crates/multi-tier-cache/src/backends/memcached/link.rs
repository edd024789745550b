//! The way to one server: a lazily made client, a budget for each exchange, and a breaker.
//!
//! The client gives a connection back to its pool only after a complete exchange: one that fails, times out or is
//! dropped closes its connection, so no answer can meet the wrong question.

use std::collections::HashMap;
use std::future::Future;

use memcache::exp::{AsyncMetaClient, Error};
use parking_lot::Mutex;
use tokio::runtime;
use tokio::time::timeout;

use crate::breaker::Breaker;
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};

pub(crate) const NAME: &str = "Memcached";

pub(crate) struct Link {
    address: String,
    /// Made at the first exchange, and anew after a failure: the name is resolved again and no old connection is kept.
    /// One for each Tokio runtime, because a connection is served only while the runtime it was made on is.
    clients: Mutex<HashMap<runtime::Id, AsyncMetaClient>>,
    breaker: Breaker,
}

impl Link {
    pub(crate) fn new(address: String) -> Self {
        Self { address, clients: Mutex::default(), breaker: Breaker::default() }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Runs one exchange within the budget, unless the server failed a moment ago.
    pub(crate) async fn exchange<T, F>(
        &self,
        operation: &'static str,
        request: impl FnOnce(AsyncMetaClient) -> F + Send,
    ) -> CacheResult<T>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        if !self.breaker.admits() {
            let failure = Failure::new("left alone after a failure a moment ago").retryable();
            return Err(CacheError::BackendError(failure.in_tier(NAME).during(operation)));
        }
        self.probe(operation, request).await
    }

    /// As [`exchange`](Self::exchange), but tries the server even if it failed a moment ago.
    pub(crate) async fn probe<T, F>(
        &self,
        operation: &'static str,
        request: impl FnOnce(AsyncMetaClient) -> F + Send,
    ) -> CacheResult<T>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let answer = timeout(defaults::TIER_BUDGET, async { request(self.client().await?).await }).await;
        let error = match answer {
            Ok(Ok(answer)) => {
                self.breaker.succeeded();
                return Ok(answer);
            }
            Ok(Err(error)) => error,
            Err(_) => Error::Timeout { key: Vec::new() },
        };
        if is_outage(&error) {
            self.breaker.failed();
            self.clients.lock().clear();
        }
        Err(CacheError::from(error).at(NAME, operation))
    }

    async fn client(&self) -> Result<AsyncMetaClient, Error> {
        let runtime = runtime::Handle::current().id();
        if let Some(client) = self.clients.lock().get(&runtime) {
            return Ok(client.clone());
        }
        let client = AsyncMetaClient::builder()
            .max_connections(Some(defaults::MEMCACHED_CONNECTIONS))
            .max_idle(defaults::MEMCACHED_CONNECTIONS)
            .connect_timeout(Some(defaults::CONNECT_BUDGET))
            .io_timeout(Some(defaults::TIER_BUDGET))
            .connect_async(self.address.as_str())
            .await?;
        let mut clients = self.clients.lock();
        if clients.len() >= defaults::MEMCACHED_RUNTIMES {
            clients.clear();
        }
        Ok(clients.entry(runtime).or_insert(client).clone())
    }
}

/// Whether the server, rather than the request, is the cause.
fn is_outage(error: &Error) -> bool {
    match error {
        Error::Ambiguous { source, .. } => is_outage(source),
        Error::Io(_) | Error::Timeout { .. } | Error::Protocol(_) => true,
        _ => false,
    }
}
