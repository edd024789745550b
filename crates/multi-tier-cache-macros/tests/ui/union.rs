use multi_tier_cache_macros::CacheKey;

#[derive(CacheKey)]
union Either {
    signed: i64,
    unsigned: u64,
}

fn main() {}
