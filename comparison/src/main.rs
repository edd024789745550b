//! Measures multi-tier-cache beside its last established release, its neighbours and the raw parts it is made of.
//!
//! `cargo run --release -- [--quick] [--rows 1,2] [--render] [--out FILE]`, from this directory or as `cargo xtask
//! compare`. Every row interleaves its contenders within each round; what counts are ratios of medians, since the
//! machine is rarely quiet. Each row is kept in `results.json` as soon as it is known, and RESULTS.md and the plots are
//! drawn from all that is kept there: a full run may be made in parts. A quick run, and one with `--out`, keeps its
//! results apart.

mod allocations;
mod coherence;
mod contenders;
mod grid;
mod growth;
mod hit_ratio;
mod plan;
mod plots;
mod removal;
mod report;
mod results;
mod rounds;
mod rows;
mod stage;
mod unit;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::results::{Origin, Results};
use crate::stage::Stage;

const USAGE: &str = "usage: comparison [--quick] [--rows 1,2,…] [--render] [--out FILE]

  --quick     fewer and smaller rounds, under two minutes; results go to target/quick/
  --rows      only these; the results of others are kept
  --render    no rows: only write the report and the plots of what is kept
  --out FILE  where the report goes; results.json and plots/ go beside it";

/// What the command line asks for.
struct Arguments {
    quick: bool,
    render: bool,
    rows: Vec<usize>,
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    if let [_, role, kind, url] = &std::env::args().collect::<Vec<_>>()[..]
        && role == coherence::ROLE
    {
        return coherence::member(kind, url);
    }
    let arguments = parse(std::env::args().skip(1))?;
    let (report, started) = (arguments.report(), Instant::now());
    let directory = report.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let kept = directory.join("results.json");
    let mut results = Results::load(&kept)?;
    let outcome = if arguments.render { Ok(()) } else { measure(&arguments, &mut results, &kept) };
    let plots = plots::draw(&results);
    plots::save(&plots, &directory.join("plots"))?;
    let document = report::document(&results, &plots)?;
    println!("{document}");
    fs::write(&report, document).with_context(|| format!("cannot write {}", report.display()))?;
    eprintln!("{} in {:.0} s", report.display(), started.elapsed().as_secs_f64());
    outcome
}

/// Measures what is asked for. A row that cannot be set up is reported and leaves the others.
fn measure(arguments: &Arguments, results: &mut Results, kept: &Path) -> Result<()> {
    let stage = Stage::set(arguments.quick)?;
    let origin = Origin::here(arguments.quick);
    let mut failed = Vec::new();
    for (number, plan) in (1..).zip(&plan::ALL).filter(|(number, _)| arguments.wants(*number)) {
        let started = Instant::now();
        let mut keep = |record| {
            results.put(record);
            results.save(kept)
        };
        if let Err(error) = plan.run(number, &stage, &origin, &mut keep) {
            eprintln!("row {number}: {error:#}");
            failed.push(number.to_string());
        }
        eprintln!("  {:.1} s", started.elapsed().as_secs_f64());
    }
    drop(stage);
    stage::end_children();
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
}

impl Arguments {
    fn wants(&self, number: usize) -> bool {
        self.rows.is_empty() || self.rows.contains(&number)
    }

    fn report(&self) -> PathBuf {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let usual = if self.quick { home.join("target/quick") } else { home.to_path_buf() };
        self.out.clone().unwrap_or_else(|| usual.join("RESULTS.md"))
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut parsed = Arguments { quick: false, render: false, rows: Vec::new(), out: None };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => parsed.quick = true,
            "--render" => parsed.render = true,
            "--rows" => {
                let list = arguments.next().context(USAGE)?;
                parsed.rows = list.split(',').map(|row| row.trim().parse().context(USAGE)).collect::<Result<_>>()?;
                if let Some(unknown) = parsed.rows.iter().find(|row| !(1..=plan::ALL.len()).contains(*row)) {
                    bail!("there is no row {unknown}; there are 1 to {}", plan::ALL.len());
                }
            }
            "--out" => parsed.out = Some(arguments.next().context(USAGE)?.into()),
            _ => bail!("{USAGE}"),
        }
    }
    Ok(parsed)
}
