//! The tables.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::coherence::{self, Gauge, Observed};
use crate::contenders::instance::Kind;
use crate::rounds::{Bar, Measured, Role, RowResult, Unit};
use crate::stage::Stage;

const LOCK: &str = include_str!("../Cargo.lock");
const PACKAGES: [&str; 6] = ["multi-tier-cache", "amalgam-cache", "moka", "quick_cache", "redis", "tokio"];

pub(crate) fn document(results: &[RowResult], coherence: &[coherence::RowResult], stage: &Stage) -> Result<String> {
    let mut text = String::from("# Comparison\n\n");
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    writeln!(
        text,
        "`cargo run --release --manifest-path comparison/Cargo.toml -- {command}`, {}.\n",
        output("date", &["+%F"])
    )?;
    writeln!(text, "* {}", machine())?;
    writeln!(text, "* {}, profile `release` (thin LTO, one codegen unit)", output("rustc", &["--version"]))?;
    writeln!(text, "* {}", output("redis-server", &["--version"]))?;
    writeln!(text, "* {}", versions())?;
    if !results.is_empty() {
        costs(&mut text, results, stage)?;
    }
    if !coherence.is_empty() {
        between_instances(&mut text, coherence, stage)?;
    }
    Ok(text)
}

fn costs(text: &mut String, results: &[RowResult], stage: &Stage) -> Result<()> {
    writeln!(
        text,
        "\nMedian of {} rounds ({} where a server or a timer is waited for); in each round every contender of a row runs once, in rotating order. The baseline \
         of a row is its first line. A ratio above 1 is slower; × 0.6.5 is against the best of its set-ups, or the one \
         that is set up alike. Nanoseconds are those of the thread's own processor time.\n",
        stage.rounds, stage.slow_rounds
    )?;
    text.push_str(
        "| row | contender | median | min – max | × baseline | × 0.6.5 | bar |\n|---|---|---:|---:|---:|---:|---|\n",
    );
    for result in results {
        text.push_str(&lines(result));
    }
    Ok(())
}

fn between_instances(text: &mut String, results: &[coherence::RowResult], stage: &Stage) -> Result<()> {
    writeln!(
        text,
        "\n## Coherence\n\nInstances that share one Redis, set up with each contender's defaults. Median (and range) of {} \
         rounds; a bar for a share or a count must hold in every round. A read is stale if it returns a version older \
         than one whose invalidation had succeeded that long before the read began.\n",
        stage.long_rounds
    )?;
    let names =
        Kind::ALL.map(|kind| if kind == Kind::Ours { format!("**{}**", kind.name()) } else { kind.name().into() });
    writeln!(text, "| row | measure | {} | bar |\n|---|---|{}---|", names.join(" | "), "---:|".repeat(names.len()))?;
    for result in results {
        text.push_str(&coherence_lines(result));
    }
    Ok(())
}

/// The lines of one row about coherence: one for each measure.
pub(crate) fn coherence_lines(result: &coherence::RowResult) -> String {
    let mut text = String::new();
    for (place, measure) in result.measures.iter().enumerate() {
        let title = if place == 0 { result.title.as_str() } else { "" };
        let seen = |kind: Kind| result.observed.iter().find(|seen| seen.kind == kind);
        let cells = Kind::ALL.map(|kind| seen(kind).map_or_else(String::new, |seen| cell(seen, place, measure.gauge)));
        let bar = seen(Kind::Ours).and_then(|seen| coherence_verdict(measure, seen, place)).unwrap_or_default();
        let _ = writeln!(text, "| {title} | {} | {} | {bar} |", measure.name, cells.join(" | "));
    }
    text
}

fn cell(seen: &Observed, place: usize, gauge: Gauge) -> String {
    let values = &seen.values[place];
    let (Some(low), Some(high)) = (values.first(), values.last()) else { return "failed".into() };
    let shown = |value: &f64| gauged(*value, gauge);
    let failed = if seen.failed_rounds > 0 { format!(", {} failed", seen.failed_rounds) } else { String::new() };
    let median = shown(&values[values.len() / 2]);
    if values.len() == 1 {
        return median + &failed;
    }
    format!("{median} ({} – {}){failed}", shown(low), shown(high))
}

