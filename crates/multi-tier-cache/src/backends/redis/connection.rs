//! The supervised connection to a Redis server.
//!
//! Every Tokio runtime that uses a [`Supervisor`] gets a connection of its own, opened at the first use and watched by
//! a task on that runtime (see [`link`](super::link)). While the server is away, operations fail at once with the
//! reason; only those issued while the first attempt to connect is under way wait for it.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult};
use tokio::runtime::{self, Handle};
use tokio::sync::watch;
use tokio::time;

use super::address::{RedisAddress, redact};
use super::link::{Link, Live, Trouble};
use super::merge::Merge;
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};

/// A handle on the connections to one server. Cheap to clone; they close with the last handle.
#[derive(Clone)]
pub(crate) struct Supervisor(Arc<Shared>);

pub(super) struct Shared {
    server: Arc<Server>,
    links: RwLock<Vec<(runtime::Id, Arc<Link>)>>,
}

/// The server behind a supervisor, and how to reach it.
pub(super) struct Server {
    address: RedisAddress,
    client: Client,
    budget: Duration,
    closed: watch::Sender<bool>,
}

impl Supervisor {
    /// A supervisor that connects at the first use. Needs no Tokio runtime.
    ///
    /// # Errors
    /// `ConfigError` if `root_certificate` (PEM) cannot be used.
    pub(crate) fn new(address: &RedisAddress, budget: Duration, root_certificate: Option<&[u8]>) -> CacheResult<Self> {
        if address.is_tls() {
            // An error means that the program has chosen its provider already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = address.client(root_certificate)?;
        let server = Arc::new(Server { address: address.clone(), client, budget, closed: watch::Sender::new(false) });
        Ok(Self(Arc::new(Shared { server, links: RwLock::default() })))
    }

    /// Another supervisor of the same server, with connections of its own.
    pub(crate) fn sibling(&self) -> Self {
        Self(Arc::new(Shared { server: Arc::clone(&self.0.server), links: RwLock::default() }))
    }

    /// Closes every connection to the server made through this supervisor and its siblings, for good.
    pub(crate) fn close(&self) {
        self.0.server.closed.send_replace(true);
    }

    /// Starts connecting, if called inside a Tokio runtime.
    pub(crate) fn start(&self) {
        let _ = self.link();
    }

    /// Starts connecting and waits until the first attempt has ended either way, at most for `wait`.
    pub(crate) async fn start_and_wait(&self, wait: Duration) {
        if let Ok(link) = self.link() {
            let _ = time::timeout(wait, link.settled()).await;
        }
    }

    /// Sends one command.
    ///
    /// # Errors
    /// `BackendError` with the reason: at once while the server is away, after the budget when it does not answer.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> CacheResult<T> {
        let mut lent = self.acquire().await?;
        let outcome = command.query_async(lent.connection()).await;
        lent.conclude(outcome)
    }

