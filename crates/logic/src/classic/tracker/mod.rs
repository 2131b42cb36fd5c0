//! The tracker of a classic swarm as a machine.
//!
//! Each whole message renews its peer and is answered by the directory. Who has what stands in
//! [`swarm`]; here are the connections, their limits, and what is said on them. It dials nobody and
//! believes what it is told about files: the dialect has no way to check.

mod swarm;

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ahoy_wire::classic::{InvalidMessage, MESSAGE_BYTES_MAX, Objects, PeerMessage, Unframed};

use crate::expiring::ExpiringMap;
use crate::machine::{ConnectionId, Input, Machine, Outbox};
use crate::moment::{Deadline, Moment};
use crate::tracker::Source;
use crate::tracker::budget::Budget;
use swarm::{NoRoom, Swarm};

/// A connection without a whole message by then is closed (classic-16).
pub(crate) const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// Unfinished messages of all connections together, in bytes (classic-16).
const PARTIAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the owner of a tracker can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackerOptions {
    /// A peer that was not heard for so long is forgotten with its files (classic-13).
    pub timeout: Duration,
    /// How much may be kept.
    pub limits: TrackerLimits,
}

impl Default for TrackerOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(180),
            limits: TrackerLimits::default(),
        }
    }
}

/// How much a tracker keeps (classic-16). A file of a peer costs about 200 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackerLimits {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections from one source address (IPv6: from one /64).
    pub connections_per_source_max: usize,
    /// Peers, connected or not yet forgotten.
    pub peers_max: usize,
    /// Files in all, counted once for each of their holders.
    pub files_max: usize,
    /// Files of all peers of one source address.
    pub files_per_source_max: usize,
    /// The directory's size in bytes; names that do not fit are not listed.
    pub directory_bytes_max: usize,
}

impl Default for TrackerLimits {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            connections_per_source_max: 256,
            peers_max: 16_384,
            files_max: 262_144,
            files_per_source_max: 131_072,
            directory_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// Why a peer is no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftCause {
    /// It was silent for too long.
    Silent,
    /// Its connection went on under another port.
    Moved,
}

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// What it sent is no message.
    #[error(transparent)]
    Unframed(#[from] Unframed),
    /// What it sent is an object, but no message.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// It sent more messages than its budget.
    #[error("sent too many messages")]
    TooFast,
    /// It was silent for too long.
    #[error("was silent for too long")]
    Silent,
    /// There is no room for it, or for what it sends.
    #[error("came when the tracker had all that it takes")]
    Full,
    /// There are as many connections from its address as there may be.
    #[error("came from an address with all the connections one may have")]
    SourceFull,
}

/// What an observer of the tracker would want to know. A peer is named by its address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerNote {
    /// A peer was heard for the first time.
    Joined {
        /// Which.
        peer: SocketAddr,
    },
    /// A peer said which files it has, and they are others than before.
    Announced {
        /// Which.
        peer: SocketAddr,
        /// How many of its files are listed now.
        files: usize,
        /// How many were left out: unfit, or without room.
        left_out: usize,
    },
    /// A peer is no longer known.
    Left {
        /// Which.
        peer: SocketAddr,
        /// Why.
        cause: LeftCause,
    },
    /// A connection was closed.
    Dropped {
        /// The other end.
        from: SocketAddr,
        /// Why.
        why: Dropped,
    },
}

/// Why the tracker wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerReason {
    /// A connection will have been silent for too long.
    SilentConnection,
    /// A peer will have been silent for too long.
    SilentPeer,
}

/// A tracker in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerSnapshot {
    /// Open connections.
    pub connections: usize,
    /// Peers that are known.
    pub peers: usize,
    /// Names in the directory.
    pub names: usize,
    /// Files, counted once for each holder.
    pub files: usize,
    /// Messages answered since the start.
    pub answered_total: u64,
    /// Connections closed for a fault since the start.
    pub dropped_total: u64,
}

/// The tracker service as a machine.
#[derive(Debug)]
pub struct ClassicTracker {
    options: TrackerOptions,
    connections: ExpiringMap<ConnectionId, Connection>,
    sources: BTreeMap<Source, usize>,
    swarm: Swarm,
    /// Bytes of unfinished messages, of all connections.
    partial_bytes: usize,
    totals: TrackerSnapshot,
}

