//! Keys of typed caches: values as readable text, different for different values of a type.
//!
//! # Rules
//!
//! A key is the cache's name, a colon, and the *parts* of the value, with a colon between each two. The colon inside a
//! part is escaped, so parts are never confused; what follows a part is known from the parts before it, so neither
//! are values.
//!
//! | value | parts |
//! |---|---|
//! | integer | its decimal digits, behind `-` if it is negative |
//! | `bool` | `true` or `false` |
//! | `char`, `str`, `String` | the text; `%`, `:`, space and ASCII control characters as `%` and two hex digits |
//! | `Uuid` (feature `uuid`) | lower-case hexadecimal digits with hyphens |
//! | array, slice, `Vec` | the number of elements, then each element |
//! | `Option` | `0` for `None`; `1` and the value for `Some` |
//! | tuple, struct | each element or field in its order |
//! | enum | the variant's name, then each of its fields |
//! | `&T`, `Box`, `Arc`, `Rc`, `Cow` | those of the value within |
//!
//! `()` and structs without fields have no parts. Floats are no keys: equal ones may look different (0 and -0), and one
//! is not equal to itself. Neither are maps and sets that come in no order.
//!
//! Nothing in a key tells its type: `7_u8`, `7_i64` and `"7"` have one key, as have `Vec<T>` and `[T]`. A cache has
//! keys of one type, and caches are kept apart by their names. The rules byte by byte are in `PROTOCOL.md`.

mod buf;
mod impls;

use std::fmt::{self, Write as _};

pub(crate) use self::buf::KeyBuf;

/// A value that can be the key of a typed cache.
///
/// Numbers, strings, tuples, sequences and options are keys; own types derive it (feature `macros`, on by default):
///
/// ```
/// # #[cfg(feature = "macros")] {
/// use multi_tier_cache::CacheKey;
///
/// #[derive(CacheKey)]
/// struct Orders<'a> {
///     shop: &'a str,
///     page: Option<u32>,
///     sorted: Order,
///     /// Two values that differ only here share an entry.
///     #[cache_key(skip)]
///     trace: u64,
/// }
///
/// #[derive(CacheKey)]
/// enum Order {
///     Newest,
///     Cheaper { than: u64 },
/// }
///
/// let orders = Orders { shop: "Tea: fine", page: Some(2), sorted: Order::Cheaper { than: 100 }, trace: 17 };
/// assert_eq!(orders.key_text(), "Tea%3A%20fine:1:2:Cheaper:100");
/// let first = Orders { shop: "tea", page: None, sorted: Order::Newest, trace: 18 };
/// assert_eq!(first.key_text(), "tea:0:Newest");
/// # }
/// ```
///
/// By hand, for a type of another crate, say:
///
/// ```
/// use multi_tier_cache::cache::{CacheKey, KeyWriter};
///
/// struct Address(std::net::IpAddr);
///
/// impl CacheKey for Address {
///     fn write_key(&self, key: &mut KeyWriter<'_>) {
///         key.display(&self.0);
///     }
/// }
///
/// assert_eq!((Address([10, 0, 0, 1].into()), 443).key_text(), "10.0.0.1:443");
/// assert_eq!(Address([0; 16].into()).key_text(), "%3A%3A");
/// ```
///
/// # What an implementation must keep
///
/// Equal values write equal parts, and different values different ones; one value's parts never begin with all of
/// another's. So whatever has a variable number of parts begins with what tells that number. Derived implementations
/// and those of this crate keep this; the rules are those of the module [`key`](self).
///
/// # Changing a type
///
/// Entries of shared tiers outlive a deployment. If fields change their order, or a type changes without its parts
/// looking different, give the cache another name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key of a cache",
    note = "put `#[derive(multi_tier_cache::CacheKey)]` on a type of your own, or leave a field out of the key with \
            `#[cache_key(skip)]`",
    note = "floats and unordered collections are no keys"
)]
pub trait CacheKey {
    /// Writes the parts of this value, in their order.
    fn write_key(&self, key: &mut KeyWriter<'_>);

    /// The parts as text: the entry's key without the cache's name.
    fn key_text(&self) -> String {
        let mut key = KeyBuf::default();
        self.write_key(&mut KeyWriter::new(&mut key));
        key.into_string()
    }
}

/// Takes the parts of a key. Made by the cache, for [`CacheKey::write_key`].
#[derive(Debug)]
pub struct KeyWriter<'a> {
    key: &'a mut KeyBuf,
    /// No part was written yet, so that none is to be parted from the next.
    first: bool,
}

impl<'a> KeyWriter<'a> {
    fn new(key: &'a mut KeyBuf) -> Self {
        Self { key, first: true }
    }

    /// Writes one part: `text`, escaped.
    pub fn text(&mut self, text: &str) {
        self.separate();
        self.escape(text);
    }

    /// Writes one part: what `value` displays, escaped. Different values must display differently.
    ///
    /// A `Display` that fails, which it must not, ends the part there.
    pub fn display(&mut self, value: impl fmt::Display) {
        self.separate();
        let _ = write!(Escaped(self), "{value}");
    }

    /// Writes one part that needs no escape.
    fn plain(&mut self, value: impl fmt::Display) {
        self.separate();
        let _ = write!(self.key, "{value}");
    }

    /// Writes one part: the decimal digits. Most keys are such numbers, and formatting takes longer.
    fn number(&mut self, number: u64) {
        self.separate();
        let (mut digits, mut length, mut rest) = ([b'0'; u64::MAX.ilog10() as usize + 1], 0, number);
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
            length += 1;
            if rest == 0 {
                break;
            }
        }
        if let Some(Ok(digits)) = digits.get(digits.len() - length..).map(str::from_utf8) {
            self.key.push_str(digits);
        }
    }

    fn separate(&mut self) {
        if !self.first {
            self.key.push_str(":");
        }
        self.first = false;
    }

    fn escape(&mut self, text: &str) {
        // No branch for each byte, so that it compiles to vectors: most texts need no escape.
        if !text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
            return self.key.push_str(text);
        }
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| is_escaped(*byte)) {
            self.key.push_str(text.get(plain..at).unwrap_or_default());
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
            let escape = [b'%', digit(byte >> 4), digit(byte & 15)];
            self.key.push_str(str::from_utf8(&escape).unwrap_or_default());
            plain = at + 1;
        }
        self.key.push_str(text.get(plain..).unwrap_or_default());
    }
}

/// What would end a part, begin an escape, or be refused by Memcached.
fn is_escaped(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, b':' | b'%' | 0x7f)
}

struct Escaped<'w, 'a>(&'w mut KeyWriter<'a>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escape(text);
        Ok(())
    }
}

#[cfg(all(test, feature = "macros"))]
mod tests {
    use crate::cache::CacheKey;

    #[derive(CacheKey)]
    struct Inside<T>(u8, T);

    #[test]
    fn a_derive_holds_in_this_crate_as_well() {
        assert_eq!(Inside(1, "a").key_text(), "1:a");
    }
}
