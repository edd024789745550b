//! One instance under load while its Redis is killed and, two seconds later, started again, empty. Loads take no time:
//! how long a call takes is what the cache adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::fleet::Fleet;
use super::{LIMIT, contenders};
use crate::contenders::instance::{Instance, Kind, bytes};
use crate::contenders::raw;
use crate::grid::{Measure, Row};
use crate::stage::Stage;
use crate::unit::{Unit, percentile};
use crate::workload::keys;

/// Five times what the first tier holds.
const KEYS: usize = 10_000;
const CALLERS: usize = 16;
/// Of each caller between calls.
const PAUSE: Duration = Duration::from_millis(1);
const BEFORE: Duration = Duration::from_secs(1);
const DARK: Duration = Duration::from_secs(2);
/// How long after the kill the instance may be finding out.
const AROUND: Duration = Duration::from_millis(500);
/// Whoever waits longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);
const RETURN_PATIENCE: Duration = Duration::from_secs(20);
/// Nobody else reads it: it is in no first tier.
const PROBE: &str = "probe";

struct Call {
    began: Instant,
    took: Duration,
    succeeded: bool,
}

pub(crate) fn build(stage: &Stage) -> Row {
    let title = format!("Redis killed for {} s under {CALLERS} callers", DARK.as_secs());
    let measures = vec![
        Measure::new("calls that failed", Unit::Count).at_most(0.0),
        Measure::new("p99 of the calls before", Unit::Milliseconds),
        Measure::new("slowest call around the kill", Unit::Milliseconds).at_most(50.0),
        Measure::new("p99 of the calls after it", Unit::Milliseconds).at_most(1.0),
        Measure::new("L2 serves again after the restart", Unit::Milliseconds).at_most(1e3),
    ];
    let contenders = contenders(&Kind::OWN, round);
    Row { id: "outage", title, measures, contenders, rounds: stage.long_rounds, limit: LIMIT }
}

fn round(kind: Kind) -> Result<Vec<f64>> {
    let mut fleet = Fleet::start(kind, 1)?;
    let keys: Arc<[String]> = keys(KEYS).into();
    let url = fleet.redis.url();
    fleet.runtime.block_on(async { raw::fill(&mut raw::redis(&url).await?, &keys, &bytes(1)).await })?;
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for seed in 0..CALLERS as u64 {
        let (instances, keys, over) = (Arc::clone(&fleet.instances), Arc::clone(&keys), Arc::clone(&over));
        let random = fastrand::Rng::with_seed(seed);
        callers.spawn_on(async move { call(&instances[0], &keys, random, &over).await }, fleet.runtime.handle());
    }
    std::thread::sleep(BEFORE);
    let killed = Instant::now();
    fleet.redis.kill()?;
    std::thread::sleep(DARK);
    let restarted = Instant::now();
    fleet.redis.restart()?;
    let back = fleet.runtime.block_on(serves_again(&fleet.instances[0], &url));
    over.store(true, Ordering::Relaxed);
    let calls: Vec<Call> = fleet.runtime.block_on(callers.join_all()).into_iter().flatten().collect();

    let failed = u32::try_from(calls.iter().filter(|call| !call.succeeded).count())?;
    let before = waits(&calls, |call| call.began + call.took < killed);
    let around = waits(&calls, |call| call.began + call.took >= killed && call.began < killed + AROUND);
    // None, if every caller still waits for the answer to the call before.
    let after = waits(&calls, |call| call.began >= killed + AROUND && call.began < restarted);
    let slowest = around.last().copied().unwrap_or(f64::NAN);
    let back = back?.as_secs_f64() * 1e3;
    Ok(vec![f64::from(failed), percentile(&before, 99), slowest, percentile(&after, 99), back])
}

async fn call(instance: &Instance, keys: &[String], mut random: fastrand::Rng, over: &AtomicBool) -> Vec<Call> {
    let mut calls = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let key = &keys[random.usize(..keys.len())];
        let began = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, instance.get_or_compute(key, || async { 1 })).await;
        calls.push(Call { began, took: began.elapsed(), succeeded: matches!(answer, Ok(Ok(1))) });
        tokio::time::sleep(PAUSE).await;
    }
    calls
}

/// From the moment the server answers to the first hit of the second tier.
async fn serves_again(instance: &Instance, url: &str) -> Result<Duration> {
    let began = Instant::now();
    raw::fill(&mut raw::redis(url).await?, &[PROBE.to_owned()], &bytes(1)).await?;
    while began.elapsed() < RETURN_PATIENCE {
        if let Ok(Ok(Some(_))) = tokio::time::timeout(PATIENCE, instance.get(PROBE)).await {
            return Ok(began.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("the second tier does not serve within {} s", RETURN_PATIENCE.as_secs())
}

/// In milliseconds, sorted.
fn waits(calls: &[Call], chosen: impl Fn(&Call) -> bool) -> Vec<f64> {
    let mut waits: Vec<f64> =
        calls.iter().filter(|call| chosen(call)).map(|call| call.took.as_secs_f64() * 1e3).collect();
    waits.sort_by(f64::total_cmp);
    waits
}
