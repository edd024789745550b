//! `#[derive(CacheKey)]`: what a type's key is made of.
#![cfg(feature = "macros")]

use std::borrow::Borrow;
use std::fmt::Debug;

use multi_tier_cache::CacheKey;

#[derive(CacheKey)]
struct Unit;

#[derive(CacheKey)]
struct Empty {}

#[derive(CacheKey)]
struct UserId(u64);

/// Stands for its text, borrowed too.
#[derive(CacheKey)]
struct Name(&'static str);

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.0
    }
}

#[derive(CacheKey)]
struct Named<'a> {
    name: &'a str,
    id: UserId,
    r#type: Option<u8>,
}

#[derive(CacheKey)]
enum Shop {
    Closed,
    Open { id: u32 },
    Moved(&'static str, UserId),
    r#Try,
}

#[derive(CacheKey)]
enum Never {}

#[test]
fn a_struct_is_its_fields_in_order() {
    assert_eq!(Unit.key_text(), "");
    assert_eq!(Empty {}.key_text(), "");
    assert_eq!(UserId(7).key_text(), "7");
    assert_eq!(Name("a:b").key_text(), Borrow::<str>::borrow(&Name("a:b")).key_text());
    assert_eq!((Name("a:b"), 1).key_text(), "a%3Ab:1");
    assert_eq!(Named { name: "a:b", id: UserId(7), r#type: Some(1) }.key_text(), "a%3Ab:7:1:1");
    assert_eq!((Named { name: "", id: UserId(7), r#type: None }, true).key_text(), ":7:0:true");
}

#[test]
fn an_enum_is_its_variant_and_the_fields() {
    assert_eq!(Shop::Closed.key_text(), "Closed");
    assert_eq!(Shop::Open { id: 3 }.key_text(), "Open:3");
    assert_eq!(Shop::Moved("Main St", UserId(1)).key_text(), "Moved:Main%20St:1");
    assert_eq!(Shop::r#Try.key_text(), "Try");
    assert_eq!(vec![Shop::Closed, Shop::Open { id: 0 }].key_text(), "2:Closed:Open:0");
    assert_eq!(None::<Never>.key_text(), "0");
}

/// No key, and nothing that must be one.
struct Database;

#[derive(CacheKey)]
struct Request<D> {
    #[cache_key(skip)]
    _database: D,
    id: u64,
    #[cache_key(skip)]
    _weight: f64,
}

#[derive(CacheKey)]
#[expect(dead_code, reason = "nobody reads what is skipped")]
enum Part {
    Of(#[cache_key(skip)] f64, u8, #[cache_key(skip)] Database),
    All {
        #[cache_key(skip)]
        _database: Database,
    },
}

#[test]
fn skipped_fields_are_no_part_of_the_key() {
    assert_eq!(Request { _database: Database, id: 7, _weight: 0.5 }.key_text(), "7");
    assert_eq!(Part::Of(0.5, 2, Database).key_text(), "Of:2");
    assert_eq!(Part::All { _database: Database }.key_text(), "All");
}

trait Table {
    type Id: Debug;
}

impl Table for Database {
    type Id = u8;
}

#[derive(CacheKey)]
struct Generic<T: Debug, U: ?Sized, const N: usize = 1>
where
    T: Clone,
    U: 'static,
{
    items: [Vec<(T, u8)>; N],
    unsized_one: Box<U>,
}

#[derive(CacheKey)]
struct Row<T: Table>
where
    T::Id: CacheKey,
{
    id: T::Id,
}

#[derive(CacheKey)]
struct Unsized {
    id: u8,
    name: str,
}

#[test]
fn type_parameters_in_the_key_are_keys() {
    let generic = Generic::<_, str> { items: [vec![("a", 1)]], unsized_one: "b".into() };
    assert_eq!(generic.key_text(), "1:1:a:1:b");
    assert_eq!(Row::<Database> { id: 1 }.key_text(), "1");
    fn is_key<K: CacheKey + ?Sized>() {}
    is_key::<Unsized>();
}

/// Names of a caller that the generated code must not take for its own.
mod hygiene {
    #![allow(dead_code, non_camel_case_types, reason = "names that get in the way")]

    struct CacheKey;
    struct KeyWriter;
    struct String;
    mod multi_tier_cache {}

    macro_rules! declare {
        ($name:ident { $($field:ident: $type:ty),* }) => {
            #[derive(::multi_tier_cache::CacheKey)]
            pub(super) struct $name { $(pub(super) $field: $type),* }
        };
    }

    declare! { Declared { key: u8, field_0: &'static str } }

    #[derive(::multi_tier_cache::CacheKey)]
    pub(super) enum Shadowing {
        Key { key: u8, field_0: u8, field_1: u8 },
    }
}

#[test]
fn generated_code_takes_no_name_of_the_caller() {
    assert_eq!(hygiene::Declared { key: 1, field_0: "a" }.key_text(), "1:a");
    assert_eq!(hygiene::Shadowing::Key { key: 1, field_0: 2, field_1: 3 }.key_text(), "Key:1:2:3");
}
