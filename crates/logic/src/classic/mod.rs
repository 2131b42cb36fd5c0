//! The classic file-share dialect's decisions (`spec/classic.md`), on both sides.
//!
//! [`ClassicTracker`] keeps the directory of a swarm: who has which file. [`SharedPort`] lets it
//! serve on the port of the other tracker. Both are machines without clock, socket or chance.

mod port;
mod tracker;

pub use port::{PortNote, PortReason, SharedPort};
pub use tracker::{
    ClassicTracker, Dropped, LeftCause, TrackerLimits, TrackerNote, TrackerOptions, TrackerReason,
    TrackerSnapshot,
};
