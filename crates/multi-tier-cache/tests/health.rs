//! Health: what is amiss is named, and an outage below does not make an instance unready.
#![cfg(all(feature = "test-util", feature = "redis"))]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::over_faulty;
use futures_util::future::BoxFuture;
use multi_tier_cache::entry::Entry;
use multi_tier_cache::telemetry::{HealthReport, HealthStatus};
use multi_tier_cache::testing::{Fault, Faulty, Fleet, ManualClock, Stage, Step};
use multi_tier_cache::{
    CacheBackend, CacheResult, CacheStrategy, CacheSystem, CacheSystemBuilder, DashMapCache, InProcess, TierConfig,
    defaults,
};
use serde_json::{Value, json};
use test_servers::RedisServer;

fn parsed(report: &HealthReport) -> Value {
    serde_json::from_str(&report.to_json()).unwrap()
}

#[tokio::test]
async fn a_cache_that_is_well_says_so() {
    let system = Fleet::new().instance().await.unwrap();
    let report = system.health_report().await;
    assert_eq!((report.status, report.ready), (HealthStatus::Ok, true));
    let tier = |level: usize, name: &str| {
        json!({
            "tier_level": level, "backend_name": name, "healthy": true, "errors": 0, "owed_removals": 0,
            "left_alone": false, "reasons": [],
        })
    };
    let bus = json!({
        "healthy": true, "proof_age_seconds": 0.001, "lag": 0, "pending_invalidations": 0, "reasons": [],
    });
    let expected =
        json!({ "status": "ok", "ready": true, "tiers": [tier(1, "QuickCache"), tier(2, "Hub")], "bus": bus });
    assert_eq!(parsed(&report), expected);
}

#[tokio::test]
async fn an_outage_below_degrades_and_is_over_when_the_tier_answers() {
    let time = ManualClock::new();
    let (system, l2) = over_faulty(&time).await;
    let cache = system.cache_manager();
    l2.always(Fault::Fail);
    assert!(cache.get("k").await.is_err());
    assert!(cache.invalidate("k").await.is_err());
    let report = system.health_report().await;
    assert_eq!((report.status, report.ready), (HealthStatus::Degraded, true));
    assert!(report.tiers[0].reasons.is_empty() && report.bus.is_none());
    let sick = &report.tiers[1];
    assert!(!sick.healthy && sick.left_alone && sick.owed_removals == 1 && sick.errors == 2, "{sick:?}");
    assert_eq!(sick.reasons.len(), 3, "{sick:?}");
    assert_eq!(cache.health().await[1].reasons, sick.reasons);
    l2.always(Fault::None);
    time.advance(defaults::BREAKER_WINDOW);
    cache.get("k").await.unwrap();
    assert_eq!(system.health_report().await.status, HealthStatus::Ok);
}

#[tokio::test]
async fn a_report_that_finds_a_tier_well_again_says_nothing_of_its_last_failure_but_a_recent_one() {
    let time = ManualClock::new();
    let (system, l2) = over_faulty(&time).await;
    l2.script([Fault::Fail]);
    assert!(system.cache_manager().get("k").await.is_err());
    // A look may be answered where reads are not.
    let report = system.health_report().await;
    assert_eq!(
        (report.status, report.tiers[1].healthy, report.tiers[1].left_alone),
        (HealthStatus::Degraded, true, true)
    );
    time.advance(defaults::TIER_FAILURE_COUNTS);
    let report = system.health_report().await;
    assert_eq!((report.status, report.ready), (HealthStatus::Ok, true));
    let tier = &report.tiers[1];
    assert!(tier.healthy && !tier.left_alone && tier.reasons.is_empty() && tier.errors == 1, "{tier:?}");
    l2.script([Fault::Fail, Fault::Fail]);
    assert!(system.cache_manager().get("k").await.is_err());
    let tier = system.health_report().await.tiers.remove(1);
    assert!(!tier.healthy && tier.left_alone, "{tier:?}");
}

