//! Bytes from a stranger into the readers of tracker requests and replies, whole and in pieces.
#![no_main]

#[path = "../properties/tracker.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
