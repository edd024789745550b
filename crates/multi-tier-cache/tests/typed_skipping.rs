//! Calls that leave out a tier: it is not asked, gets nothing, and serves nothing older afterwards.
#![cfg(all(feature = "redis", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use multi_tier_cache::backends::{QuickCacheBackend, RedisCache};
use multi_tier_cache::testing::{Fault, Faulty, Hub, ManualClock, levels_with};
use multi_tier_cache::{
    Cache, CacheError, CacheResult, CacheSystem, CacheSystemBuilder, CallOptions, DashMapCache, Fetched, Freshness,
    L2CacheBackend, LoadError, Loaded, TierConfig,
};
use test_servers::RedisServer;
use tokio::sync::oneshot;

const ENTRY: &str = "texts:7";
const KEY: u32 = 7;

type Texts = Cache<u32, String>;

/// What the tier at level 2 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    /// In process; another instance may share it without telling.
    Map,
    /// Awaited, and coordinates nobody.
    Awaited,
    /// Coordinates the fleet.
    Hub,
    Redis,
}

const SECONDS: [Second; 4] = [Second::Map, Second::Awaited, Second::Hub, Second::Redis];

/// An instance, another one over the same tier at level 2, and handles to the tiers of the first.
struct World {
    second: Second,
    time: ManualClock,
    here: Texts,
    there: Texts,
    tiers: [Arc<dyn L2CacheBackend>; 3],
    below: Arc<Faulty>,
    systems: [CacheSystem; 2],
    _server: Option<RedisServer>,
}

impl World {
    async fn new(second: Second) -> Self {
        let time = ManualClock::new();
        let map = || Arc::new(DashMapCache::new().with_clock(time.clock()));
        let (l1, below) = (quick(&time), Faulty::new(map()));
        let mut server = None;
        let l2: Arc<dyn L2CacheBackend> = match second {
            Second::Map => map(),
            Second::Awaited => Faulty::new(map()),
            Second::Hub => Arc::new(Hub::with_clock(time.clock())),
            Second::Redis => {
                let running = server.insert(RedisServer::start().unwrap());
                Arc::new(RedisCache::with_url(&running.url()).await.unwrap())
            }
        };
        let tiers: [Arc<dyn L2CacheBackend>; 3] = [l1, l2, Arc::clone(&below) as _];
        let there = [quick(&time) as _, Arc::clone(&tiers[1]), map() as _];
        let systems = [instance(&time, &tiers).await, instance(&time, &there).await];
        let [here, there] = systems.each_ref().map(texts);
        // What was there before an instance joined its bus is forgotten, up to the present moment of the clock.
        quiet().await;
        time.advance(Duration::from_millis(1));
        Self { second, time, here, there, tiers, below, systems, _server: server }
    }

    async fn levels(&self) -> Vec<usize> {
        levels_with(&self.here, &KEY).await.unwrap()
    }

    /// Asserts that the key is at these levels. In a fleet, tiers of an instance alone may have lost it once more to the
    /// echo of its own change.
    async fn holds(&self, expected: &[usize], what: &str) {
        let levels = self.levels().await;
        let second = self.second;
        if matches!(second, Second::Map | Second::Awaited) {
            assert_eq!(levels, expected, "{second:?} {what}");
        }
        assert!(levels.iter().all(|level| expected.contains(level)), "{second:?} {what}: {levels:?}, not {expected:?}");
        assert_eq!(levels.contains(&2), expected.contains(&2), "{second:?} {what}: {levels:?}, not {expected:?}");
    }

    /// Asserts that what is answered without a load is `newest`, or nothing where an echo may have dropped it.
    async fn reads(&self, newest: Option<&str>, what: &str) {
        let read = self.read().await;
        let echoed = read.is_none() && matches!(self.second, Second::Hub | Second::Redis);
        assert!(read.as_deref() == newest || echoed, "{:?} {what}: {read:?}, not {newest:?}", self.second);
    }

