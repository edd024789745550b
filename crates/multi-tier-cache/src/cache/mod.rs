//! Typed caches: how a value of any type names its entry.

pub mod key;

pub use key::{CacheKey, KeyWriter};
#[cfg(feature = "macros")]
#[doc(inline)]
pub use multi_tier_cache_macros::CacheKey;
