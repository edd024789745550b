//! The command line, and the verdict as it is printed.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use multi_tier_cache::Arc;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::report::Kind;
use super::supervisor::{Outcome, Wanted, run};
use super::worker::work;

/// Protections that a run must have needed.
const NEEDED: [&str; 7] = ["refused_fills", "refused_joins", "gaps", "resyncs", "flushes", "takeovers", "replayed"];
/// From here on every hazard comes at least once.
const COMPLETE: u64 = 30;

/// Supervises, or works if that is what the arguments say.
pub(crate) fn main() -> Result<ExitCode> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if let [role, part] = arguments.as_mut_slice()
        && role == "--worker"
    {
        work(serde_json::from_str(part)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = wanted(arguments)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    watch_signals(Arc::clone(&interrupted))?;
    println!("seed {}, {} s, {} instances, {} keys", wanted.seed, wanted.seconds, wanted.instances, wanted.keys);
    let outcome = run(&wanted, &interrupted).with_context(|| format!("seed {}", wanted.seed))?;
    let unneeded = unneeded(&wanted, &outcome);
    if wanted.json {
        print_json(&wanted, &outcome, &unneeded);
    } else {
        print_table(&wanted, &outcome, &unneeded);
    }
    let clean = outcome.violations.is_empty() && unneeded.is_empty();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wanted(arguments: Vec<String>) -> Result<Wanted> {
    let mut wanted = Wanted {
        seconds: COMPLETE,
        seed: fastrand::u64(..1_000_000),
        instances: 4,
        keys: 50,
        kill_subscriptions_every: None,
        json: false,
        only: None,
        without: Vec::new(),
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--json" {
            wanted.json = true;
            continue;
        }
        let number = arguments.next().with_context(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--only" => {
                wanted.only = Some(number);
                continue;
            }
            "--without" => {
                wanted.without.push(number);
                continue;
            }
            _ => {}
        }
        let number: u64 = number.parse().with_context(|| format!("{argument} {number}"))?;
        match argument.as_str() {
            "--seconds" => wanted.seconds = number,
            "--seed" => wanted.seed = number,
            "--instances" => wanted.instances = usize::try_from(number)?.max(2),
            "--keys" => wanted.keys = usize::try_from(number)?,
            "--kill-subscriptions-every-ms" => {
                wanted.kill_subscriptions_every = Some(Duration::from_millis(number.max(1)));
            }
            unknown => bail!("what is {unknown}?"),
        }
    }
    wanted.keys = wanted.keys.max(wanted.instances);
    Ok(wanted)
}

/// Lets the run end by itself, so that everything it started is ended too.
fn watch_signals(interrupted: Arc<AtomicBool>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let Ok(mut signals) = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>() else { return };
            let received = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures_util::future::select_all(received).await;
            interrupted.store(true, Ordering::Release);
        });
    });
    Ok(())
}

fn unneeded(wanted: &Wanted, outcome: &Outcome) -> Vec<&'static str> {
    let zero = |name: &&str| outcome.sum.hazards.get(*name).is_none_or(|count| *count == 0);
    if wanted.seconds < COMPLETE || wanted.only.is_some() {
        Vec::new()
    } else {
        NEEDED.into_iter().filter(zero).collect()
    }
}

fn of_kind(outcome: &Outcome, kind: Kind) -> usize {
    outcome.violations.iter().filter(|violation| violation.kind == kind).count()
}

fn verdicts(outcome: &Outcome) -> BTreeMap<&'static str, usize> {
    let kinds = [
        ("stale beyond the bound", Kind::Stale),
        ("stale below a position", Kind::AtLeast),
        ("stale at rest", Kind::AtRest),
        ("hung", Kind::Hang),
        ("never written", Kind::Corrupt),
    ];
    kinds.into_iter().map(|(name, kind)| (name, of_kind(outcome, kind))).collect()
}

fn print_table(wanted: &Wanted, outcome: &Outcome, unneeded: &[&str]) {
    let print = |title: &str, counts: &BTreeMap<String, u64>, unit: &str| {
        println!("\n{title}");
        counts.iter().for_each(|(name, count)| println!("  {count:>10}{unit}  {name}"));
    };
    print("what happened", &outcome.happened, "");
    println!("  {:>10}  subscriptions killed besides", outcome.subscriptions_killed);
    print("reads and writes", &outcome.sum.counts, "");
    print("worst age", &outcome.sum.worst, " ms");
    print("protections", &outcome.sum.hazards, "");
    print("errors", &outcome.sum.errors, "");
    println!("\nviolations");
    verdicts(outcome).iter().for_each(|(name, count)| println!("  {count:>10}  {name}"));
    if !unneeded.is_empty() {
        println!("\nnot needed once, so nothing is proven: {}", unneeded.join(", "));
    }
    let verdict = if outcome.violations.is_empty() { "nothing stale" } else { "VIOLATED" };
    println!("\nseed {}: {verdict}", wanted.seed);
}

fn print_json(wanted: &Wanted, outcome: &Outcome, unneeded: &[&str]) {
    let report = json!({
        "seed": wanted.seed,
        "seconds": wanted.seconds,
        "instances": wanted.instances,
        "keys": wanted.keys,
        "happened": outcome.happened,
        "counts": outcome.sum.counts,
        "worst_ms": outcome.sum.worst,
        "protections": outcome.sum.hazards,
        "errors": outcome.sum.errors,
        "verdicts": verdicts(outcome),
        "violations": outcome.violations,
        "not_needed": unneeded,
    });
    println!("{report}");
}
