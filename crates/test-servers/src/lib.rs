//! Starts private redis-server and memcached processes on free ports and ends them by pid; troubles the way to them.
//!
//! Nothing on a default port is ever used. A server ends with its handle; binaries are found by
//! `MTC_REDIS_SERVER` and `MTC_MEMCACHED`, else on the `PATH`. A [`FaultProxy`] in front of a server holds, delays,
//! swallows or cuts what passes.

mod memcached;
mod process;
mod proxy;
mod redis;
mod replication;

pub use memcached::MemcachedServer;
pub use proxy::{Direction, FaultProxy};
pub use redis::{RedisBuilder, RedisServer};
