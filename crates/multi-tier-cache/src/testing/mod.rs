//! Test kit: a clock that moves only when told, a tier that fails by a script, a shared tier in memory that coordinates several caches of one
//! process, barriers between a cache and its coordinator, and a bus that is pumped by hand.

mod clock;
mod faulty;
mod hub;
mod stage;

pub use clock::ManualClock;
pub use faulty::{Fault, Faulty};
pub use hub::{Pump, Replica};
pub use stage::{Held, Stage, Step, When};

pub use crate::coordinator::memory::Hub;
#[doc(hidden)]
pub use crate::protection::Protection;
