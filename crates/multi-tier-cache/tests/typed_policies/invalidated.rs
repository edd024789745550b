//! Invalidations while the work of a rule is under way: what was loaded before is never stored after, and nobody who
//! asks after it is given it.

use std::time::Duration;

use multi_tier_cache::{CallOptions, EarlyRefresh, Freshness, LoadError};
use tokio::time::{Instant, advance};

use crate::source::{Answer, Source, ms};
use crate::world::{KEY, PLACES, Place, TAG, World, ended, fetch, quiet, seconds, seen, text};

const TTL: Duration = seconds(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Remove,
    Tag,
    Insert,
    /// By the other instance.
    RemoveThere,
    TagThere,
}

impl How {
    /// What can be done in this place: without a bus, an instance speaks for itself only.
    fn of(place: Place) -> &'static [Self] {
        match place {
            Place::First | Place::SharedMap => &[Self::Remove, Self::Tag, Self::Insert],
            Place::Hub | Place::Redis => &[Self::Remove, Self::Tag, Self::Insert, Self::RemoveThere, Self::TagThere],
        }
    }

    /// Invalidates; the options of a read that comes after it.
    async fn apply(self, world: &World) -> CallOptions {
        let position = match self {
            Self::Remove => world.cache.remove(&KEY).await,
            Self::Tag => world.cache.remove_tag(TAG).await,
            Self::Insert => world.cache.insert(&KEY, "inserted".to_owned()).await,
            Self::RemoveThere => world.writer.remove(&KEY).await,
            Self::TagThere => world.writer.remove_tag(TAG).await,
        };
        // What is born in the moment in which a tag's removal is heard of counts as older.
        quiet().await;
        world.time.advance(ms(1));
        CallOptions::default().at_least(position.unwrap())
    }

    fn leaves(self) -> Option<String> {
        (self == Self::Insert).then(|| "inserted".to_owned())
    }
}

/// A rule whose work is under way when the invalidation comes.
struct Case {
    name: &'static str,
    rules: Freshness,
    /// The age of the stored value; `None` if none is stored.
    age: Option<Duration>,
    answer: Answer,
}

fn cases(ttl: Duration) -> Vec<Case> {
    let case = |name, rules, age, answer| Case { name, rules, age, answer };
    let window = seconds(60);
    let revalidate = Freshness::new(ttl).with_stale_while_revalidate(window);
    let if_error = Freshness::new(ttl).with_stale_if_error(window);
    let new = Answer::Value("new");
    let mut cases = vec![
        case("first load", Freshness::new(TTL), None, new),
        case("first load, absent", Freshness::new(TTL).with_negative_ttl(TTL), None, Answer::Absent),
        case("revalidation", revalidate, Some(ttl), new),
        case("revalidation, not modified", revalidate, Some(ttl), Answer::NotModified),
        case("revalidation, absent", revalidate.with_negative_ttl(TTL), Some(ttl), Answer::Absent),
        case("revalidation, fails", revalidate, Some(ttl), Answer::Fails),
        case("stale if error", if_error, Some(ttl), new),
        case("stale if error, not modified", if_error, Some(ttl), Answer::NotModified),
        case("stale if error, fails", if_error, Some(ttl), Answer::Fails),
        case("stale if error, panics", if_error, Some(ttl), Answer::Panics),
    ];
    if !ttl.is_zero() {
        let early = Freshness::new(ttl).with_early_refresh(EarlyRefresh::At(0.5));
        cases.push(case("early refresh", early, Some(ttl / 2), new));
        cases.push(case("early refresh, not modified", early, Some(ttl / 2), Answer::NotModified));
    }
    cases
}

async fn at_work(place: Place, case: &Case) -> World {
    let world = World::new(place, case.rules).await;
    if let Some(age) = case.age {
        world.store("old").await;
        world.time.advance(age);
    }
    world
}

async fn nothing_is_stored_after(place: Place, case: &Case, how: How) {
    let what = format!("{place:?}, {}, {how:?}", case.name);
    let (world, source) = (at_work(place, case).await, Source::new(case.answer));
    let hold = source.hold();
    let reader = world.start(&source);
    source.begun(1).await;
    how.apply(&world).await;
    hold.release();
    source.ended(1).await;
    let _ = ended(reader).await;
    assert_eq!(world.stored().await, how.leaves(), "{what}");
}

