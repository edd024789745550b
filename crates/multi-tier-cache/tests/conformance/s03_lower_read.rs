//! S3: a read of the shared tier races another instance's change, on its way into the first tier.

use multi_tier_cache::CacheStrategy;

use crate::common::ended;
use crate::harness::{Outcome, fresh};
use crate::instance::value;
use crate::stories::lower_read_across;
use crate::world::{Kind, World};

scenario!(lower_read_races_a_peers_delete {
    redis: Redis,
    memory: Memory,
    redis_without_stamps: Redis without StampBeforeFill,
    memory_without_stamps: Memory without StampBeforeFill,
});

async fn lower_read_races_a_peers_delete(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    let new = lower_read_across(&a, "k", a.hears(b.change("k"))).await;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(slow_lower_read_beside_a_newer_one {
    redis: Redis,
    memory: Memory,
    redis_with_older_copies: Redis without NewerValueStays,
    memory_with_older_copies: Memory without NewerValueStays,
});

/// A plain write is announced to nobody; still no instance goes back from what it served.
async fn slow_lower_read_beside_a_newer_one(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    let mut read = a.tier.hold_read();
    let slow = a.start_get("k").await;
    read.reached().await;
    let new = b.database.write("k");
    b.cache.set_with_strategy("k", value(new), CacheStrategy::Default).await.unwrap();
    assert_eq!(a.load("k").await, new);
    read.release();
    ended(slow).await;
    fresh("what this instance served already", a.get("k").await, new)
}
