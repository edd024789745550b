//! What rows run on: two runtimes and a private Redis.

use std::fs;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use test_servers::RedisServer;
use tokio::runtime::{Builder, Runtime};

/// Threads of the runtime for rows with many callers.
const WORKERS: usize = 2;
/// How long filling may take before somebody is taken to hang.
const PATIENCE: Duration = Duration::from_mins(1);
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
            slow_rounds: if quick { 5 } else { 11 },
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

    /// Runs what fills stores before a row, on the runtime with more threads.
    pub(crate) fn prepare<T>(&self, filling: impl Future<Output = Result<T>>) -> Result<T> {
        let filled = self.wide.block_on(async { tokio::time::timeout(PATIENCE, filling).await });
        filled.context("a contender hung while it was filled")?
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

/// Ends the servers of rounds that were left behind because they hung.
pub(crate) fn end_children() {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for children in tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()) {
        for child in children.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)) {
            let _ = kill_process(child, Signal::KILL);
        }
    }
}
