//! S17: two namespaces, and two databases, of one server and one channel.

use multi_tier_cache::CallOptions;

use crate::harness::{Outcome, fresh, holds, until};
use crate::instance::{Instance, Setup};
use crate::world::{Kind, World};

/// Two instances of one namespace.
struct Pair(Instance, Instance);

impl Pair {
    async fn join(world: &World, setup: Setup) -> Self {
        Self(world.join_as(setup.clone()).await, world.join_as(setup).await)
    }

    /// Each loads everything.
    async fn warm(&self) {
        for instance in [&self.0, &self.1] {
            for key in ["k", "own", "warm"] {
                instance.load(key).await;
            }
        }
    }

    /// The second one follows the first one's delete by its message.
    async fn follows(&self) -> Outcome {
        let new = self.0.change("own").await;
        until("the message", async || self.1.get("own").await != Some(new - 1)).await;
        fresh("the other of the pair", self.1.load("own").await, new)
    }

    fn is_unconfused(&self) -> Outcome {
        for instance in [&self.0, &self.1] {
            let stats = instance.cache.coherence_stats();
            let unmoved = stats.forks == 0 && stats.flushes == 0 && stats.gaps == 0 && stats.resyncs == 0;
            holds(&format!("its position is its own: {stats:?}"), unmoved)?;
        }
        Ok(())
    }
}

scenario!(neighbours_of_one_channel { redis: Redis });

async fn neighbours_of_one_channel(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let pairs = [
        Pair::join(&world, Setup::quiet().prefix("p:")).await,
        Pair::join(&world, Setup::quiet().prefix("q:")).await,
        Pair::join(&world, Setup::quiet().prefix("p:").database(1)).await,
    ];
    for pair in &pairs {
        pair.warm().await;
    }
    for _ in 0..3 {
        for pair in &pairs {
            pair.follows().await?;
        }
    }
    let [p, q, r] = &pairs;
    // Each is at the same place of a log of its own.
    let position = p.0.cache.remove("k").await.unwrap().unwrap();
    let at_least = CallOptions::default().at_least(position);
    holds("its own log", p.1.cache.get_with_options("k", &at_least).await.unwrap().is_none())?;
    for stranger in [&q.0, &r.0] {
        holds("a place in another's log", stranger.cache.get_with_options("k", &at_least).await.is_err())?;
    }
    until("all messages", async || pairs.iter().all(|pair| pair.0.heard() >= 10 && pair.1.heard() >= 10)).await;
    q.0.cache.remove_pattern("w*").await.unwrap();
    q.1.hear(11).await;
    for (pair, kept) in [(p, "p:warm"), (q, "q:warm"), (r, "")] {
        pair.is_unconfused()?;
        if !kept.is_empty() {
            holds("only one's own keys are removed", world.stored(kept).is_some() == (kept == "p:warm"))?;
        }
    }
    Ok(())
}

scenario!(neighbours_in_memory { memory: Memory });

/// Two coordinators whose messages go to both.
async fn neighbours_in_memory(kind: Kind) -> Outcome {
    let (here, there) = (World::new(kind), World::new(kind));
    let (p, q) = (Pair::join(&here, Setup::quiet()).await, Pair::join(&there, Setup::quiet()).await);
    p.warm().await;
    q.warm().await;
    for n in 1..=5 {
        for (pair, from, to) in [(&p, &here, &there), (&q, &there, &here)] {
            let mut messages = from.hub().unwrap().messages();
            pair.follows().await?;
            to.hub().unwrap().publish_raw(&messages.recv().await.unwrap());
        }
        p.1.hear(2 * n).await;
        q.1.hear(2 * n - 1).await;
    }
    let position = p.0.cache.remove("k").await.unwrap().unwrap();
    let at_least = CallOptions::default().at_least(position);
    holds("a place in another's log", q.0.cache.get_with_options("k", &at_least).await.is_err())?;
    p.is_unconfused()?;
    q.is_unconfused()
}