    async fn at_rest(&self) {
        while self.systems.iter().any(|system| system.cache_manager().get_stats().in_flight_requests > 0) {
            tokio::task::yield_now().await;
        }
    }

    /// What `here` answers without a load.
    async fn read(&self) -> Option<String> {
        self.here.get(&KEY).await.unwrap().map(|text| text.to_string())
    }
}

fn quick(time: &ManualClock) -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(100).unwrap().with_clock(time.clock()))
}

async fn instance(time: &ManualClock, tiers: &[Arc<dyn L2CacheBackend>; 3]) -> CacheSystem {
    let builder = CacheSystemBuilder::new().with_clock(time.clock());
    let configs = (1..).map(|level| TierConfig::new(level).with_promotion_frequency(1));
    let stack =
        tiers.iter().zip(configs).fold(builder, |builder, (tier, config)| builder.with_tier(Arc::clone(tier), config));
    stack.build().await.unwrap()
}

fn texts(system: &CacheSystem) -> Texts {
    system.cache_builder("texts").freshness(Freshness::new(Duration::from_secs(600))).build().unwrap()
}

async fn quiet() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

fn skipping(levels: &[usize]) -> CallOptions {
    levels.iter().fold(CallOptions::default(), |options, level| options.skipping(*level))
}

async fn fetch(
    cache: &Texts,
    options: &CallOptions,
    value: &'static str,
) -> Result<Fetched<String>, LoadError<CacheError>> {
    cache.fetch(&KEY, options, move |_| async move { Ok(Loaded::new(value.to_owned())) }).await
}

/// What a call with these options answers, whose loader would bring `value`.
async fn load(cache: &Texts, options: &CallOptions, value: &'static str) -> String {
    fetch(cache, options, value).await.unwrap().into_value().unwrap().to_string()
}

#[tokio::test]
async fn a_tier_that_is_skipped_is_not_asked() {
    for second in SECONDS {
        let world = World::new(second).await;
        world.here.insert(&KEY, "old".to_owned()).await.unwrap();
        // Newer than what the first tier has, without its being told.
        world.tiers[0].remove(ENTRY).await.unwrap();
        let all = skipping(&[1, 2, 3]);
        assert_eq!(load(&world.here, &all, "loaded").await, "loaded", "{second:?}");
        world.holds(&[2, 3], "what was stored nowhere changes nothing").await;
        assert_eq!(load(&world.here, &skipping(&[1]), "unused").await, "old", "{second:?}");
        world.holds(&[2, 3], "and is not copied into it").await;
        let asked = world.below.operations();
        let both = skipping(&[2, 3]).read_only();
        assert_eq!(load(&world.here, &both, "loaded").await, "loaded", "{second:?}");
        // In a fleet, an echo may have a tier of this instance asked in the background.
        let alone = matches!(second, Second::Map | Second::Awaited);
        assert!(!alone || world.below.operations() == asked, "{second:?}");
    }
}

#[tokio::test]
async fn a_first_tier_that_is_skipped_does_not_serve_what_is_older_than_the_answer() {
    for second in [Second::Map, Second::Awaited] {
        let world = World::new(second).await;
        world.here.insert(&KEY, "old".to_owned()).await.unwrap();
        world.time.advance(Duration::from_secs(1));
        world.there.insert(&KEY, "new".to_owned()).await.unwrap();
        assert_eq!(world.read().await.as_deref(), Some("old"), "{second:?}: nobody tells the first tier");
        assert_eq!(load(&world.here, &skipping(&[1]), "unused").await, "new", "{second:?}");
        assert_eq!(world.read().await.as_deref(), Some("new"), "{second:?}");
    }
}

