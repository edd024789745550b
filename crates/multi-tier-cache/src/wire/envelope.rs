//! Typed values as awaited tiers store them: version 2 of the head, as `PROTOCOL.md` gives it.
//!
//! No clock of the writer is in it: a reader learns how old its copy is from the time to live that the store has left.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use lz4_flex::block;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::tagged::MAGIC;
use crate::defaults::{COMPRESS_SAVING, REMAINING_TOLERANCE};
use crate::error::{CacheError, CacheResult, Failure};

const VERSION: u8 = 2;
const ABSENT: u8 = 1;
const COMPRESSED: u8 = 1 << 1;
/// Where the checksum is; it covers what is before and after it.
const CHECKSUM: Range<usize> = 72..80;
/// One byte of an LZ4 block stands for at most this many.
const EXPANSION: usize = 255;

/// A typed value with what its readers need to know, as this copy of it is written. Times are kept in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Envelope {
    /// There is no value: a negative entry. Its payload is not stored.
    pub absent: bool,
    /// The format of the payload: the id of its codec.
    pub codec: u8,
    /// The fingerprint of the value's type and of the version of its schema.
    pub schema: u64,
    /// The epoch of the log in which it was stored.
    pub epoch: u64,
    /// Where the log stood when none of the tags had been revoked.
    pub seq: u64,
    /// The time to live with which this copy is written; zero if unknown.
    pub lifetime: Duration,
    /// For how long after the writing it is fresh.
    pub fresh: Duration,
    /// How old the value is at the writing.
    pub age: Duration,
    /// How long the load took, in microseconds up to 71 minutes.
    pub cost: Duration,
    /// The tags.
    pub tags: Vec<Arc<str>>,
    /// An `ETag` or a version; an empty one is none.
    pub validator: Option<Arc<str>>,
    /// The value as its codec wrote it.
    pub payload: Bytes,
}

/// Why stored bytes are a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejected {
    /// They do not begin like an envelope.
    NotAnEnvelope,
    /// The head is of another version.
    Version,
    /// They end before the envelope does.
    Truncated,
    /// It is intact and says what this version does not know.
    Flags,
    /// The value is longer than the reader's limit.
    TooLarge,
    /// They are not what was written, or no writer writes this.
    Corrupt,
}

/// What a reader makes of an envelope and the time to live that its store has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// How old the value is; at least so old if that cannot be told.
    pub age: Duration,
    /// For how long it stays fresh; `None` if it is stale already, or if that cannot be told.
    pub fresh_for: Option<Duration>,
    /// For how long the copy lives on, where the store can tell.
    pub remaining: Option<Duration>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnEnvelope => "it does not begin like an envelope",
            Self::Version => "its head is of another version",
            Self::Truncated => "it is cut short",
            Self::Flags => "its head says what this version does not know",
            Self::TooLarge => "the value is longer than the limit",
            Self::Corrupt => "its checksum or its lengths are wrong",
        })
    }
}

/// The number that tells values of one type and version of its schema from all others.
pub(crate) fn fingerprint(type_name: &str, schema_version: u32) -> u64 {
    xxh3_64(&[type_name.as_bytes(), &[0], &schema_version.to_be_bytes()].concat())
}

