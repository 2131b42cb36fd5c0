//! Which inotify watch stands for which directory.
//!
//! The kernel names watches by number and follows directories through renames; this keeps the
//! numbers in a tree of names, so that renaming a directory with a million files below it is one
//! step. It makes no system calls.

use std::collections::{BTreeMap, HashMap};

use ahoy_wire::sync::{Name, RelPath};

/// Watch descriptors with their places.
#[derive(Debug)]
pub(super) struct Watches {
    nodes: HashMap<u64, Node>,
    by_wd: HashMap<i32, u64>,
    next: u64,
}

#[derive(Debug)]
struct Node {
    /// `None` for a directory that only stands in between.
    wd: Option<i32>,
    parent: u64,
    name: Option<Name>,
    children: BTreeMap<Name, u64>,
}

const ROOT: u64 = 0;

/// The parent of a directory that is on its way.
const NOWHERE: u64 = u64::MAX;

/// A directory that was taken out of its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Detached(u64);

impl Watches {
    pub(super) fn new() -> Self {
        let root = Node {
            wd: None,
            parent: ROOT,
            name: None,
            children: BTreeMap::new(),
        };
        Self {
            nodes: HashMap::from([(ROOT, root)]),
            by_wd: HashMap::new(),
            next: 1,
        }
    }

