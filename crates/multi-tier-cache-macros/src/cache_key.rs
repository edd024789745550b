//! `#[derive(CacheKey)]`.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DataEnum, DataUnion, DeriveInput, Error, Field, Fields, Generics, Ident, Member, Result, Type,
    Variant, parse_quote,
};

use crate::errors::{all, both};

/// The implementation for `input`, or everything that is wrong with it.
pub(crate) fn derive(input: DeriveInput) -> Result<TokenStream> {
    let body = match &input.data {
        Data::Struct(data) => structure(&data.fields),
        Data::Enum(data) => enumeration(data),
        Data::Union(data) => Err(union(data)),
    };
    let ((), body) = both(without_options(&input.attrs), body)?;
    let DeriveInput { ident, generics, .. } = input;
    let generics = with_bounds(generics, &body.types);
    let (for_parameters, parameters, conditions) = generics.split_for_impl();
    let (writer, code, whole) = (if body.writes { quote!(key) } else { quote!(_) }, body.code, body.whole);
    Ok(quote! {
        #[automatically_derived]
        impl #for_parameters ::multi_tier_cache::cache::CacheKey for #ident #parameters #conditions {
            fn write_key(&self, #writer: &mut ::multi_tier_cache::cache::KeyWriter<'_>) {
                #code
            }
            #whole
        }
    })
}

/// The body of `write_key`.
struct Body {
    code: TokenStream,
    /// `as_text`, where it may answer one.
    whole: Option<TokenStream>,
    /// Whether it writes anything.
    writes: bool,
    /// The types of the fields it writes.
    types: Vec<Type>,
}

fn structure(fields: &Fields) -> Result<Body> {
    let fields = fields_in_key(fields)?;
    let writes = fields.iter().map(|(member, field)| write(field, &quote_spanned!(span(field)=> &self.#member)));
    let code = quote!(#(#writes)*);
    let whole = if let [(member, field)] = &fields[..] { Some(whole(member, field)) } else { None };
    Ok(Body { code, whole, writes: !fields.is_empty(), types: types(&fields) })
}

fn enumeration(data: &DataEnum) -> Result<Body> {
    let mut arms = all(data.variants.iter().map(arm))?;
    let types = arms.iter_mut().flat_map(|arm| std::mem::take(&mut arm.types)).collect();
    let codes = arms.iter().map(|arm| &arm.code);
    // Without a variant there is no reference to match on either.
    let value = if arms.is_empty() { quote!(*self) } else { quote!(self) };
    Ok(Body { code: quote!(match #value { #(#codes)* }), whole: None, writes: !arms.is_empty(), types })
}

fn arm(variant: &Variant) -> Result<Body> {
    let ((), fields) = both(without_options(&variant.attrs), fields_in_key(&variant.fields))?;
    let (ident, name) = (&variant.ident, variant.ident.unraw().to_string());
    let members = fields.iter().map(|(member, _)| member);
    let binding = |(index, (_, field)): (usize, &(Member, &Field))| format_ident!("field_{index}", span = span(field));
    let bindings: Vec<Ident> = fields.iter().enumerate().map(binding).collect();
    let writes = fields.iter().zip(&bindings).map(|((_, field), binding)| write(field, &quote!(#binding)));
    let code = quote! {
        Self::#ident { #(#members: #bindings,)* .. } => {
            key.text(#name);
            #(#writes)*
        }
    };
    Ok(Body { code, whole: None, writes: true, types: types(&fields) })
}

/// A struct with one field in its key stands for that.
fn whole(member: &Member, field: &Field) -> TokenStream {
    let text = quote_spanned! { span(field)=>
        ::multi_tier_cache::cache::CacheKey::as_text(&self.#member)
    };
    quote! {
        #[inline]
        fn as_text(&self) -> ::core::option::Option<&str> {
            #text
        }
    }
}

fn union(data: &DataUnion) -> Error {
    let message = "`CacheKey` is derived for structs and enums; which field of a union is the key cannot be known";
    Error::new_spanned(data.union_token, message)
}

fn write(field: &Field, reference: &TokenStream) -> TokenStream {
    quote_spanned!(span(field)=> ::multi_tier_cache::cache::CacheKey::write_key(#reference, key);)
}

/// Where an error about the field's type points, while names are those of the generated code.
fn span(field: &Field) -> Span {
    Span::call_site().located_at(field.ty.span())
}

fn types(fields: &[(Member, &Field)]) -> Vec<Type> {
    fields.iter().map(|(_, field)| field.ty.clone()).collect()
}

fn fields_in_key(fields: &Fields) -> Result<Vec<(Member, &Field)>> {
    let named = fields.members().zip(fields).map(|named| {
        let skipped = all(options(&named.1.attrs).map(is_skip))?;
        Ok(skipped.is_empty().then_some(named))
    });
    Ok(all(named)?.into_iter().flatten().collect())
}

fn options(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cache_key"))
}

fn is_skip(attribute: &Attribute) -> Result<()> {
    match attribute.parse_args::<Ident>() {
        Ok(option) if option == "skip" => Ok(()),
        _ => Err(Error::new_spanned(&attribute.meta, "expected `#[cache_key(skip)]`: there is no other option")),
    }
}

fn without_options(attributes: &[Attribute]) -> Result<()> {
    let misplaced = |attribute: &Attribute| {
        Err(Error::new_spanned(&attribute.meta, "`cache_key` is an attribute of fields, not of types and variants"))
    };
    all(options(attributes).map(misplaced)).map(|_: Vec<()>| ())
}

/// The type parameters of `types` are keys as well.
fn with_bounds(mut generics: Generics, types: &[Type]) -> Generics {
    let parameters: Vec<Ident> = generics.type_params().map(|parameter| parameter.ident.clone()).collect();
    for parameter in parameters {
        if types.iter().any(|written| mentions(written.to_token_stream(), &parameter)) {
            let bound = parse_quote!(#parameter: ::multi_tier_cache::cache::CacheKey);
            generics.make_where_clause().predicates.push(bound);
        }
    }
    generics
}

/// Whether the parameter itself stands in `tokens`; `T::Id` and `<T as Trait>::Id` are other types.
fn mentions(tokens: TokenStream, parameter: &Ident) -> bool {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let found = match token {
            TokenTree::Group(group) => mentions(group.stream(), parameter),
            TokenTree::Ident(ident) if ident == *parameter => !tokens.peek().is_some_and(names_another),
            _ => false,
        };
        if found {
            return true;
        }
    }
    false
}

fn names_another(next: &TokenTree) -> bool {
    match next {
        TokenTree::Punct(punct) => punct.as_char() == ':',
        TokenTree::Ident(ident) => ident == "as",
        _ => false,
    }
}
