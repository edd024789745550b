//! Eight instances that hold a key: how long until an invalidation on one has reached the first tiers of all others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::fleet::Fleet;
use super::{LIMIT, contenders};
use crate::contenders::instance::{Instance, Kind};
use crate::grid::{Measure, Row};
use crate::stage::Stage;
use crate::unit::{Unit, percentile};
use crate::workload::key;

const INSTANCES: usize = 8;
const KEYS: usize = 50;
/// Between looks at the tiers; a pause of this length takes the kernel about 0.08 ms. Spinning would take a processor
/// from those who are watched.
const LOOK: Duration = Duration::from_micros(20);
/// Whatever takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// One hit in ten is promoted; this many reads leave next to no doubt.
const READS_MAX: usize = 1_000;

pub(crate) fn build(stage: &Stage) -> Row {
    let invalidations = if stage.quick { 50 } else { 500 };
    let title = format!("invalidation seen by {INSTANCES} local instances, {invalidations} times");
    let measures = vec![
        Measure::new("p50", Unit::Milliseconds).at_most(1.0),
        Measure::new("p99", Unit::Milliseconds).at_most(5.0),
        Measure::new("not seen within 1 s", Unit::Count).at_most(0.0),
    ];
    let contenders = contenders(&Kind::ALL, move |kind| round(kind, invalidations));
    Row { id: "invalidation-seen", title, measures, contenders, rounds: stage.long_rounds, limit: LIMIT }
}

fn round(kind: Kind, invalidations: usize) -> Result<Vec<f64>> {
    let fleet = Fleet::start(kind, INSTANCES)?;
    let mut waits = Vec::with_capacity(invalidations);
    let mut lost = 0;
    for number in 0..invalidations {
        let key: Arc<str> = key(number % KEYS).into();
        fleet.runtime.block_on(spread(&fleet.instances, &key))?;
        match invalidate(&fleet, number % INSTANCES, &key)? {
            Some(wait) => waits.push(wait.as_secs_f64() * 1e3),
            None => lost += 1,
        }
    }
    waits.sort_by(f64::total_cmp);
    Ok(vec![percentile(&waits, 50), percentile(&waits, 99), f64::from(lost)])
}

/// Reads the key until every first tier has it.
async fn spread(instances: &[Instance], key: &str) -> Result<()> {
    for instance in instances {
        let mut reads = 0;
        while !instance.has_at_hand(key).await? {
            ensure!(reads < READS_MAX, "{key} does not enter the first tier");
            tokio::time::timeout(PATIENCE, instance.get_or_compute(key, || async { 1 })).await??;
            reads += 1;
        }
    }
    Ok(())
}

/// From the call on one instance to the moment when the last of the others was seen without the key.
fn invalidate(fleet: &Fleet, issuer: usize, key: &Arc<str>) -> Result<Option<Duration>> {
    let (instances, name) = (Arc::clone(&fleet.instances), Arc::clone(key));
    let began = Instant::now();
    let call = fleet.runtime.spawn(async move { instances[issuer].invalidate(&name).await });
    let mut holding: Vec<usize> = (0..INSTANCES).filter(|place| *place != issuer).collect();
    while !holding.is_empty() && began.elapsed() < PATIENCE {
        std::thread::sleep(LOOK);
        let mut still = Vec::with_capacity(holding.len());
        for place in holding {
            // No lower tier is asked: this does not wait.
            if fleet.runtime.block_on(fleet.instances[place].has_at_hand(key))? {
                still.push(place);
            }
        }
        holding = still;
    }
    let wait = began.elapsed();
    fleet.runtime.block_on(call)??;
    Ok(holding.is_empty().then_some(wait))
}
