//! A web shop in a SQLite file, and the expensive question asked of it: everything on a product's page.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use fastrand::Rng;
use multi_tier_cache::{CacheError, CacheResult, Failure};
use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::zipf::Zipf;

const SCHEMA: &str = "
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE categories (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE products (id INTEGER PRIMARY KEY, category INTEGER NOT NULL, name TEXT NOT NULL, cents INTEGER NOT NULL);
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, placed TEXT NOT NULL);
    CREATE TABLE lines (orders INTEGER NOT NULL, product INTEGER NOT NULL, quantity INTEGER NOT NULL, cents INTEGER NOT NULL);
    CREATE TABLE reviews (product INTEGER NOT NULL, customer INTEGER NOT NULL, stars INTEGER NOT NULL);";

const INDEXES: &str = "
    CREATE INDEX lines_by_product ON lines (product);
    CREATE INDEX lines_by_order ON lines (orders);
    CREATE INDEX reviews_by_product ON reviews (product);
    ANALYZE;";

const PAGE: &str = "
    SELECT p.name, c.name, p.cents, r.reviews, r.rating, s.units, s.revenue, s.buyers,
        (SELECT json_group_array(json_object('customer', name, 'city', city, 'placed', placed, 'quantity', quantity))
         FROM (SELECT u.name, u.city, o.placed, l.quantity
               FROM lines l JOIN orders o ON o.id = l.orders JOIN customers u ON u.id = o.customer
               WHERE l.product = ?1 ORDER BY o.placed DESC, l.rowid DESC LIMIT 5)),
        (SELECT json_group_array(name)
         FROM (SELECT q.name FROM lines l JOIN lines other ON other.orders = l.orders JOIN products q ON q.id = other.product
               WHERE l.product = ?1 AND other.product <> ?1
               GROUP BY other.product ORDER BY COUNT(*) DESC, other.product LIMIT 3))
    FROM products p JOIN categories c ON c.id = p.category,
        (SELECT COUNT(*) AS reviews, CAST(ROUND(100 * AVG(stars)) AS INTEGER) AS rating FROM reviews WHERE product = ?1) r,
        (SELECT COALESCE(SUM(l.quantity), 0) AS units, COALESCE(SUM(l.quantity * l.cents), 0) AS revenue,
                COUNT(DISTINCT o.customer) AS buyers
         FROM lines l JOIN orders o ON o.id = l.orders WHERE l.product = ?1) s
    WHERE p.id = ?1";

const QUALITIES: [&str; 8] = ["Light", "Sturdy", "Classic", "Compact", "Foldable", "Quiet", "Warm", "Plain"];
const MATERIALS: [&str; 8] = ["Oak", "Steel", "Linen", "Leather", "Bamboo", "Glass", "Wool", "Copper"];
const THINGS: [&str; 10] = ["Lamp", "Chair", "Kettle", "Bag", "Desk", "Clock", "Shelf", "Blanket", "Knife", "Bowl"];
const FIRST_NAMES: [&str; 10] = ["Ada", "Björn", "Chloé", "Deniz", "Eva", "Farid", "Grete", "Hugo", "Inés", "Jun"];
const LAST_NAMES: [&str; 8] = ["Okafor", "Lindqvist", "Moreau", "Yılmaz", "Novák", "Haddad", "Tanaka", "Silva"];
const CITIES: [&str; 8] = ["Lagos", "Göteborg", "Lyon", "İzmir", "Brno", "Beirut", "Kyoto", "Porto"];

/// What a product's page shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProductPage {
    name: String,
    category: String,
    cents: i64,
    reviews: i64,
    /// In hundredths of a star.
    rating: Option<i64>,
    units_sold: i64,
    revenue_cents: i64,
    buyers: i64,
    recent_orders: Vec<RecentOrder>,
    bought_together: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecentOrder {
    customer: String,
    city: String,
    placed: String,
    quantity: i64,
}

/// The database, read through a small pool of connections on blocking threads.
pub(crate) struct Shop {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    queries: AtomicU64,
    products: u32,
}

