//! S1: an instance deletes a key while it loads or reads it.

use crate::common::ended;
use crate::harness::Outcome;
use crate::stories::{HalvedDelete, late_joiner, lower_read_across};
use crate::world::{Kind, World};

scenario!(own_delete_during_a_load {
    redis: Redis,
    memory: Memory,
    redis_unguarded: Redis without StampBeforeFill without FillUnderLease,
    memory_unguarded: Memory without StampBeforeFill without FillUnderLease,
});

/// What the load brings is stored nowhere. Stamp and lease both see to it.
async fn own_delete_during_a_load(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut load = a.begin_load("k");
    load.began().await;
    let new = a.change("k").await;
    a.hear(1).await;
    assert_eq!(load.end().await.unwrap(), 1, "its caller asked before the delete");
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(own_delete_before_a_late_joiner {
    redis: Redis,
    memory: Memory,
    redis_with_late_joiners: Redis without NoLateJoiners,
    memory_with_late_joiners: Memory without NoLateJoiners,
});

/// Who asks after the delete does not get what was loaded before it.
async fn own_delete_before_a_late_joiner(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let new = late_joiner(&a, a.begin_load("k"), "k", a.change("k")).await?;
    world.is_clean(&[&a], "k", new).await
}

scenario!(own_delete_during_a_lower_read {
    redis: Redis,
    memory: Memory,
    redis_without_stamps: Redis without StampBeforeFill,
    memory_without_stamps: Memory without StampBeforeFill,
});

/// What was read from the shared tier before the delete is not copied above it afterwards.
async fn own_delete_during_a_lower_read(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    // Its own echo too is over.
    let new = lower_read_across(&a, "k", a.hears(a.change("k"))).await;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(own_delete_before_its_second_half {
    redis: Redis,
    memory: Memory,
    redis_with_one_drop: Redis without RevokeAtTheEnd,
    memory_with_one_drop: Memory without RevokeAtTheEnd,
});

/// What a reader found between the first drop and the delete at the coordinator goes with the second drop.
async fn own_delete_before_its_second_half(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let HalvedDelete { new, task, before, mut after } = HalvedDelete::begin(&a, "k").await;
    before.release();
    after.reached().await;
    // The echo of a delete under way drops nothing: its author will.
    a.hear(1).await;
    after.release();
    ended(task).await.unwrap();
    world.is_clean(&[&a], "k", new).await
}
