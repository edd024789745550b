//! How far an instance has followed the log: a state machine without I/O.
//!
//! It is fed with what arrived (messages, tails of polls, pages of the log) and says what to do. Its promise: once
//! [`Progress::fresh_as_of`] is a moment, every invalidation that took effect before that moment has been applied
//! here, whatever was lost on the way.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::clock::Moment;
use crate::coordinator::{Position, Record, Tail};
use crate::defaults;
use crate::protection::Protection;

pub(crate) struct Progress {
    at: Option<Position>,
    /// The latest entries followed, for comparison with tails that were read a little earlier.
    ring: VecDeque<(u64, u64)>,
    fresh_as_of: Moment,
    /// Invalidations of this instance that are under way: their author drops the key again when they are done.
    own: HashMap<u64, Moment>,
    /// Places in the log of this instance's own invalidations that it has not followed yet: another entry there, or a
    /// log that ends before, has lost them.
    acknowledged: BTreeMap<u64, Acknowledged>,
    /// Own invalidations were logged in an epoch that this instance does not follow, or does not follow any more.
    adrift: Vec<u64>,
    /// An own invalidation is known to be lost: its answer came after another entry was followed in its place.
    torn: bool,
}

/// An own invalidation whose echo has not come yet.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    nonce: u64,
    /// Its author has dropped the key here once more since: the echo tells nothing new.
    settled: bool,
}

/// A question where the log stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    asked: Moment,
    /// Where this instance stood, or knew the log to be, when it asked.
    known: Option<Position>,
}

/// What to do with one message or log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// Next in the chain: apply it.
    Apply,
    /// Next in the chain, and this instance's own: its author has seen to it.
    Own,
    /// Seen before.
    Known,
    /// Out of order: apply it (removing is always safe) and read what is missing.
    Gap,
    /// Not of this history: apply it and look where the log stands.
    Foreign,
}

/// What a poll told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Polled {
    /// Everything up to the poll has been applied.
    Fresh,
    /// The first look at the log: forget what was stored before it.
    Joined,
    /// There is more in the log.
    Behind,
    /// Another epoch: forget everything and replay.
    NewEpoch,
    /// Entries that were followed are not in this history: it needs a new epoch.
    Forked,
    /// Too much happened meanwhile to tell.
    Unclear,
}

/// What a page of the log told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// The tail is reached.
    CaughtUp,
    /// There is more.
    More,
    /// The page does not follow what is known, because entries are missing (trimmed): forget everything.
    Trimmed,
    /// It does not follow because it is another history.
    Forked,
}

/// Whether this instance reflects a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Yes,
    NotYet,
    /// Followed or skipped so long ago that only the log can tell.
    Long,
    /// It belongs to another epoch or history.
    Never,
}

impl Progress {
    /// An instance whose in-process tiers are empty at `born`.
    pub(crate) fn new(born: Moment) -> Self {
        let (ring, own, acknowledged) = (VecDeque::new(), HashMap::new(), BTreeMap::new());
        Self { at: None, ring, fresh_as_of: born, own, acknowledged, adrift: Vec::new(), torn: false }
    }

    pub(crate) fn at(&self) -> Option<Position> {
        self.at
    }

    pub(crate) fn fresh_as_of(&self) -> Moment {
        self.fresh_as_of
    }

    /// An invalidation of this instance begins.
    pub(crate) fn begin_own(&mut self, nonce: u64, now: Moment) {
        self.own.insert(nonce, now);
    }

    /// Its author is done. If it has `settled` the invalidation at this position, having dropped the key here after the
    /// coordinator's answer, an echo that comes later changes nothing; otherwise that is applied like any message.
    pub(crate) fn end_own(&mut self, nonce: u64, settled: Option<Position>) {
        self.own.remove(&nonce);
        let place = settled.filter(|position| self.at.is_some_and(|at| at.epoch == position.epoch));
        if let Some(waited_for) = place.and_then(|position| self.acknowledged.get_mut(&position.seq)) {
            waited_for.settled = waited_for.nonce == nonce;
        }
    }

