//! What stands in `#[cached(…)]`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Lit, Result, Token};

use super::arguments::Argument;
use crate::errors::{all, both};

/// The options of one attribute.
pub(super) struct Options {
    pub(super) cache: Expr,
    key: Option<Expr>,
    /// A `Duration`.
    ttl: Option<TokenStream>,
    tags: Option<Expr>,
    /// The `CallOptions`.
    of_call: Option<Expr>,
}

/// `name = value`.
struct Setting {
    name: Ident,
    value: Expr,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let expected = "expected `name = expression`, such as `cache = &users`";
        let name = input.call(Ident::parse_any).map_err(|error| Error::new(error.span(), expected))?;
        input.parse::<Token![=]>().map_err(|_| Error::new_spanned(&name, expected))?;
        Ok(Self { name, value: input.parse()? })
    }
}

impl Options {
    /// What `tokens`, the inside of the attribute, say.
    pub(super) fn read(tokens: TokenStream) -> Result<Self> {
        let settings = Punctuated::<Setting, Token![,]>::parse_terminated.parse2(tokens)?;
        let mut given: [Option<Expr>; NAMES.len()] = Default::default();
        let known = all(settings.into_iter().map(|Setting { name, value }| {
            let slot = NAMES.iter().zip(&mut given).find(|(known, _)| name == *known);
            match slot {
                Some((_, slot @ None)) => *slot = Some(value),
                Some((known, Some(_))) => return Err(Error::new_spanned(&name, format!("`{known}` is given twice"))),
                None => return Err(Error::new_spanned(&name, unknown(&name))),
            }
            Ok(())
        }));
        let [cache, key, ttl, tags, of_call] = given;
        let others = [(ttl.is_some(), "ttl"), (tags.is_some(), "tags")];
        let alone = all(others.into_iter().filter(|(given, _)| *given && of_call.is_some()).map(|(_, name)| {
            Err::<(), _>(Error::new_spanned(&of_call, format!("`options` say that themselves: leave `{name}` out")))
        }));
        let ttl = ttl.as_ref().map(duration).transpose();
        let missing = "`cache` is missing: `#[cached(cache = …)]` with an expression that gives a `&Cache<K, V>`";
        let cache = cache.ok_or_else(|| Error::new(Span::call_site(), missing));
        let (((_, cache), ttl), _) = both(both(both(known, cache), ttl), alone)?;
        Ok(Self { cache, key, ttl, tags, of_call })
    }

    /// The key, borrowed.
    pub(super) fn key(&self, arguments: &[Argument<'_>]) -> Result<TokenStream> {
        let Some(key) = &self.key else { return of_all(arguments) };
        match plain(key) {
            Expr::Tuple(tuple) if tuple.elems.len() > 1 => {
                let parts = tuple.elems.iter().map(|part| part_of_key(part, arguments));
                Ok(quote!((#(#parts),*)))
            }
            key => Ok(part_of_key(key, arguments)),
        }
    }

    /// The `CallOptions`.
    pub(super) fn of_call(&self) -> TokenStream {
        self.of_call.as_ref().map_or_else(
            || quote!(<::multi_tier_cache::CallOptions as ::core::default::Default>::default()),
            ToTokens::to_token_stream,
        )
    }

    /// What is said of `call` once there was no hit.
    pub(super) fn settings(&self, call: &Ident) -> Vec<TokenStream> {
        let ttl = self.ttl.as_ref().map(|ttl| quote!(let #call = #call.with_ttl(#ttl);));
        let tags = self.tags.as_ref().map(|tags| quote!(let #call = #call.with_tags(#tags);));
        ttl.into_iter().chain(tags).collect()
    }
}

const NAMES: [&str; 5] = ["cache", "key", "ttl", "tags", "options"];

fn unknown(name: &Ident) -> String {
    format!("unknown option `{name}`: there are `cache`, `key`, `ttl`, `tags` and `options`")
}

fn of_all(arguments: &[Argument<'_>]) -> Result<TokenStream> {
    let parts = all(arguments.iter().map(Argument::as_key))?;
    Ok(match parts.as_slice() {
        [only] => only.clone(),
        parts => quote!((#(#parts),*)),
    })
}

/// An argument or a field is borrowed, so that the load can still take it; other expressions are evaluated.
fn part_of_key(part: &Expr, arguments: &[Argument<'_>]) -> TokenStream {
    match plain(part) {
        Expr::Path(path) => {
            let argument =
                path.path.get_ident().and_then(|name| arguments.iter().find(|known| known.name() == Some(name)));
            if let Some(Ok(argument)) = argument.map(Argument::as_key) {
                return argument;
            }
        }
        Expr::Field(field) => return quote!(&#field),
        _ => {}
    }
    quote!(::multi_tier_cache::cache::call::Given(#part).borrowed())
}

/// A literal is read here; other expressions are `Duration`s.
fn duration(value: &Expr) -> Result<TokenStream> {
    let wrong = "expected a `Duration` or a text such as \"500ms\", \"30s\", \"5m\", \"1h\" or \"7d\"";
    match plain(value) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            let milliseconds = milliseconds(&text.value()).ok_or_else(|| Error::new_spanned(text, wrong))?;
            if milliseconds == 0 {
                return Err(Error::new_spanned(text, "nothing is kept for no time: give at least \"1ms\""));
            }
            Ok(quote!(::core::time::Duration::from_millis(#milliseconds)))
        }
        Expr::Lit(other) => Err(Error::new_spanned(other, wrong)),
        Expr::Unary(other) if matches!(plain(&other.expr), Expr::Lit(_)) => Err(Error::new_spanned(other, wrong)),
        value => Ok(value.to_token_stream()),
    }
}

/// An expression without the group that a macro by example puts around it.
fn plain(expression: &Expr) -> &Expr {
    match expression {
        Expr::Group(group) => plain(&group.expr),
        Expr::Paren(paren) => plain(&paren.expr),
        other => other,
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => 60 * 60 * 1_000,
        "d" => 24 * 60 * 60 * 1_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}
