//! S9: loads under way while their tag is removed, or everything is.

use multi_tier_cache::testing::{Step, When};

use crate::common::ended;
use crate::harness::{Outcome, fresh};
use crate::instance::{Instance, Setup, tagged};
use crate::stories::{UnheardLoad, late_joiner, lower_read_across};
use crate::world::{Kind, World};

scenario!(a_tag_is_removed_during_a_load {
    redis: Redis,
    memory: Memory,
    redis_without_the_check: Redis without TagCheck,
    memory_without_the_check: Memory without TagCheck,
});

/// What a load under way brings is not stored any more. (A stored value with a revoked tag is a miss besides.)
async fn a_tag_is_removed_during_a_load(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut load = UnheardLoad::begin_with(&a, "k", tagged()).await;
    let new = load.outlives(b.change_tagged("k")).await;
    world.undo_revoked_tags();
    load.end(&world, "k", new).await?;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(a_tag_is_removed_before_a_late_joiner {
    redis: Redis,
    memory: Memory,
    redis_with_late_joiners: Redis without NoLateJoiners,
    memory_with_late_joiners: Memory without NoLateJoiners,
});

async fn a_tag_is_removed_before_a_late_joiner(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let new = late_joiner(&a, a.begin_load_with("k", tagged()), "k", a.change_tagged("k")).await?;
    world.is_clean(&[&a], "k", new).await
}

scenario!(a_tag_is_removed_during_a_lower_read { redis: Redis, memory: Memory });

/// The tag was asked for and held; then it was removed. No switch: the copy is older than the revocation.
async fn a_tag_is_removed_during_a_lower_read(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load_with("k", &tagged()).await.unwrap();
    let mut asked = a.stage.hold(Step::TagTokens, When::After);
    let reader = a.start_get("k").await;
    asked.reached().await;
    let new = a.hears(b.change_tagged("k")).await;
    asked.release();
    assert_eq!(ended(reader).await, Some(1));
    for (who, instance) in [("reader", &a), ("writer", &b)] {
        fresh(who, instance.get("k").await, new)?;
        fresh(who, instance.load("k").await, new)?;
    }
    world.is_clean(&[&a, &b], "k", new).await
}

/// Two instances that share a prefix.
async fn with_a_prefix(kind: Kind) -> (World, Instance, Instance) {
    let world = World::new(kind);
    let setup = Setup::quiet().prefix("app:");
    let (a, b) = (world.join_as(setup.clone()).await, world.join_as(setup).await);
    (world, a, b)
}

scenario!(everything_is_removed_during_a_load {
    redis: Redis,
    memory: Memory,
    redis_without_a_fence: Redis without Fence,
    memory_without_a_fence: Memory without Fence,
});

async fn everything_is_removed_during_a_load(kind: Kind) -> Outcome {
    let (world, a, b) = with_a_prefix(kind).await;
    let mut load = UnheardLoad::begin(&a, "k").await;
    let new = load.outlives(b.change_all("k")).await;
    let stored = if kind == Kind::Redis { "app:k" } else { "k" };
    load.end(&world, stored, new).await?;
    fresh("the loader", a.get("k").await, new)?;
    fresh("the loader", a.load("k").await, new)
}

scenario!(everything_is_removed_before_a_late_joiner {
    redis: Redis,
    memory: Memory,
    redis_with_late_joiners: Redis without NoLateJoiners,
    memory_with_late_joiners: Memory without NoLateJoiners,
});

async fn everything_is_removed_before_a_late_joiner(kind: Kind) -> Outcome {
    let (_world, a, b) = with_a_prefix(kind).await;
    late_joiner(&a, a.begin_load("k"), "k", a.hears(b.change_all("k"))).await.map(drop)
}

scenario!(everything_is_removed_during_a_lower_read { redis: Redis, memory: Memory });

/// No switch: the copy is older than the flush.
async fn everything_is_removed_during_a_lower_read(kind: Kind) -> Outcome {
    let (_world, a, b) = with_a_prefix(kind).await;
    b.load("k").await;
    let new = lower_read_across(&a, "k", a.hears(b.change_all("k"))).await;
    fresh("the reader", a.get("k").await, new)?;
    fresh("the writer", b.get("k").await, new)?;
    fresh("the reader", a.load("k").await, new)
}
