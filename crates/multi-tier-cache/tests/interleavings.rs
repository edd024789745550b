//! One interleaving a test: puts, removals, patterns, promotions and failing backends caught at their worst moment.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use multi_tier_cache::backends::QuickCacheBackend;
use multi_tier_cache::entry::Entry;
use multi_tier_cache::*;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// One gate: the op that meets it says so and waits.
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
struct Remote {
    map: Mutex<HashMap<String, (Bytes, Option<Instant>)>>,
    gates: Mutex<HashMap<&'static str, Arc<Gate>>>, // taken by the next op of that name
    get_fails: AtomicBool,
    set_panics: AtomicBool,
    remove_panics: AtomicBool,
    slow_reply: Mutex<Option<Duration>>,
    late_set: Mutex<Option<Duration>>,
    sets: AtomicUsize,
    removes: AtomicUsize,
    shared: OnceLock<Weak<Remote>>,
}
impl Remote {
    fn new() -> Arc<Self> {
        let a = Arc::new(Self::default());
        let _ = a.shared.set(Arc::downgrade(&a));
        a
    }
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
    fn put(&self, k: &str, v: &'static str, ttl: Duration) {
        self.map.lock().unwrap().insert(k.into(), (Bytes::from(v), Some(Instant::now() + ttl)));
    }
    fn peek(&self, k: &str) -> Option<Bytes> {
        self.map.lock().unwrap().get(k).filter(|(_, e)| e.is_none_or(|e| e > Instant::now())).map(|(v, _)| v.clone())
    }
}
impl CacheBackend for Remote {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { self.get_with_ttl(key).await.map(|(v, _)| v) })
    }
    fn try_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(async move {
            if self.get_fails.load(SeqCst) {
                return Err(CacheError::BackendError(Failure::new("blip").retryable()));
            }
            Ok(self.get(key).await)
        })
    }
    fn set_with_ttl<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.sets.fetch_add(1, SeqCst);
            if self.set_panics.load(SeqCst) {
                panic!("set panics")
            }
            self.pass("set").await;
            let late = self.late_set.lock().unwrap().take();
            if let Some(by) = late {
                let (me, key) = (self.shared.get().unwrap().upgrade().unwrap(), key.to_owned());
                // as a backend on spawn_blocking does: the work goes on when its future is dropped
                let _ = tokio::spawn(async move {
                    sleep(by).await;
                    me.map.lock().unwrap().insert(key, (value, Some(Instant::now() + ttl)));
                })
                .await;
                return Ok(());
            }
            self.map.lock().unwrap().insert(key.into(), (value, Some(Instant::now() + ttl)));
            Ok(())
        })
    }
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.removes.fetch_add(1, SeqCst);
            self.pass("remove").await;
            if self.remove_panics.load(SeqCst) {
                panic!("remove panics")
            }
            self.map.lock().unwrap().remove(key);
            Ok(())
        })
    }
    fn remove_pattern<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async move {
            self.pass("pattern").await;
            assert_eq!(pattern, "k*");
            self.map.lock().unwrap().retain(|k, _| !k.starts_with('k'));
            Ok(())
        })
    }
    fn health_check(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
    fn name(&self) -> &'static str {
        "User"
    }
}
impl L2CacheBackend for Remote {
    fn try_get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, CacheResult<Option<(Bytes, Option<Duration>)>>> {
        Box::pin(async move {
            if self.get_fails.load(SeqCst) {
                return Err(CacheError::BackendError(Failure::new("blip").retryable()));
            }
            Ok(self.get_with_ttl(key).await)
        })
    }
    fn get_with_ttl<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        Box::pin(async move {
            let found = self.map.lock().unwrap().get(key).and_then(|(v, e)| {
                let left = e.map(|e| e.saturating_duration_since(Instant::now()));
                (left != Some(Duration::ZERO)).then(|| (v.clone(), left))
            });
            self.pass("get reply").await;
            let slow = *self.slow_reply.lock().unwrap();
            if let Some(by) = slow {
                sleep(by).await
            }
            found
        })
    }
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
const LONG: Duration = Duration::from_secs(600);
fn b(s: &'static str) -> Bytes {
    Bytes::from_static(s.as_bytes())
}

