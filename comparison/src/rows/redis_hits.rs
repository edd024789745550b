//! Hits in Redis: one at a time, and 256 in flight. The first tier holds one entry; promotion is as by default.

use std::time::Instant;

use anyhow::Result;

use crate::contenders::raw;
use crate::contenders::reader::{RAW_GET, Reader};
use crate::rounds::{Bar, Contender, Outcome, PATIENCE, Role, Row};
use crate::stage::Stage;
use crate::unit::{Unit, float};
use crate::workload::{KIB_VALUE, keys, value};

const KEYS: usize = 10_240;
const IN_FLIGHT: usize = 256;

type Keys = &'static [String];

pub(crate) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    stage.empty_redis()?;
    let keys: Keys = Vec::leak(keys(KEYS));
    let url = stage.redis_url();
    // All read the same entries, which nobody writes.
    let readers = stage.prepare(async {
        raw::fill(&mut raw::redis(&url).await?, keys, &value(KIB_VALUE)).await?;
        Reader::each(&url).await
    })?;

    let alone = |reader: &Reader| {
        let contender = one_at_a_time(reader.clone(), stage, keys);
        if contender.role == Role::Ours { contender.bar(Bar::at_most(1.1, RAW_GET)) } else { contender }
    };
    let single = Row {
        id: "l2-one",
        title: "L2 hit from Redis, one at a time, 1 KiB".into(),
        unit: Unit::Microseconds,
        operations: stage.operations(2_000),
        contenders: readers.iter().map(alone).collect(),
    };
    let together = |reader: &Reader| {
        let (reader, runtime) = (reader.clone(), &stage.wide);
        let (name, role) = (reader.name(), reader.role());
        let round = move |operations| reader.together(runtime, keys, IN_FLIGHT, operations);
        let contender = Contender::new(name, role, round);
        if role == Role::Ours { contender.bar(Bar::at_least(1.25, RAW_GET)) } else { contender }
    };
    let many = Row {
        id: "l2-256",
        title: format!("L2 hits from Redis, {IN_FLIGHT} in flight, 1 KiB"),
        unit: Unit::PerSecond,
        operations: stage.operations(102_400),
        contenders: readers.iter().map(together).collect(),
    };
    Ok(vec![single, many])
}

/// A caller on the calling thread; connections live on the runtime's workers, as in a service.
fn one_at_a_time(reader: Reader, stage: &Stage, keys: Keys) -> Contender<'_> {
    let (name, role) = (reader.name(), reader.role());
    let round = move |operations| {
        stage.wide.block_on(async {
            let started = Instant::now();
            let calls = async {
                for key in keys.iter().take(operations) {
                    assert!(reader.has(key).await, "{name} missed {key}");
                }
            };
            match tokio::time::timeout(PATIENCE, calls).await {
                Ok(()) => Outcome::Value(started.elapsed().as_secs_f64() * 1e6 / float(operations)),
                Err(_) => Outcome::Hung,
            }
        })
    };
    Contender::new(name, role, round)
}
