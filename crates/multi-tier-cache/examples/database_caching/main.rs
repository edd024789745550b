//! Product pages from a database, 64 tasks asking at once: straight from it, then through the cache.
//!
//! `cargo run --release --example database_caching [-- --requests 200000 --rows 100000]`
//!
//! Needs no server. With `REDIS_URL` set the second tier is that Redis, otherwise it is in this process. Exits with
//! an error if a single answer differs from the database's.

mod shop;
mod zipf;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend, RedisCache};
use multi_tier_cache::{Cache, CacheBackend, CacheManager, CacheResult, Freshness, L2CacheBackend};

use crate::shop::{ProductPage, Shop};
use crate::zipf::Zipf;

const TASKS: u64 = 64;
const L1_ENTRIES: u64 = 2_000;

#[tokio::main]
async fn main() -> Result<()> {
    let (requests, rows) = arguments()?;
    let directory = tempfile::tempdir()?;
    let shop = Arc::new(Shop::create(&directory.path().join("shop.sqlite"), rows)?);
    let workload = Arc::new(Workload::new(requests, shop.products()));
    println!("{requests} requests for {} products ({rows} rows) from {TASKS} tasks", shop.products());

    let direct = measure(&workload, &Source::Database(Arc::clone(&shop))).await?;
    let loads = shop.queries();

    let manager = CacheManager::new_with_backends(Arc::new(QuickCacheBackend::new(L1_ENTRIES)?), l2().await?, None)?;
    // Another run may have filled the same Redis from other rows.
    let name = format!("shop-{:016x}", Rng::new().u64(..));
    let pages = manager.cache_builder(&name).freshness(Freshness::new(Duration::from_secs(3_600))).build()?;
    let cached = measure(&workload, &Source::Cache(pages.clone(), Arc::clone(&shop))).await?;

    print_table(&direct, loads, &cached, shop.queries() - loads, &manager);
    if let Err(error) = pages.clear().await {
        println!("what was cached stays until its time is over: {error}");
    }
    let differing = direct.differing + cached.differing;
    ensure!(differing == 0, "{differing} answers differ from the database's");
    println!("all {} answers equal the database's", 2 * requests);
    Ok(())
}

/// Redis if `REDIS_URL` names one that answers, else a tier in this process.
async fn l2() -> Result<Arc<dyn L2CacheBackend>> {
    if let Ok(url) = std::env::var("REDIS_URL") {
        let redis = RedisCache::with_url(&url).await?;
        if redis.health_check().await {
            return Ok(Arc::new(redis));
        }
        println!("no Redis answers at REDIS_URL: the second tier is in this process");
    }
    Ok(Arc::new(DashMapCache::new()))
}

fn arguments() -> Result<(u64, u32)> {
    let (mut requests, mut rows) = (200_000, 100_000);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
        let value: u32 = value.parse().with_context(|| format!("{name} {value}"))?;
        match name.as_str() {
            "--requests" => requests = u64::from(value),
            "--rows" => rows = value,
            _ => bail!("{name}: only --requests and --rows are known"),
        }
    }
    ensure!(requests > 0 && rows >= 100, "at least 1 request and 100 rows");
    Ok((requests, rows))
}

/// Which product each task asks for, and what the database answered for it first.
struct Workload {
    tasks: Vec<Vec<u32>>,
    answers: Vec<OnceLock<ProductPage>>,
}

impl Workload {
    fn new(requests: u64, products: u32) -> Self {
        let popularity = Zipf::new(products, 1.0);
        let mut products: Vec<u32> = (0..products).collect();
        Rng::with_seed(2).shuffle(&mut products);
        let task = |seed: u64| {
            let mut random = Rng::with_seed(seed);
            let requests = requests / TASKS + u64::from(seed < requests % TASKS);
            (0..requests).filter_map(|_| at(&products, popularity.draw(&mut random)).copied()).collect()
        };
        Self { tasks: (0..TASKS).map(task).collect(), answers: products.iter().map(|_| OnceLock::new()).collect() }
    }

