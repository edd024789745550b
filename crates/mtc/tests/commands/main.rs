//! The built binary against real servers: every command, for people and for programs, with its exit codes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation ends the test")]

mod bench;
mod doctor;
mod get;
mod guide;
mod invalidate;
mod metrics;
mod program;
mod shop;
mod stats;
mod tail;
mod usage;
