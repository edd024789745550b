//! A page that outlives its database: stale for a while, never gone.
//!
//! `cargo run --example outage`. Needs no server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use multi_tier_cache::{Cache, CacheSystemBuilder, CallOptions, DashMapCache, Fetched, Freshness, LoadError, Loaded};
use tokio::time::sleep;

const TTL: Duration = Duration::from_millis(200);

#[derive(Clone, Default)]
struct Database {
    is_down: Arc<AtomicBool>,
    queries: Arc<AtomicUsize>,
}

impl Database {
    async fn page(self, number: u32) -> Result<Loaded<String>, String> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        if self.is_down.load(Ordering::Relaxed) {
            Err("connection refused".into())
        } else {
            Ok(Loaded::new(format!("page {number}")))
        }
    }
}

async fn show(pages: &Cache<u32, String>, database: &Database) -> Result<Fetched<String>, LoadError<String>> {
    let database = database.clone();
    pages.fetch(&7, &CallOptions::default(), move |_| database.page(7)).await
}

#[tokio::main]
async fn main() -> Result<()> {
    let system = CacheSystemBuilder::new().with_l2(Arc::new(DashMapCache::new())).build().await?;
    let freshness = Freshness::new(TTL)
        .with_stale_if_error(Duration::from_secs(3_600))
        .with_error_throttle(Duration::from_millis(500));
    let pages: Cache<u32, String> = system.cache_builder("pages").freshness(freshness).build()?;
    let database = Database::default();

    let page = show(&pages, &database).await?;
    println!("database up:    {:?}, stale: {}", page.value(), page.is_stale());

    database.is_down.store(true, Ordering::Relaxed);
    sleep(2 * TTL).await;
    for _ in 0..1_000 {
        let page = show(&pages, &database).await?;
        ensure!(page.is_stale() && page.value().is_some_and(|page| **page == "page 7"), "the page is gone");
    }
    println!(
        "database down:  1,000 readers had the stale page; the database was asked {} times",
        pages.stats().failed_loads
    );

    database.is_down.store(false, Ordering::Relaxed);
    sleep(Duration::from_millis(500)).await;
    let page = show(&pages, &database).await?;
    println!(
        "database back:  {:?}, stale: {}, {} queries in all",
        page.value(),
        page.is_stale(),
        database.queries.load(Ordering::Relaxed)
    );
    ensure!(!page.is_stale(), "the page was not loaded anew");
    Ok(())
}
