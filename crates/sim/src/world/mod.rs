//! The imagined world: machines with engines and disks, links between them, and a queue of events
//! in the order of time. One seed decides everything; nothing else is random.
//!
//! What is imagined faithfully: looks and steps take time and happen at one moment in between,
//! reports arrive late, links are ordered but may be cut with everything under way, a process may
//! die between any two events and in the midst of a turn, power may fail at any moment, and the
//! watcher may miss things.

mod busy;
mod commit;
mod eyes;
mod fate;
mod hands;
mod judge;
mod life;
mod meet;
mod net;
mod rot;
mod rules;
mod tracker;
mod turn;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ahoy_logic::moment::Moment;
use ahoy_logic::sync::meet::Dial;
use ahoy_logic::sync::{Engine, Input, LinkId, Look, Print, Rights, Row, Rules, Step};
use ahoy_wire::sync::{Dot, Hash, Message, Name, NodeId, RelPath, ReplicaId, Value};

use crate::dice::Dice;
use crate::disk::{Content, Disk, Kind};
use crate::plan::{Doing, Plan};
use crate::story::{Failure, Line, Passed};
use crate::weather::{Millis, Weather};
use crate::{Flaw, Run};

/// Something at one machine, for one life of its process.
enum Mail {
    Give(Box<Input>),
    LookAt {
        look: Look,
        ask: Option<u64>,
    },
    Scan(Scan),
    Step(Box<Step>),
    Read {
        path: RelPath,
        print: Print,
    },
    Tick,
    /// The next file is to be read again.
    Scrub,
    /// The index has been written.
    Committed,
    /// An attempt to connect to the tracker comes to its end.
    Connects {
        attempt: u64,
    },
    /// A dial comes to its end.
    Dials(Dial),
    /// Time has passed for whoever looks for others.
    Find,
}

/// What is left of a scan.
struct Scan {
    dirs: Vec<RelPath>,
    ask: Option<u64>,
    whole: bool,
    /// Of the eyes; what was begun before the root went away or came back is not finished.
    epoch: u64,
}

enum Event {
    At {
        machine: usize,
        run: u64,
        mail: Mail,
    },
    Carry {
        link: usize,
        to: usize,
        message: Message,
    },
    /// One end learns that the link is gone.
    Close {
        link: usize,
        end: usize,
    },
    /// A link of two between the same machines is given up.
    HangUp {
        link: usize,
    },
    Planned {
        place: usize,
        doing: Doing,
    },
    Connect,
    /// Something arrives on a connection to the tracker.
    Word {
        line: usize,
        to: tracker::End,
        word: tracker::Word,
    },
    TrackerDue,
    TrackerStarts,
    Start {
        machine: usize,
    },
    RootBack {
        machine: usize,
    },
}

/// What is kept of an index.
#[derive(Clone, Default)]
struct Index {
    nodes: BTreeMap<u64, Row>,
    heard: BTreeMap<ReplicaId, Row>,
    counters: Option<Row>,
    numbers: Option<Row>,
}

/// How a process ends in the midst of its next turn.
#[derive(Debug, Clone, Copy)]
struct Doom {
    /// Whether the turn is kept.
    is_kept: bool,
    /// How many of its effects are carried out.
    effects: u64,
    is_power: bool,
}

struct Machine {
    disk: Disk,
    engine: Option<Engine>,
    rights: Rights,
    replica: ReplicaId,
    /// Counts starts, so that what belongs to an earlier life is dropped.
    run: u64,
    index: Index,
    backup: Option<(Disk, Index)>,
    /// The indexes that backups have taken back.
    lost_lives: Vec<Index>,
    /// The index is not the file that the last run wrote, and the host sees that until the engine
    /// has kept its new numbers.
    is_put_back: bool,
    eyes_free: Millis,
    epoch: u64,
    tick_at: Option<Millis>,
    /// How much its clock is wrong.
    skew: i64,
    full_until: Millis,
    /// The folder is not there.
    is_away: bool,
    /// What its user leaves out of the share.
    rules: Rules,
    /// Something was renamed that may not be on the device.
    unsynced: bool,
    doom: Option<Doom>,
    backlog: commit::Backlog,
    /// The file that was read again last.
    scrubbed: Option<NodeId>,
    places: meet::Places,
    finder: Option<meet::Finder>,
}

struct Link {
    ends: [usize; 2],
    ids: [LinkId; 2],
    /// Nothing more can be said on it.
    is_up: bool,
    /// Which ends have not heard yet that it is gone.
    open: [bool; 2],
    /// When the last message to each end arrives: links keep order.
    last: [Millis; 2],
}

