//! Hits in Redis: one at a time, and 256 in flight. The first tier holds one entry; promotion is as by default.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::contenders::{established, ours, raw};
use crate::rounds::{Bar, Contender, Role, Row, Unit, throughput};
use crate::stage::Stage;
use crate::workload::{KIB_VALUE, keys, value};

const KEYS: usize = 10_240;
const IN_FLIGHT: usize = 256;
const RAW_GET: &str = "redis-rs GET";

type Keys = &'static [String];

pub(super) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    stage.empty_redis()?;
    let keys: Keys = Vec::leak(keys(KEYS));
    let url = stage.redis_url();
    // All read the same entries, which nobody writes.
    let (connection, manager, old) = stage.wide.block_on(async {
        let mut connection = raw::redis(&url).await?;
        raw::fill(&mut connection, keys, &value(KIB_VALUE)).await?;
        let manager = ours::one_entry_and(ours::redis(&url).await?)?;
        let old = established::one_entry_and(established::redis(&url).await?)?;
        anyhow::Ok((connection, manager, old))
    })?;
    let wide = &stage.wide;

    let (get, ours_get, old_get) = (connection.clone(), Arc::clone(&manager), Arc::clone(&old));
    let contenders = vec![
        one_at_a_time(RAW_GET, Role::Raw, wide, keys, async move |key: &str| {
            raw::get(&mut get.clone(), key).await.is_some()
        }),
        one_at_a_time("ours", Role::Ours, wide, keys, async move |key: &str| {
            ours_get.get(key).await.is_ok_and(|value| value.is_some())
        })
        .bar(Bar::AtMost(1.1, RAW_GET)),
        one_at_a_time("0.6.5", Role::Established, wide, keys, async move |key: &str| {
            old_get.get(key).await.is_ok_and(|value| value.is_some())
        }),
    ];
    let (title, operations) = ("L2 hit from Redis, one at a time, 1 KiB".into(), stage.operations(2_000));
    let single = Row { title, unit: Unit::Microseconds, operations, contenders };

    let contenders = vec![
        Contender::new(RAW_GET, Role::Raw, move |operations| {
            let caller = |share| {
                let mut connection = connection.clone();
                async move {
                    for key in share_of(keys, share, operations) {
                        assert!(raw::get(&mut connection, key).await.is_some());
                    }
                }
            };
            throughput(RAW_GET, wide, operations, (0..IN_FLIGHT).map(caller))
        }),
        Contender::new("ours", Role::Ours, move |operations| {
            let caller = |share| {
                let manager = Arc::clone(&manager);
                async move {
                    for key in share_of(keys, share, operations) {
                        assert!(manager.get(key).await.is_ok_and(|value| value.is_some()));
                    }
                }
            };
            throughput("ours", wide, operations, (0..IN_FLIGHT).map(caller))
        })
        .bar(Bar::AtLeast(1.25, RAW_GET)),
        Contender::new("0.6.5", Role::Established, move |operations| {
            let caller = |share| {
                let manager = Arc::clone(&old);
                async move {
                    for key in share_of(keys, share, operations) {
                        assert!(manager.get(key).await.is_ok_and(|value| value.is_some()));
                    }
                }
            };
            throughput("0.6.5", wide, operations, (0..IN_FLIGHT).map(caller))
        }),
    ];
    let title = format!("L2 hits from Redis, {IN_FLIGHT} in flight, 1 KiB");
    let operations = stage.operations(102_400);
    Ok(vec![single, Row { title, unit: Unit::PerSecond, operations, contenders }])
}

/// The keys that one caller reads: no other reads them.
fn share_of(keys: Keys, share: usize, operations: usize) -> impl Iterator<Item = &'static String> {
    keys.iter().skip(share).step_by(IN_FLIGHT).cycle().take(operations / IN_FLIGHT)
}

/// A caller on the calling thread; connections live on the runtime's workers, as in a service.
fn one_at_a_time<'a>(
    name: &'static str,
    role: Role,
    runtime: &'a Runtime,
    keys: Keys,
    get: impl AsyncFn(&str) -> bool + 'a,
) -> Contender<'a> {
    #[expect(clippy::cast_precision_loss, reason = "an operation count is small")]
    let round = move |operations| {
        runtime.block_on(async {
            let started = Instant::now();
            for key in keys.iter().take(operations) {
                assert!(get(key).await, "{name} missed {key}");
            }
            started.elapsed().as_secs_f64() * 1e6 / operations as f64
        })
    };
    Contender::new(name, role, round)
}
