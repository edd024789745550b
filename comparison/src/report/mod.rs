//! RESULTS.md, from the results that are kept.

mod costs;
mod grid;

use std::fmt::{self, Write as _};

use crate::plots::Plot;
use crate::results::{Findings, Origin, Record, Results, Section};

const COMMAND: &str = "`cargo xtask compare`, or `cargo run --release --manifest-path comparison/Cargo.toml --`";

pub(crate) fn document(results: &Results, plots: &[Plot]) -> Result<String, fmt::Error> {
    let origins = results.origins();
    let mut text = String::from("# Comparison\n\n");
    writeln!(text, "{COMMAND} with the rows to measure anew; the others are kept.\n")?;
    for (place, origin) in origins.iter().enumerate() {
        let mark = if origins.len() > 1 { format!("[{}] ", place + 1) } else { String::new() };
        let quick = if origin.quick { ", a quick run: too short to be relied on" } else { "" };
        let Origin { date, machine, software, crates, .. } = origin;
        writeln!(text, "* {mark}{date}{quick}: {machine}; {software}; profile `release` (thin LTO, one codegen unit)")?;
        writeln!(text, "  * {crates}")?;
    }
    for section in Section::ALL {
        let records: Vec<&Record> = results.of(section).collect();
        if records.is_empty() {
            continue;
        }
        writeln!(text, "\n## {}\n\n{}", section.heading(), section.explanation())?;
        for plot in plots.iter().filter(|plot| plot.section == section) {
            writeln!(text, "\n![{}](plots/{})", plot.title, plot.file)?;
        }
        let mut table = Table { columns: None };
        for record in records {
            let mark = origins.iter().position(|origin| **origin == record.origin).filter(|_| origins.len() > 1);
            let title = mark.map_or_else(|| record.title.clone(), |mark| format!("{} [{}]", record.title, mark + 1));
            table.add(&mut text, record, &title)?;
        }
    }
    Ok(text)
}

/// Rows with the same columns share one heading.
struct Table {
    columns: Option<String>,
}

impl Table {
    fn add(&mut self, text: &mut String, record: &Record, title: &str) -> fmt::Result {
        let columns = match &record.findings {
            Findings::Costs(_) => costs::COLUMNS.to_owned(),
            Findings::Grid(result) => grid::columns(result),
        };
        if self.columns.as_ref() != Some(&columns) {
            write!(text, "\n{columns}")?;
            self.columns = Some(columns);
        }
        text.write_str(&lines(&record.findings, title))
    }
}

/// The lines of one row.
pub(crate) fn lines(findings: &Findings, title: &str) -> String {
    match findings {
        Findings::Costs(result) => costs::lines(result, title),
        Findings::Grid(result) => grid::lines(result, title),
    }
}

/// How often somebody waited for ever or got no value; nothing if all was well.
fn troubles(hung: usize, failed: usize) -> String {
    let mut text = String::new();
    for (count, what) in [(hung, "hung"), (failed, "failed")] {
        if count > 0 {
            let _ = write!(text, ", {what} {count} ×");
        }
    }
    text
}

fn met(holds: bool) -> &'static str {
    if holds { "met" } else { "**missed**" }
}

impl Section {
    fn heading(self) -> &'static str {
        match self {
            Self::Costs => "Costs",
            Self::Coherence => "Coherence",
            Self::HitRatio => "Hit ratio",
            Self::Removal => "Removal of many keys",
            Self::Growth => "Growth",
        }
    }

    fn explanation(self) -> &'static str {
        match self {
            Self::Costs => {
                "Medians; in each round every contender of a row runs once, in rotating order. The baseline of a row is \
                 its first line. A ratio above 1 is slower; × 0.6.5 is against the best of its set-ups, or the one that \
                 is set up alike. Nanoseconds are those of the thread's own processor time. Who waits for more than \
                 20 s has hung."
            }
            Self::Coherence => {
                "Instances that share one Redis, set up with each contender's defaults. Median (and range) of the \
                 rounds; a bar for a share or a count must hold in every round. A read is stale if it returns a version \
                 older than one whose invalidation had succeeded that long before the read began."
            }
            Self::HitRatio => {
                "The share of reads that a first tier of the given number of entries answers; what is missing is \
                 computed and stored. Ours is a system with the default kind of L1 and no other tier, read through \
                 `get_or_compute_with`. The first tenth of a trace warms up and does not count. Traces are generated \
                 from fixed seeds; bars are against the best of all columns."
            }
            Self::Removal => {
                "Each contender has a Redis of its own and two instances: one removes, and readers read other keys \
                 from Redis through the second one, whose L1 holds one entry. 0.6.5 has no tags: it removes the same \
                 keys by their pattern."
            }
            Self::Growth => {
                "How costs change with size. Nanoseconds are those of the thread's own processor time, for reads in \
                 random order, the key's own cache misses included; bytes are what the contender has asked of the \
                 allocator, key and value included."
            }
        }
    }
}
