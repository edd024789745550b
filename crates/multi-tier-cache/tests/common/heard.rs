//! A listener that writes down what it hears.

use std::sync::Arc;

use multi_tier_cache::telemetry::{CacheEvent, EventListener};
use parking_lot::Mutex;

/// What was heard: cache, operation, activity and count of each event.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// Everything since the last question.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl EventListener for Heard {
    fn on_event(&self, event: &CacheEvent<'_>) {
        let CacheEvent { cache, operation, activity, count, .. } = event;
        let count = if *count == 1 { String::new() } else { format!(" x{count}") };
        self.0.lock().push(format!("{cache} {} {}{count}", operation.as_str(), activity.as_str()));
    }
}
