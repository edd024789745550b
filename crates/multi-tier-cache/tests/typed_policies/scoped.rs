//! Loads that borrow from their caller: one at a time as all others, never longer than their caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use multi_tier_cache::{Freshness, LoadError};
use tokio::task::JoinHandle;
use tokio::time::advance;

use crate::source::{Answer, Down, Source, ms};
use crate::world::{KEY, PLACES, Texts, World, ended, quiet, seconds};

const TTL: Duration = seconds(10);

type Value = Result<Arc<String>, LoadError<Down>>;

async fn scoped(cache: &Texts, source: &Source) -> Value {
    // Borrowed for the time of the load.
    cache.get_or_load_scoped(&KEY, || async { source.clone().value().await }).await
}

fn start(world: &World, source: &Source) -> JoinHandle<Value> {
    let (cache, source) = (world.cache.clone(), source.clone());
    tokio::spawn(async move { scoped(&cache, &source).await })
}

fn text(value: &Value) -> &str {
    value.as_ref().unwrap()
}

#[tokio::test]
async fn a_value_is_loaded_by_what_it_borrows_and_stored() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("value"));
        let loads = AtomicUsize::new(0);
        for _ in 0..2 {
            let load = || async {
                loads.fetch_add(1, Ordering::SeqCst);
                source.clone().value().await
            };
            assert_eq!(text(&world.cache.get_or_load_scoped(&KEY, load).await), "value", "{place:?}");
        }
        assert_eq!((loads.load(Ordering::SeqCst), world.peek().await.as_deref()), (1, Some("value")), "{place:?}");
        let failing = Source::new(Answer::Fails);
        world.cache.remove(&KEY).await.unwrap();
        assert!(matches!(scoped(&world.cache, &failing).await, Err(LoadError::Load(error)) if *error == Down));
    }
}

#[tokio::test]
async fn all_kinds_of_callers_share_one_load() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("value"));
        let hold = source.hold();
        let borrowing: Vec<_> = (0..10).map(|_| start(&world, &source)).collect();
        let owning: Vec<_> = (0..10).map(|_| world.start(&source)).collect();
        source.begun(1).await;
        quiet().await;
        hold.release();
        for reader in borrowing {
            assert_eq!(text(&ended(reader).await), "value", "{place:?}");
        }
        for reader in owning {
            assert_eq!(ended(reader).await.unwrap().value().unwrap().as_str(), "value", "{place:?}");
        }
        assert_eq!(source.calls(), 1, "{place:?}");
    }
}

#[tokio::test]
async fn a_load_ends_with_its_caller_and_a_follower_takes_over() {
    for place in PLACES {
        let (world, gone, source) =
            (World::new(place, Freshness::new(TTL)).await, Source::of("gone"), Source::of("new"));
        let _hold = gone.hold();
        let leader = start(&world, &gone);
        gone.begun(1).await;
        let followers = [start(&world, &source), start(&world, &source)];
        quiet().await;
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        for follower in followers {
            assert_eq!(text(&ended(follower).await), "new", "{place:?}");
        }
        assert_eq!((gone.calls(), source.calls()), (1, 1), "{place:?}");

        world.cache.remove(&KEY).await.unwrap();
        let alone = start(&world, &gone);
        gone.begun(2).await;
        alone.abort();
        assert!(alone.await.unwrap_err().is_cancelled());
        world.rest().await;
        assert_eq!(world.peek().await, None, "{place:?}: nobody went on");
    }
}

#[tokio::test]
async fn what_is_stale_is_loaded_while_the_caller_waits_and_answered_if_that_fails() {
    for place in PLACES {
        let rules = Freshness::new(TTL).with_stale_while_revalidate(TTL).with_error_throttle(seconds(1));
        let (world, source) = (World::new(place, rules).await, Source::new(Answer::Fails));
        world.store("old").await;
        world.time.advance(TTL);
        assert_eq!(text(&scoped(&world.cache, &source).await), "old", "{place:?}");
        assert_eq!(text(&scoped(&world.cache, &source).await), "old", "{place:?}");
        assert_eq!(source.calls(), 1, "{place:?}: the second one in the pause after the failure");
        world.time.advance(seconds(1));
        source.answers(Answer::Value("new"));
        assert_eq!(text(&scoped(&world.cache, &source).await), "new", "{place:?}");
        assert_eq!(world.cache.stats().refreshes, 0, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_the_deadlines_only_the_hard_one_holds() {
    for place in PLACES {
        let deadlines = Freshness::new(TTL).with_load_deadlines(Some(ms(200)), Some(seconds(5)));
        let (world, source) = (World::new(place, deadlines.with_stale_if_error(TTL)).await, Source::of("slow"));
        world.store("old").await;
        world.time.advance(TTL);
        let _hold = source.hold();
        let reader = start(&world, &source);
        source.begun(1).await;
        advance(seconds(4)).await;
        quiet().await;
        assert!(!reader.is_finished(), "{place:?}");
        advance(seconds(1)).await;
        assert_eq!(text(&ended(reader).await), "old", "{place:?}");
        assert_eq!(world.cache.stats().failed_loads, 1, "{place:?}");
    }
}

#[tokio::test]
async fn what_is_removed_during_the_load_is_not_stored() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("late"));
        let hold = source.hold();
        let reader = start(&world, &source);
        source.begun(1).await;
        world.cache.remove(&KEY).await.unwrap();
        hold.release();
        assert_eq!(text(&ended(reader).await), "late", "{place:?}");
        world.rest().await;
        assert_eq!(world.peek().await, None, "{place:?}");
    }
}
