//! The engine: one share on one machine. Takes inputs, changes the trees, says what it wants done.
//!
//! Its parts each hold one kind of decision and are files of their own: `local` (what the user
//! did), `plan` (what is to be done to the disk), `gossip` (what to tell whom). This file holds
//! what they share: the records, the counters, the rows that must be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahoy_wire::sync::{
    Body, Clock, Dot, Hash, Name, NodeId, Place, Record, RelPath, ReplicaId, Value, WriteSignature,
};

use super::gossip::Gossip;
use super::husk::Husks;
use super::local::Local;
use super::merge::{conflict_copy, merge_body, merge_place};
use super::numbers::Numbers;
use super::plan::Work;
use super::planted::{self, Bug};
use super::tree::{Census, Node, Restored, Tree};
use super::unnoted::Unnoted;
use super::{
    Effect, Identity, Input, LinkId, Look, Notice, Print, Rights, Row, Rules, Synced, Tally,
    Withheld,
};
use crate::moment::Moment;

/// Highest count of another machine's change that this one goes on from. No honest machine comes
/// near it.
const COUNT_MAX: u64 = 1 << 62;

/// One share on one machine.
#[derive(Debug)]
pub struct Engine {
    pub(super) who: Identity,
    pub(super) tree: Tree,
    pub(super) work: Work,
    pub(super) local: Local,
    pub(super) gossip: Gossip,
    pub(super) now: Moment,
    pub(super) out: Vec<Effect>,
    /// Nothing is planned before the first whole look, nor while the root is away.
    pub(super) state: State,
    pub(super) may_be_empty: bool,
    dots: u64,
    sequence: u64,
    /// What is held here, in the order in which it came to be.
    log: BTreeMap<u64, NodeId>,
    stale_rows: BTreeSet<NodeId>,
    stale_counters: bool,
    asks: u64,
    pub(super) tally: Tally,
    /// Contents that rotted here, with what has become of them. Others may have them still.
    pub(super) rotted: BTreeMap<Hash, Hash>,
    pub(super) unnoted: Unnoted,
    pub(super) numbers: Numbers,
    pub(super) rules: Rules,
    pub(super) husks: Husks,
}

/// Whether the engine trusts the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The first whole look is not finished.
    Starting,
    /// All is well.
    Running,
    /// The root or its marker is away.
    RootLost,
    /// The folder is empty although it should not be; waits for [`Engine::accept_empty`].
    Emptied,
}

/// The engine in numbers, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// See [`State`].
    pub state: State,
    /// Deletes that wait for the user's word; everything else goes on.
    pub withheld: Option<Withheld>,
    /// What is on disk.
    pub census: Census,
    /// Nodes that are not yet as they should be.
    pub nodes_left: u64,
    /// Content bytes that are still to come.
    pub bytes_left: u64,
    /// Files that are being read, to learn what the user changed.
    pub reading: u64,
    /// One per open link.
    pub links: Vec<LinkProgress>,
}

/// One link in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkProgress {
    /// Which.
    pub link: LinkId,
    /// Who is there, once it has said so.
    pub replica: Option<ReplicaId>,
    /// Its name.
    pub label: String,
    /// What it may do.
    pub rights: Rights,
    /// All that it held when it came has been heard, and it has said what it wants itself.
    pub is_heard: bool,
    /// It has not confirmed all that is held here.
    pub is_behind: bool,
}

/// Effects for which there is always room; a first look can have a million.
const EFFECTS_KEPT: usize = 4096;

