//! Invalidation between instances: the bus, its messages, its configuration and its statistics.
//!
//! [`bus`] follows the coordinator's log with the state machine of [`progress`]; it acts on in-process state only,
//! through a trait that the engine implements.

pub(crate) mod bus;
mod coherence;
mod config;
mod journal;
mod message;
mod progress;
mod stats;

pub use coherence::{CoherenceConfig, CoherenceMode};
pub use config::InvalidationConfig;
pub use message::InvalidationMessage;
pub use stats::{CoherenceStats, InvalidationStats};

pub(crate) use bus::{Announced, Bus, Follower};
pub(crate) use stats::Counter;
