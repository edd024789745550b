//! What was measured, kept beside the report, so that a full run may be made in parts: a row that is measured again
//! replaces what was known of it.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{grid, rounds};

const LOCK: &str = include_str!("../Cargo.lock");
const PACKAGES: [&str; 8] =
    ["multi-tier-cache", "amalgam-cache", "cachet", "foyer-memory", "moka", "quick_cache", "redis", "tokio"];

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// In the order of their numbers.
    records: Vec<Record>,
}

/// One row.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) section: Section,
    /// That of the command line, and which of its rows this is.
    pub(crate) place: (usize, usize),
    pub(crate) title: String,
    pub(crate) rounds: usize,
    pub(crate) origin: Origin,
    pub(crate) findings: Findings,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Section {
    Costs,
    Coherence,
    HitRatio,
    Removal,
    Growth,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Findings {
    Costs(rounds::RowResult),
    Grid(grid::RowResult),
}

/// When, where and with what a row was measured.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) date: String,
    pub(crate) machine: String,
    pub(crate) software: String,
    pub(crate) crates: String,
    pub(crate) quick: bool,
}

impl Results {
    /// Those kept at `path`; none if there is no such file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn put(&mut self, record: Record) {
        self.records.retain(|other| other.id != record.id);
        self.records.push(record);
        self.records.sort_by_key(|record| record.place);
    }

    /// Those of one section, in order.
    pub(crate) fn of(&self, section: Section) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.section == section)
    }

    pub(crate) fn costs(&self, id: &str) -> Option<&rounds::RowResult> {
        self.records.iter().find(|record| record.id == id).and_then(Record::costs)
    }

    pub(crate) fn grid(&self, id: &str) -> Option<&grid::RowResult> {
        self.records.iter().find(|record| record.id == id).and_then(Record::grid)
    }

    /// Each once, in order of first appearance.
    pub(crate) fn origins(&self) -> Vec<&Origin> {
        let mut origins = Vec::new();
        for record in &self.records {
            if !origins.contains(&&record.origin) {
                origins.push(&record.origin);
            }
        }
        origins
    }
}

impl Record {
    pub(crate) fn costs(&self) -> Option<&rounds::RowResult> {
        match &self.findings {
            Findings::Costs(result) => Some(result),
            Findings::Grid(_) => None,
        }
    }

    pub(crate) fn grid(&self) -> Option<&grid::RowResult> {
        match &self.findings {
            Findings::Grid(result) => Some(result),
            Findings::Costs(_) => None,
        }
    }
}

impl Section {
    pub(crate) const ALL: [Self; 5] = [Self::Costs, Self::HitRatio, Self::Growth, Self::Removal, Self::Coherence];
}

impl Origin {
    /// This program, here and now.
    pub(crate) fn here(quick: bool) -> Self {
        let software = [output("rustc", &["--version"]), redis_version()].join(", ");
        Self { date: output("date", &["+%F"]), machine: machine(), software, crates: versions(), quick }
    }
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} ({cores} cores), {}", model.unwrap_or("unknown processor"), output("uname", &["-sr"]))
}

fn redis_version() -> String {
    let line = output("redis-server", &["--version"]);
    let version = line.split_whitespace().find_map(|word| word.strip_prefix("v="));
    format!("redis-server {}", version.unwrap_or("of unknown version"))
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
    let mut versions: HashMap<&str, Vec<&str>> = HashMap::new();
    for package in LOCK.split("[[package]]") {
        if let (Some(name), Some(version)) = (field(package, "name"), field(package, "version")) {
            versions.entry(name).or_default().push(version);
        }
    }
    let named = |name: &&str| Some(format!("{name} {}", versions.get(name)?.join(" and ")));
    PACKAGES.iter().filter_map(named).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, number: usize, rounds: usize) -> Record {
        Record {
            id: id.into(),
            section: Section::Costs,
            place: (number, 0),
            title: id.into(),
            rounds,
            origin: Origin {
                date: "2026-01-01".into(),
                machine: "m".into(),
                software: "s".into(),
                crates: "c".into(),
                quick: false,
            },
            findings: Findings::Costs(rounds::RowResult { unit: crate::unit::Unit::Count, measured: Vec::new() }),
        }
    }

    #[test]
    fn a_row_measured_again_replaces_the_old_one_and_keeps_the_others() {
        let mut results = Results::default();
        for record in [record("b", 2, 1), record("a", 1, 1), record("b", 2, 7)] {
            results.put(record);
        }
        let kept: Vec<_> = results.of(Section::Costs).map(|record| (record.id.as_str(), record.rounds)).collect();
        assert_eq!(kept, [("a", 1), ("b", 7)]);
        assert_eq!(results.origins().len(), 1);
    }

    #[test]
    fn results_survive_the_way_through_a_file() {
        let directory = std::env::temp_dir().join(format!("comparison-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("results.json");
        assert!(Results::load(&path).unwrap().origins().is_empty());
        let mut results = Results::default();
        results.put(record("a", 1, 3));
        results.save(&path).unwrap();
        assert_eq!(Results::load(&path).unwrap().of(Section::Costs).next().unwrap().rounds, 3);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_versions_compiled_in_are_known() {
        let versions = versions();
        assert!(versions.contains("quick_cache 0.6.24 and 0.7") && versions.contains("cachet 0.16.0"), "{versions}");
    }
}
