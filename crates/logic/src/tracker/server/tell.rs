//! Who is told what: lists, changes, news and goodbyes, each encoded once for all who hear it.

use std::collections::BTreeSet;

use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{ENTRIES_PER_FRAME_MAX, GONE_PER_FRAME_MAX, ShareId, TrackerMessage};

use crate::machine::{ConnectionId, Outbox};
use crate::moment::Moment;

use super::super::registry::{Held, Key};
use super::super::{Fault, LeftCause, Note};
use super::{NEWS_INTERVAL, Tracker};

impl Tracker {
    /// All live peers of the share, in order (tracker-22).
    pub(super) fn send_list(
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

    /// Tells the others of a share about a peer that is new or has moved, at once; or notes that
    /// there is news about it.
    pub(super) fn spread(
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

    pub(super) fn tell_news(
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
}

pub(super) fn tell_gone(
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

pub(super) fn send(outbox: &mut Outbox<Note>, id: ConnectionId, message: &TrackerMessage) {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    outbox.send(id, bytes);
}

pub(super) fn send_all(
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

pub(super) fn left(held: &Held, cause: LeftCause) -> Note {
    Note::Left {
        share: held.announcement.share,
        peer: held.announcement.peer,
        cause,
    }
}
