//! What rows run on: two runtimes and a private Redis.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use test_servers::RedisServer;
use tokio::runtime::{Builder, Runtime};

/// Threads of the runtime for rows with many callers.
const WORKERS: usize = 2;
/// Redis offers this many databases by default; the first is left alone.
const DATABASES: usize = 16;

pub(crate) struct Stage {
    /// One thread: for rows that count nanoseconds.
    pub(crate) narrow: Runtime,
    /// For rows with callers in flight, and the home of every Redis connection.
    pub(crate) wide: Runtime,
    pub(crate) rounds: usize,
    /// Of the rows that wait for a server or a timer.
    pub(crate) slow_rounds: usize,
    /// Of those that take many seconds.
    pub(crate) long_rounds: usize,
    pub(crate) quick: bool,
    redis: RedisServer,
    taken: AtomicUsize,
}

impl Stage {
    pub(crate) fn set(quick: bool) -> Result<Self> {
        Ok(Self {
            narrow: Builder::new_current_thread().enable_all().build()?,
            wide: wide_runtime()?,
            rounds: if quick { 9 } else { 31 },
            slow_rounds: if quick { 7 } else { 11 },
            long_rounds: if quick { 1 } else { 3 },
            quick,
            redis: RedisServer::start().context("redis-server")?,
            taken: AtomicUsize::new(0),
        })
    }

    /// The URL of a Redis database that no other contender uses.
    pub(crate) fn redis_url(&self) -> String {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        format!("{}/{}", self.redis.url(), 1 + taken % (DATABASES - 1))
    }

    /// Empties every database, for the next row.
    pub(crate) fn empty_redis(&self) -> Result<()> {
        self.taken.store(0, Ordering::Relaxed);
        self.redis.command(&["FLUSHALL"]).context("FLUSHALL")?;
        Ok(())
    }

    /// Operations per round.
    pub(crate) fn operations(&self, full: usize) -> usize {
        if self.quick { full / 4 } else { full }
    }
}

/// Like that of every stage.
pub(crate) fn wide_runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?)
}