async fn who_asks_after_it_gets_a_load_that_began_after_it(place: Place, case: &Case, how: How) {
    let what = format!("{place:?}, {}, {how:?}", case.name);
    let (world, before, after) = (at_work(place, case).await, Source::new(case.answer), Source::of("after"));
    let (hold, hold_after) = (before.hold(), after.hold());
    let reader = world.start(&before);
    before.begun(1).await;
    let options = how.apply(&world).await;
    let options = if place == Place::Hub || place == Place::Redis { options } else { CallOptions::default() };
    let (cache, source) = (world.cache.clone(), after.clone());
    let second = tokio::spawn(async move { crate::world::fetch(&cache, &source, &options).await });
    after.begun(1).await;
    hold.release();
    before.ended(1).await;
    let _ = ended(reader).await;
    quiet().await;
    hold_after.release();
    assert_eq!(text(ended(second).await.as_ref().unwrap()).as_deref(), Some("after"), "{what}");
    let stored = world.stored().await;
    // A tag's removal cannot name the leases of loads under way: who loads beside one of them may not store.
    let may_be_busy = matches!(place, Place::Hub | Place::Redis) && matches!(how, How::Tag | How::TagThere);
    assert!(stored.as_deref() == Some("after") || stored.is_none() && may_be_busy, "{what}: {stored:?}");
}

#[tokio::test]
async fn what_was_loaded_before_an_invalidation_is_not_stored_after_it() {
    for place in PLACES {
        for case in cases(TTL) {
            for how in How::of(place) {
                nothing_is_stored_after(place, &case, *how).await;
            }
        }
    }
}

#[tokio::test]
async fn what_was_loaded_before_an_invalidation_is_not_stored_in_redis_after_it() {
    for (case, how) in cases(Duration::ZERO).into_iter().zip(How::of(Place::Redis).iter().cycle()) {
        nothing_is_stored_after(Place::Redis, &case, *how).await;
    }
}

#[tokio::test]
async fn a_read_after_an_invalidation_is_given_nothing_from_before_it() {
    for place in PLACES {
        for case in cases(TTL) {
            for how in How::of(place).iter().filter(|how| **how != How::Insert) {
                who_asks_after_it_gets_a_load_that_began_after_it(place, &case, *how).await;
            }
        }
    }
}

