//! Replacing a value in two tiers inside the process.

use std::sync::Arc;

use anyhow::Result;

use crate::contenders::{amalgam, cachet, established, ours, raw};
use crate::rounds::{Bar, Contender, Done, Role, Row};
use crate::stage::Stage;
use crate::unit::Unit;
use crate::workload::{RESIDENT, SMALL_VALUE, keys, value};

const INSERT: &str = "quick_cache insert";
const OLD_MOKA: &str = "0.6.5, Moka + DashMap";

pub(crate) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    let keys: &[String] = Vec::leak(keys(RESIDENT));
    let value = value(SMALL_VALUE);
    let mut contenders = Vec::new();
    let (cache, stored) = (raw::quick_cache(keys, |_| value.clone()), value.clone());
    let insert = move |key: &str| {
        cache.insert(key.into(), stored.clone());
        Some(())
    };
    contenders.push(Contender::call(INSERT, Role::Raw, keys, insert));
    let caches = [(); 2].map(|()| raw::quick_cache(keys, |_| value.clone()));
    let stored = value.clone();
    let insert = move |key: &str| {
        let key: Arc<str> = key.into();
        for cache in &caches {
            cache.insert(Arc::clone(&key), stored.clone());
        }
        Some(())
    };
    contenders.push(Contender::call("quick_cache insert, two of them", Role::Raw, keys, insert));

    let narrow = &stage.narrow;
    let (manager, stored) = (ours::quick_cache_and(ours::dash_map())?, value.clone());
    let set = async move |key: &str| Done(manager.set_with_strategy(key, stored.clone(), ours::STRATEGY).await);
    let contender = Contender::verb("ours, QuickCache + DashMap", Role::Ours, narrow, keys, set);
    contenders.push(contender.bar(Bar::at_most(4.0, INSERT)));
    let (manager, stored) = (ours::moka_and(ours::dash_map())?, value.clone());
    let set = async move |key: &str| Done(manager.set_with_strategy(key, stored.clone(), ours::STRATEGY).await);
    contenders.push(Contender::verb("ours, Moka + DashMap", Role::Ours, narrow, keys, set).against(OLD_MOKA));
    let (manager, stored) = (established::moka_and(established::dash_map())?, value.clone());
    let set = async move |key: &str| Done(manager.set_with_strategy(key, stored.clone(), established::STRATEGY).await);
    contenders.push(Contender::verb(OLD_MOKA, Role::Established, narrow, keys, set));
    let (manager, stored) = (established::quick_cache_and(established::dash_map())?, value.clone());
    let set = async move |key: &str| Done(manager.set_with_strategy(key, stored.clone(), established::STRATEGY).await);
    contenders.push(Contender::verb("0.6.5, QuickCache + DashMap", Role::Established, narrow, keys, set));
    let (memory, stored) = (amalgam::cache()?, value.clone());
    let set = async move |key: &str| Done(memory.set(key, stored.clone()).await);
    contenders.push(Contender::verb("amalgam 0.4.2, one tier", Role::Neighbour, narrow, keys, set));
    let memory = stage.prepare(async { Ok(cachet::two_tiers()) })?;
    let set = async move |key: &str| Done(memory.insert(key.to_owned(), value.clone()).await);
    contenders.push(Contender::verb("cachet 0.16, two in memory", Role::Neighbour, narrow, keys, set));

    let title = format!("set, two in-memory tiers, {SMALL_VALUE} bytes");
    let operations = stage.operations(20_000);
    Ok(vec![Row { id: "set", title, unit: Unit::Nanoseconds, operations, contenders }])
}
