//! `#[cached]`.

mod arguments;
mod options;
mod receiver;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Error, Expr, GenericArgument, ItemFn, PathArguments, Result, ReturnType, Signature, Stmt, Type, parse_quote,
};

use self::arguments::{Argument, arguments, settle};
use self::options::Options;
use self::receiver::{Receiver, receiver};
use crate::errors::both;

/// The function that reads through its cache, or everything that is wrong with it.
pub(crate) fn expand(options: TokenStream, item: &TokenStream) -> TokenStream {
    let mut function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let message = format!("`#[cached]` is for async functions and methods with a body: {error}");
            let error = Error::new(error.span(), message).into_compile_error();
            return quote!(#error #item);
        }
    };
    let body = Options::read(options);
    let body = both(body, signature(&function.sig)).and_then(|(options, parts)| body_of(&function, &options, &parts));
    let (body, errors) = match body {
        Ok(body) => (body, TokenStream::new()),
        // The signature stays, so that callers compile and the mistake is the only one that is reported.
        Err(error) => {
            function.attrs.push(parse_quote!(#[allow(unused)]));
            (quote!(::core::unreachable!()), error.into_compile_error())
        }
    };
    settle(&mut function.sig);
    function.block.stmts = vec![Stmt::Expr(Expr::Verbatim(body), None)];
    quote!(#errors #function)
}

/// What a signature says that the body depends on.
struct Parts<'a> {
    receiver: Receiver<'a>,
    arguments: Vec<Argument<'a>>,
    answer: &'a Type,
}

fn signature(signature: &Signature) -> Result<Parts<'_>> {
    let asynchronous = match signature.asyncness {
        Some(_) => Ok(()),
        None => Err(Error::new_spanned(signature.fn_token, "`#[cached]` is for async functions: write `async fn`")),
    };
    let inputs = both(receiver(signature), arguments(signature));
    let (((), (receiver, arguments)), answer) = both(both(asynchronous, inputs), answer(signature))?;
    Ok(Parts { receiver, arguments, answer })
}

const ANSWERS: &str = "a function with `#[cached]` returns `Result<Arc<V>, LoadError<E>>` or `CacheResult<Arc<V>>`, \
                       or either with `Option<Arc<V>>`";

/// The declared return type. What cannot be told from how it is written, the compiler is left to judge.
fn answer(signature: &Signature) -> Result<&Type> {
    let ReturnType::Type(_, answer) = &signature.output else {
        return Err(Error::new_spanned(&signature.ident, format!("`{}` returns nothing: {ANSWERS}", signature.ident)));
    };
    let Some((name, types)) = named(answer) else { return Err(Error::new_spanned(answer, ANSWERS)) };
    let value = match (name.to_string().as_str(), types.as_slice()) {
        ("Result", [value, _]) | ("CacheResult", [value]) => value,
        ("Arc" | "Option" | "Vec" | "Box", _) => return Err(Error::new_spanned(answer, ANSWERS)),
        _ => return Ok(answer),
    };
    let shared = match named(value) {
        Some((name, types)) if name == "Option" => types.first().copied().and_then(named),
        shared => shared,
    };
    match shared {
        Some((name, _)) if name == "Arc" => Ok(answer),
        _ => Err(Error::new_spanned(value, format!("{ANSWERS}: the cache shares its values"))),
    }
}

/// The last name of a path and its type arguments.
fn named(written: &Type) -> Option<(&Ident, Vec<&Type>)> {
    match written {
        Type::Group(group) => named(&group.elem),
        Type::Paren(paren) => named(&paren.elem),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Some((&last.ident, vec![])) };
            let types = arguments.args.iter().filter_map(|argument| match argument {
                GenericArgument::Type(written) => Some(written),
                _ => None,
            });
            Some((&last.ident, types.collect()))
        }
        _ => None,
    }
}

fn body_of(function: &ItemFn, options: &Options, parts: &Parts<'_>) -> Result<TokenStream> {
    let Parts { receiver, arguments, answer } = parts;
    let statements = function.block.stmts.iter().map(ToTokens::to_token_stream).collect();
    let ((statements, myself), key) = both(receiver.in_body(statements), options.key(arguments))?;
    let (call, loaded) = (hidden("call"), hidden("loaded"));
    let runtime = quote!(::multi_tier_cache::cache::call);
    let (cache, of_call, settings) = (&options.cache, options.of_call(), options.settings(&call));
    let borrowed = arguments.iter().filter_map(|argument| argument.owned(&statements));
    let (owned, lent): (Vec<_>, Vec<_>) = myself.into_iter().chain(borrowed).unzip();
    Ok(quote! {
        let #call = {
            #[allow(unused_imports)]
            use #runtime::ByValue as _;
            match #runtime::begin(#cache, #key, #of_call) {
                #runtime::Begun::Hit(#call) => {
                    return <#answer as #runtime::Answer>::answer(::core::result::Result::Ok(#call));
                }
                #runtime::Begun::Open(#call) => #call,
            }
        };
        #(#settings)*
        #(#owned)*
        #call.answer::<#answer>(async move {
            #(#lent)*
            // Never so; it tells the type that `?` and `return` lead to.
            if let ::core::option::Option::Some(#loaded) =
                ::core::option::Option::None::<<#answer as #runtime::Answer>::Load>
            {
                return #loaded;
            }
            #[allow(unreachable_code, clippy::diverging_sub_expression)]
            {
                let #loaded: <#answer as #runtime::Answer>::Load = { #statements };
                #loaded
            }
        })
        .await
    })
}

/// A name that the caller's code cannot see.
fn hidden(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// The statements that make an owned copy of what is borrowed as `source`, and lend it out under `name` in the load.
fn owned(source: &TokenStream, elem: &Type, copy: &Ident, name: &TokenStream) -> (TokenStream, TokenStream) {
    let at = Span::call_site().located_at(elem.span());
    let to_owned = quote_spanned!(at=> <#elem as ::std::borrow::ToOwned>);
    (
        quote_spanned!(at=> let #copy = #to_owned::to_owned(#source);),
        quote! {
            #[allow(unused_variables)]
            let #name: &#elem = <#to_owned::Owned as ::core::borrow::Borrow<#elem>>::borrow(&#copy);
        },
    )
}
