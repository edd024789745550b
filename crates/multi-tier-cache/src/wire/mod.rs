//! Formats of what is stored in shared tiers.

pub(crate) mod envelope;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod tagged;
