//! Formats of what is stored in shared tiers.

pub(crate) mod envelope;
pub(crate) mod tagged;
