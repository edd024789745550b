//! Where a key is written: on the stack, unless it is long.

use std::fmt;
use std::ops::Deref;

use super::{CacheKey, Escaped, KeyWriter};

/// The longest key that needs no allocation, in bytes, with the cache's name.
const INLINE_BYTES: usize = 128;
/// The words that every key begins by copying, whether or not it needs them all.
const FIRST_WORDS: usize = 4;
const WORD: usize = size_of::<u64>();

type Word = [u8; WORD];

/// The key of an entry: `NAME:PARTS`.
///
/// It is written in whole words: the hash of a key is read from where the key was just written, and a processor that
/// reads back what it has just written waits, unless it reads within what one instruction wrote.
#[derive(Debug)]
pub(crate) struct KeyBuf {
    /// The text while it is short, behind it zeros: up to two words more than it takes.
    words: [Word; INLINE_BYTES / WORD + 2],
    len: usize,
    /// The text once it is long.
    spilled: String,
}

/// What all keys of a cache begin with: its name, escaped like a part, and a colon.
pub(crate) struct Beginning {
    text: Box<str>,
    /// The text in words, if it is short.
    words: Option<[Word; FIRST_WORDS]>,
}

impl Beginning {
    /// What all keys of the cache called `name` begin with.
    pub(crate) fn new(name: &str) -> Self {
        let mut beginning = KeyBuf::default();
        KeyWriter::new(&mut beginning).text(name);
        beginning.push_str(":");
        let words = if beginning.len() < FIRST_WORDS * WORD { beginning.words.first_chunk().copied() } else { None };
        Self { text: beginning.into_string().into(), words }
    }
}

impl Deref for Beginning {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl KeyBuf {
    /// The key of `key` in the cache whose keys begin so.
    #[inline]
    pub(crate) fn new<K: CacheKey + ?Sized>(beginning: &Beginning, key: &K) -> Self {
        let mut full = Self::default();
        full.write(beginning, key);
        full
    }

    /// The same into a buffer that is still empty, and is not moved: that would read back what was just written.
    #[inline]
    pub(crate) fn write<K: CacheKey + ?Sized>(&mut self, beginning: &Beginning, key: &K) {
        match (&beginning.words, self.words.first_chunk_mut()) {
            (Some(words), Some(first)) => (*first, self.len) = (*words, beginning.text.len()),
            _ => self.push_str(&beginning.text),
        }
        self.push_key(key);
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
        if self.push_words(text.as_bytes()).is_none() {
            self.push_long(text);
        }
    }

    /// Appends `text`; `None`, with nothing changed, if there is no room for it.
    #[inline]
    fn push_words(&mut self, text: &[u8]) -> Option<()> {
        let len = self.len + text.len();
        if len > INLINE_BYTES {
            return None;
        }
        let shift = self.len % WORD * 8;
        let above = |word: u64| (word >> 1) >> (63 - shift);
        let mut places = self.words.get_mut(self.len / WORD..)?.iter_mut();
        let mut begun = u64::from_le_bytes(*places.as_slice().first()?);
        let (words, rest) = text.as_chunks();
        for (word, place) in words.iter().zip(places.by_ref()) {
            let word = u64::from_le_bytes(*word);
            *place = (begun | word << shift).to_le_bytes();
            begun = above(word);
        }
        let rest = match text.last_chunk() {
            // The last eight bytes end with the rest.
            Some(last) => (u64::from_le_bytes(*last) >> 1) >> (63 - rest.len() * 8),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        *places.next()? = (begun | rest << shift).to_le_bytes();
        *places.next()? = above(rest).to_le_bytes();
        self.len = len;
        Some(())
    }

    #[cold]
    fn push_long(&mut self, text: &str) {
        if self.spilled.is_empty() {
            let mut spilled = String::with_capacity((self.len + text.len()).max(2 * INLINE_BYTES));
            spilled.push_str(self);
            // From here on no text is short.
            (self.spilled, self.len) = (spilled, INLINE_BYTES);
        }
        self.spilled.push_str(text);
    }

    pub(super) fn into_string(self) -> String {
        if self.spilled.is_empty() { (*self).to_owned() } else { self.spilled }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.spilled.is_empty() {
            self.words.as_flattened().get(..self.len).unwrap_or_default()
        } else {
            self.spilled.as_bytes()
        }
    }
}

impl Default for KeyBuf {
    #[inline]
    fn default() -> Self {
        Self { words: [[0; WORD]; INLINE_BYTES / WORD + 2], len: 0, spilled: String::new() }
    }
}

/// Checked to be text each time, which it always is: the quickest way asks for the bytes.
impl Deref for KeyBuf {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
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
        KeyBuf::new(&Beginning::new(name), key)
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

    // Every place within a word, with and without a beginning that is copied as a whole.
    #[test]
    fn parts_of_any_length_stand_behind_names_of_any_length() {
        let letters: String = "aé".chars().cycle().take(60).collect();
        let part = |bytes: usize| letters.get(..bytes).or_else(|| letters.get(..bytes - 1)).unwrap_or_default();
        for name in (0..=FIRST_WORDS * WORD + 2).map(part) {
            for first in (0..=2 * WORD + 1).map(part) {
                for second in (0..=WORD + 1).map(part) {
                    let key = full(name, &(first, second));
                    assert_eq!(&*key, format!("{name}:{first}:{second}"));
                    assert!(key.words.as_flattened().iter().skip(key.len).all(|byte| *byte == 0));
                }
            }
        }
    }

    #[test]
    fn a_short_key_allocates_nothing() {
        let fitting = "x".repeat(INLINE_BYTES - "users:".len());
        let parts = (u64::MAX, i128::MIN, 'é', true, Some("a b"), [1, 2]);
        let (users, longer) = (Beginning::new("users"), Beginning::new("users+"));
        for (expected, work) in [
            (0, &(|| KeyBuf::new(&users, &42_u64).len()) as &dyn Fn() -> usize),
            (0, &|| KeyBuf::new(&users, &parts).len()),
            (0, &|| KeyBuf::new(&users, &fitting).len()),
            (1, &|| KeyBuf::new(&longer, &fitting).len()),
        ] {
            let allocated = measure(|| assert!(work() > 0));
            assert_eq!(allocated.count_total, expected);
        }
    }
}
