//! What to tell whom: each peer gets, in order, the records that this machine holds and the peer
//! has not had from it. A peer that comes back names the last sequence number it has heard, and
//! goes on from there. Nothing is told that is not held: who is told of a file can have it
//! (`sync-53`).

use std::collections::{BTreeMap, BTreeSet};

use ahoy_wire::sync::{Hello, INLINE_BYTES_MAX, Message, NodeId, Records, ReplicaId};

use super::engine::{Engine, LinkProgress};
use super::planted::{self, Bug};
use super::turns::Holder;
use super::{Effect, LinkId, Outgoing, Rights, Row};

/// Most records in one batch.
const BATCH_RECORDS_MAX: usize = 512;

/// Content bytes after which a batch is closed.
const BATCH_BYTES: u64 = 1024 * 1024;

/// A fresh link can take this many batches at once.
const ROOM_AT_START: u32 = 2;

/// How far up directories are looked for that have to be sent first.
const DEPTH_MAX: usize = 256;

/// Most records of a peer that are remembered as known to it.
const ECHOES_MAX: usize = 200_000;

/// All links, and how far others have been heard out.
#[derive(Debug, Default)]
pub struct Gossip {
    links: BTreeMap<LinkId, Link>,
    heard: BTreeMap<ReplicaId, u64>,
    stale_heard: BTreeSet<ReplicaId>,
}

#[derive(Debug)]
struct Link {
    rights: Rights,
    who: Option<Hello>,
    /// What it has been sent, up to this sequence number of ours; `None` before its `Want`.
    cursor: Option<u64>,
    /// Our sequence number when it asked: up to here it gets contents that others made.
    catch_up: u64,
    room: u32,
    /// Records that it has sent us itself.
    echoes: BTreeSet<NodeId>,
    /// Directories that it was sent before their turn, so that what is in them finds them.
    early: BTreeMap<NodeId, u64>,
    /// Records that it is to hear of although they are not held here; see [`Engine::plead`].
    pleas: BTreeSet<NodeId>,
    /// Those of which it has heard so.
    pleaded: BTreeSet<NodeId>,
    /// What it has confirmed to hold.
    holds: u64,
    /// What of it we have told it that we hold.
    confirmed: u64,
    /// Batches of it that have been taken and not yet answered by an `Accept`.
    owed: u32,
}

impl Gossip {
    pub(super) fn remember(&mut self, replica: ReplicaId, upto: u64) {
        self.heard.insert(replica, upto);
    }

    pub(super) fn room(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.room += 1;
        }
    }

    /// A record is new: nobody is known to have it.
    pub(super) fn changed(&mut self, id: NodeId) {
        for link in self.links.values_mut() {
            link.echoes.remove(&id);
            link.pleaded.remove(&id);
        }
    }

    pub(super) fn stale_heard(&mut self) -> impl Iterator<Item = Row> + '_ {
        std::mem::take(&mut self.stale_heard)
            .into_iter()
            .filter_map(|replica| {
                self.heard.get(&replica).map(|upto| Row::Heard {
                    replica,
                    upto: *upto,
                })
            })
    }

    pub(super) fn open_links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.links.keys().copied()
    }

    /// The open links, with who is at the other end.
    pub(super) fn holders(&self) -> impl Iterator<Item = Holder> + '_ {
        self.links.iter().map(|(link, state)| Holder {
            link: *link,
            replica: state.who.as_ref().map(|who| who.replica),
        })
    }

    pub(super) fn progress(&self, log: &BTreeMap<u64, NodeId>) -> Vec<LinkProgress> {
        self.links
            .iter()
            .map(|(id, link)| LinkProgress {
                link: *id,
                replica: link.who.as_ref().map(|who| who.replica),
                label: link
                    .who
                    .as_ref()
                    .map_or(String::new(), |w| w.label.as_str().to_owned()),
                rights: link.rights,
                is_heard: link.who.as_ref().is_some_and(|who| {
                    let heard = self.heard.get(&who.replica).copied();
                    heard.unwrap_or(0) >= who.sequence && link.cursor.is_some()
                }),
                is_behind: self.behind(*id, log).next().is_some(),
            })
            .collect()
    }

    /// The records that the peer on this link has not confirmed.
    pub(super) fn behind<'l>(
        &self,
        link: LinkId,
        log: &'l BTreeMap<u64, NodeId>,
    ) -> impl Iterator<Item = NodeId> + use<'l> {
        let link = self.links.get(&link);
        let confirmed = link.map(|link| link.holds.min(link.cursor.unwrap_or(0)));
        let from = confirmed.unwrap_or(u64::MAX - 1) + 1;
        log.range(from..).map(|(_, id)| *id)
    }
}

