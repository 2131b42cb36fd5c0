//! Decisions: every service's state machine, without clock, socket, disk or chance.
#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

pub mod backoff;
pub mod classic;
pub mod echo;
pub mod enroll;
pub mod expiring;
pub mod hello;
pub mod limit;
pub mod machine;
pub mod moment;
pub mod sync;
pub mod tracker;
pub mod web;
