//! The real world: sockets, files, the index, and the loops that drive the logic.

pub mod discovery;
pub mod signals;
pub mod sync;
pub mod tracker;
pub mod web;