impl Engine {
    /// An engine with what its index remembers; `rows` in any order, the latest of each kind.
    pub fn new(who: Identity, rows: impl IntoIterator<Item = Row>) -> Self {
        let numbers = Numbers::new(who.replica, who.run);
        let mut engine = Self {
            gossip: Gossip::default(),
            who,
            tree: Tree::default(),
            work: Work::default(),
            local: Local::default(),
            now: Moment::default(),
            out: Vec::new(),
            state: State::Starting,
            may_be_empty: false,
            dots: 0,
            sequence: 0,
            log: BTreeMap::new(),
            stale_rows: BTreeSet::new(),
            stale_counters: false,
            asks: 0,
            tally: Tally::default(),
            rotted: BTreeMap::new(),
            unnoted: Unnoted::default(),
            numbers,
            rules: Rules::default(),
            husks: Husks::default(),
        };
        engine.work.turns.set_me(engine.who.replica);
        let mut nodes = Restored::new(engine.who.run.0);
        let mut log = Vec::new();
        for row in rows {
            engine.restore(row, &mut nodes, &mut log);
        }
        engine.tree = Tree::restored(nodes);
        engine.log = log.into_iter().collect();
        engine.numbers.believe(engine.dots);
        if engine.who.is_put_back {
            engine.numbers.rename(engine.dots);
        }
        let floor = engine.who.floor.min(COUNT_MAX);
        engine.dots = engine.dots.max(floor);
        engine.sequence = engine.sequence.max(floor);
        engine.forget_parked();
        engine.remember_rot();
        engine
    }

    fn restore(&mut self, row: Row, nodes: &mut Restored, log: &mut Vec<(u64, NodeId)>) {
        match row {
            Row::Node {
                number,
                record,
                signature,
                sequence,
                synced,
            } => {
                let id = record.id;
                self.sequence = self.sequence.max(sequence);
                self.learn_dots(&record);
                if sequence > 0 {
                    log.push((sequence, id));
                } else {
                    self.unnoted.remember(&record);
                }
                let synced = synced.map(|boxed| *boxed);
                let node = Node::kept(number, *record, signature, sequence, synced);
                nodes.add(node);
            }
            Row::Heard { replica, upto } => self.gossip.remember(replica, upto),
            Row::Counters { .. } if planted::is(Bug::CountersForgotten) => {}
            Row::Numbers(counted) => self.numbers.restore(counted),
            Row::Counters { dots, sequence } => {
                self.dots = self.dots.max(dots);
                self.sequence = self.sequence.max(sequence);
            }
        }
    }

    /// Takes one input. Effects come with the next [`Engine::flush`].
    pub fn take(&mut self, now: Moment, input: Input) {
        self.now = now;
        match input {
            Input::Seen {
                sightings,
                whole,
                asked,
            } => self.seen(sightings, &whole, asked),
            Input::Settled { whole_tree } => self.settled(whole_tree),
            Input::Rules(rules) => self.rules = rules,
            Input::Hashed { path, print, hash } => {
                self.hashed(&path, print, hash);
                self.all_read();
            }
            Input::Unread {
                path,
                reason,
                changing,
            } => {
                self.unread(&path, reason, changing);
                self.all_read();
            }
            Input::Scrubbed { path, print, hash } => self.scrubbed(&path, print, hash),
            Input::Parked { node, print } => self.found_parked(node, print),
            Input::Finished(outcomes) => {
                for outcome in outcomes {
                    self.finished(outcome);
                }
                self.bury_moved();
            }
            Input::Opened { link, rights } => self.opened(link, rights),
            Input::Heard { link, message } => self.heard(link, message),
            Input::Room { link } => self.gossip.room(link),
            Input::Closed { link } => self.closed(link),
            Input::RootLost if planted::is(Bug::RootLostIgnored) => self.settled(true),
            Input::RootLost => {
                self.state = State::RootLost;
                self.local = Local::default();
            }
            Input::RootBack => {
                self.state = State::Starting;
                self.local = Local::default();
            }
            Input::Tick => {}
        }
    }

    /// Plans, and gives all that is to be done now: what must be durable comes first.
    pub fn flush(&mut self, now: Moment) -> Vec<Effect> {
        self.now = now;
        if self.state == State::Running {
            if self.guard_deadline().is_some_and(|at| at <= now) {
                self.bury_missing();
                self.look_at_stirred();
            }
            self.forget_unnoted();
            self.plan();
        }
        self.tell_peers();
        let mut effects = Vec::with_capacity(self.stale_rows.len() + self.out.len() + 1);
        for id in std::mem::take(&mut self.stale_rows) {
            effects.extend(self.row(id).map(Effect::Keep));
        }
        effects.extend(self.gossip.stale_heard().map(Effect::Keep));
        if std::mem::take(&mut self.stale_counters) {
            let row = Row::Counters {
                dots: self.dots,
                sequence: self.sequence,
            };
            effects.push(Effect::Keep(row));
        }
        let numbers = self.numbers.take_stale();
        effects.extend(numbers.map(|counted| Effect::Keep(Row::Numbers(counted))));
        effects.append(&mut self.out);
        self.out.shrink_to(EFFECTS_KEPT);
        effects
    }

