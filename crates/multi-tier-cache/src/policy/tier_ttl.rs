//! Absolute times to live of single tiers: a small table that is copied with the options it belongs to.

use std::time::Duration;

use super::freshness::refuse;
use crate::defaults;
use crate::error::CacheResult;

/// TTLs by level, in ascending order, filled from the front.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct TierTtls {
    slots: [Option<(usize, Duration)>; defaults::MAX_TIERS],
    /// A level that found no slot; a builder cannot fail, so `check` does.
    homeless: Option<usize>,
}

impl TierTtls {
    pub(super) fn set(&mut self, level: usize, ttl: Duration) {
        let usable = |slot: &&mut Option<(usize, Duration)>| slot.is_none_or(|(taken, _)| taken == level);
        match self.slots.iter_mut().find(usable) {
            Some(slot) => *slot = Some((level, ttl)),
            None => self.homeless = Some(level),
        }
        // Two tables are equal if they say the same, whatever was said first.
        self.slots.sort_unstable_by_key(|slot| (slot.is_none(), *slot));
    }

    pub(super) fn get(&self, level: usize) -> Option<Duration> {
        let of_level = |(known, ttl): &(usize, Duration)| (*known == level).then_some(*ttl);
        self.slots.iter().flatten().find_map(of_level)
    }

    pub(super) fn check(&self) -> CacheResult<()> {
        if let Some(level) = self.homeless {
            let most = defaults::MAX_TIERS;
            return refuse("with_tier_ttl", &format!("tier {level} is one too many; set at most {most} levels"));
        }
        match self.slots.iter().flatten().find(|(_, ttl)| ttl.is_zero()) {
            Some((level, _)) => {
                refuse("with_tier_ttl", &format!("a TTL of zero keeps nothing in tier {level}; use one above zero"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(levels: impl IntoIterator<Item = (usize, u64)>) -> TierTtls {
        let mut table = TierTtls::default();
        levels.into_iter().for_each(|(level, seconds)| table.set(level, Duration::from_secs(seconds)));
        table
    }

    #[test]
    fn the_last_word_about_a_level_counts_and_the_order_does_not() {
        let ttls = table([(usize::MAX, 9), (2, 5), (1, 1), (2, 7)]);
        assert_eq!(ttls, table([(1, 1), (2, 7), (usize::MAX, 9)]));
        assert_eq!(
            [1, 2, 3, usize::MAX].map(|level| ttls.get(level).map(|ttl| ttl.as_secs())),
            [Some(1), Some(7), None, Some(9)]
        );
    }

    #[test]
    fn a_full_table_takes_new_words_about_its_levels_only() {
        let full = table((1..=8).map(|level| (level, 1)));
        full.check().expect("as many as there is room for");
        let mut changed = full;
        changed.set(8, Duration::from_secs(2));
        changed.check().expect("a level of the table");
        assert_eq!(changed.get(8), Some(Duration::from_secs(2)));
        changed.set(9, Duration::from_secs(1));
        let error = changed.check().expect_err("no room");
        assert!(error.to_string().contains("tier 9 is one too many; set at most 8"), "{error}");
        assert_eq!(changed.get(9), None);
    }
}
