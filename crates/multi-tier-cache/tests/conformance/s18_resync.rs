//! S18: messages arrive while an instance reads the log to catch up.

use futures_util::future::join_all;
use multi_tier_cache::testing::{Pump, Step, When};

use crate::common::{ended, start};
use crate::harness::{Outcome, holds, until};
use crate::instance::Instance;
use crate::world::{Kind, World};

const KEYS: [&str; 5] = ["one", "two", "three", "four", "five"];

async fn fleet(kind: Kind) -> (World, Instance, Instance) {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    for key in KEYS.iter().chain(&["warm"]) {
        b.load(key).await;
    }
    (world, a, b)
}

/// All of it was applied, and nothing else forgotten.
async fn has_caught_up(world: &World, a: &Instance, b: &Instance, keys: &[&'static str]) -> Outcome {
    b.poll().await;
    for key in keys {
        world.is_clean(&[b, a], key, 2).await?;
    }
    let (reads, warm) = (b.tier.reads(), b.get("warm").await);
    let stats = b.cache.coherence_stats();
    holds("the rest stays warm", warm == Some(1) && b.tier.reads() == reads && stats.flushes == 0)?;
    holds("no history was doubted", stats.forks == 0)
}

scenario!(messages_while_a_page_is_read {
    redis: Redis,
    memory: Memory,
    redis_deaf_to_gaps: Redis without GapDetection,
    memory_deaf_to_gaps: Memory without GapDetection,
});

async fn messages_while_a_page_is_read(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    let mut page = b.stage.hold(Step::ReadLog, When::After);
    b.lose(a.change("one")).await;
    a.change("two").await;
    b.hear(1).await;
    let catching_up = poll_in_background(&b).await;
    // Without gap detection nobody reads the log.
    if b.stage.calls(Step::ReadLog) > 0 || !crate::harness::is_off(multi_tier_cache::testing::Protection::GapDetection)
    {
        page.reached().await;
    }
    for key in ["three", "four", "five"] {
        a.change(key).await;
    }
    b.hear(4).await;
    page.release();
    ended(catching_up).await;
    has_caught_up(&world, &a, &b, &KEYS).await
}

async fn poll_in_background(instance: &Instance) -> tokio::task::JoinHandle<bool> {
    let pump = Pump::of(&instance.cache).unwrap();
    start(async move { pump.poll().await }).await
}

scenario!(messages_while_the_tail_is_told { redis: Redis, memory: Memory });

/// A tail behind what has been followed meanwhile is an old answer, no fork.
async fn messages_while_the_tail_is_told(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    let mut told = b.stage.hold(Step::Poll, When::After);
    let polling = poll_in_background(&b).await;
    told.reached().await;
    for key in KEYS {
        a.change(key).await;
    }
    b.hear(5).await;
    told.release();
    assert!(ended(polling).await);
    has_caught_up(&world, &a, &b, &KEYS).await?;
    holds("no need to read the log", b.cache.coherence_stats().resyncs == 0)
}

scenario!(messages_that_the_log_told_already { redis: Redis, memory: Memory });

/// The poll is ahead of the messages: they tell nothing new when they come.
async fn messages_that_the_log_told_already(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    let mut late = b.stage.hold(Step::Message, When::Before);
    for key in KEYS {
        a.change(key).await;
    }
    late.reached().await;
    assert!(b.poll().await);
    for key in KEYS {
        b.load(key).await;
    }
    let reads = b.tier.reads();
    late.release();
    b.hear(5).await;
    for key in KEYS {
        assert_eq!(b.get(key).await, Some(2));
    }
    holds("what was reloaded stays", b.tier.reads() == reads)?;
    has_caught_up(&world, &a, &b, &KEYS).await
}

scenario!(the_subscription_ends_while_a_page_is_read {
    redis: Redis,
    memory: Memory,
    redis_deaf_to_gaps: Redis without GapDetection,
    memory_deaf_to_gaps: Memory without GapDetection,
});

async fn the_subscription_ends_while_a_page_is_read(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    let gaps = !crate::harness::is_off(multi_tier_cache::testing::Protection::GapDetection);
    b.lose(a.change("one")).await;
    let mut page = b.stage.hold(Step::ReadLog, When::Before);
    let catching_up = poll_in_background(&b).await;
    if gaps {
        page.reached().await;
    }
    let mut deaf = b.stage.hold(Step::Listen, When::Before);
    world.cut_subscriptions();
    deaf.reached().await;
    a.change("two").await;
    a.change("three").await;
    page.release();
    ended(catching_up).await;
    deaf.release();
    until("the subscription", async || b.cache.coherence_stats().subscriptions == 2).await;
    has_caught_up(&world, &a, &b, &["one", "two", "three"]).await
}

scenario!(more_messages_than_may_wait { redis: Redis });

/// The subscription ends when too much waits to be taken; the log tells the rest.
async fn more_messages_than_may_wait(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    let mut slow = b.stage.hold(Step::Message, When::Before);
    a.change("one").await;
    slow.reached().await;
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    for _ in 0..=multi_tier_cache::defaults::MESSAGES_WAITING / 100 {
        // Each with a message of its own, as removals of one key at once would not have.
        let removals = keys.iter().map(|key| async { a.cache.remove_many(&[key]).await });
        assert!(join_all(removals).await.iter().all(Result::is_ok));
    }
    a.change("two").await;
    slow.release();
    until("the subscription", async || b.cache.coherence_stats().subscriptions == 2).await;
    has_caught_up(&world, &a, &b, &["one", "two"]).await
}
