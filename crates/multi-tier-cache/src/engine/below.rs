//! What this instance wrote into shared tiers below the coordinator. They cannot fill conditionally, so for a while the
//! writer watches for invalidations of what it wrote, and takes it back.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::defaults;
use crate::invalidation::Counter;

#[derive(Default)]
pub(super) struct Below {
    recent: Mutex<Recent>,
    pub(super) taken_back: Counter,
}

#[derive(Default)]
struct Recent {
    written: HashMap<Arc<str>, Moment>,
    swept: Option<Moment>,
}

impl Below {
    /// Notes that `key` is about to be written; false if more are being watched than can be.
    pub(super) fn note(&self, key: &Arc<str>, now: Moment) -> bool {
        let mut recent = self.recent.lock();
        let due = recent.swept.is_none_or(|swept| now.since(swept) > defaults::TAKE_BACK_WINDOW / 4);
        if due || recent.written.len() >= defaults::TAKE_BACK_ENTRIES {
            recent.written.retain(|_, written| now.since(*written) < defaults::TAKE_BACK_WINDOW);
            recent.swept = Some(now);
        }
        if recent.written.len() >= defaults::TAKE_BACK_ENTRIES {
            return false;
        }
        recent.written.insert(Arc::clone(key), now);
        true
    }

    /// The matching keys written within the window: they are to be removed again.
    pub(super) fn take_back(&self, matches: &dyn Fn(&str) -> bool, now: Moment) -> Vec<Arc<str>> {
        let mut recent = self.recent.lock();
        let mut taken = Vec::new();
        recent.written.retain(|key, written| {
            let matched = matches(key);
            if matched && now.since(*written) < defaults::TAKE_BACK_WINDOW {
                taken.push(Arc::clone(key));
            }
            !matched
        });
        self.taken_back.add(taken.len());
        taken
    }

    /// The same for one key.
    pub(super) fn take_back_key(&self, key: &str, now: Moment) -> bool {
        let written = self.recent.lock().written.remove(key);
        let taken = written.is_some_and(|written| now.since(written) < defaults::TAKE_BACK_WINDOW);
        if taken {
            self.taken_back.one();
        }
        taken
    }
}

/// Whether a write took so long that readers may not be kept from what it stored any more.
pub(super) fn took_too_long(began: Moment, ended: Moment) -> bool {
    ended.since(began) > defaults::WRITE_BELOW_MAX
}
