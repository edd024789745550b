//! A builder with Moka, a serializer and a rule for promotion; loaders that borrow, fail, and are shared.
//!
//! `cargo run --example advanced_usage`: needs no server.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::{
    CacheError, CacheStrategy, CacheSystemBuilder, DashMapCache, MokaCacheConfig, serialization::CacheSerializer,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Forecast {
    city: String,
    degrees: Vec<i16>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let moka = MokaCacheConfig { max_capacity: 10_000, time_to_live: Duration::from_secs(600), ..Default::default() };
    let system = CacheSystemBuilder::new()
        .with_moka_config(moka)
        .with_l2(Arc::new(DashMapCache::new()))
        .with_serializer(CacheSerializer::default())
        .with_promotion_condition(|key, value, _level| key.starts_with("forecast:") && value.len() < 64 * 1024)
        .build()
        .await?;
    let cache = system.cache_manager();

    // A loader may borrow from its surroundings.
    let measurements = vec![("Brno", vec![3, 5, 4]), ("Lagos", vec![31, 30, 32])];
    for (city, degrees) in &measurements {
        let load = || async { Ok(Forecast { city: (*city).to_owned(), degrees: degrees.clone() }) };
        let key = format!("forecast:{city}");
        let forecast: Forecast = cache.get_or_compute_typed(&key, CacheStrategy::RealTime, load).await?;
        println!("{forecast:?}");
    }

    // A failed computation is the callers' error and leaves nothing behind.
    let failing = || async { Err::<Forecast, _>(CacheError::InternalError("no station in this city".into())) };
    let failed = cache.get_or_compute_typed("forecast:Atlantis", CacheStrategy::RealTime, failing).await;
    println!("Atlantis: {}", failed.err().map_or_else(|| "found".to_owned(), |error| error.to_string()));

    // Bytes that are not what was asked for: an error when read, a new computation where there is a loader.
    cache.update_cache("forecast:Brno", "garbage".into(), None).await?;
    if let Err(error) = cache.get_typed::<Forecast>("forecast:Brno").await {
        println!("read:     {error}");
    }
    let load = || async { Ok(Forecast { city: "Brno".to_owned(), degrees: vec![6] }) };
    let forecast: Forecast = cache.get_or_compute_typed("forecast:Brno", CacheStrategy::RealTime, load).await?;
    println!("computed: {forecast:?}");

    let stats = cache.get_stats();
    println!(
        "{} requests, hit rate {:.0} %, {} in flight",
        stats.total_requests, stats.hit_rate, stats.in_flight_requests
    );
    Ok(())
}
