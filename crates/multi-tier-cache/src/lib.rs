//! An in-process cache (L1) in front of shared and colder tiers (L2, L3, …): a service reads in nanoseconds, computes
//! each value once, and never serves what it invalidated.

pub mod backends;
mod breaker;
pub mod builder;
pub mod cache_manager;
pub mod clock;
pub mod defaults;
mod engine;
pub mod entry;
pub mod error;
pub mod invalidation;
mod local;
mod policy;
#[cfg(feature = "redis")]
pub mod redis_streams;
pub mod serialization;
mod stack;
mod sync;
mod system;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod traits;

pub use std::sync::Arc;

pub use bytes::Bytes;

#[cfg(feature = "memcached")]
pub use backends::MemcachedCache;
pub use backends::{DashMapCache, QuickCacheBackend};
#[cfg(feature = "moka")]
pub use backends::{L1Cache, MokaCache, MokaCacheConfig};
#[cfg(feature = "redis")]
pub use backends::{L2Cache, RedisCache};
pub use builder::CacheSystemBuilder;
pub use cache_manager::{CacheManager, CacheManagerStats, CacheStrategy, CacheTier, TierConfig, TierHealth, TierStats};
pub use error::{CacheError, CacheResult, Failure};
pub use invalidation::{InvalidationConfig, InvalidationMessage, InvalidationStats};
#[cfg(feature = "redis")]
pub use redis_streams::RedisStreams;
#[cfg(feature = "bincode")]
pub use serialization::BincodeSerializer;
#[cfg(feature = "msgpack")]
pub use serialization::MsgPackSerializer;
pub use serialization::{CacheSerializer, JsonSerializer};
pub use system::CacheSystem;
pub use traits::{CacheBackend, Capabilities, InProcess, L2CacheBackend, StreamEntry, StreamingBackend};