#[tokio::test]
async fn a_read_after_an_invalidation_at_redis_is_given_nothing_from_before_it() {
    let hows = [How::RemoveThere, How::Remove, How::TagThere, How::Tag];
    for (case, how) in cases(Duration::ZERO).into_iter().zip(hows.iter().cycle()) {
        if case.age.is_none() {
            who_asks_after_it_gets_a_load_that_began_after_it(Place::Redis, &case, *how).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_whose_callers_left_at_the_soft_deadline_stores_nothing_after_an_invalidation() {
    for place in PLACES {
        for how in How::of(place) {
            let rules = Freshness::new(TTL).with_stale_if_error(seconds(60));
            let rules = rules.with_load_deadlines(Some(ms(100)), Some(seconds(9)));
            let (world, source) = (World::new(place, rules).await, Source::of("late"));
            world.store("old").await;
            world.time.advance(TTL);
            let hold = source.hold();
            assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
            how.apply(&world).await;
            hold.release();
            source.ended(1).await;
            assert_eq!(world.stored().await, how.leaves(), "{place:?} {how:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_given_up_after_an_invalidation_answers_nobody_who_came_after_it() {
    for place in PLACES {
        let rules = Freshness::new(TTL).with_stale_if_error(seconds(60));
        let rules = rules.with_load_deadlines(None, Some(seconds(5)));
        let (world, slow) = (World::new(place, rules).await, Source::of("late"));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = slow.hold();
        let before = world.start(&slow);
        slow.begun(1).await;
        world.cache.remove(&KEY).await.unwrap();
        let after = world.start(&slow);
        slow.begun(2).await;
        advance(seconds(5) + ms(2)).await;
        assert_eq!(seen(&ended(before).await), ("old", true), "{place:?}: it asked before");
        let after = ended(after).await;
        assert!(matches!(after, Err(LoadError::TimedOut(_))), "{place:?} {after:?}");
        hold.release();
        assert_eq!(world.stored().await, None, "{place:?}");
    }
}

#[tokio::test]
async fn a_load_whose_caller_was_dropped_stores_nothing_after_an_invalidation() {
    for place in PLACES {
        for how in How::of(place) {
            let (world, source) = (World::new(place, Freshness::new(TTL)).await, Source::of("late"));
            let hold = source.hold();
            let reader = world.start(&source);
            source.begun(1).await;
            reader.abort();
            assert!(reader.await.unwrap_err().is_cancelled());
            how.apply(&world).await;
            hold.release();
            source.ended(1).await;
            assert_eq!(world.stored().await, how.leaves(), "{place:?} {how:?}");
        }
    }
}

/// Story: a refresh was begun with the stale value in its hands, and the key removed before the refresh's task ran. It
/// led a flight that began after the removal, and knew the removed value.
#[tokio::test]
async fn a_refresh_that_runs_only_after_a_removal_does_not_know_the_removed_value() {
    for (place, answer) in PLACES.into_iter().flat_map(|place| [(place, Answer::NotModified), (place, Answer::Fails)]) {
        let rules = Freshness::new(TTL).with_stale_while_revalidate(seconds(60)).with_stale_if_error(seconds(60));
        let (world, source) = (World::new(place, rules).await, Source::new(answer));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = source.hold();
        // The task of the refresh does not run before the next await that waits.
        assert_eq!(seen(&world.fetch(&source).await), ("old", true), "{place:?}");
        world.cache.remove(&KEY).await.unwrap();
        quiet().await;
        let after = world.start(&source);
        quiet().await;
        hold.release();
        let after = ended(after).await;
        assert!(after.is_err(), "{place:?}: a read after the removal is answered {after:?}");
        assert_eq!(world.stored().await, None, "{place:?} {answer:?}");
    }
}

/// Story: a caller that follows a load keeps the stale value it has seen. When the load's caller goes away before the
/// load begins, or its flight is closed, the follower leads with a value that was removed meanwhile.
#[tokio::test]
async fn a_removal_while_callers_wait_leaves_none_of_them_with_the_removed_value_to_store() {
    for place in PLACES {
        let rules = Freshness::new(TTL).with_stale_if_error(seconds(60));
        let (world, source) = (World::new(place, rules).await, Source::new(Answer::NotModified));
        world.store("old").await;
        world.time.advance(TTL);
        let hold = source.hold();
        let readers: Vec<_> = (0..10).map(|_| world.start(&source)).collect();
        source.begun(1).await;
        world.cache.remove(&KEY).await.unwrap();
        readers[0].abort();
        quiet().await;
        hold.release();
        for reader in readers {
            let _ = reader.await;
        }
        assert_eq!(world.stored().await, None, "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_load_of_a_key_does_not_wait_for_one_whose_tag_was_removed_meanwhile() {
    for other_loads in [false, true] {
        for other_removes in [false, true] {
            let world = World::new(Place::Hub, Freshness::new(seconds(60))).await;
            let (late, next) = (Source::of("late"), Source::of("next"));
            let pick = |other: bool| if other { world.writer.clone() } else { world.cache.clone() };
            let (loader, remover) = (pick(other_loads), pick(other_removes));
            let hold = late.hold();
            let source = late.clone();
            let loading = tokio::spawn(async move { fetch(&loader, &source, &CallOptions::default()).await });
            late.begun(1).await;
            remover.remove_tag(TAG).await.unwrap();
            quiet().await;
            let began = Instant::now();
            assert_eq!(seen(&world.fetch(&next).await), ("next", false));
            assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
            hold.release();
            assert_eq!(seen(&ended(loading).await), ("late", false), "those who waited have it");
            world.rest().await;
            assert_eq!((world.peek().await.as_deref(), next.calls()), (Some("next"), 1), "it was stored");
            let there = world.writer.get(&KEY).await.unwrap();
            assert_eq!(there.as_deref().map(String::as_str), Some("next"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_after_its_tag_was_removed_is_stored() {
    let world = World::new(Place::Hub, Freshness::new(seconds(60))).await;
    let source = Source::of("new");
    world.writer.remove_tag(TAG).await.unwrap();
    let hold = source.hold();
    // It began before this instance heard of the removal, or after: the log tells that it saw what came of it.
    let reader = world.start(&source);
    source.begun(1).await;
    world.cache.remove_tag("another").await.unwrap();
    quiet().await;
    hold.release();
    assert_eq!(seen(&ended(reader).await), ("new", false));
    world.rest().await;
    let there = world.writer.get(&KEY).await.unwrap();
    assert_eq!(there.as_deref().map(String::as_str), Some("new"));
}
