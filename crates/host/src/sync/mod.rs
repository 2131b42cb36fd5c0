//! Folder sync in the real world: what surrounds the engine on a user's machine.

mod committer;
mod conductor;
pub mod disk;
pub mod doors;
pub mod exact;
mod front;
mod gate;
pub mod home;
pub mod index;
pub mod keys;
pub mod limits;
pub mod link;
pub mod links;
pub mod meet;
pub mod ports;
pub mod scrub;
pub mod session;
pub mod share;
pub mod status;
pub mod supply;
mod window;
