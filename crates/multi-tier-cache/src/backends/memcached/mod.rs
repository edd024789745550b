//! The parts of the Memcached backend.

pub(super) mod address;
mod error;
pub(crate) mod item;
pub(crate) mod link;
pub(super) mod servers;
pub(super) mod stats;
