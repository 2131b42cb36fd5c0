//! What is to be kept is kept, and then the rest of a turn is carried out.
//!
//! Like the host, where writing the index takes time: one order is written at a time, what it was
//! for waits for it, and meanwhile the engine takes its next turns. Whoever dies in between finds
//! the order written or not.

use ahoy_logic::sync::{Effect, Row};

use super::{Machine, Mail, World};
use crate::Flaw;
use crate::weather::Millis;

/// Longest that an index cannot be written.
const TROUBLE_MAX: Millis = 20_000;

/// What waits for the index.
#[derive(Default)]
pub(super) struct Backlog {
    rows: Vec<Row>,
    then: Vec<Effect>,
    /// What is being written, and what is to be done after that.
    ordered: Option<(Vec<Row>, Vec<Effect>)>,
}

impl World {
    /// The effects of a turn.
    pub(super) fn carry_out_all(&mut self, machine: usize, effects: Vec<Effect>) {
        let it = &mut self.machines[machine];
        for effect in effects {
            if let Effect::Keep(row) = effect {
                it.backlog.rows.push(row);
            } else {
                it.backlog.then.push(effect);
            }
        }
        self.order(machine);
    }

    /// Has written what is there to be written, if nothing is being written.
    fn order(&mut self, machine: usize) {
        let backlog = &mut self.machines[machine].backlog;
        if backlog.ordered.is_some() {
            return;
        }
        let rows = std::mem::take(&mut backlog.rows);
        let then = std::mem::take(&mut backlog.then);
        if rows.is_empty() && then.is_empty() {
            return;
        }
        let takes = if rows.is_empty() { 0 } else { self.takes() };
        if takes == 0 {
            return self.write_at_once(machine, rows, then);
        }
        self.make_durable(machine, &rows);
        self.machines[machine].backlog.ordered = Some((rows, then));
        let run = self.machines[machine].run;
        let mail = Mail::Committed;
        self.at(self.now + takes, super::Event::At { machine, run, mail });
    }

    fn write_at_once(&mut self, machine: usize, rows: Vec<Row>, then: Vec<Effect>) {
        if self.dies_before_it_is_kept(machine) {
            return;
        }
        if !rows.is_empty() {
            if self.flaw == Some(Flaw::IndexNotWritten) && self.dice.chance(20) {
                return self.do_all(machine, then);
            }
            self.make_durable(machine, &rows);
        }
        self.machines[machine].keep_all(rows);
        self.do_all(machine, then);
    }

    /// How long it takes to write the index once.
    fn takes(&mut self) -> Millis {
        let most = self.weather.commit_ms;
        if most == 0 {
            return 0;
        }
        let percent = self.weather.commit_trouble_percent;
        let most = if percent > 0 && self.dice.chance(percent) {
            TROUBLE_MAX
        } else {
            most
        };
        1 + self.dice.below(most)
    }

    /// What was ordered has been written.
    pub(super) fn committed(&mut self, machine: usize) {
        let Some((rows, then)) = self.machines[machine].backlog.ordered.take() else {
            return;
        };
        if self.dies_before_it_is_kept(machine) {
            return;
        }
        let run = self.machines[machine].run;
        self.machines[machine].keep_all(rows);
        self.do_all(machine, then);
        let it = &self.machines[machine];
        if it.run == run && it.engine.is_some() {
            self.order(machine);
        }
    }

    /// Ends the process if it was to die before it knows that what it wrote is in the index.
    fn dies_before_it_is_kept(&mut self, machine: usize) -> bool {
        let doom = self.machines[machine].doom;
        let doom = doom.filter(|doom| !doom.is_kept);
        if let Some(doom) = doom {
            self.end_now(machine, doom.is_power);
        }
        doom.is_some()
    }

    /// Carries out what may be done by now, or ends the process on the way.
    fn do_all(&mut self, machine: usize, effects: Vec<Effect>) {
        let doom = self.machines[machine].doom;
        for (done, effect) in effects.into_iter().enumerate() {
            if doom.is_some_and(|doom| done as u64 >= doom.effects) {
                break;
            }
            self.carry_out(machine, effect);
        }
        if let Some(doom) = doom {
            self.end_now(machine, doom.is_power);
        }
    }

    /// The disk first: the index may not claim what it lacks.
    fn make_durable(&mut self, machine: usize, rows: &[Row]) {
        let it = &mut self.machines[machine];
        if it.unsynced && self.flaw != Some(Flaw::IndexBeforeDisk) {
            it.disk.sync();
            it.unsynced = false;
        }
        for row in rows {
            self.examine(machine, row);
        }
    }

    /// The process dies with an order on its way, which may have been written all the same.
    pub(super) fn drop_orders(&mut self, machine: usize) {
        let backlog = std::mem::take(&mut self.machines[machine].backlog);
        if let Some((rows, _)) = backlog.ordered
            && self.dice.chance(50)
        {
            self.machines[machine].keep_all(rows);
        }
    }
}

impl Machine {
    fn keep_all(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.is_put_back &= !matches!(row, Row::Numbers(_));
            self.index.keep(row);
        }
    }
}
