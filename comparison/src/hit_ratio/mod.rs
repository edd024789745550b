//! What share of the reads of a trace a first tier answers.

mod traces;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::runtime::Builder;

use crate::contenders::first_tier::Maker;
use crate::grid::{Contender, Measure, Row};
use crate::stage::Stage;
use crate::unit::{Unit, float};
use crate::workload::key;
use traces::{Size, TRACES, Trace};

const MAKERS: [Maker; 5] = [Maker::QuickCache, Maker::Moka, Maker::FoyerLru, Maker::FoyerLfu, Maker::Ours];
/// How much the best contender may have more of, in every trace.
const DISTANCE: f64 = 0.005;
const LIMIT: Duration = Duration::from_mins(10);

pub(crate) fn build(stage: &Stage) -> Row {
    let size =
        if stage.quick { Size { keys: 20_000, reads: 100_000 } } else { Size { keys: 100_000, reads: 1_000_000 } };
    let measure = |trace: &Trace| {
        let name = format!("{}, {} %", trace.name, trace.percent);
        Measure::new(name, Unit::Share).near_best(DISTANCE)
    };
    let scene = Arc::new(Scene::new(size));
    let contender = |maker: Maker| {
        let scene = Arc::clone(&scene);
        Contender::new(maker.name(), maker.role(), move || round(maker, size.keys, &scene))
    };
    Row {
        id: "hit-ratio",
        title: format!("{} reads of {} keys, L1 of 1 % or 10 % of them", size.reads, size.keys),
        measures: TRACES.iter().map(measure).collect(),
        contenders: MAKERS.map(contender).into(),
        rounds: stage.long_rounds,
        limit: LIMIT,
    }
}

/// What all contenders read.
struct Scene {
    reads: [Vec<u32>; TRACES.len()],
    /// By number.
    names: Vec<Arc<str>>,
}

impl Scene {
    fn new(size: Size) -> Self {
        let reads = TRACES.map(|trace| trace.reads(size));
        let last = reads.iter().flatten().max().map_or(0, |last| *last as usize);
        Self { reads, names: (0..=last).map(|number| key(number).into()).collect() }
    }
}

/// The share of each trace.
fn round(maker: Maker, keys: usize, scene: &Scene) -> Result<Vec<f64>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let value = Bytes::from_static(b"value");
    let mut shares = Vec::with_capacity(TRACES.len());
    for (trace, reads) in TRACES.iter().zip(&scene.reads) {
        let share = runtime.block_on(async {
            let tier = maker.make(keys * trace.percent / 100).await?;
            let (warm_up, mut hits) = (reads.len() / 10, 0);
            for (place, number) in reads.iter().enumerate() {
                let hit = tier.read_through(&scene.names[*number as usize], &value).await?;
                hits += usize::from(hit && place >= warm_up);
            }
            anyhow::Ok(float(hits) / float(reads.len() - warm_up))
        })?;
        shares.push(share);
    }
    Ok(shares)
}
