//! Rules as pure functions: how long a copy lives in which tier, which hits are promoted, and how fresh a value is.

mod freshness;
mod promotion;
mod strategy;
mod throttle;
mod tier_ttl;
mod times;
mod ttl;

pub use freshness::{EarlyRefresh, Freshness};
pub(crate) use promotion::Promotion;
pub(crate) use promotion::PromotionCondition;
pub use strategy::CacheStrategy;
pub(crate) use throttle::Throttle;
pub(crate) use times::{Times, Verdict};
pub(crate) use ttl::{Lifespan, Scale, promoted};
