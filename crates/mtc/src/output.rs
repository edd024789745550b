//! The one place that writes to standard output: answers as text for people or as JSON, and complaints.

use std::fmt::Write as _;
use std::io::{self, Write};

use console::Term;
use serde_json::{Value, json};

use crate::failure::{Failure, Kind};
use crate::units::printable;

/// Goes to the top of the terminal; what was there is overwritten line by line, so that nothing flickers.
const TOP: &str = "\x1b[H";
const CLEAR_SCREEN: &str = "\x1b[2J";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// Width of the names in front of fields.
const NAME_WIDTH: usize = 12;

/// What a command has to say.
pub(crate) trait Report {
    /// For people.
    fn human(&self, page: &mut Page);

    /// For programs.
    fn json(&self) -> Value;
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    redrawn: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, redrawn: false }
    }

    /// Writes a report: text, or one line of JSON.
    ///
    /// # Errors
    /// [`Kind::Closed`] when nobody reads it any more.
    pub(crate) fn show(&self, report: &impl Report) -> Result<(), Failure> {
        write(self.rendered(report).as_bytes())
    }

    /// Writes a report over the one before if this is a terminal, else below it.
    ///
    /// # Errors
    /// As [`show`](Self::show).
    pub(crate) fn redraw(&mut self, report: &impl Report) -> Result<(), Failure> {
        let terminal = Term::stdout();
        if self.json || !terminal.is_term() {
            let gap = if self.redrawn && !self.json { "\n" } else { "" };
            self.redrawn = true;
            return write(format!("{gap}{}", self.rendered(report)).as_bytes());
        }
        let lines = clipped(&self.rendered(report), terminal.size());
        let first = if self.redrawn { "" } else { CLEAR_SCREEN };
        self.redrawn = true;
        write(format!("{first}{TOP}{lines}{CLEAR_BELOW}").as_bytes())
    }

    /// Tells on standard error why there is no answer.
    pub(crate) fn complain(&self, failure: &Failure) {
        if failure.kind == Kind::Closed {
            return;
        }
        let Failure { kind, message, advice } = failure;
        let text = if self.json {
            format!("{}\n", json!({ "error": message, "advice": advice, "exit_code": kind.number() }))
        } else {
            let advice = advice.as_ref().map(|advice| format!("     {advice}\n")).unwrap_or_default();
            format!("mtc: {}\n{advice}", printable(message, true))
        };
        note(&text);
    }

    fn rendered(&self, report: &impl Report) -> String {
        if self.json {
            return format!("{}\n", report.json());
        }
        let mut page = Page::default();
        report.human(&mut page);
        page.0
    }
}

/// As much of a text as a terminal of so many rows and columns shows without scrolling or wrapping.
fn clipped(text: &str, (rows, columns): (u16, u16)) -> String {
    let lines = text.lines().take(usize::from(rows.saturating_sub(1)));
    let cut = lines.map(|line| line.chars().take(columns.into()).collect::<String>());
    cut.map(|line| format!("{line}{CLEAR_LINE}\n")).collect()
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// [`Kind::Closed`] when nobody reads it any more.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes to standard error; that nobody reads it is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Text that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// A line.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.0, "{}", text.as_ref().trim_end());
    }

    /// A name and what it stands for; further lines are indented like the first.
    pub(crate) fn field(&mut self, name: &str, text: impl AsRef<str>) {
        let indented = text.as_ref().replace('\n', &format!("\n{:NAME_WIDTH$}", ""));
        self.line(format!("{name:<NAME_WIDTH$}{indented}"));
    }

    /// Rows under their headings; the first `texts` columns are texts, the others numbers.
    pub(crate) fn table(&mut self, headings: &[&str], texts: usize, rows: &[Vec<String>]) {
        let headings: Vec<String> = headings.iter().map(ToString::to_string).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(rows).collect();
        let width = |column: usize| {
            lines.iter().filter_map(|line| line.get(column)).map(|cell: &String| cell.chars().count()).max()
        };
        for line in &lines {
            let cells = line.iter().enumerate().map(|(at, cell)| {
                let width = width(at).unwrap_or_default();
                if at < texts { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            self.line(cells.collect::<Vec<_>>().join("  "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_straight_columns() {
        let mut page = Page::default();
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        page.table(&["name", "n"], 1, &[row(["a", "1,000"]), row(["longer", "2"])]);
        assert_eq!(page.0, "name        n\na       1,000\nlonger      2\n");
    }

    #[test]
    fn what_a_terminal_has_no_room_for_is_left_out() {
        assert_eq!(clipped("abc\nd\ne\n", (3, 2)), "ab\x1b[K\nd\x1b[K\n");
        assert_eq!(clipped("abc\n", (0, 0)), "");
    }

    #[test]
    fn a_field_of_several_lines_is_indented() {
        let mut page = Page::default();
        page.field("value", "{\n  1\n}");
        assert_eq!(page.0, "value       {\n              1\n            }\n");
    }
}
