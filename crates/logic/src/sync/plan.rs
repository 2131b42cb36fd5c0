//! What is to be done to the disk: the difference between what was last synced and the rendering.
//!
//! Each node that is not as it should be is in exactly one of these states, and leaves it only by
//! the event named:
//!
//! | state | leaves by |
//! |---|---|
//! | ready | its turn in [`Engine::plan`] |
//! | in work (a step is out) | [`Engine::finished`] |
//! | waiting for another node | that node's step, or its being done |
//! | waiting for a free fetch | another fetch's end |
//! | waiting for a source | a link opens, a peer sends its record again |
//! | later | its moment |
//!
//! A circle of waiting nodes (two files that change names) is broken by parking one of them.

use std::collections::BTreeSet;
use std::time::Duration;

use ahoy_wire::sync::{Name, NodeId, RelPath, Value};

use super::engine::Engine;
use super::merge::value_of;
use super::tree::{Goal, PARKED};
use super::work::After;
use super::{Act, Look, Notice, Print, Step, Synced};

pub(super) use super::work::Work;

/// Most steps that are out at one time.
const STEPS_MAX: usize = 4096;

/// After a surprise on the disk a node is left alone for this long, doubling with each.
pub(super) const CHANGED_PAUSE: Duration = Duration::from_millis(100);

/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a look at one node came to.
pub(super) enum Verdict {
    /// It is as it should be.
    Done,
    /// A step is out, or it waits for something.
    Pending,
    /// Something about it was changed on paper; look again at once.
    Again,
}

impl Engine {
    /// A node's goal or its disk may have changed.
    pub(super) fn touch(&mut self, id: NodeId) {
        let Some(node) = self.tree.node(id) else {
            return;
        };
        let number = node.number;
        let wanted = self.tree.goal_value(id).and_then(Value::content);
        let have = node
            .synced
            .as_ref()
            .and_then(|synced| synced.value.content());
        let missing = wanted.filter(|content| have != Some(*content));
        self.work.crave(id, missing);
        self.work.make_ready(id, number);
    }

    /// Plans whatever can be planned now.
    pub(super) fn plan(&mut self) {
        for id in self.work.take_late(self.now) {
            self.touch(id);
        }
        self.bring_back_strays();
        loop {
            for id in self.tree.take_touched() {
                self.touch(id);
            }
            if self.work.steps_out() >= STEPS_MAX {
                return;
            }
            let Some(id) = self.work.next_ready() else {
                // Whoever is ready has had a chance to be the one that is fetched first.
                let open: Vec<_> = self.gossip.holders().collect();
                let Some(next) = self.work.turns.take_next(&open) else {
                    return;
                };
                self.touch(next);
                continue;
            };
            match self.plan_node(id) {
                Verdict::Done => {
                    self.hold(id);
                    self.work.settled(id);
                    self.wake(id);
                }
                Verdict::Pending => {}
                Verdict::Again => self.touch(id),
            }
        }
    }

    fn wake(&mut self, id: NodeId) {
        for waiter in self.work.take_waiters(id) {
            self.touch(waiter);
        }
    }

    fn plan_node(&mut self, id: NodeId) -> Verdict {
        if self.work.is_busy(id) || self.work.is_stray(id) {
            return Verdict::Pending;
        }
        if self.local.is_missing(id) && self.local.guard.holds(id) {
            self.work.strand(id);
            return Verdict::Pending;
        }
        if self.local.is_missing(id) {
            // Whether the user has removed it is being found out.
            self.work.later(id, self.now + CHANGED_PAUSE);
            return Verdict::Pending;
        }
        let Some(node) = self.tree.node(id) else {
            return Verdict::Done;
        };
        let synced = node.synced.clone();
        match (self.tree.goal(id), synced) {
            (Goal::Waiting, _) => {
                self.work.strand(id);
                Verdict::Pending
            }
            (Goal::Absent, None) => Verdict::Done,
            (Goal::Absent, Some(synced)) => self.plan_removal(id, synced),
            (Goal::At(parent, name), None) => self.plan_creation(id, parent, name),
            (Goal::At(parent, name), Some(synced)) => {
                if synced.parent == parent && synced.name == name {
                    self.plan_content(id, synced)
                } else {
                    self.plan_move(id, synced, parent, name)
                }
            }
        }
    }

