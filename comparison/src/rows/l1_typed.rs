//! A hit in the first tier, as a struct: shared without a decode, and decoded.

use std::sync::Arc;

use ::ours::Cache;
use anyhow::Result;

use crate::contenders::{QUICK_CACHE, amalgam, cachet, established, foyer, ours, raw};
use crate::rounds::{Bar, Contender, Done, Role, Row};
use crate::stage::Stage;
use crate::unit::Unit;
use crate::workload::{Profile, RESIDENT, keys};

const OUR_GET: &str = "ours, Cache::get";

pub(crate) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    let keys: &[String] = Vec::leak(keys(RESIDENT));
    let shared = ours::quick_cache_and(ours::dash_map())?;
    let decoding = ours::quick_cache_and(ours::dash_map())?;
    let typed: Cache<String, Profile> = ours::quick_cache_and(ours::dash_map())?.cache("profiles")?;
    let old_moka = established::moka_and(established::dash_map())?;
    let old_quick_cache = established::quick_cache_and(established::dash_map())?;
    let memory = amalgam::cache()?;
    let oxidizer = stage.prepare(async {
        let oxidizer = cachet::cache();
        for key in keys {
            let load = || async { Ok(Profile::new(key)) };
            shared.get_or_compute_shared(key, ours::STRATEGY, load).await?;
            decoding.get_or_compute_typed(key, ours::STRATEGY, load).await?;
            typed.insert(key, Profile::new(key)).await?;
            let load = || async { Ok(Profile::new(key)) };
            old_moka.get_or_compute_typed(key, established::STRATEGY, load).await?;
            old_quick_cache.get_or_compute_typed(key, established::STRATEGY, load).await?;
            memory.set(key, Arc::new(Profile::new(key))).await?;
            oxidizer.insert(key.clone(), Arc::new(Profile::new(key))).await?;
        }
        anyhow::Ok(oxidizer)
    })?;
    let narrow = &stage.narrow;
    let mut contenders = raw_stores(keys);
    let verb = async move |key: &str| {
        Done(shared.get_or_compute_shared(key, ours::STRATEGY, || async { Ok(Profile::new("")) }).await)
    };
    let contender = Contender::verb("ours, get_or_compute_shared", Role::Ours, narrow, keys, verb);
    contenders.push(contender.bar(Bar::at_most(1.8, QUICK_CACHE)));
    let cache = typed.clone();
    let verb = async move |key: &str| Done(cache.get_or_load(key, || async { Ok(Profile::new("")) }).await);
    let contender = Contender::verb("ours, Cache::get_or_load", Role::Ours, narrow, keys, verb);
    contenders.push(contender.bar(Bar::at_most(1.1, OUR_GET)));
    let verb = async move |key: &str| typed.get(key).await;
    let contender = Contender::verb(OUR_GET, Role::Ours, narrow, keys, verb);
    contenders.push(contender.bar(Bar::at_most(1.8, QUICK_CACHE)));
    let manager = Arc::clone(&decoding);
    let verb = async move |key: &str| manager.get_typed::<Profile>(key).await;
    contenders.push(Contender::verb("ours, get_typed", Role::Ours, narrow, keys, verb));
    let verb = async move |key: &str| {
        Done(decoding.get_or_compute_typed(key, ours::STRATEGY, || async { Ok(Profile::new("")) }).await)
    };
    contenders.push(Contender::verb("ours, get_or_compute_typed", Role::Ours, narrow, keys, verb));
    let manager = Arc::clone(&old_moka);
    let verb = async move |key: &str| manager.get_typed::<Profile>(key).await;
    contenders.push(Contender::verb(established::MOKA, Role::Established, narrow, keys, verb));
    let verb = async move |key: &str| old_quick_cache.get_typed::<Profile>(key).await;
    contenders.push(Contender::verb(established::QUICK_CACHE, Role::Established, narrow, keys, verb));
    let verb = async move |key: &str| {
        Done(old_moka.get_or_compute_typed(key, established::STRATEGY, || async { Ok(Profile::new("")) }).await)
    };
    let name = "0.6.5, Moka, get_or_compute_typed";
    contenders.push(Contender::verb(name, Role::Established, narrow, keys, verb));
    let verb = async move |key: &str| memory.try_get(key).await;
    contenders.push(Contender::verb(amalgam::NAME, Role::Neighbour, narrow, keys, verb));
    let verb = async move |key: &str| oxidizer.get(key).await;
    contenders.push(Contender::verb(cachet::NAME, Role::Neighbour, narrow, keys, verb));

    let title = "L1 hit, struct of 6 fields".into();
    let operations = stage.operations(40_000);
    Ok(vec![Row { id: "l1-typed", title, unit: Unit::Nanoseconds, operations, contenders }])
}

fn raw_stores(keys: &[String]) -> Vec<Contender<'_>> {
    let cache = raw::quick_cache(keys, |key| Arc::new(Profile::new(key)));
    let first = Contender::call(QUICK_CACHE, Role::Raw, keys, move |key| cache.get(key));
    let cache = foyer::cache(keys, |key| Arc::new(Profile::new(key)));
    let get = move |key: &str| cache.get(key).map(|entry| Arc::clone(entry.value()));
    vec![first, Contender::call(foyer::NAME, Role::Raw, keys, get)]
}
