//! S6: an instance is cut off without a word: bytes are swallowed, no connection ends.

use std::time::{Duration, Instant};

use multi_tier_cache::InProcess;
use multi_tier_cache::testing::{Stage, Step};
use test_servers::{Direction, FaultProxy};
use tokio::time::sleep;

use crate::common::Scripted;
use crate::harness::{Outcome, fresh, holds, until};
use crate::instance::{BOUND, Instance, LIMIT, Setup};
use crate::world::{Kind, World};

/// An instance that can be cut off.
struct Remote {
    instance: Instance,
    proxy: Option<FaultProxy>,
}

impl Remote {
    async fn join(world: &World, setup: Setup) -> Self {
        if world.hub().is_some() {
            return Self { instance: world.join_as(setup).await, proxy: None };
        }
        let proxy = FaultProxy::start(world.server().port()).unwrap();
        let instance = world.join_as(setup.at(proxy.url()).budget(Duration::from_millis(50))).await;
        Self { instance, proxy: Some(proxy) }
    }

    /// Nothing gets through any more. The coordinator in memory is one call away: there the calls fail.
    fn cut_off(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.blackhole(Direction::Both);
        } else {
            fail_to_follow(&self.instance.stage);
        }
    }

    fn rejoin(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.pass();
        } else {
            self.instance.stage.mend();
            self.instance.stage.lose_messages(false);
        }
    }
}

/// The log cannot be read, nor heard.
fn fail_to_follow(stage: &Stage) {
    stage.fail(Step::Poll, usize::MAX);
    stage.fail(Step::Listen, usize::MAX);
    stage.lose_messages(true);
}

scenario!(strict_serves_nothing_beyond_the_bound {
    redis: Redis,
    memory: Memory,
    redis_without_a_bound: Redis without StalenessBound,
    memory_without_a_bound: Memory without StalenessBound,
});

async fn strict_serves_nothing_beyond_the_bound(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let b = Remote::join(&world, Setup::polling().strict()).await;
    b.instance.load("k").await;
    b.cut_off();
    let new = a.change("k").await;
    let changed = Instant::now();
    while changed.elapsed() < BOUND * 3 / 2 {
        let asked = Instant::now();
        let seen = b.instance.load("k").await;
        if asked - changed > BOUND {
            fresh("beyond the bound", seen, new)?;
        }
        sleep(Duration::from_millis(5)).await;
    }
    holds("nothing unproven was served", b.instance.cache.coherence_stats().unproven_hits == 0)?;
    b.rejoin();
    proven(&b.instance).await?;
    world.is_clean(&[&a, &b.instance], "k", new).await
}

scenario!(available_serves_up_to_the_limit_and_says_so {
    redis: Redis,
    memory: Memory,
    redis_without_a_bound: Redis without StalenessBound,
    memory_without_a_bound: Memory without StalenessBound,
});

async fn available_serves_up_to_the_limit_and_says_so(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let b = Remote::join(&world, Setup::polling()).await;
    b.instance.load("k").await;
    b.cut_off();
    let new = a.change("k").await;
    let changed = Instant::now();
    let mut unproven = 0;
    while changed.elapsed() < LIMIT + BOUND / 4 {
        let (asked, counted) = (Instant::now(), b.instance.cache.coherence_stats().unproven_hits);
        let seen = b.instance.load("k").await;
        let marked = b.instance.cache.coherence_stats().unproven_hits > counted;
        unproven += usize::from(marked);
        if asked - changed > LIMIT {
            fresh("beyond the limit", seen, new)?;
        } else if asked - changed > BOUND && seen < new {
            holds("a hit that may be stale is counted", marked)?;
        }
        sleep(Duration::from_millis(5)).await;
    }
    holds("an outage does not empty the first tier at once", unproven > 0)?;
    b.rejoin();
    proven(&b.instance).await?;
    world.is_clean(&[&a, &b.instance], "k", new).await
}

scenario!(a_tier_of_ones_own_proves_nothing { redis: Redis, memory: Memory });

/// A value from this instance's own disk is as old as it is, however lately it was read from there.
async fn a_tier_of_ones_own_proves_nothing(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let a = world.join().await;
    let disk = Scripted::new("disk");
    let b = world.join_as(Setup::polling().strict().over_disk(&disk)).await;
    b.load("k").await;
    fail_to_follow(&b.stage);
    let new = a.change("k").await;
    let changed = Instant::now();
    sleep(BOUND * 3 / 4).await;
    // As if the first tier had needed the room.
    b.first.evict("k");
    assert_eq!(b.load("k").await, 1, "from the disk, within the bound");
    sleep((BOUND * 9 / 8).saturating_sub(changed.elapsed())).await;
    fresh("beyond the bound", b.load("k").await, new)
}

scenario!(the_subscription_alone_falls_silent { redis: Redis, redis_deaf_to_gaps: Redis without GapDetection });

/// The log says more than is heard: another subscription is opened.
async fn the_subscription_alone_falls_silent(_: Kind) -> Outcome {
    let world = World::new(Kind::Redis);
    let a = world.join().await;
    let proxy = FaultProxy::start(world.server().port()).unwrap();
    let b = world.join_as(Setup::polling().at(proxy.url())).await;
    b.load("k").await;
    proxy.blackhole_subscriptions();
    let new = a.change("k").await;
    sleep(BOUND).await;
    fresh("beyond the bound", b.load("k").await, new)?;
    let opened = b.cache.coherence_stats().subscriptions;
    // It is given up for lost; what replaces it can be heard as soon as messages come through.
    until("the end of the subscription", async || {
        a.change("other").await;
        sleep(BOUND / 8).await;
        b.stage.calls(Step::Listen) > 1
    })
    .await;
    proxy.pass();
    until("another subscription", async || b.cache.coherence_stats().subscriptions > opened).await;
    // A doubt from before may end the new one once more.
    let heard = b.heard();
    until("a message", async || {
        a.change("other").await;
        sleep(BOUND / 8).await;
        b.heard() > heard
    })
    .await;
    world.is_clean(&[&a, &b], "k", new).await
}

/// Waits until freshness is proven again.
async fn proven(instance: &Instance) -> Outcome {
    let rejoined = Instant::now();
    until("a poll", async || instance.cache.coherence_stats().proof_age.unwrap() < rejoined.elapsed()).await;
    Ok(())
}
