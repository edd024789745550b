//! Those who run a row, set up alike: first tiers of 2,000 entries, an hour to live.

pub(crate) mod amalgam;
pub(crate) mod cachet;
pub(crate) mod established;
pub(crate) mod first_tier;
pub(crate) mod foyer;
pub(crate) mod instance;
pub(crate) mod ours;
pub(crate) mod raw;
pub(crate) mod reader;

/// Names that bars refer to.
pub(crate) const QUICK_CACHE: &str = "quick_cache";
