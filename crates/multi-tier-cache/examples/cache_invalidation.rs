//! Removing and replacing values when the source changes: one key, many by pattern, and a new value at once.
//!
//! `cargo run --example cache_invalidation`: with `REDIS_URL` set the second tier is that Redis, otherwise it is in
//! this process.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::{Bytes, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let system = match std::env::var("REDIS_URL") {
        Ok(url) => CacheSystem::with_redis_url(&url).await?,
        Err(_) => CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?,
    };
    let cache = system.cache_manager();
    for product in 1..=4 {
        let key = format!("example:product:{product}");
        cache.set_with_strategy(&key, Bytes::from("old"), CacheStrategy::LongTerm).await?;
    }
    show("stored", cache).await?;

    cache.invalidate("example:product:1").await?;
    show("product 1 invalidated", cache).await?;

    cache.update_cache("example:product:2", Bytes::from("new"), Some(Duration::from_secs(60))).await?;
    cache.set_with_broadcast("example:product:3", Bytes::from("new"), CacheStrategy::ShortTerm).await?;
    show("products 2 and 3 replaced", cache).await?;

    // A computation that began before an invalidation does not bring the old value back after it.
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Bytes::from("read before the change"))
    };
    let invalidate = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        cache.invalidate("example:product:5").await
    };
    let compute = cache.get_or_compute_with("example:product:5", CacheStrategy::LongTerm, slow);
    let (computed, invalidated) = tokio::join!(compute, invalidate);
    invalidated?;
    println!("its caller got {:?}, the cache kept {:?}", computed?, cache.get("example:product:5").await?);

    cache.invalidate_pattern("example:product:*").await?;
    show("all removed by pattern", cache).await
}

async fn show(what: &str, cache: &CacheManager) -> anyhow::Result<()> {
    println!("{what}:");
    for product in 1..=4 {
        let value = cache.get(&format!("example:product:{product}")).await?;
        println!("  product {product}: {}", value.as_deref().map_or("-".into(), String::from_utf8_lossy));
    }
    Ok(())
}
