//! Leaves a tier alone for a while after a failure.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{Clock, Moment};
use crate::defaults;

/// Closed until a failure; then refuses everything for [`defaults::BREAKER_WINDOW`] and lets one operation through
/// per window until one succeeds.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    clock: Clock,
    /// When the next operation may be tried, in nanoseconds of the clock; 0 while closed.
    shut_until: AtomicU64,
}

impl Breaker {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, shut_until: AtomicU64::new(0) }
    }

    /// Whether an operation may be tried now.
    pub(crate) fn admits(&self) -> bool {
        let until = self.shut_until.load(Ordering::Acquire);
        // The one that is admitted may be dropped before it knows: the next follows a window later.
        until == 0
            || (self.clock.has_passed(Moment::from_nanos(until))
                && self.shut_until.compare_exchange(until, self.window(), Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    pub(crate) fn succeeded(&self) {
        if self.shut_until.load(Ordering::Relaxed) != 0 {
            self.shut_until.store(0, Ordering::Release);
        }
    }

    pub(crate) fn failed(&self) {
        self.shut_until.store(self.window(), Ordering::Release);
    }

    fn window(&self) -> u64 {
        self.clock.now().after(defaults::BREAKER_WINDOW).as_nanos().max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn after_a_failure_one_operation_a_window_is_tried() {
        let time = Arc::new(AtomicU64::new(0));
        let pass = |by: Duration| time.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(0), Ordering::AcqRel);
        let breaker = Breaker { clock: Clock::manual(Arc::clone(&time)), ..Breaker::default() };
        assert!(breaker.admits());
        breaker.failed();
        assert!(!breaker.admits());
        pass(defaults::BREAKER_WINDOW);
        assert!(breaker.admits());
        assert!(!breaker.admits());
        pass(defaults::BREAKER_WINDOW);
        assert!(breaker.admits());
        breaker.succeeded();
        assert!(breaker.admits());
        assert!(breaker.admits());
    }
}
