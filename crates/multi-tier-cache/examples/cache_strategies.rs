//! How long each strategy keeps a value, as the second tier itself tells.
//!
//! `cargo run --example cache_strategies`: needs no server.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{Bytes, CacheManager, CacheStrategy, DashMapCache, L2CacheBackend};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let l2 = Arc::new(DashMapCache::new());
    let l1 = Arc::new(QuickCacheBackend::new(1_000)?);
    let cache = CacheManager::new_with_backends(l1, Arc::clone(&l2) as _, None)?;

    let strategies = [
        ("a stock price", CacheStrategy::RealTime),
        ("search results", CacheStrategy::ShortTerm),
        ("a user's profile", CacheStrategy::MediumTerm),
        ("a list of countries", CacheStrategy::LongTerm),
        ("a session", CacheStrategy::Custom(Duration::from_secs(20 * 60))),
        ("anything else", CacheStrategy::Default),
    ];
    for (what, strategy) in strategies {
        cache.set_with_strategy(what, Bytes::from("value"), strategy.clone()).await?;
        let (_, remaining) = l2.get_with_ttl(what).await.unwrap_or_default();
        let seconds = remaining.unwrap_or_default().as_secs_f64();
        println!("{what:20} {strategy:?}: {seconds:.0} s left");
    }

    let short = CacheStrategy::Custom(Duration::from_millis(20));
    cache.set_with_strategy("blink", Bytes::from("value"), short).await?;
    println!("at once:     {:?}", cache.get("blink").await?);
    tokio::time::sleep(Duration::from_millis(30)).await;
    println!("after 30 ms: {:?}", cache.get("blink").await?);
    Ok(())
}