    fn plan_removal(&mut self, id: NodeId, synced: Synced) -> Verdict {
        if synced.parent == PARKED {
            return self.plan_move(id, synced, NodeId::ROOT, super::work::orphan_name(id));
        }
        if self.is_readers_own(&synced) {
            return self.disown(id, &synced);
        }
        let children = self.tree.in_dir(id).map(|(_, child)| child);
        let children: Vec<NodeId> = children
            .filter(|child| !self.husks.stands(*child))
            .collect();
        if let Some(&first) = children.first() {
            for child in children {
                if !self.work.is_waiting(child) {
                    self.touch(child);
                }
            }
            return self.wait(id, first);
        }
        if matches!(synced.value, Value::Dir(_))
            && let Some(verdict) = self.plan_husk(id)
        {
            return verdict;
        }
        if let Some(other) = self.needs_content_of(id, &synced) {
            return self.wait(id, other);
        }
        let Some(at) = self.tree.path(id) else {
            return self.wait_for_unparking(id);
        };
        let moving = self.tree.above(id).find(|dir| self.work.is_moving(*dir));
        if let Some(busy) = moving.or(self.work.busy_below(id)) {
            return self.wait(id, busy);
        }
        if let Some(verdict) = self.make_sure(id, &synced, &at) {
            return verdict;
        }
        let keys = vec![(synced.parent, synced.name.clone())];
        let act = Act::Remove {
            at,
            expect: synced.print,
        };
        self.order(id, act, keys, After::Vanish)
    }

    /// Before the directory's or the name's turn comes something else has to happen?
    fn clear_way(&mut self, id: NodeId, parent: NodeId, name: &Name) -> Result<RelPath, Verdict> {
        if parent != NodeId::ROOT {
            let dir = self.tree.node(parent).and_then(|n| n.synced.as_ref());
            let in_place = dir.is_some_and(|dir| {
                matches!(dir.value, Value::Dir(_))
                    && self.tree.goal(parent) == Goal::At(dir.parent, dir.name.clone())
            });
            let moving = self
                .tree
                .above(parent)
                .chain([parent])
                .find(|d| self.work.is_moving(*d));
            if let Some(moving) = moving {
                return Err(self.wait(id, moving));
            }
            if !in_place {
                return Err(self.wait(id, parent));
            }
        }
        if let Some(other) = self.tree.on_disk(parent, name).filter(|other| *other != id) {
            self.tell_of_obstacle(other);
            return Err(self.wait(id, other));
        }
        if self.work.is_name_busy(parent, name) {
            return Err(self.pause(id, CHANGED_PAUSE));
        }
        let Some(dir) = self.dir_path(parent) else {
            return Err(self.wait_for_path(id, parent));
        };
        dir.join(name).ok_or_else(|| {
            let reason = "the path would be longer than 4096 bytes".to_owned();
            self.tell(Notice::Trouble { path: dir, reason });
            self.pause(id, PAUSE_MAX)
        })
    }

    fn plan_creation(&mut self, id: NodeId, parent: NodeId, name: Name) -> Verdict {
        if let Some(heirloom) = self.heirloom(id) {
            return self.plan_inheritance(id, (parent, name), heirloom);
        }
        let at = match self.clear_way(id, parent, &name) {
            Ok(at) => at,
            Err(verdict) => return verdict,
        };
        let Some(node) = self.tree.node(id) else {
            return Verdict::Done;
        };
        let value = value_of(&node.record).clone();
        let synced = Synced {
            parent,
            name: name.clone(),
            value: value.clone(),
            print: super::work::NO_PRINT,
            body_clock: node.record.body.clock.clone(),
            place_clock: node.record.place.clock.clone(),
        };
        let keys = vec![(parent, name)];
        let act = match value {
            Value::Dir(meta) => Act::MakeDir { at, meta },
            Value::Link { mtime, target } => Act::MakeLink {
                at,
                target,
                mtime,
                over: None,
            },
            Value::File { meta, size, hash } => {
                let source = match self.source(id, hash, size) {
                    Ok(source) => source,
                    Err(verdict) => return verdict,
                };
                Act::Write {
                    at,
                    meta,
                    size,
                    hash,
                    over: None,
                    source,
                }
            }
            Value::Gone { .. } => return Verdict::Done,
        };
        self.order(id, act, keys, After::Become(Box::new(synced)))
    }

