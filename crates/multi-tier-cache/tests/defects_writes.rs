//! Stories of puts, patterns and outages: what every tier must hold afterwards, and what the caller must be told.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Fault, NEW, OLD, Op, Scripted, When, assert_at_rest, ended, manager, start};
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::{CacheBackend, CacheError, CacheManager, CacheStrategy, CacheTier, L2CacheBackend};

type Tier = Arc<dyn L2CacheBackend>;

fn quick() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(1_000).unwrap())
}

fn pair() -> (Arc<QuickCacheBackend>, Arc<Scripted>, Arc<CacheManager>) {
    let (l1, l2) = (quick(), Scripted::new("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    (l1, l2, cache)
}

const PUTS: [&str; 3] = ["set_with_strategy", "update_cache", "set_with_broadcast"];

async fn put(cache: &CacheManager, how: &str) {
    match how {
        "set_with_strategy" => cache.set_with_strategy("k", NEW, CacheStrategy::LongTerm).await.unwrap(),
        "update_cache" => cache.update_cache("k", NEW, None).await.unwrap(),
        _ => cache.set_with_broadcast("k", NEW, CacheStrategy::ShortTerm).await.unwrap(),
    }
}

// 4. A put reached one tier and left an older value in another.
#[tokio::test]
async fn a_put_replaces_the_value_in_every_tier() {
    let local = Arc::new(DashMapCache::new());
    let tiers: Vec<Tier> = vec![quick(), Scripted::new("L2"), local, Scripted::new("L4")];
    let cache = manager(tiers.clone());
    for how in PUTS {
        for tier in &tiers {
            tier.set("k", OLD).await.unwrap();
        }
        put(&cache, how).await;
        for tier in &tiers {
            assert_eq!(tier.get("k").await, Some(NEW), "{} after {how}", tier.name());
        }
    }
    cache.update_cache("k", OLD, Some(Duration::ZERO)).await.unwrap();
    for tier in &tiers {
        assert_eq!(tier.get("k").await, None, "{} after a put of no time", tier.name());
    }
    assert_at_rest(&cache);
}

// 4. Two writers crossed: L1 ended with one value and L2 with the other, until the TTL.
#[tokio::test]
async fn two_racing_puts_leave_every_tier_with_the_same_value() {
    for overtaken in [When::Before, When::After] {
        let (l1, l2, cache) = pair();
        let l2_holds_the_first = l2.hold(Op::Set, overtaken);
        let (one, two) = (Arc::clone(&cache), Arc::clone(&cache));
        let first = start(async move { one.set_with_strategy("k", OLD, CacheStrategy::ShortTerm).await }).await;
        let second = start(async move { two.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await }).await;
        l2_holds_the_first.release();
        ended(first).await.unwrap();
        ended(second).await.unwrap();
        assert_eq!((l1.get("k").await, l2.peek("k")), (Some(NEW), Some(NEW)));
        assert_at_rest(&cache);
    }
}

// 4. The same under load, in no order that anybody chose.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn storms_of_puts_removals_and_reads_leave_the_tiers_equal() {
    let (l1, l2, l3) = (quick(), Scripted::new("L2"), Scripted::new("L3"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier, Arc::clone(&l3) as Tier]);
    for round in 0..200_u32 {
        let mut tasks = Vec::new();
        for n in 0..6_u32 {
            let cache = Arc::clone(&cache);
            tasks.push(tokio::spawn(async move {
                let value = Bytes::from(format!("{round}:{n}"));
                match n {
                    0..3 => cache.update_cache("k", value, None).await.unwrap(),
                    3 => cache.invalidate("k").await.unwrap(),
                    4 => drop(cache.get("k").await.unwrap()),
                    _ => {
                        let load = || async { Ok(value) };
                        drop(cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap());
                    }
                }
            }));
        }
        for task in tasks {
            ended(task).await;
        }
        let (above, below) = (l1.get("k").await, l2.peek("k"));
        assert!(below == l3.peek("k") && (above.is_none() || above == below), "{round}: {above:?} {below:?}");
        assert_at_rest(&cache);
    }
}

// 4. A tier that refused a put kept the older value, which came back when L1's copy had gone.
#[tokio::test]
async fn a_tier_that_refuses_a_put_does_not_keep_the_older_value() {
    put_with_one_failure(Fault::Refusal).await;
}

// 4. The same after a failure that opens the tier's breaker: the removal that should follow was never sent.
#[tokio::test]
async fn a_tier_that_fails_to_take_a_put_for_a_moment_does_not_keep_the_older_value() {
    put_with_one_failure(Fault::Outage).await;
}

async fn put_with_one_failure(fault: Fault) {
    let (l1, l2, cache) = pair();
    l2.plant("k", OLD);
    l2.fail_times(Op::Set, fault, 1);
    cache.update_cache("k", NEW, None).await.unwrap();
    assert_eq!(l1.get("k").await, Some(NEW));
    assert_eq!(l2.peek("k"), None, "L2 works again right after one write met a {fault:?}");
}

// 8. A tier that cannot match patterns answered Ok and removed nothing.
#[tokio::test]
async fn a_pattern_that_a_tier_cannot_match_is_an_error() {
    let (l1, l2) = (quick(), Scripted::without_patterns("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    l2.plant("user:1", OLD);
    assert_eq!(cache.get("user:1").await.unwrap(), Some(OLD));
    let error = cache.invalidate_pattern("user:*").await.unwrap_err();
    assert!(matches!(error, CacheError::InvalidationError(_)) && !error.is_retryable(), "{error:?}");
    assert_eq!(l1.get("user:1").await, None, "the tiers that can are clean in any case");

    let awaited_l1 = Scripted::without_patterns("L1");
    let cache = CacheManager::new_with_backends(awaited_l1, Arc::new(DashMapCache::new()), None).unwrap();
    assert!(cache.invalidate_pattern("user:*").await.is_err());
}

// 8. One tier's failure ended the removal, and the others kept their keys.
#[tokio::test]
async fn a_pattern_is_removed_from_every_tier_that_works_even_if_one_fails() {
    let (l1, l2, l3) = (quick(), Scripted::new("L2"), Scripted::new("L3"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier, Arc::clone(&l3) as Tier]);
    for key in ["user:1", "user:2", "users"] {
        cache.set_with_strategy(key, OLD, CacheStrategy::ShortTerm).await.unwrap();
    }
    l3.fail(Op::Pattern, Fault::Outage);
    assert!(cache.invalidate_pattern("user:?").await.unwrap_err().is_retryable());
    for key in ["user:1", "user:2"] {
        assert_eq!((l1.get(key).await, l2.peek(key), l3.peek(key)), (None, None, Some(OLD)));
    }
    assert_eq!(cache.get("users").await.unwrap(), Some(OLD));
}

// 10. `invalidate` answered Ok while the shared copy was still there.
#[tokio::test]
async fn an_invalidation_that_could_not_reach_a_tier_is_an_error_and_leaves_l1_clean() {
    for fault in [Fault::Refusal, Fault::Outage] {
        let (l1, l2, cache) = pair();
        cache.set_with_strategy("k", OLD, CacheStrategy::ShortTerm).await.unwrap();
        l2.fail(Op::Remove, fault);
        let error = cache.invalidate("k").await.unwrap_err();
        assert!(matches!(error, CacheError::InvalidationError(_)), "{error:?}");
        assert_eq!(error.is_retryable(), fault == Fault::Outage);
        assert_eq!((l1.get("k").await, l2.peek("k")), (None, Some(OLD)));
        assert_at_rest(&cache);
    }
}

// 10. The same for a put of no time, which is a removal.
#[tokio::test]
async fn a_put_of_no_time_that_could_not_remove_the_shared_copy_is_an_error() {
    let (_, l2, cache) = pair();
    cache.set_with_strategy("k", OLD, CacheStrategy::ShortTerm).await.unwrap();
    l2.fail(Op::Remove, Fault::Refusal);
    let outcome = cache.update_cache("k", NEW, Some(Duration::ZERO)).await;
    assert_eq!(l2.peek("k"), Some(OLD));
    assert!(outcome.is_err(), "Ok, and the next read finds the old value");
}

// 10. An outage of L2 was a miss to a plain get, and counted as one.
#[tokio::test]
async fn a_get_that_no_tier_could_answer_is_an_error_and_not_a_miss() {
    let (_, l2, cache) = pair();
    l2.fail(Op::Get, Fault::Outage);
    let error = cache.get("k").await.unwrap_err();
    assert!(matches!(error, CacheError::BackendError(_)) && error.is_retryable(), "{error:?}");
    assert!(cache.get_typed::<u8>("k").await.is_err());
    assert_eq!((cache.get_stats().misses, cache.get_stats().total_requests), (0, 0));
    let load = || async { Ok(NEW) };
    assert_eq!(cache.get_or_compute_with("k", CacheStrategy::ShortTerm, load).await.unwrap(), NEW);
    assert_eq!(cache.get("k").await.unwrap(), Some(NEW), "L1 serves while L2 is away");
    assert_eq!((cache.get_stats().misses, cache.get_stats().l1_hits), (1, 1));
    assert_at_rest(&cache);
}

// 10. A lower tier that has the value answers for one above it that is away.
#[tokio::test]
async fn a_tier_that_is_away_is_passed_over() {
    let (l2, l3) = (Scripted::new("L2"), Scripted::new("L3"));
    let cache = manager(vec![quick() as Tier, Arc::clone(&l2) as Tier, Arc::clone(&l3) as Tier]);
    l2.fail_all(Fault::Outage);
    l3.plant("k", OLD);
    assert_eq!(cache.get("k").await.unwrap(), Some(OLD));
    assert!(cache.get("absent").await.is_err(), "L2 may have it");
    cache.set_with_strategy("j", NEW, CacheStrategy::ShortTerm).await.unwrap();
    assert_eq!(l3.peek("j"), Some(NEW));
    assert_at_rest(&cache);
}

// 10. A write that no tier took answered Ok.
#[tokio::test]
async fn a_put_that_no_tier_takes_is_the_last_tiers_error() {
    let (l1, l2) = (Scripted::new("L1"), Scripted::new("L2"));
    let cache = manager(vec![Arc::clone(&l1) as Tier, Arc::clone(&l2) as Tier]);
    l2.fail(Op::Set, Fault::Refusal);
    cache.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap();
    l1.fail(Op::Set, Fault::Refusal);
    let error = cache.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap_err();
    assert!(matches!(error, CacheError::BackendError(_)), "{error:?}");
    assert_at_rest(&cache);
}

// 10. The same where L1's scale left a value no time at all: it did not take the value, and that counted as taken.
#[tokio::test]
async fn a_put_that_one_tier_leaves_out_and_the_other_refuses_is_an_error() {
    let (l1, l2) = (quick(), Scripted::new("L2"));
    let tiers = [(l1 as Tier, 1, 1e-12), (Arc::clone(&l2) as Tier, 2, 1.0)];
    let tiers = tiers.map(|(backend, level, scale)| CacheTier::new(backend, level, level > 1, 1, scale));
    let cache = CacheManager::new_with_tiers(tiers.into(), None).unwrap();
    l2.fail_all(Fault::Outage);
    let error = cache.set_with_strategy("k", NEW, CacheStrategy::ShortTerm).await.unwrap_err();
    assert!(matches!(error, CacheError::BackendError(_)), "{error:?}");
    assert_at_rest(&cache);
}
