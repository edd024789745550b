//! S2: another instance deletes a key while this one loads it.

use multi_tier_cache::testing::{Step, When};

use crate::common::ended;
use crate::harness::Outcome;
use crate::world::{Kind, World};

scenario!(peers_delete_during_a_load {
    redis: Redis,
    memory: Memory,
    redis_without_leases: Redis without FillUnderLease,
    memory_without_leases: Memory without FillUnderLease,
});

/// The loader has not heard of the delete: the coordinator refuses what it brings.
async fn peers_delete_during_a_load(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut unheard = a.stage.hold(Step::Message, When::Before);
    let mut load = a.begin_load("k");
    load.began().await;
    let new = b.change("k").await;
    unheard.reached().await;
    assert_eq!(load.end().await.unwrap(), 1);
    let (stored, refused) = (world.stored("k"), a.cache.coherence_stats().refused_fills);
    unheard.release();
    a.hear(1).await;
    world.is_clean(&[&a, &b], "k", new).await?;
    assert_eq!((stored, refused), (None, 1));
    Ok(())
}

scenario!(peers_delete_after_a_fill {
    redis: Redis,
    memory: Memory,
    redis_without_stamps: Redis without StampBeforeFill,
    memory_without_stamps: Memory without StampBeforeFill,
});

/// The coordinator took the value, then the delete came and was heard, then the answer to the fill.
async fn peers_delete_after_a_fill(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut filled = a.stage.hold(Step::Fill, When::After);
    let load = a.start_load("k").await;
    filled.reached().await;
    let new = b.change("k").await;
    a.hear(1).await;
    filled.release();
    assert_eq!(ended(load).await, 1);
    world.is_clean(&[&a, &b], "k", new).await
}
