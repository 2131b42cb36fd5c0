//! What programs do for users, in one moment: several steps of which the watcher reports each, and
//! no look falls between them.

use ahoy_wire::sync::{Name, RelPath};

use super::World;
use crate::disk::Kind;

impl World {
    /// One thing that takes many steps.
    pub(super) fn busy_deed(&mut self, machine: usize, old: &RelPath, fresh: &RelPath) {
        match self.dice.below(6) {
            0 => self.save_with_backup(machine, old),
            1 => self.copy_tree(machine, old, fresh),
            2 => self.put_another_kind(machine, old),
            3 => self.turn_inside_out(machine, old, fresh),
            4 => {
                // Emptied first, then written, as by a shell.
                self.empty(machine, old);
                self.write(machine, old);
            }
            _ => {
                self.note(machine, "user", || format!("touches {old:?}"));
                self.machines[machine].disk.touch(old);
                self.watch(machine, old);
            }
        }
    }

    fn is_dir(&self, machine: usize, path: &RelPath) -> bool {
        let tree = self.machines[machine].disk.tree();
        matches!(tree.get(path), Some((Kind::Dir(_), _)))
    }

    /// The old file gets another name, the new one its name.
    fn save_with_backup(&mut self, machine: usize, path: &RelPath) {
        let backup = path.split().and_then(|(dir, name)| {
            let name = Name::new(&[name.as_bytes(), b"~"].concat()).ok()?;
            dir.join(&name)
        });
        if let Some(backup) = backup.filter(|_| !self.is_dir(machine, path)) {
            self.rename(machine, path, &backup);
            self.write(machine, path);
        }
    }

    /// Nothing that was there is replaced.
    fn copy_tree(&mut self, machine: usize, from: &RelPath, to: &RelPath) {
        let inside = [from.as_bytes(), b"/"].concat();
        let tree = self.machines[machine].disk.tree();
        if tree.contains_key(to) || [to.as_bytes(), b"/"].concat().starts_with(&inside) {
            return;
        }
        self.note(machine, "user", || format!("copies {from:?} to {to:?}"));
        for (path, (kind, _)) in tree {
            let rest = match path.as_bytes().strip_prefix(from.as_bytes()) {
                Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest,
                Some(_) | None => continue,
            };
            let Ok(at) = RelPath::parse(&[to.as_bytes(), rest].concat()) else {
                continue;
            };
            let disk = &mut self.machines[machine].disk;
            match kind {
                Kind::Dir(_) => disk.mkdir(&at),
                Kind::File(content) => disk.write(&at, content, false),
                Kind::Link(target) => disk.symlink(&at, target),
            };
            self.watch(machine, &at);
        }
    }

    /// A file where a directory was, or a directory where a file was.
    fn put_another_kind(&mut self, machine: usize, path: &RelPath) {
        let was_dir = self.is_dir(machine, path);
        self.note(machine, "user", || format!("removes {path:?}"));
        self.remove_at(machine, path);
        if was_dir {
            self.write(machine, path);
        } else if self.machines[machine].disk.mkdir(path) {
            self.note(machine, "user", || format!("makes {path:?}"));
            self.watch(machine, path);
        }
    }

    /// What is in a directory comes out of it, and the directory goes into that.
    fn turn_inside_out(&mut self, machine: usize, inner: &RelPath, fresh: &RelPath) {
        let Some((outer, name)) = inner.split().filter(|(outer, _)| !outer.is_root()) else {
            return;
        };
        if self.is_dir(machine, inner)
            && !fresh.as_bytes().starts_with(outer.as_bytes())
            && let Some(inside) = fresh.join(&name)
        {
            self.rename(machine, inner, fresh);
            self.rename(machine, &outer, &inside);
        }
    }

    fn empty(&mut self, machine: usize, path: &RelPath) {
        let lost = self.machines[machine].disk.contents_below(path);
        let empty = crate::disk::Content::EMPTY;
        if self.machines[machine].disk.write(path, empty, true) {
            self.give_up(machine, lost);
            self.watch(machine, path);
        }
    }
}
