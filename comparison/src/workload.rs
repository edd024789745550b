//! Keys and values of the rows.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Keys that are resident in rows about hits.
pub(crate) const RESIDENT: usize = 1_000;
/// Entries of every first tier.
pub(crate) const L1_ENTRIES: u64 = 2_000;
pub(crate) const SMALL_VALUE: usize = 100;
pub(crate) const KIB_VALUE: usize = 1_024;

/// `count` keys of 22 bytes in an order that is the same in every run.
pub(crate) fn keys(count: usize) -> Vec<String> {
    let mut keys: Vec<String> = (0..count).map(key).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    keys
}

pub(crate) fn key(number: usize) -> String {
    format!("user:profile:{number:09}")
}

pub(crate) fn value(length: usize) -> Bytes {
    Bytes::from(vec![b'v'; length])
}

/// One that shares nothing with any other, already in the form that is cheap to share.
pub(crate) fn own_value(length: usize) -> Bytes {
    let value = value(length);
    drop(value.clone());
    value
}

/// A value with a decoded form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    id: u64,
    name: String,
    email: String,
    country: String,
    score: f64,
    active: bool,
}

impl Profile {
    pub(crate) fn new(key: &str) -> Self {
        Self {
            id: key.len() as u64,
            name: format!("Ada of {key}"),
            email: format!("{key}@example.org"),
            country: "Portugal".into(),
            score: 12.75,
            active: true,
        }
    }
}

/// Draws ranks with probability proportional to rank^-s.
pub(crate) struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    pub(crate) fn of(exponent: f64, ranks: usize) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=u32::try_from(ranks).unwrap_or(u32::MAX)).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self { cumulated: cumulated.collect() }
    }

    /// A rank from 0.
    pub(crate) fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let total = self.cumulated.last().copied().unwrap_or(0.0);
        let point = random.f64() * total;
        self.cumulated.partition_point(|sum| *sum < point).min(self.cumulated.len() - 1)
    }
}