    /// Takes that file over. Only the step that moves it makes it this node's: if it is not there
    /// after all, nothing has been said about this node.
    fn plan_inheritance(
        &mut self,
        id: NodeId,
        place: (NodeId, Name),
        heirloom: (NodeId, Synced, RelPath),
    ) -> Verdict {
        let (other, held, from) = heirloom;
        let Some(node) = self.tree.node(id) else {
            return Verdict::Done;
        };
        let value = value_of(&node.record).clone();
        let mut next = Synced {
            parent: place.0,
            name: place.1.clone(),
            body_clock: node.record.body.clock.clone(),
            place_clock: node.record.place.clock.clone(),
            ..held.clone()
        };
        let expect = held.print;
        let is_here = (held.parent, &held.name) == (place.0, &place.1);
        let (act, keys) = match value {
            Value::File { meta, .. } if is_here => {
                next.value = value;
                (
                    Act::SetMeta {
                        at: from,
                        meta,
                        expect,
                    },
                    vec![place],
                )
            }
            Value::File { .. } | Value::Dir(_) | Value::Link { .. } | Value::Gone { .. } => {
                let to = match self.clear_way(id, place.0, &place.1) {
                    Ok(to) => to,
                    Err(verdict) => return verdict,
                };
                (
                    Act::Move { from, to, expect },
                    vec![(held.parent, held.name), place],
                )
            }
        };
        self.order(id, act, keys, After::Inherit(other, Box::new(next)))
    }

    pub(super) fn plan_move(
        &mut self,
        id: NodeId,
        synced: Synced,
        parent: NodeId,
        name: Name,
    ) -> Verdict {
        let to = match self.clear_way(id, parent, &name) {
            Ok(to) => to,
            Err(verdict) => return verdict,
        };
        if let Some(displaced) = self.on_the_way_out(id, parent) {
            return self.wait(id, displaced);
        }
        if let Some(busy) = self.work.busy_below(id) {
            return self.wait(id, busy);
        }
        let place_clock = self.tree.node(id).map(|n| n.record.place.clock.clone());
        let next = Synced {
            parent,
            name: name.clone(),
            place_clock: place_clock.unwrap_or_default(),
            ..synced.clone()
        };
        if synced.parent == PARKED {
            let act = Act::Unpark { to };
            return self.order(id, act, vec![(parent, name)], After::Become(Box::new(next)));
        }
        let Some(from) = self.tree.path(id) else {
            return self.wait_for_unparking(id);
        };
        let act = Act::Move {
            from,
            to,
            expect: synced.print,
        };
        let keys = vec![(synced.parent, synced.name), (parent, name)];
        self.order(id, act, keys, After::Become(Box::new(next)))
    }

    /// The directory that a node is to be in can still be inside of the node itself, as long as one
    /// between them is not where it is to be.
    fn on_the_way_out(&self, id: NodeId, parent: NodeId) -> Option<NodeId> {
        let chain: Vec<NodeId> = [parent]
            .into_iter()
            .chain(self.tree.above(parent))
            .collect();
        let end = chain.iter().position(|dir| *dir == id)?;
        let is_displaced = |dir: &NodeId| {
            let synced = self.tree.node(*dir).and_then(|node| node.synced.as_ref());
            synced.is_some_and(|on| self.tree.goal(*dir) != Goal::At(on.parent, on.name.clone()))
        };
        chain.into_iter().take(end).find(is_displaced)
    }

