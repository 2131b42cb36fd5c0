//! What a reader changed in its folder: it goes to nobody, and nothing of it is lost (`sync-29`).
//! What is in the way of the share gets a name of its own; everything else stays as it is.

use ahoy_wire::sync::{Body, Class, Clock, Dot, Name, NodeId, Place, Record, Value};

use super::engine::{Engine, State};
use super::names;
use super::plan::{CHANGED_PAUSE, Verdict};
use super::planted::{self, Bug};
use super::tree::{Goal, Node};
use super::work::After;
use super::{Act, Notice, Print, Synced};

/// Most strange names that a reader is told about.
const TOLD_MAX: usize = 10_000;

/// A directory that is to go and is found not to be empty is the reader's after so many tries;
/// before, what is in it may be something that is only not known yet.
const DISOWNED_AFTER: u32 = 3;

/// What a reader makes of two versions of a node of which neither has seen the other. What it
/// merged itself no writer has signed, and it could tell nobody of it: if one of the two is known
/// to nobody else, because its author was put back from a backup, it would stay alone with that
/// for ever. So it takes the one whose body stands, as it was signed, and has the merged one from
/// the first writer that knows both (`sync-34`).
pub(super) fn choose(ours: &Node, theirs: &Record, is_signed: bool, merged: Record) -> Record {
    let is_theirs = merged.body.dot == theirs.body.dot;
    match (ours.signature().is_some(), is_signed) {
        // A copy that this reader makes itself, and a writer has told of already.
        (true, false) => ours.record.clone(),
        // One that it has made, and is told of now: its place is where the writers have it.
        (false, true) if is_theirs => theirs.clone(),
        (false, false | true) => merged,
        (true, true) if merged == ours.record || merged == *theirs => merged,
        (true, true) if is_theirs && ours.record.body.dot != theirs.body.dot => theirs.clone(),
        (true, true) if is_theirs && merged.place.dot == theirs.place.dot => theirs.clone(),
        (true, true) => ours.record.clone(),
    }
}

/// A copy that a reader makes of what lost a conflict may be one that no writer makes, who know
/// more. So it is in no directory that they may delete, and has no name that they may give: it
/// stands at the top until a writer tells where it is to be.
pub(super) fn out_of_the_way(copy: &mut Record, original: &Place) {
    copy.place.parent = NodeId::ROOT;
    copy.place.name = names::displaced(&original.name, &copy.body, copy.id, 0);
}

impl Engine {
    /// A reader changed what is at a name of the share. Its own bytes are known by the empty clock:
    /// nothing that a writer made has one.
    pub(super) fn reader_changed(
        &mut self,
        id: NodeId,
        synced: Synced,
        value: Value,
        print: Print,
    ) {
        let is_own = !matches!(value, Value::Dir(_)) && !synced.value.same_content(&value);
        let body_clock = if is_own {
            Clock::default()
        } else {
            synced.body_clock.clone()
        };
        let now = Synced {
            value,
            print,
            body_clock,
            ..synced
        };
        self.tree.set_synced(id, Some(now));
        self.keep(id);
    }

    /// Something that a reader made, at a name that no node has on this disk.
    pub(super) fn reader_created(&mut self, dir: NodeId, name: Name, print: Print) {
        if !self.tree.is_wanted_at(dir, &name) {
            self.tell_not_sent(dir, &name);
            return;
        }
        // It is in the way of one that is to come, and is met again when that comes.
        if self.state != State::Running {
            return;
        }
        let plain = NodeId::created(dir, &name, Class::Leaf, None);
        let on_disk = self.tree.node(plain).and_then(|node| node.synced.as_ref());
        // What is known of a file that stands elsewhere, perhaps in the parking place, must not
        // vanish with the step.
        let nobody = Dot {
            count: 0,
            replica: self.who.replica,
        };
        let node = match on_disk {
            Some(_) => NodeId::created(dir, &name, Class::Leaf, Some(nobody)),
            None => plain,
        };
        if !self.work.is_busy(node) {
            self.order_aside(node, dir, name, print);
        }
    }

    /// Whether a content that lost a conflict gets a file of its own. A reader makes one only of
    /// what it has on its disk: of all else a writer that knows both will tell.
    pub(super) fn may_copy(&self, id: NodeId, lost: &Body) -> bool {
        let synced = self.tree.node(id).and_then(|node| node.synced.as_ref());
        !self.is_reader() || synced.is_some_and(|on| on.value.same_content(&lost.value))
    }

    /// What is on disk of a node is what this reader wrote.
    pub(super) fn is_readers_own(&self, synced: &Synced) -> bool {
        let is_leaf = !matches!(synced.value, Value::Dir(_));
        let is_own = self.is_reader() && is_leaf && synced.body_clock.is_empty();
        is_own && !planted::is(Bug::ReaderWrittenOver)
    }

    /// The reader's bytes make way for what the node is to hold.
    pub(super) fn plan_aside(&mut self, id: NodeId, synced: Synced) -> Verdict {
        let (dir, name) = (synced.parent, synced.name);
        self.order_aside(id, dir, name, synced.print)
    }

    /// The node is to be gone, and the reader's bytes stay where they are.
    pub(super) fn disown(&mut self, id: NodeId, synced: &Synced) -> Verdict {
        self.tell_not_sent(synced.parent, &synced.name);
        self.tree.set_synced(id, None);
        self.keep(id);
        Verdict::Again
    }

    /// A directory that is to be gone, and is not empty although nothing that is known is in it:
    /// what is in it is the reader's, and so is the directory from now on.
    pub(super) fn disown_dir(&mut self, id: NodeId) {
        let synced = self.tree.node(id).and_then(|node| node.synced.clone());
        let is_dir = |synced: &Synced| matches!(synced.value, Value::Dir(_));
        let Some(synced) = synced.filter(is_dir) else {
            return;
        };
        let is_inhabited = self.tree.in_dir(id).next().is_some();
        let is_to_go = self.is_reader() && self.tree.goal(id) == Goal::Absent;
        if is_to_go && !is_inhabited && self.work.pauses(id) >= DISOWNED_AFTER {
            self.work.hurry(id);
            self.disown(id, &synced);
        }
    }

    fn order_aside(&mut self, id: NodeId, dir: NodeId, name: Name, expect: Print) -> Verdict {
        // If that name is taken too, the next try has another one.
        let aside = names::not_sent(&name, expect.mtime, self.work.pauses(id));
        let path = self.dir_path(dir);
        let paths = path.and_then(|dir| Some((dir.join(&name)?, dir.join(&aside)?)));
        let Some((from, to)) = paths else {
            return self.pause(id, CHANGED_PAUSE);
        };
        self.tell(Notice::NotSent { path: to.clone() });
        let act = Act::Move { from, to, expect };
        self.order(id, act, vec![(dir, name)], After::Vanish)
    }

    fn tell_not_sent(&mut self, dir: NodeId, name: &Name) {
        let path = self.dir_path(dir).and_then(|dir| dir.join(name));
        if let Some(path) = path
            && self.local.not_sent.len() < TOLD_MAX
            && self.local.not_sent.insert(path.clone())
        {
            self.tell(Notice::NotSent { path });
        }
    }
}
