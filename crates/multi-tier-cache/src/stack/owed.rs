//! Removals that a tier still owes: what it could not be told to forget, and so must not answer with.
//!
//! A put or removal that fails at a tier may leave the older value there. It is owed until it has been made up for: in
//! the background, or by a read of the key itself. Every failure has a number, and an attempt that began before a
//! failure does not settle it.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;

use crate::backends::glob::Glob;
use crate::defaults;

#[derive(Default)]
pub(crate) struct Owed {
    /// The size of the debts, for a look without their lock.
    count: AtomicUsize,
    debts: Mutex<Debts>,
}

#[derive(Default)]
struct Debts {
    /// The number of the latest failure.
    failures: u64,
    keys: HashMap<Box<str>, u64>,
    /// Hashes of keys that are too many to keep, or that the tier refuses to remove: left to whoever reads them.
    hashes: HashSet<u64>,
    hasher: RandomState,
    patterns: HashMap<String, Pattern>,
    tags: HashMap<Box<str>, TagDebt>,
    /// More than can be remembered at all.
    all: bool,
}

struct Pattern {
    glob: Glob,
    failure: u64,
    /// The tier refuses it for good.
    refused: bool,
    /// Hashes of keys that were stored anew since: what the tier has of them may be read.
    stored_since: HashSet<u64>,
}

struct TagDebt {
    failure: u64,
    refused: bool,
}

/// What the background makes up for next, with the failures it knows of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    Keys(Vec<(Box<str>, u64)>),
    Pattern(String, u64),
    Tag(Box<str>, u64),
}

