//! Decisions: every service's state machine, without clock, socket, disk or chance.
#![forbid(unsafe_code)]

pub mod expiring;
pub mod moment;
pub mod sync;
