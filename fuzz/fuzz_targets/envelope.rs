//! The envelope of typed values against any bytes. `cargo fuzz` needs a nightly compiler for its sanitizer:
//!
//! ```sh
//! cargo +nightly fuzz run envelope
//! ```
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| multi_tier_cache::fuzzing::envelope(input));
