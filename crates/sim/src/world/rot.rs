//! Disks that change bytes by themselves, and machines that read their files again at leisure.
//!
//! Nothing can be known of bytes that have changed before anybody has noted what they were, nor of
//! those in a file whose fingerprint has changed as well: that is what an edit looks like. So only
//! what is in the index rots, and what an engine then reads for good reason is let through.

use ahoy_logic::sync::merge::{is_alive, value_of};
use ahoy_logic::sync::{Input, Print, Rights, Row, Suspect};
use ahoy_wire::sync::{Hash, Record, RelPath, Value};

use super::{Machine, Mail, World};
use crate::disk::Content;
use crate::weather::Millis;

/// Longest pause between two files that are read again, when the weather is fine.
const PAUSE_MAX: Millis = 10_000;

/// The same while it is not, as a part of the time that it lasts.
const PAUSES: Millis = 20;

impl World {
    /// A file that another machine holds in the same version has other bytes from now on.
    pub(super) fn rot(&mut self) {
        let machine = self.any_machine();
        if self.machines[machine].rights == Rights::Reader {
            return;
        }
        let is_with_others = |(record, _): &(&Record, Print)| {
            let mut others = self.machines.iter().enumerate();
            others.any(|(other, it)| {
                let is_writer = other != machine && it.rights == Rights::Writer;
                is_writer && it.noted().any(|(held, _)| held == *record)
            })
        };
        let noted = self.machines[machine].noted();
        let noted: Vec<Print> = noted
            .filter(is_with_others)
            .map(|(_, print)| print)
            .collect();
        let Some(print) = self.dice.pick(&noted) else {
            return;
        };
        let Some(rotten) = self.machines[machine].disk.rot(&print) else {
            return;
        };
        self.note(machine, "disk", || format!("rots: {rotten:?}"));
        // Nobody ever wanted these.
        self.given_up.insert(rotten);
        self.hashes.insert(rotten.hash(), rotten);
        self.rot_hidden.push(print);
    }

    /// A user moves what has rotted: its fingerprint is another one then.
    pub(super) fn rot_moves(&mut self, machine: usize, path: &RelPath) {
        let there = self.machines[machine].disk.contents_below(path);
        let rotten = there.into_iter().filter(|content| !content.is_sound());
        self.given_up.extend(rotten.map(Content::sound));
    }

    /// An engine learns what a file holds that it has asked for: rot, and it is not its fault if it
    /// does not know any more what was there before.
    pub(super) fn excuse_rot(&mut self, machine: usize, input: &Input) {
        let Input::Hashed { path, print, hash } = input else {
            return;
        };
        if let Some(rotten) = self.rotten_of(*hash) {
            let is_as_then = self.rot_hidden.iter().any(|hidden| hidden.same(print));
            let sound = rotten.sound().hash();
            if !is_as_then || !self.machines[machine].trusts(path, print, sound) {
                self.let_rot_pass(machine, rotten);
            }
        }
    }

    /// Of bytes that nobody wrote nobody is told (`sync-36`), unless they are all that is left.
    pub(super) fn examine_rot(&mut self, machine: usize, record: &Record) {
        let content = living(record).and_then(Value::content);
        let Some(rotten) = content.and_then(|(hash, _)| self.rotten_of(hash)) else {
            return;
        };
        if self.is_somewhere(rotten.sound()) {
            self.wrong(|| format!("m{machine} tells of {rotten:?}, which is rot"));
        } else {
            self.let_rot_pass(machine, rotten);
        }
    }

    /// The bytes of that hash, if nobody wrote them, and they have not been let through.
    fn rotten_of(&self, hash: Hash) -> Option<Content> {
        let content = self.hashes.get(&hash).copied();
        content.filter(|content| !content.is_sound() && !self.rot_passed.contains(content))
    }

    fn let_rot_pass(&mut self, machine: usize, rotten: Content) {
        self.written.entry(rotten).or_insert(machine);
        self.given_up.insert(rotten.sound());
        self.rot_passed.insert(rotten);
    }

    /// Begins to read files again, one after the other.
    pub(super) fn begin_to_scrub(&mut self, machine: usize) {
        if self.weather.rot_every > 0 {
            let heals = self.now >= self.weather.span;
            let most = if heals {
                PAUSE_MAX
            } else {
                self.weather.span / PAUSES
            };
            self.soon_at(machine, most, Mail::Scrub);
        }
    }

    /// Reads the next one.
    pub(super) fn scrub(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        let engine = it.engine.as_ref();
        let suspect = engine.and_then(|engine| engine.next_suspect(it.scrubbed));
        it.scrubbed = suspect.as_ref().map(|suspect| suspect.node);
        if let Some(suspect) = suspect.filter(|_| !it.is_away)
            && let Some((content, print)) = it.disk.read(&suspect.path, &suspect.print)
        {
            let hash = content.hash();
            if hash != suspect.hash || suspect.print.racy {
                let path = suspect.path;
                self.answer(machine, 40, Input::Scrubbed { path, print, hash });
            }
        }
        self.begin_to_scrub(machine);
    }
}

impl Machine {
    /// The files whose bytes are in the index, and on the device, as all have agreed on them, and
    /// which nobody has moved meanwhile.
    fn noted(&self) -> impl Iterator<Item = (&Record, Print)> {
        self.index.nodes.values().filter_map(|row| {
            let Row::Node {
                number,
                record,
                synced: Some(synced),
                ..
            } = row
            else {
                return None;
            };
            let (hash, size) = synced.value.content()?;
            let is_as_agreed = living(record).and_then(Value::content) == Some((hash, size));
            let is_sure = size > 0 && !synced.print.racy && self.disk.holds(&synced.print, hash);
            let at = self
                .index
                .path(*number)
                .filter(|_| is_as_agreed && is_sure)?;
            let is_there = self.disk.is_at(&at, &synced.print);
            is_there.then_some((&**record, synced.print))
        })
    }

    /// Whether the engine knows that the file there, with this fingerprint, holds this.
    fn trusts(&self, path: &RelPath, print: &Print, hash: Hash) -> bool {
        let Some(engine) = &self.engine else {
            return false;
        };
        let next = |last: &Suspect| engine.next_suspect(Some(last.node));
        let mut files = std::iter::successors(engine.next_suspect(None), next);
        let is_same = |file: &Suspect| file.path == *path && file.print.same(print);
        files.any(|file| is_same(&file) && !file.print.racy && file.hash == hash)
    }
}

/// What a node is to hold, unless it is deleted and nobody has moved it meanwhile.
fn living(record: &Record) -> Option<&Value> {
    is_alive(record).then(|| value_of(record))
}
