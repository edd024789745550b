//! Time inside one process: a monotonic clock in nanoseconds, cheap to read, replaceable in tests.
//!
//! Expiry is decided on the kernel's coarse clock (a few nanoseconds to read, up to one tick late) and, for a
//! deadline close to the present, confirmed on the precise one: an entry is never served past its deadline.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::defaults::AGE_SAMPLES;

/// How far the coarse clock may lag behind the precise one: four times the longest tick in use (10 ms).
const COARSE_SLACK: u64 = 40_000_000;

/// Slices of time for what is sampled are two to this power nanoseconds long: four milliseconds.
const SLICE_BITS: u32 = 22;

/// A moment of a [`Clock`], in nanoseconds since the clock's own origin. Never compared across processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Later than every other moment: the deadline of what does not expire.
    pub const NEVER: Self = Self(u64::MAX);
    /// Earlier than every other moment.
    pub const ORIGIN: Self = Self(0);

    /// This moment moved by `duration`; durations too long to represent (584 years) give [`Moment::NEVER`].
    #[must_use]
    #[inline]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// The moment `duration` earlier, but not before the beginning of the clock.
    pub(crate) fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero if it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Durations too long to represent are the longest one.
#[inline]
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER { f.write_str("never") } else { Duration::from_nanos(self.0).fmt(f) }
    }
}

/// The source of time for tiers and policies. Cheap to clone; clones of a manual clock share their time.
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    #[cfg_attr(not(any(test, feature = "test-util")), expect(dead_code, reason = "constructed by the test kit only"))]
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's monotonic clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn manual(time: Arc<AtomicU64>) -> Self {
        Self(Source::Manual(time))
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System => Moment(kernel::precise()),
            Source::Manual(time) => Moment(time.load(Ordering::Acquire)),
        }
    }

    /// Whether `deadline` has come. Exact, and a few nanoseconds cheap while the deadline is far.
    #[must_use]
    #[inline]
    pub fn has_passed(&self, deadline: Moment) -> bool {
        self.tick().has_passed(deadline)
    }

    /// One cheap reading, for several deadlines.
    #[inline]
    pub(crate) fn tick(&self) -> Tick<'_> {
        let near = match &self.0 {
            Source::System => kernel::coarse().saturating_add(COARSE_SLACK),
            Source::Manual(_) => u64::MAX,
        };
        Tick { clock: self, near: Moment(near) }
    }
}

/// A moment at which deadlines are compared with the present. Not to be kept: it is right for a few milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Tick<'a> {
    clock: &'a Clock,
    /// What is later than this has not come; about the rest the precise clock is asked.
    near: Moment,
}

impl Tick<'_> {
    /// Whether `deadline` has come. Exact.
    #[inline]
    pub(crate) fn has_passed(self, deadline: Moment) -> bool {
        deadline <= self.near && deadline <= self.clock.now()
    }

    /// Whether what is sampled is to be told now: in one slice of time of [`AGE_SAMPLES`](crate::defaults::AGE_SAMPLES),
    /// and always by a clock that is moved by hand. Slices, not every so many calls: a call has nothing to count.
    #[inline]
    pub(crate) fn is_sampled(self) -> bool {
        (self.near.0 >> SLICE_BITS) % AGE_SAMPLES == AGE_SAMPLES - 1
    }

    /// Which slice of time it is in; `None` by a clock that is moved by hand.
    pub(crate) fn slice(self) -> Option<u64> {
        matches!(self.clock.0, Source::System).then_some(self.near.0 >> SLICE_BITS)
    }

    /// The moment of this reading, a few milliseconds early at most.
    pub(crate) fn roughly(self) -> Moment {
        match &self.clock.0 {
            Source::System => Moment(self.near.0.saturating_sub(COARSE_SLACK)),
            Source::Manual(_) => self.clock.now(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock(system)",
            Source::Manual(_) => "Clock(manual)",
        })
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    #[inline]
    pub(super) fn precise() -> u64 {
        nanos(clock_gettime(ClockId::Monotonic))
    }

    #[inline]
    pub(super) fn coarse() -> u64 {
        nanos(clock_gettime(ClockId::MonotonicCoarse))
    }

    #[inline]
    fn nanos(time: Timespec) -> u64 {
        u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + u64::try_from(time.tv_nsec).unwrap_or(0)
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::sync::LazyLock;
    use std::time::Instant;

    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn precise() -> u64 {
        u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn coarse() -> u64 {
        precise()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_passed_exactly_when_it_is_reached() {
        let time = Arc::new(AtomicU64::new(100));
        let clock = Clock::manual(Arc::clone(&time));
        let deadline = clock.now().after(Duration::from_nanos(10));
        assert!(!clock.has_passed(deadline));
        time.store(109, Ordering::Release);
        assert!(!clock.has_passed(deadline));
        time.store(110, Ordering::Release);
        assert!(clock.has_passed(deadline));
    }

    #[test]
    fn the_system_clock_honours_deadlines_shorter_than_a_kernel_tick() {
        let clock = Clock::system();
        let deadline = clock.now().after(Duration::from_micros(50));
        while clock.now() < deadline {
            std::hint::spin_loop();
        }
        assert!(clock.has_passed(deadline));
        assert!(!clock.has_passed(clock.now().after(Duration::from_millis(500))));
    }

    #[test]
    fn centuries_do_not_overflow() {
        let clock = Clock::system();
        let century = Duration::from_secs(100 * 366 * 86_400);
        assert!(!clock.has_passed(clock.now().after(century)));
        assert_eq!(clock.now().after(Duration::MAX), Moment::NEVER);
        assert!(!clock.has_passed(Moment::NEVER));
    }
}
