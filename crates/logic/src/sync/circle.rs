//! Nodes that wait for each other, and how a circle of them is broken: one of them steps aside into
//! the parking place, or files that are on the disk change nodes.

use std::collections::BTreeSet;

use ahoy_wire::sync::{NodeId, RelPath, Value};

use super::engine::Engine;
use super::plan::{CHANGED_PAUSE, Verdict, parked};
use super::tree::{Goal, PARKED};
use super::work::After;
use super::{Act, Synced};

impl Engine {
    /// `id` can only go on when something happens to `on`. If that waits for `id` in turn, one of
    /// the circle is parked.
    pub(super) fn wait(&mut self, id: NodeId, on: NodeId) -> Verdict {
        if let Some(circle) = self.work.circle(id, on) {
            let can_park = |id: &NodeId| {
                let node = self.tree.node(*id)?;
                let synced = node.synced.as_ref()?;
                let goal = self.tree.goal(*id);
                let elsewhere = matches!(&goal, Goal::At(parent, name)
                    if (*parent, name) != (synced.parent, &synced.name));
                // What is in it could not be reached any more.
                let is_inside = |other: &NodeId| self.tree.above(*other).any(|dir| dir == *id);
                let elsewhere = elsewhere && !circle.iter().any(is_inside);
                (elsewhere && synced.parent != PARKED && !self.work.is_busy(*id)).then_some(*id)
            };
            let Some(victim) = circle.iter().find_map(can_park) else {
                return self.break_inheritance(id, on, &circle);
            };
            if victim != id {
                self.work.wait(id, on);
            }
            return self.park(victim);
        }
        self.work.wait(id, on);
        Verdict::Pending
    }

    /// It is in a directory that is parked, and has no path before that is somewhere again.
    pub(super) fn wait_for_unparking(&mut self, id: NodeId) -> Verdict {
        self.wait_for_path(id, id)
    }

    /// `id` can only go on when `dir`, a directory or itself, has a path again.
    pub(super) fn wait_for_path(&mut self, id: NodeId, dir: NodeId) -> Verdict {
        let top = self.tree.above(dir).last().unwrap_or(dir);
        match Some(top).filter(|top| *top != id && self.is_parked(*top)) {
            Some(top) if self.work.circle(id, top).is_none() => self.wait(id, top),
            // It waits for us in turn: it has to stand somewhere meanwhile.
            Some(top) => {
                self.work.wait(id, top);
                self.unpark_anywhere(top)
            }
            None => self.pause(id, CHANGED_PAUSE),
        }
    }

    fn is_parked(&self, id: NodeId) -> bool {
        let synced = self.tree.node(id).and_then(|node| node.synced.as_ref());
        synced.is_some_and(|synced| synced.parent == PARKED)
    }

    fn unpark_anywhere(&mut self, id: NodeId) -> Verdict {
        match self.tree.node(id).and_then(|node| node.synced.clone()) {
            Some(synced) if !self.work.is_busy(id) => {
                self.plan_move(id, synced, NodeId::ROOT, super::work::orphan_name(id))
            }
            Some(_) | None => Verdict::Pending,
        }
    }

    /// What is parked and unknown to the index, which was put back from a backup, gets a name at
    /// the root: the looks that follow find it there like anything new.
    pub(super) fn bring_back_strays(&mut self) {
        for id in self.work.idle_strays() {
            let name = super::work::stray_name(id, self.work.pauses(id));
            let Some(to) = RelPath::root().join(&name) else {
                continue;
            };
            let keys = vec![(NodeId::ROOT, name)];
            self.order(id, Act::Unpark { to }, keys, After::Vanish);
        }
    }

