//! What is left when everything has come to its end.

use std::time::Duration;

use super::instance::Instance;
use super::{NAMES, Shared, letter};
use crate::history::INSTANCES;

impl Shared {
    pub(super) fn judge_at_rest(&self) {
        for (key, name) in NAMES.into_iter().enumerate() {
            let raw = if self.plan.tagged { None } else { self.hub.peek(name) };
            self.history.lock().judge_at_rest("the hub", key, raw.as_ref(), None);
            let below = self.below.as_ref().filter(|_| !self.plan.tagged).and_then(|below| below.peek(name));
            self.history.lock().judge_at_rest("the tier below", key, below.as_ref(), None);
        }
        for (number, instance) in self.instances.iter().enumerate() {
            for (key, name) in NAMES.into_iter().enumerate() {
                let found = self.drive(instance.cache().get(name)).ok().flatten();
                let place = format!("{}'s cache", letter(number));
                self.history.lock().judge_at_rest(&place, key, found.as_ref(), Some(number));
                let owed = self.drive(instance.cache().health()).iter().any(|tier| tier.owed_removals > 0);
                let private = instance.private.as_ref().filter(|_| !owed).and_then(|private| private.peek(name));
                let place = format!("{}'s own tier", letter(number));
                self.history.lock().judge_at_rest(&place, key, private.as_ref(), Some(number));
            }
            let left = instance.cache().get_stats().in_flight_requests;
            if left > 0 {
                let complaint = format!("{left} keys are left in flight at {}", letter(number));
                self.history.lock().violation.get_or_insert(complaint);
            }
        }
        if self.plan.tagged || self.plan.below {
            self.judge_by_newcomer();
        }
    }

    /// What an instance with empty tiers finds, once nothing is closed to it any more.
    fn judge_by_newcomer(&self) {
        self.clock.advance(Duration::from_secs(61));
        let newcomer = Instance::new(0, &self.plan, &self.hub, &self.clock, self.below.as_ref(), None);
        for (key, name) in NAMES.into_iter().enumerate() {
            let found = self.drive(newcomer.cache().get(name)).ok().flatten();
            self.history.lock().judge_at_rest("a newcomer", key, found.as_ref(), Some(INSTANCES));
        }
    }
}
