//! Reads: one function from the first look to the answer.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::{Answer, Engine, Hit, Load, Source, check_key};
use crate::clock::Moment;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::local::{Join, Kind, Origin, Turn};
use crate::stack::{Ask, Store, Tier};

/// What a reader wants, and so which flight it takes part in.
pub(crate) enum Wanted<'a> {
    /// What is stored. Never waits for a loader.
    Stored,
    /// A value: what is stored if the loader accepts it, else what it computes, kept for this long.
    Loaded(&'a mut dyn Load, Duration),
}

/// What the tiers know of a key.
enum Found {
    /// The hit, and whether its tier's lot was drawn for promotion.
    Hit(Hit, bool),
    Miss,
    /// No tier has it, but this one could not be asked.
    Unknown(CacheError),
}

impl Engine {
    /// What `take` makes of a hit in the leading in-process tiers: no await, and no allocation unless it is promoted.
    /// An entry that `take` has no use for is no hit.
    #[inline]
    pub(crate) fn hit<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let Some(entry) = self.local.lookup_first(key) else { return self.hit_next(key, take) };
        let taken = take(entry)?;
        self.stats.hit(0);
        Some(taken)
    }

    fn hit_next<R>(&self, key: &str, take: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        let (position, entry) = self.local.lookup_next(key)?;
        let taken = take(entry.clone())?;
        self.promote_locally(key, position, &entry);
        self.stats.hit(position);
        Some(taken)
    }

    /// The value of `key` and where it came from, once the leading tiers gave no [`hit`](Self::hit). Dropping the
    /// future hands a flight it leads to a follower.
    pub(crate) async fn read(self: &Arc<Self>, key: &str, mut wanted: Wanted<'_>) -> Answer {
        check_key(key)?;
        if wanted.kind() == Kind::Lookup && self.is_local() {
            // Nothing to wait for: what was not a hit is absent, or an object that has no bytes.
            let found = self.local.lookup_first(key).map(|entry| Hit { entry, source: Source::Tier(0) });
            return self.counted(Ok(found), &wanted);
        }
        loop {
            let lead = match self.local.join(key, wanted.kind()) {
                Join::Lead(lead) => lead,
                Join::Follow(follower) => match follower.await {
                    Turn::Lead(lead) => lead,
                    Turn::Again => continue,
                    Turn::Landed(Ok(Some(hit))) => match wanted.accept(hit.entry) {
                        Some(entry) => return self.counted(Ok(Some(Hit { entry, ..hit })), &wanted),
                        None => continue,
                    },
                    Turn::Landed(answer) => return self.counted(answer, &wanted),
                },
            };
            // The leader's stamp is older than everything it reads from here on.
            let (origin, copies, answer) = match (self.find(key, &mut wanted).await, &mut wanted) {
                (Found::Hit(hit, promote), _) => (Origin::Copy, self.copies_above(key, &hit, promote), Ok(Some(hit))),
                (Found::Miss, Wanted::Stored) => (Origin::Copy, Vec::new(), Ok(None)),
                (Found::Unknown(error), Wanted::Stored) => (Origin::Copy, Vec::new(), Err(error)),
                (_, Wanted::Loaded(loader, ttl)) => match self.load(&mut **loader).await {
                    Ok(hit) => (Origin::Source, self.copies_everywhere(&hit.entry, *ttl), Ok(Some(hit))),
                    Err(error) => (Origin::Source, Vec::new(), Err(error)),
                },
            };
            let answer = self.settle(lead, origin, copies, answer).await;
            return self.counted(answer, &wanted);
        }
    }

    /// Asks every tier in order.
    async fn find(&self, key: &str, wanted: &mut Wanted<'_>) -> Found {
        let mut outage = None;
        for (position, tier) in self.tiers.iter().enumerate() {
            // Drawn before the read: only what is promoted needs the remaining TTL.
            let promote = position > 0 && self.may_promote(tier);
            match self.ask(tier, key, promote).await {
                Ok(Some(found)) => {
                    let undecoded = !found.has_object();
                    let Some(entry) = wanted.accept(found) else { continue };
                    if undecoded && entry.has_object() {
                        self.local.replace_same(key, position, &entry);
                    }
                    return Found::Hit(Hit { entry, source: Source::Tier(position) }, promote);
                }
                Ok(None) => {}
                Err(error) => outage = Some(error),
            }
        }
        outage.map_or(Found::Miss, Found::Unknown)
    }

    async fn ask(&self, tier: &Tier, key: &str, promote: bool) -> CacheResult<Option<Entry>> {
        let remote = match &tier.store {
            Store::Local(face) => return Ok(face.lookup(key)),
            Store::Remote(remote) => remote,
        };
        // The remaining time is counted from before the question: a copy must not outlive its source by the way back.
        let asked = self.options.clock.now();
        let found = remote.get(key, if promote { Ask::ValueAndTtl } else { Ask::Value }).await?;
        Ok(found.map(|(bytes, ttl)| {
            let expires = ttl.map_or(Moment::NEVER, |ttl| asked.after(ttl));
            Entry::from_bytes(bytes, expires)
        }))
    }

    /// Runs the loader; a panic in it, or in encoding what it made, is an error to its caller and to every follower.
    async fn load(&self, loader: &mut dyn Load) -> CacheResult<Hit> {
        let load = async {
            let entry = loader.load().await?;
            if !self.is_local() {
                entry.bytes()?;
            }
            Ok(Hit { entry, source: Source::Loader })
        };
        AssertUnwindSafe(load).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
    }

    /// One request, one count.
    fn counted(&self, answer: Answer, wanted: &Wanted<'_>) -> Answer {
        match (&answer, wanted) {
            (Ok(Some(Hit { source: Source::Tier(position), .. })), _) => self.stats.hit(*position),
            (Ok(_), _) | (Err(_), Wanted::Loaded(..)) => self.stats.miss(),
            (Err(_), Wanted::Stored) => {}
        }
        answer
    }
}

impl Wanted<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Stored => Kind::Lookup,
            Self::Loaded(..) => Kind::Load,
        }
    }

    fn accept(&mut self, entry: Entry) -> Option<Entry> {
        match self {
            Self::Stored => Some(entry),
            Self::Loaded(loader, _) => loader.accept(entry),
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> CacheError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    CacheError::InternalError(format!("the loader panicked: {}", text.unwrap_or("(no message)")))
}
