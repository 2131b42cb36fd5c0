//! What a running share has to say of itself: one [`Snapshot`] for `status`, `--json`, the live
//! line and the tests; and the control socket through which other processes of the user ask.
//!
//! Only values and their way through a socket. Whoever runs the share makes the snapshots
//! ([`Desk`]).

mod client;
mod control;
mod meter;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use ahoy_logic::sync::Notice as Told;
use ahoy_wire::sync::{Name, RelPath};
use serde::{Deserialize, Serialize};

use super::exact::Exact;
use super::home::HomeError;
use super::limits::Caps;
use super::scrub::Progress as Scrubbing;
use crate::confine::Confinement;

pub use client::{ControlError, ask, running};
pub use control::{Control, LIST_MAX, Reply, Request};
pub use meter::Meter;

/// Most notices that are kept; the oldest go first.
pub const NOTICES_MAX: usize = 100;

/// Whoever runs a share, as its control socket sees it.
pub trait Desk: Send + Sync {
    /// How things stand now.
    fn snapshot(&self) -> Snapshot;
    /// What is in the directory `page.path`, or the file itself if it is one, sorted by name;
    /// `None` if there is no such path.
    fn list(&self, page: &Page) -> Option<Vec<Entry>>;
    /// A ticket, with the addresses of now; see `Share::ticket`.
    fn ticket(&self, read_only: bool) -> String;
    /// The user means what has disappeared to be deleted elsewhere too; false if nothing waits for
    /// that word.
    fn confirm(&self) -> bool;
    /// Begins to read everything again at this rate (0: no limit) if one is given; how far it is.
    fn scrub(&self, bytes_per_second: Option<u64>) -> io::Result<Scrubbing>;
    /// From now on the process keeps to these limits, and after a restart too.
    fn limit(&self, limits: Caps) -> Result<(), HomeError>;
    /// Begins an orderly stop; returns at once.
    fn stop(&self);
}

/// How a share stands. All sizes are bytes, all times seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What the share is called.
    pub name: String,
    /// The folder.
    pub root: Exact,
    /// This copy, 16 hexadecimal digits.
    pub replica: String,
    /// This device's id in this share, 52 characters.
    pub device: String,
    /// This device's name.
    pub label: String,
    /// The process that syncs it.
    pub process: u32,
    /// Since when.
    pub started_at_secs: u64,
    /// Whether this device may change the share.
    pub may_write: bool,
    /// What it is doing; `state`, and `reason` if it has halted.
    #[serde(flatten)]
    pub state: State,
    /// Files and links in the share.
    pub files: u64,
    /// Directories in the share, without the folder itself.
    pub directories: u64,
    /// Sizes of all files together.
    pub bytes: u64,
    /// What is still to be done here.
    pub todo: Amount,
    /// What has been done of the current run of work, which began when there was last nothing to
    /// do.
    pub done: Amount,
    /// Bytes of content per second, over the last seconds, both ways.
    pub bytes_per_second: u64,
    /// The other machines, connected ones first.
    pub peers: Vec<Peer>,
    /// The trackers.
    pub trackers: Vec<Tracker>,
    /// Where peers can reach this process.
    pub listen: Vec<SocketAddr>,
    /// The last things worth telling, oldest first; at most [`NOTICES_MAX`].
    pub notices: Vec<Notice>,
    /// Bytes through the network since the start.
    pub traffic: Traffic,
    /// How fast the process may be, bytes per second in each direction.
    pub limits: Caps,
    /// How far the process steps back for others: its niceness, 0 normally, 19 in the background.
    pub niceness: i32,
    /// Whether the kernel keeps the process to its folders.
    pub confinement: Confinement,
}

/// What a share is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Opening the index.
    Starting,
    /// Looking at the whole folder.
    Scanning,
    /// Something is to be done here, or a connected peer has not got everything yet.
    Syncing,
    /// This copy and all connected ones are the same.
    InSync,
    /// Nothing to do, and nobody is connected.
    WaitingForPeers,
    /// It cannot go on by itself until something changes: the folder is gone, the disk is full...
    Halted {
        /// What has happened, for people.
        reason: String,
    },
}

impl State {
    /// In words, for people.
    pub fn words(&self) -> String {
        match self {
            Self::Starting => "starting".into(),
            Self::Scanning => "scanning".into(),
            Self::Syncing => "syncing".into(),
            Self::InSync => "in sync".into(),
            Self::WaitingForPeers => "waiting for peers".into(),
            Self::Halted { reason } => format!("halted: {reason}"),
        }
    }
}

/// An amount of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Files, links and directories.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// Bytes through the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// To peers.
    pub sent: u64,
    /// From peers.
    pub received: u64,
}

/// Another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id, 52 characters.
    pub id: String,
    /// The first characters of it, for people.
    pub short: String,
    /// What it calls itself; empty as long as it has not been met.
    pub label: String,
    /// Where it is connected, or was reached last.
    pub address: Option<SocketAddr>,
    /// A session with it is open.
    pub connected: bool,
    /// When it was last connected; absent if never.
    pub seen_at_secs: Option<u64>,
    /// Whether it may change the share; absent as long as it has not shown it.
    pub may_write: Option<bool>,
    /// How many of this machine's records it has not confirmed; absent if it is not connected.
    pub behind: Option<u64>,
}

