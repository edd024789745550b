//! Where it is measured: two caches on keys of their own, which are removed at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use multi_tier_cache::backends::{QuickCacheBackend, RedisConfig};
use multi_tier_cache::defaults::{KEY_CHUNK, L1_ENTRIES};
use multi_tier_cache::inspect::{Namespace, Server};
use multi_tier_cache::{
    Bytes, CacheStrategy, CacheSystem, CacheSystemBuilder, InvalidationConfig, RedisCache, TierConfig,
};
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::task::JoinSet;

use super::Row;
use super::operation::{Operation, TTL, known_key, load_key};
use crate::cli::{Bench, Target};
use crate::connect::Session;
use crate::failure::Failure;
use crate::measure::Latencies;
use crate::progress;

/// Two caches on the same keys.
pub(super) struct Stage<'a> {
    pub(super) server: Server,
    namespace: Namespace,
    connection: MultiplexedConnection,
    with_l1: CacheSystem,
    without_l1: CacheSystem,
    options: &'a Bench,
    value: Bytes,
    /// Keys that loads have used, from the first on.
    loaded: Arc<AtomicU32>,
}

impl<'a> Stage<'a> {
    pub(super) async fn new(target: &Target, options: &'a Bench) -> Result<Self, Failure> {
        let session = Session::open(target).await?;
        // Its own prefix, within the target's; its own channel, so that no other instance hears of it.
        let channel = format!("mtc-bench-{:016x}", fastrand::u64(..));
        let prefix = format!("{}{channel}:", target.prefix);
        let config = target.config()?.with_prefix(&*prefix);
        let bus = InvalidationConfig { channel: channel.clone(), ..InvalidationConfig::default() };
        Ok(Self {
            namespace: Namespace::new(&prefix, &channel)?,
            connection: session.connection(),
            server: session.server,
            with_l1: with_l1(config.clone(), bus.clone(), options.keys).await?,
            without_l1: without_l1(config, bus).await?,
            options,
            value: (0..options.value_bytes).map(|_| fastrand::u8(..)).collect::<Vec<u8>>().into(),
            loaded: Arc::default(),
        })
    }

    pub(super) async fn measure(&self) -> Result<Vec<Row>, Failure> {
        let (above, below) = (&self.with_l1.cache_manager, &self.without_l1.cache_manager);
        let bar = progress::bar("preparing", self.options.keys.into());
        for at in 0..self.options.keys {
            above.set_with_strategy(&known_key(at), self.value.clone(), CacheStrategy::Custom(TTL)).await?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let value = || self.value.clone();
        let plan = [
            ("raw GET", Operation::RawGet(self.connection.clone(), self.namespace.prefix().into())),
            ("read, Redis", Operation::Read(Arc::clone(below))),
            ("read, L1", Operation::Read(Arc::clone(above))),
            ("load", Operation::Load(Arc::clone(above), value(), Arc::clone(&self.loaded))),
            ("write", Operation::Write(Arc::clone(above), value())),
            ("remove", Operation::Remove(Arc::clone(above))),
        ];
        let mut rows = Vec::new();
        for (name, operation) in plan {
            rows.push(self.row(name, &operation).await?);
        }
        Ok(rows)
    }

    /// Runs one operation as often as asked for, with as many under way as asked for.
    async fn row(&self, name: &'static str, operation: &Operation) -> Result<Row, Failure> {
        let Bench { requests, concurrency, keys, .. } = *self.options;
        let bar = progress::bar(name, requests.into());
        let (mut workers, began) = (JoinSet::new(), Instant::now());
        for first in 0..concurrency.min(requests) {
            let turns = (first..requests).step_by(usize::try_from(concurrency).unwrap_or(usize::MAX));
            workers.spawn(operation.clone().repeat(turns, keys, bar.clone()));
        }
        let (mut times, mut failed) = (Vec::new(), 0);
        while let Some(done) = workers.join_next().await {
            let (some, some_failed) = done.map_err(|error| Failure::trouble(error.to_string()))?;
            times.extend(some);
            failed += some_failed;
        }
        let span = began.elapsed();
        bar.finish_and_clear();
        Ok(Row { name, latencies: Latencies::of(times), failed, span })
    }

    /// Ends both caches, then removes every key that was used, whether or not it is there: by name, without a scan.
    pub(super) async fn clear_away(&self) -> Result<(), Failure> {
        self.with_l1.shutdown().await;
        self.without_l1.shutdown().await;
        let loaded = self.loaded.load(Ordering::Relaxed);
        let bar = progress::bar("cleaning up", u64::from(self.options.keys) + u64::from(loaded));
        let mut connection = self.server.connect().await?;
        let mut names = vec![self.namespace.bus().to_owned(), self.namespace.log().to_owned()];
        for key in (0..self.options.keys).map(known_key).chain((0..loaded).map(load_key)) {
            names.extend([self.namespace.value(&key)?, self.namespace.lease(&key)?, self.namespace.tombstone(&key)?]);
            if names.len() >= KEY_CHUNK {
                self.unlink(&mut connection, &mut names).await?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.unlink(&mut connection, &mut names).await
    }

    async fn unlink(&self, connection: &mut MultiplexedConnection, names: &mut Vec<String>) -> Result<(), Failure> {
        if names.is_empty() {
            return Ok(());
        }
        let removed = cmd("UNLINK").arg(std::mem::take(names)).query_async::<()>(connection).await;
        removed.map_err(|error| self.server.explain(error).into())
    }
}

/// As an instance has it, with room in the first tier for all that is read.
async fn with_l1(config: RedisConfig, bus: InvalidationConfig, keys: u32) -> Result<CacheSystem, Failure> {
    let l1 = QuickCacheBackend::new(L1_ENTRIES.max(u64::from(keys) * 2))?;
    let builder = CacheSystemBuilder::new().with_l1(Arc::new(l1)).with_redis_config(config).with_invalidation(bus);
    Ok(builder.build().await?)
}

/// Redis alone, so that every read goes there.
async fn without_l1(config: RedisConfig, bus: InvalidationConfig) -> Result<CacheSystem, Failure> {
    let redis = Arc::new(RedisCache::with_config(config)?);
    let builder = CacheSystemBuilder::new().with_tier(redis, TierConfig::as_l1()).with_invalidation(bus);
    Ok(builder.build().await?)
}
