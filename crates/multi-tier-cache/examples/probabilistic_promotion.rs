//! A hit below the first tier is copied upwards once in N times: hot keys rise soon, cold ones do not push them out.
//!
//! `cargo run --example probabilistic_promotion`: needs no server.

use std::sync::Arc;

use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{
    Bytes, CacheBackend, CacheManager, CacheStrategy, CacheSystemBuilder, DashMapCache, TierConfig,
};

const KEYS: usize = 2_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    for frequency in [1, 10, 100] {
        let l2 = TierConfig::as_l2().with_promotion_frequency(frequency);
        let promoted = read_each_once(CacheSystemBuilder::new(), l2).await?;
        println!("N = {frequency:3}: {promoted:4} of {KEYS} keys promoted by one read each");
    }
    let never = TierConfig::as_l2().with_promotion(false);
    println!("switched off: {}", read_each_once(CacheSystemBuilder::new(), never).await?);

    // A rule of one's own decides instead of the lot.
    let small = CacheSystemBuilder::new().with_promotion_condition(|_key, value, _level| value.len() < 3);
    println!("values under 3 bytes: {}", read_each_once(small, TierConfig::as_l2()).await?);

    // A key that is read often is in the first tier soon.
    let (cache, l2) = stack(CacheSystemBuilder::new(), TierConfig::as_l2()).await?;
    l2.set("hot", Bytes::from("value")).await?;
    let mut reads = 0;
    while cache.get_stats().l1_hits == 0 {
        cache.get("hot").await?;
        reads += 1;
    }
    println!("a hot key was answered by the first tier at read {reads}");
    Ok(())
}

async fn read_each_once(builder: CacheSystemBuilder, l2: TierConfig) -> anyhow::Result<usize> {
    let (cache, shelf) = stack(builder, l2).await?;
    for key in 0..KEYS {
        shelf
            .set_with_ttl(&format!("key:{key}"), Bytes::from(key.to_string()), CacheStrategy::Default.to_duration())
            .await?;
    }
    for key in 0..KEYS {
        cache.get(&format!("key:{key}")).await?;
    }
    Ok(cache.get_stats().promotions)
}

async fn stack(builder: CacheSystemBuilder, l2: TierConfig) -> anyhow::Result<(Arc<CacheManager>, Arc<DashMapCache>)> {
    let shelf = Arc::new(DashMapCache::new());
    let l1 = Arc::new(QuickCacheBackend::new(10_000)?);
    let system = builder.with_tier(l1, TierConfig::as_l1()).with_tier(Arc::clone(&shelf) as _, l2).build().await?;
    Ok((system.cache_manager, shelf))
}
