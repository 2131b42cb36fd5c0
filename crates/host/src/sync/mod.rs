//! Folder sync in the real world: what surrounds the engine on a user's machine.

pub mod index;
