//! The messages of the invalidation bus, as JSON with a `type` tag.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::CacheResult;

/// An invalidation as other programs send and read it.
///
/// ```
/// use multi_tier_cache::InvalidationMessage;
///
/// let message = InvalidationMessage::from_json(r#"{"type":"Remove","key":"user:1"}"#)?;
/// assert_eq!(message, InvalidationMessage::remove("user:1"));
/// # Ok::<(), multi_tier_cache::CacheError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum InvalidationMessage {
    /// One key is gone.
    Remove {
        /// The key.
        key: String,
    },
    /// One key has a new value.
    Update {
        /// The key.
        key: String,
        /// The value: written as an array of bytes, read from that or from a string of hex digits.
        #[serde(with = "value")]
        value: Bytes,
        /// Time to live in whole seconds; left out when not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_secs: Option<u64>,
    },
    /// Every key matching a Redis glob pattern is gone.
    RemovePattern {
        /// The pattern.
        pattern: String,
    },
    /// Several keys are gone.
    RemoveBulk {
        /// The keys.
        keys: Vec<String>,
    },
}

impl InvalidationMessage {
    /// One key is gone.
    pub fn remove(key: impl Into<String>) -> Self {
        Self::Remove { key: key.into() }
    }

    /// One key has a new value. Parts of a second of `ttl` are cut off.
    pub fn update(key: impl Into<String>, value: Bytes, ttl: Option<Duration>) -> Self {
        Self::Update { key: key.into(), value, ttl_secs: ttl.map(|ttl| ttl.as_secs()) }
    }

    /// Every key matching a Redis glob pattern is gone.
    pub fn remove_pattern(pattern: impl Into<String>) -> Self {
        Self::RemovePattern { pattern: pattern.into() }
    }

    /// Several keys are gone.
    #[must_use]
    pub fn remove_bulk(keys: Vec<String>) -> Self {
        Self::RemoveBulk { keys }
    }

    /// The message as JSON.
    ///
    /// # Errors
    /// `SerializationError`, in practice never: every field has a JSON form.
    pub fn to_json(&self) -> CacheResult<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// The message in `json`.
    ///
    /// # Errors
    /// `SerializationError` if it is not one of the four messages.
    pub fn from_json(json: &str) -> CacheResult<Self> {
        Ok(serde_json::from_str(json)?)
    }

    /// The time to live of an `Update` that has one.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        match self {
            Self::Update { ttl_secs, .. } => ttl_secs.map(Duration::from_secs),
            _ => None,
        }
    }
}

mod value {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_any(ArrayOrHex)
    }

    struct ArrayOrHex;

    impl<'de> Visitor<'de> for ArrayOrHex {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of bytes or a string of hex digits")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Bytes, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = array.next_element::<u8>()? {
                bytes.push(byte);
            }
            Ok(bytes.into())
        }

        fn visit_str<E: Error>(self, hex: &str) -> Result<Bytes, E> {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let pair = |pair: &[u8]| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            };
            hex.as_bytes()
                .chunks(2)
                .map(|digits| pair(digits).ok_or_else(|| E::custom("not an even number of hex digits")))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_its_json() {
        for message in [
            InvalidationMessage::remove("k\r\n\""),
            InvalidationMessage::update("k", Bytes::from_static(b"\x00\xff"), Some(Duration::from_millis(2_900))),
            InvalidationMessage::update("k", Bytes::new(), None),
            InvalidationMessage::remove_pattern("user:*"),
            InvalidationMessage::remove_bulk(vec!["a".into(), String::new()]),
        ] {
            let json = message.to_json().expect("encodes");
            assert_eq!(InvalidationMessage::from_json(&json).expect("decodes"), message, "{json}");
        }
    }

    #[test]
    fn the_json_is_that_of_the_established_crate() {
        let update = InvalidationMessage::update("k", Bytes::from_static(b"\x01\xff"), None);
        assert_eq!(update.to_json().expect("encodes"), r#"{"type":"Update","key":"k","value":[1,255]}"#);
        let hex = InvalidationMessage::from_json(r#"{"type":"Update","key":"k","value":"01fF","ttl_secs":9}"#);
        let hex = hex.expect("decodes");
        assert_eq!(hex.ttl(), Some(Duration::from_secs(9)));
        assert!(matches!(hex, InvalidationMessage::Update { value, .. } if &value[..] == b"\x01\xff"));
    }

    #[test]
    fn anything_else_is_a_typed_error() {
        for bad in ["", "{}", r#"{"type":"Drop","key":"k"}"#, r#"{"type":"Update","key":"k","value":"abc"}"#, "[]"] {
            assert!(InvalidationMessage::from_json(bad).is_err(), "{bad}");
        }
    }
}
