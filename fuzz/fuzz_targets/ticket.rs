//! Text from anywhere into the reader of tickets.
#![no_main]

#[path = "../properties/ticket.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
