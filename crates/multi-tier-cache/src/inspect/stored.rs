//! Stored bytes, taken apart.

use bytes::Bytes;

use crate::defaults::INSPECTED_BYTES_MAX;
use crate::serialization::ids;
use crate::wire::envelope::{Envelope, Rejected};
use crate::wire::tagged::{self, Tags};

/// What a shared store holds under a cache's key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// A value without a head: of the verbs on bytes, or of another program.
    Plain(Bytes),
    /// A value of the verbs on bytes that has tags.
    Tagged(Tags, Bytes),
    /// A value of a typed cache.
    Typed(Box<Envelope>),
    /// It begins like a head and is none that this version reads: a miss to every reader.
    Unreadable(Rejected),
}

impl Stored {
    /// The tags; `None` where there are none.
    #[must_use]
    pub fn tags(&self) -> Option<Tags> {
        let tags = match self {
            Self::Plain(_) | Self::Unreadable(_) => return None,
            Self::Tagged(tags, _) => tags.clone(),
            Self::Typed(envelope) => Tags { epoch: envelope.epoch, seq: envelope.seq, names: envelope.tags.clone() },
        };
        (!tags.names.is_empty()).then_some(tags)
    }
}

/// Takes stored bytes apart. The value is a slice of them unless it was compressed; one of more than
/// [`INSPECTED_BYTES_MAX`] bytes is [`Rejected::TooLarge`].
#[must_use]
pub fn decode(stored: Bytes) -> Stored {
    match Envelope::open(&stored, INSPECTED_BYTES_MAX) {
        Ok(envelope) => Stored::Typed(Box::new(envelope)),
        Err(rejected) => match tagged::decode(stored) {
            tagged::Stored::Plain(value) => Stored::Plain(value),
            tagged::Stored::Tagged(tags, value) => Stored::Tagged(tags, value),
            tagged::Stored::Foreign => Stored::Unreadable(rejected),
        },
    }
}

/// Whether a value with these tags may be served while the log is in `epoch` and this is what the keys of its tags hold,
/// in their order.
#[must_use]
pub fn holds(tags: &Tags, epoch: u64, tokens: &[Option<String>]) -> bool {
    let tokens: Vec<_> = tokens.iter().map(|token| token_seq(token.as_deref()?, epoch)).collect();
    tags.hold(epoch, &tokens)
}

/// The number in the token of a tag. One of another epoch is none.
fn token_seq(token: &str, epoch: u64) -> Option<u64> {
    token.strip_prefix(&format!("{epoch:016x}-"))?.parse().ok()
}

/// The name of the format with this id in an envelope; `None` for the user's own and for unknown ones.
#[must_use]
pub fn codec_name(id: u8) -> Option<&'static str> {
    match id {
        ids::JSON => Some("JSON"),
        ids::MESSAGE_PACK => Some("MessagePack"),
        ids::POSTCARD => Some("postcard"),
        ids::BINCODE => Some("bincode"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            absent: false,
            codec: ids::JSON,
            schema: 1,
            epoch: 0xAB,
            seq: 7,
            lifetime: Duration::from_secs(60),
            fresh: Duration::from_secs(30),
            age: Duration::ZERO,
            cost: Duration::from_millis(5),
            tags: vec!["red".into()],
            validator: None,
            payload: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn every_form_of_a_value_is_told() {
        let plain = Bytes::from_static(b"text");
        assert_eq!(decode(plain.clone()), Stored::Plain(plain.clone()));
        let tags = Tags { epoch: 1, seq: 2, names: vec!["red".into()] };
        let stored = tagged::with_tags(1, 2, &tags.names, plain.clone());
        assert_eq!(decode(stored), Stored::Tagged(tags, plain));
        let sealed = envelope().seal(usize::MAX).unwrap();
        assert_eq!(decode(sealed.clone()), Stored::Typed(Box::new(envelope())));
        assert_eq!(decode(sealed.slice(..sealed.len() - 1)), Stored::Unreadable(Rejected::Truncated));
        let newer = Bytes::from_static(b"\xC1mtc\x09");
        assert_eq!(decode(newer), Stored::Unreadable(Rejected::Version));
    }

    #[test]
    fn a_value_holds_while_its_tags_do() {
        let tags = Stored::Typed(Box::new(envelope())).tags().unwrap();
        let token = |token: &str| [Some(token.to_owned())];
        assert!(holds(&tags, 0xAB, &token("00000000000000ab-7")));
        assert!(!holds(&tags, 0xAB, &token("00000000000000ab-8")), "revoked since");
        assert!(!holds(&tags, 0xAB, &token("00000000000000ac-1")), "of another epoch");
        assert!(!holds(&tags, 0xAC, &token("00000000000000ac-1")), "stored in another epoch");
        assert!(!holds(&tags, 0xAB, &[None]), "lost");
    }

    #[test]
    fn every_codec_of_the_library_has_a_name() {
        let names: Vec<_> = (0..=u8::MAX).filter_map(codec_name).collect();
        assert_eq!(names, ["JSON", "MessagePack", "postcard", "bincode"]);
    }
}