    /// A circle in which nobody moves, but somebody is to take over a file that is in the way of
    /// its own directory: it takes it over in the parking place.
    fn break_inheritance(&mut self, id: NodeId, on: NodeId, circle: &[NodeId]) -> Verdict {
        let is_new = |heir: &&NodeId| {
            let node = self.tree.node(**heir);
            node.is_some_and(|node| node.synced.is_none()) && !self.work.is_busy(**heir)
        };
        let find = |heir: &NodeId| Some((*heir, self.heirloom(*heir)?));
        let Some((heir, (other, held, at))) = circle.iter().filter(is_new).find_map(find) else {
            return self.break_exchange(id, circle);
        };
        let Some(record) = self.tree.node(heir).map(|node| &node.record) else {
            return Verdict::Done;
        };
        let keys = vec![(held.parent, held.name.clone())];
        let expect = held.print;
        let taken = Synced {
            body_clock: record.body.clock.clone(),
            place_clock: record.place.clock.clone(),
            ..parked(heir, held)
        };
        if heir != id {
            self.work.wait(id, on);
        }
        let after = After::Inherit(other, Box::new(taken));
        self.order(heir, Act::Park { at, expect }, keys, after)
    }

    /// A circle in which nobody moves: each is about to lose a content that another still needs,
    /// as after an exchange of two contents. Then the files on disk change nodes instead: each
    /// node takes over the one that has what it needs, and all that is left to do are renames.
    fn break_exchange(&mut self, id: NodeId, circle: &[NodeId]) -> Verdict {
        let wants = |id: &NodeId| self.tree.goal_value(*id).and_then(Value::content);
        let has = |id: &NodeId| self.tree.node(*id)?.synced.as_ref()?.value.content();
        let donor = |id: &NodeId| {
            let wanted = wants(id)?;
            circle
                .iter()
                .find(|other| has(other) == Some(wanted))
                .copied()
        };
        let donors: BTreeSet<NodeId> = circle.iter().filter_map(donor).collect();
        // A file that is being read may hold something else by now, which would then be taken for
        // a change of the node that it is given to.
        let is_read = |id: &NodeId| {
            let path = self.tree.path(*id);
            path.is_some_and(|path| self.local.is_reading(&path))
        };
        let unsure =
            |id: &NodeId| self.work.is_busy(*id) || self.local.is_missing(*id) || is_read(id);
        let is_unsure = circle.iter().any(unsure);
        if !is_unsure && let Some(doomed) = circle.iter().find_map(|id| self.is_doomed(*id)) {
            if doomed != id
                && let Some(on) = circle.get(1)
            {
                self.work.wait(id, *on);
            }
            return self.park(doomed);
        }
        if donors.len() < circle.len() || is_unsure {
            for other in circle.iter().filter(|other| **other != id) {
                self.touch(*other);
            }
            return self.pause(id, CHANGED_PAUSE);
        }
        let takes: Vec<(NodeId, Option<Synced>)> = circle
            .iter()
            .map(|id| {
                let node = self.tree.node(*id);
                let held = donor(id).and_then(|d| self.tree.node(d)?.synced.clone());
                let taken = node.zip(held).map(|(node, held)| Synced {
                    body_clock: node.record.body.clock.clone(),
                    place_clock: node.record.place.clock.clone(),
                    ..held
                });
                (*id, taken)
            })
            .collect();
        for id in circle {
            self.tree.set_synced(*id, None);
        }
        for (id, taken) in takes {
            self.tree.set_synced(id, taken);
            self.keep(id);
        }
        Verdict::Again
    }

    /// A file that is to go, and stays only because somebody needs its content, who needs its name
    /// as well: it waits in the parking place.
    fn is_doomed(&self, id: NodeId) -> Option<NodeId> {
        let synced = self.tree.node(id)?.synced.as_ref()?;
        let is_file = synced.value.content().is_some() && synced.parent != PARKED;
        (is_file && self.tree.goal(id) == Goal::Absent).then_some(id)
    }

    fn park(&mut self, id: NodeId) -> Verdict {
        if let Some(busy) = self.work.busy_below(id) {
            self.work.wait(id, busy);
            return Verdict::Pending;
        }
        let synced = self.tree.node(id).and_then(|n| n.synced.clone());
        let (Some(synced), Some(at)) = (synced, self.tree.path(id)) else {
            return self.pause(id, CHANGED_PAUSE);
        };
        let act = Act::Park {
            at,
            expect: synced.print,
        };
        let keys = vec![(synced.parent, synced.name.clone())];
        self.order(id, act, keys, After::Become(Box::new(parked(id, synced))))
    }
}