#[tokio::test]
async fn a_cache_whose_first_tier_does_not_work_is_not_ready() {
    let l1 = Faulty::new(Arc::new(DashMapCache::new()));
    let builder = CacheSystemBuilder::new().with_tier(l1.clone(), TierConfig::as_l1());
    let system = builder.build().await.unwrap();
    assert!(system.health_report().await.ready);
    l1.always(Fault::Fail);
    let report = system.health_report().await;
    assert_eq!((report.status, report.ready), (HealthStatus::Failed, false));
    assert_eq!(parsed(&report)["status"], "failed");
    assert!(!system.health_check().await);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_holds_up_the_report_for_its_budget_only() {
    let (system, l2) = over_faulty(&ManualClock::new()).await;
    l2.always(Fault::Hang);
    let began = tokio::time::Instant::now();
    let report = system.health_report().await;
    assert!(began.elapsed() <= defaults::TIER_BUDGET + Duration::from_millis(1), "{:?}", began.elapsed());
    assert!(!report.tiers[1].healthy && report.ready);
}

/// A store in process that never tells how it is.
struct Mute(DashMapCache);

impl InProcess for Mute {
    fn lookup(&self, key: &str) -> Option<Entry> {
        self.0.lookup(key)
    }

    fn store(&self, key: &Arc<str>, entry: Entry) {
        InProcess::store(&self.0, key, entry);
    }

    fn evict(&self, key: &str) {
        self.0.evict(key);
    }

    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        self.0.evict_where(matches);
    }
}

impl CacheBackend for Mute {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        self.0.get(key)
    }

    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        self.0.set_with_ttl(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        self.0.remove(key)
    }

    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::pending())
    }

    fn name(&self) -> &'static str {
        "Mute"
    }

    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        Some(self)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_in_process_that_does_not_answer_holds_up_the_report_for_a_budget_only() {
    let builder = CacheSystemBuilder::new().with_l1(Arc::new(Mute(DashMapCache::new())));
    let system = builder.with_l2(Arc::new(DashMapCache::new())).build().await.unwrap();
    let report = tokio::time::timeout(2 * defaults::TIER_BUDGET, system.health_report()).await.unwrap();
    assert_eq!((report.status, report.ready), (HealthStatus::Failed, false));
    assert!(!report.tiers[0].healthy && report.tiers[1].healthy, "{report:?}");
}

#[tokio::test]
async fn freshness_that_is_not_proven_within_the_bound_is_amiss() {
    let (fleet, stage) = (Fleet::new(), Stage::new());
    let system = fleet.join(fleet.builder().unwrap().with_stage(&stage)).await.unwrap();
    stage.fail(Step::Poll, usize::MAX);
    fleet.time().advance(defaults::STALENESS_BOUND + Duration::from_secs(1));
    let report = system.health_report().await;
    let bus = report.bus.unwrap();
    assert_eq!((report.status, report.ready, bus.healthy), (HealthStatus::Degraded, true, false));
    assert_eq!(bus.reasons, ["the log of invalidations was last followed 3.0 s ago, beyond the bound of 2.0 s"]);
}

#[tokio::test]
async fn no_secret_is_in_a_report() {
    let mut server = RedisServer::builder().password("hunter2-secret").start().unwrap();
    let system = CacheSystem::with_redis_url(&server.url()).await.unwrap();
    let cache = system.cache_manager();
    cache.set_with_strategy("secret-key-123", Bytes::from_static(b"v"), CacheStrategy::RealTime).await.unwrap();
    server.kill().unwrap();
    assert!(cache.invalidate("secret-key-123").await.is_err());
    let report = system.health_report().await;
    assert_eq!(report.status, HealthStatus::Degraded);
    assert_eq!(report.bus.as_ref().unwrap().pending_invalidations, 1);
    let text = report.to_json() + &format!("{report:?}");
    assert!(text.contains("left alone") && !text.contains("secret") && !text.contains("127.0.0.1"), "{text}");
}
