//! Lines of rows about costs: one for each contender.

use std::fmt::Write as _;

use super::{met, troubles};
use crate::rounds::{Bar, Measured, Role, RowResult};
use crate::unit::Unit;

pub(super) const COLUMNS: &str =
    "| row | contender | median | min – max | × baseline | × 0.6.5 | bar |\n|---|---|---:|---:|---:|---:|---|\n";

pub(super) fn lines(result: &RowResult, title: &str) -> String {
    let mut text = String::new();
    for (place, measured) in result.measured.iter().enumerate() {
        let title = if place == 0 { title } else { "" };
        let name =
            if measured.role == Role::Ours { format!("**{}**", measured.name) } else { measured.name.to_string() };
        let ends = [measured.values.first(), measured.values.last()];
        let spread = ends.map(|value| value.map_or_else(String::new, |value| result.unit.show(*value))).join(" – ");
        let ratio = Unit::Times.show(slowdown(measured.median(), result.measured[0].median(), result.unit));
        let old = against_established(measured, result);
        let median = result.unit.show(measured.median()) + &troubles(measured.hung, measured.failed);
        let bar = verdict(measured, result);
        let _ = writeln!(text, "| {title} | {name} | {median} | {spread} | {ratio} | {old} | {bar} |");
    }
    text
}

fn against_established(measured: &Measured, result: &RowResult) -> String {
    let old = established(result, measured.peer.as_deref());
    let old = old.map(|best| slowdown(measured.median(), best, result.unit));
    match (measured.role, old) {
        (Role::Ours, Some(old)) if old > 1.0 => format!("{} **slower**", Unit::Times.show(old)),
        (Role::Ours, Some(old)) => Unit::Times.show(old),
        _ => String::new(),
    }
}

/// The peer named, or the best of the established contenders.
fn established(result: &RowResult, peer: Option<&str>) -> Option<f64> {
    let established = result.measured.iter().filter(|measured| measured.role == Role::Established);
    let peers = established.filter(|measured| peer.is_none_or(|peer| peer == measured.name));
    let medians = peers.map(Measured::median).filter(|median| !median.is_nan());
    if result.unit.less_is_better() { medians.min_by(f64::total_cmp) } else { medians.max_by(f64::total_cmp) }
}

fn slowdown(value: f64, than: f64, unit: Unit) -> f64 {
    if unit.less_is_better() { value / than } else { than / value }
}

fn verdict(measured: &Measured, result: &RowResult) -> String {
    let median = measured.median();
    let of = |name: &str| {
        let found = result.measured.iter().find(|other| other.name == name);
        median / found.unwrap_or_else(|| panic!("no contender is named {name}")).median()
    };
    let met = |holds: bool| met(holds && measured.is_whole());
    match &measured.bar {
        None => String::new(),
        Some(Bar::AtMost(limit, name)) => format!("≤ {limit} × {name}: {:.2}, {}", of(name), met(of(name) <= *limit)),
        Some(Bar::AtLeast(limit, name)) => format!("≥ {limit} × {name}: {:.2}, {}", of(name), met(of(name) >= *limit)),
        Some(Bar::Within(limit)) => format!("≤ {}: {}", result.unit.show(*limit), met(median <= *limit)),
    }
}
