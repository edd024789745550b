//! S7: who comes after an invalidation does not get what was begun before it; nor does what an instance stored before
//! it joined the bus survive.

use multi_tier_cache::testing::{Stage, Step};

use crate::common::ended;
use crate::harness::{Outcome, fresh, until};
use crate::instance::Setup;
use crate::stories::late_joiner;
use crate::world::{Kind, World};

scenario!(a_load_from_before_a_peers_delete_is_not_joined {
    redis: Redis,
    memory: Memory,
    redis_with_late_joiners: Redis without NoLateJoiners,
    memory_with_late_joiners: Memory without NoLateJoiners,
});

async fn a_load_from_before_a_peers_delete_is_not_joined(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let new = late_joiner(&a, a.begin_load("k"), "k", a.hears(b.change("k"))).await?;
    assert_eq!(a.cache.coherence_stats().refused_joins, 1);
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(a_lookup_from_before_a_peers_delete_is_not_joined {
    redis: Redis,
    memory: Memory,
    redis_with_late_joiners: Redis without NoLateJoiners,
    memory_with_late_joiners: Memory without NoLateJoiners,
});

async fn a_lookup_from_before_a_peers_delete_is_not_joined(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    let mut read = a.tier.hold_read();
    let lookup = a.start_get("k").await;
    read.reached().await;
    let new = b.change("k").await;
    a.hear(1).await;
    let late = a.start_get("k").await;
    read.release();
    ended(lookup).await;
    fresh("who asks after the delete was heard", ended(late).await, new)?;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(nothing_stored_before_the_bus_was_joined_survives { redis: Redis, memory: Memory });

/// No switch: that the first look at the log forgets everything is not optional.
async fn nothing_stored_before_the_bus_was_joined_survives(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let stage = Stage::new();
    stage.fail(Step::Poll, usize::MAX);
    stage.lose_messages(true);
    let late = world.build(Setup::quiet(), &stage).await;
    until("the subscription", async || late.cache.coherence_stats().subscriptions == 1).await;
    late.load("k").await;
    assert_eq!(late.get("k").await, Some(1));
    let new = a.change("k").await;
    stage.mend();
    assert!(late.poll().await);
    assert_eq!(late.cache.coherence_stats().joins, 1);
    world.is_clean(&[&late, &a], "k", new).await
}
