//! What is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use multi_tier_cache::{Bytes, CacheManager, CacheStrategy};
use redis::aio::MultiplexedConnection;
use redis::cmd;

/// How long values live: what a killed run leaves behind ends by itself.
pub(super) const TTL: Duration = Duration::from_secs(300);
/// The bar moves once in so many operations: it is no part of what is measured.
const STEP: u64 = 64;

/// One kind of operation. Cheap to clone.
#[derive(Clone)]
pub(super) enum Operation {
    /// The client alone: what no cache in front of this server can beat.
    RawGet(MultiplexedConnection, Arc<str>),
    Read(Arc<CacheManager>),
    /// A key that nobody has: a lease, the load, the fill. Counts how many keys it has used.
    Load(Arc<CacheManager>, Bytes, Arc<AtomicU32>),
    Write(Arc<CacheManager>, Bytes),
    Remove(Arc<CacheManager>),
}

/// A key that is there from the beginning.
pub(super) fn known_key(at: u32) -> String {
    format!("k{at}")
}

/// A key that only one load asks for.
pub(super) fn load_key(at: u32) -> String {
    format!("load{at}")
}

impl Operation {
    /// Runs it once; whether it did what it should.
    async fn run(&mut self, at: u32, keys: u32) -> bool {
        let known = known_key(at.checked_rem(keys).unwrap_or_default());
        match self {
            Self::RawGet(connection, prefix) => {
                let value = cmd("GET").arg(format!("{prefix}{known}")).query_async::<Option<Vec<u8>>>(connection).await;
                value.is_ok_and(|value| value.is_some())
            }
            Self::Read(cache) => cache.get(&known).await.is_ok_and(|value| value.is_some()),
            Self::Load(cache, value, used) => {
                used.fetch_max(at.saturating_add(1), Ordering::Relaxed);
                let load = || async { Ok(value.clone()) };
                cache.get_or_compute_with(&load_key(at), CacheStrategy::Custom(TTL), load).await.is_ok()
            }
            Self::Write(cache, value) => cache.update_cache(&known, value.clone(), Some(TTL)).await.is_ok(),
            Self::Remove(cache) => cache.invalidate(&known).await.is_ok(),
        }
    }

    /// Runs it at each of these turns, one after the other: how long each took that succeeded, and how many did not.
    pub(super) async fn repeat(
        mut self,
        turns: impl Iterator<Item = u32>,
        keys: u32,
        bar: ProgressBar,
    ) -> (Vec<Duration>, u64) {
        let (mut times, mut failed, mut since_step) = (Vec::new(), 0, 0);
        for at in turns {
            let began = Instant::now();
            if self.run(at, keys).await {
                times.push(began.elapsed());
            } else {
                failed += 1;
            }
            since_step += 1;
            if since_step == STEP {
                bar.inc(STEP);
                since_step = 0;
            }
        }
        bar.inc(since_step);
        (times, failed)
    }
}
