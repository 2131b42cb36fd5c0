//! The tracker itself: connections, what may be announced on them, and who is told.
//!
//! A connection that has announced a peer in a share is told of every change there: of joins, leaves
//! and moves at once, of mere news about what a peer holds in batches. Deadlines are exact, and
//! whatever is due is swept before an input is looked at, so a late wake-up is never visible.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{
    Challenge, ENTRIES_PER_FRAME_MAX, GONE_PER_FRAME_MAX, PEER_FRAME_BYTES_MAX, PROLOGUE,
    PROLOGUE_BYTES, PeerAddress, PeerMessage, Prologue, Refusal, ShareId, SignedAnnouncement,
    TrackerMessage, Undecodable, VERSION, read_prologue,
};

use crate::expiring::ExpiringMap;
use crate::machine::{ConnectionId, Input, Machine, Outbox};
use crate::moment::{Deadline, Moment};

use super::budget::Budget;
use super::registry::{Held, Key, Put, Registry};
use super::{Fault, LeftCause, Limits, Options, Snapshot, Source, Verifier};

/// A connection that has not said what it speaks by then is closed.
pub(super) const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// News about what peers hold are gathered for so long before they are told.
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

/// What an observer of the tracker would want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A peer is listed in a share.
    Joined {
        /// In which.
        share: ShareId,
        /// Which.
        peer: PeerId,
        /// Where its connection comes from.
        seen: PeerAddress,
        /// How many addresses it announced.
        addresses: usize,
    },
    /// A peer is no longer listed in a share.
    Left {
        /// In which.
        share: ShareId,
        /// Which.
        peer: PeerId,
        /// Why.
        cause: LeftCause,
    },
    /// An announcement was refused, and the peer was told why.
    Refused {
        /// In which share.
        share: ShareId,
        /// Which peer.
        peer: PeerId,
        /// Why.
        refusal: Refusal,
    },
    /// A connection was closed without a word.
    Dropped {
        /// The other end.
        from: SocketAddr,
        /// What it did.
        fault: Fault,
    },
}