    /// The directory that `wd` watches.
    pub(super) fn path(&self, wd: i32) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut node = self.nodes.get(self.by_wd.get(&wd)?)?;
        while let Some(name) = &node.name {
            names.push(name);
            node = self.nodes.get(&node.parent)?;
        }
        names
            .iter()
            .rev()
            .try_fold(RelPath::root(), |path, name| path.join(name))
    }

    /// Notes that `wd` watches `path`. If it watched another place, the directory was renamed and
    /// takes what is below it along.
    pub(super) fn put(&mut self, wd: i32, path: &RelPath) -> Vec<i32> {
        if let Some(id) = self.by_wd.get(&wd).copied() {
            return match path.split() {
                Some((dir, name)) if id != ROOT => self.settle(id, &dir, name),
                _ => Vec::new(),
            };
        }
        let id = self.make(path);
        let node = self.nodes.get_mut(&id).expect("just made");
        let old = node.wd.replace(wd);
        self.by_wd.insert(wd, id);
        if let Some(old) = old {
            self.by_wd.remove(&old);
        }
        old.into_iter().collect()
    }

    /// Takes `path` out of its place, with all below it: it is on its way to another one. Answers
    /// what to call it by.
    pub(super) fn detach(&mut self, path: &RelPath) -> Option<Detached> {
        let id = self.find(path).filter(|id| *id != ROOT)?;
        self.unlink(id);
        let node = self.nodes.get_mut(&id)?;
        node.parent = NOWHERE;
        Some(Detached(id))
    }

    /// The directory has arrived at `path`. If another one is known there, nobody can say what
    /// has become of that: both are forgotten, and the answer is their watches, to be given up.
    pub(super) fn attach(&mut self, detached: Detached, path: &RelPath) -> Vec<i32> {
        let Detached(id) = detached;
        let is_waiting = self
            .nodes
            .get(&id)
            .is_some_and(|node| node.parent == NOWHERE);
        let (true, Some((dir, name))) = (is_waiting, path.split()) else {
            return Vec::new();
        };
        if let Some(other) = self.find(path) {
            let mut given_up = self.cut(other);
            given_up.extend(self.cut(id));
            return given_up;
        }
        self.settle(id, &dir, name)
    }

    /// It has left for good; the answer is the watches to be given up.
    pub(super) fn abandon(&mut self, detached: Detached) -> Vec<i32> {
        let Detached(id) = detached;
        match self.nodes.get(&id) {
            Some(node) if node.parent == NOWHERE => self.cut(id),
            Some(_) | None => Vec::new(),
        }
    }

    /// Forgets `path` and all below it; the answer is the watches to be given up.
    pub(super) fn remove(&mut self, path: &RelPath) -> Vec<i32> {
        match self.find(path) {
            Some(id) => self.cut(id),
            None => Vec::new(),
        }
    }

    /// The kernel has given up `wd`: the directory is gone.
    pub(super) fn forget(&mut self, wd: i32) {
        if let Some(id) = self.by_wd.remove(&wd)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.wd = None;
            self.prune(id);
        }
    }

    /// Whether `path` is watched.
    pub(super) fn knows(&self, path: &RelPath) -> bool {
        self.find(path)
            .and_then(|id| self.nodes.get(&id))
            .is_some_and(|node| node.wd.is_some())
    }

    /// The names below `path` that are known as directories.
    pub(super) fn children(&self, path: &RelPath) -> Vec<Name> {
        let node = self.find(path).and_then(|id| self.nodes.get(&id));
        node.map_or_else(Vec::new, |node| node.children.keys().cloned().collect())
    }

    fn find(&self, path: &RelPath) -> Option<u64> {
        path.names().try_fold(ROOT, |id, name| {
            self.nodes.get(&id)?.children.get(&name).copied()
        })
    }

    /// The node of `path`, made with all above it where it is missing.
    fn make(&mut self, path: &RelPath) -> u64 {
        let mut id = ROOT;
        for name in path.names() {
            let known = self
                .nodes
                .get(&id)
                .and_then(|node| node.children.get(&name).copied());
            id = known.unwrap_or_else(|| self.add(id, name));
        }
        id
    }

    fn add(&mut self, parent: u64, name: Name) -> u64 {
        let id = self.next;
        self.next += 1;
        let node = Node {
            wd: None,
            parent,
            name: Some(name.clone()),
            children: BTreeMap::new(),
        };
        self.nodes.insert(id, node);
        self.link(parent, name, id);
        id
    }

    fn link(&mut self, parent: u64, name: Name, id: u64) {
        let parent = self
            .nodes
            .get_mut(&parent)
            .expect("parents outlive their children");
        parent.children.insert(name, id);
    }

    /// Moves node `id` to `name` in `dir`.
    fn settle(&mut self, id: u64, dir: &RelPath, name: Name) -> Vec<i32> {
        let parent = self.make(dir);
        let there = self
            .nodes
            .get(&parent)
            .and_then(|node| node.children.get(&name).copied());
        if there == Some(id) || self.is_within(parent, id) {
            return Vec::new();
        }
        let given_up = there.map_or_else(Vec::new, |other| self.cut_but(other, id));
        self.unlink(id);
        let node = self.nodes.get_mut(&id).expect("the caller has found it");
        (node.parent, node.name) = (parent, Some(name.clone()));
        self.link(parent, name, id);
        given_up
    }

    /// Whether `id` is `top` or below it.
    fn is_within(&self, mut id: u64, top: u64) -> bool {
        while id != ROOT {
            if id == top {
                return true;
            }
            id = self.nodes.get(&id).map_or(ROOT, |node| node.parent);
        }
        top == ROOT
    }

    fn unlink(&mut self, id: u64) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let (parent, Some(name)) = (node.parent, node.name.clone()) else {
            return;
        };
        if let Some(parent) = self.nodes.get_mut(&parent)
            && parent.children.get(&name) == Some(&id)
        {
            parent.children.remove(&name);
        }
    }

    fn cut(&mut self, id: u64) -> Vec<i32> {
        self.cut_but(id, ROOT)
    }

    /// Removes `id` and all below it, except the branch at `keep`, whose caller moves it.
    fn cut_but(&mut self, id: u64, keep: u64) -> Vec<i32> {
        let mut given_up = Vec::new();
        if id != ROOT {
            self.unlink(id);
        }
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if id == keep && keep != ROOT {
                continue;
            }
            let children = match self.nodes.get_mut(&id) {
                Some(node) => {
                    if let Some(wd) = node.wd.take() {
                        self.by_wd.remove(&wd);
                        given_up.push(wd);
                    }
                    std::mem::take(&mut node.children)
                }
                None => continue,
            };
            stack.extend(children.into_values());
            if id != ROOT {
                self.nodes.remove(&id);
            }
        }
        given_up
    }

    /// Removes nodes without a watch and without children, from `id` upwards.
    fn prune(&mut self, mut id: u64) {
        while id != ROOT {
            let Some(node) = self.nodes.get(&id) else {
                return;
            };
            if node.wd.is_some() || !node.children.is_empty() {
                return;
            }
            let parent = node.parent;
            self.unlink(id);
            self.nodes.remove(&id);
            id = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).expect("a good path")
    }

    fn watches(list: &[(i32, &str)]) -> Watches {
        let mut watches = Watches::new();
        for (wd, at) in list {
            assert!(watches.put(*wd, &path(at)).is_empty());
        }
        watches
    }

    /// Both halves of a rename.
    fn rename(w: &mut Watches, from: &str, to: &str) -> Vec<i32> {
        let detached = w.detach(&path(from)).expect("known");
        let mut given_up = w.attach(detached, &path(to));
        given_up.sort_unstable();
        given_up
    }

    #[test]
    fn a_rename_takes_everything_below_along() {
        let mut w = watches(&[(1, ""), (2, "a"), (3, "a/b"), (4, "a/b/c"), (5, "z")]);
        assert_eq!(rename(&mut w, "a/b", "z/y"), [0; 0]);
        assert_eq!(w.path(4), Some(path("z/y/c")));
        assert_eq!(w.path(3), Some(path("z/y")));
        assert_eq!(w.path(2), Some(path("a")));
        assert_eq!(w.detach(&path("nothing")), None);
        assert_eq!(w.detach(&RelPath::root()), None);
        assert_eq!(w.by_wd.len(), 5);
    }

    #[test]
    fn a_rename_over_a_known_directory_forgets_both() {
        let mut w = watches(&[(1, ""), (2, "a"), (3, "b"), (4, "b/c"), (5, "a/d")]);
        assert_eq!(rename(&mut w, "a", "b"), [2, 3, 4, 5]);
        assert_eq!(w.nodes.len(), 1);
    }

    #[test]
    fn a_directory_that_leaves_does_not_take_a_new_one_of_its_name_along() {
        let mut w = watches(&[(1, ""), (2, "a"), (3, "a/b")]);
        let detached = w.detach(&path("a")).expect("known");
        assert_eq!(
            (w.path(2), w.path(3)),
            (None, None),
            "nobody knows where it is"
        );
        assert!(w.put(7, &path("a")).is_empty());
        let mut given_up = w.abandon(detached);
        given_up.sort_unstable();
        assert_eq!(given_up, [2, 3]);
        assert_eq!(w.path(7), Some(path("a")));
    }

    #[test]
    fn a_directory_on_its_way_may_be_found_before_it_is_told_of() {
        let mut w = watches(&[(1, ""), (2, "a"), (3, "a/b")]);
        let detached = w.detach(&path("a")).expect("known");
        assert!(w.put(2, &path("z")).is_empty());
        assert_eq!(w.path(3), Some(path("z/b")));
        assert!(w.attach(detached, &path("z")).is_empty());
        assert_eq!(w.path(3), Some(path("z/b")));
    }

    #[test]
    fn a_watch_found_at_another_place_has_moved() {
        let mut w = watches(&[(1, ""), (2, "a"), (3, "a/b")]);
        assert!(w.put(2, &path("c")).is_empty());
        assert_eq!(w.path(3), Some(path("c/b")));
        assert!(
            w.put(7, &path("c")).contains(&2),
            "a new directory at an old name"
        );
        assert_eq!(w.path(7), Some(path("c")));
    }

    #[test]
    fn impossible_moves_change_nothing() {
        let mut w = watches(&[(1, ""), (2, "a"), (3, "a/b")]);
        w.put(3, &path("a"));
        assert_eq!(
            w.path(3),
            Some(path("a")),
            "the child took its parent's place"
        );
        assert_eq!(w.path(2), None);
        w.put(1, &path("a"));
        assert_eq!(w.path(1), Some(RelPath::root()));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut w = watches(&[(1, ""), (2, "a"), (3, "a/b"), (4, "a/b/c")]);
        assert_eq!(
            w.children(&path("a")),
            path("b").names().collect::<Vec<_>>()
        );
        w.forget(4);
        assert_eq!(w.path(4), None);
        let mut given_up = w.remove(&path("a"));
        given_up.sort_unstable();
        assert_eq!(given_up, [2, 3]);
        assert_eq!(w.by_wd.len(), 1);
        assert_eq!(w.nodes.len(), 1);
    }
}
