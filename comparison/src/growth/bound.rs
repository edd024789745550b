//! Whether a first tier bounded by bytes stays there. Who weighs by key and value alone holds more than that.

use std::sync::Arc;

use ::ours::backends::QuickCacheBackend;
use anyhow::Result;
use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::runtime::Builder;

use super::LIMIT;
use crate::allocations::Span;
use crate::contenders::first_tier::FirstTier;
use crate::contenders::{QUICK_CACHE, foyer};
use crate::grid::{Contender, Measure, Row};
use crate::rounds::Role;
use crate::stage::Stage;
use crate::unit::{Unit, float};
use crate::workload::{SMALL_VALUE, key, own_value};

const MIB: usize = 1024 * 1024;
/// Bytes of keys and values that are stored for each byte of the bound: enough that evicted keys fill the lists of what
/// is remembered of them.
const TIMES_MIXED: usize = 16;
const TIMES_SMALL: usize = 3;
/// Values of mixed sizes have 2^6 to 2^16 bytes, each power as likely as any other.
const SMALLEST: f64 = 6.0;
const LARGEST: f64 = 16.0;
/// What is held may exceed the bound by so much.
const TOLERANCE: f64 = 1.05;
/// Entries between looks.
const LOOK: usize = 1_000;

type Make = fn(usize) -> Store;

enum Store {
    QuickCache(Cache<Arc<str>, Bytes, Payload>),
    Moka(moka::sync::Cache<Arc<str>, Bytes>),
    Foyer(foyer::Foyer<Bytes>),
    Ours(FirstTier),
}

/// Weighs key and value.
#[derive(Clone)]
struct Payload;

impl quick_cache::Weighter<Arc<str>, Bytes> for Payload {
    fn weight(&self, key: &Arc<str>, value: &Bytes) -> u64 {
        (key.len() + value.len()) as u64
    }
}

pub(crate) fn build(stage: &Stage) -> Row {
    let bound = if stage.quick { 16 * MIB } else { 256 * MIB };
    let measures = ["values of 64 B to 64 KiB", "values of 100 bytes"]
        .map(|name| Measure::new(format!("most held, of the bound, {name}"), Unit::Share).at_most(TOLERANCE));
    let raw = |name, make: Make| Contender::new(name, Role::Raw, move || round(|| Ok(make(bound)), bound));
    let ours = Contender::new("ours", Role::Ours, move || round(|| ours(bound), bound));
    let contenders = vec![
        raw(QUICK_CACHE, |bound| {
            Store::QuickCache(Cache::with_weighter(bound / (SMALL_VALUE * 2), bound as u64, Payload))
        }),
        raw("moka", |bound| {
            let weigh = |key: &Arc<str>, value: &Bytes| u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX);
            Store::Moka(moka::sync::Cache::builder().max_capacity(bound as u64).weigher(weigh).build())
        }),
        raw(foyer::LRU, |bound| {
            Store::Foyer(foyer::weighed(bound, |key: &Arc<str>, value: &Bytes| key.len() + value.len()))
        }),
        ours,
    ];
    let title = format!("L1 bounded by {} MiB", bound / MIB);
    let measures = measures.into();
    Row { id: "growth-bound", title, measures, contenders, rounds: stage.long_rounds, limit: LIMIT }
}

fn ours(bound: usize) -> Result<Store> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(Store::Ours(runtime.block_on(FirstTier::ours(QuickCacheBackend::with_max_bytes(bound as u64)?))?))
}

/// The most that was allocated at any look, for each kind of values.
fn round(make: impl Fn() -> Result<Store>, bound: usize) -> Result<Vec<f64>> {
    let mut random = fastrand::Rng::with_seed(5);
    let mixed = || {
        let exponent = SMALLEST + random.f64() * (LARGEST - SMALLEST);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 2^6 and 2^16")]
        let length = exponent.exp2() as usize;
        length
    };
    let mixed = most_held(&make, bound, bound * TIMES_MIXED, mixed)?;
    let small = most_held(&make, bound, bound * TIMES_SMALL, || SMALL_VALUE)?;
    Ok(vec![mixed, small])
}

fn most_held(
    make: impl Fn() -> Result<Store>,
    bound: usize,
    in_all: usize,
    mut length: impl FnMut() -> usize,
) -> Result<f64> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut stored, mut number, mut most) = (0, 0, 0.0_f64);
    let span = Span::begin();
    let store = make()?;
    while stored < in_all {
        let (key, length) = (key(number), length());
        store.put(&runtime, &key, own_value(length))?;
        (stored, number) = (stored + key.len() + length, number + 1);
        if number % LOOK == 0 {
            most = most.max(span.bytes());
        }
    }
    Ok(most / float(bound))
}

impl Store {
    fn put(&self, runtime: &tokio::runtime::Runtime, key: &str, value: Bytes) -> Result<()> {
        match self {
            Self::QuickCache(cache) => cache.insert(key.into(), value),
            Self::Moka(cache) => cache.insert(key.into(), value),
            Self::Foyer(cache) => drop(cache.insert(key.into(), value)),
            Self::Ours(tier) => runtime.block_on(tier.put(key, value))?,
        }
        Ok(())
    }
}
