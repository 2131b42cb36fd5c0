//! What a backup has put back, and a life that it took back had replaced or deleted (`sync-39`).
//!
//! A rename is told as it is seen, and may be seen by halves: that something is gone from one name
//! before where it is now. Whoever is put back from a backup between the two has its bytes at the
//! old name only, and all others have been told that they are not wanted there. Nor does anybody
//! put a machine back from a backup so that what the backup brings is taken away at once.
//!
//! Which life has counted a change is settled in `numbers`.

use ahoy_wire::sync::{Body, Dot, NodeId, Record, Value};

use super::Synced;
use super::engine::Engine;
use super::merge::{Merged, conflict_copy, is_alive, merge_body};

impl Engine {
    /// What is here of a node and gives way to this record. If that is only because the record
    /// claims to have seen changes by this machine of which it does not know, or if a copy of it is
    /// deleted in such a change, a life that a backup has taken back did that, and may have had the
    /// content elsewhere without telling anybody yet (`sync-39`).
    pub(super) fn held_against(&self, theirs: &Record) -> Option<Body> {
        let node = self.tree.node(theirs.id)?;
        let (ours, synced) = (&node.record.body, node.synced.as_ref()?);
        if !ours.value.same_content(&synced.value) {
            return None;
        }
        let merged = self.gives_way(ours, &theirs.body)?;
        let is_unknown = |(replica, count)| {
            self.numbers.is_own(replica) && !ours.clock.has(Dot { count, replica })
        };
        let is_lost = theirs.body.clock.entries().any(is_unknown);
        let copy = self.tree.node(NodeId::conflict_copy(theirs.id, ours.dot));
        let is_disowned =
            merged.lost.is_some() && copy.is_some_and(|copy| self.is_lost_deletion(&copy.record));
        (is_lost || is_disowned).then(|| ours.clone())
    }

    /// The same of what an earlier run has put on the disk and not noted before the backup was
    /// made: only now that it is found is it known to be here.
    pub(super) fn stand_by_unnoted(&mut self, id: NodeId, held: Body) {
        let Some(node) = self.tree.node(id) else {
            return;
        };
        let theirs = &node.record.body;
        let is_lost = |(replica, count)| {
            let dot = Dot { count, replica };
            self.numbers.is_lost(dot) && !held.clock.has(dot)
        };
        if theirs.clock.entries().any(is_lost)
            && (self.gives_way(&held, theirs)).is_some_and(|merged| merged.lost.is_none())
        {
            self.stand_by(id, held);
        }
    }

    /// What becomes of a writer's content, not a directory, if it is not what stays.
    fn gives_way(&self, ours: &Body, theirs: &Body) -> Option<Merged> {
        if matches!(ours.value, Value::Dir(_)) || self.is_reader() {
            return None;
        }
        let merged = merge_body(ours, theirs);
        (!merged.body.value.same_content(&ours.value)).then_some(merged)
    }

    /// What a lost life replaced or deleted stays: under its name if that is free, and otherwise
    /// beside what has it now.
    pub(super) fn stand_by(&mut self, id: NodeId, held: Body) {
        let Some(record) = self.tree.node(id).map(|node| node.record.clone()) else {
            return;
        };
        if !is_alive(&record) {
            return self.revive(record, held.value);
        }
        let copy = conflict_copy(id, &record.place, &held);
        let (id, name) = (copy.id, copy.place.name.clone());
        if self.absorb(copy, None) {
            self.tell_conflict(record.id, &name);
        }
        let copy = self.tree.node(id).map(|node| &node.record);
        let deleted = copy.filter(|copy| self.is_lost_deletion(copy)).cloned();
        if let Some(copy) = deleted {
            self.revive(copy, held.value);
        }
    }

    /// Whether a life of this machine that a backup has taken back may have deleted it.
    fn is_lost_deletion(&self, record: &Record) -> bool {
        !is_alive(record) && self.numbers.is_lost(record.body.dot)
    }

    fn revive(&mut self, record: Record, value: Value) {
        let id = record.id;
        let dot = self.dot();
        let body = self.own_body(&record.body.clock, dot, value);
        let synced = self.tree.node(id).and_then(|node| node.synced.clone());
        let synced = synced.map(|synced| Synced {
            body_clock: body.clock.clone(),
            ..synced
        });
        self.tree.refine_synced(id, synced);
        self.absorb(Record { body, ..record }, None);
        self.keep(id);
    }
}
