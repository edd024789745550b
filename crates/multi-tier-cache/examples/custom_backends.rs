//! A backend of one's own as the second tier: only the required methods are written.
//!
//! `cargo run --example custom_backends`: needs no server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, ready};
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{Bytes, CacheBackend, CacheManager, CacheResult, CacheStrategy, L2CacheBackend};

/// A map with deadlines. A real one would be bounded.
#[derive(Default)]
struct Shelf(Mutex<HashMap<String, (Bytes, Instant)>>);

impl Shelf {
    fn with<T>(&self, job: impl FnOnce(&mut HashMap<String, (Bytes, Instant)>) -> T) -> T {
        job(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CacheBackend for Shelf {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        async move { self.get_with_ttl(key).await.map(|(value, _)| value) }.boxed()
    }
    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.with(|map| map.insert(key.to_owned(), (value, Instant::now() + ttl)));
        ready(Ok(())).boxed()
    }
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.with(|map| map.remove(key));
        ready(Ok(())).boxed()
    }
    fn health_check(&self) -> BoxFuture<'_, bool> {
        ready(true).boxed()
    }
    fn name(&self) -> &'static str {
        "Shelf"
    }
}

impl L2CacheBackend for Shelf {
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        let found = self.with(|map| map.get(key).cloned());
        let left =
            |(value, until): (Bytes, Instant)| Some((value, Some(until.checked_duration_since(Instant::now())?)));
        ready(found.and_then(left)).boxed()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cache =
        CacheManager::new_with_backends(Arc::new(QuickCacheBackend::new(100)?), Arc::new(Shelf::default()), None)?;
    cache.set_with_strategy("book", Bytes::from("Moby-Dick"), CacheStrategy::ShortTerm).await?;
    println!("{:?} in {:?}", cache.get("book").await?, cache.get_tier_stats());
    println!("a pattern needs more: {:?}", cache.invalidate_pattern("b*").await.map_err(|error| error.to_string()));
    Ok(())
}
