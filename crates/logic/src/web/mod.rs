//! The web server's decisions (spec/web.md): what a request names, which form of it is sent, what
//! the preconditions and ranges make of it, and when a connection is done.
//!
//! [`Connection`] is the machine: bytes in, one [`Effect`] out at a time. It asks for a file by a
//! path that is already safe to open beneath the served folder, gets told what is there, and
//! answers with a head and the byte ranges that the loop must move. It is not a
//! [`Machine`](crate::machine::Machine): one of those holds all connections and copies what it
//! sends, while here ten thousand connections each need a few bytes of state and the bodies never
//! pass through. [`Waits`] holds their time limits.
//!
//! What it does not do: open, read, send or look at a clock.

mod access;
mod condition;
mod connection;
mod file;
mod listing;
mod ranges;
mod reply;
mod target;
mod waits;

pub use access::access_line;
pub use connection::{Connection, Effect, Found, Input, LINGER_BYTES_MAX, Query, Step};
pub use file::{Choice, Representation, Resource, Stamp, Stat, media_type};
pub use listing::{Entry, LISTING_ENTRIES_MAX};
pub use reply::{Body, Part, Reply, Wall};
pub use target::{Target, TargetError, parse_target};
pub use waits::{Limits, Wait, Waits};

/// What the owner of a web server can set about its answers.
#[derive(Clone, Debug)]
pub struct Site {
    /// Show the content of a folder that has no `index.html` (web-25).
    pub listing: bool,
    /// Serve names that begin with a dot (web-23).
    pub dotfiles: bool,
    /// Keep each request line for the access log.
    pub access_log: bool,
    /// Chosen by chance when the server starts: nobody can write a file that contains the boundary
    /// of a multipart answer.
    pub boundary_key: [u8; 32],
}
