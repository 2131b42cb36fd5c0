//! A file of rules and a path into what decides on what stays out of a share.
#![no_main]

#[path = "../properties/rules.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
