//! What each path costs in round trips to the coordinator.

use multi_tier_cache::testing::Step;

use crate::harness::{Outcome, holds};
use crate::instance::{Instance, value};
use crate::world::{Kind, World};

const STEPS: [Step; 10] = [
    Step::Acquire,
    Step::Fill,
    Step::Release,
    Step::Replace,
    Step::Revoke,
    Step::Fence,
    Step::OpenBelow,
    Step::Poll,
    Step::ReadLog,
    Step::TagTokens,
];

fn trips(instance: &Instance) -> usize {
    instance.tier.reads() + STEPS.iter().map(|step| instance.stage.calls(*step)).sum::<usize>()
}

/// Scripts and commands that the server was asked for, but for those that asking costs.
fn requests(world: &World) -> usize {
    if world.hub().is_some() {
        return 0;
    }
    let stats = world.command(&["INFO", "commandstats"]);
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        // `get` of values: within a script it counts too, so the scripts are told apart by the others.
        ["evalsha", "eval"].contains(&name).then(|| rest.split(',').next()?.parse::<usize>().ok()).flatten()
    };
    stats.lines().filter_map(calls).sum()
}

scenario!(round_trips_of_each_path { redis: Redis, memory: Memory });

async fn round_trips_of_each_path(kind: Kind) -> Outcome {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    // The server knows the scripts.
    a.load("warm").await;
    a.change("warm").await;
    a.cache.update_cache("warm", value(2), None).await.unwrap();
    b.hear(2).await;
    a.hear(2).await;
    let redis = kind == Kind::Redis;
    let mut costs = Vec::new();
    let mut measure = async |what: &'static str, bound: usize, scripts: usize, verb: &dyn Fn() -> Verb| {
        let before = (trips(&a), trips(&b), requests(&world));
        verb().await;
        let spent = trips(&a) - before.0;
        costs.push((what, spent, bound));
        holds(&format!("{what} costs {spent} round trips, {bound} allowed"), spent <= bound)?;
        holds(&format!("{what} costs the other nothing"), trips(&b) == before.1)?;
        let asked = requests(&world) - before.2;
        holds(&format!("{what} runs {asked} scripts, {scripts} allowed"), !redis || asked == scripts)
    };
    let (instance, other) = (&a, &b);
    let load = || -> Verb {
        let (cache, database) = (instance.cache.clone(), instance.database.clone());
        Box::pin(async move {
            let read = || async { Ok(database.read("k")) };
            cache.get_or_compute_with("k", multi_tier_cache::CacheStrategy::Default, read).await.unwrap();
        })
    };
    let delete = || -> Verb {
        let cache = instance.cache.clone();
        Box::pin(async move { cache.invalidate("k").await.unwrap() })
    };
    let put = || -> Verb {
        let cache = instance.cache.clone();
        Box::pin(async move { cache.update_cache("k", value(3), None).await.unwrap() })
    };
    measure("a miss", 3, 2, &load).await?;
    measure("a hit in the first tier", 0, 0, &load).await?;
    measure("a delete", 1, 1, &delete).await?;
    measure("a put", 2, 2, &put).await?;
    let tag = || -> Verb {
        let cache = instance.cache.clone();
        Box::pin(async move { assert!(cache.remove_tag("t").await.unwrap().is_some()) })
    };
    measure("a tag", 1, 1, &tag).await?;
    assert!(costs.iter().all(|(_, spent, bound)| spent == bound), "{costs:?}");
    // Read from the shared tier: one round trip, and no script.
    let (before, asked) = (trips(other), requests(&world));
    assert_eq!(other.get("k").await, Some(3));
    holds("a hit in the shared tier costs one", trips(other) == before + 1 && requests(&world) == asked)
}

type Verb = futures_util::future::BoxFuture<'static, ()>;
