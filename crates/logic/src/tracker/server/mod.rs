//! The tracker itself: connections, what may be announced on them, and who is told.
//!
//! A connection that has announced a peer in a share is told of every change there: of joins,
//! leaves and moves at once, of mere news about what a peer holds in batches. Deadlines are exact,
//! and whatever is due is swept before an input is looked at, so a late wake-up is never visible.

mod announce;
mod tell;

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{
    Challenge, PEER_FRAME_BYTES_MAX, PROLOGUE, PROLOGUE_BYTES, PeerAddress, PeerMessage, Prologue,
    ShareId, TrackerMessage, Undecodable, VERSION, read_prologue,
};

use crate::expiring::ExpiringMap;
use crate::machine::{ConnectionId, Input, Machine, Outbox};
use crate::moment::{Deadline, Moment};

use super::budget::Budget;
use super::registry::{Key, Registry};
use super::{Fault, LeftCause, Limits, Note, Options, Reason, Snapshot, Source, Verifier};
use tell::{left, send, tell_gone};

/// A connection that has not said what it speaks by then is closed (tracker-32).
pub(super) const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// News about what peers hold are gathered for so long before they are told (tracker-20).
pub(super) const NEWS_INTERVAL: Duration = Duration::from_secs(1);

/// The tracker service as a machine.
#[derive(Debug)]
pub struct Tracker {
    options: Options,
    verifier: Verifier,
    /// Challenges are hashes of the connection numbers under this key.
    secret: [u8; 32],
    connections: ExpiringMap<ConnectionId, Connection>,
    sources: BTreeMap<Source, usize>,
    registry: Registry,
    /// Shares with news that nobody was told yet, and whose news they are.
    news: ExpiringMap<ShareId, BTreeSet<PeerId>>,
    totals: Snapshot,
}

#[derive(Debug)]
struct Connection {
    peer: SocketAddr,
    seen: PeerAddress,
    challenge: Challenge,
    greeted: bool,
    /// The beginning of a frame; shorter than the longest frame.
    partial: Vec<u8>,
    budget: Budget,
    announced: BTreeSet<Key>,
}

impl Machine for Tracker {
    type Note = Note;
    type Reason = Reason;

    fn handle(&mut self, now: Moment, input: Input<'_>, outbox: &mut Outbox<Note>) {
        self.sweep(now, outbox);
        match input {
            Input::Opened { id, peer, local: _ } => self.open(now, id, peer, outbox),
            Input::Received { id, bytes } => {
                if let Err(fault) = self.receive(now, id, bytes, outbox) {
                    self.drop_faulty(now, id, fault, outbox);
                }
            }
            Input::Ended { id } => {
                self.forget(now, id, LeftCause::ConnectionEnded, outbox);
                outbox.close(id);
            }
            Input::Closed { id } => self.forget(now, id, LeftCause::ConnectionEnded, outbox),
            Input::Stop => outbox.exit(),
            Input::Datagram { .. } | Input::Due => {}
        }
    }

    fn deadline(&self) -> Option<Deadline<Reason>> {
        let due = |at: Option<Moment>, reason| at.map(|at| Deadline { at, reason });
        let connection = due(self.connections.deadline(), Reason::SilentConnection);
        let peer = due(self.registry.deadline(), Reason::SilentPeer);
        let news = due(self.news.deadline(), Reason::News);
        Deadline::earlier(Deadline::earlier(connection, peer), news)
    }
}

impl Tracker {
    /// A tracker that knows nobody. `secret` is 32 random bytes, new for each run: challenges must
    /// not be foreseen.
    #[must_use]
    pub fn new(options: Options, secret: [u8; 32], verifier: Verifier) -> Self {
        let Limits {
            connections_max,
            announcements_max,
            ..
        } = options.limits;
        Self {
            options,
            verifier,
            secret,
            connections: ExpiringMap::new(connections_max),
            sources: BTreeMap::new(),
            registry: Registry::new(&options.limits),
            news: ExpiringMap::new(announcements_max),
            totals: Snapshot::default(),
        }
    }

