//! Turning typed values into the bytes that tiers hold.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CacheResult;

mod codec;

pub use codec::Codec;
#[cfg(feature = "postcard")]
pub use codec::PostcardCodec;
pub(crate) use codec::ids;

/// The format of the typed verbs. Every instance that shares a tier must use the same one: bytes of another format
/// do not decode and are computed anew.
///
/// ```
/// use multi_tier_cache::CacheSerializer;
///
/// let json = CacheSerializer::default();
/// let bytes = json.serialize(&vec![1, 2, 3])?;
/// assert_eq!(&bytes[..], b"[1,2,3]");
/// assert_eq!(json.deserialize::<Vec<u8>>(&bytes)?, vec![1, 2, 3]);
/// # Ok::<(), multi_tier_cache::CacheError>(())
/// ```
#[derive(Debug, Clone)]
pub enum CacheSerializer {
    /// JSON: readable by other programs.
    Json(JsonSerializer),
    /// Bincode 1.3: compact, but unmaintained (RUSTSEC-2025-0141) and broken by any change of a type's fields.
    #[cfg(feature = "bincode")]
    Bincode(BincodeSerializer),
    /// `MessagePack` with named fields: compact, and tolerant of added or reordered fields.
    #[cfg(feature = "msgpack")]
    MsgPack(MsgPackSerializer),
}

/// JSON, by `serde_json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonSerializer;

/// Bincode 1.3 with its default options.
#[cfg(feature = "bincode")]
#[derive(Debug, Clone, Copy, Default)]
pub struct BincodeSerializer;

/// `MessagePack` with field names, by `rmp-serde`.
#[cfg(feature = "msgpack")]
#[derive(Debug, Clone, Copy, Default)]
pub struct MsgPackSerializer;

impl Default for CacheSerializer {
    fn default() -> Self {
        Self::Json(JsonSerializer)
    }
}

impl CacheSerializer {
    /// The bytes of `value`.
    ///
    /// # Errors
    /// `SerializationError` if the format cannot represent it.
    pub fn serialize<T: Serialize>(&self, value: &T) -> CacheResult<Bytes> {
        Ok(match self {
            Self::Json(_) => serde_json::to_vec(value)?.into(),
            #[cfg(feature = "bincode")]
            Self::Bincode(_) => bincode::serialize(value)?.into(),
            #[cfg(feature = "msgpack")]
            Self::MsgPack(_) => rmp_serde::to_vec_named(value)?.into(),
        })
    }

    /// The value of `bytes`.
    ///
    /// # Errors
    /// `SerializationError` if they are not this format's bytes of a `T`.
    pub fn deserialize<T: DeserializeOwned>(&self, bytes: &[u8]) -> CacheResult<T> {
        Ok(match self {
            Self::Json(_) => serde_json::from_slice(bytes)?,
            #[cfg(feature = "bincode")]
            Self::Bincode(_) => bincode::deserialize(bytes)?,
            #[cfg(feature = "msgpack")]
            Self::MsgPack(_) => rmp_serde::from_slice(bytes)?,
        })
    }

    /// The format's name: `Json`, `Bincode` or `MsgPack`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "Json",
            #[cfg(feature = "bincode")]
            Self::Bincode(_) => "Bincode",
            #[cfg(feature = "msgpack")]
            Self::MsgPack(_) => "MsgPack",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::error::CacheError;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct User {
        id: u64,
        name: String,
        email: Option<String>,
    }

    fn every_format() -> Vec<CacheSerializer> {
        vec![
            CacheSerializer::default(),
            #[cfg(feature = "bincode")]
            CacheSerializer::Bincode(BincodeSerializer),
            #[cfg(feature = "msgpack")]
            CacheSerializer::MsgPack(MsgPackSerializer),
        ]
    }

    #[test]
    fn every_format_gives_back_what_it_was_given() {
        let user = User { id: u64::MAX, name: "Ǆ\0\n".into(), email: None };
        for format in every_format() {
            let bytes = format.serialize(&user).expect("encodes");
            assert_eq!(format.deserialize::<User>(&bytes).expect("decodes"), user, "{}", format.name());
        }
    }

    #[test]
    fn garbage_and_truncated_bytes_are_typed_errors() {
        let user = User { id: 1, name: "x".repeat(100), email: Some("e".into()) };
        for format in every_format() {
            let bytes = format.serialize(&user).expect("encodes");
            for bad in [&b""[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", &bytes[..bytes.len() / 2]] {
                let error = format.deserialize::<User>(bad).expect_err("refused");
                assert!(matches!(error, CacheError::SerializationError(_)), "{error}");
            }
        }
    }

    #[cfg(feature = "msgpack")]
    #[test]
    fn messagepack_tolerates_an_added_optional_field() {
        #[derive(Serialize)]
        struct Old {
            id: u64,
            name: String,
        }
        let format = CacheSerializer::MsgPack(MsgPackSerializer);
        let bytes = format.serialize(&Old { id: 3, name: "n".into() }).expect("encodes");
        let user: User = format.deserialize(&bytes).expect("decodes");
        assert_eq!(user, User { id: 3, name: "n".into(), email: None });
    }
}
