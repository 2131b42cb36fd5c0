//! The users: they write, rename, swap and delete, whether or not ahoy runs.

use ahoy_logic::sync::Rights;
use ahoy_wire::sync::{Name, RelPath, Target};

use super::World;
use crate::disk::{Content, Kind};

impl World {
    pub(super) fn paths(&self, machine: usize) -> Vec<RelPath> {
        self.machines[machine].disk.tree().into_keys().collect()
    }

    fn fresh_path(&mut self, machine: usize) -> RelPath {
        let mut dirs = vec![RelPath::root()];
        let tree = self.machines[machine].disk.tree();
        let is_dir = |kind: &Kind| matches!(kind, Kind::Dir(_));
        dirs.extend(
            tree.iter()
                .filter(|(_, (kind, _))| is_dir(kind))
                .map(|(p, _)| p.clone()),
        );
        let dir = self.dice.pick(&dirs).unwrap_or_default();
        let letter = b'a' + self.dice.below(5) as u8;
        let name = Name::new(&[letter]).expect("a letter is a name");
        dir.join(&name).unwrap_or_default()
    }

    /// Something new; in a wild run also nothing at all, or what another file has.
    fn some_content(&mut self, machine: usize) -> Content {
        if self.weather.is_wild {
            match self.dice.below(10) {
                0 => return Content::EMPTY,
                1 => {
                    let there = self.machines[machine].disk.contents_below(&RelPath::root());
                    if let Some(content) = self.dice.pick(&there) {
                        return content;
                    }
                }
                _ => {}
            }
        }
        let token = self.tokens + 1;
        let sizes = [16, 40, 100_000, 5_000_000];
        let size = self.dice.pick(&sizes).unwrap_or(16);
        Content { token, size }
    }

    pub(super) fn remove_at(&mut self, machine: usize, path: &RelPath) {
        let lost = self.machines[machine].disk.contents_below(path);
        if self.machines[machine].disk.remove(path) {
            self.give_up(machine, lost);
            self.watch(machine, path);
        }
    }

    /// A user no longer wants these. What a reader's user does counts only for what is his, and for
    /// what no writer has had any more since one of them was put back from a backup: of that he has
    /// removed the last copy there was, and ahoy had nothing to do with it.
    pub(super) fn give_up(&mut self, machine: usize, contents: Vec<Content>) {
        let is_reader = self.machines[machine].rights == Rights::Reader;
        for content in contents {
            let is_his = !is_reader || self.written.get(&content) == Some(&machine);
            let was_last = self.with_readers.contains(&content) && !self.is_somewhere(content);
            if is_his || was_last {
                self.given_up.extend([content, content.sound()]);
            }
        }
    }

    /// One thing that a user does on a machine, whether or not ahoy runs there.
    pub(super) fn deed(&mut self, machine: usize) {
        let paths = self.paths(machine);
        let old = self.dice.pick(&paths);
        let fresh = self.fresh_path(machine);
        let busy = self.weather.busy_percent;
        if busy > 0 && self.dice.chance(busy) {
            if let Some(old) = old {
                self.busy_deed(machine, &old, &fresh);
            }
            return;
        }
        let deed = self.dice.below(100);
        match (deed, old) {
            (0..35, _) => self.write(machine, &fresh),
            (35..50, _) => {
                if self.machines[machine].disk.mkdir(&fresh) {
                    self.note(machine, "user", || format!("makes {fresh:?}"));
                    self.watch(machine, &fresh);
                }
            }
            (50..75, Some(old)) => self.rename(machine, &old, &fresh),
            (75..88, Some(old)) => {
                self.note(machine, "user", || format!("removes {old:?}"));
                self.remove_at(machine, &old);
            }
            (88..94, Some(old)) => {
                let mode = 0o600 + self.dice.below(0o100) as u16;
                self.machines[machine].disk.chmod(&old, mode);
                self.note(machine, "user", || format!("sets {old:?} to {mode:o}"));
                self.watch(machine, &old);
            }
            (94..97, _) => {
                let target = Target::new(b"../there").expect("a good target");
                if self.machines[machine].disk.symlink(&fresh, target) {
                    self.note(machine, "user", || format!("links {fresh:?}"));
                    self.watch(machine, &fresh);
                }
            }
            (_, Some(old)) => {
                if let Some(other) = self.dice.pick(&paths) {
                    self.swap(machine, old, other);
                }
            }
            (_, None) => {}
        }
    }

    pub(super) fn write(&mut self, machine: usize, path: &RelPath) {
        let lost = self.machines[machine].disk.contents_below(path);
        let content = self.some_content(machine);
        let in_place = self.dice.chance(50);
        if !self.machines[machine].disk.write(path, content, in_place) {
            return;
        }
        if content.is_sound() && content.token > self.tokens {
            self.tokens = content.token;
            self.written.insert(content, machine);
            self.hashes.insert(content.hash(), content);
        }
        self.note(machine, "user", || {
            let how = if in_place { "in place" } else { "anew" };
            format!("writes {path:?} {how}: {content:?}")
        });
        self.give_up(machine, lost);
        self.watch(machine, path);
    }

    pub(super) fn rename(&mut self, machine: usize, old: &RelPath, fresh: &RelPath) {
        let there = self.machines[machine].disk.contents_below(fresh);
        self.rot_moves(machine, old);
        if self.machines[machine].disk.rename(old, fresh) {
            self.note(machine, "user", || format!("renames {old:?} {fresh:?}"));
            self.give_up(machine, there);
            self.watch(machine, old);
            self.watch(machine, fresh);
        }
    }

    /// Two names are swapped.
    fn swap(&mut self, machine: usize, old: RelPath, other: RelPath) {
        let spare = RelPath::parse(b"spare").expect("a good path");
        // A power failure in the midst of an earlier one can have left something there.
        let lost = self.machines[machine].disk.contents_below(&spare);
        for path in [&old, &other] {
            self.rot_moves(machine, path);
        }
        let disk = &mut self.machines[machine].disk;
        let is_moved = disk.rename(&old, &spare);
        if is_moved {
            let back = if disk.rename(&other, &old) {
                &other
            } else {
                &old
            };
            disk.rename(&spare, back);
        }
        self.note(machine, "user", || format!("swaps {old:?} {other:?}"));
        if is_moved {
            self.give_up(machine, lost);
        }
        for path in [old, other, spare] {
            self.watch(machine, &path);
        }
    }
}
