//! Options of one call.

use std::sync::Arc;

use crate::coordinator::{Position, Tag};
use crate::policy::CacheStrategy;

/// Options of one call: how long a value is kept, its tags, and how new it must be.
///
/// ```
/// use multi_tier_cache::{CacheStrategy, CallOptions};
///
/// let options = CallOptions::new(CacheStrategy::ShortTerm).with_tags(["user:7", "orders"]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    pub(super) strategy: CacheStrategy,
    pub(super) tags: Vec<Tag>,
    pub(super) at_least: Option<Position>,
}

impl CallOptions {
    /// Values are kept for the strategy's time.
    #[must_use]
    pub fn new(strategy: CacheStrategy) -> Self {
        Self { strategy, ..Self::default() }
    }

    /// Values stored by this call can be removed by any of these names with
    /// [`remove_tag`](crate::CacheManager::remove_tag). At most 64 of at most 1,024 bytes each.
    #[must_use]
    pub fn with_tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(|tag| Arc::from(tag.as_ref())).collect();
        self
    }

    /// The value reflects the invalidation that answered `position`, on whatever instance that was: read your writes
    /// across instances. `None` asks for nothing, for positions that may be absent.
    #[must_use]
    pub fn at_least(mut self, position: impl Into<Option<Position>>) -> Self {
        self.at_least = position.into();
        self
    }
}
