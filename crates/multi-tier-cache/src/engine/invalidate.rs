//! Removals: revoke here, remove below, revoke here again. The second revocation is the one that counts: what was
//! read from a lower tier between the first and the removal there is refused or dropped by it.
//!
//! Below the coordinator first, so that nothing comes up from there; at the coordinator the removal takes effect for
//! the fleet and gets its place in the log.

use std::borrow::Cow;
use std::sync::Arc;

use super::finish::{Unfinished, finish};
use super::shared::{Outcome, Shared};
use super::{Answer, Engine, check_key};
use crate::backends::glob::Glob;
use crate::coordinator::{Change, Position, Tag};
use crate::defaults;
use crate::error::{CacheError, CacheResult, Failure};
use crate::local::Watch;
use crate::protection::Protection;
use crate::stack::Remote;
use crate::traits::Capabilities;

/// What is to be removed.
pub(crate) enum Removal<'a> {
    Key(Cow<'a, str>),
    /// Each once.
    Keys(Vec<Cow<'a, str>>),
    Pattern(Cow<'a, str>),
    Tag(Cow<'a, str>),
    Everything,
}

impl<'a> Removal<'a> {
    pub(crate) fn keys(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().map(Cow::Borrowed).collect();
        keys.sort_unstable();
        keys.dedup();
        Self::Keys(keys)
    }

    /// What is counted: keys, or one for everything of a kind.
    pub(super) fn count(&self) -> usize {
        if let Self::Keys(keys) = self { keys.len() } else { 1 }
    }

    pub(super) fn into_owned(self) -> Removal<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Key(key) => Removal::Key(owned(key)),
            Self::Keys(keys) => Removal::Keys(keys.into_iter().map(owned).collect()),
            Self::Pattern(pattern) => Removal::Pattern(owned(pattern)),
            Self::Tag(tag) => Removal::Tag(owned(tag)),
            Self::Everything => Removal::Everything,
        }
    }
}

impl Engine {
    /// Removes from a stack in which nothing is waited for.
    pub(super) fn remove_here(&self, what: &Removal<'_>) -> CacheResult<()> {
        match what {
            Removal::Key(key) => {
                check_key(key)?;
                self.local.revoke(key);
            }
            Removal::Keys(keys) => {
                keys.iter().try_for_each(|key| check_key(key))?;
                keys.iter().for_each(|key| self.local.revoke(key));
            }
            Removal::Pattern(pattern) => {
                let glob = Glob::new(pattern);
                self.local.revoke_where(&|key| glob.matches(key));
            }
            Removal::Tag(tag) => {
                let tag: Tag = (&**tag).into();
                self.check_tags(std::slice::from_ref(&tag))?;
                self.local.revoke_tag(&tag);
            }
            Removal::Everything => {
                self.check_clears()?;
                self.local.flush();
                self.local.revoke_where(&|_| true);
            }
        }
        Ok(())
    }

    /// Removes from the tiers that are awaited and those above them.
    pub(super) async fn remove_below(self: &Arc<Self>, what: &Removal<'_>) -> CacheResult<Option<Position>> {
        match what {
            Removal::Key(key) => self.invalidate(key).await,
            Removal::Keys(keys) => self.invalidate_many(&keys.iter().map(|key| &**key).collect::<Vec<_>>()).await,
            Removal::Pattern(pattern) => self.invalidate_pattern(pattern).await,
            Removal::Tag(tag) => self.remove_tag(tag).await,
            Removal::Everything => self.clear().await,
        }
    }

    /// Removes `key` from every tier, for every instance. On `Err` this process is clean, but a tier below may still
    /// have the key. Answers its place in the log.
    pub(super) async fn invalidate(self: &Arc<Self>, key: &str) -> CacheResult<Option<Position>> {
        check_key(key)?;
        self.follow_log();
        self.remove_one(key).await
    }

    /// Removes the keys of `watches`, which are sorted, with one message.
    pub(super) async fn remove_everywhere(&self, watches: &mut [Watch<Answer>]) -> CacheResult<Option<Position>> {
        let unfinished: Vec<_> = watches.iter().map(|watch| Unfinished::key(self, watch.key())).collect();
        let mut turns = Vec::with_capacity(watches.len());
        for watch in &*watches {
            turns.push(watch.turn().await);
        }
        let removed = self.remove_in_turn(watches, Refused::Owed).await;
        unfinished.into_iter().for_each(Unfinished::done);
        removed
    }

    /// The same for whoever has the turns to write the keys.
    pub(super) async fn remove_in_turn(
        &self,
        watches: &mut [Watch<Answer>],
        refused: Refused,
    ) -> CacheResult<Option<Position>> {
        let unfinished: Vec<_> = watches.iter().map(|watch| Unfinished::key(self, watch.key())).collect();
        watches.iter_mut().for_each(|watch| self.local.revoke_watched(watch));
        let outcome = self.remove_remote(watches, refused).await;
        if Protection::RevokeAtTheEnd.is_on() {
            watches.iter_mut().for_each(|watch| self.local.revoke_watched(watch));
        }
        unfinished.into_iter().for_each(Unfinished::done);
        outcome.map(|outcome| outcome.and_then(Outcome::settled)).map_err(still_there)
    }

    /// Removes the keys of `watches` from the tiers that are awaited, lowest first.
    async fn remove_remote(&self, watches: &[Watch<Answer>], refused: Refused) -> CacheResult<Option<Outcome<'_>>> {
        let (mut outcome, mut revoked) = (Ok(()), None);
        for (position, remote) in self.remotes() {
            if self.coordinates(position) {
                outcome = self.remove_shared(watches, refused).await.map(|outcome| revoked = outcome).and(outcome);
                continue;
            }
            for watch in watches {
                outcome = remote.remove(watch.key()).await.and(outcome);
            }
        }
        outcome.map(|()| revoked)
    }

    pub(super) async fn remove_shared(
        &self,
        watches: &[Watch<Answer>],
        refused: Refused,
    ) -> CacheResult<Option<Outcome<'_>>> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let failures = shared.remote.failures();
        let keys: Vec<Arc<str>> = watches.iter().map(|watch| Arc::clone(watch.key())).collect();
        let change = Change::Keys(keys);
        let outcome = shared.revoke(&change, &[], true).await;
        for watch in watches {
            match &outcome {
                Ok(_) => shared.remote.settle(watch.key(), failures),
                outcome if refused.applies_to(outcome) => {}
                Err(_) => shared.remote.owe(watch.key()),
            }
        }
        outcome.map(Some)
    }

    /// Removes several keys in one message. On `Err` some may be gone and others not; this process is clean.
    pub(super) async fn invalidate_many(self: &Arc<Self>, keys: &[&str]) -> CacheResult<Option<Position>> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let mut keys: Vec<&str> = keys.to_vec();
        // In one order, so that two writers of the same keys never wait for each other's turns.
        keys.sort_unstable();
        keys.dedup();
        self.follow_log();
        let mut outcome = Ok(None);
        for keys in keys.chunks(defaults::KEYS_PER_MESSAGE) {
            let mut watches: Vec<_> = keys.iter().map(|key| self.local.watch(key)).collect();
            let engine = Arc::clone(self);
            let removed = finish(async move { engine.remove_everywhere(&mut watches).await }).await;
            outcome = if outcome.is_ok() { removed } else { outcome };
        }
        outcome
    }

    /// Removes every key that matches a Redis glob pattern.
    pub(super) async fn invalidate_pattern(self: &Arc<Self>, pattern: &str) -> CacheResult<Option<Position>> {
        self.follow_log();
        let (engine, pattern, glob) = (Arc::clone(self), pattern.to_owned(), Glob::new(pattern));
        finish(async move { engine.sweep(&Sweep { pattern: &pattern, glob: &glob, clear: false }).await }).await
    }

    async fn sweep(&self, sweep: &Sweep<'_>) -> CacheResult<Option<Position>> {
        let matches = |key: &str| sweep.glob.matches(key);
        let unfinished = Unfinished::pattern(self, sweep.pattern, sweep.glob);
        let (mut outcome, mut revoked) = (Ok(()), None);
        for (position, remote) in self.remotes() {
            // A reader may have begun under the new stamp and still have found the old value, in a tier not yet
            // scanned. Before each scan such readers are refused, or waited for if they are writing it upwards.
            self.sweep_locally(sweep);
            for turn in self.local.turns_where(&matches) {
                drop(turn.lock().await);
            }
            let removed = match self.shared.as_ref().filter(|_| self.coordinates(position)) {
                Some(shared) => sweep.shared(shared).await.map(|outcome| revoked = outcome),
                None => sweep.tier(remote).await,
            };
            outcome = removed.and(outcome);
        }
        self.sweep_locally(sweep);
        unfinished.done();
        outcome.map(|()| revoked.and_then(Outcome::settled)).map_err(still_there)
    }

    fn sweep_locally(&self, sweep: &Sweep<'_>) {
        if sweep.clear {
            self.local.flush();
        } else {
            self.local.revoke_where(&|key| sweep.glob.matches(key));
        }
    }

    /// Whether every tier can tell this cache's keys from others.
    fn check_clears(&self) -> CacheResult<()> {
        let unable = self.tiers.iter().find(|tier| !tier.backend.capabilities().has(Capabilities::CLEAR));
        if let Some(tier) = unable {
            let (level, name) = (tier.level, tier.backend.name());
            return Err(CacheError::ConfigError(format!(
                "L{level} {name} cannot tell this cache's keys from others: give it a key prefix, or remove by tag or \
                 pattern"
            )));
        }
        Ok(())
    }

    /// Removes everything from every tier.
    pub(super) async fn clear(self: &Arc<Self>) -> CacheResult<Option<Position>> {
        self.check_clears()?;
        self.local.flush();
        self.follow_log();
        let engine = Arc::clone(self);
        let sweep = async move { engine.sweep(&Sweep { pattern: "*", glob: &Glob::new("*"), clear: true }).await };
        finish(sweep).await
    }

    /// Removes every entry with this tag, in one step however many there are.
    pub(super) async fn remove_tag(self: &Arc<Self>, tag: &str) -> CacheResult<Option<Position>> {
        let tag: Tag = tag.into();
        self.check_tags(std::slice::from_ref(&tag))?;
        self.follow_log();
        let engine = Arc::clone(self);
        finish(async move { engine.revoke_tag(&tag).await }).await
    }

    async fn revoke_tag(&self, tag: &Tag) -> CacheResult<Option<Position>> {
        let unfinished = Unfinished::tag(self, tag);
        self.local.revoke_tag(tag);
        let Some(shared) = &self.shared else { return Ok(None) };
        let outcome = shared.revoke(&Change::Tag(Arc::clone(tag)), &[], true).await;
        self.local.revoke_tag(tag);
        shared.tag_revoked(tag);
        unfinished.done();
        match outcome {
            Ok(outcome) => Ok(outcome.settled()),
            Err(error) => {
                shared.remote.owe_tag(tag);
                Err(still_there(error))
            }
        }
    }
}