/// What a dot stands for: a content, or a place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Made {
    Body(Value),
    Place(NodeId, Name),
}

/// One run.
pub struct World {
    seed: u64,
    weather: Weather,
    flaw: Option<Flaw>,
    dice: Dice,
    now: Millis,
    serial: u64,
    planned: usize,
    queue: BTreeMap<(Millis, u64), Event>,
    machines: Vec<Machine>,
    links: Vec<Link>,
    tracker: tracker::Harbor,
    /// Contents that users wrote, with the machine where they did.
    written: BTreeMap<Content, usize>,
    /// The same by their hashes.
    hashes: BTreeMap<Hash, Content>,
    tokens: u64,
    /// A machine was put back from a backup.
    is_any_put_back: bool,
    /// Contents that only readers still had when a writer had been put back.
    with_readers: BTreeSet<Content>,
    /// Numbers that machines have drawn.
    drawn: u32,
    /// Contents that a user who had them replaced or deleted.
    given_up: BTreeSet<Content>,
    /// What each change (of place, if true) made of a node, to see that no two are counted alike.
    made: BTreeMap<(NodeId, Dot, bool), Made>,
    /// Fingerprints behind which bytes have changed.
    rot_hidden: Vec<Print>,
    /// Bytes that nobody wrote, but that an engine could not but take for an edit.
    rot_passed: BTreeSet<Content>,
    /// The first thing that was wrong.
    wrong: Option<String>,
    trace: blake3::Hasher,
    events: u64,
    story: Option<Vec<Line>>,
}

/// Most events of one run; more means that it goes round in circles.
const EVENTS_MAX: u64 = 100_000;

/// After the weather is fine everything has this long to become the same.
const HEAL: Millis = 30 * 60 * 1000;

impl World {
    /// A world with nothing in it yet.
    pub fn new(run: &Run, told: bool) -> Self {
        let mut world = Self {
            seed: run.seed,
            weather: run.weather.clone(),
            flaw: run.flaw,
            dice: Dice::new(run.seed),
            now: 0,
            serial: 0,
            planned: 0,
            queue: BTreeMap::new(),
            machines: Vec::new(),
            links: Vec::new(),
            tracker: tracker::Harbor::default(),
            written: BTreeMap::new(),
            hashes: BTreeMap::new(),
            tokens: 0,
            drawn: 0,
            is_any_put_back: false,
            with_readers: BTreeSet::new(),
            given_up: BTreeSet::new(),
            made: BTreeMap::new(),
            rot_hidden: Vec::new(),
            rot_passed: BTreeSet::new(),
            wrong: None,
            trace: blake3::Hasher::new(),
            events: 0,
            story: told.then(Vec::new),
        };
        for index in 0..world.weather.machines {
            let machine = world.machine(index);
            world.machines.push(machine);
            if world.weather.full_at_start {
                for _ in 0..6 {
                    world.deed(index);
                }
            }
            let start = world.dice.below(2000);
            world.at(start, Event::Start { machine: index });
        }
        world.at(1, Event::Connect);
        world.start_tracker();
        let plan = if world.weather.is_wild {
            Plan::of(world.seed, &world.weather)
        } else {
            let mut plan = Plan::default();
            plan.draw_mild(&mut world.dice, &world.weather);
            plan
        };
        world.planned = plan.items.len();
        for (place, (when, doing)) in plan.items.into_iter().enumerate() {
            if !run.left_out.contains(&place) {
                world.at(when, Event::Planned { place, doing });
            }
        }
        world
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What is wrong.
    pub fn run(mut self) -> Result<Passed, Box<Failure>> {
        self.pass_until(self.weather.span)?;
        self.heal();
        self.pass_until(self.now + HEAL)?;
        self.judge_finders()?;
        self.confirm_empty();
        self.pass_until(self.now + HEAL)?;
        self.clear_husks()?;
        self.judge()?;
        // A quiet deletion must reach everyone and come back from nowhere.
        let writers = self.writers().count() as u64;
        let victim = self.dice.below(writers) as usize;
        let files: Vec<RelPath> = self.machines[victim].disk.tree().into_keys().collect();
        for path in files.iter().filter(|path| path.as_bytes().len() % 2 == 0) {
            self.remove_at(victim, path);
        }
        let want = self.things(victim);
        self.pass_until(self.now + HEAL)?;
        self.clear_husks()?;
        self.judge()?;
        if self.things(victim) != want {
            return Err(self.fault("deleted files came back, or too much is gone"));
        }
        self.judge_the_dead()?;
        Ok(Passed {
            trace: *self.trace.finalize().as_bytes(),
            events: self.events,
        })
    }

    /// All files and links on a disk, without their names: what stands beside a namesake that is
    /// deleted may take its name, and a deleted directory goes with the last that lives in it.
    fn things(&self, machine: usize) -> Vec<(Kind, u16)> {
        let tree = self.machines[machine].disk.tree();
        let is_thing = |thing: &(Kind, u16)| !matches!(thing.0, Kind::Dir(_));
        let mut things: Vec<_> = tree.into_values().filter(is_thing).collect();
        things.sort();
        things
    }

    fn fault(&self, what: &str) -> Box<Failure> {
        Box::new(Failure {
            what: what.to_owned(),
            at_ms: self.now,
            events: self.events,
            planned: self.planned,
            story: self.story.clone().unwrap_or_default(),
            state: self.story.as_ref().map_or(Vec::new(), |_| self.state()),
        })
    }

    /// Writes it down, if anybody reads it.
    fn note(&mut self, machine: usize, kind: &'static str, text: impl FnOnce() -> String) {
        self.note_of(Some(machine), kind, text);
    }

    fn note_of(
        &mut self,
        machine: Option<usize>,
        kind: &'static str,
        text: impl FnOnce() -> String,
    ) {
        if let Some(story) = &mut self.story {
            story.push(Line {
                at_ms: self.now,
                machine,
                kind,
                text: text(),
            });
        }
    }

    /// Something must not be so. The run goes on to the end of the event.
    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong.get_or_insert_with(what);
    }

