//! How long a load may take: the soft deadline for those who have a stale value, the hard one for the load. Deadlines
//! run in virtual time.

use std::time::Duration;

use multi_tier_cache::{CacheError, CallOptions, Freshness, LoadError};
use tokio::time::{Instant, advance};

use crate::source::{Answer, Source, ms};
use crate::world::{PLACES, Place, World, ended, quiet, seconds, seen};

const TTL: Duration = seconds(10);
const SOFT: Duration = ms(200);
const HARD: Duration = seconds(5);

fn rules() -> Freshness {
    Freshness::new(TTL).with_stale_if_error(seconds(60)).with_load_deadlines(Some(SOFT), Some(HARD))
}

fn millis(began: Instant) -> u128 {
    began.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_slow_load_is_answered_with_the_stale_value_at_the_soft_deadline_and_stored_when_it_completes() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(TTL);
        let (hold, began) = (source.hold(), Instant::now());
        let reader = world.start(&source);
        source.begun(1).await;
        advance(SOFT - ms(2)).await;
        quiet().await;
        assert!(!reader.is_finished(), "{place:?}: just before");
        assert_eq!(seen(&ended(reader).await), ("old", true), "{place:?}");
        assert!((200..=202).contains(&millis(began)), "{place:?}: after {} ms", millis(began));
        hold.release();
        world.rest().await;
        assert_eq!((world.peek().await.as_deref(), source.calls()), (Some("new"), 1), "{place:?}");
        assert_eq!(world.cache.stats().fallbacks, 1, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_within_the_soft_deadline_is_waited_for() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = source.hold();
        let reader = world.start(&source);
        source.begun(1).await;
        advance(SOFT - ms(5)).await;
        hold.release();
        assert_eq!(seen(&ended(reader).await), ("new", false), "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_with_a_stale_value_in_process_has_it_at_the_soft_deadline_and_one_load_goes_on() {
    for place in [Place::First, Place::SharedMap] {
        let (world, source) = (World::new(place, rules()).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = source.hold();
        let readers: Vec<_> = (0..20).map(|_| world.start(&source)).collect();
        for reader in readers {
            assert_eq!(seen(&ended(reader).await), ("old", true), "{place:?}");
        }
        hold.release();
        world.rest().await;
        assert_eq!((world.peek().await.as_deref(), source.calls()), (Some("new"), 1), "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_for_one_load_has_the_stale_value_of_a_tier_below_at_the_soft_deadline() {
    let (world, source) = (World::new(Place::Hub, rules()).await, Source::of("new"));
    world.store("old").await;
    world.time.advance(TTL);
    let (hold, began) = (source.hold(), Instant::now());
    let before = world.manager.get_stats().total_requests;
    let readers: Vec<_> = (0..20).map(|_| world.start(&source)).collect();
    for reader in readers {
        assert_eq!(seen(&ended(reader).await), ("old", true));
    }
    assert!(millis(began) < HARD.as_millis());
    hold.release();
    world.rest().await;
    let requests = world.manager.get_stats().total_requests - before;
    assert_eq!(requests, 20, "one for each caller");
}

#[tokio::test(start_paused = true)]
async fn without_a_stale_value_a_caller_waits_beyond_the_soft_deadline() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("new"));
        let hold = source.hold();
        let reader = world.start(&source);
        source.begun(1).await;
        advance(SOFT * 10).await;
        quiet().await;
        assert!(!reader.is_finished(), "{place:?}");
        hold.release();
        assert_eq!(seen(&ended(reader).await), ("new", false), "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_hard_deadline_every_waiter_is_told_and_a_late_value_is_not_stored() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("late"));
        let (hold, began) = (source.hold(), Instant::now());
        let readers: Vec<_> = (0..20).map(|_| world.start(&source)).collect();
        source.begun(1).await;
        for reader in readers {
            let answer = ended(reader).await;
            let Err(LoadError::TimedOut(after)) = answer else { panic!("{place:?} {answer:?}") };
            assert_eq!(after, HARD);
        }
        assert!((5_000..=5_003).contains(&millis(began)), "{place:?}: after {} ms", millis(began));
        hold.release();
        world.rest().await;
        assert_eq!((world.peek().await, source.calls()), (None, 1), "{place:?}");
        assert_eq!(world.cache.stats().failed_loads, 1, "{place:?}");
        assert_eq!(seen(&world.fetch(&Source::of("next")).await), ("next", false), "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_given_up_after_the_soft_deadline_stores_nothing_and_pauses() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules()).await, Source::of("late"));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = source.hold();
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        advance(HARD).await;
        world.rest().await;
        hold.release();
        quiet().await;
        assert_eq!(world.peek().await, None, "{place:?}");
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        assert_eq!((source.calls(), world.cache.stats().failed_loads), (1, 1), "{place:?}: in the pause");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_soft_deadline_the_hard_one_ends_in_the_stale_value() {
    for place in PLACES {
        let (world, source) = (World::new(place, rules().with_load_deadlines(None, Some(HARD))).await, Source::of("x"));
        world.store("old").await;
        world.time.advance(TTL);
        let (_hold, began) = (source.hold(), Instant::now());
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        assert!((5_000..=5_003).contains(&millis(began)), "{place:?}: after {} ms", millis(began));
        world.rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_hard_deadline_a_load_may_take_a_day() {
    for place in PLACES {
        let rules = rules().with_load_deadlines(None, None);
        let (world, source) = (World::new(place, rules).await, Source::of("new"));
        let hold = source.hold();
        let reader = world.start(&source);
        source.begun(1).await;
        for _ in 0..24 {
            advance(seconds(3600)).await;
            quiet().await;
        }
        assert!(!reader.is_finished(), "{place:?}");
        hold.release();
        assert_eq!(seen(&ended(reader).await).0, "new", "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_background_refresh_has_the_hard_deadline_too() {
    for place in PLACES {
        let rules = rules().with_stale_while_revalidate(seconds(60));
        let (world, source) = (World::new(place, rules).await, Source::of("late"));
        world.store("old").await;
        world.time.advance(TTL);
        let (_hold, began) = (source.hold(), Instant::now());
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        assert_eq!(millis(began), 0, "{place:?}: at once");
        source.begun(1).await;
        advance(HARD + ms(2)).await;
        world.rest().await;
        assert_eq!(world.cache.stats().failed_loads, 1, "{place:?}");
        world.time.advance(seconds(5));
        assert_eq!(seen(&world.fetch(&Source::of("new")).await), ("old", true), "{place:?}");
        world.rest().await;
        assert_eq!(world.peek().await.as_deref(), Some("new"), "{place:?}: the next refresh is not held up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_an_error_that_may_be_retried() {
    let world = World::new(Place::First, rules()).await;
    let source = Source::new(Answer::Value("late"));
    let _hold = source.hold();
    let load = || async { source.value().await.map_err(|_| multi_tier_cache::CacheError::NotFound) };
    let error = world.cache.get_or_load(&1, load).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("given up after 5s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn deadlines_of_a_call_hold_for_that_call() {
    for place in PLACES {
        let patient = rules().with_load_deadlines(None, None);
        let (world, source) = (World::new(place, patient).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(TTL);
        let options = CallOptions::default().with_load_deadlines(Some(SOFT), Some(HARD));
        let (hold, began) = (source.hold(), Instant::now());
        assert_eq!(seen(&world.fetch_with(&source, &options).await), ("old", true), "{place:?}");
        assert!((200..=202).contains(&millis(began)), "{place:?}: after {} ms", millis(began));
        advance(HARD).await;
        world.rest().await;
        hold.release();
        assert_eq!(world.cache.stats().failed_loads, 1, "{place:?}: given up at the call's hard deadline");
        let backwards = CallOptions::default().with_load_deadlines(Some(HARD), Some(SOFT));
        let refused = world.fetch_with(&source, &backwards).await;
        assert!(matches!(refused, Err(LoadError::Cache(CacheError::ConfigError(_)))), "{place:?}: {refused:?}");
    }
}
