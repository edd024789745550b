//! What a user decides about the age of values: how long they are fresh, when they are refreshed, and how old they may
//! get when a load is slow or fails.

use std::time::Duration;

use super::tier_ttl::TierTtls;
use crate::clock::Moment;
use crate::defaults;
use crate::error::{CacheError, CacheResult};

/// The longest time that a [`Moment`] can lie ahead: 584 years.
const LONGEST: Duration = Duration::from_nanos(u64::MAX);

/// How old the values of a cache, or of one call, may be, and when they are loaded anew.
///
/// With a TTL alone a value is answered while it is fresh, then loaded again. Everything else is off until it is asked
/// for, but for the deadline of loads (30 s). The parts of a value's life, all of them switched on:
///
/// ```text
///  load       load     early                fresh
///  begins     ends     refresh              until                                              expires
///    |----------|---------|-------------------|-------------------------|------------------------|------> time
///    | loading  |  fresh  | fresh; refreshed  | stale while revalidated | stale if the load      | gone
///    |          |         | in the background | (answered, refreshed    | fails (loaded first)   |
///    |          |         |                   | in the background)      |                        |
///    |<---------- TTL, less jitter ---------->|<-------- window ------->|                        |
///    |                                        |<-------------------- window -------------------->|
/// ```
///
/// * The TTL counts from the *beginning* of the load, because what the source said may be as old as that: a fresh value
///   is never older than its TTL. (HTTP counts from the request for the same reason: RFC 9111, section 4.2.3.) A load
///   that takes longer than the TTL is answered to those who wait for it, and is not fresh for anybody later.
/// * Both windows count from the end of the fresh time; they overlap, they do not add up. A value is kept for its fresh
///   time and the longer window.
/// * Each moment is exact: a nanosecond before it, the earlier rule holds; at the moment itself, the later one.
/// * A value stored under other options keeps the fresh time and the end it was stored with; the reader's windows and
///   early refresh apply within them.
///
/// Durations have nanoseconds and may be centuries; what is 584 years or more ahead never comes.
///
/// ```
/// use std::time::Duration;
/// use multi_tier_cache::{EarlyRefresh, Freshness};
///
/// let minute = Duration::from_secs(60);
/// let freshness = Freshness::new(10 * minute)
///     .with_jitter(0.1)                                          // 9 to 10 minutes
///     .with_early_refresh(EarlyRefresh::XFetch { beta: 1.0 })
///     .with_stale_while_revalidate(minute)
///     .with_stale_if_error(60 * minute)
///     .with_load_deadlines(Some(Duration::from_millis(200)), Some(Duration::from_secs(5)));
/// assert!(freshness.check().is_ok());
/// assert!(freshness.with_jitter(f64::NAN).check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Freshness {
    pub(super) ttl: Duration,
    pub(super) jitter: f64,
    pub(super) early_refresh: EarlyRefresh,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) error_throttle: Duration,
    pub(super) negative_ttl: Option<Duration>,
    pub(super) soft_deadline: Option<Duration>,
    pub(super) hard_deadline: Option<Duration>,
    pub(super) refresh_from_below: Option<Duration>,
    pub(super) tier_ttls: TierTtls,
}

/// Whether a value that is still fresh is loaded anew in the background when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum EarlyRefresh {
    /// It is not.
    #[default]
    Never,
    /// By the first read after this fraction of the fresh time: above 0, below 1.
    ///
    /// ```text
    ///   |---------------- 0.8 ----------------|-- refreshed --|
    ///   made                                                  fresh until
    /// ```
    At(f64),
    /// By lot at every read, more likely the nearer the end and the longer the load took.
    ///
    /// A read with `left` to go refreshes with the probability `exp(-left / (cost * beta))`, where `cost` is how long
    /// the load took: readers that do not know of each other rarely refresh at the same time. A larger `beta` refreshes
    /// earlier; 1 is the choice of the paper, A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache
    /// Stampede Prevention", VLDB 2015.
    ///
    /// ```text
    ///   probability of one read, beta = 1:    0.7 %    5 %   14 %   37 %   100 %
    ///   |---------------------------------------|-------|------|------|------|
    ///   made                              5 costs       3      2      1      fresh until
    /// ```
    XFetch {
        /// How eagerly; finite and above 0.
        beta: f64,
    },
}

