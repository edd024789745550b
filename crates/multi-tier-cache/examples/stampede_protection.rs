//! A thousand callers ask for one missing key at once: one computes, the others wait for its value.
//!
//! `cargo run --example stampede_protection`: needs no server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{CacheManager, CacheResult, CacheStrategy, DashMapCache};
use tokio::task::JoinSet;

struct Report {
    cache: CacheManager,
    computations: AtomicU32,
}

impl Report {
    async fn read(&self, key: &str) -> CacheResult<String> {
        let compute = || async {
            self.computations.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok("expensive".to_owned())
        };
        self.cache.get_or_compute_typed(key, CacheStrategy::ShortTerm, compute).await
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let l1 = Arc::new(QuickCacheBackend::new(1_000)?);
    let cache = CacheManager::new_with_backends(l1, Arc::new(DashMapCache::new()), None)?;
    let report = Arc::new(Report { cache, computations: AtomicU32::new(0) });

    let started = Instant::now();
    let callers: JoinSet<_> = (0..1_000).map(|_| ask(&report, "monthly")).collect();
    let answers = callers.join_all().await.into_iter().collect::<CacheResult<Vec<_>>>()?;
    let computations = report.computations.swap(0, Ordering::Relaxed);
    println!("{} answers, {computations} computation, {:?}", answers.len(), started.elapsed());

    // The caller that computes goes away: one of those who wait computes instead, and all are answered.
    let leader = tokio::spawn(ask(&report, "weekly"));
    tokio::time::sleep(Duration::from_millis(30)).await;
    let callers: JoinSet<_> = (0..1_000).map(|_| ask(&report, "weekly")).collect();
    tokio::time::sleep(Duration::from_millis(30)).await;
    leader.abort();
    let answers = callers.join_all().await.into_iter().collect::<CacheResult<Vec<_>>>()?;
    let computations = report.computations.load(Ordering::Relaxed);
    println!("{} answers, {computations} computations, the first one cancelled", answers.len());
    Ok(())
}

fn ask(report: &Arc<Report>, key: &'static str) -> impl Future<Output = CacheResult<String>> + Send + use<> {
    let report = Arc::clone(report);
    async move { report.read(key).await }
}
