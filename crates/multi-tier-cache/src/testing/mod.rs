//! Test kit: a fleet in one process, loads that are counted and held, a clock that moves only when told, a tier that
//! fails by a script, a shared tier in memory that coordinates several caches of one process, barriers between a cache
//! and its coordinator, and a bus that is pumped by hand.
//!
//! # Testing your code
//!
//! Put the feature `test-util` into your dev-dependencies and run your code over a [`Fleet`]: it needs no server, waits
//! for events instead of sleeping, and is over in milliseconds.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> multi_tier_cache::CacheResult<()> {
//! use std::time::Duration;
//!
//! use multi_tier_cache::testing::{Fleet, Loads, followed, levels_with};
//! use multi_tier_cache::{Arc, Cache, CacheResult, CacheSystem, Freshness};
//!
//! // The code under test. In production its loads ask a database; here they are counted.
//! struct Directory {
//!     names: Cache<u64, String>,
//!     loads: Loads,
//! }
//!
//! impl Directory {
//!     fn new(system: &CacheSystem, loads: &Loads) -> CacheResult<Self> {
//!         let minute = Freshness::new(Duration::from_secs(60));
//!         Ok(Self { names: system.cache_builder("names").freshness(minute).build()?, loads: loads.clone() })
//!     }
//!
//!     async fn name(&self, id: u64) -> CacheResult<Arc<String>> {
//!         let loads = self.loads.clone();
//!         self.names.get_or_load(&id, move || loads.load(async move { Ok(format!("user {id}")) })).await
//!     }
//! }
//!
//! // Two instances, as over one Redis.
//! let (fleet, loads) = (Fleet::new(), Loads::new());
//! let (here, there) = (fleet.instance().await?, fleet.instance().await?);
//! let (one, other) = (Directory::new(&here, &loads)?, Directory::new(&there, &loads)?);
//!
//! // One load for both, and where its value is.
//! assert_eq!(*one.name(7).await?, "user 7");
//! assert_eq!(levels_with(&other.names, &7).await?, [2]);
//! assert_eq!(*other.name(7).await?, "user 7");
//! assert_eq!(levels_with(&other.names, &7).await?, [1, 2]);
//! assert_eq!(loads.count(), 1);
//!
//! // What one removes the other forgets, as soon as it has heard of it.
//! let position = one.names.remove(&7).await?;
//! assert!(followed(there.cache_manager(), position).await);
//! assert!(levels_with(&other.names, &7).await?.is_empty());
//!
//! // A minute is over when the test says so.
//! other.name(7).await?;
//! fleet.time().advance(Duration::from_secs(60));
//! other.name(7).await?;
//! assert_eq!(loads.count(), 3);
//! # Ok(())
//! # }
//! ```

mod clock;
mod faulty;
mod fleet;
mod hub;
mod loads;
mod stage;

pub use clock::ManualClock;
pub use faulty::{Fault, Faulty};
pub use fleet::{Fleet, followed, levels_with, levels_with_key};
pub use hub::{Pump, Replica};
pub use loads::{HeldLoads, Loads};
pub use stage::{Held, Stage, Step, When};

pub use crate::coordinator::memory::Hub;
#[doc(hidden)]
pub use crate::protection::Protection;
