//! Measures multi-tier-cache beside its last established release, its neighbours and the raw parts it is made of.
//!
//! `cargo run --release -- [--quick] [--rows 1,2] [--out FILE]`, from this directory or as `cargo xtask compare`.
//! Every row interleaves its contenders within each round; what counts are ratios of medians, since the machine is
//! rarely quiet. Results go to standard output and to RESULTS.md.

mod coherence;
mod contenders;
mod report;
mod rounds;
mod rows;
mod stage;
mod workload;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::stage::Stage;

const USAGE: &str = "usage: comparison [--quick] [--rows 1,2,…] [--out FILE]";

/// What the command line asks for.
struct Arguments {
    quick: bool,
    rows: Vec<usize>,
    out: PathBuf,
}

fn main() -> Result<()> {
    if let [_, role, kind, url] = &std::env::args().collect::<Vec<_>>()[..]
        && role == coherence::ROLE
    {
        return coherence::member(kind, url);
    }
    let arguments = parse(std::env::args().skip(1))?;
    let stage = Stage::set(arguments.quick)?;
    let mut results = Vec::new();
    for (number, build) in (1..).zip(rows::ALL).filter(|(number, _)| arguments.wants(*number)) {
        for row in build(&stage).with_context(|| format!("row {number}"))? {
            eprintln!("{number} {}", row.title);
            let result = rounds::run(row, &stage);
            eprint!("{}", report::lines(&result));
            results.push(result);
        }
    }
    let mut coherence = Vec::new();
    for (number, build) in (rows::ALL.len() + 1..).zip(coherence::ALL).filter(|(number, _)| arguments.wants(*number)) {
        let row = build(&stage);
        eprintln!("{number} {}", row.title);
        let result = coherence::run(row);
        eprint!("{}", report::coherence_lines(&result));
        coherence.push(result);
    }
    let report = report::document(&results, &coherence, &stage)?;
    println!("{report}");
    std::fs::write(&arguments.out, report).with_context(|| format!("cannot write {}", arguments.out.display()))
}

impl Arguments {
    fn wants(&self, number: usize) -> bool {
        self.rows.is_empty() || self.rows.contains(&number)
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let out = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
    let mut parsed = Arguments { quick: false, rows: Vec::new(), out };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => parsed.quick = true,
            "--rows" => {
                let list = arguments.next().context(USAGE)?;
                parsed.rows = list.split(',').map(|row| row.trim().parse().context(USAGE)).collect::<Result<_>>()?;
                let last = rows::ALL.len() + coherence::ALL.len();
                if let Some(unknown) = parsed.rows.iter().find(|row| !(1..=last).contains(*row)) {
                    bail!("there is no row {unknown}; there are 1 to {last}");
                }
            }
            "--out" => parsed.out = arguments.next().context(USAGE)?.into(),
            _ => bail!("{USAGE}"),
        }
    }
    Ok(parsed)
}
