//! Invalidation between instances: the bus, its messages, its configuration and its statistics.
//!
//! `bus` follows the coordinator's log with the state machine of `progress`; it acts on in-process state only,
//! through a trait that the engine implements.
#![cfg_attr(
    feature = "redis",
    doc = "
Other programs take part through [`InvalidationPublisher`], [`InvalidationSubscriber`] (fast, with gaps) and
[`ReliableStreamSubscriber`] (every message of the log)."
)]

pub(crate) mod bus;
mod coherence;
mod config;
#[cfg(feature = "redis")]
mod delivery;
mod following;
mod journal;
mod message;
mod progress;
#[cfg(feature = "redis")]
mod publisher;
#[cfg(feature = "redis")]
mod reliable;
mod stats;
#[cfg(feature = "redis")]
mod subscriber;

pub use coherence::{CoherenceConfig, CoherenceMode};
pub use config::InvalidationConfig;
pub use message::InvalidationMessage;
#[cfg(feature = "redis")]
pub use publisher::InvalidationPublisher;
#[cfg(feature = "redis")]
pub use reliable::ReliableStreamSubscriber;
pub use stats::{CoherenceStats, InvalidationStats};
#[cfg(feature = "redis")]
pub use subscriber::InvalidationSubscriber;

pub(crate) use bus::{Announced, Bus, Follower};
pub(crate) use stats::Counter;
