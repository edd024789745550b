//! Drawings of the results that are kept.

mod bars;
mod dots;
mod lines;
mod scale;
mod svg;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::grid::{Observed, RowResult};
use crate::results::{Results, Section};
use crate::rounds::Role;
use crate::unit::Unit;
use bars::{Bar, Bars, Group};
use dots::Dots;
use lines::{Lines, Series};

pub(crate) struct Plot {
    pub(crate) section: Section,
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    svg: String,
}

/// Those for which there are results.
pub(crate) fn draw(results: &Results) -> Vec<Plot> {
    let drawings = [
        l1_hit(results),
        hit_ratio(results),
        by_entries(results, "l1-by-entries.svg", "L1 hit by number of entries", Unit::Nanoseconds),
        by_entries(results, "memory-by-entries.svg", "Memory of an entry by number of entries", Unit::Bytes),
        by_threads(results),
        in_flight(results),
        value_sizes(results),
        stale_reads(results),
    ];
    drawings.into_iter().flatten().collect()
}

pub(crate) fn save(plots: &[Plot], directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for plot in plots {
        let path = directory.join(plot.file);
        fs::write(&path, &plot.svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn l1_hit(results: &Results) -> Option<Plot> {
    let result = results.costs("l1-bytes")?;
    let title = "A hit in L1: 100 bytes, 1,000 resident keys";
    let bar = |measured: &crate::rounds::Measured| {
        let value = measured.median();
        Bar { name: shown(&measured.name), role: measured.role, value, shown: result.unit.show(value) }
    };
    let bars = result.measured.iter().map(bar).collect();
    let groups = vec![Group { heading: String::new(), bars }];
    let svg = Bars { title, axis: "nanoseconds for each hit, less is better", groups }.draw();
    Some(Plot { section: Section::Costs, file: "l1-hit.svg", title, svg })
}

fn hit_ratio(results: &Results) -> Option<Plot> {
    let result = results.grid("hit-ratio")?;
    let title = "Hit ratio of an L1 of 1 % or 10 % of the keys";
    let lines = result.measures.iter().enumerate().map(|(place, measure)| {
        let values = result.observed.iter().map(|seen| seen.median(place) * 100.0).collect();
        (measure.name.replace("a twentieth of the keys", "5 %").replace("half of the reads of keys", "half"), values)
    });
    let contenders = result.observed.iter().map(|seen| (shown(&seen.name), seen.role)).collect();
    let axis = "hits, percent of the reads, more is better";
    let svg = Dots { title, axis, contenders, lines: lines.collect() }.draw();
    Some(Plot { section: Section::HitRatio, file: "hit-ratio.svg", title, svg })
}

fn by_entries(results: &Results, file: &'static str, title: &'static str, unit: Unit) -> Option<Plot> {
    let result = results.grid("growth-entries")?;
    let up = if unit == Unit::Bytes { "bytes for each entry" } else { "nanoseconds for each hit" };
    let measures = places(result, |measure| measure.unit == unit);
    let series = series(result, &measures, 1.0);
    let svg = Lines { title, across: "entries (keys of 22 bytes, values of 100)", place: compact, up, series }.draw();
    Some(Plot { section: Section::Growth, file, title, svg })
}

fn by_threads(results: &Results) -> Option<Plot> {
    let result = results.grid("growth-threads")?;
    let title = "L1 hits by threads, all on one key";
    let series = series(result, &places(result, |measure| measure.name.starts_with("one key")), 1e6);
    let svg = Lines { title, across: "threads", place: compact, up: "million hits in a second", series }.draw();
    Some(Plot { section: Section::Growth, file: "l1-by-threads.svg", title, svg })
}

fn in_flight(results: &Results) -> Option<Plot> {
    let result = results.grid("growth-in-flight")?;
    let title = "L2 hits from Redis by reads in flight, 1 KiB";
    let series = series(result, &places(result, |_| true), 1e3);
    let svg =
        Lines { title, across: "reads in flight", place: compact, up: "thousand reads in a second", series }.draw();
    Some(Plot { section: Section::Growth, file: "l2-in-flight.svg", title, svg })
}

fn value_sizes(results: &Results) -> Option<Plot> {
    let result = results.grid("growth-value-sizes")?;
    let title = "L2 hits from Redis by size of the value, 16 in flight";
    let series = series(result, &places(result, |_| true), 1e3);
    let svg =
        Lines { title, across: "bytes of a value", place: binary, up: "thousand reads in a second", series }.draw();
    Some(Plot { section: Section::Growth, file: "l2-by-size.svg", title, svg })
}

/// The first measure of both rows: reads older than 100 ms after an invalidation.
fn stale_reads(results: &Results) -> Option<Plot> {
    let title = "Reads older than 100 ms after an invalidation: 3 instances, 50 hot keys";
    let rows = [("stale-reads", "undisturbed"), ("stale-reads-killed", "every subscription killed twice a second")];
    let group = |(id, heading): (&str, &str)| {
        let bar = |seen: &Observed| {
            let value = seen.median(0);
            let (name, shown) = (shown(&seen.name), Unit::Share.show(value));
            Bar { name, role: seen.role, value: value * 100.0, shown }
        };
        let bars = results.grid(id)?.observed.iter().map(bar).collect();
        Some(Group { heading: heading.into(), bars })
    };
    let groups: Vec<Group> = rows.into_iter().filter_map(group).collect();
    if groups.is_empty() {
        return None;
    }
    let svg = Bars { title, axis: "stale, percent of the reads", groups }.draw();
    Some(Plot { section: Section::Coherence, file: "stale-reads.svg", title, svg })
}

/// Of the measures chosen, with where each belongs on the axis.
fn places(result: &RowResult, chosen: impl Fn(&crate::grid::Measure) -> bool) -> Vec<(usize, f64)> {
    let measures = result.measures.iter().enumerate().filter(|(_, measure)| chosen(measure));
    measures.filter_map(|(place, measure)| Some((place, measure.at?))).collect()
}

fn series(result: &RowResult, measures: &[(usize, f64)], divisor: f64) -> Vec<Series> {
    let line = |seen: &Observed| {
        let point = |(place, at): &(usize, f64)| (*at, seen.median(*place) / divisor);
        let points = measures.iter().map(point).filter(|(_, value)| value.is_finite()).collect();
        Series { name: shown(&seen.name), role: seen.role, points }
    };
    result.observed.iter().map(line).collect()
}

/// As readers know it who do not know the tables.
fn shown(name: &str) -> String {
    name.strip_prefix("ours").map_or_else(|| name.to_owned(), |rest| format!("this crate{rest}"))
}

/// The same for a contender in every plot; told apart by those who see no red or green, too.
fn colour(name: &str, role: Role) -> &'static str {
    let known = [
        ("quick_cache", "#4d4d4d"),
        ("redis-rs", "#4d4d4d"),
        ("moka", "#cc79a7"),
        ("foyer-memory, LFU", "#56b4e9"),
        ("foyer", "#009e73"),
        ("amalgam", "#e69f00"),
        ("cachet", "#8a6fd1"),
    ];
    match role {
        Role::Ours => "#d1480c",
        Role::Established => "#0072b2",
        Role::Raw | Role::Neighbour => {
            known.iter().find(|(start, _)| name.starts_with(start)).map_or("#8c959f", |(_, colour)| colour)
        }
    }
}

/// A number as short as it can be.
fn compact(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e4 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let digits = format!("{value:.3}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Bytes, in the powers of two that they are.
fn binary(value: f64) -> String {
    match value {
        value if value >= 1_048_576.0 => format!("{:.0} MiB", value / 1_048_576.0),
        value if value >= 1_024.0 => format!("{:.0} KiB", value / 1_024.0),
        value => format!("{value:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.5, 1_024.0, 20_000.0, 1_000_000.0].map(compact), ["0", "0.5", "1024", "20 k", "1 M"]);
        assert_eq!([64.0, 1_024.0, 1_048_576.0].map(binary), ["64 B", "1 KiB", "1 MiB"]);
    }

    #[test]
    fn a_drawing_names_every_line_and_both_axes() {
        let line = |name: &str, role| Series { name: name.into(), role, points: vec![(1.0, 3.0), (10.0, 4.0)] };
        let series = vec![line("ours", Role::Ours), line("a < b", Role::Raw)];
        let svg = Lines { title: "title", across: "entries", place: compact, up: "ns", series }.draw();
        for part in ["<title>title</title>", ">ours<", ">a &lt; b<", ">entries<", ">ns<", "fill=\"#ffffff\""] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
    }
}
