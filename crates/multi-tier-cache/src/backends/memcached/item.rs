//! How keys, values and TTLs are put into Memcached's terms.
//!
//! A readable key (1 to 250 bytes, none of them a blank or control character) is the server's key as it is, and its
//! value is stored as it is. Any other key, and any key that begins with [`HASHED_PREFIX`], becomes that prefix and
//! the 32 lower-case hexadecimal digits of its XXH3-128; its value is preceded by the key's length (four bytes, most
//! significant first) and the key, so that of two keys with one hash neither is answered with the other's value.
//!
//! The client flags of an item are 0, or [`FLAGS_OURS`] together with: [`FLAG_HASHED`] where the key was hashed, and
//! in the lowest ten bits the milliseconds by which the TTL was rounded up to whole seconds.
//!
//! A lease is an item in the place of the value, with [`FLAG_LEASE`]; its value is the token of the load that holds it.
//! To every reader it is a miss.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use memcache::exp::{Delete, Get, GetResult, GetStatus, Meta, Set, ValueState};
use xxhash_rust::xxh3::xxh3_128;

const HASHED_PREFIX: &str = "mtc~";
const LONGEST_READABLE: usize = 250;
const LENGTH_BYTES: usize = 4;

/// The highest four bits of flags that this module wrote, unlikely in another client's.
const FLAGS_OURS: u32 = 0xA << 28;
const FLAGS_OURS_MASK: u32 = 0xF << 28;
const FLAG_HASHED: u32 = 1 << 27;
const FLAG_LEASE: u32 = 1 << 26;
const FLAGS_ROUNDED_MASK: u32 = (1 << 10) - 1;

/// What a name of a tombstone begins with; no [`ServerKey`] has such a name.
const TOMBSTONE_PREFIX: &str = "mtc~x";
/// The server may end an item up to a second early. Leases and tombstones must not end before they were to.
const CLOCK_MARGIN: Duration = Duration::from_secs(1);

/// The longest TTL that the server reads as a span; a larger number is a Unix time.
const LONGEST_SPAN: u64 = 30 * 24 * 60 * 60;
/// The latest Unix time that the server's signed 32 bits hold.
const LATEST_TIME: u64 = i32::MAX as u64;

/// The server's name of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerKey<'a> {
    Readable(&'a str),
    Hashed { name: String, key: &'a str },
}

/// What is stored in the place of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Absent,
    Value(Bytes, Option<Duration>),
    /// The lease of the load with this token, for at most this long.
    Lease(u128, Duration),
    /// Another key's, or one that another client invalidated or is about to fill.
    Unreadable,
}

impl<'a> ServerKey<'a> {
    pub(crate) fn of(key: &'a str) -> Self {
        let readable = (1..=LONGEST_READABLE).contains(&key.len())
            && key.bytes().all(|byte| byte > b' ' && byte != 0x7f)
            && !key.starts_with(HASHED_PREFIX);
        if readable {
            Self::Readable(key)
        } else {
            Self::Hashed { name: format!("{HASHED_PREFIX}{:032x}", xxh3_128(key.as_bytes())), key }
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Readable(key) => key,
            Self::Hashed { name, .. } => name,
        }
    }

    pub(crate) fn get(&self) -> Get {
        Get::new(self.name()).meta(Meta::NONE.ttl())
    }

    /// As [`get`](Self::get), for a change that is to be made only if nothing else changed.
    pub(crate) fn get_with_cas(&self) -> Get {
        Get::new(self.name()).meta(Meta::NONE.ttl().cas())
    }

    pub(crate) fn delete(&self) -> Delete {
        Delete::new(self.name())
    }

    pub(crate) fn set(&self, value: &[u8], ttl: ServerTtl) -> Set {
        self.store(value, ttl, 0)
    }

    /// The lease of the load with this token, in the place of the value.
    pub(crate) fn set_lease(&self, token: u128, lease: Duration) -> Set {
        self.store(&token.to_be_bytes(), ServerTtl::at_least(lease), FLAG_LEASE)
    }

