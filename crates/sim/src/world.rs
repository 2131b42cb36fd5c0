//! The imagined world: machines with engines and disks, links between them, and a queue of events
//! in the order of time. One seed decides everything; nothing else is random.
//!
//! What is imagined faithfully: looks and steps take time and happen at one moment in between,
//! reports arrive late, links are ordered but may be cut with everything under way, a process may
//! die between any two events (what it kept is kept, what it had not been told is not known), and
//! the watcher may miss things. Power failure is not imagined here.

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
    pub fn fault(&self, what: &str) -> String {
        let mut text = format!("{what}, at {} ms after {} events\n", self.now, self.events);
        if let Some(log) = &self.log {
            text.push_str(&log.join("\n"));
            for (index, machine) in self.machines.iter().enumerate() {
                text.push_str(&format!("\nmachine {index}: {:#?}", brief(&machine.disk)));
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

    fn start(&mut self, machine: usize) {
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

    fn crash(&mut self, machine: usize) {
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

    fn connect(&mut self) {
        for a in 0..self.machines.len() {
            for b in a + 1..self.machines.len() {
                let strangers = self.weather.row_of_friends && b != a + 1;
                let linked = self.links.iter().any(|l| l.is_up && l.ends == [a, b]);
                let asleep = self.machines[a].engine.is_none() || self.machines[b].engine.is_none();
                if strangers || linked || asleep {
                    continue;
                }
                let number = self.links.len() as u64;
                let ids = [LinkId(2 * number), LinkId(2 * number + 1)];
                let last = [self.now, self.now];
                self.links.push(Link {
                    ends: [a, b],
                    ids,
                    is_up: true,
                    last,
                });
                for (machine, link) in [(a, ids[0]), (b, ids[1])] {
                    let run = self.machines[machine].run;
                    let input = Input::Opened {
                        link,
                        rights: Rights::Writer,
                    };
                    self.happen(Event::Give {
                        machine,
                        run,
                        input,
                    });
                }
            }
        }
    }

    fn cut(&mut self, link: usize) {
        if !std::mem::replace(&mut self.links[link].is_up, false) {
            return;
        }
        for end in 0..2 {
            let (machine, id) = (self.links[link].ends[end], self.links[link].ids[end]);
            let run = self.machines[machine].run;
            self.happen(Event::Give {
                machine,
                run,
                input: Input::Closed { link: id },
            });
        }
    }

    fn heal(&mut self) {
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
    fn confirm_empty(&mut self) {
        for machine in 0..self.machines.len() {
            if let Some(engine) = self.machines[machine].engine.as_mut() {
                engine.accept_empty();
                self.give(machine, Input::Tick);
            }
        }
    }

    // The engine and its effects.

    fn give(&mut self, machine: usize, input: Input) {
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

    fn carry_out(&mut self, machine: usize, run: u64, effect: Effect) {
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

    fn item(&mut self, machine: usize, outgoing: ahoy_logic::sync::Outgoing) -> Item {
        let content = outgoing.attach.and_then(|path| {
            let found = self.machines[machine].disk.tree().remove(&path)?;
            match found.0 {
                Kind::File(content) => Some(content.bytes().into()),
                Kind::Dir(_) | Kind::Link(_) => None,
            }
        });
        Item {
            record: outgoing.record,
            signature: outgoing.signature,
            content,
        }
    }

    fn say(&mut self, link: LinkId, message: Message) {
        let Some(index) = self.links.iter().position(|l| l.ids.contains(&link)) else {
            return;
        };
        if !self.links[index].is_up {
            return;
        }
        let to = usize::from(self.links[index].ids[0] == link);
        let arrives = self.now + 1 + self.dice.below(80);
        let when = arrives.max(self.links[index].last[to]);
        self.links[index].last[to] = when;
        self.at(
            when,
            Event::Carry {
                link: index,
                to,
                message,
            },
        );
    }

    /// The eyes report in the order in which they looked.
    fn report(&mut self, machine: usize, input: Input) {
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

    fn look(&mut self, machine: usize, look: Look, ask: Option<u64>) {
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
    fn scan(&mut self, machine: usize, mut dirs: Vec<RelPath>, ask: Option<u64>, whole: bool) {
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

    fn step(&mut self, machine: usize, step: Step) {
        let content = match &step.act {
            Act::Write {
                source: Source::Here(bytes),
                ..
            } if bytes.is_empty() => Ok(Some(Content { token: 0, size: 0 })),
            Act::Write {
                source: Source::Here(bytes),
                ..
            } => Ok(Content::of_bytes(bytes)),
            Act::Write {
                source: Source::Local { from, expect },
                ..
            } => {
                let found = self.machines[machine].disk.read(from, expect);
                found.map(Some).ok_or(Trouble::Changed)
            }
            Act::Write {
                source: Source::Peer { link, .. },
                hash,
                ..
            } => self
                .fetch(*link, step.node, *hash)
                .map(Some)
                .ok_or(Trouble::NoSource),
            Act::MakeDir { .. }
            | Act::MakeLink { .. }
            | Act::SetMeta { .. }
            | Act::Move { .. }
            | Act::Remove { .. }
            | Act::Park { .. }
            | Act::Unpark { .. } => Ok(None),
        };
        let disk = &mut self.machines[machine].disk;
        let result = content.and_then(|content| disk.act(step.node, &step.act, content));
        self.note(|| format!("m{machine} did {:?} {:?}: {result:?}", step.job, step.node));
        let paths: Vec<RelPath> = match &step.act {
            Act::Move { from, to, .. } => vec![from.clone(), to.clone()],
            Act::MakeDir { at, .. }
            | Act::MakeLink { at, .. }
            | Act::Write { at, .. }
            | Act::SetMeta { at, .. }
            | Act::Remove { at, .. }
            | Act::Park { at, .. } => vec![at.clone()],
            Act::Unpark { to } => vec![to.clone()],
        };
        for path in paths {
            self.watch(machine, &path);
        }
        let run = self.machines[machine].run;
        let input = Input::Finished(vec![Outcome {
            job: step.job,
            result,
        }]);
        self.soon(
            60,
            Event::Give {
                machine,
                run,
                input,
            },
        );
    }

    fn fetch(
        &self,
        link: LinkId,
        node: ahoy_wire::sync::NodeId,
        hash: ahoy_wire::sync::Hash,
    ) -> Option<Content> {
        let link = self
            .links
            .iter()
            .find(|l| l.ids.contains(&link) && l.is_up)
            .map(|l| {
                let from = usize::from(l.ids[0] == link);
                l.ends[from]
            })?;
        let peer = &self.machines[link];
        let (path, print) = peer.engine.as_ref()?.locate(node, hash)?;
        peer.disk.read(&path, &print)
    }

    fn read(&mut self, machine: usize, path: RelPath, print: Print) {
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
    fn watch(&mut self, machine: usize, path: &RelPath) {
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

    // The users.

    fn paths(&self, machine: usize) -> Vec<RelPath> {
        self.machines[machine].disk.tree().into_keys().collect()
    }

    fn fresh_path(&mut self, machine: usize) -> RelPath {
        let mut dirs = vec![RelPath::root()];
        let tree = self.machines[machine].disk.tree();
        let is_dir = |kind: &Kind| matches!(kind, Kind::Dir(_));
        dirs.extend(
            tree.iter()
                .filter(|(_, (kind, _))| is_dir(kind))
                .map(|(p, _)| p.clone()),
        );
        let dir = self.dice.pick(&dirs).unwrap_or_default();
        let letter = b'a' + self.dice.below(5) as u8;
        let name = Name::new(&[letter]).expect("a letter is a name");
        dir.join(&name).unwrap_or_default()
    }

    fn new_content(&mut self) -> Content {
        let token = self.written.len() as u64 + 1;
        let sizes = [16, 40, 100_000, 5_000_000];
        let size = self.dice.pick(&sizes).unwrap_or(16);
        let content = Content { token, size };
        self.written.push(content);
        content
    }

    fn remove_at(&mut self, machine: usize, path: &RelPath) {
        let lost = self.machines[machine].disk.contents_below(path);
        if self.machines[machine].disk.remove(path) {
            self.given_up.extend(lost);
            self.watch(machine, path);
        }
    }

    /// One thing that a user does on a machine, whether or not ahoy runs there.
    fn deed(&mut self, machine: usize) {
        let paths = self.paths(machine);
        let old = self.dice.pick(&paths);
        let fresh = self.fresh_path(machine);
        let deed = self.dice.below(100);
        match (deed, old) {
            (0..35, _) => {
                let lost = self.machines[machine].disk.contents_below(&fresh);
                let content = self.new_content();
                let in_place = self.dice.chance(50);
                if self.machines[machine].disk.write(&fresh, content, in_place) {
                    self.note(|| format!("m{machine}: user writes {fresh:?} {content:?}"));
                    self.given_up.extend(lost);
                    self.watch(machine, &fresh);
                } else {
                    self.written.pop();
                }
            }
            (35..50, _) => {
                if self.machines[machine].disk.mkdir(&fresh) {
                    self.note(|| format!("m{machine}: user makes {fresh:?}"));
                    self.watch(machine, &fresh);
                }
            }
            (50..75, Some(old)) => {
                let there = self.machines[machine].disk.contents_below(&fresh);
                if self.machines[machine].disk.rename(&old, &fresh) {
                    self.note(|| format!("m{machine}: user renames {old:?} {fresh:?}"));
                    self.given_up.extend(there);
                    self.watch(machine, &old);
                    self.watch(machine, &fresh);
                }
            }
            (75..88, Some(old)) => {
                self.note(|| format!("m{machine}: user removes {old:?}"));
                self.remove_at(machine, &old);
            }
            (88..94, Some(old)) => {
                let mode = 0o600 + self.dice.below(0o100) as u16;
                self.machines[machine].disk.chmod(&old, mode);
                self.note(|| format!("m{machine}: user sets {old:?} to {mode:o}"));
                self.watch(machine, &old);
            }
            (94..97, _) => {
                let target = ahoy_wire::sync::Target::new(b"../there").expect("a good target");
                if self.machines[machine].disk.symlink(&fresh, target) {
                    self.watch(machine, &fresh);
                }
            }
            (_, Some(old)) => {
                if let Some(other) = self.dice.pick(&paths) {
                    self.swap(machine, old, other);
                }
            }
            (_, None) => {}
        }
    }

    /// Two names are swapped.
    fn swap(&mut self, machine: usize, old: RelPath, other: RelPath) {
        let spare = RelPath::parse(b"spare").expect("a good path");
        let disk = &mut self.machines[machine].disk;
        if disk.rename(&old, &spare) {
            let back = if disk.rename(&other, &old) {
                &other
            } else {
                &old
            };
            disk.rename(&spare, back);
        }
        self.note(|| format!("m{machine}: user swaps {old:?} {other:?}"));
        for path in [old, other, spare] {
            self.watch(machine, &path);
        }
    }

    // The judge.

    fn judge(&self) -> Result<(), String> {
        for (index, machine) in self.machines.iter().enumerate() {
            let progress = machine.engine.as_ref().map(Engine::progress);
            let done = progress.as_ref().is_some_and(|p| {
                (p.nodes_left == 0 && p.state == State::Running) || p.state == State::Emptied
            });
            if !done {
                return Err(self.fault(&format!("machine {index} is not done: {progress:?}")));
            }
        }
        let first = &self.machines[0].disk;
        for (index, machine) in self.machines.iter().enumerate() {
            if machine.disk.tree() != first.tree() {
                return Err(self.fault(&format!("machines 0 and {index} differ")));
            }
            if machine.disk.mtimes() != first.mtimes() {
                return Err(self.fault(&format!("mtimes of 0 and {index} differ")));
            }
            if !machine.disk.parked().is_empty() {
                return Err(self.fault(&format!("machine {index} left something parked")));
            }
        }
        let here = first.contents_below(&RelPath::root());
        let here: Vec<Content> = if here.is_empty() {
            self.all_contents(first)
        } else {
            here
        };
        for content in &here {
            if !self.written.contains(content) {
                return Err(self.fault(&format!("{content:?} was never written")));
            }
        }
        for content in &self.written {
            if !here.contains(content) && !self.given_up.contains(content) {
                return Err(self.fault(&format!("{content:?} is lost")));
            }
        }
        Ok(())
    }

    fn all_contents(&self, disk: &Disk) -> Vec<Content> {
        disk.tree()
            .into_values()
            .filter_map(|(kind, _)| match kind {
                Kind::File(content) => Some(content),
                Kind::Dir(_) | Kind::Link(_) => None,
            })
            .collect()
    }
}

fn brief(disk: &Disk) -> Vec<String> {
    let line = |(path, (kind, mode)): (RelPath, (Kind, u16))| match kind {
        Kind::Dir(_) => format!("{path:?}/ {mode:o}"),
        Kind::File(content) => format!("{path:?} #{} {mode:o}", content.token),
        Kind::Link(target) => format!("{path:?} {target:?}"),
    };
    disk.tree().into_iter().map(line).collect()
}
