//! What must hold for any bytes that a shared tier may answer.

use std::time::Duration;

use bytes::Bytes;

use super::envelope::{self, Envelope};
use super::tagged::{self, Stored};

const LARGEST: usize = 1 << 20;

/// What opens can be sealed and opens to the same; a fitting checksum is put in the place of the one that chance would
/// have to hit.
pub fn envelope(input: &[u8]) {
    round_trip(&Bytes::copy_from_slice(input));
    let mut stamped = input.to_vec();
    envelope::stamp(&mut stamped);
    round_trip(&stamped.into());
}

fn round_trip(stored: &Bytes) {
    let Ok(opened) = Envelope::open(stored, LARGEST) else { return };
    assert!(opened.payload.len() <= LARGEST, "longer than the limit");
    for compress_above in [0, usize::MAX] {
        let sealed = opened.seal(compress_above).unwrap_or_else(|error| panic!("what was opened fits: {error}"));
        assert_eq!(Envelope::open(&sealed, LARGEST).as_ref(), Ok(&opened), "another envelope");
    }
    for remaining in [None, Some(Duration::ZERO), Some(opened.lifetime), Some(Duration::MAX)] {
        let arrival = opened.on_arrival(remaining);
        assert!(arrival.age >= opened.age, "younger than it was");
        assert!(arrival.fresh_for <= arrival.remaining, "fresh for longer than it lives");
    }
}

/// What is taken apart and put together again is taken apart to the same.
pub fn tagged(input: &[u8]) {
    let stored = tagged::decode(Bytes::copy_from_slice(input));
    let again = match stored.clone() {
        Stored::Plain(value) => tagged::plain(value),
        Stored::Tagged(tags, value) => tagged::with_tags(tags.epoch, tags.seq, &tags.names, value),
        Stored::Foreign => return,
    };
    assert_eq!(tagged::decode(again), stored, "another value");
}
