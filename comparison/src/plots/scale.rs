//! From values to places on the sheet.

/// Steps of a linear axis are these times a power of ten.
const STEPS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
const TICKS_MAX: f64 = 6.0;

#[derive(Clone, Copy)]
pub(super) struct Scale {
    kind: Kind,
    values: (f64, f64),
    places: (f64, f64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    Logarithmic,
}

impl Scale {
    /// From 0 to a round number that is not below `most`.
    pub(super) fn linear(most: f64, places: (f64, f64)) -> Self {
        let step = step(most);
        Self { kind: Kind::Linear, values: (0.0, (most / step).ceil().max(1.0) * step), places }
    }

    pub(super) fn logarithmic(values: (f64, f64), places: (f64, f64)) -> Self {
        Self { kind: Kind::Logarithmic, values, places }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let share = match self.kind {
            Kind::Linear => (value - low) / (high - low),
            Kind::Logarithmic => (value / low).ln() / (high / low).ln(),
        };
        self.places.0 + share * (self.places.1 - self.places.0)
    }

    /// Round values from end to end, of a linear scale.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let step = step(self.values.1);
        let mut ticks = vec![self.values.0];
        while let Some(next) = ticks.last().map(|last| last + step).filter(|next| *next < self.values.1 + step / 2.0) {
            ticks.push(next);
        }
        ticks
    }
}

fn step(most: f64) -> f64 {
    let most = if most > 0.0 { most } else { 1.0 };
    let power = 10_f64.powf((most / TICKS_MAX).log10().floor());
    let fits = |step: &f64| most / (step * power) <= TICKS_MAX;
    STEPS.into_iter().find(fits).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: &[f64], right: &[f64]) -> bool {
        left.len() == right.len() && left.iter().zip(right).all(|(left, right)| (left - right).abs() < 1e-9)
    }

    #[test]
    fn a_linear_axis_ends_at_a_round_number_above_its_values() {
        let scale = Scale::linear(386.0, (0.0, 100.0));
        assert!(near(&scale.ticks(), &[0.0, 100.0, 200.0, 300.0, 400.0]), "{:?}", scale.ticks());
        assert!((scale.place(200.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn an_axis_of_nothing_has_an_end() {
        assert!(Scale::linear(0.0, (0.0, 1.0)).ticks().len() > 1);
    }

    #[test]
    fn powers_are_equally_far_apart_on_a_logarithmic_axis() {
        let scale = Scale::logarithmic((1.0, 100.0), (0.0, 100.0));
        assert!((scale.place(10.0) - 50.0).abs() < 1e-9);
    }
}
