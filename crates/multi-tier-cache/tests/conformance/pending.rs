//! I7: an invalidation that failed is an error, visible, kept from being read around, and made up for.

use std::time::Duration;

use multi_tier_cache::testing::Step;
use multi_tier_cache::{CacheBackend, CacheResult, CacheStrategy, CallOptions, Position};

use crate::harness::{Outcome, eventually, fresh, holds, until};
use crate::instance::{Instance, tagged, value};
use crate::world::{Kind, World};

const SOON: Duration = Duration::from_secs(3);

/// A failed change of what another instance has in its first tier: the coordinator can be asked, but not changed.
struct Failed {
    world: World,
    a: Instance,
    b: Instance,
    new: u64,
}

impl Failed {
    async fn new(kind: Kind, change: impl AsyncFn(&Instance) -> CacheResult<Option<Position>>) -> Self {
        let world = World::new(kind);
        let (a, b) = (world.join().await, world.join().await);
        b.load_with("k", &tagged()).await.unwrap();
        b.load_with("other", &CallOptions::default()).await.unwrap();
        a.stage.fail(Step::Revoke, usize::MAX);
        let new = world.database.write("k");
        change(&a).await.unwrap_err();
        until("the first attempt to make up for it", async || a.stage.calls(Step::Revoke) >= 2).await;
        assert_eq!(a.cache.coherence_stats().pending_invalidations, 1);
        Self { world, a, b, new }
    }

    /// It is done as soon as it can be, and the other instance hears of it.
    async fn is_made_up_for(&self) -> Outcome {
        let Self { world, a, b, new } = self;
        a.stage.mend();
        let settled = async || a.cache.coherence_stats().pending_invalidations == 0;
        eventually(SOON, "nothing is owed any more", settled).await?;
        eventually(SOON, "the other instance forgets it", async || b.get("k").await != Some(1)).await?;
        for instance in [b, a] {
            fresh("an instance", instance.get("k").await, *new)?;
            fresh("an instance", instance.load_with("k", &tagged()).await.unwrap(), *new)?;
        }
        world.is_clean(&[a, b], "k", *new).await?;
        holds("the rest is still there", world.stored("other") == Some(1))
    }

    /// Until then its author reads it from the source.
    async fn is_not_read_around(&self) -> Outcome {
        if let Ok(Some(stored)) = self.a.cache.get("k").await {
            fresh("its author reads", crate::instance::version(&stored), self.new)?;
        }
        for _ in 0..3 {
            fresh("its author loads", self.a.load_with("k", &tagged()).await.unwrap(), self.new)?;
        }
        Ok(())
    }
}

async fn delete(instance: &Instance) -> CacheResult<Option<Position>> {
    instance.cache.remove("k").await
}

async fn put(instance: &Instance) -> CacheResult<Option<Position>> {
    instance.cache.put("k", value(2), &CallOptions::default()).await
}

async fn tag(instance: &Instance) -> CacheResult<Option<Position>> {
    instance.cache.remove_tag("t").await
}

async fn pattern(instance: &Instance) -> CacheResult<Option<Position>> {
    instance.cache.remove_pattern("k*").await
}

scenario!(a_failed_delete_is_made_up_for { redis: Redis, memory: Memory });

async fn a_failed_delete_is_made_up_for(kind: Kind) -> Outcome {
    Failed::new(kind, delete).await.is_made_up_for().await
}

scenario!(a_failed_put_is_made_up_for { redis: Redis, memory: Memory });

async fn a_failed_put_is_made_up_for(kind: Kind) -> Outcome {
    Failed::new(kind, put).await.is_made_up_for().await
}

scenario!(a_failed_tag_is_made_up_for { redis: Redis, memory: Memory });

async fn a_failed_tag_is_made_up_for(kind: Kind) -> Outcome {
    Failed::new(kind, tag).await.is_made_up_for().await
}

scenario!(a_failed_pattern_is_made_up_for { redis: Redis, memory: Memory });

async fn a_failed_pattern_is_made_up_for(kind: Kind) -> Outcome {
    Failed::new(kind, pattern).await.is_made_up_for().await
}

scenario!(a_failed_delete_is_not_read_around { redis: Redis, memory: Memory });

async fn a_failed_delete_is_not_read_around(kind: Kind) -> Outcome {
    Failed::new(kind, delete).await.is_not_read_around().await
}

scenario!(a_failed_put_is_not_read_around { redis: Redis, memory: Memory });

async fn a_failed_put_is_not_read_around(kind: Kind) -> Outcome {
    Failed::new(kind, put).await.is_not_read_around().await
}

scenario!(a_failed_tag_is_not_read_around { redis: Redis, memory: Memory });

async fn a_failed_tag_is_not_read_around(kind: Kind) -> Outcome {
    Failed::new(kind, tag).await.is_not_read_around().await
}

scenario!(a_failed_pattern_is_not_read_around { redis: Redis, memory: Memory });

async fn a_failed_pattern_is_not_read_around(kind: Kind) -> Outcome {
    let failed = Failed::new(kind, pattern).await;
    // The scan has happened: somebody stores the old value again that was loaded before.
    if failed.world.stored("k").is_none() {
        failed.b.cache.set_with_strategy("k", value(1), CacheStrategy::Default).await.unwrap();
    }
    failed.is_not_read_around().await
}

scenario!(a_failed_delete_is_not_settled_by_a_load { redis: Redis, memory: Memory });

/// The shared tier gets the new value; what another instance has in its first tier is still to be dropped.
async fn a_failed_delete_is_not_settled_by_a_load(kind: Kind) -> Outcome {
    let failed = Failed::new(kind, delete).await;
    // The stored value has expired meanwhile.
    match failed.world.hub() {
        Some(hub) => hub.remove("k").await.unwrap(),
        None => drop(failed.world.command(&["DEL", "k"])),
    }
    fresh("its author loads", failed.a.load("k").await, failed.new)?;
    failed.is_made_up_for().await
}

scenario!(a_failed_delete_is_not_settled_by_a_quiet_write { redis: Redis, memory: Memory });

/// A plain write comes before the background has tried again.
async fn a_failed_delete_is_not_settled_by_a_quiet_write(kind: Kind) -> Outcome {
    let failed = Failed::new(kind, delete).await;
    failed.a.stage.mend();
    failed.a.cache.set_with_strategy("k", value(failed.new), CacheStrategy::Default).await.unwrap();
    failed.is_made_up_for().await
}
