//! Formats of what is stored in shared tiers.

#[cfg_attr(not(test), expect(dead_code, reason = "the typed caches use it"))]
pub(crate) mod envelope;
pub(crate) mod tagged;