    /// An invalidation of this instance was logged at `position`.
    /// True if the log must be asked what became of it.
    pub(crate) fn acknowledge(&mut self, position: Position) -> bool {
        if !Protection::ForkDetection.is_on() {
            return false;
        }
        let Some(at) = self.at.filter(|at| at.epoch == position.epoch) else {
            if !self.adrift.contains(&position.epoch) {
                self.adrift.push(position.epoch);
            }
            return true;
        };
        if at.seq >= position.seq {
            self.torn |= self.nonce_at(position.seq).is_some_and(|nonce| nonce != position.nonce);
            return self.torn;
        }
        self.acknowledged.insert(position.seq, Acknowledged { nonce: position.nonce, settled: false });
        if self.acknowledged.len() > defaults::BUS_RING {
            self.acknowledged.pop_first();
        }
        false
    }

    /// Whether own invalidations were logged in an epoch that has proved not to be this instance's. Asked after each
    /// look at the log.
    pub(crate) fn take_adrift(&mut self, joined: bool) -> bool {
        let epoch = self.at.map(|at| at.epoch);
        let lost = self.adrift.iter().any(|adrift| joined || Some(*adrift) != epoch);
        self.adrift.clear();
        lost
    }

    /// The log is about to be asked where it stands.
    pub(crate) fn ask(&self, now: Moment) -> Question {
        let last = self.acknowledged.last_key_value();
        let known = match (self.at, last) {
            (Some(at), Some((&seq, &Acknowledged { nonce, .. }))) if seq > at.seq => {
                Some(Position { seq, nonce, ..at })
            }
            (at, _) => at,
        };
        Question { asked: now, known }
    }

    /// A message arrived.
    pub(crate) fn receive(&mut self, record: &Record) -> Receipt {
        let Some(at) = self.at.filter(|at| at.epoch == record.at.epoch) else { return Receipt::Foreign };
        if self.contradicts(record) {
            return Receipt::Gap;
        }
        if record.at.seq <= at.seq {
            return match self.nonce_at(record.at.seq) {
                Some(nonce) if nonce == record.at.nonce => Receipt::Known,
                _ => Receipt::Foreign,
            };
        }
        if record.at.seq == at.seq + 1 && record.previous == at.nonce {
            return self.follow(record);
        }
        if Protection::GapDetection.is_on() {
            return Receipt::Gap;
        }
        self.advance(record.at);
        Receipt::Apply
    }

    /// A question was answered.
    pub(crate) fn polled(&mut self, tail: Tail, question: Question) -> Polled {
        let Question { asked, known } = question;
        let Some(at) = self.at else {
            self.restart(tail.at, question);
            return Polled::Joined;
        };
        if tail.at.epoch != at.epoch {
            self.restart(tail.at, question);
            return Polled::NewEpoch;
        }
        // A history that is behind what was followed before the question, or that has another entry in a place this
        // instance has been at, has lost entries.
        let behind = known.is_some_and(|known| known.epoch == at.epoch && tail.at.seq < known.seq);
        let judged = match self.nonce_at(tail.at.seq) {
            _ if behind || self.torn => Polled::Forked,
            Some(nonce) if nonce != tail.at.nonce => Polled::Forked,
            Some(_) => Polled::Fresh,
            None if tail.at.seq > at.seq => Polled::Behind,
            None => Polled::Unclear,
        };
        match judged {
            Polled::Forked if !Protection::ForkDetection.is_on() => self.restart(tail.at, question),
            Polled::Behind if !Protection::GapDetection.is_on() => self.advance(tail.at),
            Polled::Fresh => {}
            judged => return judged,
        }
        self.prove(asked);
        Polled::Fresh
    }

