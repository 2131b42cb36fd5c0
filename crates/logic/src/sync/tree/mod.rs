//! The tree of records and its rendering: which node stands where, computed from the records alone.
//!
//! Records merge node by node, so together they may describe no tree at all: two nodes of one
//! name, a live file in a deleted directory, two directories moved into each other. The rendering
//! settles all three in one way on every machine, and writes nothing back: it is a function
//! (`sync-23`).
//!
//! * A deleted directory with something living in it stays.
//! * Of the nodes that want one name a directory gets it, then the one with the lowest id; the
//!   others stand beside it under a name that says so.
//! * Of the directories in a circle the one with the lowest id hangs at the root.
//!
//! Beside the records each node carries what this machine has on disk of it ([`Synced`]).

mod listing;
mod nodes;
mod restore;

pub use restore::Restored;

use std::collections::{BTreeMap, BTreeSet};

use ahoy_wire::sync::{Class, Hash, Name, NodeId, Record, RelPath, Value, WriteSignature};

use super::merge::{is_alive, value_of};
use super::names;
use super::{Print, Synced, Time};
use listing::{Listing, Slots};
use nodes::Nodes;

/// Where parked nodes are, in the synced tree.
pub const PARKED: NodeId = NodeId([0xff; 16]);

/// Where nodes are, in the synced tree, that are no longer where they were and have not been
/// found elsewhere yet.
pub const LIMBO: NodeId = NodeId([0xfe; 16]);

/// Deepest directory on disk that is followed; a path cannot have more names.
const DEPTH_MAX: usize = 2048;

/// One node: what the peers agree on, and what is here of it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number in the index.
    pub number: u64,
    /// The merged record.
    pub record: Record,
    /// A writer's signature over exactly this record, if one is known.
    signature: Option<Box<WriteSignature>>,
    /// When this machine came to hold this version; 0 if it does not yet.
    pub sequence: u64,
    /// What is on disk.
    pub synced: Option<Synced>,
    /// The slot in which it is rendered, if it is.
    shown: Option<(NodeId, Name)>,
}

/// Where a node is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Nowhere.
    Absent,
    /// Its directory is not known yet: leave it alone.
    Waiting,
    /// There.
    At(NodeId, Name),
}

/// All nodes, found by id, by where they are to be, by where they are, and by content.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Nodes,
    /// Directory, wanted name, and a node that wants it.
    slots: Slots,
    /// The slots that more than one node wants.
    contested: Listing<()>,
    /// Directory and name on disk, to the node that is there.
    disk: Listing<NodeId>,
    /// Content on disk, to the nodes that hold it.
    content: BTreeSet<(Hash, NodeId)>,
    /// Directories on disk, by inode number and birth time.
    inodes: BTreeMap<(u64, Time), NodeId>,
    /// What is on disk, in numbers.
    census: Census,
    /// Nodes that keep what lost a conflict, by the node that it was about.
    copies: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// Directories that hang at the root because they are in a circle.
    cuts: BTreeSet<NodeId>,
    /// Nodes whose goal may have changed since this was last taken.
    touched: BTreeSet<NodeId>,
    next_number: u64,
    dir_moves: u64,
}

