//! S5: two loads of one instance, one from before and one from after a delete.

use multi_tier_cache::testing::{Step, When};

use crate::common::ended;
use crate::harness::{Outcome, fresh};
use crate::world::{Kind, World};

scenario!(an_older_load_fills_under_a_newer_lease {
    redis: Redis,
    memory: Memory,
    redis_with_a_token_per_client: Redis without TokenPerLoad,
    memory_with_a_token_per_client: Memory without TokenPerLoad,
});

/// The older load's fill is on its way when the key is deleted and loaded again: the new lease is not its own.
async fn an_older_load_fills_under_a_newer_lease(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut filling = a.stage.hold(Step::Fill, When::Before);
    let older = a.start_load("k").await;
    filling.reached().await;
    let new = b.change("k").await;
    a.hear(1).await;
    let mut newer = a.begin_load("k");
    newer.began().await;
    filling.release();
    assert_eq!(ended(older).await, 1);
    fresh("the shared tier, under the newer lease", world.stored("k"), new)?;
    fresh("the newer load", newer.end().await.unwrap(), new)?;
    assert_eq!(world.stored("k"), Some(new), "the newer lease was not touched");
    world.is_clean(&[&a, &b], "k", new).await
}
