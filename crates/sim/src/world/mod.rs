//! The imagined world: machines with engines and disks, links between them, and a queue of events
//! in the order of time. One seed decides everything; nothing else is random.
//!
//! What is imagined faithfully: looks and steps take time and happen at one moment in between,
//! reports arrive late, links are ordered but may be cut with everything under way, a process may
//! die between any two events (what it kept is kept, what it had not been told is not known), and
//! the watcher may miss things. Power failure is not imagined here.

mod eyes;
mod hands;
mod judge;
mod life;
mod net;
mod turn;
mod users;

use std::collections::BTreeMap;
use std::time::Duration;

use ahoy_logic::moment::Moment;
use ahoy_logic::sync::{
    Act, Effect, Engine, Identity, Input, LinkId, Look, Notice, Outcome, Print, Rights, Row,
    Sighting, Source, State, Step, Trouble,
};
use ahoy_wire::sync::{Item, Label, Message, Name, Records, RelPath, ReplicaId};

use crate::dice::Dice;
use crate::disk::{Content, Disk, Kind};

/// Milliseconds of the imagined clock.
type Millis = u64;

/// How wild a run is.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Machines.
    pub machines: usize,
    /// What users do in all.
    pub deeds: u64,
    /// For how long they do it.
    pub span: Millis,
    /// Events of the watcher that are lost, in percent.
    pub missed_percent: u64,
    /// Links are cut about this often, 0 for never.
    pub cut_every: Millis,
    /// A process dies about this often, 0 for never.
    pub crash_every: Millis,
    /// Machines meet only their neighbours in a row, not everybody.
    pub row_of_friends: bool,
    /// Everybody starts with files of their own at the same paths.
    pub full_at_start: bool,
}

enum Event {
    Give {
        machine: usize,
        run: u64,
        input: Input,
    },
    LookAt {
        machine: usize,
        run: u64,
        look: Look,
        ask: Option<u64>,
    },
    Scan {
        machine: usize,
        run: u64,
        dirs: Vec<RelPath>,
        ask: Option<u64>,
        whole: bool,
    },
    Step {
        machine: usize,
        run: u64,
        step: Step,
    },
    Read {
        machine: usize,
        run: u64,
        path: RelPath,
        print: Print,
    },
    Carry {
        link: usize,
        to: usize,
        message: Message,
    },
    Tick {
        machine: usize,
        run: u64,
    },
    Deed,
    Connect,
    Cut,
    Crash,
    Start {
        machine: usize,
    },
}

struct Machine {
    disk: Disk,
    engine: Option<Engine>,
    /// Counts starts, so that what belongs to an earlier life is dropped.
    run: u64,
    nodes: BTreeMap<u64, Row>,
    heard: BTreeMap<ReplicaId, Row>,
    counters: Option<Row>,
    eyes_free: Millis,
    tick_at: Option<Millis>,
}

struct Link {
    ends: [usize; 2],
    ids: [LinkId; 2],
    is_up: bool,
    /// When the last message to each end arrives: links keep order.
    last: [Millis; 2],
}

/// One run.
pub struct World {
    weather: Weather,
    dice: Dice,
    now: Millis,
    serial: u64,
    queue: BTreeMap<(Millis, u64), Event>,
    machines: Vec<Machine>,
    links: Vec<Link>,
    /// Contents that users wrote.
    written: Vec<Content>,
    /// Contents that a user who had them replaced or deleted.
    given_up: Vec<Content>,
    trace: blake3::Hasher,
    events: u64,
    log: Option<Vec<String>>,
}

/// Most events of one run; more means that it goes round in circles.
const EVENTS_MAX: u64 = 400_000;

/// After the weather is fine everything has this long to become the same.
const HEAL: Millis = 30 * 60 * 1000;

impl World {
    /// A world with nothing in it yet.
    pub fn new(seed: u64, weather: Weather, log: bool) -> Self {
        let mut world = Self {
            dice: Dice::new(seed),
            now: 0,
            serial: 0,
            queue: BTreeMap::new(),
            machines: Vec::new(),
            links: Vec::new(),
            written: Vec::new(),
            given_up: Vec::new(),
            trace: blake3::Hasher::new(),
            events: 0,
            log: log.then(Vec::new),
            weather,
        };
        for index in 0..world.weather.machines {
            world.machines.push(Machine {
                disk: Disk::default(),
                engine: None,
                run: 0,
                nodes: BTreeMap::new(),
                heard: BTreeMap::new(),
                counters: None,
                eyes_free: 0,
                tick_at: None,
            });
            if world.weather.full_at_start {
                for _ in 0..6 {
                    world.deed(index);
                }
            }
            let start = world.dice.below(2000);
            world.at(start, Event::Start { machine: index });
        }
        world.at(1, Event::Connect);
        for _ in 0..world.weather.deeds {
            let when = world.dice.below(world.weather.span);
            world.at(when, Event::Deed);
        }
        let storms = [
            (world.weather.cut_every, true),
            (world.weather.crash_every, false),
        ];
        for (every, is_cut) in storms {
            let mut when = 0;
            loop {
                when += 1 + world.dice.below(2 * every);
                if every == 0 || when >= world.weather.span {
                    break;
                }
                world.at(when, if is_cut { Event::Cut } else { Event::Crash });
            }
        }
        world
    }

