//! Calls that leave out tiers: which these are, and what the others and they themselves hold afterwards.

use std::sync::Arc;

use super::write::Led;
use super::{Engine, Hit, Source};
use crate::error::{CacheError, CacheResult};
use crate::local::Left;

impl Engine {
    /// The places of the tiers of these levels, for a call that leaves them out.
    pub(crate) fn places(&self, levels: &[usize]) -> CacheResult<Vec<usize>> {
        let place = |level: &usize| {
            let place = self.tiers.iter().position(|tier| tier.level == *level);
            place.ok_or_else(|| {
                let levels: Vec<String> = self.tiers.iter().map(|tier| tier.level.to_string()).collect();
                CacheError::ConfigError(format!(
                    "CallOptions::skipping({level}) names no tier of this stack: choose one of its levels, {}",
                    levels.join(", ")
                ))
            })
        };
        levels.iter().map(place).collect()
    }

    /// What a caller that skips these tiers stores. Nothing goes up beyond one of them from below: it may have something
    /// newer. What is loaded is newer than what any has.
    pub(super) fn leave_out(&self, skipped: &[usize], mut led: Led) -> Led {
        match &led.answer {
            _ if skipped.is_empty() => {}
            Ok(Some(Hit { entry, source: Source::Tier(source) })) => {
                let above = skipped.iter().copied().filter(|position| position < source);
                let lowest = above.clone().max();
                led.copies.retain(|(position, _)| lowest.is_none_or(|lowest| lowest < *position));
                let positions = above.filter(|position| self.remote(*position).is_none()).collect();
                led.left = Left { positions, older_than: entry.facts().map(|facts| facts.made) };
            }
            _ => {
                led.copies.retain(|(position, _)| !skipped.contains(position));
                let uncoordinated = skipped.iter().any(|position| self.coordinates(*position));
                let left =
                    |position: &usize| skipped.contains(position) || uncoordinated && self.remote(*position).is_some();
                if !led.copies.is_empty() {
                    led.left.positions = (0..self.tiers.len()).filter(left).collect();
                }
            }
        }
        led
    }

    /// Removes the key from those of these tiers that are awaited, lowest first. Others need not hear of it: what they
    /// have is no older than before. What a tier cannot remove it owes.
    pub(super) async fn forget_at(&self, positions: &[usize], key: &Arc<str>) {
        for (position, remote) in self.remotes().filter(|(position, _)| positions.contains(position)) {
            match self.shared.as_ref().filter(|_| self.coordinates(position)) {
                Some(shared) => shared.forget_quietly(key).await,
                None => drop(remote.remove(key).await),
            }
        }
    }
}
