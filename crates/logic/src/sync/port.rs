//! The engine's port: everything that goes in, and everything it wants done.
//!
//! `host` and `sim` each give the engine these inputs and carry out these effects. Within one
//! turn, every [`Effect::Keep`] must be durable before any other effect of that turn is carried
//! out (`sync-12`): a change that a peer has heard of may never be forgotten by the one who made
//! it.

use std::sync::Arc;

use ahoy_wire::sync::{
    Hash, Label, Message, Meta, Mtime, Name, NodeId, Record, RelPath, ReplicaId, Target,
    WriteSignature,
};
use serde::{Deserialize, Serialize};

use super::{Counted, Print, Rules, Sighting, Synced};

/// A session with one peer; numbers are never reused within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One piece of work on the disk; numbers are never reused within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What the peer at the other end of a link has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Holds the write key: what it says is as good as signed.
    Writer,
    /// Holds the read key: only signed records were let through by the host.
    Reader,
}

/// Everything that the engine can learn.
#[derive(Debug)]
pub enum Input {
    /// A look at the disk: some names of some directories.
    Seen {
        /// What was found, directories before what is in them.
        sightings: Vec<Sighting>,
        /// Directories whose every name is among the sightings: what is not, is not there.
        whole: Vec<RelPath>,
        /// The number of the [`Effect::Look`] that this answers; `None` if nobody asked. All of it
        /// was looked at after the asking.
        asked: Option<u64>,
    },
    /// The looks that belong together (one scan, one burst of events) have all been reported, so
    /// what was missing and did not turn up elsewhere is gone. Sent only after the host has seen
    /// that the root and its marker are still there.
    Settled {
        /// Every directory has been looked at, not only the ones that events named.
        whole_tree: bool,
    },
    /// What is to stay out of the share from now on (`sync-15`). If something that was left out is
    /// not any more, a whole look follows.
    Rules(Rules),
    /// Answer to [`Effect::Read`]: the file did not change while it was read.
    Hashed {
        /// As asked.
        path: RelPath,
        /// Taken before and after reading; both were the same.
        print: Print,
        /// BLAKE3 of the content.
        hash: Hash,
    },
    /// Answer to [`Effect::Read`]: it cannot be read, or it went on changing. `retry` says which;
    /// the host looks at it again by itself when it has been quiet for a while.
    Unread {
        /// As asked.
        path: RelPath,
        /// For people.
        reason: String,
        /// It is still being written; not an error.
        changing: bool,
    },
    /// A file was read again, long after it was last seen, with the same fingerprint before and
    /// after the reading.
    Scrubbed {
        /// Which.
        path: RelPath,
        /// Its fingerprint.
        print: Print,
        /// BLAKE3 of what it holds.
        hash: Hash,
    },
    /// A start found this node in the parking place: its last run ended between
    /// [`Act::Park`] and [`Act::Unpark`]. Given before the first look.
    Parked {
        /// Which node.
        node: NodeId,
        /// What is there.
        print: Print,
    },
    /// What became of steps.
    Finished(Vec<Outcome>),
    /// A session is proved and open.
    Opened {
        /// Its number.
        link: LinkId,
        /// What the peer may do.
        rights: Rights,
    },
    /// The peer says.
    Heard {
        /// On this link.
        link: LinkId,
        /// This. Signatures have been checked where they are needed.
        message: Message,
    },
    /// The link can take one more batch of records.
    Room {
        /// Which link.
        link: LinkId,
    },
    /// The session is over.
    Closed {
        /// Which one.
        link: LinkId,
    },
    /// The root or its marker is not there: believe nothing that looks say, change nothing.
    RootLost,
    /// It is there again; a whole look follows.
    RootBack,
    /// Time passed; see `Engine::deadline`.
    Tick,
}

