//! One runtime's connection: its state, and the task that keeps it.
//!
//! ```text
//! Connecting ──► Live ◄──► Down        Live → Down: an operation or the probe found the connection lost or silent
//!      └───────────────────►┘          Down → Live: the suspect answered after all, or a new connection serves
//! ```

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::select;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time;

use super::connection::{Leave, Server, ping};
use super::merge::Merge;
use crate::defaults;
use crate::error::{CacheError, CacheResult};

pub(super) struct Link {
    server: Arc<Server>,
    state: watch::Sender<State>,
    /// Wakes the task when a report has taken the link down.
    alarm: Notify,
    /// An operation succeeded since the last look: no probe needed.
    used: AtomicBool,
    task: OnceLock<AbortHandle>,
}

#[derive(Clone)]
enum State {
    Connecting,
    Live(Arc<Live>),
    /// Operations fail with `error`. `suspect` is the connection that fell silent, until the task has probed it.
    Down {
        error: CacheError,
        suspect: Option<MultiplexedConnection>,
    },
}

/// A connection in use. Its generation tells late reports about an earlier one apart.
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) generation: u64,
    pub(super) since: Instant,
    /// The reads that share its round trips.
    pub(super) merge: Merge,
}

/// What an operation learned about its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is closed, or not authenticated any more.
    Lost,
    /// It did not answer in time; it may still.
    Suspect,
}

impl Link {
    pub(super) fn new(server: Arc<Server>) -> Self {
        let (alarm, used, task) = (Notify::new(), AtomicBool::new(false), OnceLock::new());
        Self { server, state: watch::Sender::new(State::Connecting), alarm, used, task }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Whether this connection is the one in use.
    pub(super) fn uses(&self, connection: &Arc<Live>) -> bool {
        matches!(&*self.state.borrow(), State::Live(live) if Arc::ptr_eq(live, connection))
    }

    /// The connection, or why there is none; `None` while the first attempt is under way.
    pub(super) fn current(&self) -> Option<CacheResult<Arc<Live>>> {
        match &*self.state.borrow() {
            State::Connecting => None,
            State::Live(live) => Some(Ok(Arc::clone(live))),
            State::Down { error, .. } => Some(Err(error.clone())),
        }
    }

    /// [`current`](Self::current) once the first attempt has ended.
    pub(super) async fn settled(&self) -> CacheResult<Arc<Live>> {
        let mut states = self.state.subscribe();
        // Fails only without a sender, and `self` holds it.
        let _ = states.wait_for(|state| !matches!(state, State::Connecting)).await;
        self.current().unwrap_or_else(|| Err(self.server.unreachable("not connected yet")))
    }

    pub(super) fn mark_used(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Takes the link down, unless the report is about a connection already replaced.
    pub(super) fn report(&self, generation: u64, trouble: Trouble, error: &CacheError) {
        let taken_down = self.state.send_if_modified(|state| match state {
            State::Live(live) if live.generation == generation => {
                let suspect = (trouble == Trouble::Suspect).then(|| live.connection.clone());
                *state = State::Down { error: error.clone(), suspect };
                true
            }
            _ => false,
        });
        if taken_down {
            self.alarm.notify_one();
        }
    }

    /// The task that keeps the connection, for as long as it is polled.
    pub(super) fn supervise(self: &Arc<Self>, leave: Leave) -> impl Future<Output = ()> + Send + 'static {
        let link = Arc::clone(self);
        async move {
            let _leave = leave;
            select(pin!(link.keep()), pin!(link.server.closing())).await;
        }
    }

    /// Connects, watches, connects again.
    async fn keep(&self) {
        let (mut generation, mut verified) = (0, None);
        loop {
            let connection = match verified.take() {
                Some(connection) => connection,
                None => self.connect().await,
            };
            generation += 1;
            let (since, merge) = (Instant::now(), Merge::default());
            let live = Live { connection: connection.clone(), generation, since, merge };
            self.state.send_replace(State::Live(Arc::new(live)));
            verified = self.watch(connection, generation).await;
        }
    }

    /// Tries to connect until it succeeds.
    async fn connect(&self) -> MultiplexedConnection {
        let began = Instant::now();
        // The jitter adds up to as much again.
        let pauses = ExponentialBuilder::new()
            .with_min_delay(defaults::RECONNECT_PAUSE_MIN)
            .with_max_delay(defaults::RECONNECT_PAUSE_MAX / 2)
            .with_jitter()
            .without_max_times();
        let mut pauses = pauses.build();
        let mut failed = false;
        loop {
            match self.server.open(self.server.budget()).await {
                Ok(connection) => {
                    if failed {
                        let after = began.elapsed();
                        tracing::info!(address = %self.server.address(), ?after, "connected to Redis");
                    }
                    return connection;
                }
                Err(error) => {
                    if !failed {
                        tracing::warn!(address = %self.server.address(), %error, "no connection to Redis, retrying");
                    }
                    failed = true;
                    self.state.send_replace(State::Down { error, suspect: None });
                }
            }
            time::sleep(pauses.next().unwrap_or(defaults::RECONNECT_PAUSE_MAX)).await;
        }
    }

    /// Watches over a connection until it is down. Returns it if it proved to serve after all.
    async fn watch(&self, mut connection: MultiplexedConnection, generation: u64) -> Option<MultiplexedConnection> {
        loop {
            if time::timeout(defaults::PROBE_INTERVAL, self.alarm.notified()).await.is_err() {
                if self.used.swap(false, Ordering::Relaxed) {
                    continue;
                }
                let patience = self.server.budget().max(defaults::VERIFY_BUDGET);
                if let Err(error) = self.probe(&mut connection, patience).await {
                    self.report(generation, Trouble::Lost, &error);
                    return None;
                }
            } else if let State::Down { suspect, .. } = &*self.state.borrow() {
                connection = suspect.clone()?;
                break;
            }
        }
        self.probe(&mut connection, defaults::VERIFY_BUDGET).await.is_ok().then_some(connection)
    }

    async fn probe(&self, connection: &mut MultiplexedConnection, patience: Duration) -> CacheResult<()> {
        match time::timeout(patience, ping(connection)).await {
            Ok(outcome) => outcome.map_err(|error| self.server.explain(error, patience)),
            Err(_) => Err(self.server.unreachable("the connection fell silent")),
        }
    }

    pub(super) fn owned_by(&self, task: AbortHandle) {
        let _ = self.task.set(task);
    }

    /// Stops the task and with it the connection.
    pub(super) fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// The task is gone: nothing on this link will ever be answered.
    pub(super) fn runtime_ended(&self) {
        let error = if self.server.is_closed() { self.server.closed() } else { self.server.runtime_ended() };
        self.state.send_replace(State::Down { error, suspect: None });
    }
}
