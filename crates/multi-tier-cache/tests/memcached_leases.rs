//! Several instances and one Memcached: it has no log, but what a load stores there is no older than the last removal.
#![cfg(feature = "memcached")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod common;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Count, NEW, OLD, PATIENCE, TTL, assert_at_rest, ended};
use futures_util::future::join_all;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::invalidation::{CoherenceConfig, InvalidationConfig};
use multi_tier_cache::{CacheBackend, CacheError, CacheManager, CacheStrategy, CacheSystemBuilder, CallOptions};
use multi_tier_cache::{L2CacheBackend, MemcachedCache, TierConfig, defaults};
use test_servers::MemcachedServer;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const STRATEGY: CacheStrategy = CacheStrategy::ShortTerm;

/// One process of a fleet.
struct Instance {
    cache: Arc<CacheManager>,
    l1: Arc<QuickCacheBackend>,
    l2: Arc<MemcachedCache>,
}

fn stack(server: &MemcachedServer) -> (Arc<QuickCacheBackend>, Arc<MemcachedCache>, CacheSystemBuilder) {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap());
    let l2 = Arc::new(MemcachedCache::with_url(&server.address()).unwrap());
    let builder = CacheSystemBuilder::new().with_l1(Arc::clone(&l1) as _).with_l2(Arc::clone(&l2) as _);
    (l1, l2, builder)
}

async fn instance_with(server: &MemcachedServer, coherence: CoherenceConfig) -> Instance {
    let (l1, l2, builder) = stack(server);
    let system = builder.with_coherence(coherence).build().await.unwrap();
    Instance { cache: Arc::clone(system.cache_manager()), l1, l2 }
}

async fn instance(server: &MemcachedServer) -> Instance {
    instance_with(server, CoherenceConfig::default()).await
}

/// A load that has begun, and ends with `value` when told to.
struct Loading {
    finish: oneshot::Sender<()>,
    caller: JoinHandle<Bytes>,
}

impl Loading {
    async fn begin(on: &Instance, value: Bytes) -> Self {
        let ((begin, began), (finish, finished)) = (oneshot::channel(), oneshot::channel::<()>());
        let cache = Arc::clone(&on.cache);
        let caller = tokio::spawn(async move {
            let load = || async {
                begin.send(()).unwrap();
                finished.await.unwrap();
                Ok(value)
            };
            cache.get_or_compute_with("k", STRATEGY, load).await.unwrap()
        });
        timeout(PATIENCE, began).await.unwrap().unwrap();
        Self { finish, caller }
    }

    async fn end(self) -> Bytes {
        self.finish.send(()).unwrap();
        ended(self.caller).await
    }
}

