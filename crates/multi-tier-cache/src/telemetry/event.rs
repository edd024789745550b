//! Events: what happens, as it happens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tracing::Level;

use super::activity::{Activity, Operation};
use super::names;

/// Something that happened in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheEvent<'a> {
    /// The name of the cache, [`BYTES`](names::BYTES) for the verbs on bytes, or [`OTHER`](names::OTHER).
    pub cache: &'a str,
    /// What was asked.
    pub operation: Operation,
    /// How it went.
    pub activity: Activity,
    /// How often: keys removed, copies made; 1 for everything else, removals by pattern and tag included.
    pub count: u64,
    /// How long it took, if that was measured: not for what ended in process while nobody listened, nor for an expired
    /// entry, a promotion or a refresh, whose load is told by itself.
    pub duration: Option<Duration>,
}

/// Hears of every event, as it happens.
///
/// It is called by whoever reads or writes, on that thread, before that call is answered: **it must be quick, must not
/// block, and must not use the cache**. Hand what takes time to a channel. No lock of a tier is held meanwhile, but
/// whoever waits for a load waits until its end was told. A panic ends with the event: it reaches neither the caller nor
/// the cache.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> multi_tier_cache::CacheResult<()> {
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use multi_tier_cache::telemetry::{Activity, CacheEvent};
/// use multi_tier_cache::{Arc, CacheSystemBuilder, DashMapCache};
///
/// let misses = Arc::new(AtomicU64::new(0));
/// let counted = Arc::clone(&misses);
/// let listener = move |event: &CacheEvent<'_>| {
///     if event.activity == Activity::Miss {
///         counted.fetch_add(event.count, Ordering::Relaxed);
///     }
/// };
/// let builder = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).with_event_listener(listener);
/// builder.build().await?.cache_manager().get("k").await?;
/// assert_eq!(misses.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub trait EventListener: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: &CacheEvent<'_>);

    /// Whether it hears of hits, too; asked once, when the cache is built. Where nobody does, a hit in process costs
    /// nothing more than without a listener. True unless overridden.
    fn hears_hits(&self) -> bool {
        true
    }
}

impl<F: Fn(&CacheEvent<'_>) + Send + Sync> EventListener for F {
    fn on_event(&self, event: &CacheEvent<'_>) {
        self(event);
    }
}

impl CacheEvent<'_> {
    /// Tells a listener.
    pub(super) fn tell(&self, listener: &dyn EventListener) {
        // The hook for panics has reported it.
        let _ = catch_unwind(AssertUnwindSafe(|| listener.on_event(self)));
    }

    /// Tells whoever listens to `tracing`.
    pub(super) fn trace(&self) {
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    name: names::EVENT,
                    target: names::EVENT_TARGET,
                    Level::$level,
                    cache.name = self.cache,
                    cache.operation = self.operation.as_str(),
                    cache.activity = self.activity.as_str(),
                    cache.count = self.count,
                    cache.duration_ns = self.duration.map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
                )
            };
        }
        match self.activity {
            Activity::Error => event!(ERROR),
            Activity::Expired
            | Activity::RefreshMiss
            | Activity::Inserted
            | Activity::Invalidated
            | Activity::Fallback
            | Activity::Promotion => event!(INFO),
            Activity::Hit | Activity::Miss | Activity::RefreshHit | Activity::Ok => event!(DEBUG),
        }
    }
}
