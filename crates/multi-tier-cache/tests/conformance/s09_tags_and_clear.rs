//! S9: loads under way while their tag is removed, or everything is.

use multi_tier_cache::CallOptions;
use multi_tier_cache::testing::{Step, When};

use crate::common::ended;
use crate::harness::{Outcome, fresh};
use crate::instance::Setup;
use crate::world::{Kind, World};

fn tagged() -> CallOptions {
    CallOptions::default().with_tags(["t"])
}

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
    let mut unheard = a.stage.hold(Step::Message, When::Before);
    let mut load = a.begin_load_with("k", tagged());
    load.began().await;
    let new = b.database.write("k");
    b.cache.remove_tag("t").await.unwrap();
    unheard.reached().await;
    world.undo_revoked_tags();
    load.end().await.unwrap();
    fresh("stored after the tag was removed", world.stored("k"), new)?;
    unheard.release();
    a.hear(1).await;
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
    let mut load = a.begin_load_with("k", tagged());
    load.began().await;
    let new = a.database.write("k");
    a.cache.remove_tag("t").await.unwrap();
    let late = a.start_load("k").await;
    load.end().await.unwrap();
    fresh("who asks after the tag was removed", ended(late).await, new)?;
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
    let new = b.database.write("k");
    b.cache.remove_tag("t").await.unwrap();
    a.hear(1).await;
    asked.release();
    assert_eq!(ended(reader).await, Some(1));
    for (who, instance) in [("reader", &a), ("writer", &b)] {
        fresh(who, instance.get("k").await, new)?;
        fresh(who, instance.load("k").await, new)?;
    }
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(everything_is_removed_during_a_load {
    redis: Redis,
    memory: Memory,
    redis_without_a_fence: Redis without Fence,
    memory_without_a_fence: Memory without Fence,
});

async fn everything_is_removed_during_a_load(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let setup = Setup::quiet().prefix("app:");
    let (a, b) = (world.join_as(setup.clone()).await, world.join_as(setup).await);
    let mut unheard = a.stage.hold(Step::Message, When::Before);
    let mut load = a.begin_load("k");
    load.began().await;
    let new = b.database.write("k");
    b.cache.clear().await.unwrap();
    unheard.reached().await;
    load.end().await.unwrap();
    let stored = if kind == Kind::Redis { "app:k" } else { "k" };
    fresh("stored after everything was removed", world.stored(stored), new)?;
    unheard.release();
    a.hear(1).await;
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
    let world = World::new(kind);
    let setup = Setup::quiet().prefix("app:");
    let (a, b) = (world.join_as(setup.clone()).await, world.join_as(setup).await);
    let mut load = a.begin_load("k");
    load.began().await;
    let new = b.database.write("k");
    b.cache.clear().await.unwrap();
    a.hear(1).await;
    let late = a.start_load("k").await;
    load.end().await.unwrap();
    fresh("who asks after everything was removed", ended(late).await, new)
}

scenario!(everything_is_removed_during_a_lower_read { redis: Redis, memory: Memory });

/// No switch: the copy is older than the flush.
async fn everything_is_removed_during_a_lower_read(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let setup = Setup::quiet().prefix("app:");
    let (a, b) = (world.join_as(setup.clone()).await, world.join_as(setup).await);
    b.load("k").await;
    let mut read = a.tier.hold_read();
    let reader = a.start_get("k").await;
    read.reached().await;
    let new = b.database.write("k");
    b.cache.clear().await.unwrap();
    a.hear(1).await;
    read.release();
    assert_eq!(ended(reader).await, Some(1));
    fresh("the reader", a.get("k").await, new)?;
    fresh("the writer", b.get("k").await, new)?;
    fresh("the reader", a.load("k").await, new)
}
