//! A burst in a folder that is in sync: files go, and others of the same content come.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ahoy_logic::moment::Moment;
use ahoy_logic::sync::{Effect, Engine, Found, Input, Look, Print, Row, Sighting, Synced};
use ahoy_wire::sync::{
    Body, Class, Clock, Dot, Hash, Label, Meta, Mtime, Name, NodeId, Place, Record, RelPath,
    ReplicaId, Value,
};

use crate::measured;
use crate::plan::who;

/// Files that go, and files that come instead.
pub const CHANGES: usize = 1_000;

/// Files in the folder before and after; fewer, and so many deletions wait for a user's word.
const FILES: usize = 2_500;

/// Names that one report of the watcher has.
const REPORT: usize = 50;

/// All files hold the same.
const CONTENT: Hash = Hash([7; 32]);

/// From the first report until nothing is left to be done.
pub fn run() {
    let mut disk = Disk::default();
    let rows: Vec<Row> = (0..FILES).map(|number| disk.row(number)).collect();
    let mut engine = Engine::new(who(), rows);
    disk.show_all(&mut engine);
    let (engine, disk) = measured((engine, disk), |(mut engine, mut disk)| {
        for first in (0..CHANGES).step_by(REPORT) {
            for number in first..first + REPORT {
                disk.files.remove(&name(number));
                disk.make(FILES + number);
            }
            let gone = (first..first + REPORT).map(name);
            let come = (first..first + REPORT).map(|number| name(FILES + number));
            disk.report(gone.chain(come).collect(), Vec::new(), None);
            disk.go_on(&mut engine);
        }
        disk.wait(&mut engine);
        (engine, disk)
    });
    let files = engine.progress().census.files;
    assert_eq!(files, FILES as u64, "as many files as before");
    assert_eq!(engine.progress().nodes_left, 0, "nothing is left");
    assert!(disk.rows >= 2 * CHANGES, "{} rows", disk.rows);
}

/// A start with an index that fits the folder, without the look at the folder.
pub fn start() {
    let mut disk = Disk::default();
    let rows: Vec<Row> = (0..FILES).map(|number| disk.row(number)).collect();
    let engine = measured(rows, |rows| Engine::new(who(), rows));
    assert_eq!(engine.progress().census.files, FILES as u64);
}

/// Rows of a start.
pub const ROWS: usize = FILES;

fn name(number: usize) -> Name {
    Name::new(format!("a file {number}.txt").as_bytes()).expect("a name")
}

/// A folder without directories, and what is on its way to the engine.
#[derive(Default)]
struct Disk {
    files: BTreeMap<Name, Print>,
    inputs: VecDeque<Input>,
    now: Duration,
    rows: usize,
}

impl Disk {
    /// The next new file.
    fn make(&mut self, number: usize) -> Print {
        let print = Print {
            inode: number as u64 + 10,
            birth: 7,
            size: 50,
            mtime: Mtime { secs: 5, nanos: 0 },
            ctime: 5,
            mode: 0o644,
            racy: false,
        };
        self.files.insert(name(number), print);
        print
    }

    /// A file of before, and what the index knows of it.
    fn row(&mut self, number: usize) -> Row {
        let print = self.make(number);
        let (parent, name) = (NodeId::ROOT, name(number));
        let dot = Dot {
            replica: ReplicaId(2),
            count: number as u64 + 1,
        };
        let meta = Meta {
            mode: print.mode,
            mtime: print.mtime,
        };
        let value = Value::File {
            meta,
            size: print.size,
            hash: CONTENT,
        };
        let clock = Clock::of(dot);
        let record = Record {
            id: NodeId::created(parent, &name, Class::Leaf, None),
            class: Class::Leaf,
            copy_of: None,
            place: Place {
                clock: clock.clone(),
                dot,
                parent,
                name: name.clone(),
            },
            body: Body {
                clock: clock.clone(),
                dot,
                author: Label::tidy("there"),
                value: value.clone(),
            },
        };
        let synced = Synced {
            parent,
            name,
            value,
            print,
            body_clock: clock.clone(),
            place_clock: clock,
        };
        Row::Node {
            number: number as u64,
            record: Box::new(record),
            signature: None,
            sequence: number as u64 + 1,
            synced: Some(Box::new(synced)),
        }
    }

    /// The first look at the folder.
    fn show_all(&mut self, engine: &mut Engine) {
        let names = self.files.keys().cloned().collect();
        self.report(names, vec![RelPath::root()], None);
        self.go_on(engine);
    }

    fn sighting(&self, name: &Name) -> Sighting {
        let found = self.files.get(name).copied();
        Sighting {
            dir: RelPath::root(),
            name: name.clone(),
            found: found.map_or(Found::Nothing, Found::File),
        }
    }

    /// A look at these names, and its end.
    fn report(&mut self, names: Vec<Name>, whole: Vec<RelPath>, asked: Option<u64>) {
        let whole_tree = !whole.is_empty();
        self.inputs.push_back(Input::Seen {
            sightings: names.iter().map(|name| self.sighting(name)).collect(),
            whole,
            asked,
        });
        self.inputs.push_back(Input::Settled { whole_tree });
    }

    /// Until the engine wants nothing more for now.
    fn go_on(&mut self, engine: &mut Engine) {
        while let Some(input) = self.inputs.pop_front() {
            let now = Moment::after_origin(self.now);
            engine.take(now, input);
            for effect in engine.flush(now) {
                self.carry_out(effect);
            }
        }
    }

    /// Until it does not even wait for anything.
    fn wait(&mut self, engine: &mut Engine) {
        while let Some((at, _)) = engine.deadline() {
            self.now = self.now.max(at.since_origin());
            self.inputs.push_back(Input::Tick);
            self.go_on(engine);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Keep(_) => self.rows += 1,
            Effect::Read { path, print } => {
                let hash = CONTENT;
                self.inputs.push_back(Input::Hashed { path, print, hash });
            }
            Effect::Look { look, ask } => {
                let Look::At(_, name) = look else {
                    unreachable!("there are no directories")
                };
                // The eyes are quicker than the engine: each look is over before the next one.
                self.report(vec![name], Vec::new(), Some(ask));
            }
            Effect::Do(_) => unreachable!("nobody else is there"),
            Effect::Say { .. }
            | Effect::Send { .. }
            | Effect::Accept { .. }
            | Effect::Hang { .. }
            | Effect::Tell(_) => {}
        }
    }
}
