//! What the library tells of itself: metrics, events and health, as plain data.
//!
//! [`CacheManager::metrics`](crate::CacheManager::metrics) answers a [`Metrics`]: everything that is counted, at this
//! moment. With the feature `prometheus` it writes itself in Prometheus' text format, with the feature `opentelemetry` a
//! cache reports to a meter of the program. [`CATALOGUE`](names::CATALOGUE) lists every metric, and the guide has the same table.
//!
//! An [`EventListener`] hears of every request, and so does whoever listens to [`tracing`] under the target
//! [`EVENT_TARGET`](names::EVENT_TARGET). Labels and events have names of caches, tiers and operations in them, and
//! nothing else: no key, no value, no address.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> multi_tier_cache::CacheResult<()> {
//! use multi_tier_cache::telemetry::names;
//! use multi_tier_cache::{Arc, Cache, CacheSystemBuilder, DashMapCache};
//!
//! let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
//! let users: Cache<u64, String> = system.cache("users")?;
//! users.insert(&7, "Ada".to_owned()).await?;
//! users.get(&7).await?;
//!
//! let hits = [("cache", "users"), ("operation", "get"), ("activity", "hit")];
//! assert_eq!(system.metrics().number(&names::EVENTS, &hits), Some(1.0));
//! # Ok(())
//! # }
//! ```

mod activity;
mod began;
mod counter;
mod event;
mod health;
mod histogram;
mod latencies;
mod metric;
pub mod names;
#[cfg(feature = "opentelemetry")]
mod opentelemetry;
#[cfg(feature = "prometheus")]
mod prometheus;
mod recorder;
mod series;
mod snapshot;

pub use activity::{Activity, Operation};
pub(crate) use began::Began;
pub(crate) use counter::Counter;
pub use event::{CacheEvent, EventListener};
pub use health::{BusHealth, HealthReport, HealthStatus, TierHealth};
pub use histogram::HistogramSnapshot;
pub(crate) use latencies::Latencies;
pub use metric::{Metric, MetricKind};
pub(crate) use recorder::Telemetry;
pub(crate) use series::{Reads, Series, Source};
pub(crate) use snapshot::Collector;
pub use snapshot::{Family, Metrics, Sample, Value};
