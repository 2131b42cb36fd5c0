//! One turn of an engine: an input in, what is to be kept kept, the effects carried out.

use ahoy_logic::sync::merge::value_of;
use ahoy_logic::sync::{Effect, Input, Notice, Print, Rights, Row};
use ahoy_wire::sync::{Dot, Message, NodeId, Record, Records, RelPath, ReplicaId, Value};

use super::{Event, Index, Machine, Made, Mail, World, wake_at};
use crate::disk::Content;

impl Index {
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        let rows = self.nodes.values().chain(self.heard.values());
        rows.chain(self.counters.as_ref())
            .chain(self.numbers.as_ref())
    }

    /// Where the node of this row is on the disk, as far as the index knows.
    pub(super) fn path(&self, number: u64) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = self.nodes.get(&number);
        loop {
            let Some(Row::Node { synced, .. }) = at else {
                return None;
            };
            let synced = synced.as_ref()?;
            names.push(&synced.name);
            if synced.parent == NodeId::ROOT {
                break;
            }
            if names.len() > self.nodes.len() {
                return None;
            }
            at = self
                .nodes
                .values()
                .find(|row| matches!(row, Row::Node { record, .. } if record.id == synced.parent));
        }
        let mut down = names.into_iter().rev();
        down.try_fold(RelPath::root(), |path, name| path.join(name))
    }

    pub(super) fn keep(&mut self, row: Row) {
        match &row {
            Row::Node { number, .. } => drop(self.nodes.insert(*number, row)),
            Row::Heard { replica, .. } => drop(self.heard.insert(*replica, row)),
            Row::Counters { .. } => self.counters = Some(row),
            Row::Numbers(_) => self.numbers = Some(row),
        }
    }
}

impl Machine {
    /// Whether it counts its changes under that number, or has done so.
    pub(super) fn is_own(&self, replica: ReplicaId) -> bool {
        replica.is_kin(self.replica)
    }
}

impl World {
    /// An input that goes into the trace.
    pub(super) fn give(&mut self, machine: usize, input: Input) {
        if self.machines[machine].engine.is_none() {
            return;
        }
        self.trace.update(format!("{machine} {input:?}").as_bytes());
        self.note(machine, "hears", || format!("{input:?}"));
        self.turn(machine, input);
    }

    pub(super) fn turn(&mut self, machine: usize, input: Input) {
        let now = self.moment();
        let it = &mut self.machines[machine];
        let Some(engine) = it.engine.as_mut() else {
            return;
        };
        engine.take(now, input);
        let effects = engine.flush(now);
        let deadline = engine.deadline();
        let run = it.run;
        self.carry_out_all(machine, effects);
        if self.machines[machine].run != run {
            return;
        }
        if let Some((moment, _)) = deadline {
            let due = wake_at(self.now, moment);
            if self.machines[machine].tick_at.is_none_or(|at| due < at) {
                self.machines[machine].tick_at = Some(due);
                let mail = Mail::Tick;
                self.at(due, Event::At { machine, run, mail });
            }
        }
    }

    /// The index may not claim what the disk lacks (`sync-27`), and no two changes may be counted
    /// alike (`sync-12`).
    pub(super) fn examine(&mut self, machine: usize, row: &Row) {
        let Row::Node {
            number,
            record,
            synced,
            ..
        } = row
        else {
            return;
        };
        if let Some(synced) = synced
            && let Some((hash, size)) = synced.value.content()
            && size > 0
            // Of a fingerprint that could hide a change nobody knows what it stands for.
            && !synced.print.racy
            && self.still_names(machine, record.id, &synced.print)
            && !self.machines[machine].disk.keeps(&synced.print, hash)
        {
            let name = &synced.name;
            self.wrong(|| format!("the index of m{machine} claims {name:?}, which is not synced"));
        }
        self.examine_rot(machine, record);
        self.examine_deletion(machine, *number, record);
        self.examine_name(machine, record);
        // Of a deletion what its deleters had seen of the node's moves is merged.
        let value = value_of(record).clone();
        let place = Made::Place(record.place.parent, record.place.name.clone());
        let (body, place_dot) = (record.body.dot, record.place.dot);
        self.count(machine, (record.id, body, false), Made::Body(value));
        // The name of a copy follows from where its original was when the two versions met.
        if record.copy_of.is_none() {
            self.count(machine, (record.id, place_dot, true), place);
        }
    }

    /// Where inode numbers are given again at once, within one tick of the clock, a fingerprint can
    /// fit another file by now; then only what is at the node's place says something.
    fn still_names(&self, machine: usize, node: NodeId, print: &Print) -> bool {
        let it = &self.machines[machine];
        let at = it.engine.as_ref().and_then(|engine| engine.path(node));
        !self.weather.reuses_inodes || at.is_some_and(|at| it.disk.is_at(&at, print))
    }

    /// While the folder is away nothing is deleted that is still in it (`sync-25`).
    fn examine_deletion(&mut self, machine: usize, number: u64, record: &Record) {
        let it = &self.machines[machine];
        let Value::Gone { was, .. } = &record.body.value else {
            return;
        };
        let is_known = self.made.contains_key(&(record.id, record.body.dot, false));
        let is_own = it.is_own(record.body.dot.replica) && !is_known;
        if !it.is_away || !is_own || it.rights == Rights::Reader {
            return;
        }
        let found = was.content().and_then(|(hash, _)| self.hashes.get(&hash));
        let at = it.index.path(number);
        let there = at.and_then(|path| it.disk.content_at(&path));
        let is_there = |content: &Content| there == Some(*content);
        if let Some(content) = found.copied().filter(is_there) {
            self.wrong(|| format!("m{machine} deletes {content:?} while its folder is away"));
        }
    }

    fn count(&mut self, machine: usize, change: (NodeId, Dot, bool), made: Made) {
        let dot = change.1;
        let first = self.made.entry(change).or_insert_with(|| made.clone());
        if *first != made {
            let first = first.clone();
            self.wrong(|| format!("m{machine}: {dot:?} is {first:?} and {made:?}"));
        }
    }

    pub(super) fn carry_out(&mut self, machine: usize, effect: Effect) {
        match effect {
            // Done before.
            Effect::Keep(_) => {}
            Effect::Say { link, message } => self.say(link, message),
            Effect::Send { link, upto, items } => {
                let items = items
                    .into_iter()
                    .map(|outgoing| self.item(machine, outgoing));
                let items = items.collect();
                self.say(link, Message::Records(Records { upto, items }));
                self.answer(machine, 30, Input::Room { link });
            }
            Effect::Accept { .. } => {}
            Effect::Hang { link, reason } => {
                self.note(machine, "hangs", || format!("up: {reason}"));
                if let Some(link) = self.links.iter().position(|l| l.ids.contains(&link)) {
                    self.cut(link);
                    self.soon(3000, Event::Connect);
                }
            }
            Effect::Do(step) => {
                self.note(machine, "does", || format!("{step:?}"));
                self.soon_at(machine, 60, Mail::Step(step));
            }
            Effect::Look { look, ask } => {
                let ask = Some(ask);
                self.soon_at(machine, 10, Mail::LookAt { look, ask });
            }
            Effect::Read { path, print } => self.soon_at(machine, 40, Mail::Read { path, print }),
            Effect::Tell(notice) => {
                if !matches!(notice, Notice::Brought { .. }) {
                    self.note(machine, "tells", || format!("{notice:?}"));
                }
            }
        }
    }
}
