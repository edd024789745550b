//! A second tier that is down or hung, under every rule: reads answer within the tier's budget.

#[path = "../common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Fault, Scripted};
use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{
    Cache, CacheSystem, CacheSystemBuilder, CallOptions, EarlyRefresh, Freshness, LoadError, QuickCacheBackend,
    TierConfig, defaults,
};
use tokio::time::Instant;

use crate::source::{Answer, Source, ms};
use crate::world::{Fetch, Place, Texts, World, fetch, quiet, seconds, text};

const TTL: Duration = seconds(10);
const WINDOW: Duration = seconds(15);

/// A rule, the age of the value in process when it applies, and what a read answers with a source that has "new", and
/// with one that fails.
struct Case {
    name: &'static str,
    rules: Freshness,
    age: Duration,
    well: &'static str,
    failing: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let plain = Freshness::new(TTL);
    let case = |name, rules, age, well, failing| Case { name, rules, age, well, failing };
    let if_error = plain.with_stale_if_error(WINDOW);
    vec![
        case("fresh", plain, Duration::ZERO, "old", Some("old")),
        case("expired", plain, TTL, "new", None),
        case("early", plain.with_early_refresh(EarlyRefresh::At(0.5)), TTL / 2, "old", Some("old")),
        case("revalidated", plain.with_stale_while_revalidate(WINDOW), TTL, "old", Some("old")),
        case("if error", if_error, TTL, "new", Some("old")),
        case("soft", if_error.with_load_deadlines(Some(seconds(3)), Some(seconds(5))), TTL, "new", Some("old")),
        case("negative", plain.with_negative_ttl(TTL), TTL, "new", None),
        case("from below", plain.with_refresh_from_below(seconds(5)), seconds(5), "old", Some("old")),
        case("short first tier", plain.with_tier_ttl(1, seconds(2)), seconds(2), "new", None),
    ]
}

#[track_caller]
fn check(read: &Fetch, expected: Option<&str>, what: &str) {
    match (read, expected) {
        (Ok(fetched), Some(expected)) => assert_eq!(text(fetched).as_deref(), Some(expected), "{what}"),
        (Err(LoadError::Load(_)), None) => {}
        _ => panic!("{what}: {read:?} instead of {expected:?}"),
    }
}

async fn over(l2: &Arc<Scripted>, time: &ManualClock, rules: Freshness) -> (CacheSystem, Texts) {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let builder = CacheSystemBuilder::new().with_clock(time.clock()).with_tier(l1, TierConfig::as_l1());
    let system = builder.with_tier(Arc::clone(l2) as _, TierConfig::as_l2()).build().await.unwrap();
    let cache: Cache<u32, String> = system.cache_builder("texts").freshness(rules).build().unwrap();
    (system, cache)
}

#[tokio::test(start_paused = true)]
async fn a_hung_tier_costs_a_read_one_budget_under_every_rule() {
    for case in cases() {
        for (answer, expected) in [(Answer::Value("new"), Some(case.well)), (Answer::Fails, case.failing)] {
            let (time, l2) = (ManualClock::new(), Scripted::new("L2"));
            let (system, cache) = over(&l2, &time, case.rules).await;
            let options = CallOptions::default();
            fetch(&cache, &Source::of("old"), &options).await.unwrap();
            time.advance(case.age);
            l2.fail_all(Fault::Hang);
            let (source, began) = (Source::new(answer), Instant::now());
            for _ in 0..3 {
                check(&fetch(&cache, &source, &options).await, expected, case.name);
                // What was loaded is in process, what failed is not asked again.
                if expected == Some("new") {
                    break;
                }
            }
            let took = began.elapsed();
            assert!(took <= defaults::TIER_BUDGET + ms(10), "{}: {took:?}", case.name);
            tokio::time::sleep(seconds(10)).await;
            quiet().await;
            assert_eq!(system.cache_manager().get_stats().in_flight_requests, 0, "{}", case.name);
        }
    }
}

/// The budget, and what a busy machine adds.
fn budget() -> Duration {
    defaults::TIER_BUDGET + ms(1_500)
}

async fn answers_with_redis(trouble: impl Fn(&mut World)) {
    for case in cases() {
        for (answer, expected) in [(Answer::Value("new"), Some(case.well)), (Answer::Fails, case.failing)] {
            let mut world = World::new(Place::Redis, case.rules).await;
            world.fetch(&Source::of("old")).await.unwrap();
            world.time.advance(case.age);
            trouble(&mut world);
            let (source, began) = (Source::new(answer), Instant::now());
            check(&world.fetch(&source).await, expected, case.name);
            let took = began.elapsed();
            assert!(took <= budget(), "{}: {took:?}", case.name);
            world.rest().await;
            let began = Instant::now();
            let again = world.fetch(&source).await;
            assert!(began.elapsed() <= budget(), "{}: {:?}", case.name, began.elapsed());
            assert_eq!(again.is_ok(), expected.is_some(), "{}: {again:?}", case.name);
            world.rest().await;
        }
    }
}

#[tokio::test]
async fn reads_answer_within_the_budget_when_redis_is_killed() {
    answers_with_redis(|world| world.server.as_mut().unwrap().kill().unwrap()).await;
}

#[tokio::test]
async fn reads_answer_within_the_budget_when_redis_hangs() {
    answers_with_redis(|world| world.server.as_ref().unwrap().pause().unwrap()).await;
}