    /// The tracker in numbers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            connections: self.connections.len(),
            shares: self.registry.shares(),
            announcements: self.registry.announcements(),
            ..self.totals
        }
    }

    /// Does everything that is due (tracker-17).
    fn sweep(&mut self, now: Moment, outbox: &mut Outbox<Note>) {
        while let Some((id, connection)) = self.connections.expire_one(now) {
            self.close_faulty(id, &connection, Fault::Silent, outbox);
            self.release(now, connection, LeftCause::Silent, outbox);
        }
        let mut silent: BTreeMap<ShareId, Vec<PeerId>> = BTreeMap::new();
        while let Some(held) = self.registry.expire_one(now) {
            // tracker-21: its own connection is told as well, so that it can announce itself again.
            let own = BTreeSet::from([held.connection]);
            tell_gone(
                held.announcement.share,
                &[held.announcement.peer],
                &own,
                outbox,
            );
            self.detach(&held, now);
            outbox.note(left(&held, LeftCause::Silent));
            silent
                .entry(held.announcement.share)
                .or_default()
                .push(held.announcement.peer);
        }
        for (share, peers) in silent {
            let listeners = self.registry.connections(share, now);
            tell_gone(share, &peers, &listeners, outbox);
        }
        while let Some((share, peers)) = self.news.expire_one(now) {
            self.tell_news(now, share, &peers, outbox);
        }
    }

    fn open(&mut self, now: Moment, id: ConnectionId, peer: SocketAddr, outbox: &mut Outbox<Note>) {
        let source = Source::of(peer);
        let from_source = self.sources.get(&source).copied().unwrap_or(0);
        let fault = if self.connections.len() >= self.connections.len_max() {
            Some(Fault::Full)
        } else if from_source >= self.options.limits.connections_per_source_max {
            Some(Fault::SourceFull)
        } else {
            None
        };
        // An address from which a TCP connection came can be dialled; port 0 is no such thing.
        let (None, Some(seen)) = (fault, PeerAddress::new(peer)) else {
            self.totals.faults_total += 1;
            outbox.note(Note::Dropped {
                from: peer,
                fault: fault.unwrap_or(Fault::Foreign),
            });
            outbox.close(id);
            return;
        };
        let hash = blake3::keyed_hash(&self.secret, &id.0.to_be_bytes());
        let challenge = *hash
            .as_bytes()
            .first_chunk()
            .expect("32 bytes begin with 16");
        let connection = Connection {
            peer,
            seen,
            challenge: Challenge(challenge),
            greeted: false,
            partial: Vec::new(),
            budget: Budget::new(now),
            announced: BTreeSet::new(),
        };
        let inserted = self
            .connections
            .insert(id, connection, now + GREETING_LIMIT);
        debug_assert!(
            matches!(inserted, Ok(None)),
            "there is room, and numbers are used once"
        );
        self.sources.insert(source, from_source + 1);
    }

    /// Takes bytes in, and handles every message that is complete.
    fn receive(
        &mut self,
        now: Moment,
        id: ConnectionId,
        bytes: &[u8],
        outbox: &mut Outbox<Note>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return Ok(());
        };
        let mut joined = std::mem::take(&mut connection.partial);
        let mut rest = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        if !connection.greeted {
            match read_prologue(rest) {
                Prologue::Incomplete => {}
                Prologue::Version(VERSION) => {
                    rest = &rest[PROLOGUE_BYTES..];
                    self.greet(now, id, outbox);
                }
                Prologue::Version(other) => {
                    outbox.send(id, PROLOGUE.to_vec());
                    return Err(Fault::Version(other));
                }
                // tracker-2: nothing was sent before, and nothing is now.
                Prologue::Foreign => return Err(Fault::Foreign),
            }
        }
        while self
            .connections
            .get(&id, now)
            .is_some_and(|connection| connection.greeted)
        {
            match PeerMessage::decode(rest) {
                Ok((message, len)) => {
                    rest = &rest[len..];
                    self.hear(now, id, message, outbox)?;
                }
                Err(Undecodable::Incomplete { .. }) => break,
                Err(Undecodable::Invalid(invalid)) => return Err(Fault::Unreadable(invalid)),
            }
        }
        debug_assert!(
            rest.len() < PEER_FRAME_BYTES_MAX,
            "less than a frame is left"
        );
        if let Some(connection) = self.connections.get_mut(&id, now) {
            connection.partial = rest.to_vec();
        }
        Ok(())
    }

    fn greet(&mut self, now: Moment, id: ConnectionId, outbox: &mut Outbox<Note>) {
        let timeout_seconds = self.options.timeout_seconds();
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return;
        };
        connection.greeted = true;
        let mut bytes = PROLOGUE.to_vec();
        let challenge = connection.challenge;
        TrackerMessage::Welcome {
            challenge,
            timeout_seconds,
        }
        .encode(&mut bytes);
        outbox.send(id, bytes);
        self.connections.renew(&id, now, now + self.options.timeout);
    }

    /// Handles one message; every message is a sign of life.
    fn hear(
        &mut self,
        now: Moment,
        id: ConnectionId,
        message: PeerMessage,
        outbox: &mut Outbox<Note>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return Ok(());
        };
        if !connection.budget.pay(now, 1) {
            return Err(Fault::TooFast);
        }
        self.connections.renew(&id, now, now + self.options.timeout);
        self.renew_announcements(now, id);
        match message {
            PeerMessage::Announce(signed) => self.announce(now, id, signed, outbox),
            PeerMessage::KeepAlive => {
                send(outbox, id, &TrackerMessage::Alive);
                Ok(())
            }
            PeerMessage::Leave(share) => {
                self.leave(now, id, share, outbox);
                Ok(())
            }
            PeerMessage::List(share) => self.send_list(now, id, share, outbox),
        }
    }

    /// Everything announced on a connection lives on by whatever is said there (tracker-16).
    fn renew_announcements(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id, now) else {
            return;
        };
        for key in &connection.announced {
            if let Some(held) = self.registry.get(key, now) {
                let lifetime = held.announcement.ttl.duration().min(self.options.timeout);
                self.registry.renew(key, now, now + lifetime);
            }
        }
    }

    fn drop_faulty(
        &mut self,
        now: Moment,
        id: ConnectionId,
        fault: Fault,
        outbox: &mut Outbox<Note>,
    ) {
        if let Some(connection) = self.connections.remove(&id) {
            self.close_faulty(id, &connection, fault, outbox);
            self.release(now, connection, LeftCause::ConnectionEnded, outbox);
        }
    }

    fn close_faulty(
        &mut self,
        id: ConnectionId,
        connection: &Connection,
        fault: Fault,
        outbox: &mut Outbox<Note>,
    ) {
        self.totals.faults_total += 1;
        outbox.note(Note::Dropped {
            from: connection.peer,
            fault,
        });
        match fault {
            // tracker-3: our version was sent, and is to arrive.
            Fault::Version(_) => outbox.finish(id),
            Fault::Foreign
            | Fault::Unreadable(_)
            | Fault::Forged
            | Fault::Replayed
            | Fault::TooFast
            | Fault::Silent
            | Fault::Full
            | Fault::SourceFull => outbox.close(id),
        }
    }

    fn forget(
        &mut self,
        now: Moment,
        id: ConnectionId,
        cause: LeftCause,
        outbox: &mut Outbox<Note>,
    ) {
        if let Some(connection) = self.connections.remove(&id) {
            self.release(now, connection, cause, outbox);
        }
    }

    /// What a connection had is taken out, once the connection itself is.
    fn release(
        &mut self,
        now: Moment,
        connection: Connection,
        cause: LeftCause,
        outbox: &mut Outbox<Note>,
    ) {
        let source = Source::of(connection.peer);
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        self.take_out(now, connection.announced, cause, outbox);
    }
}
