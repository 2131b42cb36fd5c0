//! The peer's port: what goes in, what it wants done, and what its owner learns.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU16;
use std::collections::BTreeMap;
use std::time::Duration;

use ahoy_wire::classic::{FILE_BYTES_MAX, FileName, Generation, InvalidMessage, Mtime, Unframed};

use crate::moment::Moment;

/// What the owner of a peer can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerOptions {
    /// After connecting, the first keep-alive (classic-30).
    pub first_sync: Duration,
    /// From then on, the time between two of them (classic-30).
    pub interval: Duration,
    /// The longest wait for the tracker's answer (classic-41).
    pub answer_max: Duration,
    /// The first wait before the tracker is tried again, halved at most by lot (classic-39).
    pub retry_first: Duration,
    /// The longest such wait.
    pub retry_max: Duration,
    /// Files that are fetched at a time (classic-38).
    pub fetches_max: usize,
    /// Endings of names that are not shared, beside those that never are; such as `.tmp`.
    pub exclude: Vec<String>,
    /// The longest file that is fetched, in bytes.
    pub file_bytes_max: u64,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            first_sync: Duration::from_secs(2),
            interval: Duration::from_secs(5),
            answer_max: Duration::from_secs(10),
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            fetches_max: 8,
            exclude: Vec::new(),
            file_bytes_max: FILE_BYTES_MAX,
        }
    }
}

impl PeerOptions {
    /// Whether files of this name stay out of it: never announced, served, fetched or overwritten
    /// (classic-33).
    #[must_use]
    pub fn is_excluded(&self, name: &FileName) -> bool {
        name.is_excluded() || self.exclude.iter().any(|end| name.as_str().ends_with(end))
    }
}

/// A file of the folder, as the disk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// When it was last changed, in whole seconds: as the swarm sees it.
    pub mtime: Mtime,
    /// The rest of that time, in nanoseconds.
    pub nanos: u32,
    /// Its size in bytes.
    pub size: u64,
}

/// What can happen to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerInput<'a> {
    /// An attempt to connect to the tracker succeeded.
    Connected {
        /// Which, as given by [`PeerEffect::Connect`].
        attempt: u64,
        /// Our own address on this connection.
        own: IpAddr,
    },
    /// Bytes came from the tracker.
    Received {
        /// On the connection of this attempt.
        attempt: u64,
        /// The bytes, cut anywhere.
        bytes: &'a [u8],
    },
    /// An attempt failed, or its connection is over.
    Lost {
        /// Which.
        attempt: u64,
        /// Why, if there was an error.
        error: Option<String>,
    },
    /// What is in the folder: the answer to [`PeerEffect::Look`]. Excluded files may be in it.
    Files(BTreeMap<FileName, LocalFile>),
    /// A fetch has ended.
    Fetched {
        /// Which.
        job: u64,
        /// How the holder spoke, if that became clear.
        spoke: Option<Generation>,
        /// What is in the folder now, or why not.
        outcome: Result<LocalFile, FetchTrouble>,
    },
    /// The deadline has come.
    Due,
}

/// What a peer wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEffect {
    /// Connect to the tracker; answered, within a limit of the host's, by `Connected` or `Lost`.
    Connect {
        /// The number of this attempt, and of its connection.
        attempt: u64,
    },
    /// Send on the current connection.
    Send(Vec<u8>),
    /// Give the current attempt or connection up.
    Disconnect,
    /// Look what is in the folder; answered by `Files`.
    Look,
    /// Fetch a file; answered by `Fetched`.
    Fetch(FetchJob),
    /// Tell the owner.
    Event(PeerEvent),
}

/// One file to be fetched from one holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchJob {
    /// Its number.
    pub job: u64,
    /// The file.
    pub name: FileName,
    /// Who has it.
    pub holder: SocketAddr,
    /// The time that the file is to have (classic-34).
    pub mtime: Mtime,
    /// What is in the folder under that name: nothing else may be replaced (classic-36).
    pub expect: Option<LocalFile>,
    /// How to ask first (classic-57).
    pub first: Generation,
    /// The holder has spoken like this before: do not try the other way.
    pub proven: Option<Generation>,
    /// The tracker speaks the older generation, so a bare answer without bytes may be a file.
    pub bare_swarm: bool,
}