/// Everything that the engine can want.
#[derive(Debug)]
pub enum Effect {
    /// Put into the index, durably, before anything else of this turn.
    Keep(Row),
    /// Say this on that link.
    Say {
        /// Which link.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// Send records; uses up one [`Input::Room`].
    Send {
        /// Which link.
        link: LinkId,
        /// The peer's next `Want`, if it gets all of this.
        upto: u64,
        /// What.
        items: Vec<Outgoing>,
    },
    /// The peer may send one more batch of records. A fresh link starts with
    /// [`super::BATCHES_AHEAD`] of them allowed.
    Accept {
        /// Which link.
        link: LinkId,
    },
    /// End this session: the peer broke a rule.
    Hang {
        /// Which link.
        link: LinkId,
        /// For the log.
        reason: String,
    },
    /// Change the disk. Steps of one turn may run at the same time and in any order.
    Do(Box<Step>),
    /// Look at the disk; the answer is an [`Input::Seen`] with the same number, then an
    /// [`Input::Settled`]. Numbers rise.
    Look {
        /// Where.
        look: Look,
        /// The number.
        ask: u64,
    },
    /// Read and hash the file at `path`, if its fingerprint is still `print`.
    Read {
        /// Which file.
        path: RelPath,
        /// As it was seen.
        print: Print,
    },
    /// For the user.
    Tell(Notice),
}

/// One record to send.
#[derive(Debug)]
pub struct Outgoing {
    /// The record.
    pub record: Record,
    /// By a writer, if this machine is only a reader. A writer signs when it sends to a reader.
    pub signature: Option<WriteSignature>,
    /// Where to read the content to send along, if it still hashes to what the record says.
    pub attach: Option<RelPath>,
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// At one name.
    At(RelPath, Name),
    /// At everything below a directory, the directory's own names included.
    Below(RelPath),
}

/// One change of the disk.
#[derive(Debug, Clone)]
pub struct Step {
    /// For the answer.
    pub job: JobId,
    /// The node that it is about.
    pub node: NodeId,
    /// What to do.
    pub act: Act,
    /// The directory in which something is to be put, as it was last seen; only the file identity
    /// is compared. `None` for the root, and where nothing is put anywhere.
    pub within: Option<Print>,
}

impl Step {
    /// Whether the directory in which it puts something is the one that it means; `look` says what
    /// stands at a path now.
    pub fn is_within(&self, look: impl FnOnce(&RelPath) -> Option<Print>) -> bool {
        let dir = self.act.target().and_then(RelPath::split);
        match (dir, &self.within) {
            (Some((dir, _)), Some(within)) => {
                look(&dir).is_some_and(|there| there.same_file(within))
            }
            (Some(_), None) | (None, _) => true,
        }
    }
}

/// The changes that the engine can want of a disk (`sync-26`). Each checks, at the last moment,
/// that the disk is still as the engine believes, and otherwise answers [`Trouble::Changed`] with
/// nothing lost and nothing changed.
#[derive(Debug, Clone)]
pub enum Act {
    /// Make a directory at a free name.
    MakeDir {
        /// Where.
        at: RelPath,
        /// Mode and mtime.
        meta: Meta,
    },
    /// Put a symbolic link at `at`.
    MakeLink {
        /// Where.
        at: RelPath,
        /// Pointing there.
        target: Target,
        /// With this mtime.
        mtime: Mtime,
        /// What it replaces; nothing may be there if `None`.
        over: Option<Print>,
    },
    /// Put a file at `at`, whole or not at all (`sync-27`).
    Write {
        /// Where.
        at: RelPath,
        /// Mode and mtime.
        meta: Meta,
        /// Length in bytes.
        size: u64,
        /// BLAKE3 that the bytes must have.
        hash: Hash,
        /// What it replaces; nothing may be there if `None`.
        over: Option<Print>,
        /// Where the bytes are.
        source: Source,
    },
    /// Set mode and mtime (a link: only the mtime; a directory: both).
    SetMeta {
        /// Of what.
        at: RelPath,
        /// To this.
        meta: Meta,
        /// As it was last seen. For directories only the file identity is compared.
        expect: Print,
    },
    /// Rename to a free name.
    Move {
        /// From here.
        from: RelPath,
        /// To here.
        to: RelPath,
        /// What must be at `from`; for directories only the file identity is compared.
        expect: Print,
    },
    /// Remove a file, a link, or an empty directory.
    Remove {
        /// Where.
        at: RelPath,
        /// What must be there; for directories only the file identity is compared.
        expect: Print,
    },
    /// Move what is at `at` into the parking place inside the state directory, under the node's
    /// id, to break a circle of renames. A parked file survives a restart.
    Park {
        /// Where it is.
        at: RelPath,
        /// What must be there.
        expect: Print,
    },
    /// Move a parked node to a free name.
    Unpark {
        /// Where to.
        to: RelPath,
    },
}

impl Act {
    /// Where it puts something.
    pub fn target(&self) -> Option<&RelPath> {
        match self {
            Self::MakeDir { at, .. } | Self::MakeLink { at, .. } | Self::Write { at, .. } => {
                Some(at)
            }
            Self::Move { to, .. } | Self::Unpark { to } => Some(to),
            Self::SetMeta { .. } | Self::Remove { .. } | Self::Park { .. } => None,
        }
    }
}

/// Where the bytes of a file come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// They came with the record.
    Here(Arc<[u8]>),
    /// Another file of the share has them.
    Local {
        /// Which.
        from: RelPath,
        /// As it was last seen.
        expect: Print,
    },
    /// This peer says that it has them.
    Peer {
        /// Which.
        link: LinkId,
        /// An older version of the same file, to take unchanged chunks from.
        basis: Option<RelPath>,
    },
}

