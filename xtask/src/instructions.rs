//! Counts the instructions of hot paths with callgrind and compares them with `benches/instructions.txt`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{cargo, root};
use crate::tools::on_path;

/// A path that takes more than this share above what is written down fails. Another processor, for which the C library
/// copies and compares in other ways, makes up to half of it.
const MARGIN: f64 = 0.10;
/// The difference between two runs, of which each call costs an equal share.
const FEW: u64 = 3_000;
const MANY: u64 = 23_000;

/// What every path costs now, against what is written down; `accept` writes it down.
pub(crate) fn check(accept: bool) -> Result<()> {
    println!("\n== instructions of hot paths");
    if on_path("valgrind").is_none() {
        ensure!(!accept, "valgrind not found: install it (Debian: apt-get install valgrind)");
        println!("== left out, valgrind is not installed");
        return Ok(());
    }
    let program = build()?;
    let measured = measure(&program)?;
    let file = root().join("benches/instructions.txt");
    if accept {
        let lines = measured.iter().fold(String::new(), |mut lines, (name, count)| {
            let _ = writeln!(lines, "{count:>6} {name}");
            lines
        });
        return fs::write(&file, lines).with_context(|| format!("cannot write {}", file.display()));
    }
    compare(&measured, &read(&file)?)
}

fn build() -> Result<PathBuf> {
    let mut build = cargo(&["build", "--release", "-p", "hot-paths", "--message-format", "json-render-diagnostics"]);
    let output = build.stderr(std::process::Stdio::inherit()).output().context("cannot build hot-paths")?;
    ensure!(output.status.success(), "hot-paths does not build");
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut executables = messages.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    let path = executables.next_back().context("cargo names no executable of hot-paths")?;
    Ok(PathBuf::from(path))
}

fn measure(program: &Path) -> Result<BTreeMap<String, u64>> {
    let names = Command::new(program).output().context("cannot run hot-paths")?;
    let names = String::from_utf8(names.stdout)?;
    let count = |name: &str| {
        let (few, many) = (instructions(program, name, FEW)?, instructions(program, name, MANY)?);
        Ok((name.to_owned(), many.saturating_sub(few) / (MANY - FEW)))
    };
    names.lines().map(count).collect()
}

fn instructions(program: &Path, name: &str, times: u64) -> Result<u64> {
    let mut callgrind = Command::new("valgrind");
    callgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &times.to_string()]);
    let output = callgrind.output().context("cannot run valgrind")?;
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "hot path `{name}` failed:\n{report}");
    let counted = report.lines().find_map(|line| line.split_once("Collected : ")?.1.split(' ').next());
    Ok(counted.with_context(|| format!("callgrind says nothing of `{name}`:\n{report}"))?.parse()?)
}

fn read(file: &Path) -> Result<BTreeMap<String, u64>> {
    let lines = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let line = |line: &str| {
        let (count, name) = line.trim().split_once(' ').with_context(|| format!("no number and name: {line:?}"))?;
        Ok((name.to_owned(), count.parse()?))
    };
    lines.lines().map(line).collect()
}

fn compare(measured: &BTreeMap<String, u64>, known: &BTreeMap<String, u64>) -> Result<()> {
    let mut worse = Vec::new();
    for (name, count) in measured {
        let known = known.get(name).with_context(|| format!("`{name}` is not in benches/instructions.txt"))?;
        println!("{count:>6} {name} (written down: {known})");
        if exceeds(*count, *known) {
            worse.push(name.as_str());
        }
    }
    if !worse.is_empty() {
        bail!(
            "more than {:.0} % above benches/instructions.txt: {}. If that is worth its price, write it down with \
             `cargo xtask instructions --accept`",
            MARGIN * 100.0,
            worse.join(", ")
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "an instruction count is small")]
fn exceeds(count: u64, known: u64) -> bool {
    count as f64 > known as f64 * (1.0 + MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fails_beyond_the_margin() {
        assert!(!exceeds(110, 100) && exceeds(111, 100) && !exceeds(50, 100));
        let counts = |count| BTreeMap::from([("get".to_owned(), count)]);
        assert!(compare(&counts(100), &counts(100)).is_ok());
        assert!(compare(&counts(120), &counts(100)).is_err());
        assert!(compare(&counts(100), &BTreeMap::new()).is_err());
    }
}