    fn plan_content(&mut self, id: NodeId, synced: Synced) -> Verdict {
        let Some(node) = self.tree.node(id) else {
            return Verdict::Done;
        };
        // A deleted directory that stays because of what lives in it is as it was.
        let value = value_of(&node.record).clone();
        if value == synced.value {
            return Verdict::Done;
        }
        let body_clock = node.record.body.clock.clone();
        let Some(at) = self.tree.path(id) else {
            return self.wait_for_unparking(id);
        };
        let moving = self.tree.above(id).find(|dir| self.work.is_moving(*dir));
        if let Some(moving) = moving {
            return self.wait(id, moving);
        }
        let keys = vec![(synced.parent, synced.name.clone())];
        let expect = synced.print;
        let same_content = value.same_content(&synced.value);
        if !same_content && self.is_readers_own(&synced) {
            return self.plan_aside(id, synced);
        }
        if !same_content && let Some(other) = self.needs_content_of(id, &synced) {
            return self.wait(id, other);
        }
        if !same_content && let Some(verdict) = self.make_sure(id, &synced, &at) {
            return verdict;
        }
        let act = match value.clone() {
            Value::Dir(meta) | Value::File { meta, .. } if same_content => {
                Act::SetMeta { at, meta, expect }
            }
            Value::Link { mtime, .. } if same_content => {
                let meta = ahoy_wire::sync::Meta {
                    mode: expect.mode,
                    mtime,
                };
                Act::SetMeta { at, meta, expect }
            }
            Value::Link { mtime, target } => Act::MakeLink {
                at,
                target,
                mtime,
                over: Some(expect),
            },
            Value::File { meta, size, hash } => match self.source(id, hash, size) {
                Ok(source) => Act::Write {
                    at,
                    meta,
                    size,
                    hash,
                    over: Some(expect),
                    source,
                },
                Err(verdict) => return verdict,
            },
            Value::Dir(_) | Value::Gone { .. } => return Verdict::Done,
        };
        let next = Synced {
            value,
            body_clock,
            ..synced
        };
        self.order(id, act, keys, After::Become(Box::new(next)))
    }

    /// A file is about to be replaced or removed whose fingerprint was taken too soon after its
    /// last change: another one could hide behind it. It is read again first (`sync-26`).
    fn make_sure(&mut self, id: NodeId, synced: &Synced, at: &RelPath) -> Option<Verdict> {
        if !synced.print.racy || synced.value.content().is_none() {
            return None;
        }
        if !self.local.is_reading(at) {
            self.look(Look::At(at.split()?.0, synced.name.clone()));
        }
        Some(self.pause(id, CHANGED_PAUSE))
    }

    pub(super) fn order(
        &mut self,
        id: NodeId,
        act: Act,
        keys: Vec<(NodeId, Name)>,
        after: After,
    ) -> Verdict {
        let mut above: BTreeSet<NodeId> = BTreeSet::new();
        for (dir, _) in &keys {
            above.insert(*dir);
            above.extend(self.tree.above(*dir));
        }
        // The last of its names is the one that it gives.
        let dir = keys.last().filter(|_| act.target().is_some());
        let within = dir.and_then(|(dir, _)| Some(self.tree.node(*dir)?.synced.as_ref()?.print));
        let job = self.work.begin(id, keys, &act, above, after);
        let step = Step {
            job,
            node: id,
            act,
            within,
        };
        self.out.push(super::Effect::Do(Box::new(step)));
        Verdict::Pending
    }

    pub(super) fn pause(&mut self, id: NodeId, at_least: Duration) -> Verdict {
        let pause = self
            .work
            .next_pause(id, CHANGED_PAUSE, PAUSE_MAX)
            .max(at_least);
        self.work.later(id, self.now + pause);
        Verdict::Pending
    }

