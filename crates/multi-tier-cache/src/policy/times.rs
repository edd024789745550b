//! The moments of an entry's life, and what they mean to a reader at a given moment.

use std::time::Duration;

use super::freshness::{EarlyRefresh, Freshness};
use super::ttl::scaled;
use crate::clock::Moment;

/// The moments of a value's life, or of a remembered absence's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// When its load began: what it says was true then or later.
    pub(crate) made: Moment,
    /// The first moment at which it is not fresh.
    pub(crate) fresh_until: Moment,
    /// The first moment at which it is answered to nobody.
    pub(crate) expires: Moment,
    /// How long its load took.
    pub(crate) cost: Duration,
}

/// What a reader does with an entry. In the order of an entry's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Answer it.
    Fresh,
    /// Answer it and refresh it in the background: still fresh, but not for long.
    RefreshEarly,
    /// Answer it and refresh it in the background.
    Stale,
    /// Load first; answer it if that fails, or takes longer than the soft deadline.
    StaleIfError,
    /// It does not count.
    Expired,
}

impl Freshness {
    /// The life of a value whose load began at `made` and ended at `ended`; `draw` is uniform in 0..1.
    ///
    /// It counts from the beginning: the source may have said what it said at any moment of the load.
    pub(crate) fn times(&self, made: Moment, ended: Moment, draw: f64) -> Times {
        let window = self.stale_while_revalidate.max(self.stale_if_error);
        life(made, ended, self.jittered(self.ttl, draw), window)
    }

    /// The life of an absence that a load found, likewise; `None` if absence is not remembered.
    pub(crate) fn negative_times(&self, made: Moment, ended: Moment, draw: f64) -> Option<Times> {
        Some(life(made, ended, self.jittered(self.negative_ttl?, draw), Duration::ZERO))
    }

    /// What a reader with these options does at `now` with an entry of that life; `draw` is uniform in 0..1, another
    /// one at every read.
    ///
    /// The entry may have been stored under other options: its own fresh time and end stand.
    pub(crate) fn judge(&self, times: &Times, now: Moment, draw: f64) -> Verdict {
        let within = |window: Duration| now < times.fresh_until.after(window);
        if times.expires <= now {
            Verdict::Expired
        } else if within(Duration::ZERO) {
            if self.refreshes_early(times, now, draw) { Verdict::RefreshEarly } else { Verdict::Fresh }
        } else if within(self.stale_while_revalidate) {
            Verdict::Stale
        } else if within(self.stale_if_error) {
            Verdict::StaleIfError
        } else {
            Verdict::Expired
        }
    }

    fn refreshes_early(&self, times: &Times, now: Moment, draw: f64) -> bool {
        if times.fresh_until == Moment::NEVER {
            return false;
        }
        match self.early_refresh {
            EarlyRefresh::Never => false,
            EarlyRefresh::At(fraction) => {
                times.made.after(scaled(times.fresh_until.since(times.made), fraction)) <= now
            }
            EarlyRefresh::XFetch { beta } => times.fresh_until <= now.after(head_start(times.cost, beta, draw)),
        }
    }

    fn jittered(&self, ttl: Duration, draw: f64) -> Duration {
        let part = self.jitter * draw;
        // A fraction or draw that is not a number takes nothing away.
        if part > 0.0 { ttl.saturating_sub(scaled(ttl, part)) } else { ttl }
    }
}

fn life(made: Moment, ended: Moment, fresh_time: Duration, window: Duration) -> Times {
    let fresh_until = made.after(fresh_time);
    Times { made, fresh_until, expires: fresh_until.after(window), cost: ended.since(made) }
}

