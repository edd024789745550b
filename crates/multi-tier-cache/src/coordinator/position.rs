//! A place in the log of invalidations.

use std::fmt;
use std::str::FromStr;

use crate::error::{CacheError, Failure};

/// The place of one invalidation in the log: what `at_least` reads wait for.
///
/// Cheap to copy; its text form (`Display`, `FromStr`) can travel in a header or cookie to another instance. Valid as
/// long as the log keeps the entry (100,000 entries by default); afterwards, and after a failover, a read at least as
/// new bypasses every cache.
///
/// ```
/// use multi_tier_cache::Position;
///
/// let text = "m1-00000000000000ff-42-0123456789abcdef";
/// let position: Position = text.parse()?;
/// assert_eq!(position.to_string(), text);
/// # Ok::<(), multi_tier_cache::CacheError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) nonce: u64,
}

impl Position {
    /// Which run of the log the place is in: another one begins when the log was lost. Random.
    #[must_use]
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// The number of the invalidation in its epoch, from 1; 0 is the beginning of a log.
    #[must_use]
    pub fn sequence(self) -> u64 {
        self.seq
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m1-{:016x}-{}-{:016x}", self.epoch, self.seq, self.nonce)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

impl FromStr for Position {
    type Err = CacheError;

    fn from_str(text: &str) -> Result<Self, CacheError> {
        let malformed = || {
            let message = "not a position of the invalidation log: `m1-epoch-sequence-nonce` was expected";
            CacheError::SerializationError(Failure::new(message))
        };
        let mut parts = text.split('-');
        let (Some("m1"), Some(epoch), Some(seq), Some(nonce), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let hex = |digits: &str| parse_hex(digits).ok_or_else(malformed);
        let plain = |digits: &str| {
            let digits = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(malformed)
        };
        Ok(Self { epoch: hex(epoch)?, seq: plain(seq)?, nonce: hex(nonce)? })
    }
}

/// Exactly sixteen lower-case hexadecimal digits.
pub(crate) fn parse_hex(digits: &str) -> Option<u64> {
    let valid = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    let exact = digits.len() == 16 && digits.bytes().all(valid);
    exact.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_survives_and_nothing_else_is_accepted() {
        let position = Position { epoch: u64::MAX, seq: u64::MAX, nonce: 1 };
        assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        for bad in [
            "",
            "m1",
            "m1-0-0-0",
            "m2-00000000000000ff-1-00000000000000ff",
            "m1-00000000000000ff-+1-0000000000000001",
            "m1-00000000000000FF-1-00000000000000ff",
            "m1-00000000000000ff-1-00000000000000ff-x",
        ] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }
}
