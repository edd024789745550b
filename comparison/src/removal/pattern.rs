//! A pattern that a tenth of the keys of a Redis match is removed through one instance, while callers read other keys
//! from Redis through a second one. How long these reads take, before and meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use test_servers::RedisServer;
use tokio::task::JoinSet;

use super::{LIMIT, contenders};
use crate::contenders::instance::{Instance, Kind};
use crate::contenders::raw;
use crate::contenders::reader::Reader;
use crate::grid::{Measure, Row};
use crate::stage::{Stage, wide_runtime};
use crate::unit::{Unit, percentile};
use crate::workload::{SMALL_VALUE, key, value};

const READERS: usize = 8;
/// Of each reader between reads: together they leave Redis mostly idle.
const PAUSE: Duration = Duration::from_millis(1);
const UNDISTURBED: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);
const PATTERN: &str = "session:*";
const SLOWDOWN_MAX: f64 = 2.0;

struct Read {
    began: Instant,
    took: Duration,
}

pub(crate) fn build(stage: &Stage) -> Row {
    let keys = if stage.quick { 100_000 } else { 1_000_000 };
    let matching = keys / 10;
    let measures = vec![
        Measure::new("p99 of other reads, undisturbed", Unit::Milliseconds),
        Measure::new("p99 of other reads meanwhile", Unit::Milliseconds),
        Measure::new("how many times that is", Unit::Times).at_most(SLOWDOWN_MAX),
        Measure::new("slowest of other reads meanwhile", Unit::Milliseconds),
        Measure::new("the removal", Unit::Milliseconds),
        Measure::new("keys left that match", Unit::Count).at_most(0.0),
    ];
    Row {
        id: "pattern",
        title: format!("{matching} of {keys} keys removed by pattern, {READERS} readers of others"),
        measures,
        contenders: contenders(move |kind| round(kind, keys, matching)),
        rounds: stage.long_rounds,
        limit: LIMIT,
    }
}

fn round(kind: Kind, keys: usize, matching: usize) -> Result<Vec<f64>> {
    let (runtime, redis) = (wide_runtime()?, RedisServer::start().context("redis-server")?);
    let url = redis.url();
    let others: Arc<[String]> = (0..keys - matching).map(key).collect();
    let (instance, reader) = runtime.block_on(async {
        let mut connection = raw::redis(&url).await?;
        let sessions: Vec<String> = (0..matching).map(|number| format!("session:{number:014}")).collect();
        for keys in [&others[..], &sessions] {
            raw::fill(&mut connection, keys, &value(SMALL_VALUE)).await?;
        }
        anyhow::Ok((kind.join(&url).await?, second_instance(kind, &url).await?))
    })?;
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for seed in 0..READERS as u64 {
        let random = fastrand::Rng::with_seed(seed);
        readers.spawn_on(read(reader.clone(), Arc::clone(&others), random, Arc::clone(&over)), runtime.handle());
    }
    std::thread::sleep(WARM_UP);
    let warm = Instant::now();
    std::thread::sleep(UNDISTURBED);
    let began = Instant::now();
    runtime.block_on(remove(&instance))?;
    let ended = Instant::now();
    over.store(true, Ordering::Relaxed);
    let reads: Vec<Read> = runtime.block_on(readers.join_all()).into_iter().flatten().collect();

    let before = waits(&reads, |read| read.began >= warm && read.began + read.took < began);
    let meanwhile = waits(&reads, |read| read.began + read.took >= began && read.began < ended);
    let (undisturbed, disturbed) = (percentile(&before, 99), percentile(&meanwhile, 99));
    let slowest = meanwhile.last().copied().unwrap_or(f64::NAN);
    let left = runtime.block_on(left(&url))?;
    let took = (ended - began).as_secs_f64() * 1e3;
    Ok(vec![undisturbed, disturbed, disturbed / undisturbed, slowest, took, left])
}

/// With a first tier of one entry: its reads are reads of Redis.
async fn second_instance(kind: Kind, url: &str) -> Result<Reader> {
    let [_, ours, established] = Reader::each(url).await?;
    Ok(if kind == Kind::Ours { ours } else { established })
}

async fn remove(instance: &Instance) -> Result<()> {
    match instance {
        Instance::Ours(system, _) => drop(system.cache_manager.remove_pattern(PATTERN).await?),
        Instance::Established(manager, _) => manager.invalidate_pattern(PATTERN).await?,
        Instance::Amalgam(_) => anyhow::bail!("amalgam has no patterns"),
    }
    Ok(())
}

async fn read(reader: Reader, keys: Arc<[String]>, mut random: fastrand::Rng, over: Arc<AtomicBool>) -> Vec<Read> {
    let mut reads = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let key = &keys[random.usize(..keys.len())];
        let began = Instant::now();
        assert!(reader.has(key).await, "a key that does not match is gone");
        reads.push(Read { began, took: began.elapsed() });
        tokio::time::sleep(PAUSE).await;
    }
    reads
}

/// In milliseconds, sorted.
fn waits(reads: &[Read], chosen: impl Fn(&Read) -> bool) -> Vec<f64> {
    let mut waits: Vec<f64> =
        reads.iter().filter(|read| chosen(read)).map(|read| read.took.as_secs_f64() * 1e3).collect();
    waits.sort_by(f64::total_cmp);
    waits
}

/// How many keys still match.
async fn left(url: &str) -> Result<f64> {
    let mut connection = raw::redis(url).await?;
    let keys: Vec<String> = redis::cmd("KEYS").arg(PATTERN).query_async(&mut connection).await?;
    Ok(crate::unit::float(keys.len()))
}
