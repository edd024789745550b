use multi_tier_cache_macros::CacheKey;

#[derive(CacheKey)]
#[cache_key(skip)]
struct Whole {
    id: u64,
}

#[derive(CacheKey)]
enum Either {
    #[cache_key(skip)]
    One,
    Two,
}

fn main() {}
