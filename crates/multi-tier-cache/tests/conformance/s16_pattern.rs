//! S16: a pattern is removed while matching keys are loaded or read.

use multi_tier_cache::testing::{Step, When};

use crate::common::ended;
use crate::harness::{Outcome, fresh};
use crate::instance::Instance;
use crate::stories::{UnheardLoad, late_joiner, lower_read_across};
use crate::world::{Kind, World};

async fn remove_all(instance: &Instance) -> u64 {
    instance.change_pattern("user:1", "user:*").await
}

scenario!(a_pattern_is_removed_during_a_load {
    redis: Redis,
    memory: Memory,
    redis_without_a_fence: Redis without Fence,
    memory_without_a_fence: Memory without Fence,
});

/// A scan finds what is stored, not what is about to be.
async fn a_pattern_is_removed_during_a_load(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut load = UnheardLoad::begin(&a, "user:1").await;
    let new = load.outlives(remove_all(&b)).await;
    load.end(&world, "user:1", new).await?;
    world.is_clean(&[&a, &b], "user:1", new).await
}

scenario!(a_pattern_is_removed_during_a_lower_read {
    redis: Redis,
    memory: Memory,
    redis_without_stamps: Redis without StampBeforeFill,
    memory_without_stamps: Memory without StampBeforeFill,
});

async fn a_pattern_is_removed_during_a_lower_read(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("user:1").await;
    let new = lower_read_across(&a, "user:1", a.hears(remove_all(&b))).await;
    world.is_clean(&[&a, &b], "user:1", new).await
}

scenario!(a_pattern_is_removed_before_a_late_joiner {
    redis: Redis,
    memory: Memory,
    redis_with_late_joiners: Redis without NoLateJoiners,
    memory_with_late_joiners: Memory without NoLateJoiners,
});

async fn a_pattern_is_removed_before_a_late_joiner(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let new = late_joiner(&a, a.begin_load("user:1"), "user:1", a.hears(remove_all(&b))).await?;
    world.is_clean(&[&a, &b], "user:1", new).await
}

scenario!(a_put_is_under_way_when_its_pattern_is_removed { redis: Redis, memory: Memory, memory_without_a_fence: Memory without Fence });

/// The lease of a put is from before the fence, too.
async fn a_put_is_under_way_when_its_pattern_is_removed(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut filling = a.stage.hold(Step::Fill, When::Before);
    let old = a.database.write("user:1");
    let cache = a.cache.clone();
    let put = tokio::spawn(async move { cache.update_cache("user:1", crate::instance::value(old), None).await });
    filling.reached().await;
    let new = remove_all(&b).await;
    filling.release();
    ended(put).await.unwrap();
    fresh("the shared tier", world.stored("user:1"), new)?;
    a.hear(2).await;
    world.is_clean(&[&a, &b], "user:1", new).await
}

scenario!(a_pattern_of_ones_own_is_cut_in_two { redis: Redis, memory: Memory });

/// Between fence and log entry, other instances still read what was not scanned yet.
async fn a_pattern_of_ones_own_is_cut_in_two(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("user:1").await;
    let mut fenced = a.stage.hold(Step::Fence, When::After);
    let new = a.database.write("user:1");
    let cache = a.cache.clone();
    let removal = tokio::spawn(async move { cache.remove_pattern("user:*").await });
    fenced.reached().await;
    assert_eq!((a.get("user:1").await, b.get("user:1").await), (Some(1), Some(1)), "it is not scanned yet");
    fenced.release();
    ended(removal).await.unwrap();
    fresh("read your writes", a.get("user:1").await, new)?;
    b.hear(1).await;
    world.is_clean(&[&a, &b], "user:1", new).await
}
