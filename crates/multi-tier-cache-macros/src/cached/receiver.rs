//! `self` of a cached method, and what stands for it in the load.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Error, FnArg, Result, Signature, Token, Type};

use super::{hidden, named, owned};

/// How a function takes `self`.
pub(super) enum Receiver<'a> {
    /// Not at all, or in an `Arc`, which the load takes with it.
    Owned,
    /// Borrowed: the load gets a clone of what it refers to.
    Borrowed { myself: Token![self], elem: &'a Type },
}

/// The receiver of `signature`.
pub(super) fn receiver(signature: &Signature) -> Result<Receiver<'_>> {
    let Some(FnArg::Receiver(receiver)) = signature.inputs.first() else { return Ok(Receiver::Owned) };
    match &*receiver.ty {
        Type::Reference(reference) if reference.mutability.is_none() => {
            Ok(Receiver::Borrowed { myself: receiver.self_token, elem: &reference.elem })
        }
        Type::Reference(_) => {
            let message = "the load may outlive its caller and cannot borrow `self` mutably: take `&self`";
            Err(Error::new_spanned(receiver, message))
        }
        written if named(written).is_some_and(|(name, _)| name == "Arc") => Ok(Receiver::Owned),
        _ => {
            let message = "a cached method leaves `self` with its caller: take `&self` or `self: Arc<Self>`";
            Err(Error::new_spanned(receiver, message))
        }
    }
}

impl Receiver<'_> {
    /// The body in which `self` is what is lent to the load, and how the load comes by it.
    pub(super) fn in_body(&self, body: TokenStream) -> Result<(TokenStream, Option<(TokenStream, TokenStream)>)> {
        let Self::Borrowed { myself, elem } = self else { return Ok((body, None)) };
        let (before, body) = (body.to_string(), renamed(body, false)?);
        let name = hidden("this").into_token_stream();
        let lent =
            (before != body.to_string()).then(|| owned(&myself.to_token_stream(), elem, &hidden("owned_self"), &name));
        Ok((body, lent))
    }
}

/// `tokens` with another name for `self`, except in functions and other items within, which have their own.
fn renamed(tokens: TokenStream, in_macro: bool) -> Result<TokenStream> {
    let (mut result, mut in_item, mut after_bang) = (TokenStream::new(), false, false);
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let bang = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '!');
        let token = match token {
            TokenTree::Ident(ident) if ident == "self" && !in_item => {
                let is_path = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':' );
                if is_path { ident.into() } else { this(&ident) }
            }
            TokenTree::Ident(ident) => {
                in_item |= ["fn", "impl", "trait", "mod", "use", "macro_rules"].iter().any(|item| ident == item);
                ident.into()
            }
            TokenTree::Group(group) => {
                let ends_item = in_item && group.delimiter() == Delimiter::Brace;
                let mut inside = Group::new(
                    group.delimiter(),
                    if in_item { group.stream() } else { renamed(group.stream(), in_macro || after_bang)? },
                );
                inside.set_span(group.span());
                in_item &= !ends_item;
                inside.into()
            }
            TokenTree::Literal(literal) if in_macro && names_self(&literal.to_string()) => {
                let message =
                    "`self` cannot be named within a text of a cached method: write `{}` and give it as an argument";
                return Err(Error::new(literal.span(), message));
            }
            other => {
                in_item &= !matches!(&other, TokenTree::Punct(punct) if punct.as_char() == ';');
                other
            }
        };
        after_bang = bang;
        result.extend([token]);
    }
    Ok(result)
}

fn this(myself: &Ident) -> TokenTree {
    Ident::new("this", Span::mixed_site().located_at(myself.span())).into()
}

/// Whether a format's text has a place for `self`.
fn names_self(text: &str) -> bool {
    let text = text.replace("{{", "");
    text.contains("{self}") || text.contains("{self:")
}