impl Tree {
    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// All nodes, in the order in which they came.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter()
    }

    /// The nodes that came after this one; all of them after none.
    pub fn nodes_after(&self, id: Option<NodeId>) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.after(id)
    }

    /// The nodes whose goal may have changed since [`Tree::take_touched`].
    pub fn touched(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.touched.iter().copied()
    }

    /// The nodes whose goal may have changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.touched)
    }

    /// Replaces the record of a node, or adds the node.
    pub fn set_record(&mut self, record: Record, signature: Option<WriteSignature>) {
        let id = record.id;
        match self.nodes.get_mut(id) {
            Some(node) => {
                node.record = record;
                node.signature = signature.map(Box::new);
                node.sequence = 0;
            }
            None => {
                let number = self.next_number;
                self.next_number += 1;
                let node = Node::new(number, record, signature);
                self.nodes.insert(node);
            }
        }
        self.placed(id);
    }

    /// Notes the sequence number under which this machine holds the node.
    pub fn set_sequence(&mut self, id: NodeId, sequence: u64) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.sequence = sequence;
        }
    }

    /// Notes a signature that arrived later.
    pub fn set_signature(&mut self, id: NodeId, signature: WriteSignature) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.signature = Some(Box::new(signature));
        }
    }

    /// Replaces what is on disk of a node.
    pub fn set_synced(&mut self, id: NodeId, synced: Option<Synced>) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if let Some(old) = node.synced.take() {
            let moved = |new: &Synced| (new.parent, &new.name) != (old.parent, &old.name);
            if matches!(old.value, Value::Dir(_)) && synced.as_ref().is_some_and(moved) {
                self.dir_moves += 1;
            }
            if self.disk.get(old.parent, &old.name) == Some(&id) {
                self.disk.remove(old.parent, &old.name);
            }
            self.census.count(&old.value, false);
            if let Some((hash, _)) = old.value.content() {
                self.content.remove(&(hash, id));
            }
            let inode = old.print.identity();
            if self.inodes.get(&inode) == Some(&id) {
                self.inodes.remove(&inode);
            }
        }
        if let Some(new) = &synced {
            self.census.count(&new.value, true);
            if matches!(new.value, Value::Dir(_)) {
                self.inodes.insert(new.print.identity(), id);
            }
            self.disk.insert(new.parent, new.name.clone(), id);
            if let Some((hash, _)) = new.value.content() {
                self.content.insert((hash, id));
            }
        }
        node.synced = synced;
        self.touched.insert(id);
    }

    /// Whether anything of the node is on the disk.
    pub fn is_on_disk(&self, id: NodeId) -> bool {
        self.nodes.get(id).is_some_and(|n| n.synced.is_some())
    }

    /// The number that the next new node will have.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// How often a directory has got another place on disk.
    pub fn dir_moves(&self) -> u64 {
        self.dir_moves
    }

    /// Replaces clocks or print of what is on disk, but neither its place nor its value.
    pub fn refine_synced(&mut self, id: NodeId, synced: Option<Synced>) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.synced = synced;
        }
    }

    /// The node at that name on disk.
    pub fn on_disk(&self, dir: NodeId, name: &Name) -> Option<NodeId> {
        self.disk.get(dir, name).copied()
    }

    /// The nodes in a directory on disk, by name.
    pub fn in_dir(&self, dir: NodeId) -> impl Iterator<Item = (&Name, NodeId)> {
        self.disk.within(dir).map(|(name, id)| (name, *id))
    }

    /// The nodes that are to be in a directory.
    pub fn wanted_in_dir(&self, dir: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.slots.within(dir)
    }

    /// Whether a node is to have that name, or stands beside it because of the name.
    pub fn is_wanted_at(&self, dir: NodeId, name: &Name) -> bool {
        self.slots.rivals(dir, name).next().is_some()
    }

    /// Whether something of that class at this name is, or will be, a matter of the share: a node
    /// of the class is to have the name, or one of another class that has yet to come there. The
    /// name under which a node stands beside its namesake counts as well.
    pub fn is_expected_at(&self, dir: NodeId, name: &Name, class: Class) -> bool {
        let is_expected = |id: NodeId| {
            let is_here = |on: &Synced| on.parent == LIMBO || (on.parent, &on.name) == (dir, name);
            self.nodes.get(id).is_some_and(|node| {
                node.record.class == class || !node.synced.as_ref().is_some_and(is_here)
            })
        };
        let goal = Goal::At(dir, name.clone());
        self.slots.rivals(dir, name).any(is_expected)
            || self
                .beside(dir)
                .any(|id| is_expected(id) && self.goal(id) == goal)
    }

    /// The nodes on disk that hold this content.
    pub fn holders(&self, hash: Hash) -> impl Iterator<Item = NodeId> + '_ {
        let from = (hash, NodeId([0; 16]));
        self.content
            .range(from..)
            .take_while(move |e| e.0 == hash)
            .map(|e| e.1)
    }

    /// The directory on disk with this identity.
    pub fn dir_by_inode(&self, print: &Print) -> Option<NodeId> {
        self.inodes.get(&print.identity()).copied()
    }

    /// The nodes that keep what lost a conflict over this one.
    pub fn copies_of(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.copies.get(&id).into_iter().flatten().copied()
    }

    /// What is on disk, in numbers.
    pub fn census(&self) -> Census {
        self.census
    }

    /// The directory at that name on disk.
    pub fn dir_on_disk(&self, dir: NodeId, name: &Name) -> Option<NodeId> {
        let id = self.on_disk(dir, name)?;
        let synced = self.nodes.get(id)?.synced.as_ref()?;
        matches!(synced.value, Value::Dir(_)).then_some(id)
    }

    /// The directory at a path of the disk; the root for the empty path.
    pub fn resolve(&self, path: &RelPath) -> Option<NodeId> {
        path.names()
            .try_fold(NodeId::ROOT, |dir, name| self.dir_on_disk(dir, &name))
    }

    /// Where a node is on disk; `None` if it is not, or is parked, or the path is too long.
    pub fn path(&self, id: NodeId) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            if names.len() > DEPTH_MAX {
                return None;
            }
            let synced = self.nodes.get(at)?.synced.as_ref()?;
            names.push(&synced.name);
            at = synced.parent;
        }
        names
            .into_iter()
            .rev()
            .try_fold(RelPath::root(), |path, name| path.join(name))
    }

    /// The directories above a node on disk, nearest first, without the root.
    pub fn above(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let parent = move |id: NodeId| {
            let synced = self.nodes.get(id)?.synced.as_ref()?;
            (synced.parent != NodeId::ROOT && synced.parent != PARKED).then_some(synced.parent)
        };
        std::iter::successors(parent(id), move |at| parent(*at)).take(DEPTH_MAX)
    }

    /// What the node is to be: `None` if it is to be absent.
    pub fn goal_value(&self, id: NodeId) -> Option<&Value> {
        let node = self.nodes.get(id)?;
        node.shown.as_ref().map(|_| value_of(&node.record))
    }

    /// Where a node is to be.
    pub fn goal(&self, id: NodeId) -> Goal {
        let Some(node) = self.nodes.get(id) else {
            return Goal::Absent;
        };
        let Some((parent, name)) = &node.shown else {
            return Goal::Absent;
        };
        if *parent != NodeId::ROOT && !self.node(*parent).is_some_and(Node::is_dir) {
            return Goal::Waiting;
        }
        if self.contested.is_empty() {
            return Goal::At(*parent, name.clone());
        }
        let rivals = self.slots.rivals(*parent, name);
        let first = rivals.min_by_key(|id| self.precedence(*id));
        if first.is_none_or(|first| first == id) {
            return Goal::At(*parent, name.clone());
        }
        // Somebody may have taken that name as well, and even the next.
        let beside = (0..).map(|attempt| names::displaced(name, &node.record.body, id, attempt));
        let is_free = |beside: &Name| !self.is_wanted_at(*parent, beside);
        let mut free = beside.filter(is_free);
        Goal::At(
            *parent,
            free.next()
                .expect("each is another, and a directory has an end"),
        )
    }

    fn precedence(&self, id: NodeId) -> (Option<Class>, NodeId) {
        (self.nodes.get(id).map(|n| n.record.class), id)
    }

    /// The record of `id` is new: finds its slot, and whatever that changes for others.
    fn placed(&mut self, id: NodeId) {
        let node = self.nodes.get(id).expect("its record is new");
        let is_dir = node.is_dir();
        if let Some(original) = node.record.copy_of {
            self.copies.entry(original).or_default().insert(id);
        }
        if is_dir {
            self.recut(id);
            // What arrived before its directory can be rendered now.
            let stranded: Vec<NodeId> = self.wanted_in_dir(id).collect();
            self.touched.extend(stranded);
        }
        self.refresh(id);
        self.touched.insert(id);
    }

    /// Brings a node's slot up to date, then its old and new directories', upwards.
    fn refresh(&mut self, id: NodeId) {
        let mut stale = vec![id];
        while let Some(id) = stale.pop() {
            let Some(node) = self.nodes.get(id) else {
                continue;
            };
            let inhabited = node.is_dir() && self.slots.within(id).next().is_some();
            let parent = if self.cuts.contains(&id) {
                NodeId::ROOT
            } else {
                node.record.place.parent
            };
            let slot = (is_alive(&node.record) || inhabited)
                .then(|| (parent, node.record.place.name.clone()));
            if slot == node.shown {
                continue;
            }
            let old = std::mem::replace(
                &mut self.nodes.get_mut(id).expect("found above").shown,
                slot.clone(),
            );
            self.touched.insert(id);
            if let Some(old) = old {
                self.leave_slot(&old, id);
                stale.push(old.0);
            }
            if let Some(new) = slot {
                stale.push(new.0);
                self.slots.insert(new.0, new.1.clone(), id);
                match self.touch_rivals(&new) {
                    1 => self.crowd(new.0),
                    _ => self.contested.insert(new.0, new.1, ()),
                }
            }
        }
    }

    fn leave_slot(&mut self, slot: &(NodeId, Name), id: NodeId) {
        let (dir, name) = slot;
        self.slots.remove(*dir, name, id);
        let left = self.touch_rivals(slot);
        if left < 2 {
            self.contested.remove(*dir, name);
        }
        if left == 0 {
            self.crowd(*dir);
        }
    }

    /// Who wants a name may have another goal now; how many they are.
    fn touch_rivals(&mut self, slot: &(NodeId, Name)) -> usize {
        let mut count = 0;
        for id in self.slots.rivals(slot.0, &slot.1) {
            self.touched.insert(id);
            count += 1;
        }
        count
    }

    /// A name in this directory is taken or free now, and it may be the one under which a node
    /// stands beside its namesake.
    fn crowd(&mut self, dir: NodeId) {
        let displaced: Vec<NodeId> = self.beside(dir).collect();
        self.touched.extend(displaced);
    }

    /// The nodes in one directory that want a name which others want as well.
    fn beside(&self, dir: NodeId) -> impl Iterator<Item = NodeId> {
        let contested = self.contested.within(dir);
        contested.flat_map(move |(name, ())| self.slots.rivals(dir, name))
    }

    /// A directory has a new place: finds the circles that this closes or opens.
    fn recut(&mut self, moved: NodeId) {
        let suspects: Vec<NodeId> = self.cuts.iter().copied().chain([moved]).collect();
        let cuts: BTreeSet<NodeId> = suspects.iter().filter_map(|id| self.circle(*id)).collect();
        let changed: Vec<NodeId> = cuts.symmetric_difference(&self.cuts).copied().collect();
        self.cuts = cuts;
        for id in changed {
            self.refresh(id);
        }
    }

    /// The lowest id of the circle that the way up from `id` ends in, if it ends in one. A way
    /// through anything but directories is none.
    fn circle(&self, id: NodeId) -> Option<NodeId> {
        let parent = |at: NodeId| {
            let dir = self.nodes.get(at).filter(|node| node.is_dir());
            dir.map(|dir| dir.record.place.parent)
        };
        let mut met = BTreeSet::new();
        let mut at = id;
        while met.insert(at) {
            at = parent(at)?;
        }
        let mut lowest = at;
        let mut next = parent(at)?;
        while next != at {
            lowest = lowest.min(next);
            next = parent(next)?;
        }
        Some(lowest)
    }
}

