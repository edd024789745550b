//! The arguments of a cached function: which are owned, which are borrowed and copied for the load, which cannot be.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{Error, FnArg, Pat, PatType, Result, Signature, Type, TypeReference};

use super::owned;
use crate::errors::all;

/// One argument, not `self`.
pub(super) struct Argument<'a> {
    index: usize,
    pattern: &'a Pat,
    kind: Kind<'a>,
}

/// How long an argument's value lives.
enum Kind<'a> {
    /// As long as the load: it is moved there.
    Owned,
    /// As well: a reference to what is static.
    Static,
    /// As long as the caller: the load gets a copy of what it refers to.
    Borrowed(&'a Type),
}

/// Every argument of `signature` but `self`.
pub(super) fn arguments(signature: &Signature) -> Result<Vec<Argument<'_>>> {
    let typed = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    all(typed.enumerate().map(|(index, typed)| Argument::read(index, typed)))
}

impl<'a> Argument<'a> {
    fn read(index: usize, typed: &'a PatType) -> Result<Self> {
        let pattern = &*typed.pat;
        let name = pattern.to_token_stream();
        let kind = match reference(&typed.ty) {
            Some(TypeReference { lifetime: Some(lifetime), mutability: None, .. }) if lifetime.ident == "static" => {
                Kind::Static
            }
            Some(TypeReference { mutability: Some(_), .. }) => {
                let message =
                    format!("`{name}` is borrowed mutably, and the load may outlive its caller: take it by value");
                return Err(Error::new_spanned(&typed.ty, message));
            }
            Some(TypeReference { elem, .. }) if !borrows(elem.to_token_stream()) => Kind::Borrowed(elem),
            None if !borrows(typed.ty.to_token_stream()) => Kind::Owned,
            _ => {
                let message = format!(
                    "`{name}` holds a reference, and the load may outlive its caller: take it by value, as an `Arc` or \
                     a handle that is cheap to clone, say"
                );
                return Err(Error::new_spanned(&typed.ty, message));
            }
        };
        let argument = Self { index, pattern, kind };
        if matches!(argument.kind, Kind::Borrowed(_)) && argument.name().is_none() {
            let message = "what is borrowed is copied for the load and needs a plain name: take it apart in the body";
            return Err(Error::new_spanned(pattern, message));
        }
        Ok(argument)
    }

    /// Its name, if its pattern is just that.
    pub(super) fn name(&self) -> Option<&'a Ident> {
        match self.pattern {
            Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => Some(&pattern.ident),
            _ => None,
        }
    }

    /// A reference to its value.
    pub(super) fn as_key(&self) -> Result<TokenStream> {
        let name = self.name().ok_or_else(|| {
            let message = "an argument without a plain name cannot be in the key: name it, or give the key with \
                           `#[cached(…, key = …)]`";
            Error::new_spanned(self.pattern, message)
        })?;
        Ok(if matches!(self.kind, Kind::Owned) { quote!(&#name) } else { quote!(#name) })
    }

    /// How the load comes by what is borrowed, if its body names it.
    pub(super) fn owned(&self, body: &TokenStream) -> Option<(TokenStream, TokenStream)> {
        let (Kind::Borrowed(elem), Some(name)) = (&self.kind, self.name()) else { return None };
        if !mentions(body.clone(), name) {
            return None;
        }
        let copy = format_ident!("owned_{}", self.index, span = Span::mixed_site());
        Some(owned(&name.to_token_stream(), elem, &copy, &self.pattern.to_token_stream()))
    }
}

/// Takes `mut` from what is borrowed: the load has it under a name of its own, and only there is it changed.
pub(super) fn settle(signature: &mut Signature) {
    for input in &mut signature.inputs {
        if let FnArg::Typed(PatType { pat, ty, .. }) = input
            && let (Pat::Ident(pattern), Some(reference)) = (&mut **pat, reference(ty))
            && reference.lifetime.as_ref().is_none_or(|lifetime| lifetime.ident != "static")
        {
            pattern.mutability = None;
        }
    }
}

/// Whether `name` stands in `tokens`, or in the text of a literal, which may be a format's.
fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Literal(literal) => literal.to_string().contains(&name.unraw().to_string()),
        TokenTree::Punct(_) => false,
    })
}

fn reference(written: &Type) -> Option<&TypeReference> {
    match written {
        Type::Reference(reference) => Some(reference),
        Type::Group(group) => reference(&group.elem),
        Type::Paren(paren) => reference(&paren.elem),
        _ => None,
    }
}

/// Whether a type is written with a lifetime other than `'static`. Those of a function's own arguments are no matter.
fn borrows(tokens: TokenStream) -> bool {
    let mut tokens = tokens.into_iter().peekable();
    let mut of_function = false;
    while let Some(token) = tokens.next() {
        let found = match &token {
            TokenTree::Ident(ident) if ident == "for" => return false,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis && of_function => false,
            TokenTree::Group(group) => borrows(group.stream()),
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                tokens.next_if(|next| next.to_string() == "static").is_none()
            }
            TokenTree::Punct(punct) if punct.as_char() == '&' => {
                tokens.peek().is_none_or(|next| next.to_string() != "'")
            }
            _ => false,
        };
        if found {
            return true;
        }
        of_function = matches!(&token, TokenTree::Ident(ident) if ident == "fn" || ident.to_string().contains("Fn"));
    }
    false
}
