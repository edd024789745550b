//! One line of dots for each measure, a dot for each contender.

use super::scale::Scale;
use super::svg::{Anchor, GRID, INK, MUTED, Svg};
use super::{colour, compact};
use crate::rounds::Role;

pub(super) struct Dots<'a> {
    pub(super) title: &'a str,
    pub(super) axis: &'a str,
    pub(super) contenders: Vec<(String, Role)>,
    /// A name, and a value for each contender.
    pub(super) lines: Vec<(String, Vec<f64>)>,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 340.0;
const RIGHT: f64 = 730.0;
const TOP: f64 = 72.0;
const LINE: f64 = 24.0;
const BOTTOM: f64 = 52.0;

impl Dots<'_> {
    pub(super) fn draw(&self) -> String {
        let height = TOP + crate::unit::float(self.lines.len()) * LINE + BOTTOM;
        let mut svg = Svg::new(WIDTH, height);
        svg.bold((20.0, 26.0), Anchor::Start, INK, self.title);
        self.legend(&mut svg);
        let values = self.lines.iter().flat_map(|(_, values)| values).copied();
        let scale = Scale::linear(values.filter(|value| value.is_finite()).fold(0.0, f64::max), (LEFT, RIGHT));
        for tick in scale.ticks() {
            let x = scale.place(tick);
            svg.line((x, TOP), (x, height - BOTTOM + 4.0), GRID);
            svg.text((x, height - BOTTOM + 18.0), Anchor::Middle, MUTED, &compact(tick));
        }
        svg.text((f64::midpoint(LEFT, RIGHT), height - 14.0), Anchor::Middle, MUTED, self.axis);
        let mut y = TOP + LINE / 2.0;
        for (name, values) in &self.lines {
            svg.text((LEFT - 10.0, y + 4.0), Anchor::End, INK, name);
            svg.line((LEFT, y), (RIGHT, y), GRID);
            let dots = || self.contenders.iter().zip(values).filter(|(_, value)| value.is_finite());
            // Ours first, so that it hides nobody.
            for ours in [true, false] {
                for ((contender, role), value) in dots().filter(|((_, role), _)| (*role == Role::Ours) == ours) {
                    svg.dot((scale.place(*value), y), radius(*role), colour(contender, *role));
                }
            }
            y += LINE;
        }
        svg.finish(self.title)
    }

    fn legend(&self, svg: &mut Svg) {
        let mut x = 26.0;
        for (name, role) in &self.contenders {
            svg.dot((x, 48.0), radius(*role), colour(name, *role));
            svg.text((x + 10.0, 52.0), Anchor::Start, INK, name);
            x += 36.0 + crate::unit::float(name.len()) * 7.0;
        }
    }
}

fn radius(role: Role) -> f64 {
    if role == Role::Ours { 7.0 } else { 3.5 }
}
