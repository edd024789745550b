//! S14: a log that has been trimmed, and a failover to a replica that had not got everything.

use std::time::Duration;

use multi_tier_cache::testing::{Step, When};

use crate::harness::{Outcome, eventually, fresh, holds, until};
use crate::instance::{Instance, tagged, value};
use crate::world::{Kind, World};

const SOON: Duration = Duration::from_millis(700);

scenario!(a_log_trimmed_under_a_slow_reader {
    redis: Redis,
    memory: Memory,
    redis_deaf_to_gaps: Redis without GapDetection,
    memory_deaf_to_gaps: Memory without GapDetection,
});

/// What cannot be read any more may concern everything.
async fn a_log_trimmed_under_a_slow_reader(kind: Kind) -> Outcome {
    let world = World::with_short_log(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    b.stage.lose_messages(true);
    let new = a.change("k").await;
    for other in ["o1", "o2", "o3"] {
        a.change(other).await;
    }
    world.trim_log();
    assert_eq!(b.get("k").await, Some(1), "nobody told it");
    b.poll().await;
    world.is_clean(&[&b, &a], "k", new).await?;
    let stats = b.cache.coherence_stats();
    holds("everything was forgotten, once", stats.flushes == 1 && stats.forks == 0)?;
    b.poll().await;
    holds("and no more", b.cache.coherence_stats().flushes == 1)
}

/// Waits until every instance has reached the server that took over.
async fn reconnected(instances: &[&Instance]) {
    for instance in instances {
        until("the new master", async || instance.poll().await).await;
    }
}

/// The delete that the failover lost takes effect again.
async fn recovers(world: &World, instances: &[&Instance], new: u64) -> Outcome {
    let gone = || world.stored("k").is_none_or(|stored| stored >= new);
    eventually(SOON, "the lost delete is done again", async || gone()).await?;
    world.is_clean(instances, "k", new).await
}

/// The replica takes over, and the delete that this lost takes effect again.
async fn fails_over(world: &World, instances: &[&Instance], new: u64) -> Outcome {
    world.fail_over();
    reconnected(instances).await;
    recovers(world, instances, new).await
}

/// Two instances, the second of which has the key; the replica gets nothing any more.
async fn cut_off(world: &World) -> (Instance, Instance) {
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    world.detach_replica();
    (a, b)
}

/// A delete that the replica does not get: only its author hears of it, and then nothing more.
async fn lost_delete(author: &Instance, other: &Instance) -> u64 {
    other.stage.lose_messages(true);
    let new = author.change("k").await;
    author.hear(1).await;
    author.stage.lose_messages(true);
    new
}

/// The author of a lost delete looks at the log when others have written more than it knows, and after `meanwhile`.
async fn passed_by_others(world: &World, meanwhile: impl FnOnce()) -> Outcome {
    let (a, b) = cut_off(world).await;
    let new = lost_delete(&a, &b).await;
    a.stage.fail(Step::Poll, usize::MAX);
    world.fail_over();
    reconnected(&[&b]).await;
    for other in ["o1", "o2", "o3"] {
        b.change(other).await;
    }
    meanwhile();
    a.stage.mend();
    reconnected(&[&a, &b]).await;
    recovers(world, &[&a, &b], new).await
}

scenario!(a_delete_is_lost_by_a_failover {
    redis: Redis,
    memory: Memory,
    redis_without_replay: Redis without Replay,
    memory_without_replay: Memory without Replay,
    redis_deaf_to_forks: Redis without ForkDetection,
    memory_deaf_to_forks: Memory without ForkDetection,
});

/// I9: its author notices that its own history is ahead of the new master's, and does it again.
async fn a_delete_is_lost_by_a_failover(kind: Kind) -> Outcome {
    let world = World::replicated(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    a.change("before").await;
    b.hear(1).await;
    world.detach_replica();
    let new = b.lose(a.change("k")).await;
    a.hear(2).await;
    world.fail_over();
    assert_eq!(world.stored("k"), Some(1), "the failover lost it");
    reconnected(&[&a, &b]).await;
    recovers(&world, &[&a, &b], new).await?;
    b.poll().await;
    let (ours, theirs) = (a.cache.coherence_stats(), b.cache.coherence_stats());
    holds("two were done again", ours.replayed == 2 && ours.forks == 1)?;
    holds("the other follows", theirs.forks == 1 && theirs.replayed == 0)
}

scenario!(a_lost_delete_whose_place_was_taken {
    redis: Redis,
    memory: Memory,
    redis_without_replay: Redis without Replay,
    memory_without_replay: Memory without Replay,
    redis_deaf_to_forks: Redis without ForkDetection,
    memory_deaf_to_forks: Memory without ForkDetection,
});

/// Another delete has its number by the time its author looks.
async fn a_lost_delete_whose_place_was_taken(kind: Kind) -> Outcome {
    let world = World::replicated(kind);
    let (a, b) = cut_off(&world).await;
    let new = lost_delete(&a, &b).await;
    let mut busy = a.stage.hold(Step::Poll, When::Before);
    world.fail_over();
    reconnected(&[&b]).await;
    b.change("other").await;
    // The author may have been told to look when it subscribed anew; if not it looks now.
    tokio::select! { () = busy.reached() => {}, _ = a.poll() => {} }
    busy.release();
    reconnected(&[&a, &b]).await;
    recovers(&world, &[&a, &b], new).await
}

scenario!(a_lost_delete_whose_place_was_passed {
    redis: Redis,
    memory: Memory,
    redis_without_replay: Redis without Replay,
    memory_without_replay: Memory without Replay,
});

/// The new history is longer: what does not chain tells the fork.
async fn a_lost_delete_whose_place_was_passed(kind: Kind) -> Outcome {
    let world = World::replicated(kind);
    passed_by_others(&world, || ()).await
}

scenario!(a_lost_delete_that_another_instance_had_heard { redis: Redis, memory: Memory });

/// Its author looks last: the other one has begun the new epoch.
async fn a_lost_delete_that_another_instance_had_heard(kind: Kind) -> Outcome {
    let world = World::replicated(kind);
    let (a, b) = (world.join().await, world.join().await);
    world.database.read("k");
    b.load("k").await;
    world.detach_replica();
    let new = a.change("k").await;
    a.hear(1).await;
    b.hear(1).await;
    fails_over(&world, &[&b, &a], new).await
}

scenario!(a_lost_put { redis: Redis, memory: Memory, memory_without_replay: Memory without Replay });

/// A put is done again as a removal: values are never replayed.
async fn a_lost_put(kind: Kind) -> Outcome {
    let world = World::replicated(kind);
    let (a, b) = cut_off(&world).await;
    let new = a.database.write("k");
    a.cache.update_cache("k", value(new), None).await.unwrap();
    a.hear(1).await;
    b.hear(1).await;
    fails_over(&world, &[&a, &b], new).await
}

scenario!(a_lost_pattern_and_a_lost_tag { redis: Redis, memory: Memory, memory_without_replay: Memory without Replay });

async fn a_lost_pattern_and_a_lost_tag(kind: Kind) -> Outcome {
    let world = World::replicated(kind);
    let (a, b) = (world.join().await, world.join().await);
    b.load("k").await;
    b.load_with("tagged", &tagged()).await.unwrap();
    world.detach_replica();
    let (new, newer) = (a.database.write("k"), a.database.write("tagged"));
    a.cache.remove_pattern("k*").await.unwrap();
    a.cache.remove_tag("t").await.unwrap();
    a.hear(2).await;
    fails_over(&world, &[&a, &b], new).await?;
    let gone = async || b.get("tagged").await.is_none_or(|seen| seen >= newer);
    eventually(SOON, "the lost tag is removed again", gone).await?;
    fresh("the author", a.load("tagged").await, newer)
}

scenario!(a_lost_delete_whose_echo_was_lost_too { redis: Redis, memory: Memory });

/// The server died between the reply and the message: its author was told that it took effect, and has not followed it.
async fn a_lost_delete_whose_echo_was_lost_too(kind: Kind) -> Outcome {
    let world = World::replicated(kind);
    let (a, b) = cut_off(&world).await;
    b.stage.lose_messages(true);
    let new = a.lose(a.change("k")).await;
    fails_over(&world, &[&a, &b], new).await
}

scenario!(a_fork_behind_a_trimmed_log { redis: Redis, memory: Memory });

/// By the time its author looks, the new log does not reach back to the place of the lost delete.
async fn a_fork_behind_a_trimmed_log(kind: Kind) -> Outcome {
    let world = if kind == Kind::Redis { World::replicated(kind) } else { World::with_short_log(kind) };
    passed_by_others(&world, || world.trim_log()).await
}

scenario!(a_delete_whose_answer_comes_after_the_failover_was_noticed { redis: Redis, memory: Memory });

/// It took effect at the old master; the answer is read when the new epoch has begun.
async fn a_delete_whose_answer_comes_after_the_failover_was_noticed(kind: Kind) -> Outcome {
    let world = World::replicated(kind);
    let (a, b) = cut_off(&world).await;
    b.stage.lose_messages(true);
    let mut answer = a.stage.hold(Step::Revoke, When::After);
    let new = a.database.write("k");
    let delete = a.start_delete("k");
    answer.reached().await;
    a.hear(1).await;
    world.fail_over();
    reconnected(&[&a, &b]).await;
    answer.release();
    if crate::common::ended(delete).await.is_err() {
        // An error is honest, if it is made up for.
        until("what was owed", async || a.cache.coherence_stats().pending_invalidations == 0).await;
    }
    recovers(&world, &[&a, &b], new).await
}