    /// What became of a step.
    pub(super) fn finished(&mut self, outcome: super::Outcome) {
        let Some(job) = self.work.end(outcome.job) else {
            return;
        };
        let id = job.node;
        let first_trusted = self.next_ask();
        for (dir, name) in &job.keys {
            self.local.touch(*dir, name.clone(), first_trusted);
        }
        match outcome.result {
            Ok(print) => self.done(&job, print),
            Err(trouble) => self.failed(&job, trouble),
        }
        if job.seen_inside {
            self.look_inside(&job);
        }
        let sightings = job.sightings;
        let now = self.tree.node(id).and_then(|n| n.synced.as_ref());
        let expected = |(dir, name): &(NodeId, Name), print: &Option<Print>| match (
            print,
            now.filter(|now| now.parent == *dir && now.name == *name),
        ) {
            (Some(print), Some(now)) => now.print.same(print),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !sightings.iter().all(|(key, print)| expected(key, print)) {
            for ((dir, name), print) in sightings {
                if let Some(dir) = self.dir_path(dir) {
                    self.look_for(dir, name, print.as_ref());
                }
            }
        }
        if job.moves {
            self.see_now();
        }
        self.touch(id);
        self.wake(id);
        if let After::Inherit(other, _) = job.after {
            self.touch(other);
            self.wake(other);
        }
    }

    fn done(&mut self, job: &super::work::Job, print: Option<Print>) {
        let id = job.node;
        self.work.forget_pauses(id);
        self.unnoted.forget(id);
        match (&job.after, print) {
            (After::Become(synced), Some(_)) if self.is_without_path(synced.parent) => {
                self.forget_below(id);
                self.tree.set_synced(id, None);
            }
            (After::Become(synced), Some(print)) => {
                let doubtful = hides_a_change(synced) || (job.moves && is_doubtful(synced, &print));
                let racy = print.racy || doubtful;
                let synced = Synced {
                    print: Print { racy, ..print },
                    ..(**synced).clone()
                };
                if doubtful {
                    self.look_again(job);
                }
                self.local.found(id, Some(&print));
                let is_dir = matches!(synced.value, Value::Dir(_));
                self.tree.set_synced(id, Some(synced));
                if is_dir && let Some((dir, name)) = self.tree.path(id).and_then(|p| p.split()) {
                    self.look_into_ignored(&dir, &name);
                }
                if job.visible
                    && let Some(path) = self.tree.path(id)
                {
                    self.tell(Notice::Brought {
                        path,
                        removed: false,
                    });
                }
            }
            (After::Inherit(other, synced), Some(print)) => {
                let racy = print.racy || hides_a_change(synced);
                let synced = Synced {
                    print: Print { racy, ..print },
                    ..(**synced).clone()
                };
                self.local.found(id, Some(&print));
                self.tree.set_synced(*other, None);
                let is_there = !self.is_without_path(synced.parent);
                self.tree.set_synced(id, is_there.then_some(synced));
                self.keep(*other);
            }
            (After::Vanish, _) => {
                let path = self.tree.path(id);
                self.tree.set_synced(id, None);
                for (dir, _) in &job.keys {
                    self.husk_stirred(*dir);
                }
                if self.work.settle_stray(id) {
                    self.look_again(job);
                }
                if let (Some(path), true) = (path, job.visible) {
                    self.tell(Notice::Brought {
                        path,
                        removed: true,
                    });
                }
            }
            (After::Become(_) | After::Inherit(..), None) => self.look_again(job),
        }
        self.keep(id);
    }

    /// Somebody has removed this directory meanwhile, and what was brought there with it, of which
    /// nobody can say that he has seen it.
    fn is_without_path(&self, dir: NodeId) -> bool {
        let is_real = dir != NodeId::ROOT && dir != PARKED;
        is_real && self.tree.node(dir).is_none_or(|dir| dir.synced.is_none())
    }

    /// What is in a directory went with it.
    fn forget_below(&mut self, id: NodeId) {
        let children: Vec<NodeId> = self.tree.in_dir(id).map(|(_, child)| child).collect();
        for child in children {
            self.forget_below(child);
            self.tree.set_synced(child, None);
            self.keep(child);
            self.touch(child);
        }
    }

    fn look_again(&mut self, job: &super::work::Job) {
        for (dir, name) in &job.keys {
            if let Some(path) = self.dir_path(*dir) {
                // The directory may be another one by now.
                if let Some((above, name)) = path.split() {
                    self.look(Look::At(above, name));
                }
                self.look(Look::At(path, name.clone()));
            }
        }
        self.look_at_donor(job);
        if job.removes_dir
            && let Some(path) = self.tree.path(job.node)
        {
            self.look(Look::Below(path));
        }
    }

    /// What was seen in a directory that a step was about to bring has not been believed.
    fn look_inside(&mut self, job: &super::work::Job) {
        let synced = self.tree.node(job.node).and_then(|n| n.synced.as_ref());
        let is_dir = synced.is_some_and(|synced| matches!(synced.value, Value::Dir(_)));
        match self.tree.path(job.node).filter(|_| is_dir) {
            Some(path) => drop(self.look(Look::Below(path))),
            None => self.look_again(job),
        }
    }

    fn look_at_donor(&mut self, job: &super::work::Job) {
        if let Some((dir, name)) = job.donor.as_ref().and_then(|(path, _)| path.split()) {
            self.look(Look::At(dir, name));
        }
    }

    fn failed(&mut self, job: &super::work::Job, trouble: super::Trouble) {
        use super::Trouble;
        let id = job.node;
        let path = self.tree.path(id).or_else(|| {
            let (dir, name) = job.keys.last()?;
            self.dir_path(*dir)?.join(name)
        });
        let tell = |engine: &mut Self, reason: String| {
            if let Some(path) = path.clone() {
                engine.tell(Notice::Trouble { path, reason });
            }
        };
        match trouble {
            Trouble::Changed => {
                self.work.donor_is_bad(job);
                self.look_again(job);
                self.pause(id, CHANGED_PAUSE);
                if self.work.pauses(id) == 8 {
                    tell(self, "it keeps changing, or is not empty".into());
                }
                if job.removes_dir {
                    self.disown_dir(id);
                }
            }
            Trouble::Inhabited => self.leave_standing(id),
            Trouble::InUse => {
                self.pause(id, CHANGED_PAUSE);
                if self.work.pauses(id) == 8 {
                    tell(self, "a program has it open for writing".into());
                }
            }
            Trouble::NoSource => {
                // A file of this disk that is not what it was: nobody may have reported that yet,
                // and to try it again at once would be to try for ever.
                self.work.donor_is_bad(job);
                self.look_at_donor(job);
                self.work.turns.refused(id, job.fetched);
            }
            Trouble::Corrupt => {
                self.work.donor_is_bad(job);
                self.work.turns.refused(id, job.fetched);
                tell(
                    self,
                    "what arrived is not what was announced; trying elsewhere".into(),
                );
            }
            Trouble::Full => {
                tell(self, "the disk is full; trying again in a while".into());
                self.pause(id, Duration::from_secs(10));
            }
            Trouble::Refused(reason) => {
                tell(self, reason);
                self.pause(id, Duration::from_secs(30));
            }
        }
    }
}

/// The file could have been changed without a trace before the step, and a step that leaves its
/// bytes alone gives it a fingerprint that looks as if it could not.
fn hides_a_change(before: &Synced) -> bool {
    let print = &before.print;
    *print != super::work::NO_PRINT && print.racy && before.value.content().is_some()
}

/// What was moved is not what was believed to be there: a directory is moved whatever its mode,
/// and a parked file can have been changed by whoever still had it open.
pub(super) fn is_doubtful(before: &Synced, after: &Print) -> bool {
    let print = &before.print;
    let same = match before.value {
        Value::Dir(_) => print.mode == after.mode,
        Value::File { .. } | Value::Link { .. } | Value::Gone { .. } => print.same_but_ctime(after),
    };
    *print != super::work::NO_PRINT && (print.racy || !same)
}

/// A node in the parking place.
pub(super) fn parked(id: NodeId, synced: Synced) -> Synced {
    Synced {
        parent: PARKED,
        name: super::work::orphan_name(id),
        ..synced
    }
}