    /// When the engine wants an [`Input::Tick`] if nothing else happens, and why.
    pub fn deadline(&self) -> Option<(Moment, &'static str)> {
        // Steps wait as long as the folder is not believed.
        let retry = self.work.next_retry();
        let retry = retry.filter(|_| self.state == State::Running);
        let retry = retry.map(|at| (at, "a step is to be tried again"));
        let deletes = self.guard_deadline();
        let deletes = deletes.map(|at| (at, "deletes wait whether more follow"));
        retry.into_iter().chain(deletes).min()
    }

    /// The user says that if the first look finds the folder empty, that is on purpose.
    pub fn expect_empty(&mut self) {
        self.may_be_empty = true;
        self.local.guard.confirm();
        self.accept_empty();
    }

    /// The user says that the folder is meant to be empty.
    pub fn accept_empty(&mut self) {
        if self.state == State::Emptied {
            self.state = State::Running;
            self.local.guard.confirm();
            // What was missing then is looked for once more.
            self.ask_for_suspects();
            // Nothing that was seen meanwhile has been believed.
            self.look(Look::Below(RelPath::root()));
        }
    }

    /// Where the content that a peer asks for can be read, if it is here.
    pub fn locate(&self, node: NodeId, hash: Hash) -> Option<(RelPath, Print)> {
        let held = |id: NodeId| {
            let synced = self.tree.node(id)?.synced.as_ref()?;
            let (have, _) = synced.value.content()?;
            (have == hash).then(|| self.tree.path(id).map(|path| (path, synced.print)))?
        };
        held(node).or_else(|| self.tree.holders(hash).find_map(held))
    }

    /// Where a node is on disk.
    pub fn path(&self, node: NodeId) -> Option<RelPath> {
        self.tree.path(node)
    }

    /// The tree, for listings and tests.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The engine in numbers.
    pub fn progress(&self) -> Progress {
        Progress {
            state: self.state,
            withheld: self.local.guard.withheld(),
            census: self.tree.census(),
            nodes_left: self.work.left(),
            bytes_left: self.work.bytes_left(),
            reading: self.local.reading() as u64,
            links: self.gossip.progress(&self.log),
        }
    }

    /// Records held here that the peer on this link has not confirmed yet; 0 if there is no such
    /// link. They are counted, so this is for people, not for every turn.
    pub fn behind(&self, link: LinkId) -> u64 {
        self.gossip.behind(link, &self.log).count() as u64
    }

