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
//! | `char`, `str`, `String` | the text; `%`, `:`, space and ASCII control characters as `%` and two hex digits; a text that is the whole key keeps its colons |
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

pub(crate) use self::buf::{Beginning, KeyBuf};

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
/// assert_eq!("user:7".key_text(), "user:7");
/// assert_eq!(("user:7", 1).key_text(), "user%3A7:1");
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

    /// The text that the value is or stands for, if it is one. As a whole key it keeps its colons, and is not copied
    /// where it needs no other escape. The same for all values of the type; `None` unless overridden.
    fn as_text(&self) -> Option<&str> {
        None
    }

    /// The entry's key without the cache's name.
    fn key_text(&self) -> String {
        let mut key = KeyBuf::default();
        key.push_key(self);
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
        self.escape(text, Escaped::Colons);
    }

    /// Writes one part: what `value` displays, escaped. Different values must display differently.
    ///
    /// A `Display` that fails, which it must not, ends the part there.
    pub fn display(&mut self, value: impl fmt::Display) {
        self.separate();
        let _ = write!(Escaping(self), "{value}");
    }

    /// Writes one part that needs no escape.
    fn plain(&mut self, value: impl fmt::Display) {
        self.separate();
        let _ = write!(self.key, "{value}");
    }

    /// Writes one part: the decimal digits.
    fn number(&mut self, number: impl itoa::Integer) {
        self.separate();
        self.key.push_str(itoa::Buffer::new().format(number));
    }

    #[inline]
    fn separate(&mut self) {
        if !self.first {
            self.key.push_str(":");
        }
        self.first = false;
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "which bytes are escaped is known where it is called")]
    fn escape(&mut self, text: &str, escaped: Escaped) {
        // Most texts need none.
        if escaped.occurs_in(text.as_bytes()) { self.escape_each(text, escaped) } else { self.key.push_str(text) }
    }

    #[cold]
    fn escape_each(&mut self, text: &str, escaped: Escaped) {
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| escaped.has(*byte)) {
            self.key.push_str(text.get(plain..at).unwrap_or_default());
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
            let escape = [b'%', digit(byte >> 4), digit(byte & 15)];
            self.key.push_str(str::from_utf8(&escape).unwrap_or_default());
            plain = at + 1;
        }
        self.key.push_str(text.get(plain..).unwrap_or_default());
    }
}

/// Which bytes are escaped: what would end a part, begin an escape, or be refused by Memcached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escaped {
    Colons,
    NoColons,
}

impl Escaped {
    fn has(self, byte: u8) -> bool {
        byte <= b' ' || matches!(byte, b'%' | 0x7f) || byte == b':' && self == Self::Colons
    }

    /// Whether one of `text` is, eight bytes at a time.
    #[inline]
    fn occurs_in(self, text: &[u8]) -> bool {
        let (words, rest) = text.as_chunks();
        let among_words = words.iter().fold(0, |found, word| found | self.among(u64::from_ne_bytes(*word)));
        // The last eight bytes tell of the rest, where there are so many.
        let among_rest = match text.last_chunk() {
            Some(last) => self.among(u64::from_ne_bytes(*last)) != 0,
            None => rest.iter().any(|byte| self.has(*byte)),
        };
        among_words != 0 || among_rest
    }

    /// Not zero if one of eight bytes is escaped. A byte is less than n if n can only be subtracted from it by borrowing,
    /// and its highest bit is not set.
    ///
    /// Source: the tests for a byte less than n, and for a zero byte, of S. E. Anderson's "Bit Twiddling Hacks".
    #[inline]
    fn among(self, word: u64) -> u64 {
        const EACH: u64 = u64::MAX / 255;
        let less_than = |word: u64, n: u8| word.wrapping_sub(EACH * u64::from(n)) & !word & (EACH << 7);
        let equal_to = |byte: u8| less_than(word ^ (EACH * u64::from(byte)), 1);
        let colon = if self == Self::Colons { b':' } else { b'%' };
        less_than(word, b' ' + 1) | equal_to(b'%') | equal_to(0x7f) | equal_to(colon)
    }
}

struct Escaping<'w, 'a>(&'w mut KeyWriter<'a>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escape(text, Escaped::Colons);
        Ok(())
    }
}

#[cfg(all(test, feature = "macros"))]
mod tests {
    use super::Escaped;
    use crate::cache::CacheKey;

    #[derive(CacheKey)]
    struct Inside<T>(u8, T);

    #[test]
    fn what_is_escaped_is_found_wherever_it_stands() {
        for length in 1..=25 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    for escaped in [Escaped::Colons, Escaped::NoColons] {
                        for other in [b'a', 0xc3, b'~', b'!'] {
                            let mut text = vec![other; length];
                            text[place] = byte;
                            assert_eq!(escaped.occurs_in(&text), escaped.has(byte), "{byte} at {place} of {length}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_derive_holds_in_this_crate_as_well() {
        assert_eq!(Inside(1, "a").key_text(), "1:a");
    }
}
