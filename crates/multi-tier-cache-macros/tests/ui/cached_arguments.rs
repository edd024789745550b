use std::borrow::Cow;
use std::sync::Arc;

use multi_tier_cache_macros::cached;

struct LoadError<E>(E);
type Answer = Result<Arc<String>, LoadError<()>>;

#[cached(cache = users(), key = 7)]
async fn mutably(log: &mut Vec<u64>) -> Answer {
    Ok(String::new())
}

#[cached(cache = users(), key = 7)]
async fn within<'a>(name: Option<&str>, text: Cow<'_, str>, all: &[&'a str], dynamic: Box<dyn Fn() + 'a>) -> Answer {
    Ok(String::new())
}

#[cached(cache = users(), key = 7)]
async fn taken_apart(&(a, b): &(u64, u64)) -> Answer {
    Ok((a + b).to_string())
}

#[cached(cache = users())]
async fn in_the_key((a, b): (u64, u64), _: u64, whole @ 0..: u64, ref text: String) -> Answer {
    Ok((a + b).to_string())
}

fn main() {}
