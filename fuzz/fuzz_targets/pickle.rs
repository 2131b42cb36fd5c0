//! Bytes from a stranger into the pickle reader.
#![no_main]

#[path = "../properties/pickle.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
