//! A hit in the first tier through the verb that would compute.

use std::sync::Arc;

use ::amalgam::{FactoryError, source};
use anyhow::Result;

use crate::contenders::{amalgam, established, ours};
use crate::rounds::{Bar, Contender, Done, Role, Row, Unit};
use crate::stage::Stage;
use crate::workload::{L1_ENTRIES, RESIDENT, SMALL_VALUE, keys, value};

const OUR_GET: &str = "ours, get";

pub(super) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    let keys: &[String] = Vec::leak(keys(RESIDENT));
    let value = value(SMALL_VALUE);
    let manager = ours::quick_cache_and(ours::dash_map())?;
    let old_moka = established::moka_and(established::dash_map())?;
    let old_quick_cache = established::quick_cache_and(established::dash_map())?;
    let future: moka::future::Cache<String, _> = moka::future::Cache::new(L1_ENTRIES);
    let memory = amalgam::cache()?;
    stage.narrow.block_on(async {
        ours::fill(&manager, keys, &value).await?;
        established::fill(&old_moka, keys, &value).await?;
        established::fill(&old_quick_cache, keys, &value).await?;
        for key in keys {
            future.insert(key.clone(), value.clone()).await;
            memory.set(key, value.clone()).await?;
        }
        anyhow::Ok(())
    })?;
    let narrow = &stage.narrow;
    let mut contenders = Vec::new();
    let plain = Arc::clone(&manager);
    let verb = async move |key: &str| plain.get(key).await;
    contenders.push(Contender::verb(OUR_GET, Role::Ours, narrow, keys, verb));
    let computed = value.clone();
    let verb = async move |key: &str| {
        Done(manager.get_or_compute_with(key, ours::STRATEGY, || async { Ok(computed.clone()) }).await)
    };
    let contender = Contender::verb("ours, get_or_compute_with", Role::Ours, narrow, keys, verb);
    contenders.push(contender.bar(Bar::AtMost(1.1, OUR_GET)));
    let computed = value.clone();
    let verb = async move |key: &str| {
        Done(old_moka.get_or_compute_with(key, established::STRATEGY, || async { Ok(computed.clone()) }).await)
    };
    contenders.push(Contender::verb(established::MOKA, Role::Established, narrow, keys, verb));
    let computed = value.clone();
    let verb = async move |key: &str| {
        Done(old_quick_cache.get_or_compute_with(key, established::STRATEGY, || async { Ok(computed.clone()) }).await)
    };
    contenders.push(Contender::verb(established::QUICK_CACHE, Role::Established, narrow, keys, verb));
    let computed = value.clone();
    let verb = async move |key: &str| {
        let computed = async { computed.clone() };
        Some(future.get_with_by_ref(key, computed).await)
    };
    contenders.push(Contender::verb("moka future", Role::Raw, narrow, keys, verb));
    let verb = async move |key: &str| {
        let computed = value.clone();
        let factory = source::factory(|_| async move { Ok::<_, FactoryError>(computed) });
        Done(memory.get_or_set(key, factory).await)
    };
    contenders.push(Contender::verb(amalgam::NAME, Role::Neighbour, narrow, keys, verb));

    let title = format!("get-or-compute, L1 hit, {SMALL_VALUE} bytes");
    Ok(vec![Row { title, unit: Unit::Nanoseconds, operations: stage.operations(40_000), contenders }])
}
