use std::sync::Arc;

use multi_tier_cache_macros::cached;

struct LoadError<E>(E);
type Answer = Result<Arc<String>, LoadError<()>>;

#[cached]
async fn without_any(id: u64) -> Answer {
    Ok(id.to_string())
}

#[cached(name = "users", key = id, tll = "5m")]
async fn unknown(id: u64) -> Answer {
    Ok(id.to_string())
}

#[cached(cache = users(), cache = users())]
async fn twice(id: u64) -> Answer {
    Ok(id.to_string())
}

#[cached(users())]
async fn unnamed(id: u64) -> Answer {
    Ok(id.to_string())
}

#[cached(cache: users())]
async fn punctuated_otherwise(id: u64) -> Answer {
    Ok(id.to_string())
}

#[cached(cache = users(), "key" = id)]
async fn quoted(id: u64) -> Answer {
    Ok(id.to_string())
}

#[cached(cache = users(), ttl = Duration::MAX, tags = ["a"], options = CallOptions::default())]
async fn said_twice(id: u64) -> Answer {
    Ok(id.to_string())
}

fn main() {}