    /// Sends several commands in one round trip. Any refused command fails the whole, after all were executed.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> CacheResult<T> {
        let mut lent = self.acquire().await?;
        let outcome = pipeline.query_async(lent.connection()).await;
        lent.conclude(outcome)
    }

    /// The live connection, for one operation; its outcome must be reported by [`Lent::conclude`].
    ///
    /// # Errors
    /// As [`query`](Self::query); `ConfigError` outside a Tokio runtime.
    pub(crate) async fn acquire(&self) -> CacheResult<Lent> {
        self.lend(self.link()?).await
    }

    pub(super) async fn lend(&self, link: Arc<Link>) -> CacheResult<Lent> {
        let (server, began) = (&self.0.server, Instant::now());
        let (live, waited) = match link.current() {
            Some(settled) => (settled?, false),
            None => match time::timeout(server.budget, link.settled()).await {
                Ok(settled) => (settled?, true),
                Err(_) => return Err(server.unreachable("the first connection is not established yet")),
            },
        };
        let mut lent = Lent::new(link, live);
        if waited {
            // One budget covers both the wait and the reply; a reply gets at least a little of it.
            let remaining = server.budget.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
            lent.connection.set_response_timeout(remaining);
        }
        Ok(lent)
    }

    /// A connection of the caller's own, made whether or not the supervised one is up; otherwise as
    /// [`dedicated`](Self::dedicated).
    ///
    /// # Errors
    /// `BackendError` with the reason, within [`defaults::CONNECT_BUDGET`].
    pub(crate) async fn open(&self, response: Duration) -> CacheResult<MultiplexedConnection> {
        self.0.server.open(response).await
    }

    /// A connection of the caller's own, for commands that block, waiting up to `response` for each reply. Not
    /// watched: the caller drops it after an error.
    ///
    /// # Errors
    /// As [`query`](Self::query), at once while the server is known to be away.
    pub(crate) async fn dedicated(&self, response: Duration) -> CacheResult<MultiplexedConnection> {
        self.acquire().await?;
        self.0.server.open(response).await
    }

    /// The server, while it is not known to be away.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(super) async fn reachable(&self) -> CacheResult<Arc<Server>> {
        self.acquire().await?;
        Ok(Arc::clone(&self.0.server))
    }

    /// The error of an operation that waited up to `response` on a [`dedicated`](Self::dedicated) connection.
    pub(crate) fn explain(&self, error: RedisError, response: Duration) -> CacheError {
        self.0.server.explain(error, response)
    }

    /// Whether this is the server, user and database at `address`.
    pub(crate) fn is_at(&self, address: &RedisAddress) -> bool {
        self.0.server.address.is_same_server(address)
    }

    pub(crate) fn budget(&self) -> Duration {
        self.0.server.budget
    }

    /// The link of the current runtime, made at its first use.
    pub(super) fn link(&self) -> CacheResult<Arc<Link>> {
        if self.0.server.is_closed() {
            return Err(self.0.server.closed());
        }
        let runtime = Handle::try_current().map_err(|_| {
            CacheError::ConfigError(
                "Redis needs a Tokio runtime: call from inside one, with time and I/O enabled".into(),
            )
        })?;
        let id = runtime.id();
        if let Some(link) = find(&self.0.links.read(), id) {
            return Ok(link);
        }
        let link = {
            let mut links = self.0.links.write();
            if let Some(link) = find(&links, id) {
                return Ok(link);
            }
            let link = Arc::new(Link::new(Arc::clone(&self.0.server)));
            links.push((id, Arc::clone(&link)));
            link
        };
        // Outside the lock: a runtime that is shutting down drops the task at once, which takes the lock.
        let task = runtime.spawn(link.supervise(Leave { shared: Arc::downgrade(&self.0), link: Arc::clone(&link) }));
        link.owned_by(task.abort_handle());
        Ok(link)
    }
}

fn find(links: &[(runtime::Id, Arc<Link>)], id: runtime::Id) -> Option<Arc<Link>> {
    links.iter().find(|(owner, _)| *owner == id).map(|(_, link)| Arc::clone(link))
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("address", &self.0.server.address).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for (_, link) in self.links.get_mut() {
            link.end();
        }
    }
}

/// Forgets a link when its task ends, which outlives the last handle only if its runtime ended first.
pub(super) struct Leave {
    shared: Weak<Shared>,
    link: Arc<Link>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.links.write().retain(|(_, link)| !Arc::ptr_eq(link, &self.link));
        }
        self.link.runtime_ended();
    }
}

/// A connection lent for one operation.
pub(crate) struct Lent {
    link: Arc<Link>,
    live: Arc<Live>,
    connection: MultiplexedConnection,
}

impl Lent {
    pub(super) fn new(link: Arc<Link>, live: Arc<Live>) -> Self {
        let connection = live.connection.clone();
        Self { link, live, connection }
    }

    /// Another handle on the connection.
    pub(super) fn another(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    pub(crate) fn connection(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }

    /// Reports how the operation went, so that a lost or silent connection is replaced.
    ///
    /// # Errors
    /// `outcome`'s, explained.
    pub(crate) fn conclude<T>(&self, outcome: RedisResult<T>) -> CacheResult<T> {
        let error = match outcome {
            Ok(value) => {
                self.link.mark_used();
                return Ok(value);
            }
            Err(error) => error,
        };
        let trouble = trouble(&error).or_else(|| self.demoted(&error));
        let server = self.link.server();
        let error = server.explain(error, server.budget);
        if let Some(trouble) = trouble {
            self.link.report(self.live.generation, trouble, &error);
        }
        Err(error)
    }
}

impl Lent {
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn merge(&self) -> &Merge {
        &self.live.merge
    }

    pub(super) fn budget(&self) -> Duration {
        self.link.server().budget
    }

    /// Reports that the connection fell silent.
    pub(super) fn suspect(&self, error: &CacheError) {
        self.link.report(self.live.generation, Trouble::Suspect, error);
    }

