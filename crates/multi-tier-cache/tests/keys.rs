//! Keys of typed caches: the text of `PROTOCOL.md`, and that no two values of a type have the same.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any number will do")]

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::str::Split;
use std::sync::Arc;

use multi_tier_cache::CacheKey;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

#[test]
fn keys_are_byte_for_byte_what_the_protocol_says() {
    let golden: &[(&dyn CacheKey, &str)] = &[
        (&7, "7"),
        (&u128::MAX, "340282366920938463463374607431768211455"),
        (&i128::MIN, "-170141183460469231731687303715884105728"),
        (&NonZeroU64::MIN, "1"),
        (&true, "true"),
        (&'é', "é"),
        (&'\n', "%0A"),
        (&"Zoë: 100 %", "Zoë:%20100%20%25"),
        (&("Zoë: 100 %",), "Zoë%3A%20100%20%25"),
        (&':', "%3A"),
        (&Some(":"), "1:%3A"),
        (&"", ""),
        (&"\u{0}\u{1f} ~\u{7f}\u{80}", "%00%1F%20~%7F\u{80}"),
        (&(), ""),
        (&("de", -7), "de:-7"),
        (&("a:b", "c"), "a%3Ab:c"),
        (&("a", "b:c"), "a:b%3Ac"),
        (&(Some("x"), None::<u32>, true), "1:x:0:true"),
        (&Some(None::<u8>), "1:0"),
        (&vec!["a", ""], "2:a:"),
        (&Vec::<String>::new(), "0"),
        (&[vec![1, 2], vec![]], "2:2:1:2:0"),
        (&((1, 2), (), ((3,), 4)), "1:2:3:4"),
        (&(1, 2, 3, 4, 5, 6, 7, 8), "1:2:3:4:5:6:7:8"),
    ];
    for (key, expected) in golden {
        assert_eq!(key.key_text(), *expected);
    }
}

#[test]
fn numbers_are_written_as_they_are_displayed() {
    let near_powers = (0..127).flat_map(|power| [(1_i128 << power) - 1, 1 << power, (1 << power) + 1]);
    let near_tens = (0..=38).flat_map(|power| [10_i128.pow(power) - 1, 10_i128.pow(power)]);
    for number in near_powers.chain(near_tens) {
        assert_eq!(number.key_text(), number.to_string());
        assert_eq!((-number).key_text(), (-number).to_string());
        assert_eq!((number as u64).key_text(), (number as u64).to_string());
    }
    assert!((0..=u8::MAX).all(|number| number.key_text() == number.to_string()));
    assert!((i8::MIN..=i8::MAX).all(|number| number.key_text() == number.to_string()));
}

#[cfg(feature = "uuid")]
#[test]
fn a_uuid_is_written_with_hyphens_in_lower_case() {
    assert_eq!(uuid::Uuid::nil().key_text(), "00000000-0000-0000-0000-000000000000");
    assert_eq!(uuid::Uuid::from_u128(0xABCD << 112).key_text(), "abcd0000-0000-0000-0000-000000000000");
}

#[test]
fn a_borrowed_key_is_the_same_as_an_owned_one() {
    let text = "a b".to_owned();
    let same: [&dyn CacheKey; 7] = [
        &text,
        &text.as_str(),
        &Box::<str>::from("a b"),
        &Arc::<str>::from("a b"),
        &Rc::new(text.clone()),
        &Cow::Borrowed("a b"),
        &Cow::<str>::Owned(text.clone()),
    ];
    assert!(same.iter().all(|key| key.key_text() == "a%20b"));
    assert_eq!(vec![1, 2].key_text(), [1, 2].key_text());
    assert_eq!(vec![1, 2].key_text(), [1, 2].as_slice().key_text());
    assert_eq!((1, text.clone()).key_text(), (&1, text.as_str()).key_text());
}