    /// Runs to the end; the trace's hash, or what is wrong.
    pub fn run(mut self) -> Result<[u8; 32], String> {
        self.pass_until(self.weather.span)?;
        self.heal();
        self.pass_until(self.now + HEAL)?;
        self.confirm_empty();
        self.pass_until(self.now + HEAL)?;
        self.judge()?;
        // A quiet deletion must reach everyone and come back from nowhere.
        let victim = self.dice.below(self.machines.len() as u64) as usize;
        let files: Vec<RelPath> = self.machines[victim].disk.tree().into_keys().collect();
        for path in files.iter().filter(|path| path.as_bytes().len() % 2 == 0) {
            self.remove_at(victim, path);
        }
        let want = self.machines[victim].disk.tree();
        self.pass_until(self.now + HEAL)?;
        self.judge()?;
        if self.machines[victim].disk.tree() != want {
            return Err(self.fault("deleted files came back"));
        }
        Ok(*self.trace.finalize().as_bytes())
    }

    /// What happened, if it was to be written down.
    fn fault(&self, what: &str) -> String {
        let mut text = format!("{what}, at {} ms after {} events\n", self.now, self.events);
        if let Some(log) = &self.log {
            text.push_str(&log.join("\n"));
            for (index, machine) in self.machines.iter().enumerate() {
                text.push_str(&format!(
                    "\nmachine {index}: {:#?}",
                    judge::brief(&machine.disk)
                ));
                let reasons = machine.engine.as_ref().map(Engine::reasons);
                text.push_str(&format!("\n{reasons:#?}"));
            }
        }
        text
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>7} {}", self.now, text()));
        }
    }

    fn at(&mut self, when: Millis, event: Event) {
        self.serial += 1;
        self.queue.insert((when, self.serial), event);
    }

    fn soon(&mut self, most: Millis, event: Event) {
        let when = self.now + 1 + self.dice.below(most);
        self.at(when, event);
    }

    fn pass_until(&mut self, end: Millis) -> Result<(), String> {
        while let Some((&(when, serial), _)) = self.queue.first_key_value() {
            if when > end {
                break;
            }
            self.now = when;
            let Some(event) = self.queue.remove(&(when, serial)) else {
                break;
            };
            self.events += 1;
            if self.events > EVENTS_MAX {
                return Err(self.fault("it goes round in circles"));
            }
            self.happen(event);
        }
        Ok(())
    }

    fn alive(&self, machine: usize, run: u64) -> bool {
        self.machines[machine].run == run && self.machines[machine].engine.is_some()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Give {
                machine,
                run,
                input,
            } if self.alive(machine, run) => {
                self.trace.update(format!("{machine} {input:?}").as_bytes());
                self.note(|| format!("m{machine} <- {input:?}"));
                self.give(machine, input);
            }
            Event::LookAt {
                machine,
                run,
                look,
                ask,
            } if self.alive(machine, run) => {
                self.look(machine, look, ask);
            }
            Event::Scan {
                machine,
                run,
                dirs,
                ask,
                whole,
            } if self.alive(machine, run) => {
                self.scan(machine, dirs, ask, whole);
            }
            Event::Step { machine, run, step } if self.alive(machine, run) => {
                self.step(machine, step);
            }
            Event::Read {
                machine,
                run,
                path,
                print,
            } if self.alive(machine, run) => {
                self.read(machine, path, print);
            }
            Event::Tick { machine, run } if self.alive(machine, run) => {
                self.machines[machine].tick_at = None;
                self.give(machine, Input::Tick);
            }
            Event::Give { .. }
            | Event::LookAt { .. }
            | Event::Scan { .. }
            | Event::Step { .. }
            | Event::Read { .. }
            | Event::Tick { .. } => {}
            Event::Carry { link, to, message } => {
                if self.links[link].is_up {
                    let (machine, id) = (self.links[link].ends[to], self.links[link].ids[to]);
                    let run = self.machines[machine].run;
                    let input = Input::Heard { link: id, message };
                    self.happen(Event::Give {
                        machine,
                        run,
                        input,
                    });
                }
            }
            Event::Deed => {
                let machine = self.dice.below(self.machines.len() as u64) as usize;
                self.deed(machine);
            }
            Event::Connect => self.connect(),
            Event::Cut => {
                let up: Vec<usize> = (0..self.links.len())
                    .filter(|link| self.links[*link].is_up)
                    .collect();
                if let Some(link) = self.dice.pick(&up) {
                    self.cut(link);
                    self.soon(3000, Event::Connect);
                }
            }
            Event::Crash => {
                let machine = self.dice.below(self.machines.len() as u64) as usize;
                self.crash(machine);
                self.soon(3000, Event::Start { machine });
            }
            Event::Start { machine } => self.start(machine),
        }
    }
}