impl Default for Freshness {
    /// Fresh for 5 minutes, then gone.
    fn default() -> Self {
        Self::new(defaults::TTL)
    }
}

impl Freshness {
    /// Fresh for `ttl`, then gone.
    ///
    /// ```text
    ///   |------------- fresh -------------|  gone
    ///   load begins                     + ttl
    /// ```
    ///
    /// A TTL of zero needs a window of staleness: every value is stale at once.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            jitter: 0.0,
            early_refresh: EarlyRefresh::Never,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            error_throttle: defaults::ERROR_THROTTLE,
            negative_ttl: None,
            soft_deadline: None,
            hard_deadline: Some(defaults::LOAD_DEADLINE),
            refresh_from_below: None,
            tier_ttls: TierTtls::default(),
        }
    }

    /// The same rules with another TTL.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Shortens each fresh time by a random part of up to `fraction`, so that values loaded together do not end
    /// together. 0 to 1; 0 unless set. Never longer than asked; on average shorter by half the fraction.
    ///
    /// ```text
    ///   |------------- fresh -------------|<- fraction of the TTL ->|
    ///                                     ends anywhere in here   + ttl
    /// ```
    #[must_use]
    pub fn with_jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction;
        self
    }

    /// Refreshes values in the background before they end. Never unless set.
    #[must_use]
    pub fn with_early_refresh(mut self, rule: EarlyRefresh) -> Self {
        self.early_refresh = rule;
        self
    }

    /// For so long after the fresh time the old value is answered at once and refreshed in the background.
    /// Zero, which is off, unless set.
    ///
    /// ```text
    ///   |------------- fresh -------------|-- answered, refreshed in the background --|  gone
    ///   load begins                     + ttl                                     + window
    /// ```
    #[must_use]
    pub fn with_stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
        self
    }

    /// For so long after the fresh time the old value is answered if the load fails. Zero, which is off, unless set.
    ///
    /// ```text
    ///   |------------- fresh -------------|-- loaded; answered if that fails --|  gone
    ///   load begins                     + ttl                              + window
    /// ```
    #[must_use]
    pub fn with_stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// After a failed load of a key that has a value to be answered instead, no further load of it is tried for so
    /// long. 5 s unless set; zero tries every time. A key without such a value is loaded whenever it is asked for.
    ///
    /// ```text
    ///   load fails |------ the old value, no load ------| load
    ///                                                 + pause
    /// ```
    #[must_use]
    pub fn with_error_throttle(mut self, pause: Duration) -> Self {
        self.error_throttle = pause;
        self
    }

    /// Remembers for so long that the source has no value for a key. Off unless set.
    ///
    /// Jitter and early refresh apply as to a value, the windows of staleness do not.
    ///
    /// ```text
    ///   |-------- known to be absent --------|  loaded
    ///   load begins                        + ttl
    /// ```
    #[must_use]
    pub fn with_negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// How long a load may take: after `soft`, a caller is answered with the stale value, if a window allows one, while
    /// the load goes on in the background; after `hard` the load is given up. No soft one and 30 s unless set; without
    /// a hard one a load may take for ever.
    ///
    /// ```text
    ///   |-- callers wait --|-- those with a stale value have it; the others wait --|  given up
    ///   load begins      + soft                                                  + hard
    /// ```
    #[must_use]
    pub fn with_load_deadlines(mut self, soft: Option<Duration>, hard: Option<Duration>) -> Self {
        self.soft_deadline = soft;
        self.hard_deadline = hard;
        self
    }

    /// A copy inside the process that was read longer ago than this is read anew from the tier below, without a load.
    /// Off unless set.
    ///
    /// ```text
    ///   in process:  |------ answered ------|------ answered, read from below ------|
    ///                read                 + interval
    /// ```
    #[must_use]
    pub fn with_refresh_from_below(mut self, interval: Duration) -> Self {
        self.refresh_from_below = Some(interval);
        self
    }

    /// Keeps values in the tier of this level for `ttl`, in place of their life times the tier's scale. For at most 8
    /// levels ([`MAX_TIERS`](crate::defaults::MAX_TIERS)); the last call for a level counts.
    ///
    /// It does not make values fresh for longer: what a tier still has after the windows is not answered.
    ///
    /// ```text
    ///   tier 1:  |-- ttl of tier 1 --|  read from tier 2
    ///   tier 2:  |------------------ fresh ------------------|-- windows --|  gone
    /// ```
    #[must_use]
    pub fn with_tier_ttl(mut self, level: usize, ttl: Duration) -> Self {
        self.tier_ttls.set(level, ttl);
        self
    }

    /// Whether these rules can be followed. Every cache and call that takes them asks.
    ///
    /// # Errors
    /// `ConfigError` that names the method, its value and what would do: for a jitter or fraction out of range or not a
    /// number, a `beta` that is not finite and above 0, a TTL, deadline or interval of zero, a TTL and window of
    /// together more than 584 years, a soft deadline that is not before the hard one, TTLs for more than 8 tiers.
    pub fn check(&self) -> CacheResult<()> {
        self.check_fresh_time()?;
        self.check_windows()?;
        self.check_deadlines()?;
        self.tier_ttls.check()
    }

    fn check_fresh_time(&self) -> CacheResult<()> {
        if !(0.0..=1.0).contains(&self.jitter) {
            return refuse("with_jitter", &format!("the fraction is {}; use 0 (none) to 1", self.jitter));
        }
        match self.early_refresh {
            EarlyRefresh::At(at) if !(at > 0.0 && at < 1.0) => refuse(
                "with_early_refresh",
                &format!("At({at}) is not inside the fresh time; use a fraction above 0 and below 1, or Never"),
            ),
            EarlyRefresh::XFetch { beta } if !(beta.is_finite() && beta > 0.0) => refuse(
                "with_early_refresh",
                &format!("the beta of XFetch is {beta}; use a finite number above 0, usually 1, or Never"),
            ),
            _ => Ok(()),
        }
    }

    fn check_windows(&self) -> CacheResult<()> {
        let windows = [
            ("with_stale_while_revalidate", self.stale_while_revalidate),
            ("with_stale_if_error", self.stale_if_error),
        ];
        if self.ttl.is_zero() && windows.iter().all(|(_, window)| window.is_zero()) {
            return refuse("new", "a TTL of zero caches nothing; use one above zero, or add a stale window");
        }
        let too_long = |window: Duration| !window.is_zero() && self.ttl.saturating_add(window) > LONGEST;
        if let Some((verb, window)) = windows.into_iter().find(|(_, window)| too_long(*window)) {
            let ttl = self.ttl;
            return refuse(
                verb,
                &format!("the window of {window:?} after a TTL of {ttl:?} ends in over 584 years; shorten it"),
            );
        }
        if self.negative_ttl == Some(Duration::ZERO) {
            return refuse("with_negative_ttl", "a TTL of zero remembers nothing; leave it out");
        }
        if self.refresh_from_below == Some(Duration::ZERO) {
            let message = "an interval of zero would read the tier below at every hit; use one above zero";
            return refuse("with_refresh_from_below", message);
        }
        Ok(())
    }

    fn check_deadlines(&self) -> CacheResult<()> {
        let refuse = |complaint: &str| refuse("with_load_deadlines", complaint);
        match (self.soft_deadline, self.hard_deadline) {
            (_, Some(Duration::ZERO)) => {
                refuse("a hard deadline of zero gives up every load; use one above zero, or None")
            }
            (Some(Duration::ZERO), _) => {
                refuse("a soft deadline of zero waits for no load; use with_stale_while_revalidate, or one above zero")
            }
            (Some(soft), Some(hard)) if soft >= hard => {
                refuse(&format!("the soft deadline of {soft:?} is not before the hard one of {hard:?}; shorten it"))
            }
            _ => Ok(()),
        }
    }
}