    /// The clock as engines, announcers and the tracker see it.
    fn moment(&self) -> Moment {
        Moment::after_origin(Duration::from_millis(self.now))
    }

    fn at(&mut self, when: Millis, event: Event) {
        self.serial += 1;
        self.queue.insert((when, self.serial), event);
    }

    fn soon(&mut self, most: Millis, event: Event) {
        let when = self.now + 1 + self.dice.below(most);
        self.at(when, event);
    }

    /// Something at a machine, if its process still lives then.
    fn soon_at(&mut self, machine: usize, most: Millis, mail: Mail) {
        let run = self.machines[machine].run;
        self.soon(most, Event::At { machine, run, mail });
    }

    fn pass_until(&mut self, end: Millis) -> Result<(), Box<Failure>> {
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
            for machine in &mut self.machines {
                machine.disk.set_clock(wall(self.now, machine.skew));
            }
            self.happen(event);
            if let Some(what) = &self.wrong {
                return Err(self.fault(what));
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::At { machine, run, mail } => {
                let it = &self.machines[machine];
                if it.run == run && it.engine.is_some() {
                    self.open(machine, mail);
                }
            }
            Event::Carry { link, to, message } => self.carry(link, to, message),
            Event::Close { link, end } => self.close(link, end),
            Event::HangUp { link } => self.cut(link),
            Event::Planned { place, doing } => self.strike(place, doing),
            Event::Connect => self.connect(),
            Event::Word { line, to, word } => self.hear_word(line, to, word),
            Event::TrackerDue => self.wake_tracker(),
            Event::TrackerStarts => self.start_tracker(),
            Event::Start { machine } => self.start(machine),
            Event::RootBack { machine } => self.root_back(machine),
        }
    }

    fn open(&mut self, machine: usize, mail: Mail) {
        match mail {
            Mail::Give(input) => {
                self.excuse_rot(machine, &input);
                self.give(machine, *input);
            }
            Mail::LookAt { look, ask } => self.look(machine, look, ask),
            Mail::Scan(scan) => self.scan(machine, scan),
            Mail::Step(step) => self.step(machine, *step),
            Mail::Read { path, print } => self.read(machine, path, print),
            Mail::Tick => {
                self.machines[machine].tick_at = None;
                self.turn(machine, Input::Tick);
            }
            Mail::Scrub => self.scrub(machine),
            Mail::Committed => self.committed(machine),
            Mail::Connects { attempt } => self.connect_to_tracker(machine, attempt),
            Mail::Dials(dial) => self.dial(machine, dial),
            Mail::Find => self.find(machine),
        }
    }
}

/// When whoever waits for `moment` is woken: after that, and not before the next millisecond.
fn wake_at(now: Millis, moment: Moment) -> Millis {
    (moment.since_origin().as_millis() as u64 + 1).max(now + 1)
}

/// What a clock that is wrong by `skew` shows; far from where the oldest years of any clock are.
fn wall(now: Millis, skew: i64) -> i64 {
    const YEARS: i64 = 1 << 40;
    YEARS + now.cast_signed() + skew
}
