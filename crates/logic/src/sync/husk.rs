//! Husks: directories that the others have deleted, and that stay here for what is in them and is
//! not shared (`sync-17`). As far as the share goes they are gone, so there is nothing to wait for;
//! that they can go after all is tried when something has left them, and at every start.

use std::collections::BTreeSet;

use ahoy_wire::sync::{NodeId, Value};

use super::engine::Engine;
use super::plan::Verdict;
use super::tree::Goal;
use super::{Notice, Print, Synced};

/// Most words about husks in one run.
const TOLD_MAX: usize = 10_000;

const STAYS: &str = "others have deleted this directory; it stays for what is not synced in it";

const IN_THE_WAY: &str = "something new is to have this name, but a deleted directory stays here \
                          for what is not synced in it; move that away";

/// Which they are.
#[derive(Debug, Default)]
pub(super) struct Husks {
    standing: BTreeSet<NodeId>,
    /// What the user was told of which.
    told: BTreeSet<(NodeId, &'static str)>,
}

impl Husks {
    pub fn stands(&self, id: NodeId) -> bool {
        self.standing.contains(&id)
    }
}

impl Engine {
    /// A directory that is to be gone cannot be removed for what is in it and is not shared.
    pub(super) fn leave_standing(&mut self, id: NodeId) {
        self.husks.standing.insert(id);
        self.tell_of_husk(id, STAYS);
    }

    /// Something else is to have the name of a husk, and waits for that.
    pub(super) fn tell_of_obstacle(&mut self, id: NodeId) {
        if self.husks.stands(id) {
            self.tell_of_husk(id, IN_THE_WAY);
        }
    }

    fn tell_of_husk(&mut self, id: NodeId, reason: &'static str) {
        if self.husks.told.len() < TOLD_MAX
            && self.husks.told.insert((id, reason))
            && let Some(path) = self.tree.path(id)
        {
            let reason = reason.to_owned();
            self.tell(Notice::Trouble { path, reason });
        }
    }

    /// Nothing that is shared is in this directory, which is to be gone: whether it stays.
    pub(super) fn plan_husk(&mut self, id: NodeId) -> Option<Verdict> {
        let holds_husks = self.tree.in_dir(id).next().is_some();
        if holds_husks {
            self.husks.standing.insert(id);
        }
        (holds_husks || self.husks.stands(id)).then_some(Verdict::Done)
    }

    /// Something has left this directory.
    pub(super) fn husk_stirred(&mut self, id: NodeId) {
        if self.husks.standing.remove(&id) {
            self.touch(id);
        }
    }

    /// What a directory that is to be gone has for a mode and an mtime is nobody's business any
    /// more. True if that is what has changed.
    pub(super) fn is_change_of_husk(&mut self, id: NodeId, value: &Value, print: Print) -> bool {
        if !matches!(value, Value::Dir(_)) || self.tree.goal(id) != Goal::Absent {
            return false;
        }
        let synced = self.tree.node(id).and_then(|node| node.synced.clone());
        let value = value.clone();
        let synced = synced.map(|synced| Synced {
            value,
            print,
            ..synced
        });
        self.tree.set_synced(id, synced);
        self.keep(id);
        self.husk_stirred(id);
        true
    }
}
