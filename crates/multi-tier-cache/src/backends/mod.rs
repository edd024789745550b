//! The stores that ship with the crate. Each serves as any tier.

mod in_process;
mod key_hash;
#[cfg(feature = "memcached")]
pub(crate) mod memcached;

pub mod dashmap_cache;
pub mod glob;
#[cfg(feature = "memcached")]
pub mod memcached_cache;
#[cfg(feature = "moka")]
pub mod moka_cache;
pub mod quickcache_cache;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "redis")]
pub mod redis_cache;
#[cfg(feature = "tower")]
pub mod service_tier;

#[cfg(feature = "redis")]
pub use self::redis::config::RedisConfig;
pub use dashmap_cache::DashMapCache;
#[cfg(feature = "memcached")]
pub use memcached_cache::MemcachedCache;
#[cfg(feature = "moka")]
pub use moka_cache::{MokaCache, MokaCacheConfig};
pub use quickcache_cache::QuickCacheBackend;
#[cfg(feature = "redis")]
pub use redis_cache::RedisCache;
#[cfg(feature = "tower")]
pub use service_tier::{ServiceTier, StoreReply, StoreRequest, StoreService};

/// The first tier of programs that configure Moka.
#[cfg(feature = "moka")]
pub type L1Cache = MokaCache;
/// The usual second tier.
#[cfg(feature = "redis")]
pub type L2Cache = RedisCache;
