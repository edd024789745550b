//! An in-process cache (L1) in front of shared and colder tiers (L2, L3, …): a service reads in nanoseconds, computes
//! each value once, and never serves what it invalidated.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> multi_tier_cache::CacheResult<()> {
//! use multi_tier_cache::{Arc, Cache, CacheSystemBuilder, DashMapCache};
//!
//! // With Redis as L2: `CacheSystem::new().await?` (feature `redis`, address from `REDIS_URL`).
//! let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
//! let teams: Cache<u32, Vec<String>> = system.cache("teams")?;
//!
//! let team = teams.get_or_load(&7, || async { Ok(vec!["Ada".to_owned(), "Grace".to_owned()]) }).await?;
//! assert_eq!(team.len(), 2);
//! teams.remove(&7).await?;
//! assert_eq!(teams.get(&7).await?, None);
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! * **One computation per key**, however many callers ask at once. If the computing caller goes away, exactly one of
//!   those who wait computes instead; an error or a panic reaches all of them.
//! * **Nothing stale after an invalidation**: no read on this instance that starts after [`CacheManager::invalidate`] or
//!   a put returned `Ok` sees a value that was computed or read before, from any tier.
//! * **An outage is not a miss.** A tier that fails is passed over; a computing verb then loads, a plain `get` that no
//!   other tier can answer is an error. Each operation of a tier has a budget, and a failed tier is left alone for a
//!   moment instead of being waited for.
//! * **Dropping a future is safe** at any await. A write or removal that has begun is carried out.
//!
//! # Typed caches and bytes
//!
//! [`Cache`] is one handle per kind of value: keys and values of your types, decoded once, with rules for how old a value
//! may be ([`Freshness`]) and loaders that keep their own errors. [`CacheManager`] has the verbs on string keys and bytes.
//! Both work on the same tiers under the same promises.
//!
//! # Several instances
//!
//! A [`CacheSystem`] whose second tier is Redis joins the invalidation bus ([`invalidation`]): what one instance
//! invalidates, all forget, as soon as the message arrives and within two seconds whatever is lost on the way. One
//! instance of a fleet computes a missing value; the others wait for it. [`CacheManager::remove_tag`] removes in one step
//! what was stored under a name; every verb of [`CacheManager`] that removes has a twin that answers a [`Position`], and a
//! read [`at_least`](CallOptions::at_least) that position reflects it on any instance. `PROTOCOL.md` has the details, and what happens
//! when something fails.
//!
//! The [guide](guide::contents) has a page for each concept: tiers, freshness, tags, tests of your code, operations and more.
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `moka` (default) | `MokaCache`, `with_moka_config` |
//! | `macros` (default) | `#[cached]`, `#[derive(CacheKey)]` |
//! | `redis` (default) | `RedisCache`, `RedisStreams`, TLS by `rediss://`; publisher and subscribers of the invalidation bus |
//! | `memcached` | `MemcachedCache` |
//! | `msgpack`, `bincode` | serializers besides JSON; prefer `msgpack`: bincode 1.3 is unmaintained (RUSTSEC-2025-0141) |
//! | `postcard` | `PostcardCodec`, the most compact of the formats for typed values |
//! | `uuid` | `uuid::Uuid` as a [`CacheKey`] |
//! | `tower` | `tower::CacheLayer`, a cache in front of a service; `backends::ServiceTier`, a service as a tier |
//! | `prometheus` | [`telemetry::Metrics`] in Prometheus' text format |
//! | `opentelemetry` | [`telemetry::Metrics`] for a meter of OpenTelemetry: `report_to` |
//! | `full` | all of these |
//! | `quick_cache`, `backend-quickcache`, `backend-memcached` | names of 0.6: `QuickCacheBackend` is always there, the last is `memcached` |
//! | `test-util` | `testing`: a fleet in one process, counted loads, a manual clock, tiers that fail, barriers between a cache and its coordinator |
//!
//! Tiers that are awaited need a Tokio runtime with time (and, for Redis and Memcached, I/O) enabled. A stack of
//! in-process tiers needs none.
//!
//! # Limits
//!
//! Every bound is a constant of [`defaults`]: values of 8 MiB, keys of 64 KiB, 1 s for an operation of a tier.
//!
//! # The public interface
//!
//! [`CacheSystem`] and [`CacheSystemBuilder`] put a cache together; [`Cache`] and [`CacheManager`] have the verbs, typed
//! and on bytes, [`CallOptions`] their options; [`Freshness`] and [`EarlyRefresh`] say how old values may be;
//! [`CacheStrategy`], [`TierConfig`], [`CacheTier`], [`InvalidationConfig`] and [`CoherenceConfig`] configure the rest;
//! [`CacheManagerStats`], [`TierStats`], [`TierHealth`], [`InvalidationStats`] and [`CoherenceStats`] tell how it fares;
//! [`CacheError`] and [`Failure`] what went wrong; [`CacheKey`] names an entry of a typed cache, [`Codec`] is a format of
//! its values; [`traits`] is for authors of backends, [`inspect`] for tools that look at what is stored.

