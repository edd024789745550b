//! An in-process tier whose callers, being threads, can be stopped in the middle of a verb.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use multi_tier_cache::entry::Entry;
use multi_tier_cache::{Bytes, CacheBackend, CacheResult, DashMapCache, InProcess, L2CacheBackend};
use parking_lot::Mutex;

use super::PATIENCE;

/// An in-process tier that stops its callers' threads where the test wants them.
pub(crate) struct Gated {
    store: DashMapCache,
    lookups: Gates,
    sweeps: Gates,
}

impl Gated {
    /// Its lookups pass these gates, one each, `None` being an open one; its first sweep by pattern passes `sweep`.
    pub(crate) fn new(lookups: Vec<Option<Gate>>, sweep: Option<Gate>) -> Arc<Self> {
        let (lookups, sweeps) = (Gates::new(lookups), Gates::new(vec![sweep]));
        Arc::new(Self { store: DashMapCache::new(), lookups, sweeps })
    }
}

/// Where a thread reports itself and waits.
pub(crate) struct Gate {
    reached: Sender<()>,
    released: Receiver<()>,
}

impl Gate {
    /// A gate, what is told when a thread has come to it, and what lets that thread go on.
    pub(crate) fn new() -> (Self, Receiver<()>, Sender<()>) {
        let ((reached, was_reached), (release, released)) = (channel(), channel());
        (Self { reached, released }, was_reached, release)
    }

    /// The thread is there, and waits.
    pub(crate) fn pass(self) {
        self.reached.send(()).unwrap();
        self.released.recv_timeout(PATIENCE).unwrap();
    }
}

/// The gates that threads pass one after the other; after the last there is none.
pub(crate) struct Gates(Mutex<VecDeque<Option<Gate>>>);

impl Gates {
    pub(crate) fn new(gates: Vec<Option<Gate>>) -> Self {
        Self(Mutex::new(gates.into()))
    }

    pub(crate) fn pass(&self) {
        let next = self.0.lock().pop_front();
        if let Some(gate) = next.flatten() {
            gate.pass();
        }
    }
}

impl InProcess for Gated {
    fn lookup(&self, key: &str) -> Option<Entry> {
        let found = self.store.lookup(key);
        self.lookups.pass();
        found
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        InProcess::store(&self.store, key, entry);
    }

    fn evict(&self, key: &str) {
        self.store.evict(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        self.sweeps.pass();
        self.store.evict_where(matches);
    }
}

impl CacheBackend for Gated {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        self.store.get(key)
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.store.set_with_ttl(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.store.remove(key)
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        self.store.health_check()
    }

    fn name(&self) -> &'static str {
        "Gated"
    }

    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        Some(self)
    }
}

impl L2CacheBackend for Gated {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        self.store.get_with_ttl(key)
    }
}

/// What a verb over in-process tiers answers.
pub(crate) fn now<R>(verb: impl Future<Output = R>) -> R {
    verb.now_or_never().unwrap()
}
