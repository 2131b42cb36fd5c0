//! What a machine sees of its disk: looks, scans, readings, and what its watcher notices.

use ahoy_logic::sync::{Found, Input, Look, Print, Sighting};
use ahoy_wire::sync::RelPath;

use super::{Event, Mail, Scan, World};
use crate::Flaw;

impl World {
    /// The eyes report in the order in which they looked.
    pub(super) fn report(&mut self, machine: usize, input: Input) {
        let delay = 1 + self.dice.below(15);
        let when = (self.now + delay).max(self.machines[machine].eyes_free);
        self.machines[machine].eyes_free = when;
        let run = self.machines[machine].run;
        let mail = Mail::Give(Box::new(input));
        self.at(when, Event::At { machine, run, mail });
    }

    /// Only after the root has been found in its place.
    fn report_settled(&mut self, machine: usize, whole_tree: bool) {
        let is_away = self.machines[machine].is_away;
        if is_away && self.flaw != Some(Flaw::RootNotWatched) {
            self.report(machine, Input::RootLost);
        } else {
            self.report(machine, Input::Settled { whole_tree });
        }
    }

    pub(super) fn look(&mut self, machine: usize, look: Look, ask: Option<u64>) {
        let (dir, name) = match look {
            Look::At(dir, name) => (dir, name),
            Look::Below(dir) => return self.look_below(machine, dir, ask),
        };
        let found = if self.machines[machine].is_away {
            Found::Nothing
        } else {
            let found = self.machines[machine].disk.look(&dir, &name);
            self.maybe_unreadable(found)
        };
        let below = dir.join(&name);
        let rules = &self.machines[machine].rules;
        let is_entered = |below: &RelPath| rules.let_into(below, false);
        let is_dir = matches!(found, Found::Dir(_)) && below.as_ref().is_none_or(is_entered);
        let seen = Input::Seen {
            sightings: vec![Sighting { dir, name, found }],
            whole: Vec::new(),
            asked: ask,
        };
        self.report(machine, seen);
        match (is_dir && ask.is_none(), below) {
            (true, Some(below)) => self.look_below(machine, below, None),
            _ => self.report_settled(machine, false),
        }
    }

    fn look_below(&mut self, machine: usize, dir: RelPath, ask: Option<u64>) {
        let scan = Scan {
            dirs: vec![dir],
            ask,
            whole: false,
            epoch: self.machines[machine].epoch,
        };
        self.scan(machine, scan);
    }

    fn maybe_unreadable(&mut self, found: Found) -> Found {
        let percent = self.weather.error_percent;
        if percent > 0 && found != Found::Nothing && self.dice.chance(percent) {
            return Found::Unreadable("an imagined error".into());
        }
        found
    }

    /// Lists one directory now, and the rest a little later: a scan sees no single moment.
    pub(super) fn scan(&mut self, machine: usize, mut scan: Scan) {
        if scan.epoch != self.machines[machine].epoch {
            return;
        }
        let Some(dir) = scan.dirs.pop() else {
            self.report_settled(machine, scan.whole);
            return;
        };
        let listed = if self.machines[machine].is_away {
            dir.is_root().then(Vec::new)
        } else {
            self.machines[machine].disk.list(&dir)
        };
        if let Some(mut sightings) = listed {
            for sighting in &mut sightings {
                let found = std::mem::replace(&mut sighting.found, Found::Nothing);
                sighting.found = self.maybe_unreadable(found);
                let below = dir.join(&sighting.name);
                if matches!(sighting.found, Found::Dir(_))
                    && let Some(below) = below
                    && self.machines[machine]
                        .rules
                        .let_into(&below, scan.ask.is_some())
                {
                    scan.dirs.push(below);
                }
            }
            let seen = Input::Seen {
                sightings,
                whole: vec![dir],
                asked: scan.ask,
            };
            self.report(machine, seen);
        }
        self.soon_at(machine, 8, Mail::Scan(scan));
    }

    pub(super) fn read(&mut self, machine: usize, path: RelPath, print: Print) {
        let percent = self.weather.error_percent;
        let is_broken = percent > 0 && self.dice.chance(percent);
        let it = &mut self.machines[machine];
        let found = it
            .disk
            .read(&path, &print)
            .filter(|_| !it.is_away && !is_broken);
        let input = match found {
            Some((content, print)) => {
                if self.flaw != Some(Flaw::ReadingNotSynced) {
                    it.disk.sync_file(&path);
                }
                let hash = content.hash();
                Input::Hashed { path, print, hash }
            }
            None => {
                self.watch(machine, &path);
                Input::Unread {
                    path,
                    reason: "it changes".into(),
                    changing: !is_broken,
                }
            }
        };
        self.answer(machine, 40, input);
    }

    /// The watcher notices that something happened at a path, or misses it.
    pub(super) fn watch(&mut self, machine: usize, path: &RelPath) {
        let Some((dir, name)) = path.split() else {
            return;
        };
        if self.machines[machine].engine.is_none() || self.dice.chance(self.weather.missed_percent)
        {
            return;
        }
        let look = Look::At(dir, name);
        self.soon_at(machine, 10, Mail::LookAt { look, ask: None });
    }
}
