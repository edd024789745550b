//! A typed cache of users, and loads of it that end well or badly.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::error::Failure;
use multi_tier_cache::testing::Fleet;
use multi_tier_cache::{Cache, CacheError, CacheResult, CacheSystem, Freshness};

pub(crate) const TTL: Duration = Duration::from_secs(60);

pub(crate) type Users = Cache<u64, String>;

pub(crate) fn users(system: &CacheSystem, freshness: Freshness) -> Users {
    system.cache_builder("users").freshness(freshness).build().unwrap()
}

/// An instance without a bus, so that hits need no proof however far the clock moves.
pub(crate) async fn alone(fleet: &Fleet) -> CacheSystem {
    fleet.join(fleet.builder().unwrap().without_invalidation()).await.unwrap()
}

pub(crate) async fn load(users: &Users, key: u64) -> CacheResult<Arc<String>> {
    users.get_or_load(&key, || async { Ok("Ada".to_owned()) }).await
}

pub(crate) async fn failing_load(users: &Users, key: u64) -> CacheResult<Arc<String>> {
    users.get_or_load(&key, || async { Err(CacheError::BackendError(Failure::new("the source is away"))) }).await
}
