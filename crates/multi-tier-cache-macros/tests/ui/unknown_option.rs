use multi_tier_cache_macros::CacheKey;

#[derive(CacheKey)]
struct Named {
    #[cache_key(ignore)]
    id: u64,
    #[cache_key(skip = true)]
    name: String,
}

#[derive(CacheKey)]
struct Tuple(#[cache_key] u64, #[cache_key()] u64, #[cache_key = "skip"] u64);

#[derive(CacheKey)]
enum Either {
    One(#[cache_key(skip, skip)] u64),
}

fn main() {}
