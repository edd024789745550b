//! Lines of rows with a column for each contender: one line for each measure.

use std::fmt::Write as _;

use super::{met, troubles};
use crate::grid::{Bar, Measure, Observed, RowResult};
use crate::rounds::Role;
use crate::unit::{Unit, median};

pub(super) fn columns(result: &RowResult) -> String {
    let mut text = String::from("| row | measure |");
    for seen in &result.observed {
        let _ = if seen.role == Role::Ours {
            write!(text, " **{}** |", seen.name)
        } else {
            write!(text, " {} |", seen.name)
        };
    }
    let _ = writeln!(text, " bar |\n|---|---|{}---|", "---:|".repeat(result.observed.len()));
    text
}

pub(super) fn lines(result: &RowResult, title: &str) -> String {
    let mut text = String::new();
    for (place, measure) in result.measures.iter().enumerate() {
        let title = if place == 0 { title } else { "" };
        let cells: Vec<String> = result.observed.iter().map(|seen| cell(seen, place, measure.unit)).collect();
        let bar = verdict(result, measure, place).unwrap_or_default();
        let _ = writeln!(text, "| {title} | {} | {} | {bar} |", measure.name, cells.join(" | "));
    }
    text
}

fn cell(seen: &Observed, place: usize, unit: Unit) -> String {
    let values = &seen.values[place];
    let troubles = troubles(seen.hung, seen.failed);
    let (Some(low), Some(high)) = (values.first(), values.last()) else {
        return troubles.trim_start_matches(", ").to_owned();
    };
    let middle = unit.show(median(values));
    if values.len() == 1 {
        return middle + &troubles;
    }
    format!("{middle} ({} – {}){troubles}", unit.show(*low), unit.show(*high))
}

/// What the first column of this project says of the bar.
fn verdict(result: &RowResult, measure: &Measure, place: usize) -> Option<String> {
    let seen = result.observed.iter().find(|seen| seen.role == Role::Ours)?;
    let values = &seen.values[place];
    let strict = matches!(measure.unit, Unit::Share | Unit::Count);
    let met = |holds: bool| met(holds && seen.is_whole());
    let middle = median(values);
    let judged = |extreme: Option<&f64>| if strict { extreme.copied().unwrap_or(f64::NAN) } else { middle };
    Some(match measure.bar? {
        Bar::AtMost(limit) => {
            format!("≤ {}: {}", measure.unit.show(limit), met(judged(values.last()) <= limit))
        }
        Bar::AtLeast(limit) => {
            format!("≥ {}: {}", measure.unit.show(limit), met(judged(values.first()) >= limit))
        }
        Bar::NearBest(distance) => {
            let medians = result.observed.iter().map(|seen| seen.median(place)).filter(|value| !value.is_nan());
            let behind = medians.fold(f64::NEG_INFINITY, f64::max) - middle;
            format!("{:.2} points behind the best: {}", behind * 100.0, met(behind <= distance))
        }
    })
}
