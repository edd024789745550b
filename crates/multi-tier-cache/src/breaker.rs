//! Leaves a tier alone for a while after a failure.

use parking_lot::Mutex;

use crate::clock::{Clock, Moment};
use crate::defaults;

/// Closed until a failure; then refuses everything for [`defaults::BREAKER_WINDOW`] and lets one operation through
/// per window until one succeeds.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    clock: Clock,
    shut_until: Mutex<Option<Moment>>,
}

impl Breaker {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, shut_until: Mutex::new(None) }
    }

    /// Whether an operation may be tried now.
    pub(crate) fn admits(&self) -> bool {
        let mut shut_until = self.shut_until.lock();
        match *shut_until {
            None => true,
            Some(until) if !self.clock.has_passed(until) => false,
            Some(_) => {
                // The one that is admitted may be dropped before it knows: the next follows a window later.
                *shut_until = Some(self.window());
                true
            }
        }
    }

    pub(crate) fn succeeded(&self) {
        *self.shut_until.lock() = None;
    }

    pub(crate) fn failed(&self) {
        *self.shut_until.lock() = Some(self.window());
    }

    fn window(&self) -> Moment {
        self.clock.now().after(defaults::BREAKER_WINDOW)
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
