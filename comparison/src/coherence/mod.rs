//! What instances that share a Redis see of one another. Each contender's turn has a Redis and a runtime of its own.

mod database;
mod fleet;
mod latency;
mod one_load;
mod outage;
mod stale_reads;

use anyhow::Result;

use crate::contenders::instance::Kind;
use crate::stage::Stage;

pub(crate) use one_load::{ROLE, member};

/// Sets up one row.
type Build = fn(&Stage) -> Row;

/// In the order of their numbers, which go on after those of [`rows`](crate::rows).
pub(crate) const ALL: [Build; 5] =
    [stale_reads::undisturbed, stale_reads::killed, latency::build, one_load::build, outage::build];

/// One experiment, and what is read off it.
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) measures: Vec<Measure>,
    pub(crate) contenders: &'static [Kind],
    pub(crate) rounds: usize,
    /// Answers a value for each measure.
    round: Box<dyn Fn(Kind) -> Result<Vec<f64>>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) gauge: Gauge,
    /// What must hold of this project.
    pub(crate) bar: Option<Bar>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gauge {
    /// A share, from 0 to 1. Like a count, it must hold in every round; the others, of the median.
    Share,
    Count,
    Milliseconds,
    PerSecond,
}

#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

/// A contender's values of each measure, sorted. A round that failed left none.
pub(crate) struct Observed {
    pub(crate) kind: Kind,
    pub(crate) values: Vec<Vec<f64>>,
    pub(crate) failed_rounds: usize,
}

pub(crate) struct RowResult {
    pub(crate) title: String,
    pub(crate) measures: Vec<Measure>,
    pub(crate) observed: Vec<Observed>,
}

impl Measure {
    fn new(name: &'static str, gauge: Gauge) -> Self {
        Self { name, gauge, bar: None }
    }

    fn at_most(self, limit: f64) -> Self {
        Self { bar: Some(Bar::AtMost(limit)), ..self }
    }

    fn at_least(self, limit: f64) -> Self {
        Self { bar: Some(Bar::AtLeast(limit)), ..self }
    }
}

/// Every contender once per round, in rotating order. The failure of one is reported and leaves the others.
pub(crate) fn run(row: Row) -> RowResult {
    let unseen = |kind: &Kind| Observed { kind: *kind, values: vec![Vec::new(); row.measures.len()], failed_rounds: 0 };
    let mut observed: Vec<Observed> = row.contenders.iter().map(unseen).collect();
    let count = observed.len();
    for round in 0..row.rounds {
        for turn in 0..count {
            let seen = &mut observed[(round + turn) % count];
            match (row.round)(seen.kind) {
                Ok(values) => seen.values.iter_mut().zip(values).for_each(|(all, value)| all.push(value)),
                Err(error) => {
                    eprintln!("  {}: {error:#}", seen.kind.name());
                    seen.failed_rounds += 1;
                }
            }
        }
    }
    observed.iter_mut().flat_map(|seen| &mut seen.values).for_each(|values| values.sort_by(f64::total_cmp));
    RowResult { title: row.title, measures: row.measures, observed }
}

/// Of sorted values; of none, not a number.
fn percentile(values: &[f64], percent: usize) -> f64 {
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}
