//! Two machines over loopback: sessions, messages, content, and what happens to those who cheat.

mod content;
mod world;
