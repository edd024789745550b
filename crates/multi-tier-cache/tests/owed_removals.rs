//! What a tier could not be told to forget is not served, costs healthy keys nothing, and is made up for.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use multi_tier_cache::backends::{DashMapCache, QuickCacheBackend};
use multi_tier_cache::traits::*;
use multi_tier_cache::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

struct Gate {
    reached: Semaphore,
    go: Semaphore,
}
impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { reached: Semaphore::new(0), go: Semaphore::new(0) })
    }
    async fn meet(&self) {
        self.reached.add_permits(1);
        self.go.acquire().await.unwrap().forget();
    }
    async fn reached(&self) {
        timeout(Duration::from_secs(3), self.reached.acquire()).await.expect("gate never reached").unwrap().forget();
    }
    fn open(&self) {
        self.go.add_permits(1);
    }
}
#[derive(Default)]
struct R {
    map: Mutex<HashMap<String, Bytes>>,
    gates: Mutex<HashMap<&'static str, Arc<Gate>>>,
    down: AtomicBool,
    hang: AtomicBool,
    budgeted: bool,
    many_refuses: AtomicBool,
    pattern_panics: AtomicBool,
    remove_down: AtomicBool,
    rtt_ms: AtomicU64,
    pattern_ms: AtomicU64,
    dead: Mutex<Option<&'static str>>,
    patterns: AtomicUsize,
    patterns_done: AtomicUsize,
    removed: AtomicUsize,
    gets: AtomicUsize,
}
fn blip() -> CacheError {
    CacheError::BackendError(Failure::new("blip").retryable())
}
impl R {
    fn gate(&self, op: &'static str) -> Arc<Gate> {
        let g = Gate::new();
        self.gates.lock().unwrap().insert(op, g.clone());
        g
    }
    async fn pass(&self, op: &'static str) {
        let g = self.gates.lock().unwrap().remove(op);
        if let Some(g) = g {
            g.meet().await
        }
    }
    async fn enter(&self, key: &str) -> CacheResult<()> {
        if self.hang.load(SeqCst) {
            std::future::pending::<()>().await
        }
        if self.down.load(SeqCst) {
            return Err(blip());
        }
        let ms = self.rtt_ms.load(SeqCst);
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await
        }
        if self.dead.lock().unwrap().is_some_and(|p| key.starts_with(p)) {
            return Err(blip());
        }
        Ok(())
    }
    fn put(&self, k: &str, v: &'static str) {
        self.map.lock().unwrap().insert(k.into(), Bytes::from(v));
    }
    fn peek(&self, k: &str) -> Option<Bytes> {
        self.map.lock().unwrap().get(k).cloned()
    }
}

