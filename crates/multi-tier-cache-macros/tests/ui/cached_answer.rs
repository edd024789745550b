use std::sync::Arc;

use multi_tier_cache_macros::cached;

struct LoadError<E>(E);
type CacheResult<T> = Result<T, ()>;

#[cached(cache = users())]
async fn nothing(id: u64) {}

#[cached(cache = users())]
async fn a_value(id: u64) -> Result<String, LoadError<()>> {
    Ok(id.to_string())
}

#[cached(cache = users())]
async fn perhaps_a_value(id: u64) -> CacheResult<Option<String>> {
    Ok(Some(id.to_string()))
}

#[cached(cache = users())]
async fn no_result(id: u64) -> Arc<String> {
    Arc::new(id.to_string())
}

#[cached(cache = users())]
async fn a_tuple(id: u64) -> (u64, u64) {
    (id, id)
}

#[cached(cache = users())]
async fn a_reference(id: u64) -> &'static str {
    "user"
}

#[cached(cache = users())]
async fn opaque(id: u64) -> impl Clone {
    id
}

fn main() {}
