//! What two peers of one share say to each other: names, versions, records, messages, frames.
//!
//! Everything here is data and its bounds. What the data means (who wins, what to write where) is
//! decided in `logic`; how bytes reach a socket is `host`'s business.

mod capability;
mod clock;
mod frame;
mod intake;
pub mod knock;
mod message;
mod name;
mod record;

pub use capability::{
    Capability, DoorKey, Hint, KEY_BYTES, ReadKey, Secret, WritePublic, WriteSeed,
};
pub use clock::{Clock, ClockTooLong, Dot, ENTRIES_MAX, Relation, ReplicaId};
pub use frame::{DATA_BYTES_MAX, FRAME_BYTES_MAX, Frame, FrameError, Framed, MESSAGE_BYTES_MAX};
pub use intake::Intake;
pub use message::{
    CHUNKS_MAX, Chunk, ChunkHash, Cuts, GRAIN_MAX, GRAIN_MIN, Hello, INLINE_BYTES_MAX, ITEMS_MAX,
    Item, Message, Records, Refusal, Stretch, Wanted,
};
pub use name::{BadName, Name, PATH_BYTES_MAX, RelPath, STATE_DIR, escape_for_people};
pub use record::{
    Body, Class, Hash, Label, Meta, Mtime, NodeId, Place, Record, Target, Value, WriteSignature,
};
