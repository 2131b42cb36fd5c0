//! Bytes from a stranger into the web's readers.
#![no_main]

#[path = "../properties/web.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
