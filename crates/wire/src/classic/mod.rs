//! The classic file-share dialect (`spec/classic.md`): JSON to and from a tracker, files by name.
//!
//! Two generations of it are spoken. The newer ([`Generation::Lines`]) ends messages with LF and
//! puts a length before a file; the older ([`Generation::Bare`]) does neither. Both are read, and
//! both are written; who speaks which is decided above. The grammar stands here, no waiting.

mod json;
mod message;
mod name;
mod object;
mod transfer;

pub use message::{
    DIRECTORY_BYTES_MAX, Directory, FILES_MAX, FileEntry, Holder, InvalidMessage,
    MESSAGE_BYTES_MAX, PeerMessage, put_entry,
};
pub use name::{BadFileName, FileName, Mtime};
pub use object::{Objects, Unframed};
pub use transfer::{
    FILE_BYTES_MAX, FileRequest, HEADER_BYTES_MAX, Header, REQUEST_BYTES_MAX, header, read_header,
    read_request,
};

/// The first port on which a peer tries to serve its files.
pub const PEER_PORT_FIRST: u16 = 8000;

/// The two ways of the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// The newer one: a message is a line, a file has its length before it.
    Lines,
    /// The older one: nothing after a message, nothing before a file.
    Bare,
}

/// Whether a connection to a tracker whose first byte is this speaks the classic dialect: an
/// object, or white space before one (classic-19).
#[must_use]
pub fn is_classic(first: u8) -> bool {
    first == b'{' || object::is_space(first)
}
