//! What a run that was cut short had done and not noted. Before its outcome could be committed, a
//! file was put in its place; the next run finds it there, and must not take it for the user's
//! work: neither as an edit apart from what others have written meanwhile, nor as a file that was
//! made anew after they have deleted it.
//!
//! At a start, all versions that the index wants and does not hold are remembered with what is
//! known of them. What the first look finds to be just that was put there by ahoy.

use std::collections::BTreeMap;

use ahoy_wire::sync::{Body, Clock, Name, NodeId, Record, Value};

use super::engine::{Engine, State};
use super::tree::{Goal, PARKED};
use super::{Print, Synced};

/// Versions that were wanted and not held when this run began.
#[derive(Debug, Default)]
pub struct Unnoted {
    wanted: BTreeMap<NodeId, Wanted>,
    by_place: BTreeMap<(NodeId, Name), NodeId>,
}

#[derive(Debug)]
struct Wanted {
    body: Body,
    place_clock: Clock,
}

impl Wanted {
    /// Directories get other times as soon as something is put into them.
    fn is(&self, value: &Value) -> bool {
        match (&self.body.value, value) {
            (Value::Dir(_), Value::Dir(_)) => true,
            (mine, other) => mine == other,
        }
    }
}

impl Unnoted {
    /// The index has this record, and not on the disk.
    pub fn remember(&mut self, record: &Record) {
        let (place, body) = (&record.place, &record.body);
        if body.value.is_gone() {
            return;
        }
        let key = (place.parent, place.name.clone());
        self.by_place.insert(key, record.id);
        let wanted = Wanted {
            body: body.clone(),
            place_clock: place.clock.clone(),
        };
        self.wanted.insert(record.id, wanted);
    }
}

impl Unnoted {
    /// This run has put something there itself, and notes it; or it has seen what became of it.
    pub fn forget(&mut self, id: NodeId) {
        self.wanted.remove(&id);
    }
}

impl Engine {
    /// Something is at this name where nothing is known to be: the node that an earlier run has put
    /// there, with the version of its body and the clock of its place.
    pub(super) fn unnoted_at(
        &self,
        dir: NodeId,
        name: &Name,
        value: &Value,
        print: &Print,
    ) -> Option<(NodeId, Body, Clock)> {
        let id = *self.unnoted.by_place.get(&(dir, name.clone()))?;
        let wanted = self.unnoted.wanted.get(&id)?;
        let is_free = self.tree.node(id).is_some_and(|node| node.synced.is_none());
        // Last, as many files can have the same content.
        let fits = is_free && wanted.is(value) && !self.is_of_another(value, print);
        fits.then(|| (id, wanted.body.clone(), wanted.place_clock.clone()))
    }

    /// This file is known under another name, at which it is to stay: somebody has moved it.
    fn is_of_another(&self, value: &Value, print: &Print) -> bool {
        let is_it = |other| self.is_file_of(other, print) && self.tree.goal(other) != Goal::Absent;
        let content = value.content();
        content.is_some_and(|(hash, _)| self.tree.holders(hash).any(is_it))
    }

    /// This file is what the node has on the disk, as far as is known.
    fn is_file_of(&self, id: NodeId, print: &Print) -> bool {
        let held = self.tree.node(id).and_then(|node| node.synced.as_ref());
        held.is_some_and(|held| held.print.same_file(print))
    }

    /// The node that an earlier run may have given the file of `other`, which has turned up at this
    /// name: one that was to be there and had no file, and wants the same content, while `other` is
    /// to be nowhere.
    fn heir_at(&self, other: NodeId, dir: NodeId, name: &Name) -> Option<NodeId> {
        let id = *self.unnoted.by_place.get(&(dir, name.clone()))?;
        let wanted = self.unnoted.wanted.get(&id)?;
        let is_free = self.tree.node(id).is_some_and(|node| node.synced.is_none());
        let held = self.tree.node(other)?.synced.as_ref()?.value.content();
        let fits = held.is_some() && held == wanted.body.value.content();
        let is_due = is_free && fits && self.tree.goal(other) == Goal::Absent;
        (is_due && !self.work.is_busy(id)).then_some(id)
    }

    /// A known file has turned up at this name. If an earlier run has made it another node's, that
    /// is noted; that node. The file may still have the metadata of before.
    pub(super) fn inherited(&mut self, other: NodeId, dir: NodeId, name: &Name) -> Option<NodeId> {
        let heir = self.heir_at(other, dir, name)?;
        let taken = self.take_over(other, heir, (dir, name.clone()));
        taken.map(|_| heir)
    }

    /// A file was parked for this node, which has none. If an earlier run took it from another node
    /// that is to be nowhere, that is noted; what the node has now.
    pub(super) fn inherited_parked(&mut self, heir: NodeId, print: &Print) -> Option<Synced> {
        let (hash, _) = self.unnoted.wanted.get(&heir)?.body.value.content()?;
        let was_its =
            |other| self.is_file_of(other, print) && self.tree.goal(other) == Goal::Absent;
        let other = self.tree.holders(hash).find(|other| was_its(*other))?;
        self.take_over(other, heir, (PARKED, super::work::orphan_name(heir)))
    }

    /// What `other` has on the disk is the file of `heir`, and there.
    fn take_over(&mut self, other: NodeId, heir: NodeId, at: (NodeId, Name)) -> Option<Synced> {
        let wanted = self.unnoted.wanted.get(&heir)?;
        let (body_clock, place_clock) = (wanted.body.clock.clone(), wanted.place_clock.clone());
        let held = self.tree.node(other)?.synced.clone()?;
        self.local.found(other, Some(&held.print));
        self.tree.set_synced(other, None);
        let (parent, name) = at;
        let now = Synced {
            parent,
            name,
            body_clock,
            place_clock,
            ..held
        };
        self.tree.set_synced(heir, Some(now.clone()));
        self.keep(other);
        self.keep(heir);
        Some(now)
    }

    /// A known file holds another value than it did. If an earlier run has made it, where it is,
    /// the file of another node that was to hold just this, that is noted; that node.
    pub(super) fn inherited_here(&mut self, other: NodeId, value: &Value) -> Option<NodeId> {
        let held = self.tree.node(other)?.synced.as_ref()?;
        let (dir, name) = (held.parent, held.name.clone());
        let heir = self.heir_at(other, dir, &name)?;
        if !self.unnoted.wanted.get(&heir)?.is(value) {
            return None;
        }
        let taken = self.take_over(other, heir, (dir, name));
        taken.map(|_| heir)
    }

    /// A known node holds this now: that version, if an earlier run has put it there. Once it has
    /// been seen, everything else that it comes to hold is this run's doing or its user's.
    pub(super) fn take_unnoted_body(&mut self, id: NodeId, value: &Value) -> Option<Body> {
        let wanted = self.unnoted.wanted.remove(&id)?;
        wanted.is(value).then_some(wanted.body)
    }

    /// Everything that was looked at has been read, and nothing is under way: whatever comes now is
    /// new.
    pub(super) fn forget_unnoted(&mut self) {
        let is_known = self.local.reading() == 0 && self.local.answered + 1 >= self.next_ask();
        let is_at_rest = is_known && self.work.steps_out() == 0;
        if self.state == State::Running && is_at_rest && !self.unnoted.wanted.is_empty() {
            self.unnoted = Unnoted::default();
        }
    }
}
