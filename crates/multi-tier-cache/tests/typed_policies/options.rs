//! Options of one call: refreshing, read only, rules and strategies in place of the cache's.

use std::time::Duration;

use multi_tier_cache::{CacheError, CacheResult, CacheStrategy, CallOptions, Freshness, LoadError};

use crate::source::{Answer, Source};
use crate::world::{KEY, PLACES, Place, World, ended, quiet, seconds, seen, text};

const TTL: Duration = seconds(10);

#[tokio::test]
async fn refreshing_loads_whatever_is_stored_and_stores_it() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(seconds(1));
        let read = world.fetch_with(&source, &CallOptions::default().refreshing()).await;
        assert_eq!((seen(&read), source.calls()), (("new", false), 1), "{place:?}");
        assert_eq!(world.peek().await.as_deref(), Some("new"), "{place:?}");
        assert_eq!(source.told()[0].previous.as_deref(), Some("old"), "{place:?}");
    }
}

#[tokio::test]
async fn refreshing_twice_at_once_loads_anew_each_time() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL)).await;
        for value in ["one", "two"] {
            let read = world.fetch_with(&Source::of(value), &CallOptions::default().refreshing()).await;
            assert_eq!(seen(&read), (value, false), "{place:?}");
        }
    }
}

#[tokio::test]
async fn refreshing_does_not_take_the_answer_of_a_load_that_began_before() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL)).await;
        let (before, after) = (Source::of("before"), Source::of("after"));
        let hold = before.hold();
        let first = world.start(&before);
        before.begun(1).await;
        world.time.advance(seconds(1));
        let (cache, source) = (world.cache.clone(), after.clone());
        let options = CallOptions::default().refreshing();
        let second = tokio::spawn(async move { crate::world::fetch(&cache, &source, &options).await });
        quiet().await;
        hold.release();
        assert_eq!(text(ended(first).await.as_ref().unwrap()).as_deref(), Some("before"), "{place:?}");
        assert_eq!(text(ended(second).await.as_ref().unwrap()).as_deref(), Some("after"), "{place:?}");
        assert_eq!(world.peek().await.as_deref(), Some("after"), "{place:?}");
    }
}

#[tokio::test]
async fn refreshing_that_fails_is_answered_with_what_is_stored_only_by_a_rule() {
    for place in PLACES {
        let options = CallOptions::default().refreshing();
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::new(Answer::Fails));
        world.store("old").await;
        world.time.advance(TTL);
        let read = world.fetch_with(&source, &options).await;
        assert!(matches!(read, Err(LoadError::Load(_))), "{place:?} {read:?}");
        let lenient = options.with_freshness(Freshness::new(TTL).with_stale_if_error(seconds(60)));
        let world = World::new(place, Freshness::new(TTL).with_stale_if_error(seconds(60))).await;
        world.store("old").await;
        world.time.advance(TTL);
        assert_eq!(seen(&world.fetch_with(&source, &lenient).await), ("old", true), "{place:?}");
    }
}

#[tokio::test]
async fn a_read_only_call_stores_nothing_and_reads_what_is_stored() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("unstored"));
        let options = CallOptions::default().read_only();
        for calls in 1..=2 {
            assert_eq!(seen(&world.fetch_with(&source, &options).await), ("unstored", false), "{place:?}");
            assert_eq!((source.calls(), world.peek().await), (calls, None), "{place:?}");
        }
        world.store("stored").await;
        assert_eq!(seen(&world.fetch_with(&source, &options).await), ("stored", false), "{place:?}");
        let refresh = options.refreshing();
        assert_eq!(seen(&world.fetch_with(&source, &refresh).await), ("unstored", false), "{place:?}");
        assert_eq!(world.peek().await.as_deref(), Some("stored"), "{place:?}");
    }
}

#[tokio::test]
async fn a_background_refresh_of_a_read_only_call_stores_nothing() {
    for place in PLACES {
        let rules = Freshness::new(TTL).with_stale_while_revalidate(TTL);
        let (world, source) = (World::new(place, rules).await, Source::of("new"));
        world.store("old").await;
        world.time.advance(TTL);
        assert_eq!(seen(&world.fetch_with(&source, &CallOptions::default().read_only()).await), ("old", true));
        world.rest().await;
        assert_eq!(world.peek().await.as_deref(), Some("old"), "{place:?}");
    }
}

#[tokio::test]
async fn a_strategy_is_the_ttl_of_what_the_call_loads() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL)).await;
        let options = CallOptions::new(CacheStrategy::Custom(seconds(3)));
        crate::world::fetch(&world.writer, &Source::of("short"), &options).await.unwrap();
        world.time.advance(seconds(3) - place.step());
        assert_eq!(world.peek().await.as_deref(), Some("short"), "{place:?}");
        world.time.advance(place.step());
        assert_eq!(world.peek().await, None, "{place:?}");
    }
}

