//! Two machines over loopback: sessions, messages, content, and what happens to those who cheat.

mod cheats;
mod content;
mod hostile;
mod limits;
mod meetings;
mod records;
mod sessions;
mod world;
