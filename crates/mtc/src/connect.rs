//! The way to the cache: a connection for looking, and a cache for changing.

use std::error::Error;
use std::fs;
use std::time::Duration;

use multi_tier_cache::backends::RedisConfig;
use multi_tier_cache::inspect::{Bus, Namespace, Server};
use multi_tier_cache::{CacheError, CacheSystem, CacheSystemBuilder, InvalidationConfig};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, cmd};

use crate::cli::{Audit, Target};
use crate::failure::{Failure, Kind};

const AWAY: &str = "Is it running, and is this its address? It is taken from --url, else REDIS_URL, else REDIS_URL in a \
                    .env file, else redis://127.0.0.1:6379.";
const REFUSED: &str = "Give user and password in the URL, redis://user:password@host, best in REDIS_URL.";

impl Target {
    /// What a cache of this target is configured with.
    ///
    /// # Errors
    /// When the certificate authorities cannot be read.
    pub(crate) fn config(&self) -> Result<RedisConfig, Failure> {
        let mut config = RedisConfig::default().with_prefix(&*self.prefix).with_budget(self.timeout);
        if let Some(url) = &self.url {
            config = config.with_url(url);
        }
        if let Some(path) = &self.ca {
            let pem =
                fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
            config = config.with_root_certificate(pem);
        }
        Ok(config)
    }
}

/// A connection to the server of a namespace, for commands that change nothing.
pub(crate) struct Session {
    pub(crate) server: Server,
    pub(crate) namespace: Namespace,
    connection: MultiplexedConnection,
    timeout: Duration,
}

impl Session {
    /// # Errors
    /// [`Kind::Unreachable`] if the server is away or refuses user or password; [`Kind::Usage`] for a target that cannot
    /// be.
    pub(crate) async fn open(target: &Target) -> Result<Self, Failure> {
        let server = Server::new(&target.config()?)?;
        let namespace = Namespace::new(&target.prefix, &target.channel)?;
        let connection = connect(&server).await?;
        Ok(Self { server, namespace, connection, timeout: target.timeout })
    }

    /// Connects anew.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn reopen(&mut self) -> Result<(), Failure> {
        self.connection = connect(&self.server).await?;
        Ok(())
    }

    /// Sends one command.
    ///
    /// # Errors
    /// In the words of the library.
    pub(crate) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Failure> {
        self.attempt(command).await.map_err(|error| self.server.explain(error).into())
    }

    /// Sends several commands in one round trip.
    ///
    /// # Errors
    /// As [`query`](Self::query), if one of them is refused.
    pub(crate) async fn pipeline<T: FromRedisValue>(&mut self, pipeline: &Pipeline) -> Result<T, Failure> {
        let outcome = pipeline.query_async(&mut self.connection).await;
        outcome.map_err(|error| self.server.explain(error).into())
    }

    /// Sends one command whose refusal is an answer, too.
    ///
    /// # Errors
    /// The server's or the connection's.
    pub(crate) async fn attempt<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.connection).await
    }

    /// The state of the namespace; `None` if no cache has used it yet.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(crate) async fn bus(&mut self) -> Result<Option<Bus>, Failure> {
        let command = self.bus_command();
        Ok(Bus::decode(&self.query(&command).await?))
    }

    /// The command whose reply [`Bus::decode`] takes.
    pub(crate) fn bus_command(&self) -> Cmd {
        let mut command = cmd("HMGET");
        command.arg(self.namespace.bus()).arg(&Bus::FIELDS);
        command
    }

    /// Another handle on the connection.
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Longest wait for a reply.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

async fn connect(server: &Server) -> Result<MultiplexedConnection, Failure> {
    server.connect().await.map_err(|error| {
        let advice = if is_login_refused(&error) { REFUSED } else { AWAY };
        Failure { kind: Kind::Unreachable, ..Failure::from(error) }.advising(advice)
    })
}

fn is_login_refused(error: &CacheError) -> bool {
    let CacheError::BackendError(failure) = error else { return false };
    let refusal = failure.source().and_then(|cause| cause.downcast_ref::<RedisError>());
    refusal.is_some_and(|refusal| {
        refusal.kind() == ErrorKind::AuthenticationFailed || matches!(refusal.code(), Some("NOAUTH" | "WRONGPASS"))
    })
}

/// A cache of the target that announces what it changes, as the caches of its instances do.
///
/// # Errors
/// As [`Session::open`]: the server is reached before anything is changed.
pub(crate) async fn cache(target: &Target, audit: &Audit) -> Result<CacheSystem, Failure> {
    Session::open(target).await?;
    let mut bus = InvalidationConfig { channel: target.channel.clone(), ..InvalidationConfig::default() };
    if let Some(stream) = &audit.audit_stream {
        bus.enable_audit_stream = true;
        bus.audit_stream.clone_from(stream);
    }
    Ok(CacheSystemBuilder::new().with_redis_config(target.config()?).with_invalidation(bus).build().await?)
}
