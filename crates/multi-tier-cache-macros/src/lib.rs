//! The macros of `multi-tier-cache`, which re-exports them: use them from there.

mod cache_key;

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
