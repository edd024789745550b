//! A first tier that does not hold what is asked: 10,000 cold keys at once, and a skewed load over 10,000 keys.

use std::sync::Arc;

use anyhow::Result;

use crate::contenders::reader::Reader;
use crate::contenders::{established, ours, raw};
use crate::rounds::{Bar, Contender, Role, Row, throughput};
use crate::stage::Stage;
use crate::unit::Unit;
use crate::workload::{KIB_VALUE, Zipf, keys, value};

const KEYS: usize = 10_000;
const IN_FLIGHT: usize = 256;
const OLD: &str = "0.6.5, Moka";

type Keys = &'static [String];

pub(crate) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    stage.empty_redis()?;
    let keys: Keys = Vec::leak(keys(KEYS));
    let url = stage.redis_url();
    let (l2, old_l2) = stage.prepare(async {
        let mut connection = raw::redis(&url).await?;
        raw::fill(&mut connection, keys, &value(KIB_VALUE)).await?;
        anyhow::Ok((ours::redis(&url).await?, established::redis(&url).await?))
    })?;
    let our_stack = move || Ok(Reader::Ours(ours::quick_cache_and(Arc::clone(&l2))?));
    let old_stack = move || Ok(Reader::Established(established::moka_and(Arc::clone(&old_l2))?));
    let skewed = skewed(stage, keys, our_stack()?, old_stack()?);
    let contenders = vec![
        cold(stage, keys, OLD, Role::Established, old_stack),
        cold(stage, keys, "ours", Role::Ours, our_stack).bar(Bar::at_least(3.0, OLD)),
    ];
    let title = format!("{KEYS} cold keys at once from Redis, 1 KiB");
    let cold = Row { id: "cold-keys", title, unit: Unit::PerSecond, operations: KEYS, contenders };
    Ok(vec![cold, skewed])
}

/// Each round has an empty first tier.
fn cold<'a>(
    stage: &'a Stage,
    keys: Keys,
    name: &'static str,
    role: Role,
    stack: impl Fn() -> Result<Reader> + 'a,
) -> Contender<'a> {
    Contender::new(name, role, move |operations| {
        let reader = stack().expect("a valid stack");
        let caller = |key: &'static String| {
            let reader = reader.clone();
            async move { assert!(reader.has(key).await) }
        };
        throughput(name, &stage.wide, operations, keys.iter().map(caller))
    })
}

/// The first tier keeps what it has from round to round.
fn skewed(stage: &Stage, keys: Keys, ours: Reader, old: Reader) -> Row<'_> {
    let operations = stage.operations(512_000);
    let zipf = Zipf::of(1.0, KEYS);
    let draws = |caller| {
        let mut random = fastrand::Rng::with_seed(caller);
        (0..operations / IN_FLIGHT).map(|_| keys[zipf.draw(&mut random)].as_str()).collect::<Arc<[&'static str]>>()
    };
    let sequences: Arc<[Arc<[&'static str]>]> = (0..IN_FLIGHT as u64).map(draws).collect();
    let contender = |name, reader: Reader| {
        let (role, sequences) = (reader.role(), Arc::clone(&sequences));
        Contender::new(name, role, move |operations| {
            let caller = |sequence: &Arc<[&'static str]>| {
                let (reader, sequence) = (reader.clone(), Arc::clone(sequence));
                async move {
                    for key in &*sequence {
                        assert!(reader.has(key).await);
                        tokio::task::consume_budget().await;
                    }
                }
            };
            throughput(name, &stage.wide, operations, sequences.iter().map(caller))
        })
    };
    let contenders = vec![contender(OLD, old), contender("ours", ours).bar(Bar::at_least(2.0, OLD))];
    let title = format!("zipf 1.0 over {KEYS} keys, L1 2,000, L2 Redis, {IN_FLIGHT} in flight, 1 KiB");
    Row { id: "skewed", title, unit: Unit::PerSecond, operations, contenders }
}