/// What the engine asks of the options, besides `times` and `judge`.
impl Freshness {
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How long callers that have a stale value wait for a load.
    pub(crate) fn soft_patience(&self) -> Option<Duration> {
        self.soft_deadline
    }

    /// How long a load may take.
    pub(crate) fn load_patience(&self) -> Option<Duration> {
        self.hard_deadline
    }

    /// Whether a fresh value may be refreshed.
    pub(crate) fn has_early_refresh(&self) -> bool {
        self.early_refresh != EarlyRefresh::Never
    }

    /// Whether something may have to be done about a value that is still fresh.
    pub(crate) fn watches_age(&self) -> bool {
        self.has_early_refresh() || self.refresh_from_below.is_some()
    }

    /// The pause between loads of a key that fail.
    pub(crate) fn error_throttle(&self) -> Duration {
        self.error_throttle
    }

    /// Whether a copy in process that was read from below at `read` is to be read anew from there.
    pub(crate) fn rereads_below(&self, read: Moment, now: impl FnOnce() -> Moment) -> bool {
        self.refresh_from_below.is_some_and(|interval| read.after(interval) <= now())
    }

    /// How long the tier of this level keeps values, where its scale is not to decide.
    pub(crate) fn tier_ttl(&self, level: usize) -> Option<Duration> {
        self.tier_ttls.get(level)
    }
}

