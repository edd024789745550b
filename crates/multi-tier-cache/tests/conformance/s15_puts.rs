//! S15: puts that race with each other, with loads and with removals.

use multi_tier_cache::testing::{Held, Step, When};
use multi_tier_cache::{CacheResult, CacheStrategy, CallOptions, InProcess, Position};
use tokio::task::JoinHandle;

use crate::common::{Scripted, ended};
use crate::harness::{Outcome, fresh, holds};
use crate::instance::{Instance, Setup, value};
use crate::world::{Kind, World};

type Put = JoinHandle<CacheResult<Option<Position>>>;

/// Starts a put of the database's version after a write to it.
fn begin_put(instance: &Instance, key: &'static str) -> Put {
    let (cache, version) = (instance.cache.clone(), instance.database.write(key));
    tokio::spawn(async move { cache.put(key, value(version), &CallOptions::default()).await })
}

/// Holds where a put stores its value, whichever way it does that.
struct Storing(Held, Held);

impl Storing {
    fn hold(instance: &Instance, when: When) -> Self {
        Self(instance.stage.hold(Step::Fill, when), instance.stage.hold(Step::Replace, when))
    }

    async fn reached(&mut self) {
        tokio::select! { () = self.0.reached() => {}, () = self.1.reached() => {} }
    }

    fn release(self) {
        self.0.release();
        self.1.release();
    }
}

scenario!(two_puts_race {
    redis: Redis,
    memory: Memory,
    redis_without_leases: Redis without PutUnderLease,
    memory_without_leases: Memory without PutUnderLease,
});

/// The later one ends while the earlier one is about to store: the earlier one has no right to any more.
async fn two_puts_race(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    a.load("k").await;
    b.load("k").await;
    let mut storing = Storing::hold(&a, When::Before);
    let older = begin_put(&a, "k");
    storing.reached().await;
    ended(begin_put(&b, "k")).await.unwrap();
    storing.release();
    ended(older).await.unwrap();
    fresh("the shared tier", world.stored("k"), 3)?;
    a.hear(2).await;
    assert_eq!((world.stored("k"), b.get("k").await), (Some(3), Some(3)), "the newest value is kept");
    world.is_clean(&[&a, &b], "k", 3).await
}

scenario!(two_puts_race_unheard { redis: Redis, memory: Memory });

/// The earlier one has not heard of the later one either: what the coordinator refused is kept nowhere.
async fn two_puts_race_unheard(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut storing = Storing::hold(&a, When::Before);
    let older = begin_put(&a, "k");
    storing.reached().await;
    a.hear(1).await;
    let mut unheard = a.stage.hold(Step::Message, When::Before);
    ended(begin_put(&b, "k")).await.unwrap();
    unheard.reached().await;
    storing.release();
    ended(older).await.unwrap();
    fresh("read your writes", a.get("k").await, 3)?;
    unheard.release();
    a.hear(2).await;
    world.is_clean(&[&a, &b], "k", 3).await
}

scenario!(a_put_races_a_load {
    redis: Redis,
    memory: Memory,
    redis_without_leases: Redis without FillUnderLease,
    memory_without_leases: Memory without FillUnderLease,
});

async fn a_put_races_a_load(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut unheard = b.stage.hold(Step::Message, When::Before);
    let mut load = b.begin_load("k");
    load.began().await;
    ended(begin_put(&a, "k")).await.unwrap();
    unheard.reached().await;
    assert_eq!(load.end().await.unwrap(), 1);
    fresh("the shared tier", world.stored("k"), 2)?;
    unheard.release();
    b.hear(1).await;
    world.is_clean(&[&b, &a], "k", 2).await
}

scenario!(a_put_races_a_lower_read {
    redis: Redis,
    memory: Memory,
    redis_with_one_drop: Redis without RevokeAtTheEnd,
    memory_with_one_drop: Memory without RevokeAtTheEnd,
});

/// A reader found the old value between the halves of the put, and comes back when it is done.
async fn a_put_races_a_lower_read(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    let mut revoking = a.stage.hold(Step::Revoke, When::Before);
    let mut storing = Storing::hold(&a, When::After);
    let put = begin_put(&a, "k");
    revoking.reached().await;
    let mut read = a.tier.hold_read();
    let reader = a.start_get("k").await;
    read.reached().await;
    revoking.release();
    storing.reached().await;
    // The echo of a put under way drops nothing: its author will.
    a.hear(1).await;
    storing.release();
    ended(put).await.unwrap();
    read.release();
    assert_eq!(ended(reader).await, Some(1), "it asked before the put took effect");
    fresh("read your writes", a.get("k").await, 2)?;
    b.hear(1).await;
    world.is_clean(&[&a, &b], "k", 2).await
}

scenario!(a_put_races_a_removal {
    redis: Redis,
    memory: Memory,
    redis_without_leases: Redis without PutUnderLease,
    memory_without_leases: Memory without PutUnderLease,
});

async fn a_put_races_a_removal(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut storing = Storing::hold(&a, When::Before);
    let put = begin_put(&a, "k");
    storing.reached().await;
    let new = b.change("k").await;
    storing.release();
    ended(put).await.unwrap();
    fresh("the shared tier", world.stored("k"), new)?;
    a.hear(2).await;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(a_removal_comes_after_the_coordinator_took_a_put {
    redis: Redis,
    memory: Memory,
    redis_without_stamps: Redis without StampBeforeFill,
    memory_without_stamps: Memory without StampBeforeFill,
});

/// Taken, then removed and heard of, then told that it was taken.
async fn a_removal_comes_after_the_coordinator_took_a_put(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut storing = Storing::hold(&a, When::After);
    let put = begin_put(&a, "k");
    storing.reached().await;
    let new = b.change("k").await;
    a.hear(2).await;
    storing.release();
    ended(put).await.unwrap();
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(a_removal_races_a_put_of_the_same_instance { redis: Redis, memory: Memory });

/// They take turns.
async fn a_removal_races_a_put_of_the_same_instance(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    let mut storing = Storing::hold(&a, When::Before);
    let put = begin_put(&a, "k");
    storing.reached().await;
    let new = a.database.write("k");
    let cache = a.cache.clone();
    let removal = crate::common::start(async move { cache.invalidate("k").await }).await;
    storing.release();
    ended(put).await.unwrap();
    ended(removal).await.unwrap();
    fresh("read your writes", a.get("k").await, new)?;
    b.hear(2).await;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(a_put_that_the_shared_tier_did_not_take { redis: Redis, memory: Memory });

/// Nobody was to hear of it, so it succeeds where this instance alone has it; but its own disk must not answer the older
/// value once the first tier has needed the room.
async fn a_put_that_the_shared_tier_did_not_take(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let disk = Scripted::new("disk");
    let a = world.join_as(Setup::quiet().over_disk(&disk)).await;
    a.load("k").await;
    a.stage.fail(Step::Fill, 1);
    let version = a.database.write("k");
    a.cache.set_with_strategy("k", value(version), CacheStrategy::Default).await.unwrap();
    fresh("the first tier", a.get("k").await, version)?;
    a.first.evict("k");
    // That a tier cannot be asked until it has made up for it is an answer, too.
    let seen = a.cache.get("k").await.ok().flatten();
    holds("nothing older is below", seen.is_none_or(|stored| stored == value(version)))
}
