//! Every row there is, by the number that the command line knows it by.

use anyhow::{Context, Result};

use crate::results::{Findings, Origin, Record, Section};
use crate::rounds::Row;
use crate::stage::Stage;
use crate::{coherence, grid, growth, hit_ratio, removal, report, rounds, rows};

pub(crate) struct Plan {
    section: Section,
    build: Build,
}

#[derive(Clone, Copy)]
enum Build {
    /// Sets up one workload, or a few that belong together.
    Costs(for<'a> fn(&'a Stage) -> Result<Vec<Row<'a>>>),
    Grid(fn(&Stage) -> grid::Row),
    /// One whose servers are filled beforehand.
    FilledGrid(fn(&Stage) -> Result<grid::Row>),
}

const fn costs(build: for<'a> fn(&'a Stage) -> Result<Vec<Row<'a>>>) -> Plan {
    Plan { section: Section::Costs, build: Build::Costs(build) }
}

const fn grid(section: Section, build: fn(&Stage) -> grid::Row) -> Plan {
    Plan { section, build: Build::Grid(build) }
}

const fn filled_grid(section: Section, build: fn(&Stage) -> Result<grid::Row>) -> Plan {
    Plan { section, build: Build::FilledGrid(build) }
}

/// In the order of their numbers, from 1.
pub(crate) const ALL: [Plan; 20] = [
    costs(rows::l1_bytes::build),
    costs(rows::l1_typed::build),
    costs(rows::get_or_compute::build),
    costs(rows::set::build),
    costs(rows::redis_hits::build),
    costs(rows::stampede::build),
    costs(rows::cold_and_skewed::build),
    grid(Section::Coherence, coherence::stale_reads::undisturbed),
    grid(Section::Coherence, coherence::stale_reads::killed),
    grid(Section::Coherence, coherence::latency::build),
    grid(Section::Coherence, coherence::one_load::build),
    grid(Section::Coherence, coherence::outage::build),
    grid(Section::HitRatio, hit_ratio::build),
    grid(Section::Removal, removal::pattern::build),
    grid(Section::Removal, removal::tags::build),
    grid(Section::Growth, growth::entries::build),
    grid(Section::Growth, growth::threads::build),
    filled_grid(Section::Growth, growth::in_flight::build),
    filled_grid(Section::Growth, growth::value_sizes::build),
    grid(Section::Growth, growth::bound::build),
];

impl Plan {
    /// Measures its rows, handing each to `keep` as soon as it is known.
    pub(crate) fn run(
        &self,
        number: usize,
        stage: &Stage,
        origin: &Origin,
        keep: &mut dyn FnMut(Record) -> Result<()>,
    ) -> Result<()> {
        let mut part = 0;
        let mut note = |id: &str, title: &str, rounds: usize, findings: Findings| {
            eprint!("{}", report::lines(&findings, title));
            let (place, origin) = ((number, part), origin.clone());
            part += 1;
            keep(Record { id: id.into(), section: self.section, place, title: title.into(), rounds, origin, findings })
        };
        let row = match self.build {
            Build::Costs(build) => {
                for mut row in build(stage).context("cannot be set up")? {
                    eprintln!("{number} {}", row.title);
                    let result = rounds::run(&mut row, stage);
                    note(row.id, &row.title, row.rounds(stage), Findings::Costs(result))?;
                }
                return Ok(());
            }
            Build::Grid(build) => build(stage),
            Build::FilledGrid(build) => build(stage).context("cannot be set up")?,
        };
        eprintln!("{number} {}", row.title);
        note(row.id, &row.title, row.rounds, Findings::Grid(grid::run(&row)))
    }
}
