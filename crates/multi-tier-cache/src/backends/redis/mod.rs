//! What every user of a Redis server here shares: its address, its options and a supervised connection.

pub(crate) mod address;
pub(crate) mod config;
pub(crate) mod connection;
mod error;
mod link;
mod merge;
pub(crate) mod scan;
pub(crate) mod stored;
mod subscription;
