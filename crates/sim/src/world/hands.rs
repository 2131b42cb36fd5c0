//! What a machine does to its disk, and where it takes the bytes from.

use ahoy_logic::sync::{Act, Input, LinkId, Outcome, Print, Rights, Source, Step, Trouble};
use ahoy_wire::sync::{Hash, NodeId, RelPath};

use super::World;
use crate::Flaw;
use crate::disk::Content;

impl World {
    pub(super) fn step(&mut self, machine: usize, step: Step) {
        let result = match self.obstacle(machine, &step.act) {
            Some(trouble) => Err(trouble),
            None => self.act(machine, &step),
        };
        self.note(machine, "did", || {
            format!("{:?} {:?}: {result:?}", step.job, step.node)
        });
        for path in paths(&step.act) {
            self.watch(machine, &path);
        }
        let job = step.job;
        let outcome = Outcome { job, result };
        self.answer(machine, 60, Input::Finished(vec![outcome]));
    }

    /// Why a step fails that could succeed.
    fn obstacle(&mut self, machine: usize, act: &Act) -> Option<Trouble> {
        let it = &self.machines[machine];
        if it.is_away {
            return Some(Trouble::Refused("the root is away".into()));
        }
        let needs_room = matches!(
            act,
            Act::Write { .. } | Act::MakeDir { .. } | Act::MakeLink { .. }
        );
        if needs_room && self.now < it.full_until {
            return Some(Trouble::Full);
        }
        let percent = self.weather.error_percent;
        if percent == 0 || !self.dice.chance(percent) {
            return None;
        }
        let troubles = [
            Trouble::Refused("an imagined error".into()),
            Trouble::InUse,
            Trouble::Full,
            Trouble::NoSource,
        ];
        let any = self.dice.pick(&troubles);
        any.filter(|trouble| *trouble != Trouble::NoSource || matches!(act, Act::Write { .. }))
    }

    fn act(&mut self, machine: usize, step: &Step) -> Result<Option<Print>, Trouble> {
        let content = self.content(machine, step)?;
        let disk = &self.machines[machine].disk;
        if !step.is_within(|dir| disk.print_at(dir)) {
            return Err(Trouble::Changed);
        }
        let at_risk = paths(&step.act)
            .iter()
            .flat_map(|path| self.machines[machine].disk.contents_below(path))
            .collect::<Vec<_>>();
        let is_wet = self.flaw == Some(Flaw::ContentNotSynced);
        let disk = &mut self.machines[machine].disk;
        let mut result = disk.act(step.node, &step.act, content, is_wet);
        if result == Err(Trouble::Changed) && self.holds_nothing_shared(machine, &step.act) {
            result = Err(Trouble::Inhabited);
        }
        if result.is_ok() {
            if self.weather.is_wild && self.dice.chance(50) {
                self.machines[machine].unsynced = true;
            } else {
                self.machines[machine].disk.sync_names();
            }
        }
        for content in at_risk {
            if !self.given_up.contains(&content) && !self.is_somewhere(content) {
                self.wrong(|| format!("{content:?} is lost by {:?}", step.act));
            }
        }
        result
    }

    /// What a write is to put there: nothing for all other steps.
    fn content(&mut self, machine: usize, step: &Step) -> Result<Option<Content>, Trouble> {
        let Act::Write { source, hash, .. } = &step.act else {
            return Ok(None);
        };
        let content = match source {
            Source::Here(bytes) => Content::of_bytes(bytes).ok_or(Trouble::NoSource)?,
            Source::Local { from, expect } => {
                let found = self.machines[machine].disk.read(from, expect);
                found.ok_or(Trouble::Changed)?.0
            }
            Source::Peer { link, .. } => {
                let found = self.fetch(*link, step.node, *hash);
                found.ok_or(Trouble::NoSource)?
            }
        };
        if content.hash() != *hash && self.flaw != Some(Flaw::ContentNotVerified) {
            return Err(Trouble::Corrupt);
        }
        Ok(Some(content))
    }

    fn fetch(&mut self, link: LinkId, node: NodeId, hash: Hash) -> Option<Content> {
        let is_it = |l: &&super::Link| l.ids.contains(&link) && l.is_up;
        let found = self.links.iter().find(is_it)?;
        let from = found.ends[usize::from(found.ids[0] == link)];
        let peer = &self.machines[from];
        let (path, print) = peer.engine.as_ref()?.locate(node, hash)?;
        let (content, _) = peer.disk.read(&path, &print).filter(|_| !peer.is_away)?;
        let may_lie = peer.rights == Rights::Reader && self.weather.reader_cheats;
        if may_lie && self.dice.chance(30) {
            let token = u64::MAX;
            return Some(Content { token, ..content });
        }
        Some(content)
    }
}

/// The names that a step changes.
fn paths(act: &Act) -> Vec<RelPath> {
    match act {
        Act::Move { from, to, .. } => vec![from.clone(), to.clone()],
        Act::MakeDir { at, .. }
        | Act::MakeLink { at, .. }
        | Act::Write { at, .. }
        | Act::SetMeta { at, .. }
        | Act::Remove { at, .. }
        | Act::Park { at, .. } => vec![at.clone()],
        Act::Unpark { to } => vec![to.clone()],
    }
}
