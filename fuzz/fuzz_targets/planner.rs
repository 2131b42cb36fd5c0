//! Stories of three people and one folder, into the engine and its planner.
#![no_main]

// The bench on which the tests of the engine play as well.
#[expect(dead_code, reason = "some of it is for the tests")]
#[path = "../../crates/logic/tests/sync/folder.rs"]
mod folder;
#[expect(dead_code, reason = "most of it is for the tests")]
#[path = "../../crates/logic/tests/sync/one.rs"]
mod one;
#[expect(dead_code, reason = "some of it is for the tests")]
#[path = "../../crates/logic/tests/sync/peers.rs"]
mod peers;
#[path = "../properties/planner.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
