//! Removals that a tier still owes: what it could not be told to forget, and so must not answer with.
//!
//! A put or removal that fails at a tier may leave the older value there. The removal is owed until it has been made
//! up for, which every later operation of the tier tries first. Until then reads of the keys concerned are refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::backends::glob::Glob;
use crate::defaults;

#[derive(Default)]
pub(crate) struct Owed {
    /// The size of the debts, for a look without their lock.
    count: AtomicUsize,
    debts: Mutex<Debts>,
    /// Held while debts are being made up for.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Debts {
    /// Each key with the number of its latest failure.
    keys: HashMap<Box<str>, u64>,
    patterns: HashMap<String, Glob>,
    /// Too many to remember: every key is owed.
    all: bool,
    /// Keys whose removal was refused for good.
    refused: HashSet<Box<str>>,
    failures: u64,
}

/// What a tier has to make up for next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    All,
    Pattern(String),
    /// Keys with the numbers of their failures.
    Keys(Vec<(Box<str>, u64)>),
}

impl Owed {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(crate) fn next(&self) -> Option<Debt> {
        let debts = self.debts.lock();
        if debts.all {
            return Some(Debt::All);
        }
        if let Some(pattern) = debts.patterns.keys().next() {
            return Some(Debt::Pattern(pattern.clone()));
        }
        let keys: Vec<_> = debts.keys.iter().take(defaults::KEY_CHUNK).map(|(k, n)| (k.clone(), *n)).collect();
        (!keys.is_empty()).then_some(Debt::Keys(keys))
    }

    /// Whether what the tier holds for `key` must not be read.
    pub(crate) fn concerns(&self, key: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let debts = self.debts.lock();
        debts.all
            || debts.keys.contains_key(key)
            || debts.refused.contains(key)
            || debts.patterns.values().any(|pattern| pattern.matches(key))
    }

    pub(crate) fn owe(&self, key: &str) {
        self.change(|debts| {
            debts.failures += 1;
            let failure = debts.failures;
            debts.keys.insert(key.into(), failure);
        });
    }

    pub(crate) fn owe_pattern(&self, pattern: &str) {
        self.change(|debts| {
            debts.patterns.insert(pattern.to_owned(), Glob::new(pattern));
        });
    }

    /// The key was removed or replaced.
    pub(crate) fn clear_key(&self, key: &str) {
        if !self.is_empty() {
            self.change(|debts| {
                debts.keys.remove(key);
                debts.refused.remove(key);
            });
        }
    }

    /// `debt` was made up for. A failure that came meanwhile is another debt.
    pub(crate) fn settle(&self, debt: &Debt) {
        self.change(|debts| match debt {
            Debt::All => debts.all = false,
            Debt::Pattern(pattern) => {
                debts.patterns.remove(pattern);
            }
            Debt::Keys(keys) => keys.iter().for_each(|(key, failure)| debts.forget(key, *failure)),
        });
    }

    /// The tier refuses to make up for `debt`, now and later.
    pub(crate) fn refuse(&self, debt: &Debt) {
        if let Debt::Keys(keys) = debt {
            self.change(|debts| {
                for (key, failure) in keys {
                    debts.forget(key, *failure);
                    debts.refused.insert(key.clone());
                }
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut Debts)) {
        let mut debts = self.debts.lock();
        change(&mut debts);
        let keys = debts.keys.len() + debts.refused.len();
        if keys > defaults::OWED_KEYS || debts.patterns.len() > defaults::OWED_PATTERNS {
            tracing::warn!("a tier owes the removal of too many keys: it is not read until it could be cleared");
            *debts = Debts { all: true, failures: debts.failures, ..Debts::default() };
        }
        let count = debts.keys.len() + debts.refused.len() + debts.patterns.len() + usize::from(debts.all);
        self.count.store(count, Ordering::Release);
    }
}

impl Debts {
    fn forget(&mut self, key: &str, failure: u64) {
        if self.keys.get(key) == Some(&failure) {
            self.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_during_the_attempt_is_a_debt_of_its_own() {
        let owed = Owed::default();
        owed.owe("k");
        let debt = owed.next().unwrap();
        owed.owe("k");
        owed.settle(&debt);
        assert!(!owed.is_empty());
        owed.settle(&owed.next().unwrap());
        assert!(owed.is_empty());
    }

    #[test]
    fn what_is_refused_for_good_concerns_that_key_alone() {
        let owed = Owed::default();
        owed.owe("k");
        owed.refuse(&owed.next().unwrap());
        assert_eq!(owed.next(), None);
        assert!(owed.concerns("k") && !owed.concerns("other"));
        owed.clear_key("k");
        assert!(owed.is_empty());
    }

    #[test]
    fn a_pattern_concerns_every_key_it_matches() {
        let owed = Owed::default();
        owed.owe_pattern("user:*");
        assert!(owed.concerns("user:1") && !owed.concerns("order:1"));
        owed.settle(&Debt::Pattern("user:*".into()));
        assert!(owed.is_empty());
    }

    #[test]
    fn too_many_debts_become_one_of_everything() {
        let owed = Owed::default();
        (0..=defaults::OWED_KEYS).for_each(|n| owed.owe(&n.to_string()));
        assert_eq!(owed.next(), Some(Debt::All));
        owed.settle(&Debt::All);
        assert!(owed.is_empty());
        (0..=defaults::OWED_PATTERNS).for_each(|n| owed.owe_pattern(&n.to_string()));
        assert_eq!(owed.next(), Some(Debt::All));
    }
}
