//! The contract between instances, scenario by scenario: each forces one interleaving by named barriers, against real
//! Redis processes and against the coordinator in memory, and must fail as soon as the protection that it is about is
//! switched off.
#![cfg(all(feature = "redis", feature = "test-util"))]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
#[macro_use]
mod harness;
mod instance;
mod stories;
mod tier;
mod world;

mod s01_own_delete;
mod s02_peer_delete;
mod s03_lower_read;
mod s04_lost_messages;
mod s05_two_loads;
mod s06_partition;
mod s07_late_joiner;
mod s08_below;
mod s09_tags_and_clear;
mod s10_cancelled;
mod s11_late_writes;
mod s12_eviction;
mod s13_emptied;
mod s14_failover;
mod s15_puts;
mod s16_pattern;
mod s17_neighbours;
mod s18_resync;

mod leases;
mod messages;
mod outages;
mod pending;
mod round_trips;
