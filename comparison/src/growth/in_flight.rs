//! Hits in Redis by one to 1,024 callers at a time.

use std::sync::Arc;

use anyhow::Result;

use super::LIMIT;
use crate::contenders::raw;
use crate::contenders::reader::Reader;
use crate::grid::{Contender, Measure, Row};
use crate::stage::{Stage, wide_runtime};
use crate::unit::{Unit, float};
use crate::workload::{KIB_VALUE, keys, value};

const KEYS: usize = 10_240;
const IN_FLIGHT: [usize; 6] = [1, 4, 16, 64, 256, 1_024];
/// Of every round, for each caller but at least so many in all.
const READS_EACH: usize = 60;
const READS_MIN: usize = 3_000;

pub(crate) fn build(stage: &Stage) -> Result<Row> {
    stage.empty_redis()?;
    let (runtime, url) = (Arc::new(wide_runtime()?), stage.redis_url());
    let keys: &'static [String] = Vec::leak(keys(KEYS));
    let readers = runtime.block_on(async {
        raw::fill(&mut raw::redis(&url).await?, keys, &value(KIB_VALUE)).await?;
        Reader::each(&url).await
    })?;
    let measure = |count: usize| Measure::new(format!("{count} in flight"), Unit::PerSecond).at(float(count));
    let (each, least) = (stage.operations(READS_EACH), stage.operations(READS_MIN));
    let contender = |reader: Reader| {
        let runtime = Arc::clone(&runtime);
        Contender::new(reader.name(), reader.role(), move || {
            let rate = |count| reader.together(&runtime, keys, count, (count * each).max(least)).value();
            IN_FLIGHT.into_iter().map(rate).collect()
        })
    };
    Ok(Row {
        id: "growth-in-flight",
        title: "L2 hits from Redis by callers, 1 KiB".into(),
        measures: IN_FLIGHT.map(measure).into(),
        contenders: readers.map(contender).into(),
        rounds: stage.slow_rounds,
        limit: LIMIT,
    })
}
