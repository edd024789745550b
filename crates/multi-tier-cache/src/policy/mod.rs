//! Rules as pure functions: how long a copy lives in which tier, and which hits are promoted.

mod promotion;
mod strategy;
mod ttl;

pub(crate) use promotion::Promotion;
pub(crate) use promotion::PromotionCondition;
pub use strategy::CacheStrategy;
pub(crate) use ttl::{Scale, promoted};
