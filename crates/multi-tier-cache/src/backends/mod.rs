//! The stores that ship with the crate. Each serves as any tier.

#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "redis")]
pub mod redis_cache;

#[cfg(feature = "redis")]
pub use self::redis::config::RedisConfig;
#[cfg(feature = "redis")]
pub use redis_cache::RedisCache;
/// The usual second tier.
#[cfg(feature = "redis")]
pub type L2Cache = RedisCache;