#[tokio::test]
async fn what_is_loaded_goes_into_the_other_tiers_and_nothing_older_stays() {
    for second in SECONDS {
        for (skipped, left) in [(&[1][..], &[2, 3][..]), (&[3], &[1, 2]), (&[1, 3], &[2]), (&[2, 3], &[1])] {
            let world = World::new(second).await;
            world.here.insert(&KEY, "old".to_owned()).await.unwrap();
            world.holds(&[1, 2, 3], "to begin with").await;
            world.time.advance(Duration::from_secs(1));
            let options = skipping(skipped).refreshing();
            assert_eq!(load(&world.here, &options, "new").await, "new", "{second:?} {skipped:?}");
            world.at_rest().await;
            world.holds(left, &format!("{skipped:?}")).await;
            world.reads(Some("new"), &format!("{skipped:?}")).await;
            world.tiers[0].remove(ENTRY).await.unwrap();
            let below = world.read().await;
            assert!(below.is_none() || below.as_deref() == Some("new"), "{second:?} {skipped:?}: {below:?}");
        }
    }
}

#[tokio::test]
async fn without_the_tier_that_coordinates_a_load_stays_in_the_process_and_all_below_forget() {
    for second in [Second::Hub, Second::Redis] {
        let world = World::new(second).await;
        world.here.insert(&KEY, "old".to_owned()).await.unwrap();
        world.time.advance(Duration::from_secs(1));
        // The third tier has it, and the way there leads through the second.
        assert_eq!(load(&world.here, &skipping(&[1, 2]).read_only(), "own").await, "own", "{second:?}");
        assert_eq!(load(&world.here, &skipping(&[2]).refreshing(), "new").await, "new", "{second:?}");
        world.at_rest().await;
        world.holds(&[1], "in process only").await;
        assert_eq!(load(&world.there, &CallOptions::default(), "there").await, "there", "{second:?}");
        let here = world.read().await;
        assert!(matches!(here.as_deref(), Some("new" | "there")), "{second:?}: {here:?}");
    }
}

#[tokio::test]
async fn an_insertion_leaves_the_skipped_tiers_without_the_key() {
    for second in SECONDS {
        let all = [(&[1][..], &[2, 3][..]), (&[2], &[1, 3]), (&[3], &[1, 2]), (&[1, 2, 3], &[])];
        for (skipped, left) in all {
            let world = World::new(second).await;
            world.here.insert(&KEY, "old".to_owned()).await.unwrap();
            load(&world.there, &CallOptions::default(), "unused").await;
            world.time.advance(Duration::from_secs(1));
            let position = world.here.insert_with(&KEY, "new".to_owned(), &skipping(skipped)).await.unwrap();
            world.holds(left, &format!("{skipped:?}")).await;
            world.reads((!left.is_empty()).then_some("new"), &format!("{skipped:?}")).await;
            if position.is_some() {
                let options = CallOptions::default().at_least(position);
                let there = load(&world.there, &options, "loaded").await;
                assert_ne!(there, "old", "{second:?} {skipped:?}: another instance hears of it");
            }
        }
    }
}

#[tokio::test]
async fn what_is_found_below_a_skipped_tier_goes_no_further_up_than_that() {
    for second in [Second::Map, Second::Awaited] {
        let world = World::new(second).await;
        world.here.insert(&KEY, "old".to_owned()).await.unwrap();
        world.time.advance(Duration::from_secs(1));
        load(&world.there, &CallOptions::default().refreshing(), "new").await;
        world.at_rest().await;
        world.tiers[0].remove(ENTRY).await.unwrap();
        assert_eq!(load(&world.here, &skipping(&[2]), "unused").await, "old", "{second:?}: in the third tier");
        assert_eq!(world.levels().await, [2, 3], "{second:?}");
        assert_eq!(world.read().await.as_deref(), Some("new"), "{second:?}");
    }
}

#[tokio::test]
async fn a_skipped_tier_that_cannot_forget_is_not_read_until_it_has() {
    let world = World::new(Second::Map).await;
    world.here.insert(&KEY, "old".to_owned()).await.unwrap();
    world.time.advance(Duration::from_secs(1));
    world.below.always(Fault::Fail);
    assert_eq!(load(&world.here, &skipping(&[3]).refreshing(), "new").await, "new");
    world.at_rest().await;
    for tier in &world.tiers[..2] {
        tier.remove(ENTRY).await.unwrap();
    }
    assert!(world.here.get(&KEY).await.is_err(), "an outage, and not the older value");
    world.below.always(Fault::None);
    world.time.advance(Duration::from_secs(1));
    assert_eq!(load(&world.here, &CallOptions::default(), "newer").await, "newer");
}