    /// Why each node that is not as it should be is not, for people who look for a fault.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = self.work.reasons();
        for id in self.work.open() {
            if let Some(node) = self.tree.node(id) {
                let at = self.tree.path(id);
                let (place, goal) = (&node.record.place, self.tree.goal(id));
                let on_disk = node.synced.as_ref().map(|on| (on.parent, on.name.clone()));
                let at = at.map_or(format!("{on_disk:?}"), |at| format!("{at:?}"));
                reasons.push(format!("{id:?} at {at}, wants {goal:?}, {place:?}"));
            }
        }
        reasons
    }

    /// Contents that are still wanted: partial downloads of others can go.
    pub fn wants(&self, hash: Hash) -> bool {
        self.work.craves(hash)
    }

    // What the parts share.

    pub(super) fn keep(&mut self, id: NodeId) {
        self.stale_rows.insert(id);
    }

    fn row(&self, id: NodeId) -> Option<Row> {
        let node = self.tree.node(id)?;
        Some(Row::Node {
            number: node.number,
            record: Box::new(node.record.clone()),
            signature: node.signature(),
            sequence: node.sequence,
            synced: node.synced.clone().map(Box::new),
        })
    }

    pub(super) fn log(&self) -> &BTreeMap<u64, NodeId> {
        &self.log
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn is_reader(&self) -> bool {
        self.who.rights == Rights::Reader
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        self.out.push(Effect::Tell(notice));
    }

    pub(super) fn look(&mut self, look: Look) -> u64 {
        self.asks += 1;
        self.out.push(Effect::Look {
            look,
            ask: self.asks,
        });
        self.asks
    }

    /// The number that the next look will have.
    pub(super) fn next_ask(&self) -> u64 {
        self.asks + 1
    }

    /// The next change of this machine.
    pub(super) fn dot(&mut self) -> Dot {
        if !planted::is(Bug::VersionNotRaised) {
            self.dots = self.dots.saturating_add(1);
        }
        self.stale_counters = true;
        self.numbers.give(self.dots)
    }

    /// The highest count known, of whomever.
    pub(super) fn highest_count(&self) -> u64 {
        self.dots
    }

    /// A body as this machine changes it, by somebody who has seen `base`.
    pub(super) fn own_body(&self, base: &Clock, dot: Dot, value: Value) -> Body {
        let clock = own_clock(base, dot);
        Body {
            clock,
            dot,
            author: self.who.label.clone(),
            value,
        }
    }

    /// A place likewise.
    pub(super) fn own_place(&self, base: &Clock, dot: Dot, parent: NodeId, name: Name) -> Place {
        let clock = own_clock(base, dot);
        Place {
            clock,
            dot,
            parent,
            name,
        }
    }

    /// Merges a record into the tree, from a peer or from this machine. True if it was news.
    pub(super) fn absorb(&mut self, theirs: Record, signature: Option<WriteSignature>) -> bool {
        let id = theirs.id;
        self.learn_dots(&theirs);
        let Some(node) = self.tree.node(id) else {
            self.tree.set_record(theirs, signature);
            self.keep(id);
            return true;
        };
        let ours = &node.record;
        if ours.class != theirs.class {
            return false;
        }
        let place = merge_place(&ours.place, &theirs.place);
        let merged = merge_body(&ours.body, &theirs.body);
        let record = Record {
            id,
            class: ours.class,
            copy_of: ours.copy_of.max(theirs.copy_of),
            place,
            body: merged.body,
        };
        let record = match self.is_reader() {
            true => super::aside::choose(node, &theirs, signature.is_some(), record),
            false => record,
        };
        let proof = if record == theirs { signature } else { None };
        let is_same = planted::is(Bug::ModeNotTold)
            && record.body.value.same_content(&ours.body.value)
            && record.place == ours.place;
        if record == *ours || is_same {
            if let (None, Some(proof)) = (node.signature(), proof) {
                self.tree.set_signature(id, proof);
                self.keep(id);
            }
            return false;
        }
        let sequence = node.sequence;
        let is_level = record.body.clock == ours.body.clock;
        let is_other = !record.body.value.same_content(&ours.body.value);
        let outvoted = (is_level && is_other).then_some(ours.body.dot);
        if let Some(lost) = merged.lost.as_ref().filter(|lost| self.may_copy(id, lost)) {
            let mut copy = conflict_copy(id, &record.place, lost);
            if self.is_reader() {
                super::aside::out_of_the_way(&mut copy, &record.place);
            }
            self.tell_conflict(id, &copy.place.name);
            self.absorb(copy, None);
        }
        if let Some(dot) = outvoted {
            self.know_only(id, dot, &record.body.clock);
        }
        self.replace(id, sequence, record, proof);
        true
    }

    /// What is on the disk was made by this change, and gives way to a version that has seen no
    /// more than it: what is known here of the others came later than what is on the disk.
    fn know_only(&mut self, id: NodeId, dot: Dot, clock: &Clock) {
        let synced = self.tree.node(id).and_then(|node| node.synced.clone());
        if let Some(synced) = synced.filter(|synced| synced.body_clock == *clock) {
            let mut body_clock = Clock::default();
            body_clock.add(dot);
            let synced = Synced {
                body_clock,
                ..synced
            };
            self.tree.refine_synced(id, Some(synced));
        }
    }

    /// A known node has another record now than the one that this machine held under `sequence`.
    pub(super) fn replace(
        &mut self,
        id: NodeId,
        sequence: u64,
        record: Record,
        proof: Option<WriteSignature>,
    ) {
        self.log.remove(&sequence);
        self.work.hurry(id);
        self.tree.set_record(record, proof);
        self.gossip.changed(id);
        self.keep(id);
    }

    pub(super) fn tell_conflict(&mut self, id: NodeId, copy: &Name) {
        if let Some(path) = self.tree.path(id) {
            self.tell(Notice::Conflict {
                path,
                copy: copy.clone(),
            });
        }
    }

    /// Changes are counted so that whatever is made by somebody who has seen a change has a higher
    /// number than that: a later dot never loses to an earlier one, in whatever order they meet.
    fn learn_dots(&mut self, record: &Record) {
        if planted::is(Bug::CountersForgotten) {
            return;
        }
        let clocks = [&record.place.clock, &record.body.clock];
        let highest = clocks.map(Clock::highest).into_iter().max();
        let highest = highest.filter(|count| *count <= COUNT_MAX);
        self.dots = self.dots.max(highest.unwrap_or(0));
    }

    /// The disk is as the record wants it: from now on this machine holds this version, and tells
    /// others.
    pub(super) fn hold(&mut self, id: NodeId) {
        let Some(node) = self.tree.node(id) else {
            return;
        };
        if node.sequence != 0 {
            return;
        }
        let synced = node.synced.clone().map(|synced| Synced {
            body_clock: node.record.body.clock.clone(),
            place_clock: node.record.place.clock.clone(),
            ..synced
        });
        self.sequence += 1;
        self.stale_counters = true;
        self.log.insert(self.sequence, id);
        self.tree.refine_synced(id, synced);
        self.tree.set_sequence(id, self.sequence);
        self.keep(id);
    }

    /// Nobody has the content that this node is to have. If this machine has an older one, that
    /// is what survives; otherwise the node is given up for everyone, unless somebody else has.
    pub(super) fn give_up(&mut self, id: NodeId) {
        let Some(node) = self.tree.node(id) else {
            return;
        };
        let record = node.record.clone();
        if self.is_reader() {
            return;
        }
        let value = match &node.synced {
            Some(synced) => super::rot::as_it_stands(synced),
            None => Value::Gone {
                was: Box::new(super::merge::value_of(&record).clone()),
                seen: record.place.clock.clone(),
            },
        };
        let dot = self.dot();
        let body = self.own_body(&record.body.clock, dot, value);
        self.absorb(Record { body, ..record }, None);
    }

    /// Content that came with a record, until it is written.
    pub(super) fn hand_in(&mut self, id: NodeId, hash: Hash, bytes: Arc<[u8]>) {
        self.work.hand_in(id, hash, bytes);
    }
}

