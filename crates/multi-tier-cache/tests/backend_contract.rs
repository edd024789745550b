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

#[cfg_attr(not(feature = "memcached"), expect(dead_code, reason = "used by the backends with a server"))]
fn shared(name: &'static str) -> Expect {
    Expect {
        name,
        in_process: false,
        patterns: true,
        clear: true,
        tick: Duration::from_millis(1),
        longest_ttl: Duration::MAX,
        time: Time::Real,
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

#[cfg(feature = "tower")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_keeps_the_contract() {
    use multi_tier_cache::Capabilities;
    use multi_tier_cache::backends::{ServiceTier, StoreService};
    let time = ManualClock::new();
    let capabilities = Capabilities::PATTERN.and(Capabilities::CLEAR).and(Capabilities::SHARED);
    let make = || {
        let service = StoreService::new(Arc::new(DashMapCache::new().with_clock(time.clock())));
        Arc::new(ServiceTier::new("Service", service).with_capabilities(capabilities)) as Backend
    };
    backend_contract(make, Expect { in_process: false, ..in_process("Service", &time) }).await;
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

#[cfg(feature = "memcached")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memcached_keeps_the_contract() {
    use multi_tier_cache::backends::MemcachedCache;
    let server = test_servers::MemcachedServer::start().unwrap();
    let cache = Arc::new(MemcachedCache::with_url(&server.address()).unwrap()) as Backend;
    let tick = Duration::from_secs(1);
    let longest_ttl = Duration::from_secs(30 * 24 * 60 * 60);
    let expect = Expect { patterns: false, clear: false, tick, longest_ttl, ..shared("Memcached") };
    backend_contract(|| Arc::clone(&cache), expect).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_the_contract() {
    let server = test_servers::RedisServer::start().unwrap();
    let cache = multi_tier_cache::backends::RedisCache::with_url(&server.url()).await.unwrap();
    let cache = Arc::new(cache) as Backend;
    // Without a prefix it cannot tell its keys from others': clear is refused.
    backend_contract(|| Arc::clone(&cache), Expect { clear: false, ..shared("Redis") }).await;
}
