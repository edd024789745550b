//! The soft deadline of loads of many keys. Deadlines run in virtual time.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::{Freshness, LoadError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};

use crate::source::{Answer, Down, Source, ms};
use crate::world::{PLACES, Place, TAG, Texts, World, ended, quiet, seconds};

const TTL: Duration = seconds(10);
const SOFT: Duration = ms(200);
const HARD: Duration = seconds(5);
const KEYS: [u32; 3] = [1, 2, 3];

type Values = Result<Vec<Option<Arc<String>>>, LoadError<Down>>;

fn rules() -> Freshness {
    let deadlines = Freshness::new(TTL).with_load_deadlines(Some(SOFT), Some(HARD));
    deadlines.with_stale_if_error(seconds(60)).with_negative_ttl(TTL)
}

/// Reads these keys with a loader that asks `source`, once for all of them.
async fn load(cache: &Texts, keys: &[u32], source: &Source) -> Values {
    let source = source.clone();
    let bulk = move |keys: Vec<u32>| {
        let source = source.clone();
        async move {
            let value = source.optional().await?;
            Ok(keys.into_iter().filter_map(|key| Some((key, value.clone()?))).collect::<Vec<_>>())
        }
    };
    cache.get_or_load_many(keys, bulk).await
}

fn start(world: &World, keys: &'static [u32], source: &Source) -> JoinHandle<Values> {
    let (cache, source) = (world.cache.clone(), source.clone());
    tokio::spawn(async move { load(&cache, keys, &source).await })
}

fn texts(values: &Values) -> Vec<&str> {
    values.as_ref().unwrap().iter().map(|value| value.as_ref().map_or("none", |text| text.as_str())).collect()
}

async fn read(world: &World) -> Vec<Option<String>> {
    world.rest().await;
    let values = world.cache.get_many(&KEYS).await.unwrap();
    values.into_iter().map(|value| value.map(|text| text.to_string())).collect()
}

/// All keys hold what is stale, and good for a slow load.
async fn stale(place: Place) -> World {
    let world = World::new(place, rules()).await;
    load(&world.writer, &KEYS, &Source::of("old")).await.unwrap();
    world.time.advance(TTL);
    world
}

