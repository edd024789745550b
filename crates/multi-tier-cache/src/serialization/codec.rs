//! The formats of typed values in awaited tiers.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "bincode")]
use super::BincodeSerializer;
#[cfg(feature = "msgpack")]
use super::MsgPackSerializer;
use super::{CacheSerializer, JsonSerializer};
use crate::error::CacheResult;
#[cfg(feature = "postcard")]
use crate::error::{CacheError, Failure};

/// The ids of the formats, compiled in or not.
pub(crate) mod ids {
    pub(crate) const JSON: u8 = 1;
    pub(crate) const MESSAGE_PACK: u8 = 2;
    pub(crate) const POSTCARD: u8 = 3;
    pub(crate) const BINCODE: u8 = 4;
}

/// Turns values of one type into bytes and back.
///
/// The id is stored with each value: a reader whose codec has another id takes the value for a miss and never decodes
/// bytes of a format that is not its own.
///
/// | id | format |
/// |---|---|
/// | 1 | JSON: [`JsonSerializer`] |
/// | 2 | `MessagePack` with field names: `MsgPackSerializer` |
/// | 3 | postcard: `PostcardCodec` |
/// | 4 | bincode 1.3: `BincodeSerializer` |
/// | 128 to 255 | yours |
///
/// All others are reserved. What a codec writes must stay readable as long as it keeps its id: older and newer programs
/// read it.
///
/// ```
/// use multi_tier_cache::{Bytes, CacheError, CacheResult, Codec};
///
/// /// Prices as decimal text, which other programs read as well.
/// struct Decimal;
///
/// impl Codec<u64> for Decimal {
///     fn id(&self) -> u8 {
///         128
///     }
///
///     fn encode(&self, value: &u64) -> CacheResult<Bytes> {
///         Ok(value.to_string().into())
///     }
///
///     fn decode(&self, bytes: &[u8]) -> CacheResult<u64> {
///         let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
///         number.ok_or_else(|| CacheError::SerializationError("not a decimal number".into()))
///     }
/// }
///
/// let bytes = Decimal.encode(&1_250)?;
/// assert_eq!(bytes, "1250");
/// assert_eq!(Decimal.decode(&bytes)?, 1_250);
/// assert!(matches!(Decimal.decode(b"12,50"), Err(CacheError::SerializationError(_))));
/// # Ok::<(), CacheError>(())
/// ```
pub trait Codec<V>: Send + Sync + 'static {
    /// The number of the format: 128 to 255 for a codec of yours.
    fn id(&self) -> u8;

    /// The bytes of `value`.
    ///
    /// # Errors
    /// `SerializationError` if the format cannot represent it.
    fn encode(&self, value: &V) -> CacheResult<Bytes>;

    /// The value of `bytes`, which may be anything: a shared store is written by others too.
    ///
    /// # Errors
    /// `SerializationError` if they are not this format's bytes of a `V`.
    fn decode(&self, bytes: &[u8]) -> CacheResult<V>;
}

/// [postcard](https://postcard.jamesmunns.com): the most compact, and fast.
///
/// It stores neither names nor types of fields: after any change of a type's fields the version of its schema must
/// change too. It does not limit how deep values are nested: if a type contains itself, hostile bytes can exhaust the
/// stack.
///
/// ```
/// use multi_tier_cache::{Codec, PostcardCodec};
///
/// let bytes = PostcardCodec.encode(&(7_u64, "Ada".to_owned()))?;
/// assert_eq!(bytes, &b"\x07\x03Ada"[..]);
/// let (id, name): (u64, String) = PostcardCodec.decode(&bytes)?;
/// assert_eq!((id, name.as_str()), (7, "Ada"));
/// # Ok::<(), multi_tier_cache::CacheError>(())
/// ```
#[cfg(feature = "postcard")]
#[derive(Debug, Clone, Copy, Default)]
pub struct PostcardCodec;

#[cfg(feature = "postcard")]
impl<V: Serialize + DeserializeOwned> Codec<V> for PostcardCodec {
    fn id(&self) -> u8 {
        ids::POSTCARD
    }

    fn encode(&self, value: &V) -> CacheResult<Bytes> {
        Ok(postcard::to_stdvec(value)?.into())
    }

    fn decode(&self, bytes: &[u8]) -> CacheResult<V> {
        match postcard::take_from_bytes(bytes)? {
            (value, []) => Ok(value),
            (_, rest) => {
                let failure = Failure::new(format!("{} bytes follow the value", rest.len()));
                Err(CacheError::SerializationError(failure))
            }
        }
    }
}

impl<V: Serialize + DeserializeOwned> Codec<V> for JsonSerializer {
    fn id(&self) -> u8 {
        ids::JSON
    }

    fn encode(&self, value: &V) -> CacheResult<Bytes> {
        CacheSerializer::Json(*self).serialize(value)
    }

    fn decode(&self, bytes: &[u8]) -> CacheResult<V> {
        CacheSerializer::Json(*self).deserialize(bytes)
    }
}

#[cfg(feature = "msgpack")]
impl<V: Serialize + DeserializeOwned> Codec<V> for MsgPackSerializer {
    fn id(&self) -> u8 {
        ids::MESSAGE_PACK
    }

    fn encode(&self, value: &V) -> CacheResult<Bytes> {
        CacheSerializer::MsgPack(*self).serialize(value)
    }