fn coherence_verdict(measure: &coherence::Measure, seen: &Observed, place: usize) -> Option<String> {
    let values = &seen.values[place];
    let strict = matches!(measure.gauge, Gauge::Share | Gauge::Count);
    let met = |holds: bool| if holds && seen.failed_rounds == 0 { "met" } else { "**missed**" };
    let middle = values.get(values.len() / 2);
    let shown = |limit| gauged(limit, measure.gauge);
    Some(match measure.bar? {
        coherence::Bar::AtMost(limit) => {
            let judged = if strict { values.last() } else { middle };
            format!("≤ {}: {}", shown(limit), met(judged.is_some_and(|value| *value <= limit)))
        }
        coherence::Bar::AtLeast(limit) => {
            let judged = if strict { values.first() } else { middle };
            format!("≥ {}: {}", shown(limit), met(judged.is_some_and(|value| *value >= limit)))
        }
    })
}

fn gauged(value: f64, gauge: Gauge) -> String {
    match gauge {
        Gauge::Share if value == 0.0 => "0".into(),
        Gauge::Share => format!("{:.3} %", value * 100.0),
        Gauge::Count => format!("{value:.0}"),
        Gauge::Milliseconds if value.is_nan() => "no call".into(),
        Gauge::Milliseconds if value < 10.0 => format!("{value:.2} ms"),
        Gauge::Milliseconds => format!("{value:.0} ms"),
        Gauge::PerSecond => format!("{:.1} k/s", value / 1e3),
    }
}

/// The lines of one row.
pub(crate) fn lines(result: &RowResult) -> String {
    let mut text = String::new();
    for (place, measured) in result.measured.iter().enumerate() {
        let title = if place == 0 { result.title.as_str() } else { "" };
        let name =
            if measured.role == Role::Ours { format!("**{}**", measured.name) } else { measured.name.to_owned() };
        let (low, high) = (measured.values.first(), measured.values.last());
        let spread =
            [low, high].map(|value| value.map_or_else(String::new, |value| amount(*value, result.unit))).join(" – ");
        let ratio = slowdown(measured.median(), result.measured[0].median(), result.unit);
        let old = established(result, measured.peer).map(|best| slowdown(measured.median(), best, result.unit));
        let old = match (measured.role, old) {
            (Role::Ours, Some(old)) if old > 1.0 => format!("{old:.2} **slower**"),
            (Role::Ours, Some(old)) => format!("{old:.2}"),
            _ => String::new(),
        };
        let median = amount(measured.median(), result.unit);
        let bar = verdict(measured, result);
        let _ = writeln!(text, "| {title} | {name} | {median} | {spread} | {ratio:.2} | {old} | {bar} |");
    }
    text
}

/// The peer named, or the best of the established contenders.
fn established(result: &RowResult, peer: Option<&str>) -> Option<f64> {
    let established = result.measured.iter().filter(|measured| measured.role == Role::Established);
    let medians = established.filter(|measured| peer.is_none_or(|peer| peer == measured.name)).map(Measured::median);
    if result.unit.less_is_better() { medians.min_by(f64::total_cmp) } else { medians.max_by(f64::total_cmp) }
}

fn slowdown(value: f64, than: f64, unit: Unit) -> f64 {
    if unit.less_is_better() { value / than } else { than / value }
}

fn verdict(measured: &Measured, result: &RowResult) -> String {
    let median = measured.median();
    let of = |name: &str| {
        let found = result.measured.iter().find(|other| other.name == name);
        median / found.unwrap_or_else(|| panic!("no contender is named {name}")).median()
    };
    let met = |holds: bool| if holds { "met" } else { "**missed**" };
    match measured.bar {
        None => String::new(),
        Some(Bar::AtMost(limit, name)) => format!("≤ {limit} × {name}: {:.2}, {}", of(name), met(of(name) <= limit)),
        Some(Bar::AtLeast(limit, name)) => format!("≥ {limit} × {name}: {:.2}, {}", of(name), met(of(name) >= limit)),
        Some(Bar::Within(limit)) => format!("≤ {}: {}", amount(limit, result.unit), met(median <= limit)),
    }
}

fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Nanoseconds if value < 100.0 => format!("{value:.1} ns"),
        Unit::Nanoseconds => format!("{value:.0} ns"),
        Unit::Microseconds => format!("{value:.1} µs"),
        Unit::Milliseconds => format!("{value:.1} ms"),
        Unit::PerSecond => format!("{:.0} k/s", value / 1e3),
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} ({cores} cores), {}", model.unwrap_or("unknown processor"), output("uname", &["-sr"]))
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The versions that were compiled in.
fn versions() -> String {
    let field = |package: &'static str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
        line.map(|line| line.trim_end_matches('"'))
    };
    let mut versions = Vec::new();
    for package in LOCK.split("[[package]]") {
        if let (Some(name), Some(version)) = (field(package, "name"), field(package, "version"))
            && PACKAGES.contains(&name)
        {
            versions.push(format!("{name} {version}"));
        }
    }
    versions.join(", ")
}
