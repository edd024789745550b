//! The parts of the Memcached backend.

pub(super) mod address;
mod error;
pub(super) mod item;
pub(super) mod link;
pub(super) mod servers;
pub(super) mod stats;
