//! What is in directories, found by directory and name.
//!
//! Directories are found first and names in them second: nearly all questions are about one
//! directory, and comparing names costs a look at the place where each is kept.

use std::collections::{BTreeMap, BTreeSet};

use ahoy_wire::sync::{Name, NodeId};

/// One entry for each name; no directory in it is empty.
#[derive(Debug)]
pub(super) struct Listing<T>(BTreeMap<NodeId, BTreeMap<Name, T>>);

impl<T> Listing<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, dir: NodeId, name: &Name) -> Option<&T> {
        self.0.get(&dir)?.get(name)
    }

    pub(super) fn insert(&mut self, dir: NodeId, name: Name, entry: T) {
        self.0.entry(dir).or_default().insert(name, entry);
    }

    pub(super) fn remove(&mut self, dir: NodeId, name: &Name) {
        if let Some(names) = self.0.get_mut(&dir) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(&dir);
            }
        }
    }

    /// The entries of one directory, by name.
    pub(super) fn within(&self, dir: NodeId) -> impl Iterator<Item = (&Name, &T)> {
        self.0.get(&dir).into_iter().flatten()
    }
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> FromIterator<(NodeId, Name, T)> for Listing<T> {
    /// The last one where a name comes twice.
    fn from_iter<I: IntoIterator<Item = (NodeId, Name, T)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let dirs = by_dir(entries.map(|(dir, name, entry)| (dir, (name, entry))));
        Self(in_order(dirs))
    }
}

/// The names that nodes want: any number of nodes for each; no directory in it is empty.
#[derive(Debug, Default)]
pub(super) struct Slots(BTreeMap<NodeId, BTreeSet<(Name, NodeId)>>);

impl Slots {
    pub(super) fn insert(&mut self, dir: NodeId, name: Name, id: NodeId) {
        self.0.entry(dir).or_default().insert((name, id));
    }

    pub(super) fn remove(&mut self, dir: NodeId, name: &Name, id: NodeId) {
        if let Some(slots) = self.0.get_mut(&dir) {
            slots.remove(&(name.clone(), id));
            if slots.is_empty() {
                self.0.remove(&dir);
            }
        }
    }

    /// The directories in which anything is wanted.
    pub(super) fn dirs(&self) -> impl Iterator<Item = NodeId> {
        self.0.keys().copied()
    }

    /// The nodes that want one name.
    pub(super) fn rivals(&self, dir: NodeId, name: &Name) -> impl Iterator<Item = NodeId> {
        let name = name.clone();
        let first = (name.clone(), NodeId::ROOT);
        let slots = self.0.get(&dir).into_iter();
        let from = slots.flat_map(move |slots| slots.range(first.clone()..));
        from.take_while(move |slot| slot.0 == name)
            .map(|slot| slot.1)
    }

    /// The nodes that want any name in one directory.
    pub(super) fn within(&self, dir: NodeId) -> impl Iterator<Item = NodeId> {
        let slots = self.0.get(&dir).into_iter().flatten();
        slots.map(|slot| slot.1)
    }

    /// Every two nodes that want one name and come one after the other in its order.
    pub(super) fn neighbours(&self) -> impl Iterator<Item = (NodeId, &Name, [NodeId; 2])> {
        self.0.iter().flat_map(|(dir, slots)| {
            let pairs = slots.iter().zip(slots.iter().skip(1));
            let same = pairs.filter(|(one, next)| one.0 == next.0);
            same.map(|(one, next)| (*dir, &one.0, [one.1, next.1]))
        })
    }
}

impl FromIterator<(NodeId, Name, NodeId)> for Slots {
    fn from_iter<I: IntoIterator<Item = (NodeId, Name, NodeId)>>(slots: I) -> Self {
        let slots = slots.into_iter();
        let dirs = by_dir(slots.map(|(dir, name, id)| (dir, (name, id))));
        Self(in_order(dirs))
    }
}

fn by_dir<T>(entries: impl Iterator<Item = (NodeId, T)>) -> BTreeMap<NodeId, Vec<T>> {
    let mut dirs: BTreeMap<NodeId, Vec<T>> = BTreeMap::new();
    for (dir, entry) in entries {
        dirs.entry(dir).or_default().push(entry);
    }
    dirs
}

/// Sorting the few of one directory is quicker than finding the place of each among all.
fn in_order<T, C: FromIterator<T>>(dirs: BTreeMap<NodeId, Vec<T>>) -> BTreeMap<NodeId, C> {
    let sorted = dirs.into_iter();
    sorted
        .map(|(dir, entries)| (dir, entries.into_iter().collect()))
        .collect()
}
