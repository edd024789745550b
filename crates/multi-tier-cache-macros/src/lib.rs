//! The macros of `multi-tier-cache`, which re-exports them: use them from there.

mod cache_key;
mod cached;
mod errors;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `CacheKey` for a struct or enum: the key is its fields in their order, in an enum behind the variant's name.
///
/// A field with `#[cache_key(skip)]` is no part of the key: **two values that differ only there share an entry**. Fit
/// for what does not change the answer, such as a trace id or a handle to the database.
///
/// Type parameters of the fields in the key must be keys themselves (`T: CacheKey`). For a parameter's associated type
/// (`T::Id`) the bound is to be written in a `where` clause of the type.
///
/// The order of the fields and the names of the variants are part of the key: if they change, a cache finds none of
/// its older entries, or another's. Then give it another name.
#[proc_macro_derive(CacheKey, attributes(cache_key))]
pub fn derive_cache_key(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    cache_key::derive(input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// What the function declares is what its callers get; its body is the load, which evaluates, with `?` and `return`, to
/// the same without the `Arc`:
///
/// | declared | the body evaluates to |
/// |---|---|
/// | `Result<Arc<V>, LoadError<E>>` | `Result<V, E>` |
/// | `Result<Option<Arc<V>>, LoadError<E>>` | `Result<Option<V>, E>`; `None` is an absence, as in `get_or_load_optional` |
/// | `CacheResult<Arc<V>>` | `CacheResult<V>` |
/// | `CacheResult<Option<Arc<V>>>` | `CacheResult<Option<V>>` |
///
/// An alias of one of these does as well.
///
/// # Options
///
/// | option | an expression, in which the arguments and `self` can be used | evaluated |
/// |---|---|---|
/// | `cache` | `&Cache<K, V>`; must be given | at every call |
/// | `key` | the key, by value or by reference. Unless given, the only argument, or the tuple of all in their order; without arguments `()` | at every call |
/// | `ttl` | a `Duration`, or a text such as `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`: how long a value is fresh, in place of the cache's TTL. How long an absence is remembered stays the cache's affair | unless there was a fresh hit |
/// | `tags` | strings by which the entry can be removed, in place of the cache's | unless there was a fresh hit |
/// | `options` | `CallOptions`; not together with `ttl` and `tags` | at every call |
///
/// An argument, or a field of one, that is named as the key or as part of a tuple is borrowed there; what another
/// expression takes by value is gone for the body, as in any code.
///
/// # Arguments
///
/// The load may outlive its caller, who may be cancelled or be answered a stale value meanwhile. What is passed by
/// value goes there; **what is borrowed (`&self`, `&str`, `&T`) is cloned, only when there may be a load**: it needs
/// `Clone`, or `ToOwned` as `str` has, and ought to be a handle that is cheap to clone. In the body it is the reference
/// that was declared. A change made through interior mutability that a clone does not share stays in the clone.
/// `self: Arc<Self>` works without a clone; `&mut` and references within other types do not. Everything must be `Send`.
///
/// A fresh hit in process clones and allocates nothing.
///
/// # Limits
///
/// In a method that borrows `self`, a format's text cannot name it: write `format!("{}", self)`. Other attributes stay
/// on the function, outside of the load: a span of `tracing` covers a whole call, hits included.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, item: TokenStream) -> TokenStream {
    cached::expand(options.into(), item.into()).into()
}
