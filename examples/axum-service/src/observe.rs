//! What operators see.

use std::fmt::Write as _;

use multi_tier_cache::{CacheStats, CacheSystem};
use serde_json::{Value, json};

use crate::shop::Shop;

/// One of a typed cache's counters.
type Column = fn(&CacheStats) -> u64;

/// Whether requests can be answered, and how each tier is.
pub(crate) async fn health(system: &CacheSystem) -> (bool, Value) {
    let works = system.health_check().await;
    let tiers = system.cache_manager().health().await;
    let status = match (works, tiers.iter().all(|tier| tier.healthy)) {
        (false, _) => "failed",
        (true, false) => "degraded",
        (true, true) => "ok",
    };
    let tiers: Vec<Value> = tiers
        .iter()
        .map(|tier| {
            json!({
                "level": tier.tier_level, "name": tier.backend_name, "healthy": tier.healthy,
                "errors": tier.errors, "owed_removals": tier.owed_removals,
            })
        })
        .collect();
    (works, json!({ "status": status, "tiers": tiers }))
}

/// Counters in the text format of Prometheus.
pub(crate) fn metrics(system: &CacheSystem, shop: &Shop) -> String {
    let cache = system.cache_manager();
    let (stats, coherence) = (cache.get_stats(), cache.coherence_stats());
    let mut text = String::new();
    family(&mut text, "shop_cache_tier_hits_total", "Requests answered by a tier.");
    for tier in cache.get_tier_stats() {
        let labels = format!("level=\"{}\",tier=\"{}\"", tier.tier_level, tier.backend_name);
        sample(&mut text, "shop_cache_tier_hits_total", &labels, tier.hit_count());
    }
    for (name, help, value) in [
        ("shop_cache_misses_total", "Requests that no tier had a value for.", stats.misses),
        ("shop_cache_unproven_hits_total", "Hits served without proof of freshness.", coherence.unproven_hits),
        ("shop_cache_refused_fills_total", "Loads not stored: invalidated meanwhile.", coherence.refused_fills),
    ] {
        family(&mut text, name, help);
        sample(&mut text, name, "", value);
    }
    let caches = [("products", shop.products.stats()), ("categories", shop.categories.stats())];
    let columns: [(&str, &str, Column); 3] = [
        ("shop_loads_total", "Loads from the database that began.", |stats| stats.loads),
        ("shop_failed_loads_total", "Loads that failed.", |stats| stats.failed_loads),
        ("shop_stale_answers_total", "Answers older than their fresh time.", |stats| {
            stats.stale_hits + stats.fallbacks
        }),
    ];
    for (name, help, value) in columns {
        family(&mut text, name, help);
        for (cache, stats) in &caches {
            sample(&mut text, name, &format!("cache=\"{cache}\""), value(stats));
        }
    }
    text
}

fn family(text: &mut String, name: &str, help: &str) {
    // A String takes whatever is written.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
}

fn sample(text: &mut String, name: &str, labels: &str, value: u64) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(text, "{name}{labels} {value}");
}
