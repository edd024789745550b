//! Stories between threads inside one process: a reader caught between two steps of a removal.

mod common;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::gated::{Gate, Gated, now};
use common::{OLD, PATIENCE};
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{CacheBackend, CacheManager, L2CacheBackend};

// 3. A pattern had marked the keys in flight and begun to sweep L2; a reader came, read L2's old value, and put it into
// L1 after L1 had been swept: the pattern was Ok, and the old value stayed.
#[test]
fn a_reader_that_comes_while_a_pattern_sweeps_brings_nothing_back() {
    let l1 = Arc::new(QuickCacheBackend::new(100).unwrap());
    let (sweep, sweeping, go_on_sweeping) = Gate::new();
    let (lookup, looking, go_on_looking) = Gate::new();
    // Of the reader's two lookups the second, which precedes its copy, is held.
    let l2 = Gated::new(vec![None, Some(lookup)], Some(sweep));
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