    fn decode(&self, bytes: &[u8]) -> CacheResult<V> {
        CacheSerializer::MsgPack(*self).deserialize(bytes)
    }
}

#[cfg(feature = "bincode")]
impl<V: Serialize + DeserializeOwned> Codec<V> for BincodeSerializer {
    fn id(&self) -> u8 {
        ids::BINCODE
    }

    fn encode(&self, value: &V) -> CacheResult<Bytes> {
        CacheSerializer::Bincode(*self).serialize(value)
    }

    fn decode(&self, bytes: &[u8]) -> CacheResult<V> {
        CacheSerializer::Bincode(*self).deserialize(bytes)
    }
}

/// The codec of its format.
impl<V: Serialize + DeserializeOwned> Codec<V> for CacheSerializer {
    fn id(&self) -> u8 {
        match self {
            Self::Json(json) => Codec::<V>::id(json),
            #[cfg(feature = "bincode")]
            Self::Bincode(bincode) => Codec::<V>::id(bincode),
            #[cfg(feature = "msgpack")]
            Self::MsgPack(msgpack) => Codec::<V>::id(msgpack),
        }
    }

    fn encode(&self, value: &V) -> CacheResult<Bytes> {
        self.serialize(value)
    }

    fn decode(&self, bytes: &[u8]) -> CacheResult<V> {
        self.deserialize(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::error::CacheError;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct User {
        id: u64,
        name: String,
        role: Role,
        visits: BTreeMap<String, Vec<i32>>,
        email: Option<String>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Role {
        Guest,
        Member { since: i64 },
        Other(bool, char),
    }

    fn every_codec() -> Vec<(&'static str, u8, Box<dyn Codec<User>>)> {
        vec![
            ("Json", 1, Box::new(JsonSerializer)),
            #[cfg(feature = "msgpack")]
            ("MsgPack", 2, Box::new(MsgPackSerializer)),
            #[cfg(feature = "postcard")]
            ("Postcard", 3, Box::new(PostcardCodec)),
            #[cfg(feature = "bincode")]
            ("Bincode", 4, Box::new(BincodeSerializer)),
            ("CacheSerializer", 1, Box::new(CacheSerializer::default())),
            #[cfg(feature = "msgpack")]
            ("CacheSerializer of MsgPack", 2, Box::new(CacheSerializer::MsgPack(MsgPackSerializer))),
            #[cfg(feature = "bincode")]
            ("CacheSerializer of Bincode", 4, Box::new(CacheSerializer::Bincode(BincodeSerializer))),
        ]
    }

    fn user() -> User {
        let visits = [("home".to_owned(), vec![1, -2]), (String::new(), Vec::new())].into();
        User { id: u64::MAX, name: "Ǆ\0\n".into(), role: Role::Other(true, '\u{10FFFF}'), visits, email: None }
    }

    fn any_user() -> impl Strategy<Value = User> {
        let role = prop_oneof![
            Just(Role::Guest),
            any::<i64>().prop_map(|since| Role::Member { since }),
            any::<(bool, char)>().prop_map(|(yes, letter)| Role::Other(yes, letter)),
        ];
        let visits = prop::collection::btree_map(".{0,9}", prop::collection::vec(any::<i32>(), 0..9), 0..4);
        (any::<u64>(), ".{0,99}", role, visits, prop::option::of(".{0,9}"))
            .prop_map(|(id, name, role, visits, email)| User { id, name, role, visits, email })
    }

    #[test]
    fn every_codec_has_the_id_of_its_format() {
        for (name, id, codec) in every_codec() {
            assert_eq!(codec.id(), id, "{name}");
        }
    }

    #[test]
    fn garbage_and_truncated_bytes_are_typed_errors() {
        for (name, _, codec) in every_codec() {
            let bytes = codec.encode(&user()).expect("encodes");
            let truncated = (0..bytes.len()).map(|length| &bytes[..length]);
            for bad in truncated.chain([&[0xFF; 9][..], &[0xFF; 64]]) {
                let error = codec.decode(bad).expect_err("refused");
                assert!(matches!(error, CacheError::SerializationError(_)), "{name}: {error}");
            }
        }
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn postcard_refuses_bytes_that_follow_the_value() {
        let error = Codec::<u8>::decode(&PostcardCodec, &[1, 2]).expect_err("refused");
        assert_eq!(error.to_string(), "Serialization error: 1 bytes follow the value");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_codec_gives_back_what_it_was_given(user in any_user()) {
            for (name, _, codec) in every_codec() {
                let bytes = codec.encode(&user).expect("encodes");
                prop_assert_eq!(codec.decode(&bytes).expect("decodes"), user.clone(), "{}", name);
            }
        }

        #[test]
        fn no_bytes_are_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
        ) {
            for (name, _, codec) in every_codec() {
                // Garbage alone, and behind the beginning of a value.
                let whole = codec.encode(&user()).expect("encodes");
                let spoiled = [&whole[..at.index(whole.len())], &bytes].concat();
                for bad in [&bytes, &spoiled] {
                    if let Err(error) = codec.decode(bad) {
                        prop_assert!(matches!(error, CacheError::SerializationError(_)), "{}: {}", name, error);
                    }
                }
            }
        }
    }
}
