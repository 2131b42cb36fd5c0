//! What may be announced, and what becomes of it: taken, refused, replaced, made room for, taken
//! out.

use std::collections::{BTreeMap, BTreeSet};

use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{HoldingSummary, Refusal, ShareId, SignedAnnouncement, TrackerMessage};

use crate::machine::{ConnectionId, Outbox};
use crate::moment::Moment;

use super::super::registry::{Held, Key, Put};
use super::super::{Fault, LeftCause, Note, Source};
use super::Tracker;
use super::tell::{left, send, tell_gone};

impl Tracker {
    pub(super) fn announce(
        &mut self,
        now: Moment,
        id: ConnectionId,
        signed: SignedAnnouncement,
        outbox: &mut Outbox<Note>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get(&id, now) else {
            return Ok(());
        };
        // tracker-12, tracker-11.
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
                // tracker-15.
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
            // tracker-13.
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
        let holding = held.announcement.holding.clone();
        let place = (held.seen, held.announcement.addresses.clone());
        let (moved, held_before) = match self.registry.put(held, now + lifetime)? {
            Put::New { evicted } => {
                if let Some(evicted) = evicted {
                    self.evict(now, &evicted, outbox);
                }
                outbox.note(joined);
                (true, HoldingSummary::default())
            }
            Put::Replaced(former) => {
                // tracker-19: the old connection has lost it, and its end will not touch it.
                if former.connection != id {
                    self.detach(&former, now);
                }
                let was = &former.announcement;
                let moved = (former.seen, was.addresses.clone()) != place;
                (moved, was.holding.clone())
            }
        };
        if holding != held_before {
            outbox.note(holds(key, &holding));
        }
        if let Some(connection) = self.connections.get_mut(&id, now) {
            connection.announced.insert(key);
        }
        self.spread(now, key, moved, id, outbox);
        Ok(Kept { subscribed })
    }

    pub(super) fn leave(
        &mut self,
        now: Moment,
        id: ConnectionId,
        share: ShareId,
        outbox: &mut Outbox<Note>,
    ) {
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return;
        };
        let (leaving, staying) = std::mem::take(&mut connection.announced)
            .into_iter()
            .partition(|key| key.0 == share);
        connection.announced = staying;
        self.take_out(now, leaving, LeftCause::Said, outbox);
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
    pub(super) fn detach(&mut self, held: &Held, now: Moment) {
        if let Some(connection) = self.connections.get_mut(&held.connection, now) {
            connection.announced.remove(&held.key());
        }
    }

    /// tracker-18, but also for those who were silent.
    pub(super) fn take_out(
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

fn holds((share, peer): Key, holding: &HoldingSummary) -> Note {
    Note::Holds {
        share,
        peer,
        files: holding.files,
        bytes: holding.bytes,
    }
}

/// An announcement that is kept now.
struct Kept {
    /// It is the connection's first in its share: the list is to follow.
    subscribed: bool,
}