    /// A server that has become a replica is left for whoever has its address now; not again and again if that is the
    /// same server.
    fn demoted(&self, error: &RedisError) -> Option<Trouble> {
        let settled = self.live.since.elapsed() > defaults::DEMOTED_PAUSE;
        (settled && code(error).as_deref() == Some("READONLY")).then_some(Trouble::Lost)
    }
}

/// What `error` says about the connection, as opposed to the command.
fn trouble(error: &RedisError) -> Option<Trouble> {
    match error.kind() {
        ErrorKind::Io if error.is_connection_dropped() => Some(Trouble::Lost),
        // A reply that does not parse may be of an unexpected type, or the stream is broken: the probe tells.
        ErrorKind::Io | ErrorKind::Parse => Some(Trouble::Suspect),
        ErrorKind::AuthenticationFailed => Some(Trouble::Lost),
        _ if code(error).as_deref() == Some("NOAUTH") => Some(Trouble::Lost),
        _ => None,
    }
}

/// The code of the server's refusal, in a pipeline of the first.
fn code(error: &RedisError) -> Option<String> {
    let refusals = error.clone().into_server_errors()?;
    refusals.first().map(|(_, refusal)| refusal.code().to_owned())
}

impl Server {
    pub(super) fn address(&self) -> &RedisAddress {
        &self.address
    }

    pub(super) fn budget(&self) -> Duration {
        self.budget
    }

    /// Ends when the connections are to be closed.
    pub(super) async fn closing(&self) {
        // Fails only without a sender, and `self` holds it.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(super) fn closed(&self) -> CacheError {
        let message = format!("the cache's connection to Redis at {} was shut down", self.address);
        CacheError::BackendError(Failure::new(message).in_tier("Redis"))
    }

    /// Opens a connection and asks whether it serves, within [`defaults::CONNECT_BUDGET`].
    pub(super) async fn open(&self, response: Duration) -> CacheResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(Some(response));
        let open = async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            ping(&mut connection).await.map(|()| connection)
        };
        self.connecting(open).await
    }

    /// Opens a connection that receives the messages of a channel, within [`defaults::CONNECT_BUDGET`].
    pub(super) async fn open_subscription(&self, channel: &str) -> CacheResult<PubSub> {
        let open = async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription.subscribe(channel).await.map(|()| subscription)
        };
        self.connecting(open).await
    }

    async fn connecting<T>(&self, open: impl Future<Output = RedisResult<T>>) -> CacheResult<T> {
        match time::timeout(defaults::CONNECT_BUDGET, open).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.refused(error)),
            Err(_) => Err(self.unreachable(&format!("no answer within {:?}", defaults::CONNECT_BUDGET))),
        }
    }

    fn refused(&self, error: RedisError) -> CacheError {
        let address = &self.address;
        let message = match (error.kind(), code(&error).as_deref()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
                format!("Redis at {address} refused the user or password of its URL")
            }
            (_, Some("NOAUTH")) => format!("Redis at {address} requires a password, and its URL has none"),
            _ => return self.reworded(error, "cannot connect to"),
        };
        CacheError::BackendError(Failure::new(message).caused_by(error).in_tier("Redis"))
    }

    fn reworded(&self, error: RedisError, what: &str) -> CacheError {
        match CacheError::from(error) {
            CacheError::BackendError(failure) => {
                let message = redact(&format!("{what} Redis at {}: {failure}", self.address));
                CacheError::BackendError(failure.saying(message).in_tier("Redis"))
            }
            other => other,
        }
    }

    pub(super) fn unreachable(&self, reason: &str) -> CacheError {
        let message = format!("cannot reach Redis at {}: {reason}", self.address);
        CacheError::BackendError(Failure::new(message).in_tier("Redis").retryable())
    }

    pub(super) fn runtime_ended(&self) -> CacheError {
        self.unreachable("the Tokio runtime of the connection has ended")
    }

    /// The error of an operation that waited up to `response`.
    pub(super) fn explain(&self, error: RedisError, response: Duration) -> CacheError {
        if error.is_timeout() {
            let message = format!("no reply from Redis at {} within {response:?}", self.address);
            return CacheError::BackendError(Failure::new(message).caused_by(error).in_tier("Redis").retryable());
        }
        if error.is_connection_dropped() {
            return self.reworded(error, "lost the connection to");
        }
        match code(&error).as_deref() {
            Some("WRONGTYPE") => self.reworded(error, "the key holds a value of another type in"),
            _ => self.reworded(error, "refused by"),
        }
    }
}

/// Whether the connection serves commands. Another error than those below is an answer too: a user may be denied PING.
pub(crate) async fn ping(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    match redis::cmd("PING").query_async::<redis::Value>(connection).await {
        Err(error) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => match error.code() {
            Some("NOAUTH" | "LOADING" | "MASTERDOWN") => Err(error),
            _ => Ok(()),
        },
        outcome => outcome.map(drop),
    }
}