/// How much of the share is on disk here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symbolic links.
    pub links: u64,
    /// Content bytes of the files.
    pub bytes: u64,
}

impl Census {
    fn count(&mut self, value: &Value, here: bool) {
        let add = |n: &mut u64, by: u64| {
            *n = if here { *n + by } else { n.saturating_sub(by) };
        };
        match value {
            Value::Dir(_) => add(&mut self.dirs, 1),
            Value::Link { .. } => add(&mut self.links, 1),
            Value::File { size, .. } => {
                add(&mut self.files, 1);
                add(&mut self.bytes, *size);
            }
            Value::Gone { .. } => {}
        }
    }

    /// Everything counted.
    pub fn nodes(&self) -> u64 {
        self.files + self.dirs + self.links
    }
}

impl Node {
    fn new(number: u64, record: Record, signature: Option<WriteSignature>) -> Self {
        Self {
            number,
            record,
            signature: signature.map(Box::new),
            sequence: 0,
            synced: None,
            shown: None,
        }
    }

    /// A node as the index has it.
    pub fn kept(
        number: u64,
        record: Record,
        signature: Option<WriteSignature>,
        sequence: u64,
        synced: Option<Synced>,
    ) -> Self {
        Self {
            sequence,
            synced,
            ..Self::new(number, record, signature)
        }
    }

    /// A writer's signature over exactly this record, if one is known.
    pub fn signature(&self) -> Option<WriteSignature> {
        self.signature.as_deref().copied()
    }

    /// Whether it can have children.
    pub fn is_dir(&self) -> bool {
        self.record.class == Class::Dir
    }
}

#[cfg(test)]
mod tests;
