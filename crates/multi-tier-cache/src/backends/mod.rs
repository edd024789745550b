//! The stores that ship with the crate. Each serves as any tier.

mod in_process;

pub mod glob;
pub mod quickcache_cache;

pub use quickcache_cache::QuickCacheBackend;
