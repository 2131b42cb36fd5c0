//! Two machines over loopback: sessions, messages, content, and what happens to those who cheat.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else arrives fails the test"
)]

mod cheats;
mod content;
mod records;
mod sessions;
mod world;
