//! The source of truth: products in a SQLite file that all instances share.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS products (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, cents INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_category ON products (category, id);";

/// Products of a new database.
const PRODUCTS: i64 = 1_000;
const CATEGORIES: [&str; 4] = ["lamps", "chairs", "kettles", "clocks"];

/// How long a statement waits for another instance's.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: i64,
    #[serde(flatten)]
    pub(crate) details: Details,
}

/// What of a product can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) name: String,
    pub(crate) category: String,
    pub(crate) cents: u64,
}

/// One connection: a real service has a pool.
#[derive(Debug, Clone)]
pub(crate) struct Database(Arc<Mutex<Connection>>);

impl Database {
    /// Opens the file, and fills it if it is new.
    pub(crate) fn open(path: &str) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(SCHEMA)?;
        let has_products: bool =
            transaction.query_row("SELECT EXISTS (SELECT 1 FROM products)", [], |row| row.get(0))?;
        if !has_products {
            let mut insert = transaction.prepare("INSERT INTO products VALUES (?1, ?2, ?3, ?4)")?;
            for (id, category) in (1..=PRODUCTS).zip(CATEGORIES.iter().cycle()) {
                insert.execute(params![id, format!("Number {id}"), category, 100 * id])?;
            }
        }
        transaction.commit()?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    pub(crate) async fn product(&self, id: i64) -> Result<Option<Product>> {
        self.with(move |connection| {
            let mut query =
                connection.prepare_cached("SELECT id, name, category, cents FROM products WHERE id = ?1")?;
            query.query_row([id], product).optional()
        })
        .await
    }

    /// Those of the products that exist.
    pub(crate) async fn products(&self, ids: Vec<i64>) -> Result<Vec<(i64, Product)>> {
        let ids = serde_json::to_string(&ids)?;
        self.with(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, name, category, cents FROM products WHERE id IN (SELECT value FROM json_each(?1))",
            )?;
            let found = query.query_map([ids], |row| Ok((row.get(0)?, product(row)?)))?;
            found.collect()
        })
        .await
    }

    /// The products of a category; empty if there is no such category.
    pub(crate) async fn in_category(&self, category: String) -> Result<Vec<i64>> {
        self.with(move |connection| {
            let mut query = connection.prepare_cached("SELECT id FROM products WHERE category = ?1 ORDER BY id")?;
            query.query_map([category], |row| row.get(0))?.collect()
        })
        .await
    }

    /// Stores a product and answers the category that it was in before, if it is not new.
    pub(crate) async fn put(&self, id: i64, details: Details) -> Result<Option<String>> {
        self.with(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let category = "SELECT category FROM products WHERE id = ?1";
            let before = transaction.query_row(category, [id], |row| row.get(0)).optional()?;
            let Details { name, category, cents } = details;
            transaction.execute(
                "INSERT OR REPLACE INTO products VALUES (?1, ?2, ?3, ?4)",
                params![id, name, category, i64::try_from(cents).unwrap_or(i64::MAX)],
            )?;
            transaction.commit()?;
            Ok(before)
        })
        .await
    }

    /// SQLite blocks, so it has threads of its own.
    async fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.0);
        Ok(spawn_blocking(move || job(&mut connection.lock())).await??)
    }
}

fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    let cents: i64 = row.get(3)?;
    let details = Details { name: row.get(1)?, category: row.get(2)?, cents: cents.try_into().unwrap_or_default() };
    Ok(Product { id: row.get(0)?, details })
}
