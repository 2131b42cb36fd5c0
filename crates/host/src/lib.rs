//! The real world: sockets, files, the index, and the loops that drive the logic.

mod batch;
pub mod classic;
pub mod clock;
pub mod confine;
pub mod datagram;
pub mod descriptors;
pub mod discovery;
pub mod drive;
pub mod echo;
pub mod enroll;
pub mod hello;
pub mod listen;
pub mod priority;
pub mod runtime;
pub mod signals;
pub mod stop;
pub mod stream;
pub mod sync;
pub mod tracker;
pub mod web;
