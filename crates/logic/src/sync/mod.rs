//! Folder sync, decided: three trees, one pure planner, and the engine that keeps them.
//!
//! * *disk* ([`Print`], [`Sighting`]): what a look at the folder found.
//! * *synced* ([`Synced`]): what this machine last put on disk, or found there and agreed to.
//! * *remote* (`Tree`): the records all peers merge; its rendering is the goal.
//!
//! The difference between the first two is what the user did; the difference between the last
//! two is what is to be done. Observations are stored, work never is: after a crash we look again.

mod absent;
mod aside;
pub mod chunks;
mod circle;
mod disk;
mod engine;
mod gossip;
mod guard;
mod husk;
mod local;
pub mod meet;
pub mod merge;
mod missing;
mod names;
mod numbers;
mod plan;
pub mod planted;
mod port;
mod put_back;
mod rot;
mod rules;
mod source;
#[cfg(test)]
mod tests;
pub mod tree;
mod turns;
mod unnoted;
mod unread;
mod work;

pub use disk::{Found, Print, Sighting, Synced, Time};
pub use engine::{Engine, LinkProgress, Progress, State};
pub use guard::Withheld;
pub use numbers::Counted;
pub use port::Identity;
pub use port::{
    Act, Effect, Input, JobId, LinkId, Look, Notice, Outcome, Outgoing, Rights, Row, Source, Step,
    Trouble,
};
pub use rot::{Suspect, Tally};
pub use rules::{BadLine, RULES_BYTES_MAX, RULES_FILE, Rules};

/// How many batches of records a peer may send before the first [`Effect::Accept`].
pub const BATCHES_AHEAD: u32 = 16;
