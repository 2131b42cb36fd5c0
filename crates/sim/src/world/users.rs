//! The users.

use super::*;

impl World {
    pub(super) fn paths(&self, machine: usize) -> Vec<RelPath> {
        self.machines[machine].disk.tree().into_keys().collect()
    }

    pub(super) fn fresh_path(&mut self, machine: usize) -> RelPath {
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

    pub(super) fn new_content(&mut self) -> Content {
        let token = self.written.len() as u64 + 1;
        let sizes = [16, 40, 100_000, 5_000_000];
        let size = self.dice.pick(&sizes).unwrap_or(16);
        let content = Content { token, size };
        self.written.push(content);
        content
    }

    pub(super) fn remove_at(&mut self, machine: usize, path: &RelPath) {
        let lost = self.machines[machine].disk.contents_below(path);
        if self.machines[machine].disk.remove(path) {
            self.given_up.extend(lost);
            self.watch(machine, path);
        }
    }

    /// One thing that a user does on a machine, whether or not ahoy runs there.
    pub(super) fn deed(&mut self, machine: usize) {
        let paths = self.paths(machine);
        let old = self.dice.pick(&paths);
        let fresh = self.fresh_path(machine);
        let deed = self.dice.below(100);
        match (deed, old) {
            (0..35, _) => {
                let lost = self.machines[machine].disk.contents_below(&fresh);
                let content = self.new_content();
                let in_place = self.dice.chance(50);
                if self.machines[machine].disk.write(&fresh, content, in_place) {
                    self.note(|| format!("m{machine}: user writes {fresh:?} {content:?}"));
                    self.given_up.extend(lost);
                    self.watch(machine, &fresh);
                } else {
                    self.written.pop();
                }
            }
            (35..50, _) => {
                if self.machines[machine].disk.mkdir(&fresh) {
                    self.note(|| format!("m{machine}: user makes {fresh:?}"));
                    self.watch(machine, &fresh);
                }
            }
            (50..75, Some(old)) => {
                let there = self.machines[machine].disk.contents_below(&fresh);
                if self.machines[machine].disk.rename(&old, &fresh) {
                    self.note(|| format!("m{machine}: user renames {old:?} {fresh:?}"));
                    self.given_up.extend(there);
                    self.watch(machine, &old);
                    self.watch(machine, &fresh);
                }
            }
            (75..88, Some(old)) => {
                self.note(|| format!("m{machine}: user removes {old:?}"));
                self.remove_at(machine, &old);
            }
            (88..94, Some(old)) => {
                let mode = 0o600 + self.dice.below(0o100) as u16;
                self.machines[machine].disk.chmod(&old, mode);
                self.note(|| format!("m{machine}: user sets {old:?} to {mode:o}"));
                self.watch(machine, &old);
            }
            (94..97, _) => {
                let target = ahoy_wire::sync::Target::new(b"../there").expect("a good target");
                if self.machines[machine].disk.symlink(&fresh, target) {
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

    /// Two names are swapped.
    pub(super) fn swap(&mut self, machine: usize, old: RelPath, other: RelPath) {
        let spare = RelPath::parse(b"spare").expect("a good path");
        let disk = &mut self.machines[machine].disk;
        if disk.rename(&old, &spare) {
            let back = if disk.rename(&other, &old) {
                &other
            } else {
                &old
            };
            disk.rename(&spare, back);
        }
        self.note(|| format!("m{machine}: user swaps {old:?} {other:?}"));
        for path in [old, other, spare] {
            self.watch(machine, &path);
        }
    }
}
