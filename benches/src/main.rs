//! Runs one hot path a number of times: `hot-paths NAME TIMES`. Without arguments it prints the names.
//!
//! `cargo xtask instructions` runs this under callgrind, twice with different numbers, so that what is done once counts
//! for nothing. Instructions are counted, not seconds: the same wherever it runs, and whatever else the machine does.

use std::env;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::{Bytes, Cache, CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache};

const KEYS: usize = 1_000;
const TTL: CacheStrategy = CacheStrategy::Custom(Duration::from_secs(3_600));
const NAMES: [&str; 8] = [
    "get",
    "get_or_compute_with",
    "get_or_compute_shared",
    "Cache::get of a text",
    "Cache::get of a number",
    "Cache::get_or_load",
    "set_with_strategy",
    "get of nothing",
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [] => NAMES.iter().for_each(|name| println!("{name}")),
        [name, times] => run(name, times.parse().context("TIMES is a number")?).await?,
        _ => bail!("usage: hot-paths [NAME TIMES]"),
    }
    Ok(())
}

async fn run(name: &str, times: usize) -> Result<()> {
    let texts: Vec<String> = (0..KEYS).map(|number| format!("user:profile:{number:09}")).collect();
    let texts = texts.iter().cycle().take(times);
    let numbers = (0..KEYS as u64).cycle().take(times);
    let system = system().await?;
    let (manager, value) = (&*system.cache_manager, Bytes::from_static(&[b'v'; 100]));
    match name {
        "get" => {
            fill(manager, &value).await?;
            for key in texts {
                ensure!(black_box(manager.get(black_box(key)).await)?.is_some());
            }
        }
        "get of nothing" => {
            for key in texts {
                ensure!(black_box(manager.get(black_box(key)).await)?.is_none());
            }
        }
        "get_or_compute_with" => {
            fill(manager, &value).await?;
            for key in texts {
                black_box(manager.get_or_compute_with(black_box(key), TTL, unneeded).await)?;
            }
        }
        "set_with_strategy" => {
            fill(manager, &value).await?;
            for key in texts {
                black_box(manager.set_with_strategy(black_box(key), value.clone(), TTL).await)?;
            }
        }
        "get_or_compute_shared" => {
            for key in texts {
                let load = || async { Ok(String::from("value")) };
                black_box(manager.get_or_compute_shared(black_box(key), TTL, load).await)?;
            }
        }
        "Cache::get of a text" => {
            let cache = typed_by_text(&system).await?;
            for key in texts {
                ensure!(black_box(cache.get(black_box(key)).await)?.is_some());
            }
        }
        "Cache::get of a number" => {
            let cache: Cache<u64, String> = system.cache("users")?;
            for key in 0..KEYS as u64 {
                cache.insert(&key, String::from("value")).await?;
            }
            for key in numbers {
                ensure!(black_box(cache.get(black_box(&key)).await)?.is_some());
            }
        }
        "Cache::get_or_load" => {
            let cache = typed_by_text(&system).await?;
            for key in texts {
                black_box(cache.get_or_load(black_box(key), unneeded).await)?;
            }
        }
        _ => bail!("unknown hot path `{name}`"),
    }
    Ok(())
}

async fn system() -> Result<CacheSystem> {
    let first = Arc::new(QuickCacheBackend::new(2 * KEYS as u64)?);
    Ok(CacheSystemBuilder::new().with_l1(first).with_l2(Arc::new(DashMapCache::new())).build().await?)
}

async fn fill(manager: &CacheManager, value: &Bytes) -> Result<()> {
    for number in 0..KEYS {
        manager.set_with_strategy(&format!("user:profile:{number:09}"), value.clone(), TTL).await?;
    }
    Ok(())
}

async fn typed_by_text(system: &CacheSystem) -> Result<Cache<String, String>> {
    let cache: Cache<String, String> = system.cache("users")?;
    for number in 0..KEYS {
        cache.insert(&format!("user:profile:{number:09}"), String::from("value")).await?;
    }
    Ok(cache)
}

/// A load of what is always there.
async fn unneeded<T: Default>() -> multi_tier_cache::CacheResult<T> {
    Ok(T::default())
}
