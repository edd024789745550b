//! What an instance sent and received, and how coherent it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Messages of the invalidation bus since the instance was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvalidationStats {
    /// Messages sent; counted before the verb that sent one returns.
    pub messages_sent: u64,
    /// Messages received, of any type.
    pub messages_received: u64,
    /// `Remove` messages received.
    pub removes_received: u64,
    /// `Update` messages received, and removals that announced a new value.
    pub updates_received: u64,
    /// `RemovePattern` messages received.
    pub patterns_received: u64,
    /// `RemoveBulk` messages received.
    pub bulk_removes_received: u64,
    /// Messages that could not be understood or applied.
    pub processing_errors: u64,
}

/// How an instance is kept coherent with the others, since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoherenceStats {
    /// Time since everything stored in process was last known to reflect the log; `None` without a bus.
    pub proof_age: Option<Duration>,
    /// Entries of the log that the latest poll found not yet followed.
    pub lag: u64,
    /// Messages that did not follow the one before.
    pub gaps: u64,
    /// Times that the log was read to catch up.
    pub resyncs: u64,
    /// Times that everything stored in process was forgotten because the log could not tell what was missed.
    pub flushes: u64,
    /// Times that the bus was joined, left aside from `flushes`: at most the first moments of a cache are forgotten.
    pub joins: u64,
    /// Failovers that had lost entries of the log.
    pub forks: u64,
    /// Invalidations done again because a failover may have lost them.
    pub replayed: u64,
    /// Polls that were not answered.
    pub failed_polls: u64,
    /// Subscriptions opened.
    pub subscriptions: u64,
    /// Loads and copies refused by the shared tier because their key was invalidated meanwhile.
    pub refused_fills: u64,
    /// The same, refused by this process.
    pub refused_local_fills: u64,
    /// Loads under way that were closed to further callers because their key was invalidated.
    pub refused_joins: u64,
    /// Reads that waited for the load of another instance.
    pub lease_waits: u64,
    /// Leases got after waiting for one that ended without a value: its holder died, failed or was refused.
    pub takeovers: u64,
    /// Loads begun without a lease because another instance's took longer than the wait budget.
    pub unleased_loads: u64,
    /// Hits served although their freshness was not proven within the bound.
    pub unproven_hits: u64,
    /// Invalidations that failed and are still to be made up for.
    pub pending_invalidations: usize,
    /// Values taken back from a tier below the coordinator because their key was invalidated meanwhile.
    pub taken_back: u64,
}

macro_rules! counters {
    ($($name:ident),+ $(,)?) => {
        /// Counters of the bus, each incremented at one place.
        #[derive(Debug, Default)]
        pub(crate) struct Counts { $(pub(crate) $name: Counter,)+ }
    };
}

/// A count.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    sent, received, removes, updates, patterns, bulk_removes, errors,
    lag, gaps, resyncs, flushes, joins, forks, replayed, failed_polls, subscriptions,
}

impl Counts {
    pub(crate) fn messages(&self) -> InvalidationStats {
        InvalidationStats {
            messages_sent: self.sent.get(),
            messages_received: self.received.get(),
            removes_received: self.removes.get(),
            updates_received: self.updates.get(),
            patterns_received: self.patterns.get(),
            bulk_removes_received: self.bulk_removes.get(),
            processing_errors: self.errors.get(),
        }
    }

    pub(crate) fn fill(&self, stats: &mut CoherenceStats) {
        stats.lag = self.lag.get();
        stats.gaps = self.gaps.get();
        stats.resyncs = self.resyncs.get();
        stats.flushes = self.flushes.get();
        stats.joins = self.joins.get();
        stats.forks = self.forks.get();
        stats.replayed = self.replayed.get();
        stats.failed_polls = self.failed_polls.get();
        stats.subscriptions = self.subscriptions.get();
    }
}
