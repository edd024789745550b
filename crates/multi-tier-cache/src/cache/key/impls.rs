//! The types of the standard library that are keys.

use std::borrow::Cow;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128, NonZeroUsize,
};
use std::rc::Rc;
use std::sync::Arc;

use super::{CacheKey, KeyWriter};

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl CacheKey for $type {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                key.number(*self);
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }

macro_rules! as_displayed {
    ($($type:ty)*) => {$(
        impl CacheKey for $type {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                key.plain(self);
            }
        }
    )*};
}

as_displayed! { bool }
as_displayed! { NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroUsize }
as_displayed! { NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 NonZeroIsize }
#[cfg(feature = "uuid")]
as_displayed! { uuid::Uuid }

impl CacheKey for str {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(self);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        Some(self)
    }
}

impl CacheKey for String {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(self);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        Some(self)
    }
}

impl CacheKey for char {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(self.encode_utf8(&mut [0; 4]));
    }
}

impl<T: CacheKey> CacheKey for [T] {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.plain(self.len());
        for element in self {
            element.write_key(key);
        }
    }
}

/// As for a slice, so that an array finds what a `Vec` stored.
impl<T: CacheKey, const N: usize> CacheKey for [T; N] {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        self.as_slice().write_key(key);
    }
}

impl<T: CacheKey> CacheKey for Vec<T> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        self.as_slice().write_key(key);
    }
}

impl<T: CacheKey> CacheKey for Option<T> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        match self {
            None => key.plain(0),
            Some(value) => {
                key.plain(1);
                value.write_key(key);
            }
        }
    }
}

macro_rules! as_what_is_within {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> CacheKey for $type {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                (**self).write_key(key);
            }

            #[inline]
            fn as_text(&self) -> Option<&str> {
                (**self).as_text()
            }
        }
    )*};
}

as_what_is_within! {
    [T: CacheKey + ?Sized] &T;
    [T: CacheKey + ?Sized] Box<T>;
    [T: CacheKey + ?Sized] Arc<T>;
    [T: CacheKey + ?Sized] Rc<T>;
    [T: CacheKey + ToOwned + ?Sized] Cow<'_, T>;
}

macro_rules! tuples {
    ($(($($element:ident)*))*) => {$(
        impl<$($element: CacheKey),*> CacheKey for ($($element,)*) {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                #[allow(non_snake_case, reason = "a type's name serves for its element")]
                let ($($element,)*) = self;
                $($element.write_key(key);)*
            }
        }
    )*};
}

tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) }

/// No parts: the only entry of its cache.
impl CacheKey for () {
    fn write_key(&self, _: &mut KeyWriter<'_>) {}
}