#[tokio::test]
async fn a_removal_during_a_load_that_skips_a_tier_keeps_its_value_out_everywhere() {
    for second in SECONDS {
        for skipped in [&[1][..], &[2], &[3], &[2, 3]] {
            let world = World::new(second).await;
            let (begun, has_begun) = oneshot::channel();
            let (go_on, may_end) = oneshot::channel::<()>();
            let (cache, options) = (world.here.clone(), skipping(skipped));
            let loading = tokio::spawn(async move {
                let load = |_| async move {
                    begun.send(()).unwrap();
                    may_end.await.unwrap();
                    Ok::<_, CacheError>(Loaded::new("old".to_owned()))
                };
                cache.fetch(&KEY, &options, load).await
            });
            has_begun.await.unwrap();
            world.here.insert(&KEY, "new".to_owned()).await.unwrap();
            go_on.send(()).unwrap();
            assert_eq!(**loading.await.unwrap().unwrap().value().unwrap(), "old");
            world.at_rest().await;
            assert!(world.levels().await.contains(&2), "{second:?} {skipped:?}: the newer one is not taken out");
            for _ in 0..2 {
                assert_eq!(world.read().await.as_deref(), Some("new"), "{second:?} {skipped:?}");
                world.tiers[0].remove(ENTRY).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn callers_that_skip_and_callers_that_do_not_share_one_load() {
    let world = World::new(Second::Hub).await;
    let loads = Arc::new(AtomicUsize::new(0));
    let skipped: [&[usize]; 3] = [&[], &[1], &[3]];
    let calls = skipped.into_iter().cycle().take(40).map(|skipped| {
        let (cache, loads) = (world.here.clone(), Arc::clone(&loads));
        tokio::spawn(async move {
            let load = move |_| async move {
                loads.fetch_add(1, Ordering::SeqCst);
                quiet().await;
                Ok::<_, CacheError>(Loaded::new("loaded".to_owned()))
            };
            cache.fetch(&KEY, &skipping(skipped), load).await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(**call.await.unwrap().unwrap().value().unwrap(), "loaded");
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_background_refresh_skips_what_its_call_skipped() {
    let world = World::new(Second::Hub).await;
    let window = Freshness::new(Duration::from_secs(10)).with_stale_while_revalidate(Duration::from_secs(60));
    world.here.insert_with(&KEY, "old".to_owned(), &CallOptions::default().with_freshness(window)).await.unwrap();
    world.time.advance(Duration::from_secs(10));
    let options = skipping(&[1]).with_freshness(window);
    assert_eq!(load(&world.here, &options, "new").await, "old");
    while world.here.stats().loads == 0 {
        tokio::task::yield_now().await;
    }
    world.at_rest().await;
    world.holds(&[2, 3], "refreshed").await;
    world.reads(Some("new"), "refreshed").await;
}

#[tokio::test]
async fn a_level_that_does_not_exist_is_a_mistake_that_says_which_do() {
    #[track_caller]
    fn refused(error: &CacheError) {
        let CacheError::ConfigError(why) = error else { panic!("{error:?}") };
        assert!(why.contains("skipping(9)") && why.contains("1, 2, 3"), "{why}");
    }
    let world = World::new(Second::Map).await;
    let options = skipping(&[1, 9]);
    let Err(LoadError::Cache(error)) = fetch(&world.here, &options, "unused").await else { panic!("it was followed") };
    refused(&error);
    let inserted: CacheResult<_> = world.here.insert_with(&KEY, "unused".to_owned(), &options).await;
    refused(&inserted.unwrap_err());
    assert_eq!((world.levels().await, world.here.stats().loads), (Vec::new(), 0));
}
