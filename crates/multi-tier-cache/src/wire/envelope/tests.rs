//! The envelope is what `PROTOCOL.md` says, and nothing else opens.

use allocation_counter::measure;
use proptest::prelude::*;

use super::*;
use crate::wire::tagged;

/// Made from the tables of `PROTOCOL.md` with other implementations of XXH3 and LZ4.
const GOLDEN: [(&str, &[u8]); 4] = [
    ("plain", include_bytes!("../../../tests/golden/envelope_plain.bin")),
    ("tagged", include_bytes!("../../../tests/golden/envelope_tagged.bin")),
    ("absent", include_bytes!("../../../tests/golden/envelope_absent.bin")),
    ("compressed", include_bytes!("../../../tests/golden/envelope_compressed.bin")),
];
const LARGEST: usize = 1_000_000;

fn golden(wanted: &str) -> Vec<u8> {
    GOLDEN.iter().find(|(name, _)| *name == wanted).expect("is there").1.to_vec()
}

fn open(stored: &[u8]) -> Result<Envelope, Rejected> {
    Envelope::open(&Bytes::copy_from_slice(stored), LARGEST)
}

fn envelope(codec: u8, payload: &[u8]) -> Envelope {
    Envelope {
        absent: false,
        codec,
        schema: fingerprint("app::User", 7),
        epoch: 0xAB,
        seq: 258,
        lifetime: Duration::from_secs(60),
        fresh: Duration::from_secs(30),
        age: Duration::from_millis(1_500),
        cost: Duration::from_millis(250),
        tags: Vec::new(),
        validator: None,
        payload: Bytes::copy_from_slice(payload),
    }
}

/// What the golden files hold, in their order.
fn written() -> [Envelope; 4] {
    let user: Arc<str> = "user:7".into();
    let tagged = vec![Arc::clone(&user), "größe".into()];
    [
        envelope(1, br#"{"name":"Ada"}"#),
        Envelope { tags: tagged, validator: Some("\"v1\"".into()), ..envelope(3, &[1, 2, 3]) },
        Envelope { absent: true, tags: vec![user], ..envelope(1, b"") },
        envelope(2, "na".repeat(100).as_bytes()),
    ]
}

/// An intact envelope that no writer made: `change` under a checksum that fits.
fn forged(of: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<Envelope, Rejected> {
    let mut stored = golden(of);
    change(&mut stored);
    stamp(&mut stored);
    open(&stored)
}

#[test]
fn the_format_is_byte_for_byte_what_the_protocol_says() {
    for ((name, stored), envelope) in GOLDEN.into_iter().zip(written()) {
        assert_eq!(open(stored).as_ref(), Ok(&envelope), "{name}");
        // Compressors may choose other bytes for the same payload.
        if name != "compressed" {
            assert_eq!(envelope.seal(LARGEST).expect("fits"), stored, "{name}");
        }
    }
}

#[test]
fn the_fingerprint_is_what_the_protocol_says_and_differs_with_name_and_version() {
    let of_golden = golden("plain")[8..16].try_into().expect("eight bytes");
    assert_eq!(fingerprint("app::User", 7), u64::from_be_bytes(of_golden));
    assert_ne!(fingerprint("app::User", 7), fingerprint("app::User", 8));
    assert_ne!(fingerprint("app::User", 7), fingerprint("app::Users", 7));
}

#[test]
fn every_truncation_is_rejected_as_such() {
    for (name, stored) in GOLDEN {
        for length in 0..stored.len() {
            let expected = if length < MAGIC.len() { Rejected::NotAnEnvelope } else { Rejected::Truncated };
            assert_eq!(open(&stored[..length]), Err(expected), "{name} {length}");
        }
    }
}

#[test]
fn every_flipped_bit_is_rejected() {
    for (name, stored) in GOLDEN {
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&flipped).is_err(), "{name}: bit {bit}");
        }
    }
}

#[test]
fn what_version_1_and_other_programs_store_is_rejected_for_what_it_is() {
    let value = Bytes::from(vec![b'v'; 200]);
    let version_1 = tagged::with_tags(1, 2, &["a".into()], value.clone());
    assert_eq!(open(&version_1), Err(Rejected::Version));
    assert_eq!(tagged::decode(golden("plain").into()), tagged::Stored::Foreign);
    let json = br#"{"magic":"mtc"}"#;
    for foreign in [&b""[..], &value, json, b"\xC1mtd\x02"] {
        assert_eq!(open(foreign), Err(Rejected::NotAnEnvelope));
    }
}

#[test]
fn what_this_version_does_not_know_is_rejected_even_under_its_checksum() {
    for bit in 2..8 {
        assert_eq!(forged("plain", |stored| stored[5] |= 1 << bit), Err(Rejected::Flags), "{bit}");
    }
    assert_eq!(forged("plain", |stored| stored[7] = 1), Err(Rejected::Flags));
}

