//! The guide: a page for each concept, with examples that are compiled and, where they need no server, run.
//!
//! These are the files of `docs/guide`, for readers of the documentation; [the contents](contents) say where to begin.
//! The module is documentation only: no program contains it.

/// A module for each page. The first line gives the links of a page their targets in the documentation: a page's own are
/// those of the repository, and of two definitions of a link the first one counts. (So an example that fails is told with
/// the name of its page's module, and with a line that counts from the first of the links.)
macro_rules! pages {
    ($($name:ident $file:literal),+ $(,)?) => {
        $(
            #[doc = include_str!("../docs/guide/rustdoc-links.md")]
            #[doc = include_str!(concat!("../docs/guide/", $file))]
            pub mod $name {}
        )+
    };
}

pages! {
    contents "README.md",
    tiers "tiers.md",
    promotion "promotion.md",
    stampedes "stampedes.md",
    coherence "coherence.md",
    typed_caches "typed-caches.md",
    freshness "freshness.md",
    tags "tags.md",
    batch "batch.md",
    backends "backends.md",
    services "services.md",
    operations "operations.md",
    metrics "metrics.md",
    mtc "mtc.md",
    security "security.md",
    testing "testing.md",
    tuning "tuning.md",
    from_0_6 "migration/multi-tier-cache-0.6.md",
    from_cached "migration/cached.md",
    from_moka "migration/moka.md",
    from_redis "migration/redis-rs.md",
    faq "faq.md",
}
