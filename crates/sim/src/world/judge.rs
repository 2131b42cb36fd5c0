//! The judge: whether a run ended as it should.

use super::*;

impl World {
    pub(super) fn judge(&self) -> Result<(), String> {
        for (index, machine) in self.machines.iter().enumerate() {
            let progress = machine.engine.as_ref().map(Engine::progress);
            let done = progress.as_ref().is_some_and(|p| {
                (p.nodes_left == 0 && p.state == State::Running) || p.state == State::Emptied
            });
            if !done {
                return Err(self.fault(&format!("machine {index} is not done: {progress:?}")));
            }
        }
        let first = &self.machines[0].disk;
        for (index, machine) in self.machines.iter().enumerate() {
            if machine.disk.tree() != first.tree() {
                return Err(self.fault(&format!("machines 0 and {index} differ")));
            }
            if machine.disk.mtimes() != first.mtimes() {
                return Err(self.fault(&format!("mtimes of 0 and {index} differ")));
            }
            if !machine.disk.parked().is_empty() {
                return Err(self.fault(&format!("machine {index} left something parked")));
            }
        }
        let here = first.contents_below(&RelPath::root());
        let here: Vec<Content> = if here.is_empty() {
            self.all_contents(first)
        } else {
            here
        };
        for content in &here {
            if !self.written.contains(content) {
                return Err(self.fault(&format!("{content:?} was never written")));
            }
        }
        for content in &self.written {
            if !here.contains(content) && !self.given_up.contains(content) {
                return Err(self.fault(&format!("{content:?} is lost")));
            }
        }
        Ok(())
    }

    pub(super) fn all_contents(&self, disk: &Disk) -> Vec<Content> {
        disk.tree()
            .into_values()
            .filter_map(|(kind, _)| match kind {
                Kind::File(content) => Some(content),
                Kind::Dir(_) | Kind::Link(_) => None,
            })
            .collect()
    }
}

pub(super) fn brief(disk: &Disk) -> Vec<String> {
    let line = |(path, (kind, mode)): (RelPath, (Kind, u16))| match kind {
        Kind::Dir(_) => format!("{path:?}/ {mode:o}"),
        Kind::File(content) => format!("{path:?} #{} {mode:o}", content.token),
        Kind::Link(target) => format!("{path:?} {target:?}"),
    };
    disk.tree().into_iter().map(line).collect()
}
