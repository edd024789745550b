//! A server that is absent, killed, stopped, full, read-only, or has changed its password.

use std::time::{Duration, Instant};

use multi_tier_cache::CacheError;
use multi_tier_cache::testing::Stage;
use test_servers::RedisServer;

use crate::harness::{Outcome, eventually, fresh, holds, until};
use crate::instance::{Instance, Setup, tagged, value};
use crate::world::{Kind, World};

const BUDGET: Duration = Duration::from_millis(100);
/// Longer than the background takes to try again.
const SOON: Duration = Duration::from_secs(3);

fn polling() -> Setup {
    Setup::polling().budget(BUDGET)
}

/// A delete that does not get through: an error, visible, and the key is read from its source only.
async fn fails_to_change(instance: &Instance, key: &str) -> u64 {
    let new = instance.database.write(key);
    let error = instance.cache.invalidate(key).await.unwrap_err();
    assert!(matches!(&error, CacheError::InvalidationError(_)), "{error:?}");
    assert_eq!(instance.cache.coherence_stats().pending_invalidations, 1);
    new
}

async fn made_up(instances: &[&Instance]) {
    until("what was owed", async || {
        instances.iter().all(|instance| instance.cache.coherence_stats().pending_invalidations == 0)
    })
    .await;
}

/// The bus works again: the other one hears of a delete.
async fn works(world: &World, a: &Instance, b: &Instance) -> Outcome {
    b.load("after").await;
    let new = a.change("after").await;
    until("the delete", async || b.get("after").await != Some(new - 1)).await;
    world.is_clean(&[a, b], "after", new).await
}

scenario!(redis_is_down_at_the_start { redis: Redis });

async fn redis_is_down_at_the_start(kind: Kind) -> Outcome {
    let mut world = World::new(kind);
    world.kill();
    let (a, b) = (world.build(polling(), &Stage::new()).await, world.build(polling(), &Stage::new()).await);
    assert_eq!((a.load("k").await, b.load("k").await), (1, 1));
    let new = fails_to_change(&a, "k").await;
    fresh("from the source alone", a.load("k").await, new)?;
    world.restart();
    until("the bus", async || [&a, &b].iter().all(|it| it.cache.coherence_stats().joins == 1)).await;
    made_up(&[&a]).await;
    world.is_clean(&[&b, &a], "k", new).await?;
    until("the subscription", async || b.cache.coherence_stats().subscriptions > 0).await;
    works(&world, &a, &b).await
}

scenario!(redis_is_killed_and_comes_back { redis: Redis });

async fn redis_is_killed_and_comes_back(kind: Kind) -> Outcome {
    let mut world = World::new(kind);
    let (a, b) = (world.join_as(polling()).await, world.join_as(polling()).await);
    a.load("k").await;
    b.load("k").await;
    world.kill();
    let new = fails_to_change(&a, "k").await;
    fresh("read your writes", a.load("k").await, new)?;
    assert_eq!(b.load("fresh").await, 1, "what is readable at its source is readable");
    world.restart();
    until("the new epoch", async || [&a, &b].iter().all(|it| it.cache.coherence_stats().forks == 1)).await;
    made_up(&[&a]).await;
    world.is_clean(&[&b, &a], "k", new).await?;
    until("the subscription", async || b.cache.coherence_stats().subscriptions > 1).await;
    works(&world, &a, &b).await
}

scenario!(redis_stops_and_goes_on { redis: Redis });

/// Nothing is lost but time: at most a budget now and then.
async fn redis_stops_and_goes_on(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join_as(polling()).await, world.join_as(polling().strict()).await);
    a.load("k").await;
    b.load("k").await;
    world.server().pause().unwrap();
    let began = Instant::now();
    let new = fails_to_change(&a, "k").await;
    for n in 0..20 {
        assert_eq!(b.load(&format!("k{n}")).await, 1);
    }
    assert!(began.elapsed() < 8 * BUDGET, "{:?} for twenty loads", began.elapsed());
    fresh("read your writes", a.load("k").await, new)?;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    fresh("strict, beyond the bound", b.load("k").await, new)?;
    world.server().resume().unwrap();
    made_up(&[&a]).await;
    until("the polls", async || a.poll().await && b.poll().await).await;
    world.is_clean(&[&b, &a], "k", new).await?;
    works(&world, &a, &b).await
}

scenario!(redis_is_full { redis: Redis });

