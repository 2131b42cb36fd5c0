//! What a machine sees of its disk: looks, scans, readings, and what its watcher notices.

use super::*;

impl World {
    /// The eyes report in the order in which they looked.
    pub(super) fn report(&mut self, machine: usize, input: Input) {
        let delay = 1 + self.dice.below(15);
        let when = (self.now + delay).max(self.machines[machine].eyes_free);
        self.machines[machine].eyes_free = when;
        let run = self.machines[machine].run;
        self.at(
            when,
            Event::Give {
                machine,
                run,
                input,
            },
        );
    }

    pub(super) fn look(&mut self, machine: usize, look: Look, ask: Option<u64>) {
        match look {
            Look::At(dir, name) => {
                let found = self.machines[machine].disk.look(&dir, &name);
                let is_dir = matches!(found, ahoy_logic::sync::Found::Dir(_));
                let below = dir.join(&name);
                let sightings = vec![Sighting { dir, name, found }];
                self.report(
                    machine,
                    Input::Seen {
                        sightings,
                        whole: Vec::new(),
                        asked: ask,
                    },
                );
                match (is_dir && ask.is_none(), below) {
                    (true, Some(below)) => self.scan(machine, vec![below], None, false),
                    _ => self.report(machine, Input::Settled { whole_tree: false }),
                }
            }
            Look::Below(dir) => self.scan(machine, vec![dir], ask, false),
        }
    }

    /// Lists one directory now, and the rest a little later: a scan sees no single moment.
    pub(super) fn scan(
        &mut self,
        machine: usize,
        mut dirs: Vec<RelPath>,
        ask: Option<u64>,
        whole: bool,
    ) {
        let Some(dir) = dirs.pop() else {
            self.report(machine, Input::Settled { whole_tree: whole });
            return;
        };
        if let Some(sightings) = self.machines[machine].disk.list(&dir) {
            for sighting in &sightings {
                if matches!(sighting.found, ahoy_logic::sync::Found::Dir(_)) {
                    dirs.extend(dir.join(&sighting.name));
                }
            }
            let seen = Input::Seen {
                sightings,
                whole: vec![dir],
                asked: ask,
            };
            self.report(machine, seen);
        }
        let run = self.machines[machine].run;
        self.soon(
            8,
            Event::Scan {
                machine,
                run,
                dirs,
                ask,
                whole,
            },
        );
    }

    pub(super) fn read(&mut self, machine: usize, path: RelPath, print: Print) {
        let input = match self.machines[machine].disk.read(&path, &print) {
            Some(content) => Input::Hashed {
                path,
                print,
                hash: content.hash(),
            },
            None => {
                self.watch(machine, &path);
                Input::Unread {
                    path,
                    reason: "it changes".into(),
                    changing: true,
                }
            }
        };
        let run = self.machines[machine].run;
        self.soon(
            40,
            Event::Give {
                machine,
                run,
                input,
            },
        );
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
        let run = self.machines[machine].run;
        self.soon(
            10,
            Event::LookAt {
                machine,
                run,
                look: Look::At(dir, name),
                ask: None,
            },
        );
    }
}
