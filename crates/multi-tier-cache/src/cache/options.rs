//! Options of one call.

use std::sync::Arc;
use std::time::Duration;

use crate::coordinator::{Position, Tag};
use crate::defaults;
use crate::error::{CacheError, CacheResult};
use crate::policy::{CacheStrategy, Freshness};

/// Options of one call: how long a value is kept, its tags, and how new it must be.
///
/// An option that a verb cannot follow is a `ConfigError` that names it; nothing is read or stored then.
///
/// ```
/// use multi_tier_cache::{CacheStrategy, CallOptions};
///
/// let options = CallOptions::new(CacheStrategy::ShortTerm).with_tags(["user:7", "orders"]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    strategy: Option<CacheStrategy>,
    pub(crate) freshness: Option<Freshness>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) at_least: Option<Position>,
    pub(crate) refreshes: bool,
    pub(crate) reads_only: bool,
    /// Levels of tiers that are left out.
    pub(crate) skipped: Vec<usize>,
    /// Soft and hard.
    deadlines: Option<(Option<Duration>, Option<Duration>)>,
}

impl CallOptions {
    /// Values are kept for the strategy's time.
    #[must_use]
    pub fn new(strategy: CacheStrategy) -> Self {
        Self { strategy: Some(strategy), ..Self::default() }
    }

    /// Values stored by this call can be removed by any of these names with
    /// [`remove_tag`](crate::CacheManager::remove_tag). At most 64 of at most 1,024 bytes each.
    #[must_use]
    pub fn with_tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(|tag| Arc::from(tag.as_ref())).collect();
        self
    }

    /// For verbs that read: the value reflects the invalidation that answered `position`, on whatever instance that was: read your writes
    /// across instances. `None` asks for nothing, for positions that may be absent.
    #[must_use]
    pub fn at_least(mut self, position: impl Into<Option<Position>>) -> Self {
        self.at_least = position.into();
        self
    }

    /// Rules for this call in place of a typed cache's own. The verbs of [`CacheManager`](crate::CacheManager) have no
    /// such rules.
    #[must_use]
    pub fn with_freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = Some(freshness);
        self
    }

    /// The value is loaded now, whatever is stored; that is answered only if a rule for failed or slow loads says so.
    /// For reads of typed caches.
    #[must_use]
    pub fn refreshing(mut self) -> Self {
        self.refreshes = true;
        self
    }

    /// What this call loads is answered, and stored nowhere. For reads of typed caches.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.reads_only = true;
        self
    }

    /// How long a load may take for this call, in place of the cache's
    /// [deadlines](Freshness::with_load_deadlines): the soft one for this caller, the hard one for a load that the call
    /// begins. For reads of typed caches.
    #[must_use]
    pub fn with_load_deadlines(mut self, soft: Option<Duration>, hard: Option<Duration>) -> Self {
        self.deadlines = Some((soft, hard));
        self
    }

    /// Leaves out the tier of this level: it is not asked, and gets no copy of what the call finds, loads or is given.
    /// Several calls leave out several tiers. For [`fetch`](crate::Cache::fetch), `insert_with` and `#[cached]`.
    ///
    /// Nothing older is served from there afterwards: the tier forgets the key as soon as this call stores a loaded or
    /// given value in another one, and a tier inside the process also if the call answers something newer from below it.
    /// What was found below it, which may be older, is not copied into tiers above it.
    ///
    /// The tier that coordinates the fleet (Redis) is the way to every shared tier below it: without it, none of them is
    /// asked, and what is loaded, under no lease, is kept inside this process only, while all of them forget the key.
    ///
    /// Callers that skip different tiers share one load, its answer and its error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> multi_tier_cache::CacheResult<()> {
    /// # use multi_tier_cache::{Arc, Cache, CacheSystemBuilder, CallOptions, DashMapCache};
    /// # let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
    /// let exports: Cache<u64, Vec<u8>> = system.cache("exports")?;
    /// let big = CallOptions::default().skipping(1);
    /// exports.insert_with(&7, vec![0; 1_000_000], &big).await?; // the second tier alone has it
    /// assert!(exports.contains(&7).await?);
    /// # assert_eq!(system.cache_manager().get_stats().l1_hits, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn skipping(mut self, level: usize) -> Self {
        self.skipped.push(level);
        self
    }

    /// The rules of this call, if they are not these.
    pub(crate) fn own_rules(&self, rules: &Freshness) -> Option<Freshness> {
        let mut own = self.freshness;
        if let Some(ttl) = self.ttl() {
            own = Some(own.unwrap_or(*rules).with_ttl(ttl));
        }
        if let Some((soft, hard)) = self.deadlines {
            own = Some(own.unwrap_or(*rules).with_load_deadlines(soft, hard));
        }
        own
    }

    /// How long values are kept, if the call says so.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.strategy.as_ref().map(CacheStrategy::to_duration)
    }

    /// How long values are kept by verbs without rules of their own.
    pub(crate) fn ttl_or_default(&self) -> Duration {
        self.ttl().unwrap_or(defaults::TTL)
    }

    /// Refuses what only typed caches can do.
    pub(crate) fn check_untyped(&self) -> CacheResult<()> {
        let typed = [
            ("with_freshness", self.freshness.is_some()),
            ("refreshing", self.refreshes),
            ("read_only", self.reads_only),
            ("skipping", !self.skipped.is_empty()),
            ("with_load_deadlines", self.deadlines.is_some()),
        ];
        refuse(&typed, "is for typed caches; make one with CacheSystem::cache, or leave it out")
    }

    /// Refuses what has no meaning for a value that its caller brings.
    pub(crate) fn check_insert(&self) -> CacheResult<()> {
        let reading = [
            ("at_least", self.at_least.is_some()),
            ("refreshing", self.refreshes),
            ("read_only", self.reads_only),
            ("with_load_deadlines", self.deadlines.is_some()),
        ];
        refuse(&reading, "is for verbs that read; this one stores the value it is given: leave it out")
    }

    /// Whether what is in process may be answered under the cache's own rules.
    pub(crate) fn is_plain(&self) -> bool {
        let as_the_cache = self.freshness.is_none() && self.strategy.is_none() && self.skipped.is_empty();
        as_the_cache && self.at_least.is_none() && !self.refreshes
    }
}

/// Refuses the first of these options that is set.
fn refuse(options: &[(&str, bool)], why: &str) -> CacheResult<()> {
    match options.iter().find(|(_, set)| *set) {
        Some((option, _)) => Err(CacheError::ConfigError(format!("CallOptions::{option} {why}"))),
        None => Ok(()),
    }
}