/// The vector of a change of this machine, by somebody who has seen `base`.
fn own_clock(base: &Clock, dot: Dot) -> Clock {
    let mut clock = base.clone();
    clock.add(dot);
    clock.fold(dot.replica);
    clock
}

#[cfg(test)]
mod tests {
    use ahoy_wire::sync::Mtime;

    use super::super::{Found, Sighting};
    use super::*;

    #[test]
    fn a_fresh_file_that_was_read_when_it_was_older_is_not_waited_for() {
        let replica = ReplicaId(1);
        let rights = Rights::Writer;
        let who = Identity {
            replica,
            label: Default::default(),
            rights,
            run: replica.in_run(9),
            is_put_back: false,
            floor: 0,
        };
        let (mut engine, now) = (Engine::new(who, []), Moment::default());
        let mtime = Mtime { secs: 1, nanos: 0 };
        let print = Print {
            inode: 1,
            birth: 1,
            size: 3,
            mtime,
            ctime: 1,
            mode: 0o644,
            racy: true,
        };
        let (dir, name) = (RelPath::root(), Name::new(b"f").expect("a name"));
        let path = dir.join(&name).expect("short");
        let found = Found::File(print);
        let sightings = vec![Sighting { dir, name, found }];
        let see = |engine: &mut Engine| {
            let input = Input::Seen {
                sightings: sightings.clone(),
                whole: Vec::new(),
                asked: None,
            };
            engine.take(now, input);
            let effects = engine.flush(now).into_iter();
            effects.filter(|e| matches!(e, Effect::Read { .. })).count()
        };
        assert_eq!(see(&mut engine), 1);
        assert_eq!(
            see(&mut engine),
            1,
            "it may have been written since the first reading"
        );
        let print = Print {
            racy: false,
            ..print
        };
        let hash = Hash([7; 32]);
        engine.take(now, Input::Hashed { path, print, hash });
        assert_eq!(engine.progress().reading, 0);
    }
}
