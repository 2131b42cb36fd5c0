//! Who has which file: the peers of a swarm, and for each name all its holders in order.
//!
//! | a peer is | heard of | its files |
//! |---|---|---|
//! | connected | within the timeout, on a connection that is open | listed |
//! | away | within the timeout, but its connection has ended | listed where nobody connected has them as new |
//! | forgotten | not within the timeout | gone |
//!
//! A change costs as much as there is changed (times the logarithm of all); only the directory's
//! text is made as a whole, when it is asked for and has changed.

use core::cmp::Reverse;
use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahoy_wire::classic::{FileEntry, FileName, Holder, Mtime, put_entry};

use super::TrackerLimits;
use crate::expiring::ExpiringMap;
use crate::machine::ConnectionId;
use crate::moment::Moment;
use crate::tracker::Source;

/// The peers and their files. A peer is named by its address and announced port (classic-10).
#[derive(Debug)]
pub(super) struct Swarm {
    limits: TrackerLimits,
    peers: ExpiringMap<SocketAddr, Peer>,
    names: BTreeMap<FileName, Holders>,
    files: usize,
    files_by_source: BTreeMap<Source, usize>,
    /// The next number of an announcement; earlier ones stand first.
    next_number: u64,
    /// Of the entries of all names, with their commas.
    directory_bytes: usize,
    directory: Option<Arc<[u8]>>,
}

/// There are as many peers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// What became of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// Something is other than before.
    pub changed: bool,
    /// How many files of the peer are known now.
    pub files: usize,
    /// How many there was no room for.
    pub left_out: usize,
}

#[derive(Debug)]
struct Peer {
    files: BTreeMap<FileName, Announcement>,
    /// The connection on which it was heard last, while that is open.
    connection: Option<ConnectionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announcement {
    mtime: Mtime,
    number: u64,
}

/// The holders of one name; the first is the one that is listed.
#[derive(Debug, Default)]
struct Holders {
    ranks: BTreeSet<Rank>,
    /// The directory's entry of the first, as it is written.
    entry: Vec<u8>,
}

/// The order of holders (classic-5): the newest file, then who is connected (classic-15), then who
/// came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    mtime: Reverse<Mtime>,
    away: bool,
    number: u64,
    peer: SocketAddr,
}

