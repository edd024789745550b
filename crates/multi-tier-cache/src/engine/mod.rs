//! The engine: reads, fills, puts and removals over the tiers of one stack. It knows no driver and no user's type.
//!
//! # The flow of a read
//!
//! 1. The leading in-process tiers are asked synchronously ([`hit`]). A hit ends here.
//! 2. The caller leads or follows the key's flight ([`crate::local`]). A follower gets the leader's answer, or leads
//!    in its place if it went away.
//! 3. The leader asks every tier in order, then, if it may, its loader ([`load`]).
//! 4. What it found is copied into the tiers above, what it loaded into all of them ([`write`]): lowest tier first,
//!    each store refused if the key was revoked since the leader began.
//! 5. Landing the flight gives every follower the answer.
//!
//! A batch ([`batch`]) takes the same steps for many keys at once.
//!
//! # The flow of a change
//!
//! A put or removal ([`write`], [`invalidate`]) waits for its turn among the writers of its key, revokes the key here,
//! changes the tiers that are awaited, lowest first, revokes once more and ends in the in-process tiers. If its caller
//! goes away it goes on in a task of its own ([`finish`]), so that nothing is left half-done.

mod batch;
mod below;
mod finish;
mod follow;
mod form;
mod health;
mod hit;
mod invalidate;
mod load;
mod metrics;
mod read;
mod record;
mod removals;
mod shared;
mod skip;
mod slowly;
mod stats;
mod timer;
mod write;

use std::sync::{Arc, Weak};

use tokio::sync::Semaphore;

pub(crate) use batch::{Given, Reader};
pub(crate) use finish::{Finish, finish};
pub(crate) use invalidate::Removal;
pub(crate) use load::{BytesLoad, Fresh, Judge, Load, Made, SharedLoad, Stay, TypedLoad};
pub(crate) use read::{Keep, Wanted, panicked};
pub(crate) use slowly::slowly;
pub use stats::CacheManagerStats;
pub(crate) use timer::within;
pub(crate) use write::Put;

use crate::clock::Clock;
use crate::coordinator::{Position, SharedCoordinator, Tag};
use crate::defaults;
use crate::entry::Entry;
use crate::error::{CacheError, CacheResult};
use crate::invalidation::{Bus, CoherenceConfig, CoherenceStats, Follower, InvalidationStats};
use crate::local::{Horizon, Limits, Local, Store as LocalStore};
use crate::policy::PromotionCondition;
use crate::stack::{CacheTier, Forget, Store, Tier, TierStats, validate};
use crate::telemetry::{Counter, EventListener, Telemetry};
use crate::traits::Capabilities;
use below::Below;
use removals::Removals;
use shared::Shared;
use stats::Stats;

pub(crate) struct Engine {
    tiers: Vec<Tier>,
    local: Local<Answer>,
    /// None where no tier coordinates a fleet.
    shared: Option<Arc<Shared>>,
    below: Below,
    removals: Removals,
    stats: Stats,
    telemetry: Arc<Telemetry>,
    /// A permit per load that may run.
    loads: Semaphore,
    options: Options,
    itself: Weak<Self>,
}

/// How a stack takes part in a fleet.
pub(crate) struct Coordination {
    /// The place of the tier that coordinates.
    pub(crate) position: usize,
    pub(crate) coordinator: SharedCoordinator,
    pub(crate) coherence: CoherenceConfig,
    /// None where the instance joins no bus.
    pub(crate) announce: Option<Announce>,
}

/// How an instance takes part in the bus.
pub(crate) struct Announce {
    /// Who keeps the log, if not the coordinator of the values.
    pub(crate) log: Option<SharedCoordinator>,
    /// Whether plain writes are announced.
    pub(crate) writes: bool,
}

/// What holds for every operation of an engine.
pub(crate) struct Options {
    pub(crate) clock: Clock,
    pub(crate) max_value_bytes: usize,
    /// Larger payloads of typed values are compressed in awaited tiers.
    pub(crate) compress_above: usize,
    pub(crate) promote_if: Option<PromotionCondition>,
    /// Loads that may run at a time.
    pub(crate) max_loads: usize,
    pub(crate) listener: Option<Arc<dyn EventListener>>,
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
    /// A load failed, and its caller had kept an older value.
    Older,
}

/// What a read ends with, and what a flight gives its followers.
pub(crate) type Answer = CacheResult<Option<Hit>>;

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            max_value_bytes: defaults::MAX_VALUE_BYTES,
            compress_above: defaults::COMPRESS_ABOVE,
            promote_if: None,
            max_loads: defaults::MAX_LOADS,
            listener: None,
        }
    }
}

impl Engine {
    pub(crate) fn new(
        tiers: Vec<CacheTier>,
        options: Options,
        coordination: Option<Coordination>,
    ) -> CacheResult<Arc<Self>> {
        let tiers = validate(tiers, &options.clock)?;
        let stores = tiers.iter().enumerate().filter_map(|(position, tier)| match &tier.store {
            Store::Local(face) => Some(LocalStore { position, face: Arc::clone(face) }),
            Store::Remote(_) => None,
        });
        let clock = options.clock.clone();
        let horizon = match &coordination {
            Some(Coordination { coherence, announce: Some(_), .. }) => {
                Horizon::bounded(clock, Limits { bound: coherence.staleness_bound, limit: coherence.limit() })
            }
            _ => Horizon::open(clock),
        };
        let telemetry = Arc::new(Telemetry::new(options.clock.clone(), options.listener.clone()));
        let local = Local::new(stores.collect(), horizon, coordination.is_some(), Arc::clone(&telemetry));
        let stats = Stats::new(tiers.len(), telemetry.bytes());
        Ok(Arc::new_cyclic(|itself: &Weak<Self>| {
            let shared = coordination.and_then(|coordination| coordinate(&tiers, coordination, itself, &options.clock));
            let (below, loads) = (Below::default(), Semaphore::new(options.max_loads));
            Self {
                tiers,
                local,
                shared,
                below,
                removals: Removals::default(),
                stats,
                telemetry,
                loads,
                options,
                itself: Weak::clone(itself),
            }
        }))
    }