    /// The mark that nothing is to be read for this key from the tiers below.
    pub(crate) fn set_tombstone(&self, lasting: Duration) -> Set {
        Set::new(self.tombstone(), []).ttl_raw(ServerTtl::at_least(lasting).exptime).client_flags(FLAGS_OURS)
    }

    pub(crate) fn get_tombstone(&self) -> Get {
        Get::new(self.tombstone()).without_value()
    }

    fn tombstone(&self) -> String {
        let (Self::Readable(key) | Self::Hashed { key, .. }) = self;
        format!("{TOMBSTONE_PREFIX}{:032x}", xxh3_128(key.as_bytes()))
    }

    fn store(&self, value: &[u8], ttl: ServerTtl, kind: u32) -> Set {
        let (value, hashed) = match self {
            Self::Readable(_) => (Cow::Borrowed(value), 0),
            Self::Hashed { key, .. } => (Cow::Owned(envelop(key, value)), FLAG_HASHED),
        };
        let flags = match hashed | kind | ttl.rounded {
            0 => 0,
            flags => FLAGS_OURS | flags,
        };
        Set::new(self.name(), value).ttl_raw(ttl.exptime).client_flags(flags)
    }

    /// The value and remaining TTL of an answer, unless it is a miss, a lease, invalidated, or another key's.
    pub(crate) fn read(&self, answer: GetResult) -> Option<(Bytes, Option<Duration>)> {
        match self.item(answer) {
            Item::Value(value, remaining) => Some((value, remaining)),
            Item::Absent | Item::Lease(..) | Item::Unreadable => None,
        }
    }

    /// What an answer shows.
    pub(crate) fn item(&self, answer: GetResult) -> Item {
        match answer.status {
            GetStatus::Miss => Item::Absent,
            GetStatus::Hit if answer.value_state != ValueState::Stale => {
                self.readable(answer).unwrap_or(Item::Unreadable)
            }
            _ => Item::Unreadable,
        }
    }

    fn readable(&self, answer: GetResult) -> Option<Item> {
        let flags = answer.client_flags.filter(|flags| flags & FLAGS_OURS_MASK == FLAGS_OURS).unwrap_or(0);
        let stored = Bytes::from(answer.value?);
        let value = match self {
            Self::Readable(_) => stored,
            Self::Hashed { key, .. } if flags & FLAG_HASHED != 0 => open(key, &stored)?,
            Self::Hashed { .. } => return None,
        };
        let rounded = Duration::from_millis(u64::from(flags & FLAGS_ROUNDED_MASK));
        // A negative number of seconds means that the item does not expire.
        let seconds = answer.item.ttl.and_then(|seconds| u64::try_from(seconds).ok());
        let remaining = seconds.map(|seconds| Duration::from_secs(seconds).saturating_sub(rounded));
        if flags & FLAG_LEASE == 0 {
            return Some(Item::Value(value, remaining));
        }
        let token = u128::from_be_bytes(value.as_ref().try_into().ok()?);
        Some(Item::Lease(token, remaining?.saturating_sub(CLOCK_MARGIN)))
    }
}

fn envelop(key: &str, value: &[u8]) -> Vec<u8> {
    // Keys are far shorter than four GiB; one that is not would fail the check on reading.
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut envelope = Vec::with_capacity(LENGTH_BYTES + key.len() + value.len());
    envelope.extend_from_slice(&length.to_be_bytes());
    envelope.extend_from_slice(key.as_bytes());
    envelope.extend_from_slice(value);
    envelope
}

fn open(key: &str, envelope: &Bytes) -> Option<Bytes> {
    let (length, rest) = envelope.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (stored_key, value) = rest.split_at_checked(length)?;
    (stored_key == key.as_bytes()).then(|| envelope.slice_ref(value))
}

/// A TTL as the server takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerTtl {
    exptime: u32,
    /// Milliseconds added to reach whole seconds.
    rounded: u32,
}

