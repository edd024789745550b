//! Starts private redis-server and memcached processes on free ports and ends them by pid.
//!
//! Nothing on a default port is ever used. A server ends with its handle; binaries are found by
//! `MTC_REDIS_SERVER` and `MTC_MEMCACHED`, else on the `PATH`.

mod memcached;
mod process;
mod redis;

pub use memcached::MemcachedServer;
pub use redis::{RedisBuilder, RedisServer};