#[test]
fn every_character_comes_back() {
    for character in '\0'..=char::MAX {
        let key = character.key_text();
        assert_eq!(String::read_whole(&key).unwrap(), character.to_string());
        assert!(is_plain(&key), "{character:?}");
    }
}

/// Reads a key as `PROTOCOL.md` says. What can be read back differs from every other.
trait Read: Sized {
    fn read(parts: &mut Split<'_, char>) -> Option<Self>;

    fn read_whole(key: &str) -> Option<Self> {
        let mut parts = key.split(':');
        let value = Self::read(&mut parts)?;
        parts.next().is_none().then_some(value)
    }
}

impl Read for String {
    fn read(parts: &mut Split<'_, char>) -> Option<Self> {
        Self::read_whole(parts.next()?)
    }

    fn read_whole(key: &str) -> Option<Self> {
        let mut pieces = key.split('%');
        let mut text = pieces.next()?.to_owned();
        for piece in pieces {
            text.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?.into());
            text.push_str(piece.get(2..)?);
        }
        Some(text)
    }
}

impl Read for i64 {
    fn read(parts: &mut Split<'_, char>) -> Option<Self> {
        parts.next()?.parse().ok()
    }
}

impl<T: Read> Read for Option<T> {
    fn read(parts: &mut Split<'_, char>) -> Option<Self> {
        match parts.next()? {
            "0" => Some(None),
            "1" => T::read(parts).map(Some),
            _ => None,
        }
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(parts: &mut Split<'_, char>) -> Option<Self> {
        let length: usize = parts.next()?.parse().ok()?;
        (0..length).map(|_| T::read(parts)).collect()
    }
}

impl<A: Read, B: Read> Read for (A, B) {
    fn read(parts: &mut Split<'_, char>) -> Option<Self> {
        Some((A::read(parts)?, B::read(parts)?))
    }
}

/// Memcached takes it as it is.
fn is_plain(key: &str) -> bool {
    key.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}

/// Short texts of the characters that keys are made of, so that a wrong rule makes two alike.
fn text() -> impl Strategy<Value = String> {
    let character = prop::sample::select(vec![':', '%', '0', '1', '2', '3', 'A', ' ', '\n', '\u{7f}', 'é']);
    vec(character, 0..4).prop_map(String::from_iter)
}

type Nested = ((String, Option<String>), (Vec<String>, (i64, Vec<Option<(String, String)>>)));

fn nested() -> impl Strategy<Value = Nested> {
    ((text(), of(text())), (vec(text(), 0..3), (-2_i64..3, vec(of((text(), text())), 0..3))))
}

/// Of many values, which are often equal: those with one key are.
fn distinct<T: CacheKey + Read + Eq + Hash + Debug>(values: Vec<T>) -> Result<(), TestCaseError> {
    let mut seen: HashMap<String, T> = HashMap::new();
    for value in values {
        let key = value.key_text();
        prop_assert!(is_plain(&key), "{key:?}");
        let read = T::read_whole(&key);
        prop_assert_eq!(read.as_ref(), Some(&value), "{}", key);
        if let Some(other) = seen.get(&key) {
            prop_assert_eq!(other, &value, "two values with the key {}", key);
        }
        seen.insert(key, value);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn pairs_of_strings_differ(values in vec((text(), text()), 64)) {
        distinct(values)?;
    }

    #[test]
    fn strings_differ(values in vec(text(), 64)) {
        distinct(values)?;
    }

    #[test]
    fn optional_strings_differ(values in vec(of(text()), 64)) {
        distinct(values)?;
    }

    #[test]
    fn lists_of_strings_differ(values in vec(vec(text(), 0..4), 64)) {
        distinct(values)?;
    }

    #[test]
    fn lists_of_lists_differ(values in vec(vec(vec(text(), 0..3), 0..3), 64)) {
        distinct(values)?;
    }

    #[test]
    fn nested_tuples_differ(values in vec(nested(), 64)) {
        distinct(values)?;
    }
}