/// A complaint about what was given to the method of this name.
pub(super) fn refuse(verb: &str, complaint: &str) -> CacheResult<()> {
    Err(CacheError::ConfigError(format!("Freshness::{verb}: {complaint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NANO: Duration = Duration::from_nanos(1);
    /// After a TTL of a second.
    const LONGEST_WINDOW: Duration = LONGEST.saturating_sub(SECOND);

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn a_ttl_alone_switches_nothing_on() {
        let expected = Freshness {
            ttl: Duration::from_secs(300),
            jitter: 0.0,
            early_refresh: EarlyRefresh::Never,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            error_throttle: Duration::from_secs(5),
            negative_ttl: None,
            soft_deadline: None,
            hard_deadline: Some(Duration::from_secs(30)),
            refresh_from_below: None,
            tier_ttls: TierTtls::default(),
        };
        assert_eq!(Freshness::default(), expected);
        assert_eq!(Freshness::new(SECOND), Freshness { ttl: SECOND, ..expected });
        assert_eq!(Freshness::default().with_ttl(SECOND), Freshness::new(SECOND));
        assert_eq!(defaults::MAX_TIERS, 8);
    }

    #[test]
    fn usable_rules_are_accepted_up_to_their_limits() {
        let fresh = Freshness::new(SECOND);
        for freshness in [
            Freshness::default(),
            Freshness::new(NANO),
            Freshness::new(Duration::MAX),
            Freshness::new(Duration::ZERO).with_stale_while_revalidate(SECOND),
            Freshness::new(Duration::ZERO).with_stale_if_error(SECOND),
            fresh.with_jitter(0.0),
            fresh.with_jitter(-0.0),
            fresh.with_jitter(1.0),
            fresh.with_early_refresh(EarlyRefresh::At(f64::MIN_POSITIVE)),
            fresh.with_early_refresh(EarlyRefresh::At(1.0 - f64::EPSILON)),
            fresh.with_early_refresh(EarlyRefresh::XFetch { beta: f64::MIN_POSITIVE }),
            fresh.with_early_refresh(EarlyRefresh::XFetch { beta: f64::MAX }),
            fresh.with_stale_while_revalidate(LONGEST_WINDOW),
            fresh.with_stale_if_error(LONGEST_WINDOW),
            fresh.with_error_throttle(Duration::ZERO),
            fresh.with_error_throttle(Duration::MAX),
            fresh.with_negative_ttl(Duration::MAX),
            fresh.with_load_deadlines(None, None),
            fresh.with_load_deadlines(Some(Duration::MAX), None),
            fresh.with_load_deadlines(Some(SECOND), Some(SECOND + NANO)),
            fresh.with_refresh_from_below(NANO),
            fresh.with_tier_ttl(1, NANO).with_tier_ttl(usize::MAX, Duration::MAX),
        ] {
            freshness.check().unwrap_or_else(|error| panic!("{error}: {freshness:?}"));
        }
    }

    #[test]
    fn bad_values_are_refused_by_the_name_of_the_method_that_took_them() {
        let fresh = Freshness::new(SECOND);
        let jitters = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -f64::MIN_POSITIVE, 1.0 + f64::EPSILON];
        let fractions = [f64::NAN, f64::INFINITY, -0.1, -0.0, 0.0, 1.0, 1.5];
        let betas = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -0.0, 0.0];
        let mut bad: Vec<(&str, Freshness)> = vec![
            ("new", Freshness::new(Duration::ZERO)),
            ("with_stale_while_revalidate", fresh.with_stale_while_revalidate(LONGEST_WINDOW + NANO)),
            ("with_stale_while_revalidate", fresh.with_stale_while_revalidate(Duration::MAX)),
            ("with_stale_if_error", fresh.with_stale_if_error(Duration::MAX)),
            ("with_stale_if_error", Freshness::new(Duration::MAX).with_stale_if_error(NANO)),
            ("with_negative_ttl", fresh.with_negative_ttl(Duration::ZERO)),
            ("with_load_deadlines", fresh.with_load_deadlines(None, Some(Duration::ZERO))),
            ("with_load_deadlines", fresh.with_load_deadlines(Some(Duration::ZERO), None)),
            ("with_load_deadlines", fresh.with_load_deadlines(Some(SECOND), Some(SECOND))),
            ("with_refresh_from_below", fresh.with_refresh_from_below(Duration::ZERO)),
            ("with_tier_ttl", fresh.with_tier_ttl(2, Duration::ZERO)),
            ("with_tier_ttl", (1..=9).fold(fresh, |fresh, level| fresh.with_tier_ttl(level, SECOND))),
        ];
        bad.extend(jitters.map(|fraction| ("with_jitter", fresh.with_jitter(fraction))));
        bad.extend(fractions.map(|at| ("with_early_refresh", fresh.with_early_refresh(EarlyRefresh::At(at)))));
        bad.extend(betas.map(|beta| ("with_early_refresh", fresh.with_early_refresh(EarlyRefresh::XFetch { beta }))));
        for (verb, freshness) in bad {
            let error = freshness.check().expect_err(verb);
            assert!(matches!(error, CacheError::ConfigError(_)), "{error:?}");
            let prefix = format!("Configuration error: Freshness::{verb}: ");
            assert!(error.to_string().starts_with(&prefix), "{error} for {freshness:?}");
        }
    }

    #[test]
    fn a_copy_is_read_anew_from_below_exactly_at_its_interval() {
        let freshness = Freshness::default().with_refresh_from_below(10 * NANO);
        for (now, expected) in [(0, false), (100, false), (109, false), (110, true), (111, true)] {
            assert_eq!(freshness.rereads_below(at(100), || at(now)), expected, "at {now}");
        }
        assert!(!Freshness::default().rereads_below(at(100), || Moment::NEVER));
        let never = Freshness::default().with_refresh_from_below(Duration::MAX);
        assert!(!never.rereads_below(at(100), || at(u64::MAX - 1)));
    }

    #[test]
    fn what_is_handed_on_is_told_as_set() {
        assert_eq!(Freshness::default().error_throttle(), Duration::from_secs(5));
        assert_eq!(Freshness::default().with_error_throttle(SECOND).error_throttle(), SECOND);
        let tiered = Freshness::default().with_tier_ttl(2, SECOND);
        assert_eq!([1, 2].map(|level| tiered.tier_ttl(level)), [None, Some(SECOND)]);
    }
}
