//! Four tiers: each lower one larger, slower and keeping values longer.
//!
//! `cargo run --example multi_tier_usage`: needs no server (lower tiers would be Redis, a disk, an object store).

use std::sync::Arc;

use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{
    Bytes, CacheBackend, CacheStrategy, CacheSystemBuilder, DashMapCache, L2CacheBackend, TierConfig,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let tiers: [Arc<DashMapCache>; 4] = std::array::from_fn(|_| Arc::new(DashMapCache::new()));
    let [hot, warm, cold, archive] = tiers.clone();
    let system = CacheSystemBuilder::new().with_l1(hot).with_l2(warm).with_l3(cold).with_l4(archive).build().await?;
    let cache = system.cache_manager();

    cache.set_with_strategy("report", Bytes::from("value"), CacheStrategy::MediumTerm).await?;
    for (tier, level) in tiers.iter().zip(1..) {
        let (_, left) = tier.get_with_ttl("report").await.unwrap_or_default();
        println!("L{level} keeps it for {:.0} s", left.unwrap_or_default().as_secs_f64());
    }

    // Dropped from the upper tiers, as if they had been full: read from the third.
    for tier in tiers.iter().take(2) {
        tier.remove("report").await?;
    }
    cache.get("report").await?;
    for tier in cache.get_tier_stats() {
        println!("L{} {}: {} hits", tier.tier_level, tier.backend_name, tier.hit_count());
    }

    // Tiers in any order, each with its own rule for promotion and time to live.
    let system = CacheSystemBuilder::new()
        .with_tier(Arc::new(DashMapCache::new()), TierConfig::as_l2().with_promotion_frequency(1).with_ttl_scale(4.0))
        .with_tier(Arc::new(QuickCacheBackend::new(1_000)?), TierConfig::as_l1())
        .build()
        .await?;
    let levels = system.cache_manager().get_tier_stats();
    println!("{:?}", levels.iter().map(|tier| tier.backend_name.as_str()).collect::<Vec<_>>());

    // Two tiers of one level are refused.
    let twice = CacheSystemBuilder::new()
        .with_tier(Arc::new(DashMapCache::new()), TierConfig::as_l1())
        .with_tier(Arc::new(DashMapCache::new()), TierConfig::as_l1());
    println!("{}", twice.build().await.err().map_or_else(String::new, |error| error.to_string()));
    Ok(())
}
