//! What a machine does to its disk, and where it takes the bytes from.

use super::*;

impl World {
    pub(super) fn step(&mut self, machine: usize, step: Step) {
        let content = match &step.act {
            Act::Write {
                source: Source::Here(bytes),
                ..
            } if bytes.is_empty() => Ok(Some(Content { token: 0, size: 0 })),
            Act::Write {
                source: Source::Here(bytes),
                ..
            } => Ok(Content::of_bytes(bytes)),
            Act::Write {
                source: Source::Local { from, expect },
                ..
            } => {
                let found = self.machines[machine].disk.read(from, expect);
                found.map(Some).ok_or(Trouble::Changed)
            }
            Act::Write {
                source: Source::Peer { link, .. },
                hash,
                ..
            } => self
                .fetch(*link, step.node, *hash)
                .map(Some)
                .ok_or(Trouble::NoSource),
            Act::MakeDir { .. }
            | Act::MakeLink { .. }
            | Act::SetMeta { .. }
            | Act::Move { .. }
            | Act::Remove { .. }
            | Act::Park { .. }
            | Act::Unpark { .. } => Ok(None),
        };
        let disk = &mut self.machines[machine].disk;
        let result = content.and_then(|content| disk.act(step.node, &step.act, content));
        self.note(|| format!("m{machine} did {:?} {:?}: {result:?}", step.job, step.node));
        let paths: Vec<RelPath> = match &step.act {
            Act::Move { from, to, .. } => vec![from.clone(), to.clone()],
            Act::MakeDir { at, .. }
            | Act::MakeLink { at, .. }
            | Act::Write { at, .. }
            | Act::SetMeta { at, .. }
            | Act::Remove { at, .. }
            | Act::Park { at, .. } => vec![at.clone()],
            Act::Unpark { to } => vec![to.clone()],
        };
        for path in paths {
            self.watch(machine, &path);
        }
        let run = self.machines[machine].run;
        let input = Input::Finished(vec![Outcome {
            job: step.job,
            result,
        }]);
        self.soon(
            60,
            Event::Give {
                machine,
                run,
                input,
            },
        );
    }

    pub(super) fn fetch(
        &self,
        link: LinkId,
        node: ahoy_wire::sync::NodeId,
        hash: ahoy_wire::sync::Hash,
    ) -> Option<Content> {
        let link = self
            .links
            .iter()
            .find(|l| l.ids.contains(&link) && l.is_up)
            .map(|l| {
                let from = usize::from(l.ids[0] == link);
                l.ends[from]
            })?;
        let peer = &self.machines[link];
        let (path, print) = peer.engine.as_ref()?.locate(node, hash)?;
        peer.disk.read(&path, &print)
    }
}
