use std::sync::Arc;

use multi_tier_cache_macros::cached;

struct LoadError<E>(E);
type Answer = Result<Arc<String>, LoadError<()>>;

macro_rules! lasting {
    ($($name:ident: $ttl:literal)*) => {$(
        #[cached(cache = users(), ttl = $ttl)]
        async fn $name(id: u64) -> Answer {
            Ok(id.to_string())
        }
    )*};
}

lasting! {
    a: "5 minutes"
    b: "s"
    c: "30"
    d: ""
    e: "-5s"
    f: "1.5h"
    g: "0s"
    h: "18446744073709551615d"
    i: 30
    j: 0.5
}

#[cached(cache = users(), ttl = -30)]
async fn negative(id: u64) -> Answer {
    Ok(id.to_string())
}

#[cached(cache = users(), ttl = "5 m")]
async fn spaced(id: u64) -> Answer {
    Ok(id.to_string())
}

fn main() {}