/// What becomes of keys whose removal was refused, not merely unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The tier owes it.
    Owed,
    /// Its caller asks again for each key.
    AskedSingly,
}

impl Refused {
    /// Whether a removal ended so that each key is asked for again.
    pub(super) fn applies_to<T>(self, outcome: &CacheResult<T>) -> bool {
        self == Self::AskedSingly && outcome.as_ref().is_err_and(|error| !error.is_retryable())
    }
}

/// The keys that a scan removes.
struct Sweep<'a> {
    pattern: &'a str,
    glob: &'a Glob,
    /// All of them, whatever their names.
    clear: bool,
}

impl Sweep<'_> {
    async fn tier(&self, remote: &Arc<Remote>) -> CacheResult<()> {
        if self.clear { remote.clear().await } else { remote.remove_pattern(self.pattern).await }
    }

    /// The fence first: a load that began before is refused wherever the scan is when it ends. The message last:
    /// until the scan has ended, whoever dropped a key could read the old value again.
    async fn shared<'a>(&self, shared: &'a Shared) -> CacheResult<Option<Outcome<'a>>> {
        if !shared.keeps_log() {
            return self.tier(&shared.remote).await.map(|()| None);
        }
        let change = if self.clear { Change::Clear } else { Change::Pattern(self.pattern.into()) };
        let work = async {
            shared.fence().await?;
            self.tier(&shared.remote).await?;
            shared.revoke(&change, &[], true).await
        };
        let outcome = work.await;
        if outcome.as_ref().is_err_and(|error| !error.is_refusal()) {
            shared.remote.owe_pattern(self.pattern);
        }
        outcome.map(Some)
    }
}

/// Says that an outage may have left a shared copy behind; a mistake of the caller stays what it is.
pub(super) fn still_there(error: CacheError) -> CacheError {
    let CacheError::BackendError(failure) = &error else { return error };
    let tier = failure.tier().unwrap_or("a lower tier").to_owned();
    let reported = Failure::new(format!("the copy in {tier} may still be there: {failure}")).in_tier(tier);
    let reported = if failure.is_retryable() { reported.retryable() } else { reported };
    CacheError::InvalidationError(reported.during("invalidate").caused_by(error))
}
