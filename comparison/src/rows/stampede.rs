//! 10,000 callers of one cold key whose load takes 50 ms: loads, and the 99th percentile of the callers' waits.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::amalgam::{FactoryError, source};
use anyhow::Result;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::contenders::{amalgam, established, ours};
use crate::rounds::{Bar, Contender, Outcome, PATIENCE, Role, Row};
use crate::stage::Stage;
use crate::unit::{Unit, percentile};
use crate::workload::{SMALL_VALUE, key, value};

const LOAD: Duration = Duration::from_millis(50);
const CALLERS: usize = 10_000;

#[derive(Clone, Default)]
struct Source {
    loads: Arc<AtomicUsize>,
}

impl Source {
    async fn load(&self) -> Bytes {
        self.loads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(LOAD).await;
        value(SMALL_VALUE)
    }
}

pub(crate) fn build(stage: &Stage) -> Result<Vec<Row<'_>>> {
    let wide = &stage.wide;
    let manager = ours::quick_cache_and(ours::dash_map())?;
    let old = established::moka_and(established::dash_map())?;
    let memory = Arc::new(amalgam::cache()?);
    let baseline = Contender::new("tokio OnceCell", Role::Raw, move |_| {
        let cell = Arc::new(OnceCell::new());
        storm(wide, "tokio OnceCell", |source| {
            let cell = Arc::clone(&cell);
            async move { drop(cell.get_or_init(|| source.load()).await.clone()) }
        })
    });
    let mut round = 0;
    let our_round = Contender::new("ours", Role::Ours, move |_| {
        round += 1;
        storm(wide, "ours", |source| {
            let (manager, key) = (Arc::clone(&manager), key(round));
            async move {
                let load = || async move { Ok(source.load().await) };
                assert!(manager.get_or_compute_with(&key, ours::STRATEGY, load).await.is_ok());
            }
        })
    });
    let mut round = 0;
    let old_round = Contender::new("0.6.5, Moka", Role::Established, move |_| {
        round += 1;
        storm(wide, "0.6.5", |source| {
            let (manager, key) = (Arc::clone(&old), key(round));
            async move {
                let load = || async move { Ok(source.load().await) };
                assert!(manager.get_or_compute_with(&key, established::STRATEGY, load).await.is_ok());
            }
        })
    });
    let mut round = 0;
    let amalgam_round = Contender::new(amalgam::NAME, Role::Neighbour, move |_| {
        round += 1;
        storm(wide, amalgam::NAME, |source| {
            let (memory, key) = (Arc::clone(&memory), key(round));
            async move {
                let factory = source::factory(|_| async move { Ok::<_, FactoryError>(source.load().await) });
                assert!(memory.get_or_set(&key, factory).await.is_ok());
            }
        })
    });
    let contenders = vec![baseline, our_round.bar(Bar::Within(LOAD.as_secs_f64() * 1.1e3)), old_round, amalgam_round];
    let title = format!("{CALLERS} callers, one cold key, 50 ms load: p99");
    Ok(vec![Row { id: "stampede", title, unit: Unit::Milliseconds, operations: CALLERS, contenders }])
}

/// The 99th percentile of the callers' waits, in milliseconds. More than one load is reported.
fn storm<F>(runtime: &Runtime, name: &str, mut caller: impl FnMut(Source) -> F) -> Outcome
where
    F: Future<Output = ()> + Send + 'static,
{
    let source = Source::default();
    let waits = runtime.block_on(async {
        let callers = (0..CALLERS).map(|_| {
            let call = caller(source.clone());
            tokio::spawn(async move {
                let started = Instant::now();
                call.await;
                started.elapsed().as_secs_f64() * 1e3
            })
        });
        let callers: Vec<_> = callers.collect();
        let mut waits = Vec::with_capacity(CALLERS);
        for caller in callers {
            waits.push(tokio::time::timeout(PATIENCE, caller).await.ok()?.expect("a caller panicked"));
        }
        Some(waits)
    });
    let Some(mut waits) = waits else {
        eprintln!("  {name}: a caller waits for ever");
        return Outcome::Hung;
    };
    let loads = source.loads.load(Ordering::Relaxed);
    if loads != 1 {
        eprintln!("  {name}: {loads} loads");
    }
    waits.sort_by(f64::total_cmp);
    Outcome::Value(percentile(&waits, 99))
}
