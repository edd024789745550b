//! Formats of what is stored in shared tiers.

pub(crate) mod tagged;
