//! Every backend keeps the contract.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, missing_docs)]

mod contract;

use std::sync::Arc;
use std::time::Duration;

use contract::{Backend, Expect, Time, backend_contract};
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::testing::ManualClock;

fn in_process(name: &'static str, clock: &ManualClock) -> Expect {
    Expect {
        name,
        in_process: true,
        patterns: true,
        clear: true,
        tick: Duration::ZERO,
        longest_ttl: Duration::MAX,
        time: Time::Manual(clock.clone()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_cache_keeps_the_contract() {
    let time = ManualClock::new();
    let make = || Arc::new(QuickCacheBackend::new(10_000).unwrap().with_clock(time.clock())) as Backend;
    backend_contract(make, in_process("QuickCache", &time)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_cache_bounded_by_bytes_keeps_the_contract() {
    let time = ManualClock::new();
    let make =
        || Arc::new(QuickCacheBackend::with_max_bytes(64 * 1024 * 1024).unwrap().with_clock(time.clock())) as Backend;
    backend_contract(make, in_process("QuickCache", &time)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashmap_keeps_the_contract() {
    let time = ManualClock::new();
    let make = || Arc::new(DashMapCache::new().with_clock(time.clock())) as Backend;
    backend_contract(make, in_process("DashMap", &time)).await;
}

#[cfg(feature = "moka")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moka_keeps_the_contract() {
    use multi_tier_cache::backends::{MokaCache, MokaCacheConfig};
    let time = ManualClock::new();
    let config = MokaCacheConfig::default();
    let make = || Arc::new(MokaCache::new(config).unwrap().with_clock(time.clock())) as Backend;
    backend_contract(make, Expect { longest_ttl: config.time_to_live, ..in_process("Moka", &time) }).await;
}
