//! Times of many operations.

use std::time::Duration;

use serde_json::{Value, json};

use crate::units::duration;

/// How long each of a number of operations took.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What this share (in percent) of the operations did not exceed; zero if there were none.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        format!("p50 {}, p99 {}", duration(self.percentile(50)), duration(self.percentile(99)))
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "p50_us": micros(self.percentile(50)), "p99_us": micros(self.percentile(99)) })
    }
}

/// With one digit behind the point.
pub(crate) fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let latencies = Latencies::of((1..=200).rev().map(Duration::from_micros).collect());
        assert_eq!(latencies.percentile(50), Duration::from_micros(100));
        assert_eq!(latencies.percentile(99), Duration::from_micros(198));
        assert_eq!(Latencies::of(vec![Duration::from_secs(1)]).percentile(50), Duration::from_secs(1));
        assert_eq!(Latencies::default().percentile(99), Duration::ZERO);
    }
}
