//! What machines leave out of the share: their rules, and what the judge makes of it.

use std::collections::{BTreeMap, BTreeSet};

use ahoy_logic::sync::tree::{Goal, Tree};
use ahoy_logic::sync::{Act, Engine, Found, Input, Rules, Sighting};
use ahoy_wire::sync::{Name, NodeId, Record, RelPath};

use super::{HEAL, World};
use crate::disk::{Content, Kind};
use crate::story::Failure;

/// Every path with what is there and its mode.
pub(super) type Folder = BTreeMap<RelPath, (Kind, u16)>;

/// What a path is to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Shared,
    /// A deleted directory that stays for what is left out in it.
    Husk,
    LeftOut,
    /// It should be shared, and the machine does not know it.
    Unknown,
}

impl World {
    /// At a start, before anything is looked at.
    pub(super) fn tell_rules(&mut self, machine: usize) {
        if self.weather.rules.is_empty() {
            return;
        }
        if self.weather.same_rules {
            self.machines[machine].rules = self.rules();
        }
        let rules = self.machines[machine].rules.clone();
        self.turn(machine, Input::Rules(rules));
    }

    fn rules(&self) -> Rules {
        Rules::parse(self.weather.rules.as_bytes()).0
    }

    pub(super) fn change_rules(&mut self, machine: usize) {
        let is_ruled = !self.machines[machine].rules.is_empty();
        let rules = if is_ruled {
            Rules::default()
        } else {
            self.rules()
        };
        self.note(machine, "rules", || format!("now {rules:?}"));
        self.machines[machine].rules = rules.clone();
        if self.machines[machine].engine.is_some() {
            self.report(machine, Input::Rules(rules));
            self.scan_soon(machine);
        }
    }

    /// Whether a directory that was to be removed holds only what is left out.
    pub(super) fn holds_nothing_shared(&self, machine: usize, act: &Act) -> bool {
        let Act::Remove { at, expect } = act else {
            return false;
        };
        let it = &self.machines[machine];
        let there = it.disk.print_at(at);
        if !there.is_some_and(|there| there.same_file(expect)) {
            return false;
        }
        let listed = it.disk.list(at).unwrap_or_default();
        let is_out = |sighting: &Sighting| {
            let path = at.join(&sighting.name);
            let is_dir = matches!(sighting.found, Found::Dir(_));
            path.is_some_and(|path| it.rules.ignores(&path, is_dir))
        };
        !listed.is_empty() && listed.iter().all(is_out)
    }

    /// Where all machines always had the same rules, nobody has ever heard of what they leave out.
    pub(super) fn examine_name(&mut self, machine: usize, record: &Record) {
        let weather = &self.weather;
        let is_alive = !record.body.value.is_gone();
        if weather.rules.is_empty() || !weather.same_rules || !is_alive {
            return;
        }
        let name = &record.place.name;
        let at = RelPath::root().join(name).unwrap_or_default();
        if self.machines[machine].rules.ignores(&at, false) {
            let name = name.clone();
            self.wrong(|| format!("m{machine} tells of {name:?}, which all leave out"));
        }
    }

    /// What a machine has of the share on its disk, with the mtimes of what is no directory.
    ///
    /// # Errors
    /// There is something that should be shared and is not known.
    pub(super) fn shared(
        &self,
        machine: usize,
    ) -> Result<(Folder, BTreeMap<RelPath, i64>), Box<Failure>> {
        let disk = &self.machines[machine].disk;
        let (mut tree, mut mtimes) = (disk.tree(), disk.mtimes());
        if self.weather.rules.is_empty() {
            return Ok((tree, mtimes));
        }
        let standings = self.standings(machine);
        if let Some((path, _)) = standings.iter().find(|it| *it.1 == Standing::Unknown) {
            return Err(self.fault(&format!("machine {machine} does not know {path:?}")));
        }
        let is_shared = |path: &RelPath| standings.get(path) == Some(&Standing::Shared);
        tree.retain(|path, _| is_shared(path));
        mtimes.retain(|path, _| is_shared(path));
        Ok((tree, mtimes))
    }

    fn standings(&self, machine: usize) -> BTreeMap<RelPath, Standing> {
        let it = &self.machines[machine];
        let tree = it.engine.as_ref().map(Engine::tree);
        let node = |path: &RelPath| known(tree?, path);
        let standing = |path: &RelPath, kind: &Kind| {
            let is_dir = matches!(kind, Kind::Dir(_));
            match node(path) {
                Some(id) if tree.is_some_and(|tree| tree.goal(id) != Goal::Absent) => {
                    Standing::Shared
                }
                Some(_) if is_dir => Standing::Husk,
                Some(_) | None if it.rules.ignores(path, is_dir) => Standing::LeftOut,
                Some(_) | None => Standing::Unknown,
            }
        };
        let all = it.disk.tree().into_iter();
        all.map(|(path, (kind, _))| {
            let standing = standing(&path, &kind);
            (path, standing)
        })
        .collect()
    }

    /// Contents that some machine keeps out of the share.
    pub(super) fn left_out(&self) -> BTreeSet<Content> {
        let mut contents = BTreeSet::new();
        if self.weather.rules.is_empty() {
            return contents;
        }
        for (index, machine) in self.machines.iter().enumerate() {
            for (path, standing) in self.standings(index) {
                if standing == Standing::LeftOut {
                    contents.extend(machine.disk.contents_below(&path));
                }
            }
        }
        contents
    }

    /// Users whose machine waits because a deleted directory is in the way, which stays for what
    /// is left out in it, take that away. Then it may be another machine's turn.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn clear_husks(&mut self) -> Result<(), Box<Failure>> {
        if self.weather.rules.is_empty() {
            return Ok(());
        }
        for _ in 0..self.machines.len() {
            for machine in 0..self.machines.len() {
                self.clear_husks_of(machine);
            }
            self.pass_until(self.now + HEAL)?;
        }
        Ok(())
    }

    fn clear_husks_of(&mut self, machine: usize) {
        let progress = self.machines[machine].engine.as_ref().map(Engine::progress);
        if progress.is_none_or(|progress| progress.nodes_left == 0) {
            return;
        }
        let standings = self.standings(machine).into_iter();
        let husks = standings.filter(|it| it.1 == Standing::Husk);
        for (path, _) in husks.collect::<Vec<_>>() {
            self.note(machine, "user", || format!("clears {path:?}"));
            self.remove_at(machine, &path);
        }
    }
}

/// The node that is at this path on the disk.
fn known(tree: &Tree, path: &RelPath) -> Option<NodeId> {
    let (dir, name): (RelPath, Name) = path.split()?;
    tree.on_disk(tree.resolve(&dir)?, &name)
}
