//! What a test does to the coordinator in memory, and to a cache's bus, by hand.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::cache_manager::CacheManager;
use crate::clock::Clock;
use crate::coordinator::memory::{Hub, State};
use crate::defaults;
use crate::invalidation::Bus;

impl Hub {
    /// An empty tier, to be given to several caches as their L2: it is their coordinator too.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> multi_tier_cache::CacheResult<()> {
    /// use multi_tier_cache::testing::Hub;
    /// use multi_tier_cache::{Arc, CacheStrategy, CacheSystemBuilder};
    ///
    /// let hub = Hub::new();
    /// let one = CacheSystemBuilder::new().with_l2(Arc::new(hub.clone())).build().await?;
    /// let other = CacheSystemBuilder::new().with_l2(Arc::new(hub)).build().await?;
    /// one.cache_manager().set_with_strategy("k", "v".into(), CacheStrategy::ShortTerm).await?;
    /// assert_eq!(other.cache_manager().get("k").await?, Some("v".into()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self::with_log(clock, defaults::LOG_LENGTH)
    }

    /// An empty tier that keeps this many invalidations in its log.
    #[must_use]
    pub fn with_log_length(clock: Clock, length: usize) -> Self {
        Self::with_log(clock, length)
    }

    /// Loses everything, as a server that restarts empty; subscriptions end.
    pub fn restart_empty(&self) {
        self.with_state(|state, _| state.flush());
        self.cut();
    }

    /// What an asynchronous replica has at this moment.
    #[must_use]
    pub fn replica(&self) -> Replica {
        Replica(self.with_state(|state, _| state.clone()))
    }

    /// Lets a replica take over: what happened since is lost; subscriptions end.
    pub fn fail_over(&self, to: Replica) {
        self.with_state(|state, _| *state = to.0);
        self.cut();
    }

    /// Evicts every lease, as a server does that is full.
    pub fn evict_leases(&self) {
        self.with_state(|state, _| state.evict_leases());
    }

    /// Evicts the tokens of all tags.
    pub fn evict_tags(&self) {
        self.with_state(|state, _| state.evict_tags());
    }

    /// Evicts the account of the namespace: epoch, fence and the place of the log.
    pub fn evict_bus(&self) {
        self.with_state(|state, _| state.evict_bus());
    }

    /// Publishes a payload as any other program can.
    pub fn publish_raw(&self, payload: &[u8]) {
        self.publish(payload);
    }

    /// Ends every subscription.
    pub fn cut_subscriptions(&self) {
        self.cut();
    }

    /// Messages from now on, for a test that delivers them itself.
    #[must_use]
    pub fn messages(&self) -> mpsc::UnboundedReceiver<Vec<u8>> {
        self.listener()
    }

    /// What is stored under `key`, heads of tags included.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<bytes::Bytes> {
        self.with_state(|state, now| state.value(key, now)).map(|(value, _)| value)
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

/// The state of a [`Hub`] at some moment.
pub struct Replica(State);

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").finish_non_exhaustive()
    }
}

/// The bus of a cache, driven by hand: outside a Tokio runtime nobody else does.
#[derive(Clone)]
pub struct Pump(Arc<Bus>);

impl Pump {
    /// The bus of `cache`; `None` if it has joined none.
    #[must_use]
    pub fn of(cache: &CacheManager) -> Option<Self> {
        cache.bus().map(Self)
    }

    /// Hears a message.
    pub fn deliver(&self, payload: &[u8]) {
        self.0.receive(payload);
    }

    /// Looks where the log stands, and reads what is missing. True if all of it was applied.
    pub async fn poll(&self) -> bool {
        self.0.catch_up().await
    }
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump").finish_non_exhaustive()
    }
}
