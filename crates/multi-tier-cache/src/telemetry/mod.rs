//! What the library tells of itself.

mod counter;

pub(crate) use counter::Counter;
