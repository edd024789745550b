//! Rules as pure functions: how long a copy lives in which tier, which hits are promoted, and how fresh a value is.

mod freshness;
mod promotion;
mod strategy;
#[cfg_attr(not(test), expect(dead_code, reason = "for the engine of typed caches"))]
mod throttle;
mod tier_ttl;
#[cfg_attr(not(test), expect(dead_code, reason = "for the engine of typed caches"))]
mod times;
mod ttl;

pub use freshness::{EarlyRefresh, Freshness};
pub(crate) use promotion::Promotion;
pub(crate) use promotion::PromotionCondition;
pub use strategy::CacheStrategy;
#[expect(unused_imports, reason = "for the engine of typed caches")]
pub(crate) use throttle::Throttle;
#[expect(unused_imports, reason = "for the engine of typed caches")]
pub(crate) use times::{Times, Verdict};
pub(crate) use ttl::{Scale, promoted};