/// Why a file was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchTrouble {
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// It did not answer, or stopped in the middle (classic-62).
    #[error("it stopped answering")]
    Stalled,
    /// It does not have the file (classic-53).
    #[error("it does not have the file")]
    Missing,
    /// Fewer bytes than promised (classic-58).
    #[error("it sent {got} bytes and had promised {promised}")]
    Short {
        /// How many came.
        got: u64,
        /// How many were to come.
        promised: u64,
    },
    /// More bytes than promised (classic-58).
    #[error("it sent more than the {promised} bytes that it had promised")]
    Surplus {
        /// How many were to come.
        promised: u64,
    },
    /// A bare answer ended, and the holder is gone: that may have been the middle (classic-60).
    #[error("it went away, perhaps in the middle of the file")]
    Uncertain,
    /// A bare answer without a byte would replace a file that has some (classic-61).
    #[error("it sent nothing, and that may be no file at all")]
    Nothing,
    /// Longer than the owner allows.
    #[error("the file is too long")]
    TooLong,
    /// The file in the folder is another than the one that was compared (classic-36).
    #[error("the file here was changed meanwhile")]
    Changed,
    /// The disk does not take it.
    #[error("cannot be written: {0}")]
    Disk(String),
}

/// What the owner of a peer learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The tracker is connected.
    Up,
    /// The tracker is not, or no longer.
    Down {
        /// Why.
        why: DownReason,
        /// When it is tried again, from now.
        retry_in: Duration,
    },
    /// The tracker was told which files are here.
    Announced {
        /// How many.
        files: usize,
        /// How many were too many to be told.
        left_out: usize,
    },
    /// A fetch begins.
    Fetching {
        /// The fetch.
        job: u64,
        /// The file.
        name: FileName,
        /// From whom.
        holder: SocketAddr,
    },
    /// A file is here now.
    Fetched {
        /// The fetch.
        job: u64,
        /// The file.
        name: FileName,
        /// From whom.
        holder: SocketAddr,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A fetch failed; another holder, or the same one later, will be tried.
    Failed {
        /// The fetch.
        job: u64,
        /// The file.
        name: FileName,
        /// From whom.
        holder: SocketAddr,
        /// Why.
        why: FetchTrouble,
    },
    /// All that the swarm has is here.
    Complete {
        /// How many files are here.
        files: usize,
    },
}

/// Why there is no tracker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// It closed the connection.
    #[error("the tracker closed the connection")]
    Ended,
    /// It does not answer (classic-41).
    #[error("the tracker does not answer")]
    Silent,
    /// It sent something that is no message (classic-40).
    #[error("the tracker {0}")]
    Unframed(Unframed),
    /// It sent an object that is no directory (classic-40).
    #[error("the tracker {0}")]
    Invalid(InvalidMessage),
    /// It sends without being asked (classic-40).
    #[error("the tracker sends too much")]
    TooFast,
}

/// What the peer wants to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerReason {
    /// To try the tracker again.
    Retry,
    /// To show a sign of life.
    KeepAlive,
    /// The tracker will not have answered.
    Answer,
    /// To try a holder again.
    Fetch,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// The tracker is connected.
    pub is_up: bool,
    /// Files here that are shared.
    pub files: usize,
    /// Files that are wanted, those included that are being fetched.
    pub wanted: usize,
    /// Files that are being fetched.
    pub fetching: usize,
    /// Files fetched since the start.
    pub fetched_total: u64,
    /// Fetches that failed since the start.
    pub failed_total: u64,
}

/// Where a peer serves its files.
pub type ServingPort = NonZeroU16;

/// Spaces connections out: no more than so many in a second, whatever a tracker says (classic-38).
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval: Duration,
    next: Moment,
}

impl Pace {
    /// At most `per_second` connections each second; 0 counts as 1.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            next: Moment::ORIGIN,
        }
    }

    /// Reserves the next connection; the moment at which it may be made.
    pub fn reserve(&mut self, now: Moment) -> Moment {
        let at = self.next.max(now);
        self.next = at + self.interval;
        at
    }
}