#[test]
fn what_no_writer_writes_is_corrupt_even_under_its_checksum() {
    assert_eq!(forged("plain", |stored| stored.push(0)), Err(Rejected::Corrupt), "a byte too many");
    assert_eq!(forged("plain", |stored| stored[71] += 1), Err(Rejected::Corrupt), "another plain length");
    assert_eq!(forged("plain", |stored| stored[5] |= ABSENT), Err(Rejected::Corrupt), "absent with a payload");
    assert_eq!(forged("plain", |stored| stored[5] |= COMPRESSED), Err(Rejected::Corrupt), "not a block");
    assert_eq!(forged("absent", |stored| stored[5] |= COMPRESSED), Err(Rejected::Corrupt), "an empty block");
    assert_eq!(forged("compressed", |stored| stored[71] += 1), Err(Rejected::Corrupt), "unpacks to less");
    assert_eq!(forged("compressed", |stored| stored[71] -= 1), Err(Rejected::Corrupt), "unpacks to more");
    assert_eq!(forged("tagged", |stored| stored[83] = 0xFF), Err(Rejected::Corrupt), "a tag that is not UTF-8");
    assert_eq!(forged("absent", |stored| stored[61] = 2), Err(Rejected::Truncated), "more tags than bytes");
}

#[test]
fn a_decompression_bomb_is_rejected_before_anything_is_allocated() {
    let mut stored = golden("compressed");
    for (plain, largest, reason) in [
        (u32::MAX, LARGEST, Rejected::TooLarge),
        (199, 198, Rejected::TooLarge),
        (1_000_000, LARGEST, Rejected::Corrupt),
    ] {
        stored[68..72].copy_from_slice(&plain.to_be_bytes());
        stamp(&mut stored);
        let stored = Bytes::from(stored.clone());
        let allocated = measure(|| assert_eq!(Envelope::open(&stored, largest), Err(reason)));
        assert_eq!(allocated.count_total, 0, "{plain}");
    }
}

#[test]
fn the_limit_is_on_the_value_and_the_value_at_the_limit_opens() {
    for (name, length) in [("plain", 14), ("compressed", 200)] {
        let stored = Bytes::from(golden(name));
        assert!(Envelope::open(&stored, length).is_ok(), "{name}");
        assert_eq!(Envelope::open(&stored, length - 1), Err(Rejected::TooLarge), "{name}");
    }
}

#[test]
fn a_payload_is_compressed_only_if_it_is_long_and_shrinks_by_an_eighth() {
    let sealed = |payload: &[u8], above| envelope(1, payload).seal(above).expect("fits");
    let flags = |payload: &[u8], above| sealed(payload, above)[5];
    let text = [b'x'; 1_000];
    assert_eq!((flags(&text, 1_000), flags(&text, 999)), (0, COMPRESSED));
    assert!(sealed(&text, 999).len() < 200);
    assert_eq!(flags(b"", 0), 0);
    let noise: Vec<u8> = (0..1_000_u64).flat_map(|n| xxh3_64(&n.to_be_bytes()).to_be_bytes()).collect();
    assert_eq!(flags(&noise, 0), 0);
    let mut mixed = noise.clone();
    mixed.extend([0; 900]);
    assert_eq!(flags(&mixed, 0), 0, "less than an eighth");
    mixed.extend([0; 900]);
    assert_eq!(flags(&mixed, 0), COMPRESSED, "more");
}

#[test]
fn a_payload_that_is_not_compressed_is_not_copied() {
    let stored = Bytes::from(golden("plain"));
    let opened = Envelope::open(&stored, LARGEST).expect("opens");
    assert_eq!(opened.payload.as_ptr(), stored[CHECKSUM.end..].as_ptr());
}

#[test]
fn a_negative_entry_stores_no_payload_and_an_empty_validator_is_none() {
    let odd = Envelope { absent: true, validator: Some("".into()), ..envelope(1, b"left over") };
    let expected = Envelope { absent: true, ..envelope(1, b"") };
    assert_eq!(open(&odd.seal(0).expect("fits")), Ok(expected));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let long: Arc<str> = "x".repeat(65_536).into();
    let many = vec![Arc::from(""); 65_536];
    for refused in [
        Envelope { tags: vec![Arc::clone(&long)], ..envelope(1, b"") },
        Envelope { tags: many, ..envelope(1, b"") },
        Envelope { validator: Some(long), ..envelope(1, b"") },
    ] {
        assert!(matches!(refused.seal(0), Err(CacheError::SerializationError(_))));
    }
}

#[test]
fn times_are_rounded_so_that_nothing_seems_fresher_than_it_is() {
    let (long, short) = (Duration::from_secs(u64::MAX), Duration::from_nanos(1_000_001));
    let all = |time| Envelope { lifetime: time, fresh: time, age: time, cost: time, ..envelope(1, b"") };
    let times = |time| {
        let back = open(&all(time).seal(0).expect("fits")).expect("opens");
        [back.lifetime, back.fresh, back.age, back.cost]
    };
    let most = Duration::from_millis(u64::MAX);
    assert_eq!(times(long), [most, most, most, Duration::from_micros(u32::MAX.into())]);
    let millis = Duration::from_millis;
    assert_eq!(times(short), [millis(2), millis(1), millis(2), millis(1)]);
}