    /// A log entry was read while catching up with `tail`.
    pub(crate) fn read(&mut self, record: &Record) -> Result<Receipt, Page> {
        let Some(at) = self.at.filter(|at| at.epoch == record.at.epoch) else { return Err(Page::Forked) };
        if record.at.seq <= at.seq {
            return match self.nonce_at(record.at.seq) {
                Some(nonce) if nonce != record.at.nonce => Err(Page::Forked),
                _ => Ok(Receipt::Known),
            };
        }
        if record.at.seq > at.seq + 1 {
            return Err(Page::Trimmed);
        }
        if record.previous != at.nonce || self.contradicts(record) {
            return Err(Page::Forked);
        }
        Ok(self.follow(record))
    }

    /// The page ended that was read because the answer to `question` was `tail`.
    pub(crate) fn page_ended(&mut self, was_empty: bool, tail: Tail, Question { asked, .. }: Question) -> Page {
        let Some(at) = self.at.filter(|at| at.epoch == tail.at.epoch) else { return Page::Forked };
        if at.seq < tail.at.seq {
            return if was_empty { Page::Trimmed } else { Page::More };
        }
        match self.nonce_at(tail.at.seq) {
            Some(nonce) if nonce != tail.at.nonce => Page::Forked,
            Some(_) => {
                self.prove(asked);
                Page::CaughtUp
            }
            // Followed past it by far meanwhile: the next poll proves it.
            None => Page::CaughtUp,
        }
    }

    /// Everything stored here was forgotten after `question` was answered with `at`: follow from there.
    pub(crate) fn restart(&mut self, at: Position, Question { asked, .. }: Question) {
        self.at = Some(at);
        self.ring.clear();
        self.acknowledged.clear();
        self.torn = false;
        self.remember(at);
        self.prove(asked);
    }

    /// Whether every invalidation up to `position` has been applied here.
    pub(crate) fn reached(&self, position: Position) -> Reached {
        match self.at {
            None => Reached::NotYet,
            Some(at) if at.epoch != position.epoch => Reached::Never,
            Some(at) if at.seq < position.seq => Reached::NotYet,
            Some(_) => match self.nonce_at(position.seq) {
                Some(nonce) if nonce == position.nonce => Reached::Yes,
                Some(_) => Reached::Never,
                None => Reached::Long,
            },
        }
    }

    fn follow(&mut self, record: &Record) -> Receipt {
        // Of this history, for it does not contradict.
        let settled = self.acknowledged.get(&record.at.seq).is_some_and(|own| own.settled);
        self.advance(record.at);
        if settled || self.own.contains_key(&record.at.nonce) { Receipt::Own } else { Receipt::Apply }
    }

    /// Whether this instance was told that its own entry is in the place of `record`.
    fn contradicts(&self, record: &Record) -> bool {
        self.acknowledged.get(&record.at.seq).is_some_and(|own| own.nonce != record.at.nonce)
    }

    fn advance(&mut self, to: Position) {
        self.at = Some(to);
        while self.acknowledged.first_key_value().is_some_and(|(seq, _)| *seq <= to.seq) {
            self.acknowledged.pop_first();
        }
        self.remember(to);
    }

    fn remember(&mut self, at: Position) {
        self.ring.push_back((at.seq, at.nonce));
        if self.ring.len() > defaults::BUS_RING {
            self.ring.pop_front();
        }
    }

    /// The ring is ascending, without holes since its first entry.
    fn nonce_at(&self, seq: u64) -> Option<u64> {
        let (first, _) = self.ring.front()?;
        let index = usize::try_from(seq.checked_sub(*first)?).ok()?;
        self.ring.get(index).filter(|(known, _)| *known == seq).map(|(_, nonce)| *nonce)
    }

