//! What instances that share a Redis see of one another. Each contender's turn has a Redis and a runtime of its own.

mod database;
pub(crate) mod fleet;
pub(crate) mod latency;
pub(crate) mod one_load;
pub(crate) mod outage;
pub(crate) mod stale_reads;

use std::time::Duration;

use anyhow::Result;

use crate::contenders::instance::Kind;
use crate::grid::Contender;

pub(crate) use one_load::{ROLE, member};

/// Many times what a round takes.
const LIMIT: Duration = Duration::from_secs(90);

fn contenders(
    kinds: &[Kind],
    round: impl Fn(Kind) -> Result<Vec<f64>> + Copy + Send + Sync + 'static,
) -> Vec<Contender> {
    kinds.iter().copied().map(|kind| Contender::new(kind.name(), kind.role(), move || round(kind))).collect()
}
