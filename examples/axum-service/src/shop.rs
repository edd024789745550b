//! The catalogue, read through caches: the only place that knows what is cached, under which rules, and what a change
//! makes old.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::{
    Cache, CacheError, CacheResult, CacheSystem, CallOptions, Freshness, LoadError, Loaded, Position,
};

use crate::database::{Database, Details, Product};

const MINUTE: Duration = Duration::from_secs(60);

/// Why the catalogue cannot answer.
pub(crate) type Error = LoadError<anyhow::Error>;

/// Cheap to clone: one for each request.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    database: Database,
    products: Cache<i64, Product>,
    /// The products of a category.
    categories: Cache<String, Vec<i64>>,
}

/// What became of a change.
#[derive(Debug)]
pub(crate) enum Changed {
    /// Every instance sees it; one that is given the position, at once.
    Seen(Option<Position>),
    /// It is stored, and seen here. Redis is away: other instances see it when that is back, or when their values end.
    SeenLater(CacheError),
}

impl Shop {
    pub(crate) fn new(system: &CacheSystem, database: Database) -> CacheResult<Self> {
        let freshness = Freshness::new(10 * MINUTE)
            .with_jitter(0.1)
            .with_stale_while_revalidate(MINUTE)
            .with_stale_if_error(60 * MINUTE)
            .with_negative_ttl(MINUTE / 6)
            .with_load_deadlines(Some(Duration::from_millis(500)), Some(Duration::from_secs(5)));
        // The names of the types are set so that they may move to another module.
        let products = system.cache_builder("products").freshness(freshness).schema("product", 1).build()?;
        let categories = system.cache_builder("categories").freshness(freshness).schema("ids", 1).build()?;
        Ok(Self { database, products, categories })
    }

    /// A product, at least as new as `position`.
    pub(crate) async fn product(&self, id: i64, position: Option<Position>) -> Result<Option<Arc<Product>>, Error> {
        let (database, options) = (self.database.clone(), CallOptions::default().at_least(position));
        let load = move |_| async move { database.product(id).await.map(Loaded::from) };
        Ok(self.products.fetch(&id, &options, load).await?.into_value())
    }

    /// The products of a category: its list, then all of them with one question.
    pub(crate) async fn category(&self, name: &str) -> Result<Vec<Arc<Product>>, Error> {
        let (database, category) = (self.database.clone(), name.to_owned());
        let ids =
            self.categories.get_or_try_load(name, move || async move { database.in_category(category).await }).await?;
        let database = self.database.clone();
        let load = move |ids| {
            let database = database.clone();
            async move { database.products(ids).await }
        };
        let products = self.products.get_or_load_many(ids.iter(), load).await?;
        Ok(products.into_iter().flatten().collect())
    }

    /// Stores a product: first in the database, then the caches forget what it made old.
    pub(crate) async fn put(&self, id: i64, details: Details) -> anyhow::Result<Changed> {
        let category = details.category.clone();
        let before = self.database.put(id, details).await?;
        let lists = before.iter().chain([&category]);
        let (listed, removed) = (self.categories.remove_many(lists).await, self.products.remove(&id).await);
        // The product's comes later in the log, so it stands for both.
        Ok(match listed.and(removed) {
            Ok(position) => Changed::Seen(position),
            Err(error) => Changed::SeenLater(error),
        })
    }
}