impl Engine {
    pub(super) fn opened(&mut self, link: LinkId, rights: Rights) {
        let fresh = Link {
            rights,
            who: None,
            cursor: None,
            catch_up: 0,
            room: ROOM_AT_START,
            echoes: BTreeSet::new(),
            early: BTreeMap::new(),
            pleas: BTreeSet::new(),
            pleaded: BTreeSet::new(),
            holds: 0,
            confirmed: 0,
            owed: 0,
        };
        self.gossip.links.insert(link, fresh);
        let hello = Hello {
            replica: self.numbers.name(),
            label: self.who.label.clone(),
            // What there is to be heard. The numbers to come are higher by a leap, and nothing
            // may ever have one between.
            sequence: self.log().last_key_value().map_or(0, |(last, _)| *last),
        };
        self.out.push(Effect::Say {
            link,
            message: Message::Hello(hello),
        });
        for id in self.work.take_unsourced() {
            self.touch(id);
        }
    }

    pub(super) fn closed(&mut self, link: LinkId) {
        self.gossip.links.remove(&link);
        self.work.turns.link_closed(link);
    }

    pub(super) fn heard(&mut self, link: LinkId, message: Message) {
        let Some(state) = self.gossip.links.get_mut(&link) else {
            return;
        };
        match message {
            Message::Hello(hello) => {
                if hello.replica == self.numbers.name() || state.who.is_some() {
                    let reason = "it says hello twice, or is a copy of this very folder".into();
                    self.out.push(Effect::Hang { link, reason });
                    return;
                }
                let since = self.gossip.heard.get(&hello.replica).copied().unwrap_or(0);
                state.confirmed = since;
                state.who = Some(hello);
                self.out.push(Effect::Say {
                    link,
                    message: Message::Want { since },
                });
            }
            Message::Want { since } => {
                // A peer that has heard more than there is remembers a log we no longer have.
                let since = if since > self.sequence() { 0 } else { since };
                let skipped = u64::from(since > 0 && planted::is(Bug::RecordSkipped));
                let since = since + skipped;
                let sequence = self.sequence();
                let state = self.gossip.links.get_mut(&link).expect("found above");
                state.cursor = Some(since);
                state.holds = since;
                state.catch_up = sequence;
            }
            Message::Records(records) => self.heard_records(link, records),
            Message::Holding { upto } => {
                let sequence = self.sequence();
                let state = self.gossip.links.get_mut(&link).expect("found above");
                state.holds = state.holds.max(upto.min(sequence));
            }
        }
    }

    fn heard_records(&mut self, link: LinkId, records: Records) {
        let state = self
            .gossip
            .links
            .get_mut(&link)
            .expect("the caller has found it");
        state.owed += 1;
        let Some(replica) = state.who.as_ref().map(|who| who.replica) else {
            let reason = "it sends records before it says who it is".into();
            self.out.push(Effect::Hang { link, reason });
            return;
        };
        // Before anything of it is merged, so that it is told under the new name.
        if (records.items.iter()).any(|item| self.tells_of_lost_life(&item.record)) {
            return;
        }
        for item in records.items {
            if !item.record.is_sound() {
                let reason = "it sent a record that contradicts itself".into();
                self.out.push(Effect::Hang { link, reason });
                return;
            }
            let id = item.record.id;
            let content = item.record.body.value.content();
            let theirs = item.record.clone();
            let held = self.held_against(&theirs);
            self.absorb(item.record, item.signature);
            if let Some(held) = held {
                self.stand_by(id, held);
            }
            let Some(node) = self.tree.node(id) else {
                continue;
            };
            let state = self.gossip.links.get_mut(&link).expect("still there");
            if node.record == theirs && state.echoes.len() < ECHOES_MAX {
                state.echoes.insert(id);
            }
            if let (Some((hash, _)), Some(bytes)) = (content, item.content)
                && node.record.body.value.content() == Some((hash, bytes.len() as u64))
            {
                self.hand_in(id, hash, bytes);
            }
            self.work.offer(id, link);
            self.touch(id);
        }
        let heard = self.gossip.heard.entry(replica).or_insert(0);
        if records.upto > *heard {
            *heard = records.upto;
            self.gossip.stale_heard.insert(replica);
        }
    }

    /// A content is nowhere to be had, and only its author can say that it is gone. The author may
    /// never have heard of it in this connection (it lost a conflict that the author, who went on
    /// from that version, never met), so everybody is told of the record that waits for its
    /// content: whoever does not have it either tells others. Once on each link, and on those that
    /// are opened later too: an author that was put back from a backup has to hear of it again.
    pub(super) fn plead(&mut self, id: NodeId) {
        for link in self.gossip.links.values_mut() {
            if link.pleaded.insert(id) {
                link.pleas.insert(id);
            }
        }
    }

    /// Sends what can be sent, asks for more where there is room, confirms what is held.
    pub(super) fn tell_peers(&mut self) {
        let links: Vec<LinkId> = self.gossip.links.keys().copied().collect();
        let quiet = self.work.is_done();
        for id in links {
            while self.send_batch(id) {}
            let Some(link) = self.gossip.links.get_mut(&id) else {
                continue;
            };
            if self.work.has_room() {
                for _ in 0..std::mem::take(&mut link.owed) {
                    self.out.push(Effect::Accept { link: id });
                }
            }
            let heard = link
                .who
                .as_ref()
                .and_then(|who| self.gossip.heard.get(&who.replica));
            if let Some(&upto) = heard
                && quiet
                && upto > link.confirmed
            {
                link.confirmed = upto;
                self.out.push(Effect::Say {
                    link: id,
                    message: Message::Holding { upto },
                });
            }
        }
    }