#[derive(Debug)]
struct Connection {
    from: SocketAddr,
    objects: Objects,
    budget: Budget,
    /// The peer that spoke last on it.
    peer: Option<SocketAddr>,
}

impl Machine for ClassicTracker {
    type Note = TrackerNote;
    type Reason = TrackerReason;

    fn handle(&mut self, now: Moment, input: Input<'_>, outbox: &mut Outbox<TrackerNote>) {
        self.sweep(now, outbox);
        match input {
            Input::Opened { id, peer, local: _ } => self.open(now, id, peer, outbox),
            Input::Received { id, bytes } => {
                if let Err(why) = self.receive(now, id, bytes, outbox) {
                    self.drop_faulty(now, id, why, outbox);
                }
            }
            Input::Ended { id } => {
                self.forget(now, id);
                // What was asked before is still answered.
                outbox.finish(id);
            }
            Input::Closed { id } => self.forget(now, id),
            Input::Stop => outbox.exit(),
            Input::Datagram { .. } | Input::Due => {}
        }
    }

    fn deadline(&self) -> Option<Deadline<TrackerReason>> {
        let due = |at: Option<Moment>, reason| at.map(|at| Deadline { at, reason });
        let connection = due(self.connections.deadline(), TrackerReason::SilentConnection);
        let peer = due(self.swarm.deadline(), TrackerReason::SilentPeer);
        Deadline::earlier(connection, peer)
    }
}

impl ClassicTracker {
    /// A tracker that knows nobody.
    #[must_use]
    pub fn new(options: TrackerOptions) -> Self {
        Self {
            options,
            connections: ExpiringMap::new(options.limits.connections_max),
            sources: BTreeMap::new(),
            swarm: Swarm::new(options.limits),
            partial_bytes: 0,
            totals: TrackerSnapshot::default(),
        }
    }

    /// The tracker in numbers.
    #[must_use]
    pub fn snapshot(&self) -> TrackerSnapshot {
        TrackerSnapshot {
            connections: self.connections.len(),
            peers: self.swarm.peers(),
            names: self.swarm.names(),
            files: self.swarm.files(),
            ..self.totals
        }
    }

    /// Does everything that is due (classic-13).
    fn sweep(&mut self, now: Moment, outbox: &mut Outbox<TrackerNote>) {
        while let Some((id, connection)) = self.connections.expire_one(now) {
            self.close_faulty(id, &connection, Dropped::Silent, outbox);
            self.release(now, id, &connection);
        }
        while let Some(peer) = self.swarm.expire_one(now) {
            let cause = LeftCause::Silent;
            outbox.note(TrackerNote::Left { peer, cause });
        }
    }

    fn open(
        &mut self,
        now: Moment,
        id: ConnectionId,
        from: SocketAddr,
        outbox: &mut Outbox<TrackerNote>,
    ) {
        let source = Source::of(from);
        let from_source = self.sources.get(&source).copied().unwrap_or(0);
        // classic-16.
        let fault = if from_source >= self.options.limits.connections_per_source_max {
            Some(Dropped::SourceFull)
        } else if self.connections.len() >= self.connections.len_max() {
            Some(Dropped::Full)
        } else {
            None
        };
        if let Some(why) = fault {
            self.totals.dropped_total += 1;
            outbox.note(TrackerNote::Dropped { from, why });
            outbox.close(id);
            return;
        }
        let connection = Connection {
            from,
            objects: Objects::new(MESSAGE_BYTES_MAX),
            budget: Budget::new(now),
            peer: None,
        };
        let inserted = self
            .connections
            .insert(id, connection, now + GREETING_LIMIT);
        debug_assert!(matches!(inserted, Ok(None)), "there is room for a new one");
        self.sources.insert(source, from_source + 1);
    }

