//! Bytes from a peer into the reader of a session, whole and in pieces.
#![no_main]

#[path = "../properties/sync.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
