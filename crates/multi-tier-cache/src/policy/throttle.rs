//! The pause after a failed load: a source in trouble is not asked at every read.

use std::time::Duration;

use crate::clock::Moment;

/// What one key remembers of its failed loads.
///
/// Asked before a load or refresh of a key that has a value to answer without it: a fresh one that would be refreshed
/// early, or a stale one. Where there is nothing to answer, a load is due whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Throttle {
    failed: Option<Moment>,
}

impl Throttle {
    /// A load failed, ending at `now`. Reports that arrive out of order do not shorten the pause.
    pub(crate) fn failed(&mut self, now: Moment) {
        self.failed = self.failed.max(Some(now));
    }

    /// A load succeeded: the source is well, the next load need not wait.
    pub(crate) fn succeeded(&mut self) {
        self.failed = None;
    }

    /// Whether the next load may be tried. The pause is the reader's, whoever's load failed.
    pub(crate) fn allows(&self, now: Moment, pause: Duration) -> bool {
        self.next_try(pause).is_none_or(|moment| moment <= now)
    }

    /// When the next load may be tried; `None` if nothing failed since the last success.
    pub(crate) fn next_try(&self, pause: Duration) -> Option<Moment> {
        self.failed.map(|moment| moment.after(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_nanos(10);

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn failed_at(nanos: u64) -> Throttle {
        let mut throttle = Throttle::default();
        throttle.failed(at(nanos));
        throttle
    }

    #[test]
    fn without_a_failure_every_load_may_be_tried() {
        assert!(Throttle::default().allows(Moment::ORIGIN, Duration::MAX));
        assert_eq!(Throttle::default().next_try(PAUSE), None);
    }

    #[test]
    fn after_a_failure_the_pause_lasts_to_the_nanosecond() {
        for (now, allowed) in [(0, false), (100, false), (109, false), (110, true), (111, true)] {
            assert_eq!(failed_at(100).allows(at(now), PAUSE), allowed, "at {now}");
        }
        assert_eq!(failed_at(100).next_try(PAUSE), Some(at(110)));
    }

    #[test]
    fn a_failure_at_the_clocks_origin_counts() {
        assert!(!failed_at(0).allows(at(9), PAUSE));
        assert!(failed_at(0).allows(at(10), PAUSE));
    }

    #[test]
    fn a_success_ends_the_pause_and_the_next_failure_begins_another() {
        let mut throttle = failed_at(100);
        throttle.succeeded();
        assert_eq!(throttle, Throttle::default());
        assert!(throttle.allows(at(101), PAUSE));
        throttle.failed(at(102));
        assert!(!throttle.allows(at(111), PAUSE));
        assert!(throttle.allows(at(112), PAUSE));
    }

    #[test]
    fn the_latest_failure_counts_in_whatever_order_failures_are_told() {
        let mut throttle = failed_at(105);
        throttle.failed(at(100));
        assert_eq!(throttle.next_try(PAUSE), Some(at(115)));
        throttle.failed(at(107));
        assert_eq!(throttle.next_try(PAUSE), Some(at(117)));
    }

    #[test]
    fn each_reader_waits_for_its_own_pause() {
        assert!(failed_at(100).allows(at(100), Duration::ZERO));
        assert!(!failed_at(100).allows(at(u64::MAX - 1), Duration::MAX));
        assert_eq!(failed_at(100).next_try(Duration::MAX), Some(Moment::NEVER));
    }
}
