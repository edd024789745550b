//! The time to remove 1,000, 10,000 and 100,000 keys that share a tag: a step that does not depend on their number.
//! 0.6.5 has no tags and removes them by pattern, with SCAN and DEL.

use std::time::{Duration, Instant};

use ::ours::{Cache, CacheSystem};
use anyhow::{Result, ensure};

use super::{LIMIT, contenders};
use crate::coherence::fleet::Fleet;
use crate::contenders::instance::{Instance, Kind, bytes};
use crate::contenders::raw;
use crate::grid::{Measure, Row};
use crate::stage::Stage;
use crate::unit::{Unit, float, median};

/// Removals of each size; their median counts.
const TIMES: usize = 3;
/// Removed from the largest size against the smallest: constant but for chance.
const GROWTH_MAX: f64 = 2.0;
const TAG: &str = "tag";
/// Whoever still answers later was not told.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn build(stage: &Stage) -> Row {
    let sizes: &'static [usize] = if stage.quick { &[1_000, 10_000] } else { &[1_000, 10_000, 100_000] };
    let measure = |size: &usize| Measure::new(format!("{size} keys"), Unit::Milliseconds).at(float(*size));
    let mut measures: Vec<Measure> = sizes.iter().map(measure).collect();
    measures.push(Measure::new("the largest against the smallest", Unit::Times).at_most(GROWTH_MAX));
    Row {
        id: "tags",
        title: "removal of the keys of one tag".into(),
        measures,
        contenders: contenders(move |kind| round(kind, sizes)),
        rounds: stage.long_rounds,
        limit: LIMIT,
    }
}

fn round(kind: Kind, sizes: &[usize]) -> Result<Vec<f64>> {
    let fleet = Fleet::start(kind, 2)?;
    let mut times = Vec::with_capacity(sizes.len() + 1);
    for size in sizes {
        let mut waits = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            let keys: Vec<String> = (0..*size).map(|number| format!("{TAG}:{number:09}")).collect();
            let wait = fleet.runtime.block_on(async {
                match &fleet.instances[0] {
                    Instance::Ours(system, _) => by_tag(system, &keys).await,
                    Instance::Established(manager, _) => by_pattern(manager, &fleet.redis.url(), &keys).await,
                    Instance::Amalgam(_) => anyhow::bail!("amalgam does not take part"),
                }
            })?;
            waits.push(wait.as_secs_f64() * 1e3);
        }
        waits.sort_by(f64::total_cmp);
        times.push(median(&waits));
    }
    let growth = times.last().unwrap_or(&f64::NAN) / times.first().unwrap_or(&f64::NAN);
    times.push(growth);
    Ok(times)
}

async fn by_tag(system: &CacheSystem, keys: &[String]) -> Result<Duration> {
    let cache: Cache<String, u64> = system.cache_builder(TAG).tags([TAG]).build()?;
    cache.insert_many(keys.iter().map(|key| (key, 1))).await?;
    ensure!(cache.get(&keys[0]).await?.is_some(), "nothing was stored");
    let began = Instant::now();
    cache.remove_tag(TAG).await?;
    let took = began.elapsed();
    for key in keys.iter().step_by(keys.len() / 100) {
        ensure!(cache.get(key).await?.is_none(), "{key} was not removed");
    }
    Ok(took)
}

async fn by_pattern(manager: &::established::CacheManager, url: &str, keys: &[String]) -> Result<Duration> {
    raw::fill(&mut raw::redis(url).await?, keys, &bytes(1)).await?;
    let began = Instant::now();
    tokio::time::timeout(LIMIT, manager.invalidate_pattern(&format!("{TAG}:*"))).await??;
    let took = began.elapsed();
    let asked = tokio::time::timeout(PATIENCE, manager.get(&keys[0])).await??;
    ensure!(asked.is_none(), "{} was not removed", keys[0]);
    Ok(took)
}
