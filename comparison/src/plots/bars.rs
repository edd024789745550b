//! One bar for each contender, with its value at the end.

use super::colour;
use super::scale::Scale;
use super::svg::{Anchor, GRID, INK, MUTED, Svg};
use crate::rounds::Role;

pub(super) struct Bars<'a> {
    pub(super) title: &'a str,
    /// What the axis measures, with its unit.
    pub(super) axis: &'a str,
    pub(super) groups: Vec<Group>,
}

/// Bars that belong together, under a heading if it has one.
pub(super) struct Group {
    pub(super) heading: String,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) name: String,
    pub(super) role: Role,
    /// In the unit of the axis.
    pub(super) value: f64,
    pub(super) shown: String,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 660.0;
const TOP: f64 = 46.0;
const BAR: f64 = 22.0;
const HEADING: f64 = 26.0;
const BOTTOM: f64 = 52.0;

impl Bars<'_> {
    pub(super) fn draw(&self) -> String {
        let bars: f64 = self.groups.iter().map(Group::height).sum();
        let height = TOP + bars + BOTTOM;
        let mut svg = Svg::new(WIDTH, height);
        svg.bold((20.0, 26.0), Anchor::Start, INK, self.title);
        let values = self.groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value);
        let scale = Scale::linear(values.filter(|value| value.is_finite()).fold(0.0, f64::max), (LEFT, RIGHT));
        for tick in scale.ticks() {
            let x = scale.place(tick);
            svg.line((x, TOP), (x, height - BOTTOM + 4.0), GRID);
            svg.text((x, height - BOTTOM + 18.0), Anchor::Middle, MUTED, &super::compact(tick));
        }
        svg.text((f64::midpoint(LEFT, RIGHT), height - 14.0), Anchor::Middle, MUTED, self.axis);
        let mut y = TOP;
        for group in &self.groups {
            group.draw(&mut svg, &scale, y);
            y += group.height();
        }
        svg.finish(self.title)
    }
}

impl Group {
    fn height(&self) -> f64 {
        crate::unit::float(self.bars.len()) * BAR + self.heading_height()
    }

    fn heading_height(&self) -> f64 {
        if self.heading.is_empty() { 0.0 } else { HEADING }
    }

    fn draw(&self, svg: &mut Svg, scale: &Scale, top: f64) {
        svg.bold((20.0, top + 17.0), Anchor::Start, MUTED, &self.heading);
        let mut y = top + self.heading_height();
        for bar in &self.bars {
            let end = if bar.value.is_finite() { scale.place(bar.value) } else { LEFT };
            svg.rect((LEFT, y + 3.0), (end - LEFT, BAR - 6.0), colour(&bar.name, bar.role));
            let write = if bar.role == Role::Ours { Svg::bold } else { Svg::text };
            write(svg, (LEFT - 8.0, y + 15.0), Anchor::End, INK, &bar.name);
            write(svg, (end + 6.0, y + 15.0), Anchor::Start, INK, &bar.shown);
            y += BAR;
        }
    }
}
