//! An L1 hit allocates nothing, through the public verbs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{Cache, CacheError, CacheManager, CacheStrategy, CallOptions, DashMapCache};

/// A hit is ready at the first poll.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit awaits nothing"),
    }
}

fn cache() -> CacheManager {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap());
    let cache = CacheManager::new_with_backends(l1, Arc::new(DashMapCache::new()), None).unwrap();
    let value = Bytes::from(vec![7; 1_024]);
    now(cache.set_with_strategy("bytes", value, CacheStrategy::LongTerm)).unwrap();
    let load = || async { Ok("shared".to_owned()) };
    now(cache.get_or_compute_shared("shared", CacheStrategy::LongTerm, load)).unwrap();
    cache
}

fn allocations(work: impl Fn()) -> u64 {
    work();
    measure(|| (0..100).for_each(|_| work())).count_total
}

#[test]
fn an_l1_hit_allocates_nothing() {
    let cache = cache();
    assert_eq!(allocations(|| assert!(now(cache.get("bytes")).unwrap().is_some())), 0, "get");
    let computed = || {
        let load = || async { unreachable!("it is a hit") };
        assert!(now(cache.get_or_compute_with("bytes", CacheStrategy::LongTerm, load)).is_ok());
    };
    assert_eq!(allocations(computed), 0, "get_or_compute_with");
    let shared = || {
        let load = || async { unreachable!("it is a hit") };
        let value = now(cache.get_or_compute_shared::<String, _, _>("shared", CacheStrategy::LongTerm, load));
        assert_eq!(*value.unwrap(), "shared");
    };
    assert_eq!(allocations(shared), 0, "get_or_compute_shared");
}

#[test]
fn a_read_takes_little_room_until_it_has_to_wait() {
    let cache = cache();
    let users: Cache<u64, String> = cache.cache("users").unwrap();
    for (verb, size, most) in [
        ("get", size_of_val(&cache.get("bytes")), 256),
        ("typed get", size_of_val(&users.get(&7)), 48),
        ("typed get_or_load", size_of_val(&users.get_or_load(&7, || async { Ok(String::new()) })), 48),
    ] {
        assert!(size <= most, "{verb}: {size}");
    }
}

#[test]
fn a_removal_takes_little_room() {
    let cache = cache();
    let users: Cache<u64, String> = cache.cache("users").unwrap();
    for (verb, size, most) in [
        ("invalidate", size_of_val(&cache.invalidate("k")), 192),
        ("remove", size_of_val(&cache.remove("k")), 160),
        ("remove_many", size_of_val(&cache.remove_many(&["k"])), 160),
        ("remove_pattern", size_of_val(&cache.remove_pattern("k")), 160),
        ("remove_tag", size_of_val(&cache.remove_tag("k")), 160),
        ("clear", size_of_val(&cache.clear()), 160),
        ("typed remove", size_of_val(&users.remove(&7)), 320),
        ("typed remove_many", size_of_val(&users.remove_many(&[7])), 192),
    ] {
        assert!(size <= most, "{verb}: {size}");
    }
}

#[test]
fn a_typed_hit_neither_allocates_nor_decodes() {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap());
    let manager = CacheManager::new_with_backends(l1, Arc::new(DashMapCache::new()), None).unwrap();
    let users: Cache<u64, String> = manager.cache("users").unwrap();
    let ada = now(users.get_or_load(&7, || async { Ok("Ada".to_owned()) })).unwrap();
    let elsewhere = "a loader that has something to carry".to_owned();
    let found = || {
        let carried = elsewhere.len();
        let load = move || async move { unreachable!("it is a hit, {carried}") };
        assert!(Arc::ptr_eq(&now(users.get_or_load(&7, load)).unwrap(), &ada));
    };
    assert_eq!(allocations(found), 0, "get_or_load");
    assert_eq!(allocations(|| assert!(now(users.get(&7)).unwrap().is_some())), 0, "get");
    let options = CallOptions::default();
    let fetched = || {
        let load = |_| async { unreachable!("it is a hit") };
        assert!(now(users.fetch::<_, CacheError, _, _>(&7, &options, load)).is_ok());
    };
    assert_eq!(allocations(fetched), 0, "fetch");
}

#[test]
fn a_miss_in_every_local_tier_allocates_nothing() {
    let cache = cache();
    assert_eq!(allocations(|| assert!(now(cache.get("absent")).unwrap().is_none())), 0);
}

/// What the load would take by clone is not cloned either.
#[cfg(feature = "macros")]
#[test]
fn a_hit_of_a_cached_function_allocates_nothing() {
    use multi_tier_cache::{Cache, CacheResult, CacheSystemBuilder, cached};

    #[cached(cache = names, key = (tenant, id), ttl = "1h", tags = [format!("tenant:{tenant}")])]
    async fn name(names: &Cache<(String, u64), String>, tenant: &str, id: u64) -> CacheResult<Arc<String>> {
        Ok(format!("{tenant} {id}"))
    }

    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap());
    let system = now(CacheSystemBuilder::new().with_l1(l1).with_l2(Arc::new(DashMapCache::new())).build()).unwrap();
    let names = system.cache("names").unwrap();
    assert_eq!(allocations(|| assert_eq!(*now(name(&names, "tea", 7)).unwrap(), "tea 7")), 0);
}
