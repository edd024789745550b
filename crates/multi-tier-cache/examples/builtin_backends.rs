//! Every backend that ships with the crate, used directly through the same two traits.
//!
//! `cargo run --example builtin_backends --all-features`: Redis at `REDIS_URL` (or 127.0.0.1:6379) and Memcached at
//! `MEMCACHED_URL` (or 127.0.0.1:11211) are left out, with a word, when they do not answer.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::backends::{DashMapCache, MokaCache, MokaCacheConfig, QuickCacheBackend, RedisCache};
use multi_tier_cache::{Bytes, L2CacheBackend};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let backends: Vec<Arc<dyn L2CacheBackend>> = vec![
        Arc::new(QuickCacheBackend::new(10_000)?),
        Arc::new(MokaCache::new(MokaCacheConfig::default())?),
        Arc::new(DashMapCache::new()),
        Arc::new(RedisCache::new().await?),
        #[cfg(feature = "memcached")]
        Arc::new(multi_tier_cache::MemcachedCache::new()?),
    ];
    for backend in backends {
        if backend.health_check().await {
            exercise(backend.as_ref()).await?;
        } else {
            println!("{:10} needs a server, and none answers: left out", backend.name());
        }
    }
    Ok(())
}

async fn exercise(backend: &dyn L2CacheBackend) -> anyhow::Result<()> {
    let key = "example:backend";
    backend.set_with_ttl(key, Bytes::from("value"), Duration::from_secs(60)).await?;
    let found = backend.get_with_ttl(key).await;
    let left = found.and_then(|(_, left)| left).map_or("not known".to_owned(), |left| format!("{left:.1?}"));
    let patterns = match backend.remove_pattern("example:back*").await {
        Ok(()) => "yes",
        Err(_) => "no",
    };
    backend.remove(key).await?;
    println!("{:10} time left: {left}, removes by pattern: {patterns}", backend.name());
    Ok(())
}
