//! I8: how many load, and for how long one instance waits for another.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::common::ended;
use crate::harness::{Outcome, fresh, holds, until};
use crate::instance::{Instance, Loading, Setup};
use crate::world::{Kind, World};

const SHORT: Duration = Duration::from_millis(60);

/// The first instance loads, and the second waits for it.
async fn load_and_wait(a: &Instance, b: &Instance) -> (Loading, JoinHandle<u64>) {
    let mut load = a.begin_load("k");
    load.began().await;
    let waiting = b.start_load("k").await;
    until("the wait", async || b.cache.coherence_stats().lease_waits == 1).await;
    (load, waiting)
}

scenario!(one_loads_for_the_whole_fleet { redis: Redis, memory: Memory });

async fn one_loads_for_the_whole_fleet(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let (load, waiting) = load_and_wait(&a, &b).await;
    load.end().await.unwrap();
    assert_eq!(ended(waiting).await, 1);
    holds("one load", world.database.reads("k") == 1)
}

scenario!(who_waits_takes_over_from_one_that_goes_away { redis: Redis, memory: Memory });

async fn who_waits_takes_over_from_one_that_goes_away(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let (load, waiting) = load_and_wait(&a, &b).await;
    let began = Instant::now();
    load.task.abort();
    assert_eq!(ended(waiting).await, 1);
    holds("at once", began.elapsed() < Duration::from_millis(500))?;
    holds("one further load", world.database.reads("k") == 2 && b.cache.coherence_stats().takeovers == 1)?;
    holds("it is stored", world.stored("k") == Some(1))
}

scenario!(who_has_waited_long_enough_loads_and_stores_nothing { redis: Redis, memory: Memory });

async fn who_has_waited_long_enough_loads_and_stores_nothing(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let mut impatient = Setup::quiet();
    impatient.coherence = impatient.coherence.with_wait_budget(SHORT);
    let b = world.join_as(impatient).await;
    let mut load = a.begin_load("k");
    load.began().await;
    assert_eq!(b.load("k").await, 1);
    holds("counted", b.cache.coherence_stats().unleased_loads == 1)?;
    holds("not stored", world.stored("k").is_none())?;
    load.end().await.unwrap();
    holds("who has the lease stores", world.stored("k") == Some(1))
}

scenario!(a_load_that_takes_longer_than_its_lease {
    redis: Redis,
    memory: Memory,
    redis_without_leases: Redis without FillUnderLease,
    memory_without_leases: Memory without FillUnderLease,
    memory_with_absence_accepted: Memory without AbsenceRefuses,
});

/// The lease has ended by itself; then the key was deleted.
async fn a_load_that_takes_longer_than_its_lease(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let mut slow = Setup::quiet();
    slow.coherence = slow.coherence.with_lease(SHORT);
    let (a, b) = (world.join_as(slow).await, world.join().await);
    a.stage.lose_messages(true);
    let mut load = a.begin_load("k");
    load.began().await;
    tokio::time::sleep(SHORT * 2).await;
    let new = b.change("k").await;
    load.end().await.unwrap();
    fresh("the shared tier", world.stored("k"), new)?;
    a.poll().await;
    world.is_clean(&[&a, &b], "k", new).await
}
