//! One turn of an engine: an input in, the effects carried out.

use super::*;

impl World {
    pub(super) fn give(&mut self, machine: usize, input: Input) {
        let now = Moment::after_origin(Duration::from_millis(self.now));
        let it = &mut self.machines[machine];
        let Some(engine) = it.engine.as_mut() else {
            return;
        };
        engine.take(now, input);
        let effects = engine.flush(now);
        let deadline = engine.deadline();
        let run = it.run;
        for effect in effects {
            self.carry_out(machine, run, effect);
        }
        if let Some((moment, _)) = deadline {
            let due = (moment.since_origin().as_millis() as u64 + 1).max(self.now + 1);
            if self.machines[machine].tick_at.is_none_or(|at| due < at) {
                self.machines[machine].tick_at = Some(due);
                self.at(due, Event::Tick { machine, run });
            }
        }
    }

    pub(super) fn carry_out(&mut self, machine: usize, run: u64, effect: Effect) {
        match effect {
            Effect::Keep(row) => {
                let it = &mut self.machines[machine];
                match &row {
                    Row::Node { number, .. } => drop(it.nodes.insert(*number, row)),
                    Row::Heard { replica, .. } => drop(it.heard.insert(*replica, row)),
                    Row::Counters { .. } => it.counters = Some(row),
                }
            }
            Effect::Say { link, message } => self.say(link, message),
            Effect::Send { link, upto, items } => {
                let items = items
                    .into_iter()
                    .map(|outgoing| self.item(machine, outgoing));
                let items = items.collect();
                self.say(link, Message::Records(Records { upto, items }));
                self.soon(
                    30,
                    Event::Give {
                        machine,
                        run,
                        input: Input::Room { link },
                    },
                );
            }
            Effect::Accept { .. } => {}
            Effect::Hang { link, reason } => {
                self.note(|| format!("m{machine} hangs up: {reason}"));
                if let Some(link) = self.links.iter().position(|l| l.ids.contains(&link)) {
                    self.cut(link);
                }
            }
            Effect::Do(step) => {
                self.note(|| format!("m{machine} does {step:?}"));
                let step = *step;
                self.soon(60, Event::Step { machine, run, step });
            }
            Effect::Look { look, ask } => {
                let ask = Some(ask);
                self.soon(
                    10,
                    Event::LookAt {
                        machine,
                        run,
                        look,
                        ask,
                    },
                );
            }
            Effect::Read { path, print } => {
                self.soon(
                    40,
                    Event::Read {
                        machine,
                        run,
                        path,
                        print,
                    },
                );
            }
            Effect::Tell(notice) => {
                if !matches!(notice, Notice::Brought { .. }) {
                    self.note(|| format!("m{machine} tells {notice:?}"));
                }
            }
        }
    }
}
