//! A breaker per tier: after a failure the tier is left alone for a window, then one operation tries it again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Moment};

/// Closed while zero; else the moment, in nanoseconds of the clock, from which one operation may try.
#[derive(Debug, Default)]
pub(crate) struct Breaker(AtomicU64);

impl Breaker {
    /// Whether an operation may go ahead. Of many callers after the window, one may; the window then begins anew.
    pub(crate) fn admits(&self, clock: &Clock, window: Duration) -> bool {
        let retry_at = self.0.load(Ordering::Acquire);
        if retry_at == 0 {
            return true;
        }
        let now = clock.now();
        now >= Moment::from_nanos(retry_at)
            && self
                .0
                .compare_exchange(retry_at, now.after(window).as_nanos(), Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    pub(crate) fn record(&self, worked: bool, clock: &Clock, window: Duration) {
        if worked {
            if self.0.load(Ordering::Relaxed) != 0 {
                self.0.store(0, Ordering::Release);
            }
        } else {
            self.0.store(clock.now().after(window).as_nanos(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const WINDOW: Duration = Duration::from_millis(200);

    #[test]
    fn after_a_failure_one_operation_a_window_goes_ahead() {
        let time = Arc::new(AtomicU64::new(1));
        let clock = Clock::manual(Arc::clone(&time));
        let breaker = Breaker::default();
        assert!(breaker.admits(&clock, WINDOW));
        breaker.record(false, &clock, WINDOW);
        assert!(!breaker.admits(&clock, WINDOW));
        time.fetch_add(200_000_000, Ordering::AcqRel);
        assert!(breaker.admits(&clock, WINDOW));
        assert!(!breaker.admits(&clock, WINDOW), "one probe at a time");
        breaker.record(true, &clock, WINDOW);
        assert!(breaker.admits(&clock, WINDOW) && breaker.admits(&clock, WINDOW));
    }
}