    /// Takes bytes in, and answers every message that is whole (classic-1, classic-4).
    fn receive(
        &mut self,
        now: Moment,
        id: ConnectionId,
        bytes: &[u8],
        outbox: &mut Outbox<TrackerNote>,
    ) -> Result<(), Dropped> {
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return Ok(());
        };
        self.partial_bytes -= connection.objects.held_bytes();
        connection.objects.push(bytes);
        let heard = self.hear_all(now, id, outbox);
        let connection = self.connections.get(&id, now);
        self.partial_bytes += connection.map_or(0, |connection| connection.objects.held_bytes());
        heard?;
        if self.partial_bytes > PARTIAL_BYTES_MAX {
            return Err(Dropped::Full);
        }
        Ok(())
    }

    fn hear_all(
        &mut self,
        now: Moment,
        id: ConnectionId,
        outbox: &mut Outbox<TrackerNote>,
    ) -> Result<(), Dropped> {
        while let Some(connection) = self.connections.get_mut(&id, now) {
            // classic-8.
            let Some(object) = connection.objects.next_object()? else {
                break;
            };
            let message = PeerMessage::decode(object)?;
            // classic-18.
            if !connection.budget.pay(now, 1) {
                return Err(Dropped::TooFast);
            }
            self.hear(now, id, message, outbox)?;
        }
        Ok(())
    }

    fn hear(
        &mut self,
        now: Moment,
        id: ConnectionId,
        message: PeerMessage,
        outbox: &mut Outbox<TrackerNote>,
    ) -> Result<(), Dropped> {
        let until = now + self.options.timeout;
        self.connections.renew(&id, now, until);
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return Ok(());
        };
        // classic-10: the address that the connection comes from, the port that is announced.
        let peer = SocketAddr::new(connection.from.ip(), message.port.get());
        let before = connection.peer.replace(peer);
        if let Some(before) = before.filter(|before| *before != peer)
            && self.swarm.forget(now, before, id)
        {
            let cause = LeftCause::Moved;
            outbox.note(TrackerNote::Left {
                peer: before,
                cause,
            });
        }
        // classic-11.
        let is_new = self.swarm.hear(peer, id, now, until);
        if is_new.map_err(|NoRoom| Dropped::Full)? {
            outbox.note(TrackerNote::Joined { peer });
        }
        if let Some(files) = message.files {
            // classic-12.
            let put = self.swarm.announce(now, peer, files);
            if put.changed {
                outbox.note(TrackerNote::Announced {
                    peer,
                    files: put.files,
                    left_out: put.left_out + message.left_out,
                });
            }
        }
        self.totals.answered_total += 1;
        // classic-4: exactly one answer.
        outbox.send_shared(id, self.directory());
        Ok(())
    }

    /// The directory as it stands (classic-5); made anew only if it has changed.
    fn directory(&mut self) -> Arc<[u8]> {
        self.swarm.directory()
    }

    fn drop_faulty(
        &mut self,
        now: Moment,
        id: ConnectionId,
        why: Dropped,
        outbox: &mut Outbox<TrackerNote>,
    ) {
        if let Some(connection) = self.connections.remove(&id) {
            self.close_faulty(id, &connection, why, outbox);
            self.release(now, id, &connection);
        }
    }

    fn close_faulty(
        &mut self,
        id: ConnectionId,
        connection: &Connection,
        why: Dropped,
        outbox: &mut Outbox<TrackerNote>,
    ) {
        self.totals.dropped_total += 1;
        match &why {
            // What it asked before is answered.
            Dropped::Unframed(_) | Dropped::Invalid(_) => outbox.finish(id),
            Dropped::TooFast | Dropped::Silent | Dropped::Full | Dropped::SourceFull => {
                outbox.close(id);
            }
        }
        let from = connection.from;
        outbox.note(TrackerNote::Dropped { from, why });
    }

    fn forget(&mut self, now: Moment, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            self.release(now, id, &connection);
        }
    }

    /// What a connection had is given back; its peer stays until its timeout (classic-15).
    fn release(&mut self, now: Moment, id: ConnectionId, connection: &Connection) {
        self.partial_bytes -= connection.objects.held_bytes();
        if let Some(peer) = connection.peer {
            self.swarm.detach(now, peer, id);
        }
        let source = Source::of(connection.from);
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests;