mod on_arrival {
    use super::*;

    fn arrival(lifetime: u64, remaining: Option<u64>) -> (u64, Option<u64>) {
        let envelope = Envelope { lifetime: Duration::from_millis(lifetime), ..envelope(1, b"") };
        let remaining = remaining.map(Duration::from_millis);
        let arrival = envelope.on_arrival(remaining);
        assert_eq!(arrival.remaining, remaining);
        let millis = |time: Duration| u64::try_from(time.as_millis()).expect("is short");
        (millis(arrival.age), arrival.fresh_for.map(millis))
    }

    #[test]
    fn the_age_grows_and_the_freshness_ends_as_the_time_to_live_runs_down() {
        assert_eq!(arrival(60_000, Some(60_000)), (1_500, Some(30_000)));
        assert_eq!(arrival(60_000, Some(50_000)), (11_500, Some(20_000)));
        assert_eq!(arrival(60_000, Some(30_001)), (31_499, Some(1)));
        assert_eq!(arrival(60_000, Some(30_000)), (31_500, None));
        assert_eq!(arrival(60_000, Some(0)), (61_500, None));
    }

    #[test]
    fn nothing_is_fresh_for_longer_than_it_lives() {
        assert_eq!(arrival(10_000, Some(9_000)), (2_500, Some(9_000)));
        assert_eq!(arrival(10_000, Some(0)), (11_500, None));
    }

    #[test]
    fn what_cannot_be_told_counts_as_stale() {
        assert_eq!(arrival(60_000, None), (1_500, None));
        assert_eq!(arrival(0, None), (1_500, None));
        assert_eq!(arrival(0, Some(500)), (1_500, None));
    }

    #[test]
    fn more_than_was_written_is_rounding_up_to_a_second_and_unknown_beyond() {
        assert_eq!(arrival(60_000, Some(61_000)), (1_500, Some(30_000)));
        assert_eq!(arrival(60_000, Some(61_001)), (1_500, None));
    }

    #[test]
    fn extreme_times_saturate() {
        let most = Duration::MAX;
        let extreme = Envelope { lifetime: most, fresh: most, age: most, ..envelope(1, b"") };
        let expected = Arrival { age: most, fresh_for: None, remaining: Some(Duration::ZERO) };
        assert_eq!(extreme.on_arrival(Some(Duration::ZERO)), expected);
        let expected = Arrival { age: most, fresh_for: Some(most), remaining: Some(most) };
        assert_eq!(extreme.on_arrival(Some(most)), expected);
    }
}

fn any_time() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    let numbers = (any::<u8>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>());
    let tags = prop::collection::vec(".{0,40}".prop_map(Arc::from), 0..5);
    let validator = prop::option::of(".{1,40}".prop_map(Arc::from));
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    // What repeats shrinks.
    let payload = (bytes, 1..12_usize).prop_map(|(bytes, times)| Bytes::from(bytes.repeat(times)));
    let body = (tags, validator, payload);
    (numbers, any_time(), any_time(), any_time(), body, any::<bool>()).prop_map(
        |((codec, schema, epoch, seq, cost), lifetime, fresh, age, (tags, validator, payload), absent)| Envelope {
            absent,
            codec,
            schema,
            epoch,
            seq,
            lifetime,
            fresh,
            age,
            cost: Duration::from_micros(cost.into()),
            tags,
            validator,
            payload: if absent { Bytes::new() } else { payload },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_opens_to_the_same(envelope in any_envelope(), above in 0..2_000_usize) {
        let stored = envelope.seal(above).expect("fits");
        prop_assert_eq!(Envelope::open(&stored, LARGEST), Ok(envelope));
    }

    #[test]
    fn no_change_of_sealed_bytes_goes_unnoticed(
        envelope in any_envelope(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut stored = envelope.seal(100).expect("fits").to_vec();
        let at = at.index(stored.len());
        let same = stored[at] == byte;
        stored[at] = byte;
        prop_assert_eq!(open(&stored).is_ok(), same);
    }

    /// Bytes behind a head that looks right, under a checksum that fits, open to something sound or not at all.
    #[test]
    fn no_bytes_are_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        small in any::<bool>(),
        remaining in prop::option::of(any_time()),
    ) {
        let _ = open(&bytes);
        let mut stored = [&MAGIC[..], &[VERSION], &bytes].concat();
        if small {
            // Counts and lengths that may fit.
            for byte in stored.iter_mut().take(72).skip(60) {
                *byte = if *byte < 200 { 0 } else { *byte % 16 };
            }
        }
        stamp(&mut stored);
        if let Ok(opened) = open(&stored) {
            let arrival = opened.on_arrival(remaining);
            prop_assert!(arrival.age >= opened.age);
            prop_assert!(arrival.fresh_for <= remaining);
        }
    }
}
