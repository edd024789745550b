//! Values with tags: a head in front of the bytes, as `PROTOCOL.md` gives it.
//!
//! A value without tags is stored as it is, unless its own bytes begin like a head; then it gets one without tags.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

/// No UTF-8 text, JSON or MessagePack begins with the first byte.
pub(super) const MAGIC: [u8; 4] = *b"\xC1mtc";
const VERSION: u8 = 1;
/// Magic, version, epoch, sequence number, number of tags.
const FIXED: usize = 4 + 1 + 8 + 8 + 2;

/// The tags of a stored value, and the moment of the log at which none of them had been revoked since the value was
/// loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tags {
    /// The epoch of the log in which the value was stored.
    pub epoch: u64,
    /// Where the log stood.
    pub seq: u64,
    /// The tags; most values have none.
    pub names: Vec<Arc<str>>,
}

impl Tags {
    /// Whether the entry may be served while the tags have these tokens.
    pub(crate) fn hold(&self, epoch: u64, tokens: &[Option<u64>]) -> bool {
        let holds = |token: &Option<u64>| token.is_some_and(|revoked| revoked <= self.seq);
        self.epoch == epoch && tokens.len() == self.names.len() && tokens.iter().all(holds)
    }
}

/// A stored value, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    Plain(Bytes),
    Tagged(Tags, Bytes),
    /// It begins like a head and is none that this version knows: a miss.
    Foreign,
}

/// `value` as it is stored without tags.
pub(crate) fn plain(value: Bytes) -> Bytes {
    if value.starts_with(&MAGIC) { encode(0, 0, &[], &value) } else { value }
}

/// `value` as it is stored with `names`, which have not been revoked since the log stood at `seq`.
pub(crate) fn with_tags(epoch: u64, seq: u64, names: &[Arc<str>], value: Bytes) -> Bytes {
    if names.is_empty() { plain(value) } else { encode(epoch, seq, names, &value) }
}

/// Takes a stored value apart.
pub(crate) fn decode(stored: Bytes) -> Stored {
    if !stored.starts_with(&MAGIC) {
        return Stored::Plain(stored);
    }
    match head(&stored) {
        Some((tags, length)) if tags.names.is_empty() => Stored::Plain(stored.slice(length..)),
        Some((tags, length)) => Stored::Tagged(tags, stored.slice(length..)),
        None => Stored::Foreign,
    }
}

fn encode(epoch: u64, seq: u64, names: &[Arc<str>], value: &[u8]) -> Bytes {
    let names = names.iter().filter_map(|name| Some((u16::try_from(name.len()).ok()?, name)));
    let names: Vec<_> = names.take(usize::from(u16::MAX)).collect();
    let length = FIXED + names.iter().map(|(_, name)| 2 + name.len()).sum::<usize>() + value.len();
    let mut stored = BytesMut::with_capacity(length);
    stored.put_slice(&MAGIC);
    stored.put_u8(VERSION);
    stored.put_u64(epoch);
    stored.put_u64(seq);
    stored.put_u16(u16::try_from(names.len()).unwrap_or(u16::MAX));
    for (length, name) in names {
        stored.put_u16(length);
        stored.put_slice(name.as_bytes());
    }
    stored.put_slice(value);
    stored.freeze()
}

/// The tags in front of `stored`, and the length of their head.
fn head(stored: &[u8]) -> Option<(Tags, usize)> {
    let (fixed, mut rest) = stored.split_at_checked(FIXED)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (version, fixed) = fixed.get(MAGIC.len()..)?.split_first()?;
    let (epoch, fixed) = fixed.split_at_checked(8)?;
    let (seq, count) = fixed.split_at_checked(8)?;
    if *version != VERSION {
        return None;
    }
    let mut names = Vec::new();
    for _ in 0..number(count) {
        let (length, after) = rest.split_at_checked(2)?;
        let (name, after) = after.split_at_checked(usize::try_from(number(length)).ok()?)?;
        names.push(std::str::from_utf8(name).ok()?.into());
        rest = after;
    }
    Some((Tags { epoch: number(epoch), seq: number(seq), names }, stored.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] =
        b"\xC1mtc\x01\x00\x00\x00\x00\x00\x00\x00\xAB\x00\x00\x00\x00\x00\x00\x01\x02\x00\x02\x00\x01a\x00\x02bcvalue";

    fn names() -> Vec<Arc<str>> {
        vec!["a".into(), "bc".into()]
    }

    #[test]
    fn the_head_is_byte_for_byte_what_the_protocol_says() {
        let stored = with_tags(0xAB, 258, &names(), Bytes::from_static(b"value"));
        assert_eq!(stored, GOLDEN);
        let tags = Tags { epoch: 0xAB, seq: 258, names: names() };
        assert_eq!(decode(stored), Stored::Tagged(tags, Bytes::from_static(b"value")));
    }

    #[test]
    fn a_value_without_tags_is_stored_as_it_is_unless_it_looks_like_a_head() {
        assert_eq!(plain(Bytes::from_static(b"{}")), "{}");
        let odd = Bytes::from_static(GOLDEN);
        let stored = plain(odd.clone());
        assert_ne!(stored, odd);
        assert_eq!(decode(stored), Stored::Plain(odd));
    }

    #[test]
    fn every_truncation_and_every_other_version_is_foreign() {
        for length in MAGIC.len()..GOLDEN.len() - b"value".len() {
            assert_eq!(decode(Bytes::copy_from_slice(&GOLDEN[..length])), Stored::Foreign, "{length}");
        }
        let mut newer = GOLDEN.to_vec();
        newer[4] = 2;
        assert_eq!(decode(newer.into()), Stored::Foreign);
    }

    #[test]
    fn an_entry_holds_while_every_tag_is_known_and_not_revoked_since() {
        let tags = Tags { epoch: 1, seq: 5, names: names() };
        assert!(tags.hold(1, &[Some(5), Some(0)]));
        for (epoch, tokens) in
            [(2, vec![Some(0), Some(0)]), (1, vec![Some(6), Some(0)]), (1, vec![None, Some(0)]), (1, vec![Some(0)])]
        {
            assert!(!tags.hold(epoch, &tokens), "{epoch} {tokens:?}");
        }
    }
}
