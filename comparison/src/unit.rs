//! What is measured in, and how a number of it is written.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    PerSecond,
    Bytes,
    Count,
    /// From 0 to 1.
    Share,
    /// How many times something else.
    Times,
}

impl Unit {
    pub(crate) fn less_is_better(self) -> bool {
        self != Self::PerSecond
    }

    /// `value` as one reads it. What is not a number was not measured.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "–".into(),
            Self::Nanoseconds if value < 100.0 => format!("{value:.1} ns"),
            Self::Nanoseconds => format!("{value:.0} ns"),
            Self::Microseconds => format!("{value:.1} µs"),
            Self::Milliseconds if value < 10.0 => format!("{value:.2} ms"),
            Self::Milliseconds if value < 100.0 => format!("{value:.1} ms"),
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::PerSecond if value < 1e5 => format!("{:.1} k/s", value / 1e3),
            Self::PerSecond if value < 1e7 => format!("{:.0} k/s", value / 1e3),
            Self::PerSecond => format!("{:.1} M/s", value / 1e6),
            Self::Bytes => format!("{value:.0} B"),
            Self::Count => format!("{value:.0}"),
            Self::Share if value == 0.0 => "0".into(),
            Self::Share if value < 0.1 => format!("{:.3} %", value * 100.0),
            Self::Share => format!("{:.2} %", value * 100.0),
            Self::Times => format!("{value:.2}"),
        }
    }
}

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

/// Of sorted values; of none, not a number.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_the_digits_that_count() {
        assert_eq!(Unit::Nanoseconds.show(37.64), "37.6 ns");
        assert_eq!(Unit::PerSecond.show(12_345_678.0), "12.3 M/s");
        assert_eq!(Unit::Share.show(0.0), "0");
        assert_eq!(Unit::Share.show(0.4512), "45.12 %");
        assert_eq!(Unit::Milliseconds.show(f64::NAN), "–");
    }

    #[test]
    fn the_median_of_nothing_is_not_a_number() {
        assert!(median(&[]).is_nan());
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < f64::EPSILON);
    }
}
