//! What a health endpoint and a metrics endpoint would report.
//!
//! `cargo run --example health_monitoring`: uses Redis at `REDIS_URL` (or 127.0.0.1:6379) as second tier; without a
//! server it shows that tier as not healthy while the first one serves.

use multi_tier_cache::{Bytes, CacheManager, CacheStrategy, CacheSystem};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let system = CacheSystem::new().await?;
    let cache = system.cache_manager();

    report_health(&system, cache).await;
    for user in 0..20 {
        let key = format!("example:health:{}", user % 4);
        let load = || async { Ok(Bytes::from("profile")) };
        cache.get_or_compute_with(&key, CacheStrategy::RealTime, load).await?;
    }
    report_statistics(cache);
    Ok(())
}

async fn report_health(system: &CacheSystem, cache: &CacheManager) {
    println!("serving: {}", system.health_check().await);
    println!("for a probe: {}", system.health_report().await.to_json());
    for tier in cache.health().await {
        let state = if tier.healthy { "healthy" } else { "not reachable: the tiers above it serve" };
        println!("  L{} {}: {state}", tier.tier_level, tier.backend_name);
    }
}

fn report_statistics(cache: &CacheManager) {
    let stats = cache.get_stats();
    println!("requests:   {}", stats.total_requests);
    println!("hits:       {} ({:.0} %)", stats.total_hits, stats.hit_rate);
    println!("misses:     {}", stats.misses);
    println!("promotions: {}", stats.promotions);
    println!("in flight:  {}", stats.in_flight_requests);
    for tier in cache.get_tier_stats() {
        println!("  L{} {}: {} hits", tier.tier_level, tier.backend_name, tier.hit_count());
    }
}
