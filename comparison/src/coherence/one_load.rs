//! 10,000 callers in four processes, one cold key, a load of 50 ms: loads in the whole fleet, and the 99th percentile of
//! the callers' waits. A process is this program again, told what it is by its arguments.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use test_servers::RedisServer;
use tokio::task::JoinSet;

use super::{LIMIT, contenders};
use crate::contenders::instance::{Instance, Kind};
use crate::grid::{Measure, Row};
use crate::stage::{Stage, wide_runtime};
use crate::unit::{Unit, float, percentile};
use crate::workload::key;

const PROCESSES: usize = 4;
const CALLERS: usize = 10_000;
const LOAD: Duration = Duration::from_millis(50);
/// Whoever waits longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first argument of a process of the fleet.
pub(crate) const ROLE: &str = "--fleet-member";

pub(crate) fn build(stage: &Stage) -> Row {
    let title = format!("{CALLERS} callers in {PROCESSES} processes, one cold key, 50 ms load");
    let measures = vec![
        Measure::new("loads in the fleet, most", Unit::Count).at_most(1.0),
        Measure::new("callers' p99", Unit::Milliseconds).at_most(LOAD.as_secs_f64() * 1.1e3),
        Measure::new("callers that failed or waited for ever", Unit::Count).at_most(0.0),
    ];
    let storms = if stage.quick { 2 } else { 6 };
    let contenders = contenders(&Kind::OWN, move |kind| round(kind, storms));
    Row { id: "one-load", title, measures, contenders, rounds: stage.long_rounds, limit: LIMIT }
}

/// The most loads of any storm, the median of the storms' percentiles, and how many callers got nothing. Each storm has a
/// key of its own; the first, in which connections are made, does not count.
fn round(kind: Kind, storms: usize) -> Result<Vec<f64>> {
    let redis = RedisServer::start().context("redis-server")?;
    let mut members = (0..PROCESSES).map(|_| Member::start(kind, &redis.url())).collect::<Result<Vec<_>>>()?;
    let (mut most, mut percentiles, mut lost) = (0, Vec::with_capacity(storms), 0);
    for storm in 0..=storms {
        for member in &mut members {
            writeln!(member.orders, "{}", key(storm))?;
        }
        let (mut loads, mut waits) = (0, Vec::with_capacity(CALLERS));
        for member in &mut members {
            loads += member.report(&mut waits)?;
        }
        waits.sort_by(f64::total_cmp);
        if storm > 0 {
            most = most.max(loads);
            percentiles.push(percentile(&waits, 99));
            lost += waits.iter().filter(|wait| **wait >= PATIENCE.as_secs_f64() * 1e3).count();
        }
    }
    percentiles.sort_by(f64::total_cmp);
    Ok(vec![f64::from(most), percentile(&percentiles, 50), float(lost)])
}

struct Member {
    process: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Member {
    /// Returns when the process has joined.
    fn start(kind: Kind, url: &str) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([ROLE, kind.name(), url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take().context("no way to give orders")?;
        let reports = BufReader::new(process.stdout.take().context("no way to hear reports")?);
        let mut member = Self { process, orders, reports };
        member.line()?;
        Ok(member)
    }

    /// Answers the loads of the last storm and adds the waits, in milliseconds.
    fn report(&mut self, waits: &mut Vec<f64>) -> Result<u32> {
        let line = self.line()?;
        let mut numbers = line.split_whitespace();
        let loads = numbers.next().context("a process of the fleet ended")?.parse()?;
        for number in numbers {
            waits.push(number.parse()?);
        }
        Ok(loads)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The life of such a process: joins, says so, and makes a storm on each key it is told.
pub(crate) fn member(kind: &str, url: &str) -> Result<()> {
    let runtime = wide_runtime()?;
    let instance = Arc::new(runtime.block_on(Kind::named(kind)?.join(url))?);
    let mut reports = std::io::stdout();
    writeln!(reports, "joined")?;
    for key in std::io::stdin().lines() {
        let (loads, waits) = runtime.block_on(storm(&instance, &key?.into()))?;
        let mut report = loads.to_string();
        for wait in waits {
            write!(report, " {wait:.3}")?;
        }
        writeln!(reports, "{report}")?;
    }
    Ok(())
}

async fn storm(instance: &Arc<Instance>, key: &Arc<str>) -> Result<(usize, Vec<f64>)> {
    let loads = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS / PROCESSES {
        let (instance, key, loads) = (Arc::clone(instance), Arc::clone(key), Arc::clone(&loads));
        callers.spawn(async move {
            let began = Instant::now();
            let load = move || async move {
                loads.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(LOAD).await;
                1
            };
            // One that hangs or fails has waited for as long as we do.
            let call = tokio::time::timeout(PATIENCE, instance.get_or_compute(&key, load)).await;
            let wait = if let Ok(Ok(_)) = call { began.elapsed() } else { PATIENCE };
            wait.as_secs_f64() * 1e3
        });
    }
    let waits = callers.join_all().await;
    Ok((loads.load(Ordering::Relaxed), waits))
}
