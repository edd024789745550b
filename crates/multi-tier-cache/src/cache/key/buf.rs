//! Where a key is written: on the stack, unless it is long.

use std::fmt;
use std::ops::Deref;

use arrayvec::ArrayString;

use super::{CacheKey, Escaped, KeyWriter};

/// The longest key that needs no allocation, in bytes, with the cache's name.
const INLINE_BYTES: usize = 128;

/// The key of an entry: `NAME:PARTS`.
#[derive(Debug)]
pub(crate) enum KeyBuf {
    Inline(ArrayString<INLINE_BYTES>),
    Spilled(String),
}

impl KeyBuf {
    /// What all keys of the cache called `name` begin with: the name, escaped like a part.
    pub(crate) fn beginning(name: &str) -> Box<str> {
        let mut beginning = Self::default();
        KeyWriter::new(&mut beginning).text(name);
        beginning.push_str(":");
        beginning.into_string().into()
    }

    /// The key of `key` in the cache whose keys have this [`beginning`](Self::beginning).
    #[inline]
    pub(crate) fn new<K: CacheKey + ?Sized>(beginning: &str, key: &K) -> Self {
        let mut full = Self::default();
        full.push_str(beginning);
        full.push_key(key);
        full
    }

    #[inline]
    pub(super) fn push_key<K: CacheKey + ?Sized>(&mut self, key: &K) {
        let mut writer = KeyWriter::new(self);
        match key.as_text() {
            Some(text) => writer.escape(text, Escaped::NoColons),
            None => key.write_key(&mut writer),
        }
    }

    #[inline]
    pub(super) fn push_str(&mut self, text: &str) {
        if let Self::Inline(inline) = self
            && inline.try_push_str(text).is_ok()
        {
            return;
        }
        self.push_long(text);
    }

    #[cold]
    fn push_long(&mut self, text: &str) {
        match self {
            Self::Inline(inline) => {
                let mut spilled = String::with_capacity((inline.len() + text.len()).max(2 * INLINE_BYTES));
                spilled.push_str(inline);
                spilled.push_str(text);
                *self = Self::Spilled(spilled);
            }
            Self::Spilled(spilled) => spilled.push_str(text),
        }
    }

    pub(super) fn into_string(self) -> String {
        match self {
            Self::Inline(inline) => inline.as_str().to_owned(),
            Self::Spilled(spilled) => spilled,
        }
    }
}

impl Default for KeyBuf {
    fn default() -> Self {
        Self::Inline(ArrayString::new_const())
    }
}

impl Deref for KeyBuf {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Inline(inline) => inline,
            Self::Spilled(spilled) => spilled,
        }
    }
}

impl fmt::Write for KeyBuf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;

    use super::*;

    fn full<K: CacheKey + ?Sized>(name: &str, key: &K) -> KeyBuf {
        KeyBuf::new(&KeyBuf::beginning(name), key)
    }

    #[test]
    fn a_key_is_the_name_and_the_parts() {
        assert_eq!(&*full("users", &7), "users:7");
        assert_eq!(&*full("users", &()), "users:");
        assert_eq!(&*full("users", ""), "users:");
        assert_eq!(&*full("", &(1, "a b")), ":1:a%20b");
    }

    #[test]
    fn names_are_never_taken_for_parts() {
        assert_eq!(&*full("a:b", "c"), "a%3Ab:c");
        assert_eq!(&*full("a", "b:c"), "a:b:c");
        assert_eq!(&*full("a", &("b:c", 1)), "a:b%3Ac:1");
        assert_eq!(&*full("a", &("b", "c")), "a:b:c");
    }

    #[test]
    fn a_key_of_any_length_is_whole() {
        for length in 0..3 * INLINE_BYTES {
            let text: String = ('a'..='z').cycle().take(length).collect();
            assert_eq!(&*full("n", &text), format!("n:{text}"));
            assert_eq!((&*text, 7).key_text(), format!("{text}:7"));
            let spaces = " ".repeat(length);
            assert_eq!(&*full("n", &spaces), format!("n:{}", "%20".repeat(length)));
        }
    }

    #[test]
    fn a_short_key_allocates_nothing() {
        let fitting = "x".repeat(INLINE_BYTES - "users:".len());
        let parts = (u64::MAX, i128::MIN, 'é', true, Some("a b"), [1, 2]);
        for (expected, work) in [
            (0, &(|| KeyBuf::new("users:", &42_u64).len()) as &dyn Fn() -> usize),
            (0, &|| KeyBuf::new("users:", &parts).len()),
            (0, &|| KeyBuf::new("users:", &fitting).len()),
            (1, &|| KeyBuf::new("users+:", &fitting).len()),
        ] {
            let allocated = measure(|| assert!(work() > 0));
            assert_eq!(allocated.count_total, expected);
        }
    }
}
