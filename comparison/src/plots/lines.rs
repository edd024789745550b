//! One line for each contender over what is varied, named at its right end.

use super::scale::Scale;
use super::svg::{Anchor, GRID, INK, MUTED, Svg};
use super::{colour, compact};
use crate::rounds::Role;

pub(super) struct Lines<'a> {
    pub(super) title: &'a str,
    pub(super) across: &'a str,
    /// How a place on the horizontal axis, which is logarithmic, is written.
    pub(super) place: fn(f64) -> String,
    pub(super) up: &'a str,
    pub(super) series: Vec<Series>,
}

pub(super) struct Series {
    pub(super) name: String,
    pub(super) role: Role,
    /// In order; what was not measured is not among them.
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 610.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 340.0;
/// Between names that would cover one another.
const NAME: f64 = 15.0;

impl Lines<'_> {
    pub(super) fn draw(&self) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        svg.bold((20.0, 26.0), Anchor::Start, INK, self.title);
        let (x, y) = self.axes(&mut svg);
        let mut names = Vec::new();
        // Ours last: on top of the others.
        let (ours, others): (Vec<_>, Vec<_>) = self.series.iter().partition(|series| series.role == Role::Ours);
        for series in others.into_iter().chain(ours) {
            let points: Vec<(f64, f64)> =
                series.points.iter().map(|(at, value)| (x.place(*at), y.place(*value))).collect();
            let colour = colour(&series.name, series.role);
            svg.path(&points, colour, if series.role == Role::Ours { 2.8 } else { 1.6 });
            for point in &points {
                svg.dot(*point, 3.2, colour);
            }
            names.extend(points.last().map(|(end, height)| (*height, *end, series)));
        }
        names.sort_by(|left, right| left.0.total_cmp(&right.0));
        write_names(&mut svg, &names);
        svg.finish(self.title)
    }

    fn axes(&self, svg: &mut Svg) -> (Scale, Scale) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let mut places: Vec<f64> = points().map(|(at, _)| *at).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let ends = (places.first().copied().unwrap_or(1.0), places.last().copied().unwrap_or(10.0));
        let x = Scale::logarithmic(ends, (LEFT, RIGHT));
        let y = Scale::linear(points().map(|(_, value)| *value).fold(0.0, f64::max), (BOTTOM, TOP));
        for tick in y.ticks() {
            let height = y.place(tick);
            svg.line((LEFT, height), (RIGHT, height), GRID);
            svg.text((LEFT - 8.0, height + 4.0), Anchor::End, MUTED, &compact(tick));
        }
        for place in places {
            svg.line((x.place(place), BOTTOM), (x.place(place), BOTTOM + 5.0), MUTED);
            svg.text((x.place(place), BOTTOM + 20.0), Anchor::Middle, MUTED, &(self.place)(place));
        }
        svg.line((LEFT, BOTTOM), (RIGHT, BOTTOM), MUTED);
        svg.text((f64::midpoint(LEFT, RIGHT), BOTTOM + 44.0), Anchor::Middle, MUTED, self.across);
        svg.upright((22.0, f64::midpoint(TOP, BOTTOM)), self.up);
        (x, y)
    }
}

/// Each beside the end of its line, or below the name above it.
fn write_names(svg: &mut Svg, names: &[(f64, f64, &Series)]) {
    let mut free = TOP;
    for (place, (height, _, series)) in names.iter().enumerate() {
        let rest = crate::unit::float(names.len() - place - 1) * NAME;
        let y = height.max(free).min(BOTTOM - rest);
        free = y + NAME;
        let write = if series.role == Role::Ours { Svg::bold } else { Svg::text };
        write(svg, (RIGHT + 10.0, y + 4.0), Anchor::Start, colour(&series.name, series.role), &series.name);
    }
}
