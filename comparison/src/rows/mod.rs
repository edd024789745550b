//! Workloads whose cost is measured, one file each.

pub(crate) mod cold_and_skewed;
pub(crate) mod get_or_compute;
pub(crate) mod l1_bytes;
pub(crate) mod l1_typed;
pub(crate) mod redis_hits;
pub(crate) mod set;
pub(crate) mod stampede;
