//! Bytes from a stranger into the readers of the classic dialect, whole and in pieces.
#![no_main]

#[path = "../properties/classic.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