// On docs.rs, what is behind a feature says so.
#![cfg_attr(docsrs, feature(doc_cfg))]

// The paths that a derive writes hold in this crate, too.
extern crate self as multi_tier_cache;

pub mod backends;
mod breaker;
pub mod builder;
pub mod cache;
pub mod cache_manager;
pub mod clock;
mod coordinator;
pub mod defaults;
mod engine;
pub mod entry;
pub mod error;
// Its examples use the features of `full` and `test-util`; its pages need none.
#[cfg_attr(docsrs, doc(auto_cfg = false))]
#[cfg(any(all(doc, not(doctest)), all(doctest, feature = "full", feature = "test-util")))]
pub mod guide;
pub mod inspect;
pub mod invalidation;
mod local;
mod policy;
#[cfg_attr(not(feature = "test-util"), allow(unreachable_pub, reason = "public in the test kit"))]
mod protection;
#[cfg(feature = "redis")]
pub mod redis_streams;
pub mod serialization;
mod stack;
mod sync;
mod system;
pub mod telemetry;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;
pub mod traits;
mod wire;

/// What the targets in `fuzz/` call.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::wire::fuzzing::{envelope, tagged};
}

pub use std::sync::Arc;

pub use bytes::Bytes;

#[cfg(feature = "memcached")]
pub use backends::MemcachedCache;
pub use backends::{DashMapCache, QuickCacheBackend};
#[cfg(feature = "moka")]
pub use backends::{L1Cache, MokaCache, MokaCacheConfig};
#[cfg(feature = "redis")]
pub use backends::{L2Cache, RedisCache};
pub use builder::CacheSystemBuilder;
#[cfg(feature = "macros")]
#[doc(inline)]
pub use cache::cached;
pub use cache::{Cache, CacheBuilder, CacheKey, CacheStats, CallOptions, Fetched, LoadContext, LoadError, Loaded};
pub use cache_manager::{CacheManager, CacheManagerStats, CacheStrategy, CacheTier, TierConfig, TierHealth, TierStats};
pub use coordinator::Position;
pub use error::{CacheError, CacheResult, Failure};
pub use invalidation::{
    CoherenceConfig, CoherenceMode, CoherenceStats, InvalidationConfig, InvalidationMessage, InvalidationStats,
};
#[cfg(feature = "redis")]
pub use invalidation::{InvalidationPublisher, InvalidationSubscriber, ReliableStreamSubscriber};
pub use policy::{EarlyRefresh, Freshness};
#[cfg(feature = "redis")]
pub use redis_streams::RedisStreams;
#[cfg(feature = "bincode")]
pub use serialization::BincodeSerializer;
#[cfg(feature = "msgpack")]
pub use serialization::MsgPackSerializer;
#[cfg(feature = "postcard")]
pub use serialization::PostcardCodec;
pub use serialization::{CacheSerializer, Codec, JsonSerializer};
pub use system::CacheSystem;
pub use traits::{CacheBackend, Capabilities, InProcess, L2CacheBackend, StreamEntry, StreamingBackend};

/// The examples of README compile and run as they stand.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So does that of the package's page.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../README.md")]
struct PackageReadme;
