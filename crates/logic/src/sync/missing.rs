//! What is not where it was: suspected, asked about, confirmed, buried. A delete needs a witness:
//! a look that was asked for afterwards, at the place where the node would be by then. What turns
//! up elsewhere meanwhile has only been moved.

use std::collections::BTreeSet;

use ahoy_wire::sync::{Name, NodeId, Record, RelPath, Value};

use super::absent::Missing;
use super::engine::{Engine, State};
use super::local::TOUCHED_NAMES_MAX;
use super::planted::{self, Bug};
use super::tree::{Goal, LIMBO, PARKED};
use super::{Look, Notice, Print, Synced, Time};

/// An index of at least this many nodes is not believed to have been emptied on purpose while
/// ahoy was not running.
const EMPTIED_NODES_MIN: u64 = 4;

impl Engine {
    /// Whatever was at this name is not there any more, something else is.
    pub(super) fn vacate(&mut self, id: NodeId, asked: Option<u64>) {
        let Some(synced) = self.tree.node(id).and_then(|n| n.synced.clone()) else {
            return;
        };
        self.send_to_limbo(id, asked);
        // Whatever turns up elsewhere has until the answer to this to do so.
        if let Some(dir) = self.dir_path(synced.parent) {
            self.look(Look::At(dir, synced.name));
        }
    }

    /// It is not where it was, and has until the next whole look to turn up elsewhere.
    fn send_to_limbo(&mut self, id: NodeId, asked: Option<u64>) {
        let Some(synced) = self.tree.node(id).and_then(|n| n.synced.clone()) else {
            return;
        };
        let hex: String = id.0.iter().map(|b| format!("{b:02x}")).collect();
        let name = Name::new(hex.as_bytes()).expect("hex digits are a good name");
        let parent = LIMBO;
        self.tree.set_synced(
            id,
            Some(Synced {
                parent,
                name,
                ..synced
            }),
        );
        self.keep(id);
        self.local.missing.remove(id);
        self.miss(id, asked);
    }

    /// After a start: whatever was parked when the last run ended may have been moved on without
    /// a note of it. What is still there is told of before the first look (`Input::Parked`).
    pub(super) fn forget_parked(&mut self) {
        let parked: Vec<NodeId> = self.tree.in_dir(PARKED).map(|(_, id)| id).collect();
        for id in parked {
            self.send_to_limbo(id, None);
        }
    }

    /// A step is out that moves this directory: what was seen at the old path and what was not
    /// says nothing of what is in it.
    pub(super) fn is_on_the_move(&self, dir: NodeId) -> bool {
        let mut above = self.tree.above(dir).chain([dir]);
        self.work.steps_out() > 0 && above.any(|dir| self.work.is_moving(dir))
    }

    pub(super) fn see_later(&mut self, dir: NodeId, path: &RelPath, name: Name) {
        if self.local.unsure.len() < TOUCHED_NAMES_MAX {
            self.local.unsure.insert((dir, name));
        } else {
            self.look(Look::At(path.clone(), name));
        }
    }

    /// A directory has been moved, or has not: looks at what could not be believed meanwhile. What
    /// is in another one that is still on the move would not be found.
    pub(super) fn see_now(&mut self) {
        let unsure = std::mem::take(&mut self.local.unsure).into_iter();
        let (later, arrived): (BTreeSet<_>, BTreeSet<_>) =
            unsure.partition(|(dir, _)| self.is_on_the_move(*dir));
        self.local.unsure = later;
        for (dir, name) in arrived {
            if let Some(path) = self.dir_path(dir) {
                self.look(Look::At(path, name));
            }
        }
    }

    pub(super) fn miss(&mut self, id: NodeId, asked: Option<u64>) {
        let next = match (self.local.missing.get(id), asked) {
            (Some(Missing::Asked(ask)), Some(asked)) if asked >= ask => Missing::Confirmed,
            (Some(state), _) => state,
            (None, _) if planted::is(Bug::DeleteWithoutWitness) => {
                self.bury(id, &BTreeSet::new());
                return;
            }
            (None, _) => Missing::Suspected,
        };
        if self.local.missing.note(id, next) {
            self.guard_miss();
        }
        let Some(synced) = self.tree.node(id).and_then(|n| n.synced.as_ref()) else {
            return;
        };
        if !matches!(synced.value, Value::Dir(_)) {
            let print = synced.print;
            self.local.missing_inodes.insert(print.identity(), id);
        }
    }

    /// The looks that belong together are over.
    pub(super) fn settled(&mut self, whole_tree: bool) {
        if matches!(self.state, State::RootLost | State::Emptied) {
            return;
        }
        if whole_tree {
            let lost: Vec<NodeId> = self.tree.in_dir(LIMBO).map(|(_, id)| id).collect();
            for id in lost {
                self.miss(id, None);
            }
            let stale = std::mem::take(&mut self.local.touched);
            self.local.touched_before = stale;
            if self.state == State::Starting {
                if self.is_emptied() && !self.may_be_empty {
                    let nodes = self.tree.census().nodes();
                    self.state = State::Emptied;
                    self.tell(Notice::Emptied { nodes });
                    return;
                }
                self.state = State::Running;
            }
        }
        self.ask_for_suspects();
        self.bury_missing();
        self.follow_unread();
        self.look_at_stirred();
    }

    /// The last of the files that were to be read has been: what came of that has stirred
    /// directories, and no other look may follow.
    pub(super) fn all_read(&mut self) {
        if self.state != State::Running {
            return;
        }
        self.bury_moved();
        if self.local.reading() == 0 {
            self.look_at_stirred();
            self.forget_unnoted();
        }
    }

