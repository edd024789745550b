//! What this instance invalidated in the last minutes, to do it again should a failover have lost it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::coordinator::{Change, Recorded};
use crate::defaults;

pub(crate) struct Journal {
    window: Duration,
    entries: VecDeque<(Moment, Recorded)>,
    /// The keys, patterns and tags that the entries name.
    named: usize,
    /// Until this moment the entries are not all: more happened than can be kept.
    overflowed: Moment,
}

impl Journal {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, entries: VecDeque::new(), named: 0, overflowed: Moment::ORIGIN }
    }

    /// Notes a change that was acknowledged at `now`. Removals only: a put is remembered as one.
    pub(crate) fn note(&mut self, change: &Change, now: Moment) {
        self.forget(now);
        let removal = match Recorded::from(change) {
            Recorded::Put(key) => Recorded::Keys(vec![key]),
            removal => removal,
        };
        self.named += named(&removal);
        self.entries.push_back((now, removal));
        while self.named > defaults::JOURNAL_ENTRIES && self.drop_oldest() {
            self.overflowed = now.after(self.window);
        }
    }

    /// What to do again, oldest first; before it a clear, if more happened than could be kept.
    pub(crate) fn replay(&mut self, now: Moment) -> Vec<Recorded> {
        self.forget(now);
        let everything = (self.overflowed > now).then_some(Recorded::Clear);
        (self.overflowed, self.named) = (Moment::ORIGIN, 0);
        everything.into_iter().chain(self.entries.drain(..).map(|(_, change)| change)).collect()
    }

    fn forget(&mut self, now: Moment) {
        while self.entries.front().is_some_and(|(noted, _)| now.since(*noted) > self.window) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.entries.pop_front();
        self.named -= oldest.as_ref().map_or(0, |(_, removal)| named(removal));
        oldest.is_some()
    }
}

fn named(removal: &Recorded) -> usize {
    if let Recorded::Keys(keys) = removal { keys.len() } else { 1 }
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

        let many: Vec<_> = (0..defaults::JOURNAL_ENTRIES / 2).map(|n| n.to_string().into()).collect();
        for _ in 0..3 {
            journal.note(&Change::Keys(many.clone()), second(3));
        }
        assert_eq!(journal.replay(second(4)).len(), 3, "a clear, and what is left: keys are counted");
    }
}
