//! The macros of `multi-tier-cache`, which re-exports them: use them from there.

mod cache_key;
mod cached;
mod errors;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `CacheKey` for a struct or enum: the key is its fields in their order, in an enum behind the variant's name.
/// Needs the feature `macros`, on by default.
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
/// | `Result<Option<Arc<V>>, LoadError<E>>` | `Result<Option<V>, E>` |
/// | `CacheResult<Arc<V>>` | `CacheResult<V>` |
/// | `CacheResult<Option<Arc<V>>>` | `CacheResult<Option<V>>` |
///
/// An alias of one of these does as well. `None` is an absence, remembered if the cache has a negative TTL.
///
/// # Options
///
/// Each is an expression in which the arguments and `self` can be used. `cache`, `key` and `options` are evaluated at
/// every call, `ttl` and `tags` unless there was a fresh hit in process.
///
/// * `cache`: a `&Cache<K, V>`. Must be given.
/// * `key`: the key, by value or by reference. Unless given it is the only argument, or the tuple of all in their order
///   (at most eight); without arguments `()`. An argument or a field that is the key, or a part of a tuple that is
///   written here, is borrowed; what another expression takes by value is gone for the body, as in any code.
/// * `ttl`: how long a loaded value is fresh, in place of the cache's TTL: a `Duration`, or a text such as `"500ms"`,
///   `"30s"`, `"5m"`, `"1h"`, `"7d"`. How long an absence is remembered stays the cache's affair.
/// * `tags`: strings by which the entry can be removed, in place of the cache's.
/// * `options`: `CallOptions`; not together with `ttl` and `tags`.
///
/// # Arguments
///
/// The load may outlive its caller, who may be cancelled or be answered a stale value meanwhile. What is passed by
/// value goes there. **What is borrowed (`&self`, `&str`, `&T`) is cloned if the body uses it**, and only when there
/// may be a load. It needs `Clone`, or `ToOwned` as `str` has, and ought to be cheap to clone, like a pool's handle;
/// the body sees the reference that was declared. A change through interior mutability that the clone does not share
/// is lost.
///
/// `self: Arc<Self>` works without `Self: Clone`; `self`, `&mut` and references within other types do not work. The
/// load must be `Send`. A fresh hit in process clones nothing, and allocates nothing unless the expressions do.
///
/// # Limits
///
/// In a method that borrows `self` a format's text cannot name it: write `format!("{}", self)`. Other attributes stay
/// on the function, outside of the load: a span of `tracing` covers the whole call, hits included. What is no argument,
/// a task-local user say, is not in the key unless the key says so.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, item: TokenStream) -> TokenStream {
    cached::expand(options.into(), &item.into()).into()
}