fn each(value: &str) -> Vec<Option<String>> {
    KEYS.iter().map(|_| Some(value.to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_load_is_answered_with_the_stale_values_at_the_soft_deadline_and_stored_when_it_completes() {
    for place in PLACES {
        let (world, source) = (stale(place).await, Source::of("new"));
        let (hold, began) = (source.hold(), Instant::now());
        let reader = start(&world, &KEYS, &source);
        source.begun(1).await;
        advance(SOFT - ms(5)).await;
        quiet().await;
        assert!(!reader.is_finished(), "{place:?}: just before");
        assert_eq!(texts(&ended(reader).await), ["old"; 3], "{place:?}");
        let took = began.elapsed().as_millis();
        assert!((200..=205).contains(&took), "{place:?}: after {took} ms");
        assert_eq!(world.cache.stats().fallbacks, 3, "{place:?}");
        hold.release();
        assert_eq!(read(&world).await, each("new"), "{place:?}");
        assert_eq!(source.calls(), 1, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_within_the_soft_deadline_is_waited_for() {
    for place in PLACES {
        let (world, source) = (stale(place).await, Source::of("new"));
        let hold = source.hold();
        let reader = start(&world, &KEYS, &source);
        source.begun(1).await;
        advance(SOFT - ms(20)).await;
        hold.release();
        assert_eq!(texts(&ended(reader).await), ["new"; 3], "{place:?}");
        assert_eq!(world.cache.stats().fallbacks, 0, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_key_without_a_stale_value_is_waited_for_with_all_the_others() {
    for place in PLACES {
        let (world, source) = (stale(place).await, Source::of("new"));
        let hold = source.hold();
        let reader = start(&world, &[1, 2, 3, 4], &source);
        source.begun(1).await;
        advance(SOFT * 10).await;
        quiet().await;
        assert!(!reader.is_finished(), "{place:?}");
        hold.release();
        assert_eq!(texts(&ended(reader).await), ["new"; 4], "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_found_fresh_below_is_answered_fresh_beside_what_is_stale() {
    for place in [Place::SharedMap, Place::Hub] {
        let (world, source) = (stale(place).await, Source::of("slow"));
        // In process here, too: older than what the other instance stores now.
        assert_eq!(read(&world).await, [None, None, None], "{place:?}");
        load(&world.writer, &[2], &Source::of("fresh")).await.unwrap();
        quiet().await;
        let hold = source.hold();
        let reader = start(&world, &KEYS, &source);
        assert_eq!(texts(&ended(reader).await), ["old", "fresh", "old"], "{place:?}");
        assert_eq!((world.cache.stats().fallbacks, world.cache.stats().hits), (2, 1), "{place:?}");
        hold.release();
        world.rest().await;
        assert_eq!(source.calls(), 1, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_invalidated_after_the_soft_deadline_is_not_stored_by_the_load_that_goes_on() {
    for place in PLACES {
        for by in ["key", "keys", "tag", "clear"] {
            let (world, source) = (stale(place).await, Source::of("late"));
            let hold = source.hold();
            assert_eq!(texts(&load(&world.cache, &KEYS, &source).await), ["old"; 3], "{place:?}");
            let mut expected = each("late");
            match by {
                "key" => world.cache.remove(&1).await.map(|_| expected[0] = None),
                "keys" => world.cache.remove_many(&KEYS).await.map(|_| expected.fill(None)),
                "tag" => world.cache.remove_tag(TAG).await.map(|_| expected.fill(None)),
                _ => world.cache.clear().await.map(|_| expected.fill(None)),
            }
            .unwrap();
            hold.release();
            source.ended(1).await;
            assert_eq!(read(&world).await, expected, "{place:?} {by}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_given_up_at_the_hard_deadline_stores_nothing_and_pauses() {
    for place in PLACES {
        let (world, source) = (stale(place).await, Source::of("late"));
        let hold = source.hold();
        assert_eq!(texts(&load(&world.cache, &KEYS, &source).await), ["old"; 3], "{place:?}");
        advance(HARD).await;
        world.rest().await;
        hold.release();
        assert_eq!(read(&world).await, [None, None, None], "{place:?}");
        assert_eq!(world.cache.stats().failed_loads, 3, "{place:?}");
        assert_eq!(texts(&load(&world.cache, &KEYS, &source).await), ["old"; 3], "{place:?}");
        assert_eq!(source.calls(), 1, "{place:?}: in the pause");
    }
}

#[tokio::test(start_paused = true)]
async fn all_callers_of_one_slow_load_are_answered_at_the_soft_deadline() {
    for place in PLACES {
        let (world, source) = (stale(place).await, Source::of("new"));
        let (hold, began) = (source.hold(), Instant::now());
        let readers: Vec<_> = (0..10).map(|_| start(&world, &KEYS, &source)).collect();
        for reader in readers {
            assert_eq!(texts(&ended(reader).await), ["old"; 3], "{place:?}");
        }
        assert!(began.elapsed() < HARD, "{place:?}");
        hold.release();
        assert_eq!(read(&world).await, each("new"), "{place:?}");
        assert_eq!(source.calls(), 1, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_after_the_load_began_leaves_it_to_be_stored() {
    for place in PLACES {
        let (world, source) = (stale(place).await, Source::new(Answer::Absent));
        let hold = source.hold();
        let reader = start(&world, &KEYS, &source);
        source.begun(1).await;
        reader.abort();
        assert!(reader.await.unwrap_err().is_cancelled());
        source.answers(Answer::Fails);
        hold.release();
        source.ended(1).await;
        world.rest().await;
        assert_eq!(texts(&load(&world.cache, &KEYS, &source).await), ["none"; 3], "{place:?}: remembered");
        assert_eq!(source.calls(), 1, "{place:?}");
    }
}
