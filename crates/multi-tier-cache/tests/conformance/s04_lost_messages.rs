//! S4: messages are lost, with their subscription or without.

use std::time::Instant;

use multi_tier_cache::CallOptions;
use multi_tier_cache::testing::{Step, When};
use tokio::time::{Duration, sleep};

use crate::harness::{Outcome, fresh, holds, until};
use crate::instance::{BOUND, Setup};
use crate::world::{Kind, World};

scenario!(writes_while_subscriptions_are_killed {
    redis: Redis,
    memory: Memory,
    redis_deaf_to_gaps: Redis without GapDetection,
    memory_deaf_to_gaps: Memory without GapDetection,
});

/// An instance that hears nothing serves nothing older than the bound.
async fn writes_while_subscriptions_are_killed(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join_as(Setup::polling()).await, world.join_as(Setup::polling()).await);
    a.load("k").await;
    b.load("k").await;
    let mut deaf = b.stage.hold(Step::Listen, When::Before);
    world.cut_subscriptions();
    deaf.reached().await;
    let new = a.change("k").await;
    let changed = Instant::now();
    loop {
        let asked = Instant::now();
        let seen = b.load("k").await;
        if asked - changed > BOUND {
            fresh("beyond the bound", seen, new)?;
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    deaf.release();
    until("the subscription", async || b.cache.coherence_stats().subscriptions == 2).await;
    let (heard, newer) = (b.heard(), a.change("k").await);
    b.hear(heard + 1).await;
    world.is_clean(&[&a, &b], "k", newer).await
}

scenario!(one_message_is_lost_and_the_next_is_heard {
    redis: Redis,
    memory: Memory,
    redis_deaf_to_gaps: Redis without GapDetection,
    memory_deaf_to_gaps: Memory without GapDetection,
});

/// The gap is noticed at once; what is not concerned stays warm.
async fn one_message_is_lost_and_the_next_is_heard(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    for key in ["lost", "heard", "warm"] {
        b.load(key).await;
    }
    let new = b.lose(a.change("lost")).await;
    assert_eq!(b.get("lost").await, Some(1), "nobody told it");
    a.change("heard").await;
    b.hear(1).await;
    b.poll().await;
    world.is_clean(&[&b, &a], "lost", new).await?;
    world.is_clean(&[&b, &a], "heard", 2).await?;
    let reads = b.tier.reads();
    assert_eq!(b.get("warm").await, Some(1));
    let stats = b.cache.coherence_stats();
    holds("the log told what was lost, and nothing else was forgotten", b.tier.reads() == reads && stats.flushes == 0)?;
    assert!(stats.gaps == 1 && stats.resyncs > 0, "{stats:?}");
    Ok(())
}

scenario!(a_read_at_a_position_that_no_message_told {
    redis: Redis,
    memory: Memory,
    redis_without_positions: Redis without AtLeast,
    memory_without_positions: Memory without AtLeast,
});

/// I3: a read at a position reflects it, even where the log cannot be asked.
async fn a_read_at_a_position_that_no_message_told(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    let new = a.database.write("k");
    let position = b.lose(a.cache.remove("k")).await.unwrap().unwrap();
    let options = CallOptions::default().at_least(position);
    b.stage.fail(Step::Poll, usize::MAX);
    if let Ok(seen) = b.cache.get_with_options("k", &options).await {
        return Err(format!("{seen:?} answered for a position that was not reached"));
    }
    fresh("a load at the position", b.load_with("k", &options).await.unwrap(), new)?;
    b.stage.mend();
    fresh("the same with the log", b.load_with("k", &options).await.unwrap(), new)?;
    fresh("a plain read after it", b.get("k").await, new)
}
