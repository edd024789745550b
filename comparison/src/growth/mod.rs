//! How costs change with the number of entries, of threads, of reads in flight, with the size of values; and whether a
//! bound in bytes is kept.

pub(crate) mod bound;
pub(crate) mod entries;
pub(crate) mod in_flight;
pub(crate) mod threads;
pub(crate) mod value_sizes;

use std::time::Duration;

/// Many times what a round takes.
const LIMIT: Duration = Duration::from_mins(5);