    /// What this instance's own authors have not yet dropped again is not proven.
    fn prove(&mut self, asked: Moment) {
        let pending = self.own.values().min().copied().unwrap_or(Moment::NEVER);
        self.fresh_as_of = self.fresh_as_of.max(asked.min(pending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::Recorded;

    const EPOCH: u64 = 7;

    fn at(seq: u64) -> Position {
        Position { epoch: EPOCH, seq, nonce: seq * 100 }
    }

    fn tail(seq: u64) -> Tail {
        Tail { at: at(seq), clock: 0 }
    }

    fn record(seq: u64) -> Record {
        Record { at: at(seq), previous: (seq - 1) * 100, change: Recorded::Keys(vec!["k".into()]) }
    }

    fn moment(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn asked(progress: &mut Progress, tail: Tail, nanos: u64) -> Polled {
        let question = progress.ask(moment(nanos));
        progress.polled(tail, question)
    }

    fn joined(seq: u64) -> Progress {
        let mut progress = Progress::new(moment(1));
        assert_eq!(asked(&mut progress, tail(seq), 10), Polled::Joined);
        progress
    }

    #[test]
    fn messages_in_order_are_applied_and_duplicates_known() {
        let mut progress = joined(3);
        assert_eq!(progress.receive(&record(4)), Receipt::Apply);
        assert_eq!(progress.receive(&record(4)), Receipt::Known);
        assert_eq!(progress.receive(&record(6)), Receipt::Gap);
        assert_eq!(progress.at(), Some(at(4)), "a gap is not jumped over");
        assert_eq!(progress.receive(&record(2)), Receipt::Foreign);
    }

    #[test]
    fn a_broken_chain_is_a_gap_and_another_epoch_foreign() {
        let mut progress = joined(3);
        assert_eq!(progress.receive(&Record { previous: 1, ..record(4) }), Receipt::Gap);
        let other = Record { at: Position { epoch: 8, ..at(4) }, ..record(4) };
        assert_eq!(progress.receive(&other), Receipt::Foreign);
    }

    #[test]
    fn freshness_is_the_moment_before_the_poll_was_sent() {
        let mut progress = joined(3);
        let question = progress.ask(moment(20));
        progress.receive(&record(4));
        assert_eq!(progress.polled(tail(3), question), Polled::Fresh, "the reply may be older than a message");
        assert_eq!(progress.fresh_as_of(), moment(20));
        let question = progress.ask(moment(30));
        assert_eq!(progress.polled(tail(6), question), Polled::Behind);
        assert_eq!(progress.fresh_as_of(), moment(20), "not before the log was read");
        assert_eq!(progress.read(&record(5)), Ok(Receipt::Apply));
        assert_eq!(progress.page_ended(false, tail(6), question), Page::More);
        assert_eq!(progress.read(&record(6)), Ok(Receipt::Apply));
        assert_eq!(progress.page_ended(false, tail(6), question), Page::CaughtUp);
        assert_eq!(progress.fresh_as_of(), moment(30));
    }

    #[test]
    fn a_lossy_failover_is_a_fork() {
        let mut progress = joined(5);
        assert_eq!(asked(&mut progress, tail(4), 20), Polled::Forked, "behind");
        let other = Tail { at: Position { nonce: 1, ..at(5) }, clock: 0 };
        assert_eq!(asked(&mut progress, other, 20), Polled::Forked, "another entry in its place");
        assert_eq!(progress.read(&Record { previous: 1, ..record(6) }), Err(Page::Forked));
        let renewed = Tail { at: Position { epoch: 8, seq: 0, nonce: 0 }, clock: 0 };
        assert_eq!(asked(&mut progress, renewed, 20), Polled::NewEpoch);
    }

    #[test]
    fn a_log_without_an_entry_that_was_acknowledged_is_a_fork() {
        let mut progress = joined(5);
        progress.acknowledge(at(7));
        assert_eq!(asked(&mut progress, tail(6), 20), Polled::Forked, "it ends before");
        let other = Position { nonce: 1, ..at(7) };
        assert_eq!(progress.receive(&record(6)), Receipt::Apply);
        assert_eq!(progress.receive(&Record { at: other, ..record(7) }), Receipt::Gap);
        assert_eq!(progress.read(&Record { at: other, ..record(7) }), Err(Page::Forked), "another is in its place");
        assert_eq!(progress.receive(&record(7)), Receipt::Apply);
        assert!(progress.acknowledged.is_empty());
    }

    #[test]
    fn an_entry_of_an_epoch_that_is_not_followed_is_adrift() {
        let mut progress = joined(5);
        let elsewhere = Position { epoch: EPOCH + 1, ..at(7) };
        assert!(!progress.acknowledge(at(7)));
        assert!(progress.acknowledge(elsewhere));
        assert!(progress.take_adrift(false) && !progress.take_adrift(false));
        progress.acknowledge(elsewhere);
        asked(&mut progress, Tail { at: elsewhere, clock: 0 }, 20);
        assert!(!progress.take_adrift(false), "it was the newer one");
    }

    #[test]
    fn an_answer_that_comes_after_its_place_was_taken_is_a_fork() {
        let mut progress = joined(5);
        progress.receive(&record(6));
        assert!(!progress.acknowledge(at(6)));
        assert_eq!(asked(&mut progress, tail(6), 20), Polled::Fresh, "its message was faster");
        assert!(progress.acknowledge(Position { nonce: 1, ..at(6) }));
        assert_eq!(asked(&mut progress, tail(6), 30), Polled::Forked);
    }

    #[test]
    fn a_trimmed_log_is_no_fork() {
        let mut progress = joined(5);
        assert_eq!(progress.read(&record(8)), Err(Page::Trimmed));
        assert_eq!(progress.page_ended(true, tail(8), progress.ask(moment(20))), Page::Trimmed);
    }

    #[test]
    fn ones_own_entry_only_moves_the_position_and_holds_freshness_back_until_it_is_done() {
        let mut progress = joined(3);
        progress.begin_own(400, moment(15));
        assert_eq!(progress.receive(&record(4)), Receipt::Own);
        assert_eq!(asked(&mut progress, tail(4), 20), Polled::Fresh);
        assert_eq!(progress.fresh_as_of(), moment(15));
        progress.end_own(400, None);
        assert_eq!(asked(&mut progress, tail(4), 30), Polled::Fresh);
        assert_eq!(progress.fresh_as_of(), moment(30));
    }

    #[test]
    fn an_echo_after_the_end_is_applied_unless_its_author_has_settled_it() {
        for (settled, expected) in [(Some(at(4)), Receipt::Own), (None, Receipt::Apply)] {
            let mut progress = joined(3);
            progress.begin_own(400, moment(15));
            assert!(!progress.acknowledge(at(4)));
            progress.end_own(400, settled);
            assert_eq!(progress.receive(&record(4)), expected);
            assert_eq!(progress.receive(&record(5)), Receipt::Apply);
        }
    }

    #[test]
    fn what_is_settled_in_a_history_that_ended_is_applied_in_the_next_one() {
        let mut progress = joined(3);
        progress.begin_own(400, moment(15));
        assert!(!progress.acknowledge(at(4)));
        progress.restart(at(3), progress.ask(moment(16)));
        progress.end_own(400, Some(at(4)));
        assert_eq!(progress.receive(&record(4)), Receipt::Apply);
    }

    #[test]
    fn a_position_is_reached_when_it_was_followed_in_the_same_history() {
        let mut progress = joined(3);
        progress.receive(&record(4));
        assert_eq!(progress.reached(at(4)), Reached::Yes);
        assert_eq!(progress.reached(at(3)), Reached::Yes);
        assert_eq!(progress.reached(at(5)), Reached::NotYet);
        assert_eq!(progress.reached(at(1)), Reached::Long, "the log must tell");
        assert_eq!(progress.reached(Position { nonce: 9, ..at(4) }), Reached::Never);
        assert_eq!(progress.reached(Position { epoch: 9, ..at(4) }), Reached::Never);
    }

    #[test]
    fn far_behind_the_ring_a_tail_is_unclear() {
        let mut progress = joined(0);
        let question = progress.ask(moment(20));
        for seq in 1..=defaults::BUS_RING as u64 + 5 {
            progress.receive(&record(seq));
        }
        assert_eq!(progress.polled(tail(2), question), Polled::Unclear);
    }
}