impl Envelope {
    /// The bytes to store. A payload longer than `compress_above` is compressed if that saves enough.
    ///
    /// # Errors
    /// `SerializationError` if a part is longer than the format allows: 4 GiB for the payload, 64 KiB for the validator
    /// and each tag, 65,535 tags.
    pub(crate) fn seal(&self, compress_above: usize) -> CacheResult<Bytes> {
        let plain: &[u8] = if self.absent { &[] } else { &self.payload };
        let validator = self.validator.as_deref().unwrap_or_default();
        let names = self.tags.iter().map(|tag| 2 + tag.len()).sum::<usize>();
        let plain_length = fit(plain.len(), "a payload")?;
        let packed = compressed(plain, compress_above);
        let payload = packed.as_deref().unwrap_or(plain);
        let head = Head {
            flags: if self.absent { ABSENT } else { 0 } | if packed.is_some() { COMPRESSED } else { 0 },
            codec: self.codec,
            reserved: 0,
            schema: self.schema,
            epoch: self.epoch,
            seq: self.seq,
            lifetime: millis_up(self.lifetime),
            fresh: u64::try_from(self.fresh.as_millis()).unwrap_or(u64::MAX),
            age: millis_up(self.age),
            cost: u32::try_from(self.cost.as_micros()).unwrap_or(u32::MAX),
            tags: fit(self.tags.len(), "a list of tags")?,
            validator: fit(validator.len(), "a validator")?,
            stored: fit(payload.len(), "a payload")?,
            plain: plain_length,
            checksum: 0,
        };
        let mut stored = BytesMut::with_capacity(CHECKSUM.end + names + validator.len() + payload.len());
        head.write(&mut stored);
        for tag in &self.tags {
            stored.put_u16(fit(tag.len(), "a tag")?);
            stored.put_slice(tag.as_bytes());
        }
        stored.put_slice(validator.as_bytes());
        stored.put_slice(payload);
        stamp(&mut stored);
        Ok(stored.freeze())
    }

    /// Takes stored bytes apart. The payload is a slice of them unless it is compressed; a value longer than `largest`
    /// is rejected before anything is allocated.
    ///
    /// # Errors
    /// Why they are a miss.
    pub(crate) fn open(stored: &Bytes, largest: usize) -> Result<Self, Rejected> {
        let (head, body) = Head::read(stored)?;
        let mut rest = body;
        for _ in 0..head.tags {
            name(&mut rest)?;
        }
        let validator = take(&mut rest, head.validator.into())?;
        let payload = take(&mut rest, size(head.stored))?;
        if !rest.is_empty() || checksum(stored) != head.checksum {
            return Err(Rejected::Corrupt);
        }
        head.check(payload, largest)?;
        let payload = if head.is(COMPRESSED) { head.unpack(payload)? } else { stored.slice_ref(payload) };
        let mut names = body;
        Ok(Self {
            absent: head.is(ABSENT),
            codec: head.codec,
            schema: head.schema,
            epoch: head.epoch,
            seq: head.seq,
            lifetime: Duration::from_millis(head.lifetime),
            fresh: Duration::from_millis(head.fresh),
            age: Duration::from_millis(head.age),
            cost: Duration::from_micros(head.cost.into()),
            tags: (0..head.tags).map(|_| text(name(&mut names)?)).collect::<Result<_, _>>()?,
            validator: (!validator.is_empty()).then(|| text(validator)).transpose()?,
            payload,
        })
    }

    /// What a reader makes of the time to live that the store says `remaining`.
    ///
    /// The time since the writing is what is missing of the lifetime. It cannot be told if the store does not say what
    /// remains, if the lifetime is unknown, or if another program prolonged it: clearly more remains than was written.
    /// Then the value counts as stale. A copy whose time another program shortened seems older than it is.
    #[must_use]
    pub fn on_arrival(&self, remaining: Option<Duration>) -> Arrival {
        let since_writing = remaining.filter(|remaining| {
            !self.lifetime.is_zero() && *remaining <= self.lifetime.saturating_add(REMAINING_TOLERANCE)
        });
        let since_writing = since_writing.map(|remaining| self.lifetime.saturating_sub(remaining));
        let fresh_for = since_writing.map(|since| self.fresh.saturating_sub(since).min(remaining.unwrap_or_default()));
        Arrival {
            age: self.age.saturating_add(since_writing.unwrap_or_default()),
            fresh_for: fresh_for.filter(|left| !left.is_zero()),
            remaining,
        }
    }
}

/// The part of an envelope that always has the same length.
struct Head {
    flags: u8,
    codec: u8,
    reserved: u8,
    schema: u64,
    epoch: u64,
    seq: u64,
    lifetime: u64,
    fresh: u64,
    age: u64,
    cost: u32,
    tags: u16,
    validator: u16,
    stored: u32,
    plain: u32,
    checksum: u64,
}