impl CacheBackend for R {
    fn get<'a>(&'a self, k: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.try_get(k).await.ok().flatten() })
    }
    fn try_get<'a>(&'a self, k: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(async move {
            self.gets.fetch_add(1, SeqCst);
            self.enter(k).await?;
            let f = self.peek(k);
            self.pass("get reply").await;
            Ok(f)
        })
    }
    fn set_with_ttl<'a>(&'a self, k: &'a str, v: Bytes, _: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.enter(k).await?;
            self.map.lock().unwrap().insert(k.into(), v);
            Ok(())
        })
    }
    fn remove<'a>(&'a self, k: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.pass("remove").await;
            self.enter(k).await?;
            if self.remove_down.load(SeqCst) {
                return Err(blip());
            }
            self.removed.fetch_add(1, SeqCst);
            self.map.lock().unwrap().remove(k);
            self.pass("remove reply").await;
            Ok(())
        })
    }
    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.pass("many").await;
            if self.many_refuses.load(SeqCst) {
                return Err(CacheError::ConfigError("no".into()));
            }
            if self.budgeted {
                // one round trip, as a driver does
                let mut out = self.enter("").await;
                for k in keys {
                    if self.dead.lock().unwrap().is_some_and(|p| k.starts_with(p)) {
                        out = Err(blip())
                    } else if out.is_ok() {
                        self.map.lock().unwrap().remove(*k);
                    }
                }
                return out;
            }
            for k in keys {
                self.remove(k).await?;
            }
            Ok(())
        })
    }
    fn remove_pattern<'a>(&'a self, p: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.patterns.fetch_add(1, SeqCst);
            if self.pattern_panics.swap(false, SeqCst) {
                panic!("pattern")
            }
            self.enter("").await?;
            let ms = self.pattern_ms.load(SeqCst);
            if ms > 0 {
                sleep(Duration::from_millis(ms)).await
            }
            let p = p.trim_end_matches('*').to_owned();
            self.map.lock().unwrap().retain(|k, _| !k.starts_with(&p));
            self.patterns_done.fetch_add(1, SeqCst);
            self.pass("pattern reply").await;
            Ok(())
        })
    }
    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
    fn name(&self) -> &'static str {
        "User"
    }
    fn capabilities(&self) -> Capabilities {
        if self.budgeted { Capabilities::BUDGETED } else { Capabilities::NONE }
    }
}
impl L2CacheBackend for R {
    fn try_get_with_ttl<'a>(&'a self, k: &'a str) -> BoxFuture<'a, CacheResult<Option<(Bytes, Option<Duration>)>>> {
        Box::pin(async move { Ok(self.try_get(k).await?.map(|v| (v, None))) })
    }
    fn get_with_ttl<'a>(&'a self, k: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move { self.try_get_with_ttl(k).await.ok().flatten() })
    }
}
fn r() -> Arc<R> {
    Arc::default()
}
fn rb() -> Arc<R> {
    Arc::new(R { budgeted: true, ..R::default() })
}
fn quick() -> Arc<QuickCacheBackend> {
    Arc::new(QuickCacheBackend::new(1000).unwrap())
}
fn tier(b: Arc<dyn L2CacheBackend>, level: usize) -> CacheTier {
    CacheTier::new(b, level, level > 1, 1, 1.0)
}
fn manager(tiers: Vec<Arc<dyn L2CacheBackend>>) -> Arc<CacheManager> {
    Arc::new(
        CacheManager::new_with_tiers(tiers.into_iter().enumerate().map(|(i, b)| tier(b, i + 1)).collect(), None)
            .unwrap(),
    )
}
const MIN: CacheStrategy = CacheStrategy::ShortTerm;
fn b(s: &'static str) -> Bytes {
    Bytes::from_static(s.as_bytes())
}
async fn usable_within(m: &CacheManager, key: &str, by: Duration) -> bool {
    let t = Instant::now();
    while t.elapsed() < by {
        if matches!(m.get(key).await, Ok(Some(_))) {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn five_hundred_debts_one_by_one_do_not_disable_a_healthy_tier() {
    let l2 = r();
    l2.put("other", "x");
    let m = manager(vec![quick(), l2.clone()]);
    l2.down.store(true, SeqCst);
    for n in 0..500 {
        let _ = m.invalidate(&format!("k{n}")).await;
    }
    l2.down.store(false, SeqCst);
    l2.rtt_ms.store(3, SeqCst);
    assert!(usable_within(&m, "other", Duration::from_secs(8)).await, "removals sent {}", l2.removed.load(SeqCst));
}
#[tokio::test]
async fn a_slow_pattern_debt_does_not_disable_a_healthy_tier() {
    let l2 = r();
    l2.put("other", "x");
    let m = manager(vec![quick(), l2.clone()]);
    l2.down.store(true, SeqCst);
    m.invalidate_pattern("user:*").await.unwrap_err();
    l2.down.store(false, SeqCst);
    l2.pattern_ms.store(1500, SeqCst);
    m.invalidate_pattern("user:*").await.unwrap(); // even the caller's own success does not settle it
    assert!(
        usable_within(&m, "other", Duration::from_secs(8)).await,
        "patterns begun {}, done {}",
        l2.patterns.load(SeqCst),
        l2.patterns_done.load(SeqCst)
    );
}
#[tokio::test]
async fn loads_during_an_outage_do_not_disable_the_tier_for_ever() {
    let l2 = rb();
    l2.put("other", "x");
    let m = manager(vec![quick(), l2.clone()]);
    l2.down.store(true, SeqCst);
    for n in 0..=100_000 {
        m.get_or_compute_with(&format!("k{n}"), MIN, || async { Ok(b("v")) }).await.unwrap();
    }
    l2.down.store(false, SeqCst);
    assert!(
        usable_within(&m, "other", Duration::from_secs(3)).await,
        "{:?} {:?}",
        m.get("other").await,
        m.health().await
    );
}
#[tokio::test]
async fn loads_during_an_outage_do_not_delete_good_values_after_it() {
    let l2 = rb();
    for n in 0..100 {
        l2.put(&format!("k{n}"), "v");
    }
    let m = manager(vec![quick(), l2.clone()]);
    l2.down.store(true, SeqCst);
    for n in 0..100 {
        m.get_or_compute_with(&format!("k{n}"), MIN, || async { Ok(b("v")) }).await.unwrap();
    }
    l2.down.store(false, SeqCst);
    let _ = m.get("other").await;
    assert_eq!(l2.map.lock().unwrap().len(), 100);
}
async fn slow_loads(debt: bool) -> (usize, usize) {
    let l2 = r();
    let m = manager(vec![quick(), l2.clone()]);
    l2.hang.store(true, SeqCst);
    if debt {
        m.set_with_strategy("debt", b("v"), MIN).await.unwrap();
    } else {
        let _ = m.get("nothing").await;
    }
    let end = Instant::now() + Duration::from_secs(5);
    let callers = (0..10).map(|c| {
        let m = m.clone();
        tokio::spawn(async move {
            let (mut slow, mut all, mut n) = (0, 0, 0);
            while Instant::now() < end {
                let t = Instant::now();
                n += 1;
                let _ = m.get(&format!("c{c}-{n}")).await;
                all += 1;
                if t.elapsed() > Duration::from_millis(300) {
                    slow += 1
                }
                sleep(Duration::from_millis(20)).await;
            }
            (slow, all)
        })
    });
    join_all(callers).await.into_iter().map(|r| r.unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}
#[tokio::test]
async fn a_hung_tier_with_a_debt_costs_one_budget_a_window() {
    let without = slow_loads(false).await;
    let with = slow_loads(true).await;
    eprintln!("slow, all: without a debt {without:?}, with one {with:?}");
    assert!(with.0 <= without.0 * 2, "{with:?}");
}
#[tokio::test]
async fn one_dead_server_of_several_does_not_serialise_the_others() {
    let l2 = rb();
    l2.rtt_ms.store(20, SeqCst);
    for n in 0..50 {
        l2.put(&format!("ok{n}"), "v");
    }
    let m = manager(vec![quick(), l2.clone()]);
    *l2.dead.lock().unwrap() = Some("dead");
    m.invalidate("dead1").await.unwrap_err();
    let t = Instant::now();
    join_all((0..50).map(|n| {
        let m = m.clone();
        async move { m.get(&format!("ok{n}")).await.unwrap() }
    }))
    .await;
    eprintln!("50 concurrent gets of healthy keys at 20 ms a round trip: {:?}", t.elapsed());
    assert!(t.elapsed() < Duration::from_millis(200));
}
#[tokio::test]
async fn a_pattern_that_failed_during_the_make_up_is_a_debt_of_its_own() {
    let l2 = rb();
    let m = manager(vec![quick(), l2.clone()]);
    l2.down.store(true, SeqCst);
    m.invalidate_pattern("k*").await.unwrap_err();
    l2.down.store(false, SeqCst);
    let reply = l2.gate("pattern reply");
    let maker = tokio::spawn({
        let m = m.clone();
        async move { m.get("other").await }
    });
    reply.reached().await; // the scan is over, its reply is under way
    m.set_with_strategy("k", b("v2"), MIN).await.unwrap();
    assert_eq!(l2.peek("k"), Some(b("v2")));
    l2.down.store(true, SeqCst);
    m.invalidate_pattern("k*").await.unwrap_err();
    l2.down.store(false, SeqCst);
    reply.open();
    let _ = maker.await.unwrap();
    assert_eq!(m.get("k").await.unwrap(), None);
}
#[tokio::test]
async fn a_readers_removal_does_not_settle_a_newer_debt() {
    let l2 = rb();
    l2.put("k", "v1");
    let m = manager(vec![quick(), l2.clone()]);
    l2.down.store(true, SeqCst);
    m.invalidate("k").await.unwrap_err();
    l2.down.store(false, SeqCst);
    l2.many_refuses.store(true, SeqCst); // one bad key in the chunk
    let reply = l2.gate("remove reply");
    let reader = tokio::spawn({
        let m = m.clone();
        async move { m.get("k").await }
    });
    reply.reached().await;
    m.set_with_strategy("k", b("v2"), MIN).await.unwrap();
    l2.remove_down.store(true, SeqCst);
    m.invalidate("k").await.unwrap_err();
    l2.remove_down.store(false, SeqCst);
    reply.open();
    let _ = reader.await.unwrap();
    assert_eq!(m.get("k").await.unwrap(), None);
}
#[test]
fn a_removal_dropped_outside_tokio_owes_every_tier_and_drops_locally() {
    let (l1, l2, l3) = (quick(), rb(), rb());
    l2.put("k", "v1");
    l3.put("k", "v1");
    let m = manager(vec![l1, l2.clone(), l3.clone()]);
    let _gate = l3.gate("remove");
    let mut inv = Box::pin(m.invalidate("k"));
    assert!((&mut inv).now_or_never().is_none());
    drop(inv);
    let got = m.get("k").now_or_never();
    assert!(!matches!(got, Some(Ok(Some(_)))), "{got:?}");
}
#[test]
fn runtime_shutdown_keeps_the_debt_of_a_pattern() {
    let l2 = rb();
    l2.put("k", "v1");
    let m = manager(vec![quick(), l2.clone()]);
    l2.pattern_ms.store(200, SeqCst);
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let _ = timeout(Duration::from_millis(50), m.invalidate_pattern("k*")).await;
    });
    drop(rt);
    l2.pattern_ms.store(0, SeqCst);
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(rt.block_on(m.get("k")).ok().flatten(), None);
}
#[tokio::test]
async fn a_pattern_whose_backend_panicked_is_owed() {
    let l2 = rb();
    l2.put("k", "v1");
    let m = manager(vec![quick(), l2.clone()]);
    l2.pattern_panics.store(true, SeqCst);
    m.invalidate_pattern("k*").await.unwrap_err();
    assert_eq!(m.get("k").await.ok().flatten(), None);
}
#[tokio::test]
async fn a_decoded_hit_below_is_promoted() {
    let (l1, l2) = (quick(), Arc::new(DashMapCache::new()));
    let m = manager(vec![l1.clone(), l2.clone()]);
    m.set_with_strategy("k", Bytes::from_static(b"5"), MIN).await.unwrap();
    InProcess::evict(&*l1, "k");
    m.get_or_compute_shared("k", MIN, || async { Ok(7u8) }).await.unwrap();
    assert_eq!(m.get_stats().promotions, 1);
}
#[tokio::test]
async fn a_get_that_is_not_polled_does_not_hold_up_others() {
    let l2 = rb();
    l2.put("ok", "x");
    let m = manager(vec![quick(), l2.clone()]);
    l2.down.store(true, SeqCst);
    m.invalidate("k").await.unwrap_err();
    l2.down.store(false, SeqCst);
    let gate = l2.gate("many");
    let slow = m.get("a");
    tokio::pin!(slow);
    tokio::select! { biased; _ = &mut slow => {}, () = gate.reached() => {} }
    gate.open();
    let t = Instant::now();
    let got = m.get("ok").await;
    assert!(t.elapsed() < Duration::from_millis(500), "{:?} {got:?}", t.elapsed());
}
#[tokio::test]
async fn same_bytes_other_deadline() {
    static M: OnceLock<Arc<CacheManager>> = OnceLock::new();
    static L1: OnceLock<Arc<QuickCacheBackend>> = OnceLock::new();
    let l1 = quick();
    let _ = L1.set(l1.clone());
    let s = CacheSystemBuilder::new()
        .with_tier(l1.clone(), TierConfig::as_l1())
        .with_tier(Arc::new(DashMapCache::new()), TierConfig::as_l2())
        .with_promotion_condition(|key, _, _| {
            M.get()
                .unwrap()
                .set_with_strategy(key, b("1"), CacheStrategy::Custom(Duration::from_millis(300)))
                .now_or_never()
                .unwrap()
                .unwrap();
            true
        })
        .build()
        .await
        .unwrap();
    let _ = M.set(s.cache_manager.clone());
    s.cache_manager.set_with_strategy("k", b("1"), CacheStrategy::LongTerm).await.unwrap();
    InProcess::evict(&*l1, "k");
    s.cache_manager.get("k").await.unwrap();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(InProcess::lookup(&*l1, "k").map(|e| e.bytes().unwrap()), None);
}
#[tokio::test]
async fn ok_means_some_tier_took_it() {
    let l2 = rb();
    l2.down.store(true, SeqCst);
    let m = CacheManager::new_with_tiers(
        vec![CacheTier::new(quick(), 1, false, 1, 1e-12), CacheTier::new(l2.clone(), 2, true, 1, 1.0)],
        None,
    )
    .unwrap();
    assert!(m.set_with_strategy("k", b("v"), MIN).await.is_err());
}
#[tokio::test]
async fn one_refused_key_leaves_no_cost_on_others() {
    // a nonretryable pattern debt blocks the key debts behind it
    let l2 = rb();
    l2.put("k", "v1");
    let m = manager(vec![quick(), l2.clone()]);
    l2.down.store(true, SeqCst);
    m.invalidate_pattern("zz*").await.unwrap_err();
    m.invalidate("k").await.unwrap_err();
    l2.down.store(false, SeqCst);
    let n = l2.patterns.load(SeqCst);
    for _ in 0..5 {
        l2.pattern_panics.store(true, SeqCst);
        let _ = m.get("other").await;
    } // e.g. NOPERM on SCAN, for good
    l2.pattern_panics.store(true, SeqCst);
    assert!(
        m.get("k").await.is_ok(),
        "a healthy server, an owed key, and still refused; {} scans",
        l2.patterns.load(SeqCst) - n
    );
}