    /// Whether the answer is the one that the database gave when it was first asked.
    fn confirms(&self, product: u32, page: &ProductPage) -> bool {
        at(&self.answers, product).is_some_and(|answer| answer.get_or_init(|| page.clone()) == page)
    }
}

fn at<T>(items: &[T], index: u32) -> Option<&T> {
    usize::try_from(index).ok().and_then(|index| items.get(index))
}

#[derive(Clone)]
enum Source {
    Database(Arc<Shop>),
    Cache(Cache<u32, ProductPage>, Arc<Shop>),
}

impl Source {
    async fn page(&self, product: u32) -> CacheResult<Arc<ProductPage>> {
        match self {
            Self::Database(shop) => shop.page(product).await.map(Arc::new),
            Self::Cache(pages, shop) => {
                let shop = Arc::clone(shop);
                pages.get_or_load(&product, move || async move { shop.page(product).await }).await
            }
        }
    }
}

/// What one run took.
struct Measured {
    seconds: f64,
    /// Sorted.
    latencies: Vec<Duration>,
    differing: usize,
}

impl Measured {
    fn percentile(&self, percent: usize) -> Duration {
        let at = self.latencies.len().saturating_sub(1) * percent / 100;
        self.latencies.get(at).copied().unwrap_or_default()
    }

    fn columns(&self) -> String {
        let rate = f64::from(u32::try_from(self.latencies.len()).unwrap_or(u32::MAX)) / self.seconds;
        let micros = |percent| format!("{:.1} µs", self.percentile(percent).as_secs_f64() * 1e6);
        format!("{rate:>10.0} {:>12} {:>12}", micros(50), micros(99))
    }
}

async fn measure(workload: &Arc<Workload>, source: &Source) -> Result<Measured> {
    let started = Instant::now();
    let tasks: Vec<_> =
        (0..workload.tasks.len()).map(|task| tokio::spawn(ask(Arc::clone(workload), task, source.clone()))).collect();
    let mut measured = Measured { seconds: 0.0, latencies: Vec::new(), differing: 0 };
    for task in tasks {
        let (latencies, differing) = task.await??;
        measured.latencies.extend(latencies);
        measured.differing += differing;
    }
    measured.seconds = started.elapsed().as_secs_f64();
    measured.latencies.sort_unstable();
    Ok(measured)
}

/// One task's requests: how long each took, and how many answers differ.
async fn ask(workload: Arc<Workload>, task: usize, source: Source) -> Result<(Vec<Duration>, usize)> {
    let products = workload.tasks.get(task).context("no such task")?;
    let (mut latencies, mut differing) = (Vec::with_capacity(products.len()), 0);
    for product in products {
        let started = Instant::now();
        let page = source.page(*product).await?;
        latencies.push(started.elapsed());
        differing += usize::from(!workload.confirms(*product, &page));
    }
    Ok((latencies, differing))
}

/// A caller that neither hit a tier nor ran its query was answered by the query of another.
fn print_table(direct: &Measured, direct_queries: u64, cached: &Measured, cached_queries: u64, cache: &CacheManager) {
    let tiers = cache.get_tier_stats();
    let name = |tier: &multi_tier_cache::TierStats| format!("L{} {}", tier.tier_level, tier.backend_name);
    let names: String = tiers.iter().map(|tier| format!(" {:>14}", name(tier))).collect();
    let none: String = tiers.iter().map(|_| format!(" {:>14}", "-")).collect();
    let hits: String = tiers.iter().map(|tier| format!(" {:>14}", tier.hit_count())).collect();
    let coalesced = cache.get_stats().misses.saturating_sub(cached_queries);
    println!("\n{:8}{:>10} {:>12} {:>12} {:>10}{names} {:>10}", "", "requests/s", "p50", "p99", "queries", "coalesced");
    println!("{:8}{} {direct_queries:>10}{none} {:>10}", "direct", direct.columns(), "-");
    println!("{:8}{} {cached_queries:>10}{hits} {coalesced:>10}\n", "cached", cached.columns());
}
