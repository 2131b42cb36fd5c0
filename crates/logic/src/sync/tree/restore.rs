//! The tree of an index, built at once: a million insertions into ordered maps, each at another
//! place in memory, take many times as long as sorting what goes into them.

use std::collections::BTreeSet;

use ahoy_wire::sync::{Label, NodeId, Value};

use super::super::merge::{is_alive, value_of};
use super::nodes::{Nodes, Row};
use super::{Node, Tree};

impl Tree {
    /// The tree of these nodes. Those that are not as they should be are touched.
    pub fn restored(
        Restored {
            seed, mut nodes, ..
        }: Restored,
    ) -> Self {
        let mut tree = Self::default();
        let mut dirs = Vec::new();
        for node in nodes.iter_mut() {
            let id = node.record.id;
            if node.is_dir() {
                dirs.push(id);
            }
            tree.next_number = tree.next_number.max(node.number + 1);
            if let Some(original) = node.record.copy_of {
                tree.copies.entry(original).or_default().insert(id);
            }
            let place = &node.record.place;
            node.shown = is_alive(&node.record).then(|| (place.parent, place.name.clone()));
            if !is_settled(node) {
                tree.touched.insert(id);
            }
        }
        tree.index_disk(&nodes);
        let shown = nodes.iter().filter_map(|node| {
            let (dir, name) = node.shown.as_ref()?;
            Some((*dir, name.clone(), node.record.id))
        });
        tree.slots = shown.collect();
        tree.nodes = Nodes::new(seed, nodes);
        tree.find_circles(dirs);
        tree.find_contested();
        tree.show_inhabited();
        tree
    }

    /// What can be found by where it is on disk, and by what it is there.
    fn index_disk(&mut self, nodes: &Row) {
        let on_disk = || {
            let nodes = nodes.iter();
            nodes.filter_map(|node| Some((node.record.id, node.synced.as_ref()?)))
        };
        for (id, synced) in on_disk() {
            self.census.count(&synced.value, true);
            if matches!(synced.value, Value::Dir(_)) {
                self.inodes.insert(synced.print.identity(), id);
            }
        }
        let places = on_disk().map(|(id, synced)| (synced.parent, synced.name.clone(), id));
        self.disk = places.collect();
        let contents = on_disk().filter_map(|(id, synced)| Some((synced.value.content()?.0, id)));
        self.content = contents.collect();
    }

    fn find_circles(&mut self, dirs: Vec<NodeId>) {
        self.cuts = dirs.into_iter().filter_map(|id| self.circle(id)).collect();
        for id in self.cuts.clone() {
            self.refresh(id);
        }
    }

    fn find_contested(&mut self) {
        for (dir, name, rivals) in self.slots.neighbours() {
            self.contested.insert(dir, name.clone(), ());
            self.touched.extend(rivals);
        }
    }

    /// Deleted directories in which something lives, and what lives in no known directory.
    fn show_inhabited(&mut self) {
        let dirs: Vec<NodeId> = self.slots.dirs().collect();
        for dir in dirs {
            let is_dir = self.node(dir).is_some_and(Node::is_dir);
            if !is_dir && dir != NodeId::ROOT {
                let stranded: Vec<NodeId> = self.wanted_in_dir(dir).collect();
                self.touched.extend(stranded);
            }
            self.refresh(dir);
        }
    }
}

/// This machine holds the version that it knows, and a plan would find nothing to do.
fn is_settled(node: &Node) -> bool {
    let is_there = match (&node.shown, &node.synced) {
        (None, None) => true,
        (Some((dir, name)), Some(on)) => {
            (&on.parent, &on.name) == (dir, name) && on.value == *value_of(&node.record)
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    is_there && node.sequence != 0
}

/// Nodes that come out of an index one after the other. What was decoded twice and is the same is
/// kept once, and at once, so that the next node gets the memory.
#[derive(Debug)]
pub struct Restored {
    seed: u64,
    nodes: Row,
    authors: BTreeSet<Label>,
}

impl Restored {
    /// None yet, for a tree whose ids are hashed with this.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: Row::default(),
            authors: BTreeSet::new(),
        }
    }

    /// Adds a node; each has a number and an id of its own.
    pub fn add(&mut self, mut node: Node) {
        let record = &mut node.record;
        let author = &mut record.body.author;
        match self.authors.get(author) {
            Some(known) => *author = known.clone(),
            None => drop(self.authors.insert(author.clone())),
        }
        let body_clock = &record.body.clock;
        share(&mut record.place.clock, body_clock);
        if let Some(synced) = &mut node.synced {
            share(&mut synced.body_clock, body_clock);
            share(&mut synced.place_clock, &record.place.clock);
            share(&mut synced.name, &record.place.name);
        }
        self.nodes.push(node);
    }
}

fn share<T: Clone + PartialEq>(one: &mut T, with: &T) {
    if one == with {
        one.clone_from(with);
    }
}