/// How long before the end this draw refreshes: `-cost * beta * ln(draw)`, the rule of `XFetch`. Exponentially
/// distributed with the mean `cost * beta`.
fn head_start(cost: Duration, beta: f64, draw: f64) -> Duration {
    let seconds = -cost.as_secs_f64() * beta * draw.ln();
    // Not a number if the load cost nothing and the draw is zero: nothing to save by a head start.
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NANO: Duration = Duration::from_nanos(1);
    const SECOND: Duration = Duration::from_secs(1);
    /// The draw of a read that has no head start.
    const LAST: f64 = 1.0;
    /// The draw that shortens nothing.
    const NONE: f64 = 0.0;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn ns(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    /// Made at 1,000, at a cost of 10, fresh until 2,000, kept until 2,500.
    fn usual() -> Times {
        Times { made: at(1_000), fresh_until: at(2_000), expires: at(2_500), cost: ns(10) }
    }

    /// The verdicts of a reader one nanosecond before, at and after each boundary.
    fn judged(freshness: &Freshness, times: &Times, boundary: u64) -> [Verdict; 3] {
        [boundary - 1, boundary, boundary + 1].map(|now| freshness.judge(times, at(now), LAST))
    }

    #[test]
    fn a_life_counts_from_the_beginning_of_the_load() {
        let times = Freshness::new(ns(1_000)).times(at(1_000), at(1_010), NONE);
        assert_eq!(times, Times { expires: at(2_000), ..usual() });
    }

    #[test]
    fn a_value_is_kept_for_its_fresh_time_and_the_longer_window() {
        let fresh = Freshness::new(ns(1_000));
        for (revalidate, error, expires) in [(0, 0, 2_000), (500, 0, 2_500), (0, 500, 2_500), (300, 500, 2_500)] {
            let freshness = fresh.with_stale_while_revalidate(ns(revalidate)).with_stale_if_error(ns(error));
            let times = freshness.times(at(1_000), at(1_010), NONE);
            assert_eq!(times, Times { expires: at(expires), ..usual() }, "{revalidate} {error}");
            let swapped = fresh.with_stale_while_revalidate(ns(error)).with_stale_if_error(ns(revalidate));
            assert_eq!(swapped.times(at(1_000), at(1_010), NONE), times);
        }
    }

    #[test]
    fn a_load_longer_than_the_ttl_is_not_fresh_when_it_ends() {
        let freshness = Freshness::new(ns(1_000)).with_stale_while_revalidate(ns(500));
        let times = freshness.times(at(1_000), at(2_000), NONE);
        assert_eq!(freshness.judge(&times, at(2_000), LAST), Verdict::Stale);
    }

    #[test]
    fn each_verdict_ends_at_its_deadline_to_the_nanosecond() {
        use Verdict::{Expired, Fresh, RefreshEarly, Stale, StaleIfError};
        let fresh = Freshness::new(ns(1_000));
        let revalidating = fresh.with_stale_while_revalidate(ns(200));
        let erring = fresh.with_stale_if_error(ns(500));
        let both = revalidating.with_stale_if_error(ns(500));
        let covered = fresh.with_stale_while_revalidate(ns(500)).with_stale_if_error(ns(200));
        let early = both.with_early_refresh(EarlyRefresh::At(0.8));
        for (freshness, boundary, before, from_then_on) in [
            (fresh, 1_000, Fresh, Fresh),
            (fresh, 2_000, Fresh, Expired),
            (revalidating, 2_000, Fresh, Stale),
            (revalidating, 2_200, Stale, Expired),
            (erring, 2_000, Fresh, StaleIfError),
            (erring, 2_500, StaleIfError, Expired),
            (both, 2_000, Fresh, Stale),
            (both, 2_200, Stale, StaleIfError),
            (both, 2_500, StaleIfError, Expired),
            (covered, 2_200, Stale, Stale),
            (covered, 2_500, Stale, Expired),
            (early, 1_800, Fresh, RefreshEarly),
            (early, 2_000, RefreshEarly, Stale),
        ] {
            let times = freshness.times(at(1_000), at(1_010), NONE);
            let verdicts = judged(&freshness, &times, boundary);
            assert_eq!(verdicts, [before, from_then_on, from_then_on], "at {boundary} under {freshness:?}");
        }
    }

    #[test]
    fn the_readers_windows_decide_within_the_entrys_end() {
        use Verdict::{Expired, Fresh, Stale, StaleIfError};
        let none = Freshness::new(ns(1));
        let wide = none.with_stale_while_revalidate(ns(9_000));
        let wide_for_errors = none.with_stale_if_error(ns(9_000));
        for (freshness, boundary, before, from_then_on) in [
            (none, 2_000, Fresh, Expired),
            (none.with_stale_while_revalidate(ns(100)), 2_100, Stale, Expired),
            (wide, 2_000, Fresh, Stale),
            (wide, 2_500, Stale, Expired),
            (wide_for_errors, 2_000, Fresh, StaleIfError),
            (wide_for_errors, 2_500, StaleIfError, Expired),
        ] {
            let verdicts = judged(&freshness, &usual(), boundary);
            assert_eq!(verdicts, [before, from_then_on, from_then_on], "at {boundary} under {freshness:?}");
        }
        let ended_while_fresh = Times { expires: at(1_500), ..usual() };
        assert_eq!(judged(&wide, &ended_while_fresh, 1_500), [Fresh, Expired, Expired]);
    }

    #[test]
    fn absence_is_remembered_for_its_own_ttl_and_is_never_stale() {
        let freshness = Freshness::new(SECOND).with_stale_while_revalidate(SECOND).with_stale_if_error(SECOND);
        assert_eq!(freshness.negative_times(at(1_000), at(1_010), NONE), None);
        let freshness = freshness.with_negative_ttl(ns(1_000));
        let times = freshness.negative_times(at(1_000), at(1_010), NONE).expect("remembered");
        assert_eq!(times, Times { expires: at(2_000), ..usual() });
        let verdicts = judged(&freshness, &times, 2_000);
        assert_eq!(verdicts, [Verdict::Fresh, Verdict::Expired, Verdict::Expired]);
        let halved = freshness.with_jitter(1.0).negative_times(at(1_000), at(1_010), 0.5).expect("remembered");
        assert_eq!(halved.fresh_until, at(1_500));
    }

    #[test]
    fn jitter_shortens_by_at_most_its_fraction() {
        let freshness = Freshness::new(ns(1_000)).with_jitter(0.25).with_stale_if_error(ns(500));
        for (draw, fresh_until) in [(0.0, 2_000), (0.5, 1_875), (1.0, 1_750)] {
            let times = freshness.times(at(1_000), at(1_010), draw);
            assert_eq!(times.fresh_until, at(fresh_until), "draw {draw}");
            assert_eq!(times.expires.since(times.fresh_until), ns(500), "draw {draw}");
        }
        assert_eq!(freshness.with_jitter(1.0).times(at(1_000), at(1_010), 1.0).fresh_until, at(1_000));
    }

    #[test]
    fn jitter_is_uniform() {
        let freshness = Freshness::new(SECOND).with_jitter(0.2);
        let mut random = fastrand::Rng::with_seed(0x5eed);
        let mut drawn = || freshness.times(at(0), at(0), random.f64()).fresh_until.since(at(0)).as_secs_f64();
        let ttls: Vec<f64> = (0..100_000).map(|_| drawn()).collect();
        assert!(ttls.iter().all(|ttl| (0.8..=1.0).contains(ttl)));
        // The deviation of the mean of 100,000 draws from 0.2 seconds is 0.2 / sqrt(12 * 100,000) = 0.00018.
        let mean = ttls.iter().sum::<f64>() / 100_000.0;
        assert!((mean - 0.9).abs() < 0.001, "{mean}");
        for quarter in 0..4_u32 {
            let from = 0.8 + 0.05 * f64::from(quarter);
            let inside = ttls.iter().filter(|ttl| (from..from + 0.05).contains(*ttl)).count();
            assert!((24_000..26_000).contains(&inside), "{inside} of 100,000 in the quarter from {from}");
        }
    }

    #[test]
    fn an_early_fraction_is_one_of_the_time_the_entry_was_given() {
        let freshness = Freshness::new(SECOND).with_early_refresh(EarlyRefresh::At(0.5));
        let shortened = Times { fresh_until: at(1_200), ..usual() };
        for (times, boundary) in [(usual(), 1_500), (shortened, 1_100)] {
            let verdicts = judged(&freshness, &times, boundary);
            assert_eq!(verdicts, [Verdict::Fresh, Verdict::RefreshEarly, Verdict::RefreshEarly]);
        }
    }

    /// A second of cost and an hour of freshness; the moments of the paper's rule.
    fn costly() -> Times {
        let made = at(1_000_000_000);
        let fresh_until = made.after(3_600 * SECOND);
        Times { made, fresh_until, expires: fresh_until, cost: SECOND }
    }

    /// The moment at which an entry has so long to go.
    fn left(times: &Times, left: Duration) -> Moment {
        Moment::ORIGIN.after(times.fresh_until.since(Moment::ORIGIN.after(left)))
    }

    #[test]
    fn xfetch_refreshes_exactly_below_the_published_probability() {
        // For a single draw, P(refresh with `left` to go) = exp(-left / (cost * beta)): the draw itself is the bound.
        for beta in [0.5, 1.0, 4.0] {
            let freshness = Freshness::default().with_early_refresh(EarlyRefresh::XFetch { beta });
            for millis in [1_u32, 10, 500, 1_000, 2_000, 5_000, 10_000] {
                let now = left(&costly(), Duration::from_millis(millis.into()));
                let bound = (-f64::from(millis) / 1_000.0 / beta).exp();
                let verdict = |draw| freshness.judge(&costly(), now, draw);
                assert_eq!(verdict(bound * (1.0 - 1e-7)), Verdict::RefreshEarly, "{millis} ms to go, beta {beta}");
                assert_eq!(verdict(bound * (1.0 + 1e-7)), Verdict::Fresh, "{millis} ms to go, beta {beta}");
            }
        }
    }

    #[test]
    fn xfetch_is_inclusive_at_its_moment() {
        // -1 s * 1 * ln(1/2) = 693,147,181 ns before the end.
        let freshness = Freshness::default().with_early_refresh(EarlyRefresh::XFetch { beta: 1.0 });
        let verdict = |nanos| freshness.judge(&costly(), left(&costly(), ns(nanos)), 0.5);
        let around = [693_147_182, 693_147_181, 693_147_180].map(verdict);
        assert_eq!(around, [Verdict::Fresh, Verdict::RefreshEarly, Verdict::RefreshEarly]);
    }

    #[test]
    fn xfetch_draws_follow_the_published_distribution() {
        let mut random = fastrand::Rng::with_seed(0x5eed);
        for beta in [1.0, 2.0] {
            let freshness = Freshness::default().with_early_refresh(EarlyRefresh::XFetch { beta });
            for millis in [100_u32, 700, 1_000, 2_000, 4_000] {
                let now = left(&costly(), Duration::from_millis(millis.into()));
                let drawn = (0..100_000).map(|_| freshness.judge(&costly(), now, random.f64()));
                let early = drawn.map(|verdict| f64::from(u8::from(verdict == Verdict::RefreshEarly)));
                let share = early.sum::<f64>() / 100_000.0;
                let expected = (-f64::from(millis) / 1_000.0 / beta).exp();
                // At most 0.0016 is the deviation of 100,000 draws; five of them are allowed.
                assert!((share - expected).abs() < 0.008, "{share} of {expected}, {millis} ms to go, beta {beta}");
            }
        }
    }

    #[test]
    fn xfetch_has_no_head_start_without_cost_nor_with_the_last_draw() {
        let freshness = Freshness::default().with_early_refresh(EarlyRefresh::XFetch { beta: 1.0 });
        let free = Times { cost: Duration::ZERO, ..costly() };
        for (times, draw, expected) in [
            (free, 0.0, Verdict::Fresh),
            (free, 0.5, Verdict::Fresh),
            (costly(), 1.0, Verdict::Fresh),
            (costly(), f64::NAN, Verdict::Fresh),
            (costly(), 0.0, Verdict::RefreshEarly),
        ] {
            assert_eq!(freshness.judge(&times, left(&times, NANO), draw), expected, "draw {draw}");
        }
    }

    #[test]
    fn what_never_ends_is_fresh_for_ever() {
        let rules = [EarlyRefresh::Never, EarlyRefresh::At(0.5), EarlyRefresh::XFetch { beta: f64::MAX }];
        for (ttl, rule) in [Duration::MAX, ns(u64::MAX)].into_iter().flat_map(|ttl| rules.map(|rule| (ttl, rule))) {
            let freshness = Freshness::new(ttl).with_early_refresh(rule);
            let times = freshness.times(at(1), at(10), NONE);
            assert_eq!((times.fresh_until, times.expires), (Moment::NEVER, Moment::NEVER));
            assert_eq!(freshness.judge(&times, at(u64::MAX - 1), 0.0), Verdict::Fresh);
        }
    }

    #[test]
    fn windows_and_jitter_of_the_longest_times_saturate() {
        let freshness = Freshness::new(Duration::MAX)
            .with_stale_while_revalidate(Duration::MAX)
            .with_stale_if_error(Duration::MAX)
            .with_jitter(1.0);
        assert_eq!(freshness.times(Moment::NEVER, Moment::NEVER, 0.5).expires, Moment::NEVER);
        let shortest = freshness.times(at(7), at(8), 1.0);
        assert_eq!((shortest.fresh_until, shortest.expires), (at(7), Moment::NEVER));
        assert_eq!(freshness.judge(&shortest, at(u64::MAX - 1), LAST), Verdict::Stale);
        assert_eq!(Freshness::new(SECOND).times(at(10), at(3), NONE).cost, Duration::ZERO);
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            (0..10_000_u64).prop_map(ns),
            any::<u64>().prop_map(ns),
            (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        ]
    }

    fn any_float() -> impl Strategy<Value = f64> {
        prop_oneof![0.0..1.0_f64, any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(0.0), Just(1.0)]
    }

    fn any_freshness() -> impl Strategy<Value = Freshness> {
        let early = prop_oneof![
            Just(EarlyRefresh::Never),
            any_float().prop_map(EarlyRefresh::At),
            any_float().prop_map(|beta| EarlyRefresh::XFetch { beta }),
        ];
        let durations = (any_duration(), any_duration(), any_duration());
        (durations, any_float(), early).prop_map(|((ttl, revalidate, error), jitter, early)| {
            let windows = Freshness::new(ttl).with_stale_while_revalidate(revalidate).with_stale_if_error(error);
            windows.with_jitter(jitter).with_early_refresh(early).with_negative_ttl(ttl)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_options_a_life_goes_one_way(
            stored in any_freshness(),
            reader in any_freshness(),
            (made, took) in (any::<u64>(), any_duration()),
            mut moments in proptest::collection::vec(any::<u64>(), 1..20),
            draw in any_float(),
        ) {
            let made = at(made);
            let times = stored.times(made, made.after(took), draw);
            prop_assert!(times.fresh_until <= made.after(stored.ttl));
            prop_assert!(made <= times.fresh_until && times.fresh_until <= times.expires);
            let negative = stored.negative_times(made, made.after(took), draw).expect("a negative TTL is set");
            prop_assert_eq!(negative.expires, negative.fresh_until);
            moments.extend([made, times.fresh_until, times.expires].map(Moment::as_nanos));
            moments.sort_unstable();
            let verdicts: Vec<Verdict> = moments.iter().map(|now| reader.judge(&times, at(*now), draw)).collect();
            prop_assert!(verdicts.is_sorted(), "{:?} at {:?}", verdicts, moments);
            for (now, verdict) in moments.iter().map(|now| at(*now)).zip(verdicts) {
                prop_assert_eq!(verdict <= Verdict::RefreshEarly, now < times.fresh_until && now < times.expires);
                prop_assert!(verdict == Verdict::Expired || now < times.expires);
            }
        }
    }
}
