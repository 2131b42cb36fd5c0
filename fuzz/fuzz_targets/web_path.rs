//! Bytes from a stranger into the reader of request targets.
#![no_main]

#[path = "../properties/web_path.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
