//! `#[cached]`: what is the key, what is loaded and when, what callers get.
#![cfg(all(feature = "macros", feature = "test-util"))]
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use multi_tier_cache::testing::ManualClock;
use multi_tier_cache::{
    Arc, Cache, CacheError, CacheKey, CacheResult, CacheSystem, CacheSystemBuilder, CallOptions, DashMapCache,
    Freshness, LoadError, QuickCacheBackend, cached,
};

async fn system(time: &ManualClock) -> CacheSystem {
    let l1 = Arc::new(QuickCacheBackend::new(1_000).unwrap().with_clock(time.clock()));
    let l2 = Arc::new(DashMapCache::new().with_clock(time.clock()));
    CacheSystemBuilder::new().with_l1(l1).with_l2(l2).with_clock(time.clock()).build().await.unwrap()
}

async fn cache<K>(name: &str) -> Cache<K, String> {
    system(&ManualClock::new()).await.cache(name).unwrap()
}

/// Counts its loads.
#[derive(Clone, Default)]
struct Source(Arc<AtomicUsize>);

impl Source {
    async fn read(&self, what: impl std::fmt::Display) -> Result<String, Gone> {
        tokio::task::yield_now().await;
        Ok(format!("{what} #{}", self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }

    fn loads(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, PartialEq)]
struct Gone;

type Answer<T = String> = Result<Arc<T>, LoadError<Gone>>;

fn refused(_: Gone) -> CacheError {
    CacheError::ConfigError("gone".to_owned())
}

#[cached(cache = pages, key = id)]
async fn page(pages: &Cache<u64, String>, source: &Source, id: u64) -> Result<Arc<String>, LoadError<Gone>> {
    source.read(id).await
}

#[tokio::test]
async fn a_value_is_loaded_once_and_shared() {
    let (pages, source) = (cache("pages").await, Source::default());
    let calls = (0..20).map(|_| page(&pages, &source, 7));
    let answers = futures_util::future::join_all(calls).await;
    let first = answers[0].as_ref().unwrap();
    assert!(answers.iter().all(|answer| Arc::ptr_eq(first, answer.as_ref().unwrap())));
    assert!(Arc::ptr_eq(first, &page(&pages, &source, 7).await.unwrap()));
    assert_eq!((first.as_str(), source.loads()), ("7 #1", 1));
    assert_eq!((pages.stats().loads, pages.stats().hits), (1, 1));
}

#[derive(Clone)]
struct Shop {
    source: Source,
    names: Cache<(String, u64), String>,
    only: Cache<(), String>,
    owners: Cache<String, String>,
}

impl Shop {
    async fn open() -> Self {
        let system = system(&ManualClock::new()).await;
        Self {
            source: Source::default(),
            names: system.cache("names").unwrap(),
            only: system.cache("only").unwrap(),
            owners: system.cache("owners").unwrap(),
        }
    }

    /// All arguments are the key, whether borrowed or not.
    #[cached(cache = &self.names)]
    async fn name(&self, tenant: &str, mut id: u64) -> Answer {
        id += 1;
        self.source.read(format!("{tenant} {}", id - 1)).await
    }

    #[cached(cache = &self.only)]
    pub(crate) async fn only(&self) -> Answer {
        struct Inner(u8);
        impl Inner {
            fn get(&self) -> u8 {
                self.0
            }
        }
        let read = async |what| self.source.read(what).await;
        read(Inner(7).get()).await
    }

    #[cached(cache = &self.owners)]
    async fn owner(self: Arc<Self>, name: String) -> Answer {
        self.source.read(name).await
    }

    #[cached(cache = &self.owners)]
    async fn owner_too(self: &Arc<Self>, mut name: &str) -> Answer {
        name = name.trim();
        self.source.read(name).await
    }
}

#[tokio::test]
async fn the_arguments_are_the_key() {
    let shop = Shop::open().await;
    assert_eq!(*shop.name("tea", 7).await.unwrap(), "tea 7 #1");
    assert_eq!(*shop.name("tea", 8).await.unwrap(), "tea 8 #2");
    assert_eq!(*shop.name("tea", 7).await.unwrap(), "tea 7 #1");
    assert!(shop.names.contains(&("tea".to_owned(), 8)).await.unwrap());
    assert_eq!(*shop.only().await.unwrap(), "7 #3");
    assert_eq!(*shop.only().await.unwrap(), "7 #3");
}

#[tokio::test]
async fn a_method_may_share_itself_instead_of_being_cloned() {
    let shop = Arc::new(Shop::open().await);
    assert_eq!(*Arc::clone(&shop).owner("ada".to_owned()).await.unwrap(), "ada #1");
    assert_eq!(*shop.owner_too("ada").await.unwrap(), "ada #1");
    assert_eq!(*shop.owner_too("bob").await.unwrap(), "bob #2");
}

#[derive(CacheKey)]
struct Order {
    tenant: String,
    id: u64,
}

#[cached(cache = orders, key = (order.tenant, u64::from(part)))]
async fn part(orders: &Cache<(String, u64), String>, source: Source, order: Order, part: u8) -> Answer {
    source.read(format!("{}/{}", order.id, order.tenant)).await
}

#[cached(cache = &cached, key = &Order { tenant: "tea".to_owned(), id })]
async fn whole<S>(cached: Cache<Order, String>, (source, id): (S, u64)) -> Answer
where
    S: AsRef<Source> + Send + Sync + 'static,
{
    source.as_ref().read(id).await
}

impl AsRef<Source> for Source {
    fn as_ref(&self) -> &Source {
        self
    }
}

#[tokio::test]
async fn a_key_may_be_given() {
    let (source, orders) = (Source::default(), cache("orders").await);
    let order = |id| Order { tenant: "tea".to_owned(), id };
    assert_eq!(*part(&orders, source.clone(), order(7), 1).await.unwrap(), "7/tea #1");
    assert_eq!(*part(&orders, source.clone(), order(8), 1).await.unwrap(), "7/tea #1");
    assert_eq!(*part(&orders, source.clone(), order(8), 2).await.unwrap(), "8/tea #2");
    let orders = cache("whole").await;
    assert_eq!(*whole(orders.clone(), (source.clone(), 7)).await.unwrap(), "7 #3");
    assert_eq!(*whole(orders.clone(), (source.clone(), 7)).await.unwrap(), "7 #3");
    assert!(orders.contains(&order(7)).await.unwrap());
}

#[cached(cache = pages, key = id, ttl = "30s")]
async fn brief(pages: &Cache<u64, String>, source: &Source, id: u64) -> Answer {
    source.read(id).await
}

#[cached(cache = pages, key = id, ttl = Duration::from_secs(id))]
async fn as_long_as_its_number(pages: &Cache<u64, String>, source: &Source, id: u64) -> Answer {
    source.read(id).await
}

#[tokio::test]
async fn a_value_is_kept_for_its_ttl() {
    let (time, source) = (ManualClock::new(), Source::default());
    let pages = system(&time).await.cache("pages").unwrap();
    assert_eq!(*brief(&pages, &source, 7).await.unwrap(), "7 #1");
    assert_eq!(*as_long_as_its_number(&pages, &source, 20).await.unwrap(), "20 #2");
    time.advance(Duration::from_millis(19_900));
    assert_eq!(*as_long_as_its_number(&pages, &source, 20).await.unwrap(), "20 #2");
    time.advance(Duration::from_secs(10));
    assert_eq!(*brief(&pages, &source, 7).await.unwrap(), "7 #1");
    assert_eq!(*as_long_as_its_number(&pages, &source, 20).await.unwrap(), "20 #3");
    time.advance(Duration::from_millis(100));
    assert_eq!(*brief(&pages, &source, 7).await.unwrap(), "7 #4");
}

#[cached(cache = pages, key = id, tags = [format!("user:{}", user.as_str()), "pages".to_owned()])]
async fn tagged(pages: &Cache<u64, String>, source: &Source, id: u64, user: String) -> Answer {
    drop(user);
    source.read(id).await
}

#[tokio::test]
async fn tagged_entries_can_be_removed() {
    let (pages, source) = (cache("pages").await, Source::default());
    for (id, user) in [(1, "ada"), (2, "bob"), (1, "ada")] {
        tagged(&pages, &source, id, user.to_owned()).await.unwrap();
    }
    pages.remove_tag("user:ada").await.unwrap();
    assert_eq!((pages.contains(&1).await.unwrap(), pages.contains(&2).await.unwrap()), (false, true));
    pages.remove_tag("pages").await.unwrap();
    assert!(!pages.contains(&2).await.unwrap());
    assert_eq!(source.loads(), 2);
}

#[cached(cache = pages, key = id, options = options.clone())]
async fn under(pages: &Cache<u64, String>, source: &Source, id: u64, options: &CallOptions) -> Answer {
    source.read(id).await
}

#[tokio::test]
async fn a_call_may_have_options() {
    let (pages, source) = (cache("pages").await, Source::default());
    let plain = CallOptions::default();
    assert_eq!(*under(&pages, &source, 7, &plain).await.unwrap(), "7 #1");
    assert_eq!(*under(&pages, &source, 7, &plain).await.unwrap(), "7 #1");
    assert_eq!(*under(&pages, &source, 8, &plain.clone().read_only()).await.unwrap(), "8 #2");
    assert!(!pages.contains(&8).await.unwrap());
    let many = CallOptions::default().with_tags((0..100).map(|tag| tag.to_string()));
    let Err(LoadError::Cache(CacheError::ConfigError(_))) = under(&pages, &source, 9, &many).await else { panic!() };
    assert_eq!(source.loads(), 2);
}

#[cached(cache = pages, key = id, ttl = "1h")]
async fn perhaps(pages: &Cache<u64, String>, source: &Source, id: u64) -> Result<Option<Arc<String>>, LoadError<Gone>> {
    let text = source.read(id).await?;
    if id == 0 {
        return Ok(None);
    }
    Ok(Some(text))
}

#[cached(cache = pages, key = id)]
async fn surely(pages: &Cache<u64, String>, id: u64) -> CacheResult<Arc<String>> {
    Ok("some".to_owned())
}

#[tokio::test]
async fn absence_is_remembered_as_the_cache_says() {
    let (time, source) = (ManualClock::new(), Source::default());
    let system = system(&time).await;
    let freshness = Freshness::new(Duration::from_secs(60)).with_negative_ttl(Duration::from_secs(5));
    let pages = system.cache_builder("pages").freshness(freshness).build().unwrap();
    assert_eq!(perhaps(&pages, &source, 0).await.unwrap(), None);
    assert_eq!(perhaps(&pages, &source, 0).await.unwrap(), None);
    assert_eq!(source.loads(), 1);
    assert!(matches!(surely(&pages, 0).await, Err(CacheError::NotFound)));
    time.advance(Duration::from_secs(5));
    assert_eq!(perhaps(&pages, &source, 0).await.unwrap(), None);
    assert_eq!(perhaps(&pages, &source, 1).await.unwrap().unwrap().as_str(), "1 #3");
    let forgetful = system.cache("forgetful").unwrap();
    assert_eq!(perhaps(&forgetful, &source, 0).await.unwrap(), None);
    assert_eq!(perhaps(&forgetful, &source, 0).await.unwrap(), None);
    assert_eq!(source.loads(), 5);
}

#[cached(cache = pages, key = id)]
async fn failing(pages: &Cache<u64, String>, id: u64) -> Answer {
    if id == 0 {
        return Err(Gone);
    }
    Err(Gone)?
}

#[cached(cache = pages, key = id)]
async fn refusing(pages: &Cache<u64, String>, source: Source, id: u64) -> CacheResult<Option<Arc<String>>> {
    source.read(id).await.map_err(refused)?;
    Err(refused(Gone))
}

#[tokio::test]
async fn errors_reach_callers() {
    let (pages, source) = (cache("pages").await, Source::default());
    for id in [0, 1] {
        let Err(LoadError::Load(error)) = failing(&pages, id).await else { panic!() };
        assert_eq!(*error, Gone);
    }
    let Err(CacheError::ConfigError(why)) = refusing(&pages, source, 0).await else { panic!() };
    assert_eq!(why, "gone");
}

#[tokio::test]
async fn a_stale_value_is_answered_and_loaded_anew() {
    let (time, source) = (ManualClock::new(), Source::default());
    let freshness = Freshness::new(Duration::from_secs(60)).with_stale_while_revalidate(Duration::from_secs(60));
    let pages = system(&time).await.cache_builder("pages").freshness(freshness).build().unwrap();
    page(&pages, &source, 7).await.unwrap();
    time.advance(Duration::from_secs(61));
    assert_eq!(*page(&pages, &source, 7).await.unwrap(), "7 #1");
    while source.loads() < 2 {
        tokio::task::yield_now().await;
    }
    while *page(&pages, &source, 7).await.unwrap() != "7 #2" {
        tokio::task::yield_now().await;
    }
    assert_eq!(source.loads(), 2);
}

/// In a trait's implementation there is no room for a second method.
trait Read {
    fn read(&self, id: u64) -> impl Future<Output = Answer> + Send;
}

#[derive(Clone)]
struct Reader(Cache<u64, String>, Source);

impl Read for Reader {
    #[cached(cache = &self.0)]
    async fn read(&self, id: u64) -> Answer {
        assert!(id > 0, "{} loads", self.1.loads());
        self.1.read(id).await
    }
}

#[tokio::test]
async fn a_traits_method_may_be_cached_and_sent_to_a_task() {
    let reader = Reader(cache("reader").await, Source::default());
    let spawned = tokio::spawn({
        let reader = reader.clone();
        async move { reader.read(7).await }
    });
    assert_eq!(*spawned.await.unwrap().unwrap(), "7 #1");
    assert_eq!(*reader.read(7).await.unwrap(), "7 #1");
}

/// Cannot be cloned, and need not be: its loads do not use it.
struct Fixed {
    pages: Cache<u64, String>,
}

impl Fixed {
    #[cached(cache = &self.pages, key = id)]
    async fn page(&self, source: &Source, id: u64) -> Answer {
        source.read(format!("{id}")).await
    }
}

#[tokio::test]
async fn what_the_load_does_not_use_is_not_cloned() {
    let (fixed, source) = (Fixed { pages: cache("pages").await }, Source::default());
    assert_eq!(*fixed.page(&source, 7).await.unwrap(), "7 #1");
    let owners = Arc::strong_count(&source.0);
    let hit = fixed.page(&source, 7).await.unwrap();
    assert_eq!((hit.as_str(), Arc::strong_count(&source.0)), ("7 #1", owners));
}

/// Names of a caller that the generated code must not take for its own.
mod hygiene {
    #![allow(dead_code, non_camel_case_types, reason = "names that get in the way")]

    struct Answer;
    struct Option;
    struct String;
    mod multi_tier_cache {}

    macro_rules! declare {
        ($name:ident, $cache:ident, $id:ident: $type:ty, $key:expr, $ttl:literal) => {
            /// Documented.
            #[::multi_tier_cache::cached(cache = $cache, key = $key, ttl = $ttl)]
            #[must_use = "it is a sum"]
            pub(super) async fn $name(
                $cache: &::multi_tier_cache::Cache<u64, u64>,
                $id: $type,
                this: &u64,
                loaded: u64,
            ) -> ::multi_tier_cache::CacheResult<::multi_tier_cache::Arc<u64>> {
                let owned_2 = *this;
                Ok($id + owned_2 + loaded)
            }
        };
    }

    declare! { sum, call, owned_0: u64, owned_0, "1m" }
}

#[tokio::test]
async fn generated_code_takes_no_name_of_the_caller() {
    let sums = system(&ManualClock::new()).await.cache("sums").unwrap();
    assert_eq!(*hygiene::sum(&sums, 1, &2, 3).await.unwrap(), 6);
    assert_eq!(*hygiene::sum(&sums, 1, &0, 0).await.unwrap(), 6);
}
