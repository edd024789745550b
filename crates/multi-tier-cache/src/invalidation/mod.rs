//! Invalidation: its configuration, its messages and its statistics.
//!
//! In this version invalidations act on the instance that makes them and on the tiers it shares; a bus that carries
//! them to the in-process tiers of other instances uses the types of this module.

mod config;
mod message;
mod stats;

pub use config::InvalidationConfig;
pub use message::InvalidationMessage;
pub use stats::InvalidationStats;
