//! Test kit: a clock that moves only when told.

mod clock;

pub use clock::ManualClock;