#[tokio::test]
async fn a_reader_after_a_put_gets_the_put_value_not_a_running_flights() {
    let (l1, l2) = (Remote::new(), Remote::new());
    l1.put("k", "v1", LONG);
    l2.put("k", "v1", LONG);
    let m = manager(vec![l1.clone(), l2.clone()]);
    let set = l2.gate("set");
    let put = tokio::spawn({
        let m = m.clone();
        async move { m.set_with_strategy("k", b("v2"), MIN).await }
    });
    set.reached().await;
    let reply = l1.gate("get reply");
    let r1 = tokio::spawn({
        let m = m.clone();
        async move { m.get("k").await }
    });
    reply.reached().await;
    set.open();
    put.await.unwrap().unwrap();
    let r2 = tokio::spawn({
        let m = m.clone();
        async move { m.get("k").await }
    });
    sleep(Duration::from_millis(30)).await;
    reply.open();
    r1.await.unwrap().unwrap();
    assert_eq!(r2.await.unwrap().unwrap(), Some(b("v2")));
}

#[tokio::test]
async fn a_load_that_began_before_a_put_took_effect_does_not_replace_it() {
    let l2 = Remote::new();
    let m = manager(vec![quick(), l2.clone()]);
    let set = l2.gate("set");
    let put = tokio::spawn({
        let m = m.clone();
        async move { m.set_with_strategy("k", b("put"), MIN).await }
    });
    set.reached().await;
    let loading = Gate::new();
    let load = tokio::spawn({
        let (m, g) = (m.clone(), loading.clone());
        async move {
            m.get_or_compute_with("k", MIN, || async {
                g.meet().await;
                Ok(b("loaded"))
            })
            .await
        }
    });
    loading.reached().await;
    set.open();
    put.await.unwrap().unwrap();
    assert_eq!(m.get("k").await.unwrap(), Some(b("put")));
    loading.open();
    load.await.unwrap().unwrap();
    assert_eq!((m.get("k").await.unwrap(), l2.peek("k")), (Some(b("put")), Some(b("put"))));
}

#[tokio::test]
async fn a_put_of_ttl_zero_leaves_nothing_in_l1() {
    let l2 = Remote::new();
    l2.put("k", "v1", LONG);
    let m = manager(vec![quick(), l2.clone()]);
    let remove = l2.gate("remove");
    let put = tokio::spawn({
        let m = m.clone();
        async move { m.set_with_strategy("k", b("v2"), CacheStrategy::Custom(Duration::ZERO)).await }
    });
    remove.reached().await;
    assert_eq!(m.get("k").await.unwrap(), Some(b("v1"))); // promotes
    remove.open();
    put.await.unwrap().unwrap();
    assert_eq!(l2.peek("k"), None);
    assert_eq!(m.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_put_beside_a_pattern_is_read_by_its_writer() {
    let l2 = Remote::new();
    l2.put("k", "v1", LONG);
    let m = manager(vec![quick(), l2.clone()]);
    let set = l2.gate("set");
    let put = tokio::spawn({
        let m = m.clone();
        async move { m.set_with_strategy("k", b("v2"), MIN).await }
    });
    set.reached().await;
    let scan = l2.gate("pattern");
    let pattern = tokio::spawn({
        let m = m.clone();
        async move { m.invalidate_pattern("k*").await }
    });
    sleep(Duration::from_millis(30)).await; // revoked, waits for the put's turn
    assert_eq!(m.get("k").await.unwrap(), Some(b("v1"))); // promotes under the pattern's stamp
    set.open();
    put.await.unwrap().unwrap();
    let seen = m.get("k").await.unwrap();
    scan.open();
    pattern.await.unwrap().unwrap();
    assert_ne!(seen, Some(b("v1")));
}

#[tokio::test]
async fn nothing_is_left_in_l2_after_a_pattern() {
    let (l2, l3) = (Remote::new(), Remote::new());
    l3.put("k", "v1", LONG);
    let m = manager(vec![quick(), l2.clone(), l3.clone()]);
    let scan3 = l3.gate("pattern");
    let pattern = tokio::spawn({
        let m = m.clone();
        async move { m.invalidate_pattern("k*").await }
    });
    scan3.reached().await;
    let set2 = l2.gate("set");
    let r = tokio::spawn({
        let m = m.clone();
        async move { m.get("k").await }
    });
    set2.reached().await; // read v1 from L3, on its way into L2
    scan3.open();
    sleep(Duration::from_millis(50)).await; // in vain: today the pattern is Ok by now
    set2.open();
    pattern.await.unwrap().unwrap();
    r.await.unwrap().unwrap();
    assert_eq!((l2.peek("k"), m.get("k").await.unwrap()), (None, None));
}

/// An in-process store with a hook at `evict_where`.
#[derive(Default)]
struct Hooked {
    map: Mutex<HashMap<String, Entry>>,
    hook: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}
impl InProcess for Hooked {
    fn lookup(&self, key: &str) -> Option<Entry> {
        self.map.lock().unwrap().get(key).cloned()
    }
    fn store(&self, key: &Arc<str>, entry: Entry) {
        self.map.lock().unwrap().insert(key.to_string(), entry);
    }
    fn evict(&self, key: &str) {
        self.map.lock().unwrap().remove(key);
    }
    fn evict_where(&self, matches: &dyn Fn(&str) -> bool) {
        let hook = self.hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook()
        }
        self.map.lock().unwrap().retain(|k, _| !matches(k));
    }
}
impl CacheBackend for Hooked {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        unreachable!()
    }
    fn set_with_ttl<'a>(&'a self, _: &'a str, _: Bytes, _: Duration) -> BoxFuture<'a, CacheResult<()>> {
        unreachable!()
    }
    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        unreachable!()
    }
    fn health_check(&self) -> BoxFuture<'_, bool> {
        unreachable!()
    }
    fn name(&self) -> &'static str {
        "Hooked"
    }
    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        Some(self)
    }
}
impl L2CacheBackend for Hooked {
    fn get_with_ttl<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        unreachable!()
    }
}

