//! What is known of the disk: fingerprints of files and what a look at a name can find.

use ahoy_wire::sync::{Clock, Meta, Mtime, Name, NodeId, RelPath, Target, Value};
use serde::{Deserialize, Serialize};

/// A time stamp of the file system, nanoseconds since 1970.
pub type Time = i128;

/// A file's fingerprint: what `statx` says of it. Two equal prints of one name mean that nobody
/// has touched it, unless the print is so fresh that the clock's tick could hide a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// Inode number.
    pub inode: u64,
    /// Birth time; 0 where the file system has none. With the inode number it names one file for
    /// its whole life: inode numbers alone are reused at once.
    pub birth: Time,
    /// Length in bytes; 0 for anything but regular files and links.
    pub size: u64,
    /// Modification time, as `utimensat` sets it.
    pub mtime: Mtime,
    /// Change time; cannot be set, so it gives away edits that restore the mtime.
    pub ctime: Time,
    /// `st_mode & 0o7777`.
    pub mode: u16,
    /// Taken so soon after the last change that another one could hide in the same clock tick.
    pub racy: bool,
}

impl Print {
    /// What of it goes to others: mode and mtime.
    pub fn meta(&self) -> Meta {
        let (mode, mtime) = (self.mode, self.mtime);
        Meta { mode, mtime }
    }

    /// Which file it is, whatever it holds now: its inode number and birth time.
    pub fn identity(&self) -> (u64, Time) {
        (self.inode, self.birth)
    }

    /// The same file, by inode and birth time, whatever it holds now.
    pub fn same_file(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// The same file with, as far as a stat can tell, the same content and metadata.
    /// The change time is left out where a rename by ourselves has moved it.
    pub fn same_but_ctime(&self, other: &Self) -> bool {
        self.same_file(other)
            && self.size == other.size
            && self.mtime == other.mtime
            && self.mode == other.mode
    }

    /// Untouched since.
    pub fn same(&self, other: &Self) -> bool {
        self.same_but_ctime(other) && self.ctime == other.ctime
    }
}

/// What a look at one name found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Dir(Print),
    /// A regular file; its content has not been read.
    File(Print),
    /// A symbolic link.
    Link(Print, Target),
    /// A socket, device, pipe, a mount point of another file system: not synced.
    Foreign,
    /// It is there but cannot be examined; says why. Never taken for a deletion.
    Unreadable(String),
    /// No such name.
    Nothing,
}

/// One name in one directory, looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The directory.
    pub dir: RelPath,
    /// The name in it.
    pub name: Name,
    /// What is there.
    pub found: Found,
}

/// What this machine holds of a node: the merge base. Exists only for what is on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// The directory it is in, on this disk.
    pub parent: NodeId,
    /// Its name there; differs from the record's name when two nodes want the same one.
    pub name: Name,
    /// What is there; never [`Value::Gone`].
    pub value: Value,
    /// The fingerprint of what is there.
    pub print: Print,
    /// The changes of content that whoever edits what is on disk now has seen.
    pub body_clock: Clock,
    /// The changes of place likewise.
    pub place_clock: Clock,
}

impl Synced {
    /// Both vectors.
    pub fn clocks(&self) -> [&Clock; 2] {
        [&self.body_clock, &self.place_clock]
    }
}
