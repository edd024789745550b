//! Every rule of [`Freshness`](multi_tier_cache::Freshness) through the verbs of typed caches: at its boundaries, for
//! an entry in process and one that only a tier below has, and with an invalidation while its work is under way.
#![cfg(all(feature = "redis", feature = "test-util"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation ends the test")]
#![allow(clippy::unchecked_time_subtraction, clippy::large_types_passed_by_value, reason = "a table is to be read")]

mod below;
mod deadlines;
mod dropped;
mod errors;
mod fresh;
mod invalidated;
mod loaded;
mod many;
mod negative;
mod options;
mod outages;
mod revalidate;
mod scoped;
mod source;
mod world;
