//! What happens from outside, as planned: each blow, and what it leads to later.

use ahoy_logic::sync::{Input, Rights, Row, Synced};
use ahoy_wire::sync::{Clock, Dot, NodeId, Record, RelPath};

use super::{Doom, Event, Index, Machine, Mail, World, wall};
use crate::dice::Dice;
use crate::disk::Content;
use crate::plan::Doing;
use crate::weather::Millis;

/// Longest that a disk stays full, a folder away, or a link still.
const SPELL_MAX: Millis = 20_000;

/// Most that a clock jumps at once: a little over ten years.
const JUMP_MAX: u64 = 10 * 366 * 86_400_000;

impl World {
    /// Something planned happens. In a wild run each has chance of its own, so that leaving one
    /// thing out changes little about the others.
    pub(super) fn strike(&mut self, place: usize, doing: Doing) {
        if !self.weather.is_wild {
            return self.strike_now(doing);
        }
        let own = Dice::new(self.seed ^ (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shared = std::mem::replace(&mut self.dice, own);
        self.strike_now(doing);
        self.dice = shared;
    }

    fn strike_now(&mut self, doing: Doing) {
        match doing {
            Doing::Deed => {
                let machine = self.any_machine();
                if !self.machines[machine].is_away {
                    self.deed(machine);
                }
            }
            Doing::Cut => {
                if let Some(link) = self.any_link() {
                    self.cut(link);
                    self.soon(3000, Event::Connect);
                }
            }
            Doing::Crash => self.end(false),
            Doing::Power => self.end(true),
            Doing::Backup => self.back_up(),
            Doing::Restore => self.restore(),
            Doing::Full => {
                let machine = self.any_machine();
                self.note(machine, "disk", || "is full".into());
                let spell = self.dice.below(SPELL_MAX);
                self.machines[machine].full_until = self.now + spell;
            }
            Doing::Overflow => self.overflow(),
            Doing::Stall => {
                if let Some(link) = self.any_link() {
                    let (end, spell) = (self.dice.below(2) as usize, self.dice.below(SPELL_MAX));
                    let to = self.links[link].ends[end];
                    self.note(to, "stalls", || format!("hears nothing for {spell} ms"));
                    let last = &mut self.links[link].last[end];
                    *last = (*last).max(self.now + spell);
                }
            }
            Doing::Jump => {
                let machine = self.any_machine();
                let most = if self.dice.chance(50) {
                    60_000
                } else {
                    JUMP_MAX
                };
                let by = self.dice.below(2 * most).cast_signed() - most.cast_signed();
                self.note(machine, "clock", || format!("jumps by {by} ms"));
                let skew = (self.machines[machine].skew + by).clamp(-(1 << 39), 1 << 39);
                self.machines[machine].skew = skew;
            }
            Doing::Away => self.root_away(),
            Doing::Tracker => {
                let machine = self.any_machine();
                self.strike_tracker(machine);
            }
            Doing::Rules => {
                let machine = self.any_machine();
                self.change_rules(machine);
            }
            Doing::Rot => self.rot(),
        }
    }

    pub(super) fn any_machine(&mut self) -> usize {
        self.dice.below(self.machines.len() as u64) as usize
    }

    fn any_link(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.links.len())
            .filter(|link| self.links[*link].is_up)
            .collect();
        self.dice.pick(&up)
    }

    /// A process ends: now, or in the midst of its next turn.
    fn end(&mut self, is_power: bool) {
        let machine = self.any_machine();
        let in_turn = self.weather.is_wild && self.dice.chance(50);
        if in_turn && self.machines[machine].engine.is_some() {
            self.machines[machine].doom = Some(Doom {
                is_kept: self.dice.chance(60),
                effects: self.dice.below(4),
                is_power,
            });
            return;
        }
        self.end_now(machine, is_power);
    }

    pub(super) fn end_now(&mut self, machine: usize, is_power: bool) {
        if is_power {
            self.fail_power(machine);
        } else {
            self.crash(machine);
        }
        let percent = self.weather.long_sleep_percent;
        if !self.weather.is_wild || !self.dice.chance(percent) {
            self.soon(3000, Event::Start { machine });
        }
    }

    fn back_up(&mut self) {
        let machine = self.any_machine();
        let it = &mut self.machines[machine];
        it.backup = Some((it.disk.backup(), it.index.clone()));
        self.note(machine, "backup", || "is made".into());
    }

    /// A machine is put back from its backup, wholly or in part.
    fn restore(&mut self) {
        let machine = self.any_machine();
        let Some((disk, index)) = self.machines[machine].backup.clone() else {
            return;
        };
        self.crash(machine);
        self.is_any_put_back = true;
        let before = self.machines[machine].disk.contents();
        let lost = self.machines[machine].index.clone();
        self.machines[machine].lost_lives.push(lost);
        let what = self.dice.below(3);
        // A file that was copied back has another inode; a whole device that was set back has not.
        let is_seen = what < 2 && self.dice.chance(50);
        let it = &mut self.machines[machine];
        it.is_put_back |= is_seen;
        match what {
            0 => (it.disk, it.index) = (disk, index),
            1 => it.index = index,
            _ => {
                it.disk = disk;
                it.disk.set_clock(wall(self.now, it.skew));
                it.disk.copied_back();
            }
        }
        let names = ["disk and index", "index", "disk"];
        self.note(machine, "backup", || {
            let how = if is_seen { ", and that is seen" } else { "" };
            format!("restored: {}{how}", names[what as usize])
        });
        let writers = self.writers().collect::<Vec<_>>();
        for content in before {
            let has_it = |index: &usize| self.machines[*index].disk.contents().contains(&content);
            if !writers.iter().any(has_it) {
                self.with_readers.insert(content);
            }
            // Whoever puts back a folder under an index that knows better has changed all of it.
            if what == 2 || self.is_told_gone(machine, content) {
                self.given_up.insert(content);
            } else {
                self.excuse(content);
            }
        }
        if what == 1 {
            self.replace_all_that_differs(machine);
        }
        self.soon(3000, Event::Start { machine });
    }

    /// Whoever puts back an index under a folder that has gone on says of all that differs that he
    /// has just changed it, having seen what the index knows.
    fn replace_all_that_differs(&mut self, machine: usize) {
        let it = &self.machines[machine];
        let held = it.index.nodes.values().filter_map(|row| match row {
            Row::Node { synced, .. } => synced.as_deref()?.value.content(),
            Row::Heard { .. } | Row::Counters { .. } | Row::Numbers(_) => None,
        });
        let known = held.filter_map(|(hash, _)| self.hashes.get(&hash));
        let there = it.disk.contents();
        let replaced: Vec<Content> = known.filter(|it| !there.contains(it)).copied().collect();
        self.given_up.extend(replaced);
    }

    /// Where this content still is, an index that a backup has taken back says that it is there no
    /// more, and others may have heard that. Its user had it elsewhere, which went with the disk,
    /// and nobody else was told where. What the disk that was put back holds the machine knows, and
    /// will keep unless others had moved it on before.
    fn is_told_gone(&self, machine: usize, content: Content) -> bool {
        let it = &self.machines[machine];
        let says_so = |index: &Index, id: NodeId, held: &Clock, by_lost_life: bool| {
            record_in(index, id).is_some_and(|told| {
                let is_unknown =
                    |(replica, count)| it.is_own(replica) && !held.has(Dot { count, replica });
                let claims = told.body.clock.entries().any(is_unknown);
                let has_seen = held.within(&told.body.clock);
                let holds = told.body.value.content();
                let is_other = holds.is_none_or(|(is, _)| is != content.hash());
                is_other && claims == by_lost_life && (by_lost_life || has_seen)
            })
        };
        let others = || {
            let all = self.machines.iter().enumerate();
            all.filter(|(other, _)| *other != machine)
                .map(|(_, other)| other)
        };
        let moved_on =
            |id: NodeId, held: &Clock| others().any(|other| says_so(&other.index, id, held, false));
        let is_back = it.disk.contents().contains(&content);
        let told = |id: NodeId, held: &Clock| {
            let mut lives = it.lost_lives.iter();
            lives.any(|lost| says_so(lost, id, held, true))
        };
        (!is_back || it.holds_only(content, moved_on))
            && others().all(|other| other.holds_only(content, told))
    }

    /// Everything that the watcher had to say is lost; it says so.
    fn overflow(&mut self) {
        let machine = self.any_machine();
        if self.machines[machine].engine.is_none() {
            return;
        }
        self.note(machine, "eyes", || "overflow".into());
        let is_event = |event: &Event| match event {
            Event::At {
                machine: at, mail, ..
            } => *at == machine && matches!(mail, Mail::LookAt { ask: None, .. }),
            Event::Carry { .. }
            | Event::Close { .. }
            | Event::HangUp { .. }
            | Event::Planned { .. }
            | Event::Connect
            | Event::Word { .. }
            | Event::TrackerDue
            | Event::TrackerStarts
            | Event::Start { .. }
            | Event::RootBack { .. } => false,
        };
        self.queue.retain(|_, event| !is_event(event));
        self.scan_soon(machine);
    }

    fn root_away(&mut self) {
        let machine = self.any_machine();
        if self.machines[machine].is_away {
            return;
        }
        self.note(machine, "root", || "is away".into());
        self.machines[machine].is_away = true;
        if self.machines[machine].engine.is_some() {
            self.scan_soon(machine);
        }
        let spell = self.dice.below(SPELL_MAX);
        self.at(self.now + spell, Event::RootBack { machine });
    }

    pub(super) fn root_back(&mut self, machine: usize) {
        if !std::mem::replace(&mut self.machines[machine].is_away, false) {
            return;
        }
        self.note(machine, "root", || "is back".into());
        self.machines[machine].epoch += 1;
        if self.machines[machine].engine.is_some() {
            self.report(machine, Input::RootLost);
            self.report(machine, Input::RootBack);
            self.scan_soon(machine);
        } else {
            self.soon(3000, Event::Start { machine });
        }
    }

    pub(super) fn writers(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.machines.iter().enumerate();
        all.filter(|(_, it)| it.rights == Rights::Writer)
            .map(|(index, _)| index)
    }
}

impl Machine {
    /// Whether this content is on the disk only at nodes for which that is so.
    fn holds_only(&self, content: Content, is_so: impl Fn(NodeId, &Clock) -> bool) -> bool {
        let held = self.index.nodes.values().filter_map(|row| match row {
            Row::Node { record, synced, .. } => Some((record.id, synced.as_deref()?)),
            Row::Heard { .. } | Row::Counters { .. } | Row::Numbers(_) => None,
        });
        let has_it = |synced: &Synced| {
            let holds = synced.value.content();
            holds.is_some_and(|(is, _)| is == content.hash())
        };
        let held: Vec<_> = held.filter(|(_, synced)| has_it(synced)).collect();
        let there = self.disk.contents_below(&RelPath::root());
        let there = there.into_iter().filter(|is| *is == content).count();
        there <= held.len()
            && held
                .iter()
                .all(|(id, synced)| is_so(*id, &synced.body_clock))
    }
}

fn record_in(index: &Index, id: NodeId) -> Option<&Record> {
    index.nodes.values().find_map(|row| match row {
        Row::Node { record, .. } if record.id == id => Some(&**record),
        Row::Node { .. } | Row::Heard { .. } | Row::Counters { .. } | Row::Numbers(_) => None,
    })
}
