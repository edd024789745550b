//! The engine: reads, fills, puts and removals over the tiers of one stack. It knows no driver and no user's type.
//!
//! # The flow of a read
//!
//! 1. The leading in-process tiers are asked synchronously ([`read`]). A hit ends here.
//! 2. The caller leads or follows the key's flight ([`crate::local`]). A follower gets the leader's answer, or leads
//!    in its place if it went away.
//! 3. The leader asks every tier in order, then, if it may, its loader ([`load`]).
//! 4. What it found is copied into the tiers above, what it loaded into all of them ([`write`]): lowest tier first,
//!    each store refused if the key was revoked since the leader began.
//! 5. Landing the flight gives every follower the answer.
//!
//! # The flow of a change
//!
//! A put or removal ([`write`], [`invalidate`]) waits for its turn among the writers of its key, revokes the key here,
//! changes the tiers that are awaited, lowest first, revokes once more and ends in the in-process tiers. If its caller
//! goes away it goes on in a task of its own ([`finish`]), so that nothing is left half-done.

mod finish;
mod invalidate;
mod load;
mod read;
mod stats;
mod write;

use std::sync::Arc;

pub(crate) use load::{BytesLoad, Load, SharedLoad, TypedLoad};
pub(crate) use read::Wanted;
pub use stats::CacheManagerStats;

use crate::clock::Clock;
use crate::defaults;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::local::{Local, Store as LocalStore};
use crate::policy::PromotionCondition;
use crate::stack::{CacheTier, Store, Tier, TierStats, validate};
use stats::Stats;

pub(crate) struct Engine {
    tiers: Vec<Tier>,
    local: Local<Answer>,
    stats: Stats,
    options: Options,
}

/// What holds for every operation of an engine.
pub(crate) struct Options {
    pub(crate) clock: Clock,
    pub(crate) max_value_bytes: usize,
    pub(crate) promote_if: Option<PromotionCondition>,
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) entry: Entry,
    pub(crate) source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The tier at this position, from 0.
    Tier(usize),
    Loader,
}

/// What a read ends with, and what a flight gives its followers.
pub(crate) type Answer = CacheResult<Option<Hit>>;

impl Engine {
    pub(crate) fn new(tiers: Vec<CacheTier>, options: Options) -> CacheResult<Arc<Self>> {
        let tiers = validate(tiers, &options.clock)?;
        let stores = tiers.iter().enumerate().filter_map(|(position, tier)| match &tier.store {
            Store::Local(face) => Some(LocalStore { position, face: Arc::clone(face) }),
            Store::Remote(_) => None,
        });
        let local = Local::new(stores.collect());
        let stats = Stats::new(tiers.len());
        Ok(Arc::new(Self { tiers, local, stats, options }))
    }

    pub(crate) fn stats(&self) -> CacheManagerStats {
        self.stats.snapshot(self.local.in_flight())
    }

    pub(crate) fn tier_stats(&self) -> Vec<TierStats> {
        let stats = |(position, tier): (usize, &Tier)| {
            TierStats::new(tier.level, tier.backend.name().to_owned(), self.stats.hits_of(position))
        };
        self.tiers.iter().enumerate().map(stats).collect()
    }

    pub(crate) fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Whether every tier is inside this process.
    fn is_local(&self) -> bool {
        self.local.leading() == self.tiers.len()
    }
}

fn check_key(key: &str) -> CacheResult<()> {
    if key.len() <= defaults::MAX_KEY_BYTES {
        return Ok(());
    }
    Err(CacheError::ConfigError(format!(
        "a key of {} bytes exceeds the limit of {}; hash long keys before caching",
        key.len(),
        defaults::MAX_KEY_BYTES
    )))
}
