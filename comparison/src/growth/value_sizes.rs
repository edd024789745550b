//! Hits in Redis of values of 64 bytes to 1 MiB.

use std::sync::Arc;

use anyhow::Result;

use super::LIMIT;
use crate::contenders::raw;
use crate::contenders::reader::Reader;
use crate::grid::{Contender, Measure, Row};
use crate::stage::{Stage, wide_runtime};
use crate::unit::{Unit, float};
use crate::workload::value;

const SIZES: [usize; 5] = [64, 1_024, 16 * 1_024, 128 * 1_024, 1_024 * 1_024];
const IN_FLIGHT: usize = 16;
/// Different keys of each size: two for every caller.
const KEYS: usize = IN_FLIGHT * 2;
const READS_MAX: usize = 20_000;
/// Of every round and size.
const BYTES: usize = 256 * 1_024 * 1_024;

pub(crate) fn build(stage: &Stage) -> Result<Row> {
    stage.empty_redis()?;
    let (runtime, url) = (Arc::new(wide_runtime()?), stage.redis_url());
    let of_size = |size: usize| (0..KEYS).map(|number| format!("size:{size}:{number}")).collect();
    let keys: [&'static [String]; 5] = SIZES.map(|size| &*Vec::leak(of_size(size)));
    let readers = runtime.block_on(async {
        for (size, keys) in SIZES.into_iter().zip(keys) {
            raw::fill(&mut raw::redis(&url).await?, keys, &value(size)).await?;
        }
        Reader::each(&url).await
    })?;
    let name = |size: usize| if size < 1_024 { format!("{size} B") } else { format!("{} KiB", size / 1_024) };
    let measure = |size: usize| Measure::new(name(size), Unit::PerSecond).at(float(size));
    let operations = SIZES.map(|size| stage.operations((BYTES / size).min(READS_MAX)));
    let contender = |reader: Reader| {
        let runtime = Arc::clone(&runtime);
        Contender::new(reader.name(), reader.role(), move || {
            let rate = |(keys, operations)| reader.together(&runtime, keys, IN_FLIGHT, operations).value();
            keys.into_iter().zip(operations).map(rate).collect()
        })
    };
    Ok(Row {
        id: "growth-value-sizes",
        title: format!("L2 hits from Redis by size of the value, {IN_FLIGHT} in flight"),
        measures: SIZES.map(measure).into(),
        contenders: readers.map(contender).into(),
        rounds: stage.slow_rounds,
        limit: LIMIT,
    })
}
