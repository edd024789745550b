//! A hit, and what an entry takes, in first tiers of a thousand to ten million entries.

use std::fs;
use std::hint::black_box;

use anyhow::Result;
use tokio::runtime::Builder;

use super::LIMIT;
use crate::allocations::Span;
use crate::contenders::first_tier::{FirstTier, Maker};
use crate::grid::{Contender, Measure, Row};
use crate::rounds::{busy, per_operation};
use crate::stage::Stage;
use crate::unit::{Unit, float, median};
use crate::workload::{SMALL_VALUE, keys, own_value};

const MAKERS: [Maker; 5] = [Maker::QuickCache, Maker::Moka, Maker::Ours, Maker::Established, Maker::FoyerLru];
const SIZES: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// Of reads, each as long as the others.
const PASSES: usize = 5;
/// What the largest size needs, in KiB: a thousand bytes an entry, and the keys once more.
const LARGEST_NEEDS: u64 = 12 * 1024 * 1024;

pub(crate) fn build(stage: &Stage) -> Row {
    let count = match (stage.quick, available_memory() > LARGEST_NEEDS) {
        (true, _) => 3,
        (false, false) => 4,
        (false, true) => 5,
    };
    let sizes = &SIZES[..count];
    let reads = stage.operations(400_000);
    let of = |what: &str, unit| {
        let measure = |size: &usize| Measure::new(format!("{what}, {size} entries"), unit).at(float(*size));
        sizes.iter().map(measure).collect::<Vec<_>>()
    };
    let measures = [of("hit", Unit::Nanoseconds), of("memory per entry", Unit::Bytes)].concat();
    let contender = |maker: Maker| Contender::new(maker.name(), maker.role(), move || round(maker, sizes, reads));
    Row {
        id: "growth-entries",
        title: format!("L1 by entries, keys of 22 bytes, values of {SMALL_VALUE}"),
        measures,
        contenders: MAKERS.map(contender).into(),
        // Ten million entries take minutes to fill: a hit's cost is the median of several passes over one filling.
        rounds: 1,
        limit: LIMIT * 3,
    }
}

/// Nanoseconds of a hit for each size, then bytes of an entry.
fn round(maker: Maker, sizes: &[usize], reads: usize) -> Result<Vec<f64>> {
    let (mut costs, mut weights) = (Vec::new(), Vec::new());
    for size in sizes {
        let (cost, weight) = one_size(maker, *size, reads)?;
        costs.push(cost);
        weights.push(weight);
    }
    Ok([costs, weights].concat())
}

fn one_size(maker: Maker, size: usize, reads: usize) -> Result<(f64, f64)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let keys = keys(size);
    runtime.block_on(async {
        let span = Span::begin();
        let tier = filled(maker, &keys).await?;
        let bytes = span.bytes();
        drop(span);
        // A store may evict a few before it is full: its shards fill unevenly.
        let mut held: Vec<&str> = Vec::with_capacity(size);
        for key in &keys {
            if tier.has(key).await {
                held.push(key);
            }
        }
        anyhow::ensure!(held.len() > size / 2, "{} of {size} entries were held", held.len());
        fastrand::Rng::with_seed(3).shuffle(&mut held);
        let mut held_again = held.iter().cycle();
        let mut costs = [0.0; PASSES];
        for cost in &mut costs {
            let started = busy();
            for key in held_again.by_ref().take(reads) {
                black_box(tier.has(black_box(key)).await);
            }
            *cost = per_operation(started, reads);
        }
        costs.sort_by(f64::total_cmp);
        Ok((median(&costs), bytes / float(held.len())))
    })
}

async fn filled(maker: Maker, keys: &[String]) -> Result<FirstTier> {
    let tier = maker.make(keys.len()).await?;
    for key in keys {
        tier.put(key, own_value(SMALL_VALUE)).await?;
    }
    tier.settle();
    Ok(tier)
}

/// In KiB.
fn available_memory() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
