//! The classic file-share dialect's decisions (`spec/classic.md`), on both sides.
//!
//! [`ClassicTracker`] keeps the directory of a swarm: who has which file. [`SharedPort`] lets it
//! serve on the port of the other tracker. [`Peer`] decides what a peer tells its tracker and what
//! it fetches from whom. All are machines without clock, socket or chance.

mod peer;
mod port;
mod tracker;

pub use peer::{
    DownReason, FetchJob, FetchTrouble, LocalFile, Pace, Peer, PeerEffect, PeerEvent, PeerInput,
    PeerOptions, PeerReason, PeerSnapshot, ServingPort,
};
pub use port::{PortNote, PortReason, SharedPort};
pub use tracker::{
    ClassicTracker, Dropped, LeftCause, TrackerLimits, TrackerNote, TrackerOptions, TrackerReason,
    TrackerSnapshot,
};
