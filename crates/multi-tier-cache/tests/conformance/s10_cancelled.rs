//! S10: leaders and writers that are dropped at every await, loaders that panic.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use multi_tier_cache::{CacheError, CacheManager, CacheResult, CacheStrategy, CallOptions};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::common::{ended, run_all};
use crate::harness::{Outcome, eventually, fresh, holds, until};
use crate::instance::{Instance, value};
use crate::stories::HalvedDelete;
use crate::world::{Kind, World};

const SOON: Duration = Duration::from_millis(500);
/// More awaits than any verb has.
const MANY: usize = 200;

/// Polls `work` this often and drops it there; its answer, if it had one before.
async fn cancelled_after<F: Future>(polls: usize, work: F) -> Option<F::Output> {
    let (mut work, mut polled) = (Box::pin(work), 0);
    poll_fn(move |context| {
        polled += 1;
        match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if polled >= polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn is_at_rest(instance: &Instance) -> Outcome {
    eventually(SOON, "nothing is in flight", async || instance.cache.get_stats().in_flight_requests == 0).await
}

/// No lease on `key` is left: another instance need not wait.
async fn is_free(world: &World, other: &Instance, key: &str) -> Outcome {
    match kind(world) {
        Kind::Redis => eventually(SOON, "no lease is left", async || world.names("mtc:l:*").is_empty()).await?,
        Kind::Memory => run_all().await,
    }
    let waits = other.cache.coherence_stats().lease_waits;
    other.load(key).await;
    holds("nobody waits for a lease that was left", other.cache.coherence_stats().lease_waits == waits)
}

fn kind(world: &World) -> Kind {
    if world.hub().is_some() { Kind::Memory } else { Kind::Redis }
}

scenario!(a_leader_is_cancelled_at_every_await {
    redis: Redis,
    memory: Memory,
    redis_without_hand_over: Redis without HandOver,
    memory_without_hand_over: Memory without HandOver,
});

/// With somebody waiting: who waits gets an answer, and there is at most one further load.
async fn a_leader_is_cancelled_at_every_await(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    a.stage.take_steps_apart();
    for polls in 1..MANY {
        let key = format!("k{polls}");
        let leader = tokio::spawn(cancelled_after(polls, slow_load(&a, &key)));
        let waiter = tokio::spawn(slow_load(&a, &key));
        let led = ended(leader).await;
        let waited = timeout(SOON, waiter).await.map_err(|_| format!("a waiter was left after {polls} polls"))?;
        fresh("who waited", waited.unwrap(), 1)?;
        holds("at most one further load", world.database.reads(&key) <= 2)?;
        is_at_rest(&a).await?;
        if led.is_some() {
            assert!(polls > 5);
            return Ok(());
        }
    }
    panic!("the load never ended")
}

/// A load whose loader takes a few polls.
fn slow_load(instance: &Instance, key: &str) -> BoxFuture<'static, u64> {
    let (cache, database, key) = (Arc::clone(&instance.cache), instance.database.clone(), key.to_owned());
    Box::pin(async move {
        let compute = || async {
            yield_now().await;
            let read = database.read(&key);
            yield_now().await;
            Ok(read)
        };
        crate::instance::version(&cache.get_or_compute_with(&key, CacheStrategy::Default, compute).await.unwrap())
    })
}

scenario!(a_leader_is_cancelled_with_nobody_waiting { redis: Redis, memory: Memory });

/// Neither flight nor lease is left.
async fn a_leader_is_cancelled_with_nobody_waiting(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    a.stage.take_steps_apart();
    for polls in 1..MANY {
        let key = format!("k{polls}");
        let led = cancelled_after(polls, slow_load(&a, &key)).await;
        is_at_rest(&a).await?;
        is_free(&world, &b, &key).await?;
        fresh("the next", a.load(&key).await, 1)?;
        if led.is_some() {
            return Ok(());
        }
    }
    panic!("the load never ended")
}

scenario!(a_writer_is_cancelled_at_every_await { redis: Redis, memory: Memory });

type Verb = fn(Arc<CacheManager>, String) -> BoxFuture<'static, CacheResult<()>>;

const VERBS: [Verb; 5] = [
    |cache, key| Box::pin(async move { cache.invalidate(&key).await }),
    |cache, key| Box::pin(async move { cache.remove_many(&[&key, "other"]).await.map(drop) }),
    |cache, key| Box::pin(async move { cache.update_cache(&key, value(2), None).await }),
    |cache, key| Box::pin(async move { cache.remove_tag(&key).await.map(drop) }),
    |cache, key| Box::pin(async move { cache.remove_pattern(&format!("{key}*")).await.map(drop) }),
];

/// What has begun is carried out, everywhere.
async fn a_writer_is_cancelled_at_every_await(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    a.stage.take_steps_apart();
    for (number, verb) in VERBS.iter().enumerate() {
        for polls in 1..MANY {
            // Ends in a letter: no pattern matches another's key.
            let key = format!("verb{number}of{polls}x");
            let options = CallOptions::default().with_tags([&key]);
            a.load_with(&key, &options).await.unwrap();
            b.load_with(&key, &options).await.unwrap();
            let new = world.database.write(&key);
            let done = cancelled_after(polls, verb(Arc::clone(&a.cache), key.clone())).await;
            for instance in [&a, &b] {
                let what = format!("verb {number} is carried out, dropped after {polls} polls");
                eventually(SOON, &what, async || instance.get(&key).await.is_none_or(|seen| seen >= new)).await?;
            }
            is_at_rest(&a).await?;
            if done.is_some() {
                break;
            }
        }
    }
    Ok(())
}

scenario!(the_second_drop_of_a_cancelled_delete {
    redis: Redis,
    memory: Memory,
    redis_with_one_drop: Redis without RevokeAtTheEnd,
    memory_with_one_drop: Memory without RevokeAtTheEnd,
});

/// The delete is dropped while it waits for the coordinator; a reader has found the old value meanwhile.
async fn the_second_drop_of_a_cancelled_delete(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let HalvedDelete { new, task, before, mut after } = HalvedDelete::begin(&a, "k").await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    before.release();
    after.reached().await;
    a.hear(1).await;
    after.release();
    is_at_rest(&a).await?;
    world.is_clean(&[&a], "k", new).await
}

scenario!(fifty_wait_for_a_leader_that_goes_away {
    redis: Redis,
    memory: Memory,
    memory_without_hand_over: Memory without HandOver,
});

async fn fifty_wait_for_a_leader_that_goes_away(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let mut leader = a.begin_load("k");
    leader.began().await;
    let waiters: Vec<_> = join_all((0..50).map(|_| a.start_load("k"))).await;
    leader.task.abort();
    let answers = timeout(SOON, join_all(waiters)).await.map_err(|_| "somebody waits for ever".to_owned())?;
    holds("all have the value", answers.into_iter().all(|answer| answer.unwrap() == 1))?;
    holds("one further load", world.database.reads("k") == 2)?;
    is_at_rest(&a).await?;
    is_free(&world, &b, "k").await
}

scenario!(fifty_wait_for_a_leader_that_panics { redis: Redis, memory: Memory });

/// A panic is everybody's error; who comes next loads.
async fn fifty_wait_for_a_leader_that_panics(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let (gate, opened) = tokio::sync::oneshot::channel::<()>();
    let (cache, database) = (Arc::clone(&a.cache), a.database.clone());
    let leader = tokio::spawn(async move {
        let compute = || async move {
            database.read("k");
            let _ = opened.await;
            panic!("as the test wants")
        };
        cache.get_or_compute_with("k", CacheStrategy::Default, compute).await
    });
    until("the load", async || world.database.reads("k") == 1).await;
    let wait = |_| {
        let (cache, database) = (Arc::clone(&a.cache), a.database.clone());
        tokio::spawn(async move {
            let compute = || async { Ok(database.read("k")) };
            cache.get_or_compute_with("k", CacheStrategy::Default, compute).await
        })
    };
    let waiters: Vec<_> = (0..50).map(wait).collect();
    run_all().await;
    drop(gate);
    let panicked = |answer: CacheResult<_>| matches!(answer, Err(CacheError::InternalError(_)));
    holds("the leader's error", panicked(ended(leader).await))?;
    let answers = timeout(SOON, join_all(waiters)).await.map_err(|_| "somebody waits for ever".to_owned())?;
    holds("everybody's error", answers.into_iter().all(|answer| panicked(answer.unwrap())))?;
    is_at_rest(&a).await?;
    is_free(&world, &b, "k").await?;
    fresh("who comes next", a.load("k").await, 1)?;
    holds("one further load", world.database.reads("k") == 2)
}
