//! Hits in a first tier by one, two and four threads: all on one key, and each on any of a thousand.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use tokio::runtime::Runtime;

use super::LIMIT;
use crate::contenders::first_tier::{FirstTier, Maker};
use crate::grid::{Contender, Measure, Row};
use crate::stage::{Stage, wide_runtime};
use crate::unit::{Unit, float};
use crate::workload::{L1_ENTRIES, RESIDENT, SMALL_VALUE, keys, value};

const MAKERS: [Maker; 7] =
    [Maker::QuickCache, Maker::Moka, Maker::FoyerLru, Maker::Ours, Maker::Established, Maker::Amalgam, Maker::Cachet];
const THREADS: [usize; 3] = [1, 2, 4];

pub(crate) fn build(stage: &Stage) -> Row {
    let reads = stage.operations(300_000);
    let of = |what: &str| {
        let measure = |count: usize| {
            let name = format!("{what}, {count} thread{}", if count == 1 { "" } else { "s" });
            Measure::new(name, Unit::PerSecond).at(float(count))
        };
        THREADS.map(measure).to_vec()
    };
    let contender = |maker: Maker| Contender::new(maker.name(), maker.role(), move || round(maker, reads));
    Row {
        id: "growth-threads",
        title: format!("L1 hits by threads, {SMALL_VALUE} bytes"),
        measures: [of("one key"), of("1,000 keys")].concat(),
        contenders: MAKERS.map(contender).into(),
        rounds: stage.slow_rounds,
        limit: LIMIT,
    }
}

fn round(maker: Maker, reads: usize) -> Result<Vec<f64>> {
    let (runtime, keys) = (wide_runtime()?, keys(RESIDENT));
    let tier = runtime.block_on(async {
        let tier = maker.make(usize::try_from(L1_ENTRIES)?).await?;
        for key in &keys {
            tier.put(key, value(SMALL_VALUE)).await?;
        }
        anyhow::Ok(tier)
    })?;
    let of = |keys: &[String]| THREADS.map(|count| together(&runtime, &tier, keys, (count, reads))).to_vec();
    Ok([of(&keys[..1]), of(&keys)].concat())
}

/// Reads of all threads in a second; each begins at another key.
fn together(runtime: &Runtime, tier: &FirstTier, keys: &[String], (threads, reads): (usize, usize)) -> f64 {
    let started = Instant::now();
    thread::scope(|scope| {
        for number in 0..threads {
            let keys = keys.iter().cycle().skip(number * keys.len() / threads).take(reads / threads);
            scope.spawn(move || {
                runtime.block_on(async {
                    for key in keys {
                        black_box(tier.has(black_box(key)).await);
                    }
                });
            });
        }
    });
    float(reads) / started.elapsed().as_secs_f64()
}