    /// The mtimes of directories in which something was made or removed.
    pub(super) fn look_at_stirred(&mut self) {
        for dir in std::mem::take(&mut self.local.stirred) {
            if let Some((parent, name)) = self.tree.path(dir).and_then(|path| path.split()) {
                self.look(Look::At(parent, name));
            }
        }
    }

    /// Nothing at all is left at the top of the folder, though there was enough to make a slip of
    /// the hand or a missing mount more likely than intent.
    fn is_emptied(&self) -> bool {
        let missing = |id| self.local.is_missing(id);
        self.tree.census().nodes() >= EMPTIED_NODES_MIN
            && self.tree.in_dir(NodeId::ROOT).all(|(_, id)| missing(id))
    }

    pub(super) fn ask_for_suspects(&mut self) {
        let is_free = |id: NodeId| {
            let synced = self.tree.node(id).and_then(|n| n.synced.as_ref());
            let moves = synced.is_some_and(|synced| self.is_on_the_move(synced.parent));
            !self.work.is_busy(id) && !moves
        };
        let to_ask = self.local.missing.to_ask(self.local.answered);
        let suspects: Vec<NodeId> = to_ask
            // The answer was about a place where it no longer is.
            .filter(|(id, state)| *state == Missing::Suspected || is_free(*id))
            .map(|(id, _)| id)
            .collect();
        for id in suspects {
            let in_limbo = self
                .tree
                .node(id)
                .and_then(|n| n.synced.as_ref())
                .is_some_and(|synced| synced.parent == LIMBO);
            let next = match self.tree.path(id).and_then(|path| path.split()) {
                _ if in_limbo => Missing::Confirmed,
                Some((dir, name)) => Missing::Asked(self.look(Look::At(dir, name))),
                // Its directory is missing too, and will take it along.
                None => Missing::Suspected,
            };
            self.local.missing.note(id, next);
        }
    }

    /// Deletes what is confirmed to be gone, and all that was in it.
    pub(super) fn bury_missing(&mut self) {
        if !self.may_bury() {
            return;
        }
        let confirmed: Vec<NodeId> = self.local.missing.confirmed().collect();
        if !confirmed.is_empty() {
            let read = self.files_in_doubt();
            for id in confirmed {
                if !self.bury(id, &read) {
                    self.local.moving.insert(id);
                }
            }
        }
        let tree = &self.tree;
        self.local.missing.retain(|id| tree.is_on_disk(id));
        self.local
            .missing_inodes
            .retain(|_, id| tree.is_on_disk(*id));
    }

    /// The files that were seen somewhere, and of which it is not known yet what they are: they may
    /// be what is missing elsewhere.
    fn files_in_doubt(&self) -> BTreeSet<(u64, Time)> {
        let mut files = self.local.read_inodes();
        let seen = self.work.sightings_of_steps();
        files.extend(seen.map(|print| print.identity()));
        files
    }

    /// What was confirmed to be gone, and waited for the reading of what it might be now, or for a
    /// step in it.
    pub(super) fn bury_moved(&mut self) {
        if self.local.moving.is_empty() || !self.may_bury() {
            return;
        }
        let read = self.files_in_doubt();
        for id in std::mem::take(&mut self.local.moving) {
            let is_gone = self.local.missing.get(id) == Some(Missing::Confirmed);
            if is_gone && !self.bury(id, &read) {
                self.local.moving.insert(id);
            }
        }
    }

    /// False if something in it is being worked on: the work will fail, and then we come again. Or
    /// if the file is being read at another name: that is told before the old name is gone.
    fn bury(&mut self, id: NodeId, read: &BTreeSet<(u64, Time)>) -> bool {
        let children: Vec<NodeId> = self.tree.in_dir(id).map(|(_, child)| child).collect();
        let is_empty = children.into_iter().all(|child| self.bury(child, read));
        if !is_empty || self.work.is_busy(id) {
            return false;
        }
        let Some(node) = self.tree.node(id) else {
            return true;
        };
        let Some(synced) = node.synced.clone() else {
            return true;
        };
        if read.contains(&synced.print.identity()) {
            return false;
        }
        self.local.found(id, Some(&synced.print));
        // What turns up there from now on is not what an earlier run put there.
        self.unnoted.forget(id);
        self.stir(synced.parent);
        let wanted = self.tree.goal(id) != Goal::Absent;
        let was = Box::new(self.version_here(id, &synced));
        self.tree.set_synced(id, None);
        self.keep(id);
        if !wanted || self.is_reader() {
            return true;
        }
        let dot = self.dot();
        let value = Value::Gone {
            was,
            seen: synced.place_clock,
        };
        let body = self.own_body(&synced.body_clock, dot, value);
        let theirs = Record {
            body,
            ..self.tree.node(id).expect("found above").record.clone()
        };
        self.absorb(theirs, None);
        true
    }

    pub(super) fn stir(&mut self, dir: NodeId) {
        self.husk_stirred(dir);
        if dir != NodeId::ROOT && dir != LIMBO {
            self.local.stirred.insert(dir);
        }
    }

    /// A node was in the parking place when the last run ended.
    pub(super) fn found_parked(&mut self, id: NodeId, print: Print) {
        let known = self.tree.node(id).and_then(|n| n.synced.clone());
        let Some(synced) = known.or_else(|| self.inherited_parked(id, &print)) else {
            self.work.note_stray(id);
            return;
        };
        let racy = print.racy || super::plan::is_doubtful(&synced, &print);
        let print = Print { racy, ..print };
        self.local.found(id, Some(&synced.print));
        let parked = super::plan::parked(id, synced);
        self.tree.set_synced(id, Some(Synced { print, ..parked }));
        self.keep(id);
    }
}
