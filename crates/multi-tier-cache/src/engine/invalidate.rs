//! Removals: revoke here, remove below, revoke here again. The second revocation is the one that counts: what was
//! read from a lower tier between the first and the removal there is refused or dropped by it.

use std::sync::Arc;

use super::finish::{Unfinished, finish};
use super::{Answer, Engine, check_key};
use crate::backends::glob::Glob;
use crate::error::{CacheError, CacheResult, Failure};
use crate::local::Watch;

impl Engine {
    /// Removes `key` from every tier. On `Err` this process is clean, but a tier below may still have the key.
    pub(crate) async fn invalidate(self: &Arc<Self>, key: &str) -> CacheResult<()> {
        check_key(key)?;
        if self.is_local() {
            self.local.revoke(key);
            return Ok(());
        }
        let (engine, watch) = (Arc::clone(self), self.local.watch(key));
        finish(async move { engine.remove_everywhere(watch).await }).await
    }

    pub(super) async fn remove_everywhere(&self, mut watch: Watch<Answer>) -> CacheResult<()> {
        let unfinished = Unfinished::key(self, watch.key());
        let _turn = watch.turn().await;
        self.local.revoke_watched(&mut watch);
        let mut outcome = Ok(());
        for (_, remote) in self.remotes() {
            outcome = remote.remove(watch.key()).await.and(outcome);
        }
        self.local.revoke_watched(&mut watch);
        unfinished.done();
        outcome.map_err(still_there)
    }

    /// Removes every key that matches a Redis glob pattern.
    pub(crate) async fn invalidate_pattern(self: &Arc<Self>, pattern: &str) -> CacheResult<()> {
        let glob = Glob::new(pattern);
        if self.is_local() {
            self.local.revoke_where(&|key| glob.matches(key));
            return Ok(());
        }
        let (engine, pattern) = (Arc::clone(self), pattern.to_owned());
        finish(async move { engine.remove_matching(&pattern, &glob).await }).await
    }

    async fn remove_matching(&self, pattern: &str, glob: &Glob) -> CacheResult<()> {
        let matches = |key: &str| glob.matches(key);
        let unfinished = Unfinished::pattern(self, pattern, glob);
        let mut outcome = Ok(());
        for (_, remote) in self.remotes() {
            // A reader may have begun under the new stamp and still have found the old value, in a tier not yet
            // scanned. Before each scan such readers are refused, or waited for if they are writing it upwards.
            self.local.revoke_where(&matches);
            for turn in self.local.turns_where(&matches) {
                drop(turn.lock().await);
            }
            outcome = remote.remove_pattern(pattern).await.and(outcome);
        }
        self.local.revoke_where(&matches);
        unfinished.done();
        outcome.map_err(still_there)
    }
}

/// Says that an outage may have left a shared copy behind; a mistake of the caller stays what it is.
fn still_there(error: CacheError) -> CacheError {
    let CacheError::BackendError(failure) = &error else { return error };
    let tier = failure.tier().unwrap_or("a lower tier").to_owned();
    let reported = Failure::new(format!("the copy in {tier} may still be there: {failure}")).in_tier(tier);
    let reported = if failure.is_retryable() { reported.retryable() } else { reported };
    CacheError::InvalidationError(reported.during("invalidate").caused_by(error))
}
