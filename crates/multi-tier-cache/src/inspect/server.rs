//! A Redis server, as the library finds and reaches it.

use std::fmt;

use redis::RedisError;
use redis::aio::MultiplexedConnection;

use crate::backends::redis::address::RedisAddress;
use crate::backends::redis::config::RedisConfig;
use crate::backends::redis::connection::Supervisor;
use crate::error::{CacheError, CacheResult};

/// The server of a [`RedisConfig`]: found where a cache finds it, with its errors in the cache's words. Shown without its
/// password.
#[derive(Debug, Clone)]
pub struct Server {
    supervisor: Supervisor,
    address: RedisAddress,
}

impl Server {
    /// The server that a cache with this configuration uses. Does not connect yet.
    ///
    /// # Errors
    /// `ConfigError` if the URL, the prefix, the budget or the certificate cannot be used.
    pub fn new(config: &RedisConfig) -> CacheResult<Self> {
        config.validate()?;
        let address = RedisAddress::resolve(config.url.as_deref())?;
        let supervisor = Supervisor::new(&address, config.budget, config.root_certificate.as_deref())?;
        Ok(Self { supervisor, address })
    }

    /// A connection that waits for each reply as long as the configuration's budget. It does not come back when it is
    /// lost.
    ///
    /// # Errors
    /// `BackendError`, within [`CONNECT_BUDGET`](crate::defaults::CONNECT_BUDGET): the server is away, or refuses user or
    /// password.
    pub async fn connect(&self) -> CacheResult<MultiplexedConnection> {
        self.supervisor.open(self.supervisor.budget()).await
    }

    /// What a failed command on such a connection means: `BackendError`, retryable if the server was lost or slow.
    #[must_use]
    pub fn explain(&self, error: RedisError) -> CacheError {
        self.supervisor.explain(error, self.supervisor.budget())
    }
}

/// The address, without its password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