impl Owed {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys and patterns that are owed.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether what the tier holds for `key` must not be read; the number of the latest failure if so.
    pub(crate) fn concerns(&self, key: &str) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let debts = self.debts.lock();
        let concerned = debts.all
            || debts.keys.contains_key(key)
            || debts.hashes.contains(&debts.hasher.hash_one(key))
            || debts.patterns.values().any(|pattern| pattern.concerns(key, &debts.hasher));
        concerned.then_some(debts.failures)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.debts.lock().failures
    }

    pub(crate) fn owe(&self, key: &str) {
        self.change(|debts| {
            debts.failures += 1;
            if debts.keys.len() < defaults::OWED_KEYS || debts.keys.contains_key(key) {
                debts.keys.insert(key.into(), debts.failures);
            } else {
                debts.hashes.insert(debts.hasher.hash_one(key));
            }
        });
    }

    pub(crate) fn owe_pattern(&self, pattern: &str) {
        self.change(|debts| {
            debts.failures += 1;
            let (glob, failure) = (Glob::new(pattern), debts.failures);
            let refused = debts.patterns.get(pattern).is_some_and(|known| known.refused);
            let stored_since = HashSet::default();
            debts.patterns.insert(pattern.to_owned(), Pattern { glob, failure, refused, stored_since });
        });
    }

    pub(crate) fn owe_tag(&self, tag: &str) {
        self.change(|debts| {
            debts.failures += 1;
            debts.tags.insert(tag.into(), TagDebt { failure: debts.failures, refused: false });
        });
    }

    /// Whether entries with this tag must not be read.
    pub(crate) fn concerns_tag(&self, tag: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let debts = self.debts.lock();
        debts.all || debts.tags.contains_key(tag)
    }

    pub(crate) fn settle_tag(&self, tag: &str, failures: u64) {
        self.change(|debts| {
            if debts.tags.get(tag).is_some_and(|debt| debt.failure <= failures) {
                debts.tags.remove(tag);
            }
        });
    }

    /// The tag's removal is refused, now and later: its entries stay unread.
    pub(crate) fn refuse_tag(&self, tag: &str) {
        self.change(|debts| {
            if let Some(debt) = debts.tags.get_mut(tag) {
                debt.refused = true;
            }
        });
    }

    /// `key` was removed or replaced by an attempt that began when there were this many `failures`.
    pub(crate) fn settle(&self, key: &str, failures: u64) {
        if !self.is_empty() {
            self.change(|debts| {
                if debts.keys.get(key).is_some_and(|failure| *failure <= failures) {
                    debts.keys.remove(key);
                }
                // Hashes have no numbers: they are settled while nothing has failed since.
                if debts.failures <= failures {
                    debts.hashes.remove(&debts.hasher.hash_one(key));
                }
                let hash = debts.hasher.hash_one(key);
                let left = |pattern: &&mut Pattern| pattern.refused && pattern.failure <= failures;
                for pattern in debts.patterns.values_mut().filter(left) {
                    if pattern.stored_since.len() < defaults::OWED_KEYS && pattern.glob.matches(key) {
                        pattern.stored_since.insert(hash);
                    }
                }
            });
        }
    }

    pub(crate) fn settle_pattern(&self, pattern: &str, failures: u64) {
        if !self.is_empty() {
            self.change(|debts| {
                if debts.patterns.get(pattern).is_some_and(|known| known.failure <= failures) {
                    debts.patterns.remove(pattern);
                }
            });
        }
    }

    /// Keys first: a pattern that takes long or fails must not keep them waiting.
    pub(crate) fn next(&self, keys: usize) -> Option<Debt> {
        let debts = self.debts.lock();
        if !debts.keys.is_empty() {
            return Some(Debt::Keys(debts.keys.iter().take(keys).map(|(k, n)| (k.clone(), *n)).collect()));
        }
        if let Some((tag, debt)) = debts.tags.iter().find(|(_, debt)| !debt.refused) {
            return Some(Debt::Tag(tag.clone(), debt.failure));
        }
        let (pattern, known) = debts.patterns.iter().find(|(_, pattern)| !pattern.refused)?;
        Some(Debt::Pattern(pattern.clone(), known.failure))
    }

    /// The tier refuses to remove `key`, now and later: it is left to whoever reads it.
    pub(crate) fn refuse(&self, key: &str) {
        self.change(|debts| {
            if debts.keys.remove(key).is_some() {
                debts.hashes.insert(debts.hasher.hash_one(key));
            }
        });
    }

    /// The tier refuses `pattern`, now and later: what matches is left to whoever reads it.
    pub(crate) fn refuse_pattern(&self, pattern: &str) {
        self.change(|debts| {
            if let Some(pattern) = debts.patterns.get_mut(pattern) {
                pattern.refused = true;
            }
            // A tier that refuses patterns refuses them all: many of them are remembered as one.
            if debts.patterns.values().filter(|pattern| pattern.refused).count() > defaults::REFUSED_PATTERNS {
                debts.patterns.retain(|_, pattern| !pattern.refused);
                debts.failures += 1;
                let (glob, failure) = (Glob::new("*"), debts.failures);
                let everything = Pattern { glob, failure, refused: true, stored_since: HashSet::default() };
                debts.patterns.insert("*".to_owned(), everything);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Debts)) {
        let mut debts = self.debts.lock();
        change(&mut debts);
        let too_many = debts.patterns.len().max(debts.tags.len()) > defaults::OWED_PATTERNS;
        if debts.hashes.len() > defaults::OWED_HASHES || too_many {
            tracing::error!("a tier owes more removals than can be remembered: nothing in it is read any more");
            let (failures, hasher) = (debts.failures, debts.hasher.clone());
            *debts = Debts { all: true, failures, hasher, ..Debts::default() };
        }
        let named = debts.keys.len() + debts.hashes.len() + debts.patterns.len() + debts.tags.len();
        let count = named + usize::from(debts.all);
        self.count.store(count, Ordering::Release);
    }
}

impl Pattern {
    fn concerns(&self, key: &str, hasher: &RandomState) -> bool {
        self.glob.matches(key) && !(self.refused && self.stored_since.contains(&hasher.hash_one(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_after_a_refused_pattern_may_be_read() {
        let owed = Owed::default();
        owed.owe_pattern("*");
        owed.refuse_pattern("*");
        assert!(owed.concerns("a").is_some());
        owed.settle("a", owed.failures());
        assert!(owed.concerns("a").is_none() && owed.concerns("b").is_some());
        owed.owe_pattern("*");
        assert!(owed.concerns("a").is_some(), "a later removal concerns it again");
        assert_eq!(owed.next(1), None, "it is not asked again");
    }

    #[test]
    fn many_refused_patterns_are_remembered_as_one() {
        let owed = Owed::default();
        for n in 0..=defaults::REFUSED_PATTERNS {
            owed.owe_pattern(&n.to_string());
            owed.refuse_pattern(&n.to_string());
        }
        assert_eq!(owed.len(), 1);
        assert!(owed.concerns("anything").is_some());
    }

    #[test]
    fn a_failure_during_the_attempt_is_a_debt_of_its_own() {
        let owed = Owed::default();
        owed.owe("k");
        owed.owe_pattern("p*");
        let began = owed.failures();
        owed.owe("k");
        owed.owe_pattern("p*");
        owed.settle("k", began);
        owed.settle_pattern("p*", began);
        assert!(owed.concerns("k").is_some() && owed.concerns("p1").is_some());
        owed.settle("k", owed.failures());
        owed.settle_pattern("p*", owed.failures());
        assert!(owed.is_empty());
    }

    #[test]
    fn what_is_refused_for_good_is_left_to_its_readers() {
        let owed = Owed::default();
        owed.owe("k");
        owed.owe_pattern("p*");
        owed.refuse("k");
        owed.refuse_pattern("p*");
        assert_eq!(owed.next(10), None);
        assert!(owed.concerns("k").is_some() && owed.concerns("p1").is_some() && owed.concerns("other").is_none());
        owed.settle("k", owed.failures());
        assert!(owed.concerns("k").is_none());
    }

    #[test]
    fn keys_too_many_to_keep_are_known_by_their_hashes() {
        let owed = Owed::default();
        (0..defaults::OWED_KEYS + 10).for_each(|n| owed.owe(&n.to_string()));
        let last = (defaults::OWED_KEYS + 9).to_string();
        assert_eq!(owed.len(), defaults::OWED_KEYS + 10);
        assert!(owed.concerns(&last).is_some() && owed.concerns("never failed").is_none());
        owed.settle(&last, owed.failures());
        assert!(owed.concerns(&last).is_none());
    }

    #[test]
    fn beyond_all_bounds_nothing_is_read() {
        let owed = Owed::default();
        (0..=defaults::OWED_PATTERNS).for_each(|n| owed.owe_pattern(&n.to_string()));
        assert!(owed.concerns("anything").is_some());
    }
}
