//! S12: a full server evicts what the protocol keeps: leases, the account of the namespace, tokens of tags.

use crate::harness::{Outcome, fresh, holds};
use crate::instance::{Setup, tagged};
use crate::stories::UnheardLoad;
use crate::world::{Kind, World};

scenario!(a_lease_is_evicted {
    redis: Redis,
    memory: Memory,
    redis_with_absence_accepted: Redis without AbsenceRefuses,
    memory_with_absence_accepted: Memory without AbsenceRefuses,
});

/// A lease that is not there refuses, whatever became of it: a delete may have.
async fn a_lease_is_evicted(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut load = UnheardLoad::begin(&a, "k").await;
    let leases = world.leases();
    world.evict_leases();
    let new = load.outlives(b.change("k")).await;
    world.undo_absence(&leases);
    load.end(&world, "k", new).await?;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(the_fence_is_evicted { redis: Redis, memory: Memory, memory_without_a_fence: Memory without Fence });

/// A pattern moved the fence, and the fence is lost: a lease from before it still is of no use.
async fn the_fence_is_evicted(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut load = UnheardLoad::begin(&a, "k").await;
    let new = load.outlives(b.change_pattern("k", "k*")).await;
    world.evict_bus();
    load.end(&world, "k", new).await?;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(the_account_of_the_namespace_is_evicted { redis: Redis, memory: Memory });

/// Whoever missed a message finds another epoch, and forgets everything. No switch.
async fn the_account_of_the_namespace_is_evicted(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    let new = b.lose(a.change("k")).await;
    world.evict_bus();
    assert_eq!(b.get("k").await, Some(1), "nobody told it");
    b.poll().await;
    a.poll().await;
    world.is_clean(&[&b, &a], "k", new).await?;
    holds("both follow the new epoch", [&a, &b].iter().all(|it| it.cache.coherence_stats().forks == 1))?;
    let newer = a.change("k").await;
    b.hear(2).await;
    world.is_clean(&[&b, &a], "k", newer).await
}

scenario!(the_token_of_a_tag_is_evicted {
    redis: Redis,
    memory: Memory,
    redis_without_the_check: Redis without TagCheck,
    memory_without_the_check: Memory without TagCheck,
});

/// A token that is lost is created anew at the present: a load from before it is refused.
async fn the_token_of_a_tag_is_evicted(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut load = UnheardLoad::begin_with(&a, "k", tagged()).await;
    let new = load.outlives(b.change_tagged("k")).await;
    world.undo_revoked_tags();
    if !crate::harness::is_off(multi_tier_cache::testing::Protection::TagCheck) {
        world.evict_tags();
    }
    load.end(&world, "k", new).await?;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(a_stored_value_whose_tag_is_evicted_is_a_miss { redis: Redis, memory: Memory });

/// Nobody can tell any more whether the tag was removed.
async fn a_stored_value_whose_tag_is_evicted_is_a_miss(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join_as(Setup::quiet()).await, world.join().await);
    a.load_with("k", &tagged()).await.unwrap();
    let new = a.change_tagged("k").await;
    world.evict_tags();
    fresh("the other instance", b.get("k").await, new)?;
    // Another entry creates the token again, at the present.
    b.load_with("other", &tagged()).await.unwrap();
    fresh("the other instance", b.get("k").await, new)?;
    fresh("the writer", a.get("k").await, new)?;
    fresh("the other instance", b.load_with("k", &tagged()).await.unwrap(), new)
}