/// What became of a step.
#[derive(Debug)]
pub struct Outcome {
    /// Which step.
    pub job: JobId,
    /// The fingerprint of what is there now (`None` after a removal), or why not.
    pub result: Result<Option<Print>, Trouble>,
}

/// Why a step was not done. In every case nothing was changed and nothing was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The disk is not as the engine believed; look again.
    Changed,
    /// The directory is not empty, but there is nothing in it that could be shared: what the rules
    /// leave out, sockets and the like.
    Inhabited,
    /// Another program has the file open for writing, so what it is about to write would be lost;
    /// try again in a while.
    InUse,
    /// The source did not have the bytes, or the link ended; try another source later.
    NoSource,
    /// The source sent bytes that are not what the record says.
    Corrupt,
    /// The disk is full or a quota is reached; try again in a while.
    Full,
    /// The system refuses (permissions, name too long for this file system...): for people.
    Refused(String),
}

/// Something the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Two people changed the same file; both contents are kept, one of them as `copy`.
    Conflict {
        /// The file.
        path: RelPath,
        /// The name of the other content, in the same directory.
        copy: Name,
    },
    /// A file cannot be read, written or removed; sync goes on without it.
    Trouble {
        /// Which.
        path: RelPath,
        /// Why.
        reason: String,
    },
    /// The folder is empty although files were here: nothing is deleted elsewhere.
    Emptied {
        /// How many files and directories were here.
        nodes: u64,
    },
    /// A great part of the share has disappeared at once: it is deleted elsewhere only when the
    /// user says so.
    Vanished {
        /// Files that are gone.
        files: u64,
        /// Of so many.
        of: u64,
    },
    /// A change by this reader stays here: it is not sent.
    NotSent {
        /// Which.
        path: RelPath,
    },
    /// A file has been brought in from a peer, or removed because a peer removed it.
    Brought {
        /// Which.
        path: RelPath,
        /// It was removed.
        removed: bool,
    },
}

/// One entry of the index. An engine is rebuilt from all the latest rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Row {
    /// Everything about one node; replaces the row of the same `number`.
    Node {
        /// Small and stable: nodes get them in order of arrival.
        number: u64,
        /// What the peers agree on.
        record: Box<Record>,
        /// By a writer; kept by readers, who cannot sign.
        signature: Option<WriteSignature>,
        /// When this machine came to hold this version, in its own order; 0 if it does not yet.
        sequence: u64,
        /// What is on the disk of it.
        synced: Option<Box<Synced>>,
    },
    /// How far this machine has heard another one out.
    Heard {
        /// The other one.
        replica: ReplicaId,
        /// Its sequence number.
        upto: u64,
    },
    /// The next numbers of this machine.
    Counters {
        /// Changes made so far.
        dots: u64,
        /// Sequence numbers given so far.
        sequence: u64,
    },
    /// The numbers under which this machine counts its changes.
    Numbers(
        /// In the life that the index knows.
        Counted,
    ),
}

/// Who this engine is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This copy of the share: the name that it began with. If its index says that it has another
    /// one, that counts.
    pub replica: ReplicaId,
    /// The number under which this run counts its changes: a run of that copy, drawn at random
    /// (`sync-12`).
    pub run: ReplicaId,
    /// The host knows that the index is from a backup: it is not the file that was written last.
    pub is_put_back: bool,
    /// The device's name.
    pub label: Label,
    /// Whether this machine may change the share.
    pub rights: Rights,
    /// The numbers that this run gives are higher than this; it follows from the time, and rises
    /// from start to start. An index that was put back from a backup does not know what numbers it
    /// has given since, and may never give them again (`sync-12`).
    pub floor: u64,
}
