//! Stories between threads inside one process: a reader caught between two steps of a removal.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation ends the test")]

mod common;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use common::{OLD, PATIENCE};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::entry::Entry;
use multi_tier_cache::{Bytes, CacheBackend, CacheManager, CacheResult, InProcess, L2CacheBackend};
use parking_lot::Mutex;

/// An in-process tier that stops its callers' threads where the test wants them.
struct Gated {
    store: DashMapCache,
    lookups: Mutex<Vec<Option<Gate>>>,
    sweeps: Mutex<Vec<Option<Gate>>>,
}

/// Where a thread reports itself and waits.
struct Gate {
    reached: Sender<()>,
    released: Receiver<()>,
}

impl Gate {
    fn new() -> (Self, Receiver<()>, Sender<()>) {
        let ((reached, was_reached), (release, released)) = (channel(), channel());
        (Self { reached, released }, was_reached, release)
    }

    /// The next gate of a list, `None` being an open one.
    fn pass(gates: &Mutex<Vec<Option<Self>>>) {
        let next = gates.lock().pop();
        if let Some(gate) = next.flatten() {
            gate.reached.send(()).unwrap();
            gate.released.recv_timeout(PATIENCE).unwrap();
        }
    }
}

impl InProcess for Gated {
    fn lookup(&self, key: &str) -> Option<Entry> {
        let found = self.store.lookup(key);
        Gate::pass(&self.lookups);
        found
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        InProcess::store(&self.store, key, entry);
    }

    fn evict(&self, key: &str) {
        self.store.evict(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        Gate::pass(&self.sweeps);
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

fn now<R>(verb: impl Future<Output = R>) -> R {
    verb.now_or_never().expect("in-process tiers need no waiting")
}

// 3. A pattern had marked the keys in flight and begun to sweep L2; a reader came, read L2's old value, and put it into
// L1 after L1 had been swept: the pattern was Ok, and the old value stayed.
#[test]
fn a_reader_that_comes_while_a_pattern_sweeps_brings_nothing_back() {
    let l1 = Arc::new(QuickCacheBackend::new(100).unwrap());
    let (sweep, sweeping, go_on_sweeping) = Gate::new();
    let (lookup, looking, go_on_looking) = Gate::new();
    // Of the reader's two lookups the second, which precedes its copy, is held.
    let l2 = Arc::new(Gated {
        store: DashMapCache::new(),
        lookups: Mutex::new(vec![Some(lookup), None]),
        sweeps: Mutex::new(vec![Some(sweep)]),
    });
    now(l2.set("k", OLD)).unwrap();
    let cache: Arc<CacheManager> = common::manager(vec![Arc::clone(&l1) as Arc<dyn L2CacheBackend>, l2]);
    thread::scope(|scope| {
        let removal = scope.spawn(|| now(cache.invalidate_pattern("k*")));
        sweeping.recv_timeout(PATIENCE).unwrap();
        let reader = scope.spawn(|| now(cache.get("k")));
        looking.recv_timeout(PATIENCE).unwrap();
        go_on_sweeping.send(()).unwrap();
        // A removal that must wait for the reader is right to do so; one that need not ends first.
        let waiting = std::time::Instant::now();
        while !removal.is_finished() && waiting.elapsed() < Duration::from_millis(300) {
            thread::yield_now();
        }
        go_on_looking.send(()).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), Some(OLD), "it came before the removal ended");
        removal.join().unwrap().unwrap();
    });
    assert_eq!(now(l1.get("k")), None, "L1 after the pattern was Ok");
    assert_eq!(now(cache.get("k")).unwrap(), None);
}
