//! Keys as users ask for them: the n-th most popular one n times less often than the first.

use fastrand::Rng;

/// Draws ranks `0..n` with a probability proportional to `1 / (rank + 1)^exponent`.
pub(crate) struct Zipf {
    /// At `i`, the probability of a rank of at most `i`.
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(ranks: u32, exponent: f64) -> Self {
        let weights = (1..=ranks).map(|rank| f64::from(rank).powf(-exponent));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        let mut cumulative: Vec<f64> = sums.collect();
        let total = cumulative.last().copied().unwrap_or(1.0);
        cumulative.iter_mut().for_each(|sum| *sum /= total);
        Self { cumulative }
    }

    pub(crate) fn draw(&self, random: &mut Rng) -> u32 {
        let point = random.f64();
        let rank = self.cumulative.partition_point(|sum| *sum < point).min(self.cumulative.len().saturating_sub(1));
        u32::try_from(rank).unwrap_or(u32::MAX)
    }
}