impl ServerTtl {
    /// `ttl` in the server's terms; `None` for zero, which the server would take for "never".
    ///
    /// Up to 30 days it is rounded up to whole seconds. Beyond, it is a Unix time, rounded down and one second early
    /// because the server's clock may lag as much, and no later than that clock reaches (January 2038).
    pub(crate) fn of(ttl: Duration) -> Option<Self> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(ttl, unix)
    }

    /// As [`of`](Self::of), but never ending early.
    fn at_least(span: Duration) -> Self {
        Self::of(span.saturating_add(CLOCK_MARGIN)).unwrap_or(Self { exptime: 1, rounded: 0 })
    }

    fn at(ttl: Duration, unix: Duration) -> Option<Self> {
        if ttl.is_zero() {
            return None;
        }
        let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
        if seconds <= LONGEST_SPAN {
            let short_of_a_second = (1_000 - ttl.subsec_millis()) % 1_000;
            // Below a millisecond the difference is 1,000, and a remaining TTL of zero would read as expired.
            let rounded = if ttl < Duration::from_millis(1) { 999 } else { short_of_a_second };
            return Some(Self { exptime: u32::try_from(seconds).ok()?, rounded });
        }
        let until = unix.saturating_add(ttl).as_secs().saturating_sub(1).min(LATEST_TIME);
        let exptime = if until > unix.as_secs().saturating_add(LONGEST_SPAN) { until } else { LONGEST_SPAN };
        Some(Self { exptime: u32::try_from(exptime).ok()?, rounded: 0 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_800_000_000_900);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn ttl(ttl: Duration) -> (u32, u32) {
        let ttl = ServerTtl::at(ttl, NOW).unwrap();
        (ttl.exptime, ttl.rounded)
    }

    #[test]
    fn a_span_is_rounded_up_and_the_difference_kept() {
        assert_eq!(ServerTtl::at(Duration::ZERO, NOW), None);
        assert_eq!(ttl(Duration::from_nanos(1)), (1, 999));
        assert_eq!(ttl(Duration::from_millis(1)), (1, 999));
        assert_eq!(ttl(Duration::from_millis(300)), (1, 700));
        assert_eq!(ttl(Duration::from_secs(1)), (1, 0));
        assert_eq!(ttl(Duration::from_millis(1_001)), (2, 999));
        assert_eq!(ttl(DAY * 30), (2_592_000, 0));
    }

    #[test]
    fn a_long_ttl_is_a_time_that_the_server_can_hold() {
        assert_eq!(ttl(DAY * 31), (1_800_000_000 + 31 * 86_400 - 1, 0));
        assert_eq!(ttl(DAY * 30 + Duration::from_nanos(1)), (2_592_000, 0));
        for long in [DAY * 36_600, Duration::MAX] {
            assert_eq!(ttl(long).0, 2_147_483_647);
        }
        let late = Duration::from_secs(2_147_400_000);
        assert_eq!(ServerTtl::at(DAY * 31, late).unwrap().exptime, 2_592_000);
    }

    #[test]
    fn readable_keys_are_sent_as_they_are_and_others_by_their_hash() {
        let longest = "k".repeat(250);
        for key in ["user:1", "ü", "{a}*", &longest] {
            assert_eq!(ServerKey::of(key), ServerKey::Readable(key));
        }
        let too_long = "k".repeat(251);
        for key in ["", " ", "a b", "a\r\n", "\0", "\u{7f}", "mtc~", "mtc~0123", &too_long] {
            let hashed = ServerKey::of(key);
            assert!(matches!(hashed, ServerKey::Hashed { .. }), "{key:?}");
            assert!(matches!(ServerKey::of(hashed.name()), ServerKey::Hashed { .. }));
            assert_eq!(hashed.name().len(), 36);
        }
        // The published test vector of XXH3-128 for the empty input: other processes must compute the same name.
        assert_eq!(ServerKey::of("").name(), "mtc~99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn an_envelope_opens_for_its_own_key_only() {
        let envelope = Bytes::from(envelop("a b", b"value"));
        assert_eq!(envelope, &b"\0\0\0\x03a bvalue"[..]);
        assert_eq!(open("a b", &envelope).unwrap(), &b"value"[..]);
        assert_eq!(open("a c", &envelope), None);
        assert_eq!(open("a", &envelope), None);
        for broken in [&b""[..], b"\0\0\0", b"\0\0\0\x04a b", b"\xff\xff\xff\xffa b"] {
            assert_eq!(open("a b", &Bytes::from_static(broken)), None);
        }
    }
}
