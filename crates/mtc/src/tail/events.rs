//! What `mtc tail` tells.

use std::sync::Arc;

use multi_tier_cache::Position;
use multi_tier_cache::inspect::{LogEntry, Recorded};
use serde_json::{Value, json};

use crate::output::{Page, Report};
use crate::units::printable;

/// Something that happened to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Followed from behind this place; `None` if there is no log yet, or the place is known by its number only.
    Start {
        server: String,
        log: String,
        at: Option<Position>,
    },
    Entry(LogEntry),
    /// Something is missing between these places: who follows must take it that everything changed.
    Gap {
        missing: Missing,
        after: Option<Position>,
        next: Option<Position>,
    },
}

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The log was trimmed, or entries were removed from it.
    Entries,
    /// The log was lost and another was begun.
    Epoch,
    /// The log ends before what was read from it: a failover.
    History,
    /// Another program wrote into the stream.
    Foreign,
}

impl Missing {
    fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Epoch => "epoch",
            Self::History => "history",
            Self::Foreign => "foreign",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Entries => "entries are gone from the log: it was trimmed",
            Self::Epoch => "the log was lost or begun anew: the server was flushed, restarted empty, or failed over",
            Self::History => "the log ends before what was read from it: the server failed over",
            Self::Foreign => "another program wrote into the stream of the log",
        }
    }
}

/// An event as it is written.
pub(super) struct Shown(pub(super) Event);

impl Report for Shown {
    fn human(&self, page: &mut Page) {
        match &self.0 {
            Event::Start { server, log, at } => {
                let from =
                    at.filter(|at| at.sequence() > 0).map_or_else(|| "its beginning".to_owned(), |at| at.to_string());
                page.line(format!("following {} at {server} from {from}", printable(log, false)));
            }
            Event::Entry(entry) => {
                let (change, names) = told(entry.change());
                let names: Vec<_> = names.iter().map(|name| printable(name, false)).collect();
                page.line(format!("{:>8}  {change:<15} {}", entry.position().sequence(), names.join(" ")));
            }
            Event::Gap { missing, after, next } => {
                let place = |at: &Option<Position>| at.map_or_else(|| "…".to_owned(), |at| at.sequence().to_string());
                page.line(format!("     gap  {} ({} to {})", missing.text(), place(after), place(next)));
            }
        }
    }

    fn json(&self) -> Value {
        let text = |at: &Option<Position>| at.map(|at| at.to_string());
        match &self.0 {
            Event::Start { server, log, at } => {
                json!({ "event": "start", "server": server, "log": log, "position": text(at) })
            }
            Event::Entry(entry) => {
                let (change, names) = told(entry.change());
                let at = entry.position();
                json!({
                    "event": "entry",
                    "position": at.to_string(),
                    "sequence": at.sequence(),
                    "change": change,
                    "names": names,
                })
            }
            Event::Gap { missing, after, next } => {
                json!({ "event": "gap", "missing": missing.name(), "after": text(after), "next": text(next) })
            }
        }
    }
}

/// A change in one word, and the keys, pattern or tag it is about.
fn told(change: &Recorded) -> (&'static str, &[Arc<str>]) {
    match change {
        Recorded::Keys(keys) => ("remove", keys),
        Recorded::Put(key) => ("put", std::slice::from_ref(key)),
        Recorded::Pattern(pattern) => ("remove-pattern", std::slice::from_ref(pattern)),
        Recorded::Tag(tag) => ("remove-tag", std::slice::from_ref(tag)),
        Recorded::Clear => ("clear", &[]),
        _ => ("unknown", &[]),
    }
}