impl Shop {
    /// Fills a new database with about `rows` rows, always the same ones.
    pub(crate) fn create(file: &Path, rows: u32) -> rusqlite::Result<Self> {
        let products = (rows * 3 / 20).max(1);
        let mut connection = Connection::open(file)?;
        connection.execute_batch(SCHEMA)?;
        let transaction = connection.transaction()?;
        fill(&transaction, rows, products)?;
        transaction.commit()?;
        connection.execute_batch(INDEXES)?;
        let size = available_parallelism().map_or(2, usize::from);
        let pool = (0..size).map(|_| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(file, flags)?;
            connection.pragma_update(None, "cache_size", -65_536)?;
            // Without it every query is planned anew for its parameter.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            Ok(connection)
        });
        Ok(Self {
            idle: Mutex::new(pool.collect::<rusqlite::Result<_>>()?),
            permits: Arc::new(Semaphore::new(size)),
            queries: AtomicU64::new(0),
            products,
        })
    }

    pub(crate) fn products(&self) -> u32 {
        self.products
    }

    /// How many pages were read from the database so far.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Reads a page from the database.
    pub(crate) async fn page(self: &Arc<Self>, product: u32) -> CacheResult<ProductPage> {
        let internal = |error: &dyn std::error::Error| CacheError::InternalError(error.to_string());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|error| internal(&error))?;
        let shop = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let connection = shop.idle.lock().pop().ok_or(CacheError::NotFound)?;
            let page = read(&connection, product);
            shop.idle.lock().push(connection);
            shop.queries.fetch_add(1, Ordering::Relaxed);
            drop(permit);
            page.map_err(|error| CacheError::BackendError(Failure::new("cannot read the page").caused_by(error)))
        });
        read.await.map_err(|error| internal(&error))??.ok_or(CacheError::NotFound)
    }
}

fn read(connection: &Connection, product: u32) -> rusqlite::Result<Option<ProductPage>> {
    let page = |row: &rusqlite::Row<'_>| {
        Ok(ProductPage {
            name: row.get(0)?,
            category: row.get(1)?,
            cents: row.get(2)?,
            reviews: row.get(3)?,
            rating: row.get(4)?,
            units_sold: row.get(5)?,
            revenue_cents: row.get(6)?,
            buyers: row.get(7)?,
            recent_orders: list(row, 8)?,
            bought_together: list(row, 9)?,
        })
    };
    connection.prepare_cached(PAGE)?.query_row([product], page).optional()
}

/// A column that holds a list as JSON.
fn list<T: for<'de> Deserialize<'de>>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Vec<T>> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// 15 % of the rows each are products, customers and orders, 10 % reviews, the rest the orders' lines.
fn fill(shop: &Transaction<'_>, rows: u32, products: u32) -> rusqlite::Result<()> {
    let mut random = Rng::with_seed(1);
    let popularity = Zipf::new(products, 0.6);
    let (customers, orders, reviews) = (products, products, rows / 10);
    let any = |random: &mut Rng, words: &[&'static str]| random.choice(words).copied().unwrap_or_default();
    let mut statement = shop.prepare("INSERT INTO categories VALUES (?, ?)")?;
    for (id, thing) in (0..).zip(THINGS) {
        statement.execute(params![id, format!("{thing}s")])?;
    }
    let mut statement =
        shop.prepare("INSERT INTO products SELECT ?1, id, ?3, ?4 FROM categories WHERE name = ?2 || 's'")?;
    for id in 0..products {
        let thing = any(&mut random, &THINGS);
        let name = format!("{} {} {thing} {id}", any(&mut random, &QUALITIES), any(&mut random, &MATERIALS));
        statement.execute(params![id, thing, name, random.u32(500..50_000)])?;
    }
    let mut statement = shop.prepare("INSERT INTO customers VALUES (?, ?, ?)")?;
    for id in 0..customers {
        let name = format!("{} {}", any(&mut random, &FIRST_NAMES), any(&mut random, &LAST_NAMES));
        statement.execute(params![id, name, any(&mut random, &CITIES)])?;
    }
    let mut statement = shop.prepare("INSERT INTO orders VALUES (?, ?, datetime(1767225600 + ?, 'unixepoch'))")?;
    for id in 0..orders {
        statement.execute(params![id, random.u32(0..customers), random.u32(0..25_000_000)])?;
    }
    let mut statement = shop.prepare("INSERT INTO lines SELECT ?, id, ?, cents FROM products WHERE id = ?")?;
    for _ in 0..rows - products - customers - orders - reviews {
        let product = popularity.draw(&mut random);
        statement.execute(params![random.u32(0..orders), random.u32(1..5), product])?;
    }
    let mut statement = shop.prepare("INSERT INTO reviews VALUES (?, ?, ?)")?;
    for _ in 0..reviews {
        let product = popularity.draw(&mut random);
        statement.execute(params![product, random.u32(0..customers), random.u32(1..=5)])?;
    }
    Ok(())
}
