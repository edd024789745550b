//! What this instance invalidated in the last minutes, to do it again should a failover have lost it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::coordinator::{Change, Recorded};
use crate::defaults;

pub(crate) struct Journal {
    window: Duration,
    entries: VecDeque<(Moment, Recorded)>,
    /// Until this moment the entries are not all: more happened than can be kept.
    overflowed: Moment,
}

impl Journal {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, entries: VecDeque::new(), overflowed: Moment::ORIGIN }
    }

    /// Notes a change that was acknowledged at `now`. Removals only: a put is remembered as one.
    pub(crate) fn note(&mut self, change: &Change, now: Moment) {
        self.forget(now);
        if self.entries.len() >= defaults::JOURNAL_ENTRIES {
            self.entries.pop_front();
            self.overflowed = now.after(self.window);
        }
        let removal = match Recorded::from(change) {
            Recorded::Put(key) => Recorded::Keys(vec![key]),
            removal => removal,
        };
        self.entries.push_back((now, removal));
    }

    /// What to do again, oldest first; before it a clear, if more happened than could be kept.
    pub(crate) fn replay(&mut self, now: Moment) -> Vec<Recorded> {
        self.forget(now);
        let everything = (self.overflowed > now).then_some(Recorded::Clear);
        self.overflowed = Moment::ORIGIN;
        everything.into_iter().chain(self.entries.drain(..).map(|(_, change)| change)).collect()
    }

    fn forget(&mut self, now: Moment) {
        while self.entries.front().is_some_and(|(noted, _)| now.since(*noted) > self.window) {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Moment {
        Moment::ORIGIN.after(Duration::from_secs(n))
    }

    #[test]
    fn puts_are_remembered_as_removals_within_the_window() {
        let mut journal = Journal::new(Duration::from_secs(120));
        journal.note(&Change::Keys(vec!["old".into()]), second(0));
        journal.note(&Change::Put("new".into(), crate::coordinator::Token::random()), second(100));
        assert_eq!(journal.replay(second(121)), [Recorded::Keys(vec!["new".into()])]);
        assert!(journal.entries.is_empty(), "what is done again is noted again when it is done");
    }

    #[test]
    fn too_much_to_remember_is_replayed_behind_a_clear() {
        let mut journal = Journal::new(Duration::from_secs(120));
        for n in 0..=defaults::JOURNAL_ENTRIES {
            journal.note(&Change::Keys(vec![n.to_string().into()]), second(0));
        }
        let replayed = journal.replay(second(1));
        assert_eq!((replayed.len(), &replayed[0]), (defaults::JOURNAL_ENTRIES + 1, &Recorded::Clear));
        assert!(journal.replay(second(2)).is_empty());
    }
}
