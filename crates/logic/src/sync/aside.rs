//! What a reader changed in its folder: it goes to nobody, and nothing of it is lost (`sync-29`).
//! What is in the way of the share gets a name of its own; everything else stays as it is.

use ahoy_wire::sync::{Class, Clock, Name, NodeId, Value};

use super::engine::Engine;
use super::names;
use super::plan::{CHANGED_PAUSE, Verdict};
use super::planted::{self, Bug};
use super::work::After;
use super::{Act, Notice, Print, Synced};

/// Most strange names that a reader is told about.
const TOLD_MAX: usize = 10_000;

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
        // It is in the way of one that is to come.
        let node = NodeId::created(dir, &name, Class::Leaf, None);
        if !self.work.is_busy(node) {
            self.order_aside(node, dir, name, print);
        }
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