/// A tracker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracker {
    /// Where it is.
    pub address: String,
    /// It is the one inside this process.
    pub embedded: bool,
    /// It knows of this machine.
    pub up: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Counts from 1 within one run.
    pub number: u64,
    /// When.
    pub at_secs: u64,
    /// What sort of thing.
    pub kind: NoticeKind,
    /// What it is about, below the folder.
    pub path: Option<Exact>,
    /// For people, without the path.
    pub text: String,
}

/// What sort of thing a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// Both contents were kept.
    Conflict,
    /// A file is left out for now.
    Trouble,
    /// The folder is suddenly empty, or a great part of it.
    Emptied,
    /// A change by a reader stays here.
    NotSent,
    /// Anything else about this share: the tracker, the index, the network.
    Share,
}

/// The last notices.
#[derive(Debug, Default)]
pub struct Notices {
    kept: VecDeque<Notice>,
    count: u64,
}

impl Notices {
    /// Adds what the engine tells; `None` for a file that was brought, which is no news.
    pub fn tell(&mut self, at_secs: u64, told: &Told) -> Option<Notice> {
        let (kind, path, text) = match told {
            Told::Conflict { path, copy } => {
                let text = format!(
                    "changed here and elsewhere; kept both, as {}",
                    Exact::from(copy)
                );
                (NoticeKind::Conflict, Some(path.into()), text)
            }
            Told::Trouble { path, reason } => {
                (NoticeKind::Trouble, Some(path.into()), reason.clone())
            }
            Told::Emptied { nodes } => {
                let text = format!(
                    "the folder is empty, {nodes} entries were here: not deleted elsewhere"
                );
                (NoticeKind::Emptied, None, text)
            }
            Told::Vanished { files, of } => {
                let text = format!(
                    "{files} of {of} files have disappeared at once: not deleted elsewhere \
                     before `ahoy confirm`"
                );
                (NoticeKind::Emptied, None, text)
            }
            Told::NotSent { path } => {
                let text = "changed here, but this device may only read: the change stays here";
                (NoticeKind::NotSent, Some(path.into()), text.into())
            }
            Told::Brought { .. } => return None,
        };
        Some(self.add(at_secs, kind, path, text))
    }

    /// Adds a notice of any kind.
    pub fn add(
        &mut self,
        at_secs: u64,
        kind: NoticeKind,
        path: Option<Exact>,
        text: String,
    ) -> Notice {
        self.count += 1;
        let notice = Notice {
            number: self.count,
            at_secs,
            kind,
            path,
            text,
        };
        if self.kept.len() == NOTICES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(notice.clone());
        notice
    }

    /// All that are kept, oldest first.
    pub fn all(&self) -> Vec<Notice> {
        self.kept.iter().cloned().collect()
    }
}

/// Which part of a directory to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The directory or file.
    pub path: RelPath,
    /// Only names after this one, in the order of bytes.
    pub after: Option<Name>,
    /// Most entries; at most [`LIST_MAX`].
    pub limit: usize,
}

/// One name in a directory of a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name.
    pub name: Exact,
    /// What it is.
    pub kind: EntryKind,
    /// Length of a file; 0 for anything else.
    pub size: u64,
    /// Permission bits; 0 for a link.
    pub mode: u16,
    /// Modification time, whole seconds since 1970.
    pub mtime_secs: i64,
    /// The rest of it.
    pub mtime_nanos: u32,
    /// Where a link points.
    pub target: Option<Exact>,
    /// It is on this machine's disk as the share wants it.
    pub here: bool,
}

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_a_plain_word_for_machines() {
        let json = |state: State| serde_json::to_value(&state).expect("json");
        assert_eq!(json(State::InSync), serde_json::json!({"state": "in_sync"}));
        let halted = State::Halted {
            reason: "the folder is gone".into(),
        };
        let want = serde_json::json!({"state": "halted", "reason": "the folder is gone"});
        assert_eq!(json(halted.clone()), want);
        assert_eq!(
            serde_json::from_value::<State>(want).expect("a state"),
            halted
        );
    }

    #[test]
    fn the_last_notices_are_kept() {
        let mut notices = Notices::default();
        let path = RelPath::parse(b"a\nb").expect("a path");
        for n in 0..=NOTICES_MAX as u64 {
            let told = Told::Trouble {
                path: path.clone(),
                reason: format!("no {n}"),
            };
            notices.tell(n, &told).expect("news");
        }
        assert!(
            notices
                .tell(
                    0,
                    &Told::Brought {
                        path,
                        removed: false
                    }
                )
                .is_none()
        );
        let all = notices.all();
        assert_eq!(all.len(), NOTICES_MAX);
        assert_eq!((all[0].number, all[0].text.as_str()), (2, "no 1"));
        assert_eq!(
            all[99].path.as_ref().map(ToString::to_string),
            Some("a\\nb".into())
        );
    }
}