#[tokio::test]
async fn nothing_is_left_in_l1_after_a_pattern_on_in_process_tiers() {
    let (l1, l2) = (Arc::new(Hooked::default()), Arc::new(Hooked::default()));
    let (in_condition, was_in_condition) = mpsc::channel::<()>();
    let (pattern_done, is_pattern_done) = mpsc::channel::<()>();
    let is_pattern_done = Mutex::new(is_pattern_done);
    let s = CacheSystemBuilder::new()
        .with_tier(l1.clone(), TierConfig::as_l1())
        .with_tier(l2.clone(), TierConfig::as_l2())
        .with_promotion_condition(move |_, _, _| {
            let _ = in_condition.send(());
            let _ = is_pattern_done.lock().unwrap().recv_timeout(Duration::from_millis(500));
            true
        })
        .build()
        .await
        .unwrap();
    let m = s.cache_manager;
    m.set_with_strategy("k", b("v1"), MIN).await.unwrap();
    l1.evict("k"); // L1 made room
    let reader: Arc<Mutex<Option<std::thread::JoinHandle<()>>>> = Arc::default();
    *l2.hook.lock().unwrap() = Some(Box::new({
        let (m, reader) = (m.clone(), reader.clone());
        move || {
            // the pattern has passed the table of flights; now a reader hits L2 and promotes
            *reader.lock().unwrap() = Some(std::thread::spawn(move || {
                m.get("k").now_or_never();
            }));
            was_in_condition.recv_timeout(Duration::from_secs(2)).unwrap();
        }
    }));
    m.invalidate_pattern("k*").await.unwrap();
    let _ = pattern_done.send(());
    reader.lock().unwrap().take().unwrap().join().unwrap();
    assert_eq!(m.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_put_that_is_ok_is_not_followed_by_the_value_before_it() {
    let l2 = Remote::new();
    l2.put("k", "v1", LONG);
    let m = manager(vec![quick(), l2.clone()]);
    l2.get_fails.store(true, SeqCst);
    let l3 = m.get_or_compute_with("other", MIN, || async { Ok(b("x")) }).await; // one blip, on another key
    assert!(l3.is_ok());
    l2.get_fails.store(false, SeqCst);
    let (sets, removes) = (l2.sets.load(SeqCst), l2.removes.load(SeqCst));
    m.set_with_strategy("k", b("v2"), CacheStrategy::Custom(Duration::from_millis(100))).await.unwrap();
    eprintln!("sets {} removes {}", l2.sets.load(SeqCst) - sets, l2.removes.load(SeqCst) - removes);
    assert_eq!(m.get("k").await.unwrap(), Some(b("v2")));
    sleep(Duration::from_millis(400)).await;
    assert_ne!(m.get("k").await.unwrap(), Some(b("v1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_set_costs_one_load() {
    let l2 = Remote::new();
    l2.set_panics.store(true, SeqCst);
    let m = manager(vec![quick(), l2.clone()]);
    let loads = Arc::new(AtomicUsize::new(0));
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (m, loads) = (m.clone(), loads.clone());
        set.spawn(async move {
            m.get_or_compute_with("k", MIN, || async {
                loads.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(50)).await;
                Ok(b("x"))
            })
            .await
        });
    }
    while let Some(r) = set.join_next().await {
        r.unwrap().unwrap();
    }
    assert_eq!(loads.load(SeqCst), 1);
}

#[test]
fn a_runtime_without_timers_works() {
    let m = manager(vec![quick(), Remote::new()]);
    let a = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let got = a.block_on(
        std::panic::AssertUnwindSafe(m.get_or_compute_with("k", MIN, || async { Ok(b("x")) })).catch_unwind(),
    );
    assert!(got.is_ok());
}

#[test]
fn a_promotion_condition_may_use_the_cache() {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        static M: OnceLock<Arc<CacheManager>> = OnceLock::new();
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let l1 = Arc::new(Hooked::default());
        let s = rt
            .block_on(
                CacheSystemBuilder::new()
                    .with_tier(l1.clone(), TierConfig::as_l1())
                    .with_tier(Arc::new(DashMapCache::new()), TierConfig::as_l2())
                    .with_promotion_condition(|key, _, _| {
                        let _ = M.get().unwrap().invalidate(key).now_or_never();
                        false
                    })
                    .build(),
            )
            .unwrap();
        let _ = M.set(s.cache_manager.clone());
        rt.block_on(async {
            s.cache_manager.set_with_strategy("k", b("v"), MIN).await.unwrap();
            l1.evict("k");
            let _ = s.cache_manager.get("k").await;
        });
        tx.send(()).unwrap();
    });
    assert!(rx.recv_timeout(Duration::from_secs(3)).is_ok(), "deadlock");
}

static DM: OnceLock<Arc<CacheManager>> = OnceLock::new();
#[derive(serde::Serialize, serde::Deserialize)]
struct Dropping(u8);
impl Drop for Dropping {
    fn drop(&mut self) {
        let _ = DM.get().unwrap().invalidate("child-of-k").now_or_never();
        let _ = DM.get().unwrap().invalidate("k").now_or_never();
    }
}
#[tokio::test]
async fn a_promoted_copy_does_not_outlive_its_source() {
    let l2 = Remote::new();
    l2.put("k", "v1", Duration::from_millis(700));
    *l2.slow_reply.lock().unwrap() = Some(Duration::from_millis(500));
    let m = manager(vec![quick(), l2.clone()]);
    assert_eq!(m.get("k").await.unwrap(), Some(b("v1")));
    sleep(Duration::from_millis(400)).await;
    assert_eq!(l2.peek("k"), None);
    *l2.slow_reply.lock().unwrap() = None;
    assert_eq!(m.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn the_second_local_drop_is_not_skipped_by_a_panic() {
    let l2 = Remote::new();
    l2.put("k", "v1", LONG);
    l2.remove_panics.store(true, SeqCst);
    let quick = quick();
    let m = manager(vec![quick.clone(), l2.clone()]);
    let remove = l2.gate("remove");
    let inv = tokio::spawn({
        let m = m.clone();
        async move { m.invalidate("k").await }
    });
    remove.reached().await;
    m.get("k").await.unwrap();
    remove.open();
    inv.await.unwrap().unwrap_err();
    assert_eq!(quick.lookup("k").map(|e| e.bytes().unwrap()), None);
}

#[tokio::test]
async fn a_value_without_bytes_is_a_miss_for_a_bytes_caller() {
    let m = manager(vec![quick()]);
    let map = || async { Ok(HashMap::from([((1u8, 2u8), 3u8)])) }; // JSON has no such key
    m.get_or_compute_shared("k", MIN, map).await.unwrap();
    assert_eq!(m.get_or_compute_with("k", MIN, || async { Ok(b("x")) }).await.unwrap(), b("x"));
}

#[derive(serde::Deserialize)]
struct Bad;
impl serde::Serialize for Bad {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("serialize")
    }
}
#[tokio::test]
async fn a_panic_in_serialize_is_an_error() {
    let m = manager(vec![quick(), Remote::new()]);
    let typed =
        std::panic::AssertUnwindSafe(m.get_or_compute_typed("a", MIN, || async { Ok(Bad) })).catch_unwind().await;
    assert!(typed.is_ok());
    let shared =
        std::panic::AssertUnwindSafe(m.get_or_compute_shared("b", MIN, || async { Ok(Bad) })).catch_unwind().await;
    assert!(shared.is_ok());
}

#[tokio::test]
async fn partial_promotions_are_counted() {
    // L4 hit; copies go to L3, then L2, then L1; an invalidation... here: revoked between the copies
    let (l2, l3) = (Remote::new(), Remote::new());
    let l4 = Remote::new();
    l4.put("k", "v1", LONG);
    let m = manager(vec![quick(), l2.clone(), l3.clone(), l4.clone()]);
    let set3 = l3.gate("set");
    let r = tokio::spawn({
        let m = m.clone();
        async move { m.get("k").await }
    });
    set3.reached().await;
    let p = tokio::spawn({
        let m = m.clone();
        async move { m.invalidate_pattern("k*").await }
    });
    sleep(Duration::from_millis(30)).await;
    set3.open();
    r.await.unwrap().unwrap();
    p.await.unwrap().unwrap();
    assert_eq!(m.get_stats().promotions, 1, "one copy was made in L3");
}

// compile-time: spawnable with borrowed loaders
struct Db;
impl Db {
    async fn load(&self, k: &str) -> CacheResult<Bytes> {
        Ok(Bytes::from(k.to_owned()))
    }
}
#[tokio::test]
async fn spawnable() {
    let m = manager(vec![quick(), Remote::new()]);
    tokio::spawn(async move {
        let (db, key) = (Db, String::from("k"));
        m.get_or_compute_with(&key, MIN, || async { db.load(&key).await }).await.unwrap();
        m.get_or_compute_with(&key, MIN, || db.load(&key)).await.unwrap();
        m.get_or_compute_shared(&key, MIN, || async { db.load(&key).await.map(|b| b.to_vec()) }).await.unwrap();
    })
    .await
    .unwrap();
}

struct Counting(Hooked, AtomicUsize);
impl InProcess for Counting {
    fn lookup(&self, key: &str) -> Option<Entry> {
        self.1.fetch_add(1, SeqCst);
        self.0.lookup(key)
    }
    fn store(&self, key: &Arc<str>, entry: Entry) {
        self.0.store(key, entry)
    }
    fn evict(&self, key: &str) {
        self.0.evict(key)
    }
    fn evict_where(&self, m: &dyn Fn(&str) -> bool) {
        self.0.evict_where(m)
    }
}
impl CacheBackend for Counting {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        unreachable!()
    }
    fn set_with_ttl<'a>(&'a self, _: &'a str, _: Bytes, _: Duration) -> BoxFuture<'a, CacheResult<()>> {
        unreachable!()
    }
    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        unreachable!()
    }
    fn health_check(&self) -> BoxFuture<'_, bool> {
        unreachable!()
    }
    fn name(&self) -> &'static str {
        "Counting"
    }
    fn in_process(self: Arc<Self>) -> Option<Arc<dyn InProcess>> {
        Some(self)
    }
}
struct Bare(Bytes);
impl CacheBackend for Bare {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        unreachable!()
    }
    fn try_get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, CacheResult<Option<Bytes>>> {
        Box::pin(async { Ok(Some(self.0.clone())) })
    }
    fn set_with_ttl<'a>(&'a self, _: &'a str, _: Bytes, _: Duration) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async { Ok(()) })
    }
    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, CacheResult<()>> {
        Box::pin(async { Ok(()) })
    }
    fn health_check(&self) -> BoxFuture<'_, bool> {
        unreachable!()
    }
    fn name(&self) -> &'static str {
        "Bare"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::BUDGETED
    }
}
impl L2CacheBackend for Bare {
    fn get_with_ttl<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<(Bytes, Option<Duration>)>> {
        unreachable!()
    }
}
