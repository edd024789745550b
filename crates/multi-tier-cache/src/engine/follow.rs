//! What the log of invalidations does to this instance: it drops, it never stores.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::Engine;
use crate::backends::glob::Glob;
use crate::clock::Moment;
use crate::coordinator::Recorded;
use crate::invalidation::Follower;
use crate::protection::Protection;
use crate::traits::Capabilities;

impl Engine {
    /// Sees to it that the log is followed, on the current runtime if on none yet.
    #[inline]
    pub(super) fn follow_log(&self) {
        if let Some(bus) = self.bus() {
            bus.start();
        }
    }

    /// `key` changed elsewhere.
    fn changed(&self, key: &str) {
        self.local.revoke(key);
        let taken_back = Protection::TakeBack.is_on() && self.below.take_back_key(key, self.options.clock.now());
        for (position, remote) in self.remotes() {
            if self.is_private(position) || taken_back && self.is_below(position) {
                remote.owe(key);
            }
        }
    }

    fn changed_where(&self, pattern: &str, matches: &dyn Fn(&str) -> bool) {
        let taken_back = self.below.take_back(matches, self.options.clock.now());
        for (position, remote) in self.remotes() {
            if self.is_private(position) {
                remote.owe_pattern(pattern);
            } else if self.is_below(position) {
                taken_back.iter().for_each(|key| remote.owe(key));
            }
        }
    }

    /// Whether the tier is awaited but of this instance alone.
    fn is_private(&self, position: usize) -> bool {
        !self.coordinates(position)
            && self.tiers.get(position).is_some_and(|tier| !tier.backend.capabilities().has(Capabilities::SHARED))
    }
}

impl Follower for Engine {
    fn apply(&self, change: &Recorded) {
        match change {
            Recorded::Keys(keys) => keys.iter().for_each(|key| self.changed(key)),
            Recorded::Put(key) => self.changed(key),
            Recorded::Pattern(pattern) => {
                let glob = Glob::new(pattern);
                self.local.revoke_where(&|key| glob.matches(key));
                self.changed_where(pattern, &|key| glob.matches(key));
            }
            Recorded::Tag(tag) => {
                self.local.revoke_tag(tag);
                self.shared.iter().for_each(|shared| shared.tag_revoked(tag));
            }
            Recorded::Clear | Recorded::Unknown => self.forget_everything(),
        }
    }

    fn forget_everything(&self) {
        self.local.flush();
        self.changed_where("*", &|_| true);
    }

    fn prove(&self, moment: Moment) {
        self.local.horizon().prove(moment);
    }

    fn replay(&self, changes: Vec<Recorded>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let engine = Weak::clone(&self.itself);
        runtime.spawn(async move {
            for change in changes {
                let Some(engine) = engine.upgrade() else { return };
                // What fails is owed, and made up for like every invalidation.
                if let Err(error) = engine.redo(change).await {
                    tracing::error!(%error, "an invalidation that a failover may have lost could not be done again yet");
                }
            }
        });
    }
}

impl Engine {
    async fn redo(self: &Arc<Self>, change: Recorded) -> crate::error::CacheResult<()> {
        match change {
            Recorded::Keys(keys) => {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                self.invalidate_many(&keys).await.map(drop)
            }
            Recorded::Put(key) => self.invalidate(&key).await.map(drop),
            Recorded::Pattern(pattern) => self.invalidate_pattern(&pattern).await.map(drop),
            Recorded::Tag(tag) => self.remove_tag(&tag).await.map(drop),
            Recorded::Clear | Recorded::Unknown => self.clear().await.map(drop),
        }
    }
}
