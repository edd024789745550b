//! The few shapes that the plots are made of.

use std::fmt::Write as _;

/// A drawing on a white sheet of its own, so that it reads the same on a dark page.
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

pub(super) const INK: &str = "#1f2328";
pub(super) const MUTED: &str = "#57606a";
pub(super) const GRID: &str = "#e2e6ea";

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let shape = format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" fill="{fill}"/>"#
        )
        .to_string();
        self.add(&shape);
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(&format!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{stroke}"/>"#));
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], stroke: &str, width: f64) {
        let mut places = String::new();
        for (x, y) in points {
            let _ = write!(places, "{x:.1},{y:.1} ");
        }
        let places = places.trim_end();
        self.add(&format!(
            r#"<polyline points="{places}" fill="none" stroke="{stroke}" stroke-width="{width}" stroke-linejoin="round"/>"#
        ));
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, fill: &str) {
        self.add(&format!(
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{fill}" stroke="#ffffff" stroke-width="0.8"/>"##
        ));
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, fill: &str, text: &str) {
        self.styled(&format!(r#"x="{x:.1}" y="{y:.1}" text-anchor="{}" fill="{fill}""#, anchor.name()), text);
    }

    pub(super) fn bold(&mut self, (x, y): (f64, f64), anchor: Anchor, fill: &str, text: &str) {
        let place = format!(r#"x="{x:.1}" y="{y:.1}" text-anchor="{}" fill="{fill}" font-weight="600""#, anchor.name());
        self.styled(&place, text);
    }

    /// Read from below, as the label of a vertical axis.
    pub(super) fn upright(&mut self, (x, y): (f64, f64), text: &str) {
        let place = format!(
            r#"x="{x:.1}" y="{y:.1}" text-anchor="middle" fill="{MUTED}" transform="rotate(-90 {x:.1} {y:.1})""#
        );
        self.styled(&place, text);
    }

    pub(super) fn finish(self, title: &str) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" font-family=\"system-ui, -apple-system, Segoe UI, Helvetica, Arial, \
             sans-serif\" font-size=\"12\">\n<title>{}</title>\n<rect width=\"{width:.0}\" height=\"{height:.0}\" \
             rx=\"6\" fill=\"#ffffff\"/>\n{body}</svg>\n",
            escaped(title)
        )
    }

    fn styled(&mut self, attributes: &str, text: &str) {
        self.add(&format!("<text {attributes}>{}</text>", escaped(text)));
    }

    fn add(&mut self, shape: &str) {
        self.body.push_str(shape);
        self.body.push('\n');
    }
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
