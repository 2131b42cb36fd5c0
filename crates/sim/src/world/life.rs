//! Machines start, die and are made well again.

use super::*;

impl World {
    pub(super) fn start(&mut self, machine: usize) {
        if self.machines[machine].engine.is_some() {
            return;
        }
        self.note(|| format!("m{machine} starts"));
        let it = &mut self.machines[machine];
        it.run += 1;
        it.eyes_free = self.now;
        it.tick_at = None;
        let who = Identity {
            replica: ReplicaId(machine as u64 + 1),
            label: Label::tidy(&format!("m{machine}")),
            rights: Rights::Writer,
        };
        let rows = it
            .nodes
            .values()
            .chain(it.heard.values())
            .chain(it.counters.as_ref());
        it.engine = Some(Engine::new(who, rows.cloned().collect::<Vec<_>>()));
        let run = it.run;
        for (node, print) in self.machines[machine].disk.parked() {
            self.give(machine, Input::Parked { node, print });
        }
        let dirs = vec![RelPath::root()];
        self.soon(
            20,
            Event::Scan {
                machine,
                run,
                dirs,
                ask: None,
                whole: true,
            },
        );
        self.soon(500, Event::Connect);
    }

    pub(super) fn crash(&mut self, machine: usize) {
        if self.machines[machine].engine.take().is_none() {
            return;
        }
        self.note(|| format!("m{machine} dies"));
        for link in 0..self.links.len() {
            if self.links[link].ends.contains(&machine) {
                self.cut(link);
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.note(|| "the weather is fine".into());
        self.weather.missed_percent = 0;
        for machine in 0..self.machines.len() {
            self.start(machine);
            let run = self.machines[machine].run;
            let dirs = vec![RelPath::root()];
            let scan = Event::Scan {
                machine,
                run,
                dirs,
                ask: None,
                whole: true,
            };
            // After whatever the first look of a fresh start still has to report.
            self.at(self.now + 10_000, scan);
        }
        self.at(self.now + 1, Event::Connect);
        self.at(self.now + 5000, Event::Connect);
    }

    /// Users whose folder was found empty say that they meant it.
    pub(super) fn confirm_empty(&mut self) {
        for machine in 0..self.machines.len() {
            if let Some(engine) = self.machines[machine].engine.as_mut() {
                engine.accept_empty();
                self.give(machine, Input::Tick);
            }
        }
    }
}