impl Swarm {
    pub(super) fn new(limits: TrackerLimits) -> Self {
        Self {
            limits,
            peers: ExpiringMap::new(limits.peers_max),
            names: BTreeMap::new(),
            files: 0,
            files_by_source: BTreeMap::new(),
            next_number: 0,
            directory_bytes: 0,
            directory: None,
        }
    }

    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// When the next peer is to be forgotten.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.peers.deadline()
    }

    /// Forgets one peer that is due, with its files (classic-13).
    pub(super) fn expire_one(&mut self, now: Moment) -> Option<SocketAddr> {
        let (addr, peer) = self.peers.expire_one(now)?;
        self.take_all(addr, &peer);
        Some(addr)
    }

    /// A peer was heard on a connection: it lives until `until`. True if it was not known.
    pub(super) fn hear(
        &mut self,
        addr: SocketAddr,
        connection: ConnectionId,
        now: Moment,
        until: Moment,
    ) -> Result<bool, NoRoom> {
        if !self.peers.renew(&addr, now, until) {
            let peer = Peer {
                files: BTreeMap::new(),
                connection: Some(connection),
            };
            let inserted = self.peers.insert(addr, peer, until);
            return inserted.map(|_| true).map_err(|_| NoRoom);
        }
        let was_away = self
            .peers
            .get_mut(&addr, now)
            .is_some_and(|peer| peer.connection.replace(connection).is_none());
        if was_away {
            self.rank_again(now, addr, true);
        }
        Ok(false)
    }

    /// These are the peer's files now (classic-12).
    pub(super) fn announce(
        &mut self,
        now: Moment,
        addr: SocketAddr,
        files: Vec<FileEntry>,
    ) -> Announced {
        let mut wanted: BTreeMap<FileName, Mtime> = BTreeMap::new();
        for FileEntry { name, mtime } in files {
            let newest = wanted.entry(name).or_insert(mtime);
            *newest = mtime.max(*newest);
        }
        let before = self.files_of(now, addr);
        let mut changed = false;
        for (name, announcement) in &before {
            if wanted.get(name) != Some(&announcement.mtime) {
                self.take(addr, false, name, *announcement);
                changed = true;
            }
        }
        let (mut kept, mut left_out) = (BTreeMap::new(), 0);
        for (name, mtime) in wanted {
            // On a tie the first stays: the same announcement again keeps its number.
            let same = before.get(&name).filter(|known| known.mtime == mtime);
            if let Some(same) = same {
                kept.insert(name, *same);
            } else if let Some(announcement) = self.put(addr, &name, mtime) {
                kept.insert(name, announcement);
                changed = true;
            } else {
                left_out += 1;
            }
        }
        let files = kept.len();
        if let Some(peer) = self.peers.get_mut(&addr, now) {
            peer.files = kept;
        }
        Announced {
            changed,
            files,
            left_out,
        }
    }

    /// The connection has ended; if it was the peer's own, the peer is away (classic-15).
    pub(super) fn detach(&mut self, now: Moment, addr: SocketAddr, connection: ConnectionId) {
        // classic-10: the end of an older connection does not touch it.
        let own = self
            .peers
            .get_mut(&addr, now)
            .filter(|peer| peer.connection == Some(connection));
        if let Some(peer) = own {
            peer.connection = None;
            self.rank_again(now, addr, false);
        }
    }

    /// Forgets a peer at once if the connection is its own; true if it was.
    pub(super) fn forget(
        &mut self,
        now: Moment,
        addr: SocketAddr,
        connection: ConnectionId,
    ) -> bool {
        let peer = self.peers.get(&addr, now);
        if peer.is_none_or(|peer| peer.connection != Some(connection)) {
            return false;
        }
        if let Some(peer) = self.peers.remove(&addr) {
            self.take_all(addr, &peer);
        }
        true
    }

    /// One line with all names (classic-2, classic-5).
    pub(super) fn directory(&mut self) -> Arc<[u8]> {
        let names = &self.names;
        let bytes = self.directory_bytes;
        let directory = self.directory.get_or_insert_with(|| {
            let mut line = Vec::with_capacity(bytes + 3);
            line.push(b'{');
            for holders in names.values() {
                if line.len() > 1 {
                    line.extend_from_slice(SEPARATOR);
                }
                line.extend_from_slice(&holders.entry);
            }
            line.extend_from_slice(b"}\n");
            line.into()
        });
        Arc::clone(directory)
    }

    fn files_of(&self, now: Moment, addr: SocketAddr) -> BTreeMap<FileName, Announcement> {
        let peer = self.peers.get(&addr, now);
        peer.map(|peer| peer.files.clone()).unwrap_or_default()
    }

    /// Lists one file of a connected peer, if there is room (classic-16).
    fn put(&mut self, addr: SocketAddr, name: &FileName, mtime: Mtime) -> Option<Announcement> {
        let source = Source::of(addr);
        let of_source = self.files_by_source.get(&source).copied().unwrap_or(0);
        if self.files >= self.limits.files_max || of_source >= self.limits.files_per_source_max {
            return None;
        }
        let number = self.next_number;
        let rank = Rank {
            mtime: Reverse(mtime),
            away: false,
            number,
            peer: addr,
        };
        if !self.names.contains_key(name) {
            let entry = rank.entry(name);
            let bytes = self.directory_bytes + entry.len() + SEPARATOR.len();
            if bytes > self.limits.directory_bytes_max {
                return None;
            }
        }
        self.next_number += 1;
        self.files += 1;
        self.files_by_source.insert(source, of_source + 1);
        self.change(name, |ranks| {
            ranks.insert(rank);
        });
        Some(Announcement { mtime, number })
    }

    fn take_all(&mut self, addr: SocketAddr, peer: &Peer) {
        for (name, announcement) in &peer.files {
            self.take(addr, peer.connection.is_none(), name, *announcement);
        }
    }

    /// One file less; the next holder takes its name over (classic-14).
    fn take(&mut self, addr: SocketAddr, away: bool, name: &FileName, announcement: Announcement) {
        let rank = Rank {
            mtime: Reverse(announcement.mtime),
            away,
            number: announcement.number,
            peer: addr,
        };
        self.change(name, |ranks| {
            let was_there = ranks.remove(&rank);
            debug_assert!(was_there, "what is known of a peer stands in its ranks");
        });
        self.files -= 1;
        let source = Source::of(addr);
        if let Some(count) = self.files_by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.files_by_source.remove(&source);
            }
        }
    }

    /// A peer has come back, or gone away: its files change their places.
    fn rank_again(&mut self, now: Moment, addr: SocketAddr, was_away: bool) {
        for (name, announcement) in self.files_of(now, addr) {
            let rank = |away| Rank {
                mtime: Reverse(announcement.mtime),
                away,
                number: announcement.number,
                peer: addr,
            };
            self.change(&name, |ranks| {
                ranks.remove(&rank(was_away));
                ranks.insert(rank(!was_away));
            });
        }
    }

    /// Changes the holders of a name; if that changes the first, the directory is another.
    fn change(&mut self, name: &FileName, change: impl FnOnce(&mut BTreeSet<Rank>)) {
        let mut holders = self.names.remove(name).unwrap_or_default();
        let first = |ranks: &BTreeSet<Rank>| ranks.first().map(|rank| (rank.peer, rank.mtime));
        let before = first(&holders.ranks);
        change(&mut holders.ranks);
        let after = first(&holders.ranks);
        if before != after {
            self.directory = None;
            if before.is_some() {
                self.directory_bytes -= holders.entry.len() + SEPARATOR.len();
            }
            if let Some(rank) = holders.ranks.first() {
                holders.entry = rank.entry(name);
                self.directory_bytes += holders.entry.len() + SEPARATOR.len();
            }
        }
        if after.is_some() {
            self.names.insert(name.clone(), holders);
        }
    }
}

/// Between two entries of the directory.
const SEPARATOR: &[u8] = b", ";

impl Rank {
    fn entry(&self, name: &FileName) -> Vec<u8> {
        let mut entry = Vec::new();
        let holder = Holder {
            addr: self.peer,
            mtime: self.mtime.0,
        };
        put_entry(name, &holder, &mut entry);
        entry
    }
}
