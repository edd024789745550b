//! A store inside this process may forget, but it never answers with anything but the last value stored.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use multi_tier_cache::InProcess;
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::clock::{Clock, Moment};
use multi_tier_cache::entry::Entry;
use multi_tier_cache::testing::ManualClock;
use proptest::prelude::*;

/// Stores small enough to evict all the time.
fn stores(clock: &Clock) -> Vec<Arc<dyn InProcess>> {
    let clock = || clock.clone();
    vec![
        Arc::new(QuickCacheBackend::new(3).unwrap().with_clock(clock())),
        Arc::new(QuickCacheBackend::new(12).unwrap().with_clock(clock())),
        Arc::new(QuickCacheBackend::with_max_bytes(2_000).unwrap().with_clock(clock())),
        Arc::new(DashMapCache::with_capacity(3).unwrap().with_clock(clock())),
        Arc::new(DashMapCache::new().with_clock(clock())),
        #[cfg(feature = "moka")]
        Arc::new(moka(5).with_clock(clock())),
    ]
}

#[cfg(feature = "moka")]
fn moka(max_capacity: u64) -> multi_tier_cache::backends::MokaCache {
    use multi_tier_cache::backends::{MokaCache, MokaCacheConfig};
    MokaCache::new(MokaCacheConfig { max_capacity, ..MokaCacheConfig::default() }).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Store { key: u8, length: usize, ttl: u64 },
    Evict(u8),
    EvictWhere(u8),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..16_u8;
    let length = prop_oneof![4 => 0..50_usize, 1 => 500..3_000_usize];
    let step = prop_oneof![
        6 => (key.clone(), length, 1..20_u64).prop_map(|(key, length, ttl)| Step::Store { key, length, ttl }),
        1 => key.clone().prop_map(Step::Evict),
        1 => (2..5_u8).prop_map(Step::EvictWhere),
        2 => (0..6_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..200)
}

fn name(key: u8) -> String {
    format!("key:{key}")
}

fn number(name: &str) -> u8 {
    name.trim_start_matches("key:").parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lookup_answers_the_last_value_or_nothing(steps in steps()) {
        let time = ManualClock::new();
        for store in stores(&time.clock()) {
            let mut last: HashMap<u8, (Bytes, Moment)> = HashMap::new();
            for (n, step) in steps.iter().enumerate() {
                match *step {
                    Step::Store { key, length, ttl } => {
                        let value = Bytes::from(format!("{n}:{}", "v".repeat(length)));
                        let expires = time.clock().now().after(Duration::from_secs(ttl));
                        store.store(&name(key).into(), Entry::from_bytes(value.clone(), expires));
                        last.insert(key, (value, expires));
                    }
                    Step::Evict(key) => {
                        store.evict(&name(key));
                        last.remove(&key);
                    }
                    Step::EvictWhere(divisor) => {
                        store.evict_where(&|name| number(name).is_multiple_of(divisor));
                        last.retain(|key, _| !key.is_multiple_of(divisor));
                    }
                    Step::Pass(seconds) => time.advance(Duration::from_secs(seconds)),
                }
                for key in 0..16 {
                    if let Some(found) = store.lookup(&name(key)) {
                        let (value, expires) = last.get(&key).unwrap();
                        prop_assert_eq!(&found.bytes().unwrap(), value);
                        prop_assert_eq!(found.expires(), *expires);
                        prop_assert!(!time.clock().has_passed(*expires));
                    }
                }
            }
        }
    }
}

// Readers and evictions by others must not bring an old value back to the one who wrote.
#[test]
fn a_writer_reads_its_own_writes_while_others_read_and_sweep() {
    for store in stores(&Clock::system()) {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..3_u8)
                .map(|writer| {
                    let store = &store;
                    scope.spawn(move || {
                        for version in 0..3_000_u64 {
                            let key: Arc<str> = name(writer * 4 + u8::try_from(version % 4).unwrap()).into();
                            let value = Bytes::from(version.to_be_bytes().to_vec());
                            let ttl = Duration::from_nanos(if version.is_multiple_of(5) { 1 } else { u64::MAX / 4 });
                            store.store(&key, Entry::from_bytes(value.clone(), Clock::system().now().after(ttl)));
                            if let Some(found) = store.lookup(&key) {
                                assert_eq!(found.bytes().unwrap(), value);
                            }
                            if version.is_multiple_of(3) {
                                store.evict(&key);
                                assert!(store.lookup(&key).is_none());
                            }
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for key in 0..12 {
                        drop(store.lookup(&name(key)));
                    }
                    store.evict_where(&|name| number(name) == 99);
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
