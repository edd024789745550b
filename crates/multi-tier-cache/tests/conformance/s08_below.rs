//! S8: a shared tier below the coordinator, which cannot refuse a fill.

use std::time::Duration;

use multi_tier_cache::Capabilities;
use multi_tier_cache::testing::{Held, Step, When};

use crate::common::{Op, Scripted, When as Where, ended};
use crate::harness::{Outcome, eventually, fresh};
use crate::instance::{Instance, Setup, value, version};
use crate::world::{Kind, World};

const SOON: Duration = Duration::from_millis(500);

struct Deep {
    world: World,
    l3: std::sync::Arc<Scripted>,
    a: Instance,
    b: Instance,
}

impl Deep {
    async fn new(kind: Kind) -> Self {
        let world = World::new(kind);
        let l3 = Scripted::capable_of("L3", Capabilities::SHARED);
        let setup = Setup::quiet().above(&l3);
        let (a, b) = (world.join_as(setup.clone()).await, world.join_as(setup).await);
        Self { world, l3, a, b }
    }

    fn below(&self) -> Option<u64> {
        self.l3.peek("k").map(|stored| version(&stored))
    }

    /// `change` takes effect while a load of A writes below; A has not heard of it when the write has landed.
    async fn change_during_a_write(&self, change: impl Future<Output = u64>) -> (u64, Held) {
        let mut unheard = self.a.stage.hold(Step::Message, When::Before);
        let mut write = self.l3.hold(Op::Set, Where::Before);
        let loader = self.a.start_load("k").await;
        write.reached().await;
        let new = change.await;
        unheard.reached().await;
        write.release();
        ended(loader).await;
        (new, unheard)
    }

    /// What landed below is not read by the other instance, and is gone soon after its writer has heard.
    async fn hides_what_landed(&self, new: u64, unheard: Held) -> Outcome {
        fresh("the other instance", self.b.load("k").await, new)?;
        unheard.release();
        self.a.hear(1).await;
        eventually(SOON, "the tier below is clean", async || self.below() != Some(1)).await?;
        self.is_clean(new).await
    }

    async fn is_clean(&self, new: u64) -> Outcome {
        fresh("the tier below", self.below(), new)?;
        self.world.is_clean(&[&self.a, &self.b], "k", new).await?;
        fresh("the tier below, at rest", self.below(), new)
    }
}

scenario!(promotion_from_below_during_a_delete {
    redis: Redis,
    memory: Memory,
    redis_without_leases: Redis without FillUnderLease,
    memory_without_leases: Memory without FillUnderLease,
});

/// What was read below before the delete does not come up after it.
async fn promotion_from_below_during_a_delete(kind: Kind) -> Outcome {
    let deep = Deep::new(kind).await;
    let Deep { world, l3, a, b } = &deep;
    l3.plant("k", value(1));
    let mut unheard = a.stage.hold(Step::Message, When::Before);
    let mut read = l3.hold(Op::Get, Where::After);
    let reader = a.start_load("k").await;
    read.reached().await;
    let new = b.change("k").await;
    unheard.reached().await;
    read.release();
    assert_eq!(ended(reader).await, 1);
    fresh("the coordinator", world.stored("k"), new)?;
    unheard.release();
    a.hear(1).await;
    deep.is_clean(new).await
}

scenario!(a_write_below_that_lands_after_a_delete {
    redis: Redis,
    memory: Memory,
    redis_without_tombstones: Redis without Tombstone,
    memory_without_tombstones: Memory without Tombstone,
});

/// While the tombstone lives, what landed below is not read by anybody.
async fn a_write_below_that_lands_after_a_delete(kind: Kind) -> Outcome {
    let deep = Deep::new(kind).await;
    let (new, unheard) = deep.change_during_a_write(deep.b.change("k")).await;
    assert_eq!(deep.below(), Some(1), "it landed");
    deep.world.undo_tombstones();
    deep.hides_what_landed(new, unheard).await
}

scenario!(what_was_written_below_is_taken_back {
    redis: Redis,
    memory: Memory,
    redis_without_taking_back: Redis without TakeBack,
    memory_without_taking_back: Memory without TakeBack,
});

/// The writer hears of the delete when its write has landed.
async fn what_was_written_below_is_taken_back(kind: Kind) -> Outcome {
    let deep = Deep::new(kind).await;
    let Deep { a, b, .. } = &deep;
    let (new, unheard) = deep.change_during_a_write(b.change("k")).await;
    unheard.release();
    a.hear(1).await;
    eventually(SOON, "what landed below is gone", async || deep.below().is_none()).await?;
    assert_eq!(a.cache.coherence_stats().taken_back, 1);
    deep.is_clean(new).await
}

scenario!(a_write_below_is_checked_when_it_is_done {
    redis: Redis,
    memory: Memory,
    redis_without_taking_back: Redis without TakeBack,
    memory_without_taking_back: Memory without TakeBack,
});

/// The writer hears of the delete while its write is on its way.
async fn a_write_below_is_checked_when_it_is_done(kind: Kind) -> Outcome {
    let deep = Deep::new(kind).await;
    let Deep { l3, a, b, .. } = &deep;
    let mut write = l3.hold(Op::Set, Where::Before);
    let loader = a.start_load("k").await;
    write.reached().await;
    let new = b.change("k").await;
    a.hear(1).await;
    write.release();
    ended(loader).await;
    eventually(SOON, "what landed below is gone", async || deep.below().is_none()).await?;
    deep.is_clean(new).await
}

scenario!(a_pattern_closes_what_is_below { redis: Redis, memory: Memory, memory_without_tombstones: Memory without Tombstone });

/// A pattern has no tombstone for each key: it closes everything below for a while.
async fn a_pattern_closes_what_is_below(kind: Kind) -> Outcome {
    let deep = Deep::new(kind).await;
    let (new, unheard) = deep.change_during_a_write(deep.b.change_pattern("k", "k*")).await;
    deep.hides_what_landed(new, unheard).await
}