/// Invalidations take no memory that a full server refuses; fills are refused, and nobody notices.
async fn redis_is_full(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    let tagged = tagged();
    for key in ["k", "put", "user:1"] {
        b.load(key).await;
    }
    b.load_with("tagged", &tagged).await.unwrap();
    world.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let new = a.change("k").await;
    b.hear(1).await;
    world.is_clean(&[&b, &a], "k", new).await?;
    holds("a fill is refused", world.stored("k").is_none())?;
    let put = a.database.write("put");
    a.cache.update_cache("put", value(put), None).await.unwrap_err();
    b.hear(2).await;
    world.is_clean(&[&b, &a], "put", put).await?;
    let pattern = a.change_pattern("user:1", "user:*").await;
    let newer = a.change_tagged("tagged").await;
    b.hear(4).await;
    world.is_clean(&[&b, &a], "user:1", pattern).await?;
    fresh("the tag", b.get("tagged").await, newer)?;
    fresh("the tag", b.load_with("tagged", &tagged).await.unwrap(), newer)?;
    world.command(&["CONFIG", "SET", "maxmemory", "0"]);
    made_up(&[&a, &b]).await;
    a.load("again").await;
    holds("fills are taken again", world.stored("again") == Some(1))?;
    works(&world, &a, &b).await
}

/// Two instances of a server that has become a replica, and its master.
async fn read_only() -> (World, RedisServer, Instance, Instance) {
    let world = World::new(Kind::Redis);
    let (a, b) = (world.join().await, world.join().await);
    a.load("k").await;
    assert_eq!(b.load("k").await, 1);
    let master = RedisServer::builder().replica_of(world.server().port()).start().unwrap();
    master.wait_synced().unwrap();
    master.wait_caught_up(world.server()).unwrap();
    master.promote().unwrap();
    world.command(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    world.server().wait_synced().unwrap();
    (world, master, a, b)
}

scenario!(redis_is_read_only_for_a_while { redis: Redis });

/// As in a failover by hand: what could not be removed is removed as soon as it can be, for everybody.
async fn redis_is_read_only_for_a_while(_: Kind) -> Outcome {
    let (world, _master, a, b) = read_only().await;
    let new = fails_to_change(&a, "k").await;
    world.server().promote().unwrap();
    made_up(&[&a]).await;
    b.hear(1).await;
    world.is_clean(&[&b, &a], "k", new).await?;
    works(&world, &a, &b).await
}

scenario!(a_pending_key_of_a_read_only_server_is_read_from_its_source { redis: Redis });

/// I7: the server still has the old value, and tells it to whoever asks for a lease.
async fn a_pending_key_of_a_read_only_server_is_read_from_its_source(_: Kind) -> Outcome {
    let (_world, _master, a, _b) = read_only().await;
    let new = fails_to_change(&a, "k").await;
    fresh("a key whose delete is pending", a.load("k").await, new)
}

scenario!(the_password_is_changed_for_a_while { redis: Redis });

/// A delete that met the wrong password is made up for when the password is right again, for everybody.
async fn the_password_is_changed_for_a_while(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let password = |password: &str| {
        world.command(&["ACL", "SETUSER", "app", "on", "resetpass", &format!(">{password}"), "~*", "&*", "+@all"]);
    };
    password("right");
    let url = format!("redis://app:right@127.0.0.1:{}", world.server().port());
    let (a, b) = (world.join_as(Setup::quiet().at(&url)).await, world.join_as(Setup::quiet().at(&url)).await);
    b.load("k").await;
    password("wrong");
    world.command(&["CLIENT", "KILL", "USER", "app"]);
    until("the refusal", async || !a.poll().await).await;
    until("the refusal", async || !b.poll().await).await;
    let new = fails_to_change(&a, "k").await;
    fresh("read your writes", a.load("k").await, new)?;
    assert_eq!(b.load("fresh").await, 1, "what is readable at its source is readable");
    // Long enough for the background to have tried.
    tokio::time::sleep(2 * multi_tier_cache::defaults::BREAKER_WINDOW).await;
    password("right");
    until("the new connections", async || a.poll().await && b.poll().await).await;
    eventually(SOON, "the other instance forgets it", async || b.get("k").await.is_none_or(|seen| seen >= new)).await?;
    world.is_clean(&[&b, &a], "k", new).await?;
    until("the subscription", async || b.cache.coherence_stats().subscriptions > 1).await;
    works(&world, &a, &b).await
}