    /// Sends one batch, if the link has room and there is something; true if there may be more.
    fn send_batch(&mut self, id: LinkId) -> bool {
        let Some(link) = self.gossip.links.get(&id) else {
            return false;
        };
        let (Some(cursor), true) = (link.cursor, link.room > 0) else {
            return false;
        };
        let (mut bytes, mut upto) = (0, cursor);
        let mut known = Vec::new();
        let mut early = link.early.clone();
        let (mut items, pleaded) = self.pleas(&link.pleas);
        for (&sequence, &node_id) in self.log().range(cursor + 1..) {
            if items.len() >= BATCH_RECORDS_MAX || bytes >= BATCH_BYTES {
                break;
            }
            upto = sequence;
            if link.echoes.contains(&node_id) {
                known.push(node_id);
                continue;
            }
            if early.remove(&node_id) == Some(sequence) {
                continue;
            }
            for other in self.to_come_first(node_id, sequence) {
                let Some(node) = self.tree.node(other) else {
                    continue;
                };
                if early.insert(other, node.sequence) != Some(node.sequence) {
                    items.extend(self.outgoing(other, false));
                }
            }
            let catching_up = sequence <= link.catch_up;
            let Some(outgoing) = self.outgoing(node_id, catching_up) else {
                continue;
            };
            if outgoing.attach.is_some() {
                bytes += outgoing
                    .record
                    .body
                    .value
                    .content()
                    .map_or(0, |(_, size)| size);
            }
            items.push(outgoing);
        }
        let link = self.gossip.links.get_mut(&id).expect("found above");
        for node in known {
            link.echoes.remove(&node);
        }
        link.early = early;
        if upto == cursor && items.is_empty() {
            return false;
        }
        link.pleas = link.pleas.iter().skip(pleaded).copied().collect();
        link.cursor = Some(upto);
        link.room -= 1;
        self.out.push(Effect::Send {
            link: id,
            upto,
            items,
        });
        true
    }

    /// The first of these records, as many as fit into a batch, and how many of them that are.
    fn pleas(&self, pleas: &BTreeSet<NodeId>) -> (Vec<Outgoing>, usize) {
        let (mut items, mut taken) = (Vec::new(), 0);
        for &plea in pleas {
            if items.len() >= BATCH_RECORDS_MAX {
                break;
            }
            // Whoever was put back may lack even the directories that it has told us of.
            let first = self.to_come_first(plea, 0).into_iter();
            let all = first.chain([plea]);
            items.extend(all.filter_map(|id| self.outgoing(id, false)));
            taken += 1;
        }
        (items, taken)
    }

    /// What a peer must know before this node's record: the directories above it whose own turn is
    /// still to come, outermost first, and the copies of what lost a conflict over it, held here
    /// or not, and what these need in turn. Whoever has the loser on disk is about to replace it,
    /// and has to know by then that it is wanted.
    fn to_come_first(&self, id: NodeId, sequence: u64) -> Vec<NodeId> {
        let parent = |id: NodeId| self.tree.node(id).map(|node| node.record.place.parent);
        let is_later = |id: &NodeId| {
            let node = self.tree.node(*id);
            node.is_some_and(|node| node.sequence > sequence || node.sequence == 0)
        };
        let (mut order, mut met) = (Vec::new(), BTreeSet::from([id]));
        // What has to come first is put on top; a copy comes when what it needs has come.
        let mut stack = vec![(id, false)];
        while let Some((id, is_next)) = stack.pop() {
            if is_next {
                order.push(id);
                continue;
            }
            let copies = self.tree.copies_of(id).filter(is_later);
            for copy in copies.filter(|copy| met.insert(*copy)) {
                stack.extend([(copy, true), (copy, false)]);
            }
            let dirs = std::iter::successors(parent(id), |dir| parent(*dir)).take(DEPTH_MAX);
            let dirs = dirs.filter(|dir| is_later(dir) && *dir != NodeId::ROOT);
            stack.extend(dirs.filter(|dir| met.insert(*dir)).map(|dir| (dir, true)));
        }
        order
    }

    /// A record as it is sent. Small contents go along where this machine is their author, or the
    /// peer is catching up; others it will have from the author. A reader sends only what a
    /// writer has signed.
    fn outgoing(&self, id: NodeId, catching_up: bool) -> Option<Outgoing> {
        let node = self.tree.node(id)?;
        if self.is_reader() && node.signature().is_none() {
            return None;
        }
        let small = node
            .synced
            .as_ref()
            .and_then(|synced| synced.value.content());
        let own = self.numbers.is_own(node.record.body.dot.replica);
        let attach = small
            .filter(|(_, size)| (1..=INLINE_BYTES_MAX as u64).contains(size))
            .filter(|content| node.record.body.value.content() == Some(*content))
            .filter(|_| own || catching_up)
            .and_then(|_| self.tree.path(id));
        let record = node.record.clone();
        Some(Outgoing {
            record,
            signature: node.signature(),
            attach,
        })
    }
}
