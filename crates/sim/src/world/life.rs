//! Machines are made, start, die, and are made well again.

use ahoy_logic::sync::{Engine, Identity, Input, Rights, Rules};
use ahoy_wire::sync::{Label, RelPath, ReplicaId};

use super::commit::Backlog;
use super::meet::Places;
use super::{Event, Index, Machine, Mail, Scan, World, wall};
use crate::Flaw;
use crate::disk::{Content, Disk};

/// So many changes fit into one millisecond of the numbers that a start begins with.
const FLOOR_STEP: u64 = 1 << 10;

impl World {
    pub(super) fn machine(&mut self, index: usize) -> Machine {
        let weather = &self.weather;
        let is_reader = weather.has_reader && index + 1 == weather.machines;
        let mut disk = Disk::default();
        if weather.is_wild {
            let tick = weather.tick.cast_signed();
            disk = Disk::wild(tick, weather.power_every > 0, weather.reuses_inodes);
        }
        disk.is_careless = self.flaw == Some(Flaw::NoLastCheck);
        Machine {
            disk,
            engine: None,
            rights: if is_reader {
                Rights::Reader
            } else {
                Rights::Writer
            },
            replica: ReplicaId(index as u64 + 1),
            run: 0,
            index: Index::default(),
            backup: None,
            lost_lives: Vec::new(),
            is_put_back: false,
            eyes_free: 0,
            epoch: 0,
            tick_at: None,
            skew: 0,
            full_until: 0,
            is_away: false,
            rules: Rules::default(),
            unsynced: false,
            doom: None,
            backlog: Backlog::default(),
            scrubbed: None,
            places: Places::default(),
            finder: None,
        }
    }

    pub(super) fn start(&mut self, machine: usize) {
        if self.machines[machine].engine.is_some() || self.machines[machine].is_away {
            return;
        }
        self.note(machine, "starts", String::new);
        let mut floor = 0;
        if self.weather.is_wild && self.flaw != Some(Flaw::NoFloor) {
            let wall = wall(self.now, self.machines[machine].skew);
            floor = wall.unsigned_abs() * FLOOR_STEP;
        }
        self.drawn += 1;
        let it = &mut self.machines[machine];
        it.run += 1;
        it.eyes_free = self.now;
        it.tick_at = None;
        let who = Identity {
            replica: it.replica,
            label: Label::tidy(&format!("m{machine}")),
            rights: it.rights,
            run: it.replica.in_run(self.drawn),
            is_put_back: it.is_put_back,
            floor,
        };
        it.engine = Some(Engine::new(
            who,
            it.index.rows().cloned().collect::<Vec<_>>(),
        ));
        self.tell_rules(machine);
        if self.flaw != Some(Flaw::ParkedForgotten) {
            for (node, print) in self.machines[machine].disk.parked() {
                self.turn(machine, Input::Parked { node, print });
            }
        }
        self.scan_soon(machine);
        self.begin_to_scrub(machine);
        if self.weather.has_tracker {
            self.begin_to_find(machine);
        } else {
            self.soon(500, Event::Connect);
        }
    }

    /// Looks at everything.
    pub(super) fn scan_soon(&mut self, machine: usize) {
        let scan = self.whole_scan(machine);
        self.soon_at(machine, 20, Mail::Scan(scan));
    }

    fn whole_scan(&self, machine: usize) -> Scan {
        Scan {
            dirs: vec![RelPath::root()],
            ask: None,
            whole: true,
            epoch: self.machines[machine].epoch,
        }
    }

    /// The process dies; false if it was dead.
    pub(super) fn crash(&mut self, machine: usize) -> bool {
        if self.machines[machine].engine.take().is_none() {
            return false;
        }
        self.machines[machine].doom = None;
        self.drop_orders(machine);
        self.note(machine, "dies", String::new);
        self.end_finding(machine);
        for link in 0..self.links.len() {
            if let Some(end) = self.links[link].ends.iter().position(|it| *it == machine) {
                self.links[link].open[end] = false;
                self.cut(link);
            }
        }
        true
    }

    /// What was not synced may be gone, torn, or as it was before.
    pub(super) fn fail_power(&mut self, machine: usize) {
        self.crash(machine);
        let mut disk = std::mem::take(&mut self.machines[machine].disk);
        let mut tokens = self.tokens;
        let torn = |size| {
            tokens += 1;
            Content {
                token: tokens,
                size,
            }
        };
        let damage = disk.fail_power(&mut self.dice, torn);
        self.machines[machine].disk = disk;
        self.machines[machine].unsynced = false;
        self.tokens = tokens;
        self.note(machine, "power", || format!("fails: {damage:?}"));
        for content in damage.torn {
            self.written.insert(content, machine);
            self.given_up.insert(content);
        }
        for content in damage.unsynced_and_gone {
            self.excuse(content);
        }
        for content in damage.synced_and_gone {
            if !self.is_somewhere(content) && !self.given_up.contains(&content) {
                self.wrong(|| format!("{content:?} did not survive a power failure"));
            }
        }
    }

    /// Nobody is to blame if this content is nowhere any more.
    pub(super) fn excuse(&mut self, content: Content) {
        if !self.is_somewhere(content) {
            self.given_up.insert(content);
        }
    }

    pub(super) fn heal(&mut self) {
        self.note(0, "heals", || "the weather is fine".into());
        self.weather.missed_percent = 0;
        self.weather.error_percent = 0;
        self.weather.twin_percent = 0;
        self.weather.commit_trouble_percent = 0;
        self.weather.reader_cheats = false;
        self.start_tracker();
        for machine in 0..self.machines.len() {
            self.machines[machine].full_until = 0;
            self.machines[machine].doom = None;
            self.root_back(machine);
            self.start(machine);
            let run = self.machines[machine].run;
            let mail = Mail::Scan(self.whole_scan(machine));
            // After whatever the first look of a fresh start still has to report.
            self.at(self.now + 10_000, Event::At { machine, run, mail });
        }
        self.at(self.now + 1, Event::Connect);
        self.at(self.now + 5000, Event::Connect);
    }

    /// Users whose folder was found empty say that they meant it.
    pub(super) fn confirm_empty(&mut self) {
        for machine in 0..self.machines.len() {
            if let Some(engine) = self.machines[machine].engine.as_mut() {
                engine.accept_empty();
                self.turn(machine, Input::Tick);
            }
        }
    }
}