impl Head {
    fn write(&self, stored: &mut BytesMut) {
        stored.put_slice(&MAGIC);
        for byte in [VERSION, self.flags, self.codec, self.reserved] {
            stored.put_u8(byte);
        }
        for number in [self.schema, self.epoch, self.seq, self.lifetime, self.fresh, self.age] {
            stored.put_u64(number);
        }
        stored.put_u32(self.cost);
        stored.put_u16(self.tags);
        stored.put_u16(self.validator);
        stored.put_u32(self.stored);
        stored.put_u32(self.plain);
        stored.put_u64(self.checksum);
    }

    /// The head, and what follows it.
    fn read(stored: &[u8]) -> Result<(Self, &[u8]), Rejected> {
        let mut rest = stored.strip_prefix(&MAGIC).ok_or(Rejected::NotAnEnvelope)?;
        if rest.try_get_u8()? != VERSION {
            return Err(Rejected::Version);
        }
        let head = Self {
            flags: rest.try_get_u8()?,
            codec: rest.try_get_u8()?,
            reserved: rest.try_get_u8()?,
            schema: rest.try_get_u64()?,
            epoch: rest.try_get_u64()?,
            seq: rest.try_get_u64()?,
            lifetime: rest.try_get_u64()?,
            fresh: rest.try_get_u64()?,
            age: rest.try_get_u64()?,
            cost: rest.try_get_u32()?,
            tags: rest.try_get_u16()?,
            validator: rest.try_get_u16()?,
            stored: rest.try_get_u32()?,
            plain: rest.try_get_u32()?,
            checksum: rest.try_get_u64()?,
        };
        Ok((head, rest))
    }

    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether a writer writes this head in front of `payload`, and a reader with this limit takes it.
    fn check(&self, payload: &[u8], largest: usize) -> Result<(), Rejected> {
        let (stored, plain) = (payload.len(), size(self.plain));
        if self.is(!(ABSENT | COMPRESSED)) || self.reserved != 0 {
            return Err(Rejected::Flags);
        }
        if plain > largest {
            return Err(Rejected::TooLarge);
        }
        let fits = if self.is(COMPRESSED) { plain / EXPANSION <= stored } else { plain == stored };
        if fits && !(self.is(ABSENT) && stored > 0) { Ok(()) } else { Err(Rejected::Corrupt) }
    }

    /// What was compressed, if it is as long as the head says.
    fn unpack(&self, payload: &[u8]) -> Result<Bytes, Rejected> {
        let plain = block::decompress(payload, size(self.plain)).map_err(|_| Rejected::Corrupt)?;
        if plain.len() == size(self.plain) { Ok(plain.into()) } else { Err(Rejected::Corrupt) }
    }
}

impl From<TryGetError> for Rejected {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// A tag's length and bytes.
fn name<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Rejected> {
    let length = rest.try_get_u16()?;
    take(rest, length.into())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Rejected> {
    rest.split_off(..length).ok_or(Rejected::Truncated)
}

fn text(bytes: &[u8]) -> Result<Arc<str>, Rejected> {
    std::str::from_utf8(bytes).map(Into::into).map_err(|_| Rejected::Corrupt)
}

/// `payload` in the block format, if it is long enough and shrinks enough.
fn compressed(payload: &[u8], above: usize) -> Option<Vec<u8>> {
    let saves =
        |packed: &Vec<u8>| payload.len().saturating_sub(packed.len()) >= payload.len().div_ceil(COMPRESS_SAVING);
    (payload.len() > above).then(|| block::compress(payload)).filter(saves)
}

/// Writes the checksum of an envelope into its place.
pub(super) fn stamp(stored: &mut [u8]) {
    let checksum = checksum(stored);
    if let Some(place) = stored.get_mut(CHECKSUM) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
}

fn checksum(stored: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(stored.get(..CHECKSUM.start).unwrap_or_default());
    hash.update(stored.get(CHECKSUM.end..).unwrap_or_default());
    hash.digest()
}

/// Rounded up, so that a value never seems younger than it is.
fn millis_up(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A length as it is stored.
fn fit<N: TryFrom<usize>>(length: usize, what: &str) -> CacheResult<N> {
    let refused = || Failure::new(format!("{what} of {length} does not fit into an envelope"));
    N::try_from(length).map_err(|_| CacheError::SerializationError(refused()))
}

/// A stored length in memory; one that no memory has is longer than any bytes at hand.
fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
