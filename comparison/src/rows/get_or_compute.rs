//! A hit in the first tier through the verb that would compute.

use std::sync::Arc;

use ::amalgam::{FactoryError, source};
use anyhow::Result;
use bytes::Bytes;

use crate::contenders::{amalgam, cachet, established, foyer, ours};
use crate::rounds::{Bar, Contender, Done, Role, Row};
use crate::stage::Stage;
use crate::unit::Unit;
use crate::workload::{L1_ENTRIES, RESIDENT, SMALL_VALUE, keys, value};

const OUR_GET: &str = "ours, get";

pub(crate) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    let keys: &[String] = Vec::leak(keys(RESIDENT));
    let value = value(SMALL_VALUE);
    let manager = ours::quick_cache_and(ours::dash_map())?;
    let old_moka = established::moka_and(established::dash_map())?;
    let old_quick_cache = established::quick_cache_and(established::dash_map())?;
    let future: moka::future::Cache<String, _> = moka::future::Cache::new(L1_ENTRIES);
    let memory = amalgam::cache()?;
    let oxidizer = stage.prepare(async {
        ours::fill(&manager, keys, &value).await?;
        established::fill(&old_moka, keys, &value).await?;
        established::fill(&old_quick_cache, keys, &value).await?;
        for key in keys {
            future.insert(key.clone(), value.clone()).await;
            memory.set(key, value.clone()).await?;
        }
        let oxidizer = cachet::coalescing();
        for key in keys {
            oxidizer.insert(key.clone(), value.clone()).await?;
        }
        anyhow::Ok(oxidizer)
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
    contenders.push(contender.bar(Bar::at_most(1.1, OUR_GET)));
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
    let computed = value.clone();
    let verb = async move |key: &str| Done(oxidizer.get_or_insert(key, || async { computed.clone() }).await);
    contenders.push(Contender::verb("cachet 0.16, coalescing", Role::Neighbour, narrow, keys, verb));
    contenders.push(foyer(stage, keys, &value));
    let verb = async move |key: &str| {
        let computed = value.clone();
        let factory = source::factory(|_| async move { Ok::<_, FactoryError>(computed) });
        Done(memory.get_or_set(key, factory).await)
    };
    contenders.push(Contender::verb(amalgam::NAME, Role::Neighbour, narrow, keys, verb));

    let title = format!("get-or-compute, L1 hit, {SMALL_VALUE} bytes");
    let operations = stage.operations(40_000);
    Ok(vec![Row { id: "get-or-compute", title, unit: Unit::Nanoseconds, operations, contenders }])
}

fn foyer<'a>(stage: &'a Stage, keys: &'a [String], value: &Bytes) -> Contender<'a> {
    let (cache, computed) = (foyer::cache(keys, |_| value.clone()), value.clone());
    let verb = async move |key: &str| {
        let computed = computed.clone();
        let key: Arc<str> = key.into();
        Done(cache.get_or_fetch(&key, || async { Ok::<_, anyhow::Error>(computed) }).await)
    };
    Contender::verb(foyer::NAME, Role::Raw, &stage.narrow, keys, verb)
}
