//! The head of values with tags against any bytes. `cargo fuzz` needs a nightly compiler for its sanitizer:
//!
//! ```sh
//! cargo +nightly fuzz run tagged
//! ```
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| multi_tier_cache::fuzzing::tagged(input));
