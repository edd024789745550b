//! A clock that moves only when told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;

/// A clock that moves only when told; clones share their time.
///
/// ```
/// use std::time::Duration;
/// use multi_tier_cache::testing::ManualClock;
///
/// let time = ManualClock::new();
/// let deadline = time.clock().now().after(Duration::from_secs(1));
/// time.advance(Duration::from_secs(1));
/// assert!(time.clock().has_passed(deadline));
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock some time after its origin.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000_000)))
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// The clock to hand to backends and builders.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::manual(Arc::clone(&self.0))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}
