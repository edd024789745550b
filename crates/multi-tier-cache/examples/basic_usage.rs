//! Storing, reading and computing values, typed and as bytes.
//!
//! `cargo run --example basic_usage`: with `REDIS_URL` set the second tier is that Redis, otherwise it is in this
//! process.

use std::sync::Arc;

use multi_tier_cache::{Bytes, CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u32,
    name: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let system = match std::env::var("REDIS_URL") {
        Ok(url) => CacheSystem::with_redis_url(&url).await?,
        Err(_) => CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?,
    };
    let cache = system.cache_manager();

    cache.set_with_strategy("example:greeting", Bytes::from("hello"), CacheStrategy::ShortTerm).await?;
    println!("stored and read: {:?}", cache.get("example:greeting").await?);
    println!("never stored:    {:?}", cache.get("example:nothing").await?);

    for round in ["computed", "from the cache"] {
        let load = || async {
            println!("  (asking the database)");
            Ok(User { id: 7, name: "Ada".to_owned() })
        };
        let user: User = cache.get_or_compute_typed("example:user:7", CacheStrategy::MediumTerm, load).await?;
        println!("{round}: {user:?}");
    }

    cache.invalidate("example:user:7").await?;
    println!("invalidated:     {:?}", cache.get_typed::<User>("example:user:7").await?);

    let stats = cache.get_stats();
    println!("{} requests, {} hits, {} misses", stats.total_requests, stats.total_hits, stats.misses);
    cache.invalidate("example:greeting").await?;
    Ok(())
}
