//! S2: another instance deletes a key while this one loads it.

use std::time::Duration;

use multi_tier_cache::testing::{Hub, Step, When};
use tokio::time::sleep;

use crate::common::{ended, start};
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

scenario!(a_delete_is_announced_when_it_is_done {
    redis: Redis,
    memory: Memory,
    memory_announced_first: Memory without RemoveBeforePublish,
});

/// Who reads as soon as it has heard of the delete does not find the old value below.
async fn a_delete_is_announced_when_it_is_done(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    for (heard, key) in (1..).zip(["one", "two", "three", "four", "five"]) {
        b.load(key).await;
        let (cache, messages) = (b.cache.clone(), world.hub().map(Hub::messages));
        let reads = start(async move {
            match messages {
                // Subscribed after the instance: it has heard the message when this has.
                Some(mut messages) => drop(messages.recv().await),
                None => {
                    while cache.invalidation_stats().unwrap().messages_received < heard {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            }
            cache.get(key).await.unwrap()
        })
        .await;
        let (new, writer) = (a.database.write(key), a.cache.clone());
        ended(tokio::spawn(async move { writer.invalidate(key).await })).await.unwrap();
        ended(reads).await;
        world.is_clean(&[&b, &a], key, new).await?;
    }
    Ok(())
}
