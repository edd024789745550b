//! The stores themselves.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;

use crate::workload::L1_ENTRIES;

pub(crate) type QuickCache<V> = quick_cache::sync::Cache<Arc<str>, V>;

pub(crate) fn quick_cache<V: Clone>(keys: &[String], value: impl Fn(&str) -> V) -> QuickCache<V> {
    let cache = QuickCache::new(usize::try_from(L1_ENTRIES).unwrap_or(usize::MAX));
    for key in keys {
        cache.insert(key.as_str().into(), value(key));
    }
    cache
}

pub(crate) fn moka(keys: &[String], value: &Bytes) -> moka::sync::Cache<Arc<str>, Bytes> {
    let cache = moka::sync::Cache::new(L1_ENTRIES);
    for key in keys {
        cache.insert(key.as_str().into(), value.clone());
    }
    cache
}

pub(crate) async fn redis(url: &str) -> Result<MultiplexedConnection> {
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection().await?)
}

pub(crate) async fn get(connection: &mut MultiplexedConnection, key: &str) -> Option<Bytes> {
    redis::cmd("GET").arg(key).query_async(connection).await.ok().flatten()
}

/// Stores `value` under every key.
pub(crate) async fn fill(connection: &mut MultiplexedConnection, keys: &[String], value: &Bytes) -> Result<()> {
    for chunk in keys.chunks(500) {
        let mut pipeline = redis::pipe();
        for key in chunk {
            pipeline.cmd("SET").arg(key).arg(&value[..]).arg("EX").arg(3600).ignore();
        }
        pipeline.query_async::<()>(connection).await?;
    }
    Ok(())
}
