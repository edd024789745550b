//! S11: fills and puts that were given up for lost, and land later.

use std::time::Duration;

use multi_tier_cache::CacheError;
use multi_tier_cache::testing::{Step, When};
use test_servers::{Direction, FaultProxy};

use crate::common::ended;
use crate::harness::{Outcome, fresh, holds, until};
use crate::instance::{Instance, Setup, value};
use crate::world::{Kind, World};

const BUDGET: Duration = Duration::from_millis(100);

/// An instance whose bytes can be held up, and another.
struct Fleet {
    world: World,
    proxy: FaultProxy,
    a: Instance,
    b: Instance,
}

impl Fleet {
    async fn new() -> Self {
        let world = World::new(Kind::Redis);
        let proxy = FaultProxy::start(world.server().port()).unwrap();
        let a = world.join_as(Setup::quiet().at(proxy.url()).budget(BUDGET)).await;
        let b = world.join().await;
        // The server knows the scripts: a late one is carried out as it comes.
        a.load("warm").await;
        a.cache.update_cache("warm", value(1), None).await.unwrap();
        b.load("warm").await;
        Self { world, proxy, a, b }
    }

    /// Scripts that the server was asked for so far, refused or not.
    fn scripts(&self) -> usize {
        let stats = self.world.command(&["INFO", "commandstats"]);
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        calls.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    /// Lets go of what is held, and waits until it has landed.
    async fn land(&self) {
        let before = self.scripts();
        self.proxy.pass();
        until("the late script", async || self.scripts() > before).await;
    }

    /// Until what `a` owes has been made up for, nothing older than `floor` is stored.
    async fn settle(&self, floor: u64) -> Outcome {
        loop {
            fresh("the shared tier", self.world.stored("k"), floor)?;
            if self.a.poll().await && self.a.cache.coherence_stats().pending_invalidations == 0 {
                return self.world.is_clean(&[&self.a, &self.b], "k", floor).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

scenario!(a_fill_lands_after_a_delete { redis: Redis, redis_without_leases: Redis without FillUnderLease });

async fn a_fill_lands_after_a_delete(_: Kind) -> Outcome {
    let fleet = Fleet::new().await;
    let Fleet { world, proxy, a, b } = &fleet;
    let mut load = a.begin_load("k");
    load.began().await;
    proxy.hold(Direction::ToServer);
    assert_eq!(load.end().await.unwrap(), 1, "a tier that does not answer costs its budget and no more");
    let new = b.change("k").await;
    fleet.land().await;
    fresh("what landed late", world.stored("k"), new)?;
    fleet.settle(new).await
}

scenario!(a_put_lands_after_another { redis: Redis, redis_without_leases: Redis without PutUnderLease });

/// Not one byte of the put came in time.
async fn a_put_lands_after_another(_: Kind) -> Outcome {
    let fleet = Fleet::new().await;
    let Fleet { proxy, a, b, .. } = &fleet;
    proxy.hold(Direction::ToServer);
    let old = a.database.write("k");
    // Without the lease it may count as done here.
    let _ = a.cache.update_cache("k", value(old), None).await;
    let new = b.database.write("k");
    b.cache.update_cache("k", value(new), None).await.unwrap();
    fleet.land().await;
    fleet.settle(new).await
}

scenario!(the_second_half_of_a_put_lands_after_another {
    redis: Redis,
    redis_without_leases: Redis without FillUnderLease,
});

/// The first half took effect; the value comes late.
async fn the_second_half_of_a_put_lands_after_another(_: Kind) -> Outcome {
    let fleet = Fleet::new().await;
    let Fleet { proxy, a, b, .. } = &fleet;
    let (mut fill, mut replace) = (a.stage.hold(Step::Fill, When::Before), a.stage.hold(Step::Replace, When::Before));
    let old = a.database.write("k");
    let cache = a.cache.clone();
    let put = tokio::spawn(async move { cache.update_cache("k", value(old), None).await });
    tokio::select! { () = fill.reached() => {}, () = replace.reached() => {} }
    proxy.hold(Direction::ToServer);
    fill.release();
    replace.release();
    let outcome = ended(put).await;
    holds("a put whose value was not taken in time is an error", outcome.is_err())?;
    let new = b.database.write("k");
    b.cache.update_cache("k", value(new), None).await.unwrap();
    fleet.land().await;
    fleet.settle(new).await
}

scenario!(a_fill_waits_in_a_stopped_server { redis: Redis });

/// The server stops with the fill in its buffer, and the delete that follows is an error: it is made up for.
async fn a_fill_waits_in_a_stopped_server(_: Kind) -> Outcome {
    let fleet = Fleet::new().await;
    let Fleet { world, a, b, .. } = &fleet;
    b.load("k").await;
    world.command(&["DEL", "k"]);
    let mut load = a.begin_load("k");
    load.began().await;
    world.server().pause().unwrap();
    assert_eq!(load.end().await.unwrap(), 1);
    let new = a.database.write("k");
    let error = a.cache.invalidate("k").await.unwrap_err();
    assert!(matches!(error, CacheError::InvalidationError(_)), "{error:?}");
    assert_eq!(a.cache.coherence_stats().pending_invalidations, 1);
    fresh("from the source alone", a.load("k").await, new)?;
    let heard = b.heard();
    world.server().resume().unwrap();
    until("the delete", async || a.cache.coherence_stats().pending_invalidations == 0).await;
    b.hear(heard + 1).await;
    fleet.settle(new).await
}