/// Why the tracker wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A connection will have been silent for too long.
    SilentConnection,
    /// An announcement ends.
    SilentPeer,
    /// Gathered news are to be told.
    News,
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

    /// Does everything that is due.
    fn sweep(&mut self, now: Moment, outbox: &mut Outbox<Note>) {
        while let Some((id, connection)) = self.connections.expire_one(now) {
            self.close_faulty(id, &connection, Fault::Silent, outbox);
            self.release(now, connection, LeftCause::Silent, outbox);
        }
        let mut silent: BTreeMap<ShareId, Vec<PeerId>> = BTreeMap::new();
        while let Some(held) = self.registry.expire_one(now) {
            // Its own connection is told as well, so that it can announce itself again.
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

    /// Everything announced on a connection lives on by whatever is said there (`tracker-16`).
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

    fn announce(
        &mut self,
        now: Moment,
        id: ConnectionId,
        signed: SignedAnnouncement,
        outbox: &mut Outbox<Note>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get(&id, now) else {
            return Ok(());
        };
        if signed.unverified().challenge != connection.challenge {
            return Err(Fault::Replayed);
        }
        let announcement = signed.verify(self.verifier).map_err(|_| Fault::Forged)?;
        let held = Held {
            announcement,
            seen: connection.seen,
            source: Source::of(connection.peer),
            connection: id,
        };
        let (share, peer) = held.key();
        let sequence = held.announcement.sequence;
        match self.keep(now, held, outbox) {
            Ok(Kept { subscribed }) => {
                self.totals.announced_total += 1;
                send(outbox, id, &TrackerMessage::Announced { share, sequence });
                if subscribed {
                    return self.send_list(now, id, share, outbox);
                }
            }
            Err(refusal) => {
                self.totals.refused_total += 1;
                outbox.note(Note::Refused {
                    share,
                    peer,
                    refusal: refusal.clone(),
                });
                send(outbox, id, &TrackerMessage::Refused { share, refusal });
            }
        }
        Ok(())
    }

    /// Keeps an announcement if it may be kept, and tells the others in its share.
    fn keep(
        &mut self,
        now: Moment,
        held: Held,
        outbox: &mut Outbox<Note>,
    ) -> Result<Kept, Refusal> {
        let key = held.key();
        let id = held.connection;
        let connection = self
            .connections
            .get(&id, now)
            .ok_or(Refusal::ConnectionFull)?;
        let subscribed = !connection
            .announced
            .iter()
            .any(|(share, _)| *share == key.0);
        let announcements = connection.announced.len();
        if let Some(current) = self.registry.get(&key, now) {
            if current.announcement == held.announcement {
                return Ok(Kept { subscribed: false });
            }
            if held.announcement.sequence <= current.announcement.sequence {
                return Err(Refusal::Stale(Box::new(
                    current.announcement.signed().clone(),
                )));
            }
        }
        let is_new_here = !connection.announced.contains(&key);
        if is_new_here && announcements >= self.options.limits.announcements_per_connection_max {
            return Err(Refusal::ConnectionFull);
        }
        let lifetime = held.announcement.ttl.duration().min(self.options.timeout);
        let joined = Note::Joined {
            share: key.0,
            peer: key.1,
            seen: held.seen,
            addresses: held.announcement.addresses.len(),
        };
        let place = (held.seen, held.announcement.addresses.clone());
        let moved = match self.registry.put(held, now + lifetime)? {
            Put::New { evicted } => {
                if let Some(evicted) = evicted {
                    self.evict(now, &evicted, outbox);
                }
                outbox.note(joined);
                true
            }
            Put::Replaced(former) => {
                if former.connection != id {
                    self.detach(&former, now);
                }
                (former.seen, former.announcement.addresses.clone()) != place
            }
        };
        if let Some(connection) = self.connections.get_mut(&id, now) {
            connection.announced.insert(key);
        }
        self.spread(now, key, moved, id, outbox);
        Ok(Kept { subscribed })
    }

    /// Tells the others of a share about a peer that is new or has moved, at once; or notes that
    /// there is news about it.
    fn spread(
        &mut self,
        now: Moment,
        key: Key,
        at_once: bool,
        except: ConnectionId,
        outbox: &mut Outbox<Note>,
    ) {
        let (share, peer) = key;
        if at_once {
            let mut listeners = self.registry.connections(share, now);
            listeners.remove(&except);
            let entries = self.registry.get(&key, now).map(Held::entry);
            let entries = Bounded::truncated(entries);
            send_all(
                outbox,
                &listeners,
                &TrackerMessage::Changed { share, entries },
            );
        } else if let Some(peers) = self.news.get_mut(&share, now) {
            peers.insert(peer);
        } else {
            let kept = self
                .news
                .insert(share, BTreeSet::from([peer]), now + NEWS_INTERVAL);
            debug_assert!(kept.is_ok(), "there are no more shares than announcements");
        }
    }

    fn leave(&mut self, now: Moment, id: ConnectionId, share: ShareId, outbox: &mut Outbox<Note>) {
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return;
        };
        let (leaving, staying) = std::mem::take(&mut connection.announced)
            .into_iter()
            .partition(|key| key.0 == share);
        connection.announced = staying;
        self.take_out(now, leaving, LeftCause::Said, outbox);
    }

    fn send_list(
        &mut self,
        now: Moment,
        id: ConnectionId,
        share: ShareId,
        outbox: &mut Outbox<Note>,
    ) -> Result<(), Fault> {
        let mut entries = self
            .registry
            .of_share(share, now)
            .map(Held::entry)
            .peekable();
        let mut bytes = Vec::new();
        let mut frames = 0;
        loop {
            let part = Bounded::truncated(entries.by_ref().take(ENTRIES_PER_FRAME_MAX));
            let last = entries.peek().is_none();
            TrackerMessage::Peers {
                share,
                last,
                entries: part,
            }
            .encode(&mut bytes);
            frames += 1;
            if last {
                break;
            }
        }
        drop(entries);
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return Ok(());
        };
        if !connection.budget.pay(now, frames) {
            return Err(Fault::TooFast);
        }
        outbox.send(id, bytes);
        Ok(())
    }

    fn tell_news(
        &self,
        now: Moment,
        share: ShareId,
        peers: &BTreeSet<PeerId>,
        outbox: &mut Outbox<Note>,
    ) {
        let listeners = self.registry.connections(share, now);
        let held = peers
            .iter()
            .filter_map(|peer| self.registry.get(&(share, *peer), now));
        let mut entries = held.map(Held::entry).peekable();
        while entries.peek().is_some() {
            let entries = Bounded::truncated(entries.by_ref().take(ENTRIES_PER_FRAME_MAX));
            send_all(
                outbox,
                &listeners,
                &TrackerMessage::Changed { share, entries },
            );
        }
    }

    /// Tells a connection that its announcement had to make room.
    fn evict(&mut self, now: Moment, held: &Held, outbox: &mut Outbox<Note>) {
        let share = held.announcement.share;
        self.detach(held, now);
        let refusal = Refusal::Crowded;
        send(
            outbox,
            held.connection,
            &TrackerMessage::Refused { share, refusal },
        );
        outbox.note(left(held, LeftCause::Crowded));
        let listeners = self.registry.connections(share, now);
        tell_gone(share, &[held.announcement.peer], &listeners, outbox);
    }

    /// An announcement is no longer this connection's.
    fn detach(&mut self, held: &Held, now: Moment) {
        if let Some(connection) = self.connections.get_mut(&held.connection, now) {
            connection.announced.remove(&held.key());
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
            // Our version was sent, and is to arrive.
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

    fn take_out(
        &mut self,
        now: Moment,
        keys: BTreeSet<Key>,
        cause: LeftCause,
        outbox: &mut Outbox<Note>,
    ) {
        let mut gone: BTreeMap<ShareId, Vec<PeerId>> = BTreeMap::new();
        for key in keys {
            if let Some(held) = self.registry.take(&key) {
                outbox.note(left(&held, cause));
                gone.entry(key.0).or_default().push(key.1);
            }
        }
        for (share, peers) in gone {
            let listeners = self.registry.connections(share, now);
            tell_gone(share, &peers, &listeners, outbox);
        }
    }
}

/// An announcement that is kept now.
struct Kept {
    /// It is the connection's first in its share: the list is to follow.
    subscribed: bool,
}

fn tell_gone(
    share: ShareId,
    peers: &[PeerId],
    listeners: &BTreeSet<ConnectionId>,
    outbox: &mut Outbox<Note>,
) {
    for part in peers.chunks(GONE_PER_FRAME_MAX) {
        let peers = Bounded::truncated(part.iter().copied());
        send_all(outbox, listeners, &TrackerMessage::Gone { share, peers });
    }
}

fn left(held: &Held, cause: LeftCause) -> Note {
    Note::Left {
        share: held.announcement.share,
        peer: held.announcement.peer,
        cause,
    }
}

fn send(outbox: &mut Outbox<Note>, id: ConnectionId, message: &TrackerMessage) {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    outbox.send(id, bytes);
}

fn send_all(
    outbox: &mut Outbox<Note>,
    listeners: &BTreeSet<ConnectionId>,
    message: &TrackerMessage,
) {
    if listeners.is_empty() {
        return;
    }
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    for id in listeners {
        outbox.send(*id, bytes.clone());
    }
}
