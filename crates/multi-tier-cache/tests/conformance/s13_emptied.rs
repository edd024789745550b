//! S13: the server loses everything: a restart without data, FLUSHALL, SCRIPT FLUSH.

use std::time::Duration;

use multi_tier_cache::CallOptions;
use multi_tier_cache::testing::{Step, When};
use test_servers::RedisServer;

use crate::harness::{Outcome, eventually, fresh, holds, until};
use crate::instance::Setup;
use crate::world::{Kind, Store, World};

scenario!(everything_is_lost_with_a_message { redis: Redis, memory: Memory });

/// The epoch is another one: who missed a message forgets what it has. No switch.
async fn everything_is_lost_with_a_message(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    let new = b.database.write("k");
    let position = b.lose(a.cache.remove("k")).await.unwrap().unwrap();
    world.flush();
    assert_eq!(b.get("k").await, Some(1), "nobody told it");
    b.poll().await;
    a.poll().await;
    let at_least = CallOptions::default().at_least(position);
    fresh("a load at the lost position", b.load_with("k", &at_least).await.unwrap(), new)?;
    holds("a position of a lost epoch is never reached", b.cache.get_with_options("k", &at_least).await.is_err())?;
    world.is_clean(&[&b, &a], "k", new).await?;
    let stats = [&a, &b].map(|it| it.cache.coherence_stats());
    holds("both follow the new epoch", stats.iter().all(|stats| stats.forks == 1 && stats.flushes == 1))
}

scenario!(everything_is_lost_during_a_load {
    redis: Redis,
    memory: Memory,
    redis_without_leases: Redis without FillUnderLease,
    memory_without_leases: Memory without FillUnderLease,
    memory_with_absence_accepted: Memory without AbsenceRefuses without Fence,
});

async fn everything_is_lost_during_a_load(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    a.stage.lose_messages(true);
    // It would do its delete again in the new epoch.
    b.stage.fail(Step::Poll, usize::MAX);
    let mut load = a.begin_load("k");
    load.began().await;
    world.flush();
    let new = b.change("k").await;
    load.end().await.unwrap();
    fresh("the shared tier", world.stored("k"), new)?;
    a.stage.lose_messages(false);
    b.stage.mend();
    a.poll().await;
    b.poll().await;
    world.is_clean(&[&a, &b], "k", new).await
}

scenario!(the_server_restarts_empty { redis: Redis });

async fn the_server_restarts_empty(kind: Kind) -> Outcome {
    let mut world = World::new(kind);
    let (a, b) = (world.join_as(Setup::polling()).await, world.join_as(Setup::polling()).await);
    a.load("k").await;
    b.load("k").await;
    let mut deaf = b.stage.hold(Step::Message, When::Before);
    let new = a.change("k").await;
    deaf.reached().await;
    b.stage.lose_messages(true);
    world.restart();
    deaf.release();
    until("the new epoch", async || [&a, &b].iter().all(|it| it.cache.coherence_stats().forks == 1)).await;
    b.stage.lose_messages(false);
    world.is_clean(&[&b, &a], "k", new).await?;
    until("the subscriptions", async || [&a, &b].iter().all(|it| it.cache.coherence_stats().subscriptions > 1)).await;
    let (heard, newer) = (b.heard(), a.change("k").await);
    b.hear(heard + 1).await;
    world.is_clean(&[&b, &a], "k", newer).await
}

scenario!(the_scripts_are_lost { redis: Redis });

/// Each is sent again, even in the middle of a load.
async fn the_scripts_are_lost(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let forget = || world.command(&["SCRIPT", "FLUSH"]);
    b.load("k").await;
    forget();
    let mut load = a.begin_load("other");
    load.began().await;
    forget();
    assert_eq!(load.end().await.unwrap(), 1);
    assert_eq!(world.stored("other"), Some(1));
    forget();
    let new = a.change("k").await;
    b.hear(1).await;
    world.is_clean(&[&b, &a], "k", new).await?;
    forget();
    let newer = a.database.write("k");
    a.cache.update_cache("k", crate::instance::value(newer), None).await.unwrap();
    b.hear(2).await;
    forget();
    assert!(b.poll().await);
    world.is_clean(&[&b, &a], "k", newer).await
}

scenario!(the_server_restarts_from_a_snapshot {
    redis: Redis,
    redis_without_replay: Redis without Replay,
    redis_deaf_to_forks: Redis without ForkDetection,
});

/// Its data and its log are those of some time ago: the deletes since then take effect again.
async fn the_server_restarts_from_a_snapshot(_: Kind) -> Outcome {
    // Under another name than the one that a restart removes.
    let server = RedisServer::builder().arguments(["--dbfilename", "kept.rdb"]).start().unwrap();
    let mut world = World::of(Store::Redis(server));
    let (a, b) = (world.join_as(Setup::polling()).await, world.join_as(Setup::polling()).await);
    b.load("k").await;
    a.change("before").await;
    assert_eq!(world.command(&["SAVE"]), "+OK\r\n");
    let new = a.change("k").await;
    b.hear(2).await;
    a.hear(2).await;
    world.restart();
    let restarted = std::time::Instant::now();
    let proven = |it: &crate::instance::Instance| it.cache.coherence_stats().proof_age.unwrap() < restarted.elapsed();
    until("the log", async || proven(&a) && proven(&b)).await;
    let gone = || world.stored("k").is_none_or(|stored| stored >= new);
    eventually(Duration::from_millis(700), "the lost delete is done again", async || gone()).await?;
    world.is_clean(&[&a, &b], "k", new).await
}
