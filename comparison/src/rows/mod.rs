//! The workloads, one file each.

mod cold_and_skewed;
mod get_or_compute;
mod l1_bytes;
mod l1_typed;
mod redis_hits;
mod set;
mod stampede;

use anyhow::Result;

use crate::rounds::Row;
use crate::stage::Stage;

/// Sets up one workload, or a few that belong together.
type Build = for<'a> fn(&'a Stage) -> Result<Vec<Row<'a>>>;

/// In the order of their numbers, from 1.
pub(crate) const ALL: [Build; 7] = [
    l1_bytes::build,
    l1_typed::build,
    get_or_compute::build,
    set::build,
    redis_hits::build,
    stampede::build,
    cold_and_skewed::build,
];