async fn load(on: &Instance, value: Bytes) -> Bytes {
    on.cache.get_or_compute_with("k", STRATEGY, || async { Ok(value) }).await.unwrap()
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_was_loaded_before_another_instance_removed_it_is_stored_nowhere() {
    let server = MemcachedServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let loading = Loading::begin(&a, OLD).await;
    b.cache.invalidate("k").await.unwrap();
    assert_eq!(loading.end().await, OLD);
    assert_eq!((a.l1.get("k").await, a.l2.try_get("k").await.unwrap()), (None, None));
    assert_eq!(a.cache.coherence_stats().refused_fills, 1);
    assert_eq!((load(&b, NEW).await, load(&a, OLD).await), (NEW, NEW));
    assert_at_rest(&a.cache);
}

#[tokio::test]
async fn what_was_loaded_before_another_instance_put_a_value_does_not_replace_it() {
    let server = MemcachedServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let loading = Loading::begin(&a, OLD).await;
    b.cache.update_cache("k", NEW, Some(TTL)).await.unwrap();
    assert_eq!(loading.end().await, OLD);
    assert_eq!((a.l1.get("k").await, a.l2.try_get("k").await.unwrap()), (None, Some(NEW)));
    assert_eq!(a.cache.get("k").await.unwrap(), Some(NEW));
}

/// Two loads, the older of which ends last: of one instance or of two.
#[tokio::test]
async fn a_load_begun_after_a_removal_is_not_replaced_by_one_begun_before() {
    for same in [true, false] {
        let server = MemcachedServer::start().unwrap();
        let (a, b) = (instance(&server).await, instance(&server).await);
        let later = if same { &a } else { &b };
        let old = Loading::begin(&a, OLD).await;
        later.cache.invalidate("k").await.unwrap();
        let new = Loading::begin(later, NEW).await;
        assert_eq!(old.end().await, OLD);
        assert_eq!(a.l2.try_get("k").await.unwrap(), None);
        assert_eq!(new.end().await, NEW);
        assert_eq!((later.l1.get("k").await, a.l2.try_get("k").await.unwrap()), (Some(NEW), Some(NEW)));
    }
}

#[tokio::test]
async fn a_fleet_loads_a_cold_key_once() {
    let server = MemcachedServer::start().unwrap();
    let fleet = join_all((0..5).map(|_| instance(&server))).await;
    let loads = Count::default();
    for round in 0..5 {
        let key = format!("cold:{round}");
        let callers = fleet.iter().flat_map(|on| [on; 4]).map(|on| {
            let load = || async {
                loads.add();
                sleep(Duration::from_millis(200)).await;
                Ok(NEW)
            };
            on.cache.get_or_compute_with(&key, STRATEGY, load)
        });
        assert!(join_all(callers).await.into_iter().all(|value| value.unwrap() == NEW));
        assert_eq!(loads.get(), round + 1);
    }
    assert!(fleet.iter().map(|on| on.cache.coherence_stats().lease_waits).sum::<u64>() > 0);
    fleet.iter().for_each(|on| assert_at_rest(&on.cache));
}

#[tokio::test]
async fn a_lease_is_no_value_to_anybody() {
    let server = MemcachedServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let loading = Loading::begin(&a, NEW).await;
    assert_eq!(b.cache.get("k").await.unwrap(), None);
    assert_eq!((b.l2.get("k").await, b.l2.try_get_with_ttl("k").await.unwrap()), (None, None));
    assert_eq!(b.l2.get_many(&["k", "other"]).await.unwrap(), [None, None]);
    assert_eq!(loading.end().await, NEW);
    assert_eq!(b.cache.get("k").await.unwrap(), Some(NEW));
}

/// Its caller went away; or its loader failed.
#[tokio::test]
async fn a_load_that_ends_without_a_value_gives_its_lease_back() {
    let server = MemcachedServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let began = Instant::now();
    let loading = Loading::begin(&a, OLD).await;
    loading.caller.abort();
    assert_eq!(load(&b, NEW).await, NEW);
    assert_eq!(b.l2.try_get("k").await.unwrap(), Some(NEW));
    b.cache.invalidate("k").await.unwrap();
    let failing = || async { Err(CacheError::InternalError("no source".into())) };
    a.cache.get_or_compute_with("k", STRATEGY, failing).await.unwrap_err();
    assert_eq!(load(&b, NEW).await, NEW);
    assert_eq!(b.l2.try_get("k").await.unwrap(), Some(NEW));
    assert!(began.elapsed() < defaults::WAIT_BUDGET, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_load_longer_than_its_lease_keeps_it() {
    let server = MemcachedServer::start().unwrap();
    let short = CoherenceConfig::default().with_lease(Duration::from_secs(2));
    let (a, b) = (instance_with(&server, short.clone()).await, instance_with(&server, short).await);
    let loading = Loading::begin(&a, NEW).await;
    sleep(Duration::from_secs(4)).await;
    // Waits for its budget, then loads for itself alone.
    assert_eq!(load(&b, OLD).await, OLD);
    assert_eq!((b.l1.get("k").await, b.l2.try_get("k").await.unwrap()), (None, None));
    assert_eq!(b.cache.coherence_stats().unleased_loads, 1);
    assert_eq!(loading.end().await, NEW);
    assert_eq!(load(&b, OLD).await, NEW);
}

#[tokio::test]
async fn a_server_that_dies_during_a_load_costs_the_fill_and_nothing_more() {
    let mut server = MemcachedServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let loading = Loading::begin(&a, OLD).await;
    server.kill().unwrap();
    assert!(matches!(b.cache.invalidate("k").await.unwrap_err(), CacheError::InvalidationError(_)));
    assert_eq!(load(&b, NEW).await, NEW);
    server.restart().unwrap();
    until("the server", || async { a.l2.health_check().await && b.l2.health_check().await }).await;
    until("the removal", || async { b.cache.coherence_stats().pending_invalidations == 0 }).await;
    // The same key again, on the restarted server: the first load must not take this lease for its own.
    b.cache.invalidate("k").await.unwrap();
    let newer = Loading::begin(&b, NEW).await;
    assert_eq!(loading.end().await, OLD);
    assert_eq!(a.l2.try_get("k").await.unwrap(), None);
    assert_eq!(newer.end().await, NEW);
    assert_eq!(b.l2.try_get("k").await.unwrap(), Some(NEW));
    assert_at_rest(&b.cache);
}

#[tokio::test]
async fn values_that_look_tagged_and_empty_ones_come_back_as_they_are() {
    let server = MemcachedServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    for value in [&b""[..], b"\xC1mtc", b"\xC1mtc\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01tv"] {
        let value = Bytes::from_static(value);
        assert_eq!(load(&a, value.clone()).await, value);
        assert_eq!(b.cache.get("k").await.unwrap(), Some(value.clone()));
        b.cache.update_cache("k", value.clone(), Some(TTL)).await.unwrap();
        a.cache.invalidate("other").await.unwrap();
        assert_eq!(instance(&server).await.cache.get("k").await.unwrap(), Some(value));
        a.cache.invalidate("k").await.unwrap();
        b.cache.invalidate("k").await.unwrap();
    }
    // What another program stored behind a head with tags is a miss: nobody could revoke it.
    let tagged = Bytes::from_static(b"\xC1mtc\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01tv");
    a.l2.set_with_ttl("k", tagged, TTL).await.unwrap();
    assert_eq!(a.cache.get("k").await.unwrap(), None);
    assert_eq!(load(&a, NEW).await, NEW);
}

/// Without a log there is nothing to join, and nothing that tags, patterns or positions could rest on.
#[tokio::test]
async fn what_needs_a_log_is_an_error() {
    let server = MemcachedServer::start().unwrap();
    let (_, _, builder) = stack(&server);
    let joined = builder.with_invalidation(InvalidationConfig::default()).build().await;
    assert!(matches!(joined, Err(CacheError::ConfigError(message)) if message.contains("Redis")));
    let a = instance(&server).await;
    assert!(a.cache.invalidation_stats().is_none());
    load(&a, OLD).await;
    let tagged = CallOptions::default().with_tags(["t"]);
    let refused = |error| assert!(matches!(error, CacheError::ConfigError(_)), "{error:?}");
    refused(a.cache.get_or_compute_with_options("t", &tagged, || async { Ok(OLD) }).await.unwrap_err());
    refused(a.cache.put("t", OLD, &tagged).await.unwrap_err());
    refused(a.cache.remove_tag("t").await.unwrap_err());
    refused(a.cache.clear().await.unwrap_err());
    assert_eq!(a.l1.get("k").await, Some(OLD), "a refused clear removes nothing");
    let error = a.cache.remove_pattern("*").await.unwrap_err();
    assert!(matches!(error, CacheError::InvalidationError(_)) && !error.is_retryable(), "{error:?}");
    assert_eq!((a.l1.get("k").await, a.l2.try_get("k").await.unwrap()), (None, Some(OLD)));
    assert_eq!(a.cache.coherence_stats().pending_invalidations, 0);
    assert_eq!(a.cache.remove("k").await.unwrap(), None, "no place in a log");
}

/// A shared tier below takes what it is given. A late write there must not come up after a removal.
#[tokio::test]
async fn after_a_removal_nothing_comes_up_from_a_shared_tier_below() {
    let (upper, lower) = (MemcachedServer::start().unwrap(), MemcachedServer::start().unwrap());
    let below = Arc::new(MemcachedCache::with_url(&lower.address()).unwrap());
    let (_, l2, builder) = stack(&upper);
    let builder = builder.with_tier(Arc::clone(&below) as _, TierConfig::as_l3());
    let system = builder.build().await.unwrap();
    let cache = system.cache_manager();
    below.set_with_ttl("k", OLD, TTL).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(OLD));
    cache.invalidate("k").await.unwrap();
    assert_eq!(below.try_get("k").await.unwrap(), None);
    below.set_with_ttl("k", OLD, TTL).await.unwrap();
    assert_eq!((cache.get("k").await.unwrap(), l2.try_get("k").await.unwrap()), (None, None));
    let loaded = cache.get_or_compute_with("k", STRATEGY, || async { Ok(NEW) }).await.unwrap();
    assert_eq!((loaded, l2.try_get("k").await.unwrap()), (NEW, Some(NEW)));
    // Keys that were not removed are read there.
    below.set_with_ttl("other", OLD, TTL).await.unwrap();
    assert_eq!(cache.get("other").await.unwrap(), Some(OLD));
}

/// `memcached -m` is full of leases of dead loads, say: evicted, they refuse.
#[tokio::test]
async fn a_lease_that_is_gone_refuses_its_fill() {
    let server = MemcachedServer::start().unwrap();
    let (a, b) = (instance(&server).await, instance(&server).await);
    let loading = Loading::begin(&a, OLD).await;
    // As an eviction, behind everybody's back.
    b.l2.remove("k").await.unwrap();
    assert_eq!(loading.end().await, OLD);
    assert_eq!((a.l1.get("k").await, a.l2.try_get("k").await.unwrap()), (None, None));
}