#[tokio::test]
async fn rules_of_a_call_hold_for_what_it_loads_and_for_what_it_reads() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("new"));
        let wide = Freshness::new(seconds(3)).with_stale_while_revalidate(seconds(60));
        let options = CallOptions::default().with_freshness(wide);
        crate::world::fetch(&world.writer, &Source::of("old"), &options).await.unwrap();
        world.time.advance(seconds(3));
        // Stored with a window; but the cache's own rules have none.
        assert_eq!(world.peek().await, None, "{place:?}");
        assert_eq!(seen(&world.fetch_with(&source, &options).await), ("old", true), "{place:?}");
        world.rest().await;
        assert_eq!(source.calls(), 1, "{place:?}: refreshed in the background");
        assert_eq!(world.peek().await.as_deref(), Some("new"), "{place:?}");
    }
}

#[tokio::test]
async fn a_readers_windows_do_not_reach_beyond_what_the_value_was_stored_for() {
    for place in PLACES {
        let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::new(Answer::Fails));
        world.store("old").await;
        world.time.advance(TTL);
        let wide = Freshness::new(TTL).with_stale_if_error(seconds(60));
        let read = world.fetch_with(&source, &CallOptions::default().with_freshness(wide)).await;
        assert!(matches!(read, Err(LoadError::Load(_))), "{place:?} {read:?}");
    }
}

#[tokio::test]
async fn a_strategy_of_a_call_and_rules_of_a_call_add_up() {
    let world = World::new(Place::First, Freshness::new(TTL)).await;
    let window = Freshness::new(TTL).with_stale_while_revalidate(seconds(5));
    let options = CallOptions::new(CacheStrategy::Custom(seconds(3))).with_freshness(window);
    world.fetch_with(&Source::of("old"), &options).await.unwrap();
    let source = Source::of("new");
    let hold = source.hold();
    world.time.advance(seconds(3));
    assert_eq!(seen(&world.fetch_with(&source, &options).await), ("old", true));
    hold.release();
    world.rest().await;
    assert_eq!(source.calls(), 1);
}

#[tokio::test]
async fn ages_count_from_the_beginning_of_the_load_in_every_place() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL).with_stale_if_error(TTL)).await;
        world.store("value").await;
        for (step, age, stale) in [(0, 0, false), (4, 4, false), (6, 10, true), (5, 15, true)] {
            world.time.advance(seconds(step));
            let read = world.fetch(&Source::new(Answer::Fails)).await.unwrap();
            assert_eq!((read.age(), read.is_stale()), (seconds(age), stale), "{place:?}");
        }
        let inserted = world.cache.insert(&KEY, "inserted".to_owned()).await;
        assert!(inserted.is_ok());
        world.time.advance(seconds(1));
        let read = world.fetch(&Source::new(Answer::Fails)).await.unwrap();
        assert_eq!((text(&read).as_deref(), read.age(), read.is_stale()), (Some("inserted"), seconds(1), false));
    }
}

#[track_caller]
fn refused<R: std::fmt::Debug>(outcome: CacheResult<R>, option: &str) {
    let Err(CacheError::ConfigError(why)) = outcome else { panic!("{option}: {outcome:?}") };
    assert!(why.contains(&format!("CallOptions::{option} ")) && why.contains("leave it out"), "{why}");
}

#[tokio::test]
async fn an_insertion_refuses_what_is_for_reads_and_changes_nothing() {
    for place in PLACES {
        let world = World::new(place, Freshness::new(TTL)).await;
        world.store("old").await;
        let position = world.writer.insert(&8, "elsewhere".to_owned()).await.unwrap();
        let plain = CallOptions::default;
        let mut for_reads = vec![("refreshing", plain().refreshing()), ("read_only", plain().read_only())];
        // Only a tier that coordinates has positions; to ask for none is no demand.
        for_reads.extend(position.is_some().then(|| ("at_least", plain().at_least(position))));
        for (option, options) in for_reads {
            refused(world.cache.insert_with(&KEY, "new".to_owned(), &options).await, option);
            assert_eq!(world.peek().await.as_deref(), Some("old"), "{place:?} {option}");
        }
        let allowed = CallOptions::new(CacheStrategy::ShortTerm).with_freshness(Freshness::new(TTL)).at_least(None);
        world.cache.insert_with(&KEY, "new".to_owned(), &allowed).await.unwrap();
        assert_eq!(world.peek().await.as_deref(), Some("new"), "{place:?}");
    }
}

#[tokio::test]
async fn verbs_on_bytes_refuse_what_is_for_typed_caches_and_name_it() {
    let world = World::new(Place::Hub, Freshness::new(TTL)).await;
    let position = world.writer.insert(&8, "elsewhere".to_owned()).await.unwrap();
    let (plain, cache) = (CallOptions::default, &world.manager);
    let typed = [
        ("with_freshness", plain().with_freshness(Freshness::new(TTL))),
        ("refreshing", plain().refreshing()),
        ("read_only", plain().read_only()),
    ];
    for (option, options) in typed {
        refused(cache.get_with_options("k", &options).await, option);
        refused(cache.get_or_compute_with_options("k", &options, || async { Ok("v".into()) }).await, option);
        refused(cache.put("k", "v".into(), &options).await, option);
    }
    refused(cache.put("k", "v".into(), &plain().at_least(position)).await, "at_least");
    assert_eq!(cache.get_with_options("k", &plain().at_least(position)).await.unwrap(), None);
}
