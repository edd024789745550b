//! Publishing to a Redis stream and reading it back: the latest, from the start, and waiting for what comes next.
//!
//! `cargo run --example redis_streams`: needs Redis at `REDIS_URL` (or 127.0.0.1:6379).

use std::time::Duration;

use multi_tier_cache::{CacheBackend, CacheSystem, StreamEntry};

const STREAM: &str = "example:orders";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let system = CacheSystem::new().await?;
    let reachable = match &system.l2_cache {
        Some(redis) => redis.health_check().await,
        None => false,
    };
    if !reachable {
        println!("This example needs a Redis server: start one, or name it in REDIS_URL.");
        return Ok(());
    }
    let cache = system.cache_manager();

    for (order, cents) in [("1", "1250"), ("2", "800"), ("3", "4999")] {
        let fields = vec![("order".to_owned(), order.to_owned()), ("cents".to_owned(), cents.to_owned())];
        let id = cache.publish_to_stream(STREAM, fields, Some(1_000)).await?;
        println!("published order {order} as {id}");
    }
    print("latest two", &cache.read_stream_latest(STREAM, 2).await?);
    print("from the start", &cache.read_stream(STREAM, "0", 10, None).await?);

    let publish_later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cache.publish_to_stream(STREAM, vec![("order".to_owned(), "4".to_owned())], None).await
    };
    let (next, published) = tokio::join!(cache.read_stream(STREAM, "$", 10, Some(2_000)), publish_later);
    published?;
    print("waited for", &next?);
    print("waited in vain", &cache.read_stream(STREAM, "$", 10, Some(50)).await?);

    cache.invalidate(STREAM).await?;
    Ok(())
}

fn print(title: &str, entries: &[StreamEntry]) {
    println!("{title}: {} entries", entries.len());
    for (id, fields) in entries {
        println!("  {id} {fields:?}");
    }
}