    pub(crate) fn stats(&self) -> CacheManagerStats {
        self.stats.snapshot(self.telemetry.promotions(), self.local.in_flight())
    }

    pub(crate) fn tier_stats(&self) -> Vec<TierStats> {
        let stats = |(position, tier): (usize, &Tier)| {
            TierStats::new(tier.level, tier.backend.name().to_owned(), self.stats.hits_of(position))
        };
        self.tiers.iter().enumerate().map(stats).collect()
    }

    /// A counter of hits in the first tier, for a cache that counts its own.
    pub(crate) fn lend_counter(&self) -> Arc<Counter> {
        self.stats.lend()
    }

    /// Ends the use of a lent counter; what it counted stays.
    pub(crate) fn take_back(&self, counter: &Arc<Counter>) {
        self.stats.take_back(counter);
    }

    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.options.clock
    }

    pub(crate) fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    pub(crate) fn bus(&self) -> Option<&Arc<Bus>> {
        self.shared.as_ref()?.bus.as_ref()
    }

    /// Joins the bus, if there is one.
    pub(crate) async fn join_bus(&self) {
        if let Some(bus) = self.bus() {
            bus.join().await;
        }
    }

    /// Ends every background task of the bus.
    pub(crate) fn stop(&self) {
        if let Some(bus) = self.bus() {
            bus.stop();
        }
    }

    pub(crate) fn messages(&self) -> Option<InvalidationStats> {
        Some(self.bus()?.messages())
    }

    pub(crate) fn coherence(&self) -> CoherenceStats {
        let mut stats = CoherenceStats::default();
        if let Some(shared) = &self.shared {
            shared.fill_stats(&mut stats);
        }
        (stats.refused_joins, stats.refused_local_fills) = self.local.refusals();
        stats.unproven_hits = self.local.horizon().unproven_hits();
        stats.taken_back = self.below.taken_back.get();
        stats
    }

    /// Whether this instance reflects `position`, at once or after catching up with the log. An error without a bus:
    /// nothing here could tell.
    pub(crate) async fn reach(&self, position: Position) -> CacheResult<bool> {
        let Some(bus) = self.bus() else {
            return Err(CacheError::ConfigError(
                "a read at a position needs the invalidation bus; join it with with_invalidation".into(),
            ));
        };
        bus.start();
        Ok(bus.reach(position).await)
    }

    /// Whether plain writes are announced.
    pub(crate) fn announces_writes(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.announces_writes)
    }

    fn announces(&self) -> bool {
        self.bus().is_some()
    }

    /// Whether the tier at this place coordinates the fleet.
    fn coordinates(&self, position: usize) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.position == position)
    }

    /// Whether the tier at this place is below the coordinator and shared, so that it cannot fill conditionally.
    fn is_below(&self, position: usize) -> bool {
        let below = self.shared.as_ref().is_some_and(|shared| shared.position < position);
        below && self.is_shared(position)
    }

    fn is_shared(&self, position: usize) -> bool {
        self.tiers.get(position).is_some_and(|tier| tier.backend.capabilities().has(Capabilities::SHARED))
    }

    /// Whether values with these tags can be kept.
    pub(crate) fn check_tags(&self, tags: &[Tag]) -> CacheResult<()> {
        if tags.len() > defaults::TAGS_MAX || tags.iter().any(|tag| tag.len() > defaults::TAG_BYTES_MAX) {
            return Err(CacheError::ConfigError(format!(
                "at most {} tags of at most {} bytes each are allowed",
                defaults::TAGS_MAX,
                defaults::TAG_BYTES_MAX
            )));
        }
        let revocable = self.shared.as_ref().map_or(self.is_local(), |shared| shared.keeps_log());
        if !tags.is_empty() && !revocable {
            return Err(CacheError::ConfigError(
                "tags need a stack of in-process tiers, or a nearest shared tier that keeps a log, such as Redis"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Whether every tier is inside this process.
    fn is_local(&self) -> bool {
        self.local.leading() == self.tiers.len()
    }
}

/// Connects the tier that coordinates with the engine around it.
fn coordinate(tiers: &[Tier], coordination: Coordination, itself: &Weak<Engine>, clock: &Clock) -> Option<Arc<Shared>> {
    let Coordination { position, coordinator, coherence, announce } = coordination;
    let remote = Arc::clone(tiers.get(position)?.remote()?);
    let announces_writes = announce.as_ref().is_some_and(|announce| announce.writes);
    let bus = announce.map(|announce| {
        let (log, values) = match announce.log {
            Some(log) => (log, Some(Arc::clone(&coordinator))),
            None => (Arc::clone(&coordinator), None),
        };
        let follower: Weak<dyn Follower> = Weak::clone(itself) as _;
        Bus::new(log, values, follower, clock.clone(), coherence.clone())
    });
    let mut below = tiers.iter().skip(position + 1);
    let shared_below = below.any(|tier| tier.backend.capabilities().has(Capabilities::SHARED));
    let shared =
        Shared::new(position, Arc::clone(&remote), coordinator, bus, coherence, announces_writes, shared_below);
    let forget: Arc<dyn Forget> = Arc::clone(&shared) as _;
    remote.forgets_by(Arc::downgrade(&forget));
    Some(shared)
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
