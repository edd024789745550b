//! How the default first tier hashes and compares keys.

use std::hash::{BuildHasher, Hasher};

const WORD: usize = size_of::<u64>();
/// The golden ratio, as an odd number of 64 bits.
const LAST: u64 = 0x9e37_79b9_7f4a_7c15;

/// Secrets of one store, so that nobody outside the process can choose keys that collide.
#[derive(Clone)]
pub(super) struct KeyHash {
    begin: u64,
    step: u64,
}

impl KeyHash {
    pub(super) fn random() -> Self {
        let source = foldhash::quality::RandomState::default();
        Self { begin: source.hash_one(0), step: source.hash_one(1) }
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { hash: self.begin, step: self.step }
    }
}

/// Hashes one text, two words at a time: the halves of the product of one with the other, each mixed with what nobody
/// knows. Words are read from where whole words are written: a key that was just put together is not waited for.
///
/// Source: the multiplication of wyhash and of foldhash.
pub(super) struct KeyHasher {
    hash: u64,
    step: u64,
}

impl KeyHasher {
    #[inline]
    fn mix(&mut self, first: u64, second: u64) {
        self.hash = fold(self.hash ^ first, self.step ^ second);
    }
}

#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, text: &[u8]) {
        // Zeros behind a text are told from zeros in it by its length. Added to a secret, a length could be made up for
        // by another text; what it turns the secret into is not known.
        #[expect(clippy::cast_possible_truncation, reason = "what counts is the remainder of 64")]
        let turns = text.len() as u32;
        self.hash = self.hash.rotate_right(turns);
        let (words, rest) = text.as_chunks::<WORD>();
        let (pairs, last) = words.as_chunks::<2>();
        for [first, second] in pairs {
            self.mix(u64::from_le_bytes(*first), u64::from_le_bytes(*second));
        }
        match last.first() {
            Some(first) => self.mix(u64::from_le_bytes(*first), partial(rest)),
            None => self.mix(partial(rest), 0),
        }
    }

    /// The mark behind a text, after which nothing comes.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    /// Once more: after one product, keys in a row are spread badly under every second secret.
    #[inline]
    fn finish(&self) -> u64 {
        fold(self.hash, LAST)
    }
}

/// Whether two keys are the same, by words as well.
#[inline]
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (others, others_rest)) = (one.as_chunks::<WORD>(), other.as_chunks::<WORD>());
    one.len() == other.len()
        && words.iter().zip(others).all(|(word, other)| u64::from_le_bytes(*word) == u64::from_le_bytes(*other))
        && partial(rest) == partial(others_rest)
}

/// Fewer than eight bytes, and zeros: in parts of words.
#[inline]
fn partial(mut bytes: &[u8]) -> u64 {
    let (mut word, mut place) = (0, 0);
    if let Some((four, more)) = bytes.split_first_chunk() {
        (word, place, bytes) = (u64::from(u32::from_le_bytes(*four)), 32, more);
    }
    if let Some((two, more)) = bytes.split_first_chunk() {
        (word, place, bytes) = (word | u64::from(u16::from_le_bytes(*two)) << place, place + 16, more);
    }
    if let Some(one) = bytes.first() {
        word |= u64::from(*one) << place;
    }
    word
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn hash(by: &KeyHash, text: &[u8]) -> u64 {
        let mut hasher = by.build_hasher();
        hasher.write(text);
        hasher.finish()
    }

    #[test]
    fn texts_that_differ_in_a_bit_or_in_length_have_different_hashes() {
        let by = KeyHash::random();
        let mut seen = HashSet::new();
        let mut texts = 0;
        for length in 0..80 {
            for byte in [0, b'a'] {
                let mut text = vec![byte; length];
                texts += usize::from(length > 0 || byte == 0);
                seen.insert(hash(&by, &text));
                for bit in 0..length * 8 {
                    text[bit / 8] ^= 1 << (bit % 8);
                    seen.insert(hash(&by, &text));
                    texts += 1;
                    text[bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
        assert_eq!(seen.len(), texts);
    }

    // A table takes some of the lowest bits for the place and the highest seven for the first comparison, a store others
    // for the shard.
    #[test]
    fn keys_in_a_row_are_spread_over_every_part_of_the_hash_whatever_the_secrets() {
        let names: [fn(u32) -> String; 3] =
            [|n| format!("user:profile:{n:09}"), |n| format!("k{n}"), |n| format!("session:{n:014}")];
        for name in names {
            let keys: Vec<String> = (0..8_192).map(name).collect();
            for _ in 0..40 {
                let by = KeyHash::random();
                let mut shares = [[0_i32; 256]; 8];
                for key in &keys {
                    let bytes = hash(&by, key.as_bytes()).to_le_bytes();
                    bytes.iter().zip(&mut shares).for_each(|(byte, shares)| shares[usize::from(*byte)] += 1);
                }
                for shares in shares {
                    // Chi squared with 255 degrees of freedom: 255 on average, with a standard deviation of 22.6.
                    let off: i32 = shares.iter().map(|share| (share - 32) * (share - 32)).sum();
                    assert!(off / 32 < 455, "{} of keys like {}", off / 32, keys[0]);
                }
            }
        }
    }

    #[test]
    fn texts_are_the_same_if_every_byte_is() {
        for length in 0..40 {
            let text = vec![b'a'; length];
            assert!(is_same(&text, &text.clone()));
            assert!(!is_same(&text, &[&*text, &[0]].concat()));
            for place in 0..length {
                let mut other = text.clone();
                other[place] = b'b';
                assert!(!is_same(&text, &other) && !is_same(&other, &text), "{place} of {length}");
            }
        }
    }

    #[test]
    fn two_stores_hash_differently() {
        assert_ne!(hash(&KeyHash::random(), b"a"), hash(&KeyHash::random(), b"a"));
    }
}
