//! The judge: whether a run ended as it should.

use std::collections::BTreeSet;

use ahoy_logic::sync::{Engine, Rights, State};

use super::World;
use super::rules::Folder;
use crate::disk::{Content, Kind};
use crate::story::Failure;

impl World {
    /// Whether some machine has this content on its disk.
    pub(super) fn is_somewhere(&self, content: Content) -> bool {
        let mut disks = self.machines.iter().map(|machine| &machine.disk);
        content == Content::EMPTY || disks.any(|disk| disk.contents().contains(&content))
    }

    pub(super) fn judge(&self) -> Result<(), Box<Failure>> {
        for (index, machine) in self.machines.iter().enumerate() {
            let progress = machine.engine.as_ref().map(Engine::progress);
            let done = progress.as_ref().is_some_and(|p| {
                (p.nodes_left == 0 && p.state == State::Running) || p.state == State::Emptied
            });
            // What a reader made itself may be in the way of a deletion for ever.
            if !done && machine.rights == Rights::Writer {
                return Err(self.fault(&format!("machine {index} is not done: {progress:?}")));
            }
            if !machine.disk.parked().is_empty() {
                return Err(self.fault(&format!("machine {index} left something parked")));
            }
        }
        let differ = |what: &str, index: usize| {
            let what = format!("{what} 0 and {index} differ");
            Err(self.fault(&what))
        };
        let first = &self.machines[0].disk;
        let (tree, mtimes) = self.shared(0)?;
        for index in self.writers() {
            let shared = self.shared(index)?;
            if shared.0 != tree {
                return differ("machines", index);
            }
            if shared.1 != mtimes {
                return differ("mtimes of", index);
            }
        }
        let here = first.contents();
        for content in &here {
            match self.written.get(content) {
                _ if *content == Content::EMPTY => {}
                None => return Err(self.fault(&format!("{content:?} was never written"))),
                Some(machine) if self.machines[*machine].rights == Rights::Reader => {
                    return Err(self.fault(&format!("{content:?} was written by a reader")));
                }
                Some(_) => {}
            }
        }
        let readers = self
            .machines
            .iter()
            .filter(|it| it.rights == Rights::Reader);
        let kept: BTreeSet<Content> = readers.flat_map(|it| it.disk.contents()).collect();
        let left_out = self.left_out();
        for (content, machine) in &self.written {
            let is_readers = self.machines[*machine].rights == Rights::Reader;
            // What a writer has lost with its disk only a reader may have. It keeps that, but no
            // writer has signed what was merged with a later version, and it cannot send it.
            let may_readers = is_readers || self.is_any_put_back;
            let is_kept = (may_readers && kept.contains(content)) || left_out.contains(content);
            let is_here = here.contains(content) || is_kept;
            if !is_here && !self.given_up.contains(content) {
                return Err(self.fault(&format!("{content:?} is lost")));
            }
        }
        self.judge_readers(&tree)
    }

    /// A reader that is done has all that the writers have, and may have more. One that is not has
    /// something of its own in a directory that the others have deleted.
    fn judge_readers(&self, all: &Folder) -> Result<(), Box<Failure>> {
        for (index, machine) in self.machines.iter().enumerate() {
            let progress = machine.engine.as_ref().map(Engine::progress);
            let is_done = progress.is_some_and(|progress| progress.nodes_left == 0);
            if machine.rights == Rights::Writer || !is_done {
                continue;
            }
            let tree = machine.disk.tree();
            if let Some((path, _)) = all.iter().find(|(path, it)| tree.get(path) != Some(it)) {
                return Err(self.fault(&format!("reader {index} has another {path:?}")));
            }
        }
        Ok(())
    }

    /// How things stand, for people.
    pub(super) fn state(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, machine) in self.machines.iter().enumerate() {
            let entries = machine.disk.tree().into_iter();
            lines.extend(entries.map(|(path, (kind, mode))| {
                let what = match kind {
                    Kind::Dir(_) => "directory".to_owned(),
                    Kind::File(content) => format!("#{} ({} bytes)", content.token, content.size),
                    Kind::Link(target) => format!("{target:?}"),
                };
                format!("m{index:<2} {mode:o} {path:?} {what}")
            }));
            let reasons = machine.engine.as_ref().map(Engine::reasons);
            let reasons = reasons.unwrap_or_default().into_iter();
            lines.extend(reasons.map(|reason| format!("m{index:<2} {reason}")));
        }
        lines
    }
}
