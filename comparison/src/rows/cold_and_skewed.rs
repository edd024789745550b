//! A first tier that does not hold what is asked: 10,000 cold keys at once, and a skewed load over 10,000 keys.

use std::sync::Arc;

use anyhow::Result;

use crate::contenders::{established, ours, raw};
use crate::rounds::{Bar, Contender, Role, Row, Unit, throughput};
use crate::stage::Stage;
use crate::workload::{KIB_VALUE, Zipf, keys, value};

const KEYS: usize = 10_000;
const IN_FLIGHT: usize = 256;
const OLD: &str = "0.6.5, Moka";

type Keys = &'static [String];

pub(super) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    stage.empty_redis()?;
    let keys: Keys = Vec::leak(keys(KEYS));
    let url = stage.redis_url();
    let (l2, old_l2) = stage.wide.block_on(async {
        let mut connection = raw::redis(&url).await?;
        raw::fill(&mut connection, keys, &value(KIB_VALUE)).await?;
        anyhow::Ok((ours::redis(&url).await?, established::redis(&url).await?))
    })?;
    let skewed =
        skewed(stage, keys, ours::quick_cache_and(Arc::clone(&l2))?, established::moka_and(Arc::clone(&old_l2))?);
    Ok(vec![cold(stage, keys, l2, old_l2), skewed])
}

/// Each round has an empty first tier.
fn cold<'a>(
    stage: &'a Stage,
    keys: Keys,
    l2: Arc<dyn ::ours::L2CacheBackend>,
    old_l2: Arc<dyn ::established::L2CacheBackend>,
) -> Row<'a> {
    let wide = &stage.wide;
    let old = Contender::new(OLD, Role::Established, move |operations| {
        let manager = established::moka_and(Arc::clone(&old_l2)).expect("a valid stack");
        let caller = |key: &'static String| {
            let manager = Arc::clone(&manager);
            async move { assert!(manager.get(key).await.is_ok_and(|value| value.is_some())) }
        };
        throughput(OLD, wide, operations, keys.iter().map(caller))
    });
    let ours = Contender::new("ours", Role::Ours, move |operations| {
        let manager = ours::quick_cache_and(Arc::clone(&l2)).expect("a valid stack");
        let caller = |key: &'static String| {
            let manager = Arc::clone(&manager);
            async move { assert!(manager.get(key).await.is_ok_and(|value| value.is_some())) }
        };
        throughput("ours", wide, operations, keys.iter().map(caller))
    });
    let contenders = vec![old, ours.bar(Bar::AtLeast(3.0, OLD))];
    let title = format!("{KEYS} cold keys at once from Redis, 1 KiB");
    Row { title, unit: Unit::PerSecond, operations: KEYS, contenders }
}

/// The first tier keeps what it has from round to round.
fn skewed<'a>(
    stage: &'a Stage,
    keys: Keys,
    manager: Arc<::ours::CacheManager>,
    old: Arc<::established::CacheManager>,
) -> Row<'a> {
    let wide = &stage.wide;
    let operations = stage.operations(512_000);
    let zipf = Zipf::new(KEYS);
    let draws = |caller| {
        let mut random = fastrand::Rng::with_seed(caller);
        (0..operations / IN_FLIGHT).map(|_| keys[zipf.draw(&mut random)].as_str()).collect::<Arc<[&'static str]>>()
    };
    let sequences: Arc<[Arc<[&'static str]>]> = (0..IN_FLIGHT as u64).map(draws).collect();
    let old_sequences = Arc::clone(&sequences);
    let old = Contender::new(OLD, Role::Established, move |operations| {
        let caller = |sequence: &Arc<[&'static str]>| {
            let (manager, sequence) = (Arc::clone(&old), Arc::clone(sequence));
            async move {
                for key in &*sequence {
                    assert!(manager.get(key).await.is_ok_and(|value| value.is_some()));
                    tokio::task::consume_budget().await;
                }
            }
        };
        throughput(OLD, wide, operations, old_sequences.iter().map(caller))
    });
    let ours = Contender::new("ours", Role::Ours, move |operations| {
        let caller = |sequence: &Arc<[&'static str]>| {
            let (manager, sequence) = (Arc::clone(&manager), Arc::clone(sequence));
            async move {
                for key in &*sequence {
                    assert!(manager.get(key).await.is_ok_and(|value| value.is_some()));
                    tokio::task::consume_budget().await;
                }
            }
        };
        throughput("ours", wide, operations, sequences.iter().map(caller))
    });
    let contenders = vec![old, ours.bar(Bar::AtLeast(2.0, OLD))];
    let title = format!("zipf 1.0 over {KEYS} keys, L1 2,000, L2 Redis, {IN_FLIGHT} in flight, 1 KiB");
    Row { title, unit: Unit::PerSecond, operations, contenders }
}
