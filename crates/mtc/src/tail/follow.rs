//! How far the log was followed, and what of it is missing: no I/O.

use multi_tier_cache::Position;
use multi_tier_cache::inspect::{Bus, LogEntry};

use super::events::{Event, Missing};

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) id: String,
    /// `None` if it is not the library's own.
    pub(super) entry: Option<LogEntry>,
}

/// Up to where the log was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Follow {
    /// The last entry whose name is known: the next one must be chained to it.
    at: Option<Position>,
    /// Behind which id of the stream to read.
    last_id: String,
}

impl Follow {
    /// Behind the entry at this position; from the beginning if there is no log yet.
    pub(super) fn behind(at: Option<Position>) -> Self {
        let last_id = format!("{}-0", at.map_or(0, Position::sequence));
        Self { at, last_id }
    }

    /// Behind the entry of this number in the epoch of `end`, whatever its name was.
    pub(super) fn from_number(end: Option<Position>, number: u64) -> Self {
        match end {
            // Nothing is before the first entry, so its chain is known.
            Some(end) if number == 0 => Self::behind(Some(beginning(end))),
            _ => Self { at: None, last_id: format!("{number}-0") },
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.at
    }

    pub(super) fn last_id(&self) -> &str {
        &self.last_id
    }

    /// Takes what was found behind the last id, and the state of the namespace before that.
    pub(super) fn advance(&mut self, bus: Option<Bus>, lines: Vec<Line>) -> Vec<Event> {
        let Some(end) = bus.map(|bus| bus.end) else { return self.lost() };
        let mut events = Vec::new();
        if let Some(at) = self.at.filter(|at| at.epoch() != end.epoch()) {
            // The new log counts from 1, so what was read behind the last id may begin in its middle.
            *self = Self::behind(Some(beginning(end)));
            events.push(gap(Missing::Epoch, Some(at), self.at));
            return events;
        }
        if let Some(at) = self.at.filter(|at| rewritten(*at, end)) {
            *self = Self::behind(Some(end));
            events.push(gap(Missing::History, Some(at), self.at));
            return events;
        }
        let found_none = lines.is_empty();
        for line in lines {
            events.extend(self.take(line));
        }
        if let Some(at) = self.at.filter(|at| found_none && at.sequence() < end.sequence()) {
            *self = Self::behind(Some(end));
            events.push(gap(Missing::Entries, Some(at), self.at));
        }
        events
    }

    fn take(&mut self, line: Line) -> Vec<Event> {
        self.last_id.clone_from(&line.id);
        let Some(entry) = line.entry else { return vec![gap(Missing::Foreign, self.at, None)] };
        let next = entry.position();
        let before = self.at.replace(next).filter(|at| !entry.follows(*at));
        let missing = before.map(|at| gap(Missing::Entries, Some(at), Some(next)));
        missing.into_iter().chain([Event::Entry(entry)]).collect()
    }

    /// The namespace has no state: it was not used yet, or was lost.
    fn lost(&mut self) -> Vec<Event> {
        let before = self.at.take();
        "0-0".clone_into(&mut self.last_id);
        before.map(|at| gap(Missing::Epoch, Some(at), None)).into_iter().collect()
    }
}

fn gap(missing: Missing, after: Option<Position>, next: Option<Position>) -> Event {
    Event::Gap { missing, after, next }
}

/// Before the first entry of the epoch of `end`.
fn beginning(end: Position) -> Position {
    let text = format!("m1-{:016x}-0-{:016x}", end.epoch(), 0);
    text.parse().unwrap_or(end)
}

/// Whether the log ends before `at`, or with another entry of its number: it has lost what was read from it.
fn rewritten(at: Position, end: Position) -> bool {
    end.sequence() < at.sequence() || end.sequence() == at.sequence() && end != at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(epoch: u64, seq: u64) -> Position {
        let nonce = if seq == 0 { 0 } else { epoch * 1_000 + seq };
        format!("m1-{epoch:016x}-{seq}-{nonce:016x}").parse().unwrap()
    }

    fn bus(epoch: u64, seq: u64) -> Option<Bus> {
        let end = position(epoch, seq).to_string();
        let parts: Vec<String> = end.split('-').skip(1).map(str::to_owned).collect();
        let [epoch, seq, nonce] = parts.try_into().unwrap();
        Bus::decode(&[Some(epoch), Some(seq), Some(nonce), Some("0".to_owned()), None])
    }

    fn line(epoch: u64, seq: u64) -> Line {
        let text = |position: Position| position.to_string().split('-').next_back().unwrap_or_default().to_owned();
        let (prev, nonce) = (text(position(epoch, seq - 1)), text(position(epoch, seq)));
        let json = format!(
            r#"{{"type":"Remove","key":"k","mtc":{{"v":1,"epoch":"{epoch:016x}","seq":{seq},"prev":"{prev}","nonce":"{nonce}"}}}}"#
        );
        let id = format!("{seq}-0");
        let entry = LogEntry::decode(&id, json.as_bytes());
        assert!(entry.is_some(), "{json}");
        Line { id, entry }
    }

    /// Events in short: numbers of entries, and gaps with what they are behind and before.
    fn short(events: &[Event]) -> Vec<String> {
        let number = |at: &Option<Position>| at.map_or_else(|| "-".to_owned(), |at| at.sequence().to_string());
        let short = |event: &Event| match event {
            Event::Entry(entry) => entry.position().sequence().to_string(),
            Event::Gap { missing, after, next } => format!("{missing:?} {}..{}", number(after), number(next)),
            Event::Start { .. } => "start".to_owned(),
        };
        events.iter().map(short).collect()
    }

    #[test]
    fn entries_that_are_chained_follow_without_a_gap() {
        let mut follow = Follow::behind(Some(position(1, 2)));
        assert_eq!(short(&follow.advance(bus(1, 4), vec![line(1, 3), line(1, 4)])), ["3", "4"]);
        assert_eq!(follow.last_id(), "4-0");
        assert_eq!(short(&follow.advance(bus(1, 4), vec![])), Vec::<String>::new());
        assert_eq!(short(&follow.advance(bus(1, 4), vec![line(1, 5)])), ["5"], "came after the end was told");
        assert_eq!(
            short(&Follow::from_number(bus(1, 2).map(|bus| bus.end), 0).advance(bus(1, 2), vec![line(1, 1)])),
            ["1"]
        );
    }

    #[test]
    fn entries_that_were_trimmed_are_a_gap() {
        let mut follow = Follow::behind(Some(position(1, 2)));
        assert_eq!(short(&follow.advance(bus(1, 9), vec![line(1, 8), line(1, 9)])), ["Entries 2..8", "8", "9"]);
        assert_eq!(short(&follow.advance(bus(1, 12), vec![])), ["Entries 9..12"], "all of them");
        let mut start = Follow::from_number(bus(1, 9).map(|bus| bus.end), 0);
        assert_eq!(short(&start.advance(bus(1, 9), vec![line(1, 9)])), ["Entries 0..9", "9"]);
        let mut unnamed = Follow::from_number(bus(1, 9).map(|bus| bus.end), 5);
        assert_eq!(short(&unnamed.advance(bus(1, 9), vec![line(1, 6)])), ["6"]);
    }

    #[test]
    fn a_log_that_began_anew_is_read_from_its_beginning() {
        let mut follow = Follow::behind(Some(position(1, 7)));
        assert_eq!(short(&follow.advance(bus(2, 8), vec![line(2, 8)])), ["Epoch 7..0"]);
        assert_eq!(follow.last_id(), "0-0");
        assert_eq!(short(&follow.advance(bus(2, 1), vec![line(2, 1)])), ["1"]);
        assert_eq!(short(&follow.advance(None, vec![])), ["Epoch 1..-"], "lost, and nobody began another yet");
        assert_eq!(short(&follow.advance(None, vec![])), Vec::<String>::new());
        assert_eq!(short(&follow.advance(bus(3, 1), vec![line(3, 1)])), ["1"]);
    }

    #[test]
    fn a_log_that_went_back_is_another_history() {
        let mut follow = Follow::behind(Some(position(1, 7)));
        assert_eq!(short(&follow.advance(bus(1, 5), vec![])), ["History 7..5"]);
        assert_eq!(short(&follow.advance(bus(1, 6), vec![line(1, 6)])), ["6"]);
    }

    #[test]
    fn an_entry_of_another_program_is_told_once() {
        let mut follow = Follow::behind(Some(position(1, 1)));
        let foreign = Line { id: "1-5".to_owned(), entry: None };
        assert_eq!(short(&follow.advance(bus(1, 1), vec![foreign])), ["Foreign 1..-"]);
        assert_eq!(follow.last_id(), "1-5");
        assert_eq!(short(&follow.advance(bus(1, 2), vec![line(1, 2)])), ["2"]);
    }
}
