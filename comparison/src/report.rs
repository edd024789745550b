//! The table.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::rounds::{Bar, Measured, Role, RowResult, Unit};
use crate::stage::Stage;

const LOCK: &str = include_str!("../Cargo.lock");
const PACKAGES: [&str; 6] = ["multi-tier-cache", "amalgam-cache", "moka", "quick_cache", "redis", "tokio"];

pub(crate) fn document(results: &[RowResult], stage: &Stage) -> Result<String> {
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
    Ok(text)
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
