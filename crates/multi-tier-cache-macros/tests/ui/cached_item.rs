use std::sync::Arc;

use multi_tier_cache_macros::cached;

struct LoadError<E>(E);
type Answer = Result<Arc<String>, LoadError<()>>;

#[cached(cache = users())]
struct Users;

#[cached(cache = users())]
fn not_async(id: u64) -> Answer {
    Ok(id.to_string())
}

trait Read {
    #[cached(cache = users())]
    async fn without_body(&self, id: u64) -> Answer;
}

/// Callers of what is wrong get no errors of their own.
#[cached(unknown = users(), ttl = 5)]
fn all_at_once(self_made: &mut u64) -> String {
    String::new()
}

async fn caller() -> String {
    all_at_once(&mut 7)
}

fn main() {}
