//! One engine, its peers played by the test, its folder made of sightings.

use std::time::Duration;

use ahoy_logic::moment::Moment;
use ahoy_logic::sync::{
    Effect, Engine, Found, Identity, Input, LinkId, Notice, Outcome, Print, Rights, Row, Sighting,
};
use ahoy_wire::sync::{
    Body, Class, Clock, Dot, Hash, Hello, Item, Label, Message, Meta, Mtime, Name, NodeId, Place,
    Record, Records, RelPath, ReplicaId, Value,
};

pub const ME: ReplicaId = ReplicaId(1);
pub const OTHER: ReplicaId = ReplicaId(2);
pub const LINK: LinkId = LinkId(7);

/// The number under which it counts its changes, if its numbers begin above `floor`.
pub const fn run(floor: u64) -> ReplicaId {
    ME.in_run(90 + (floor >> 20) as u32)
}

pub struct One {
    pub engine: Engine,
    now: Moment,
    /// What it wants kept.
    pub rows: Vec<Row>,
}

impl One {
    pub fn new(rights: Rights, rows: Vec<Row>) -> Self {
        Self::beginning(rights, rows, 0)
    }

    /// One whose numbers begin above `floor`.
    pub fn beginning(rights: Rights, rows: Vec<Row>, floor: u64) -> Self {
        Self::with_index(rights, rows, floor, false)
    }

    /// One whose host may know that the index is from a backup.
    pub fn with_index(rights: Rights, rows: Vec<Row>, floor: u64, is_put_back: bool) -> Self {
        let who = Identity {
            replica: ME,
            label: Label::tidy("me"),
            rights,
            run: run(floor),
            is_put_back,
            floor,
        };
        Self {
            engine: Engine::new(who, rows.clone()),
            now: Moment::ORIGIN,
            rows,
        }
    }

    /// After a first look at an empty folder.
    pub fn started(rights: Rights) -> Self {
        let mut one = Self::new(rights, Vec::new());
        one.look(&[]);
        one
    }

    /// Gives one input; what it wants done.
    pub fn give(&mut self, input: Input) -> Vec<Effect> {
        self.now = self.now + Duration::from_millis(1);
        self.engine.take(self.now, input);
        let effects = self.engine.flush(self.now);
        for effect in &effects {
            if let Effect::Keep(row) = effect {
                self.rows.retain(|kept| !is_replaced(kept, row));
                self.rows.push(row.clone());
            }
        }
        effects
    }

    /// So many milliseconds pass.
    pub fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    /// A whole look at a folder with these files directly in it.
    pub fn look(&mut self, files: &[(&str, Print)]) -> Vec<Effect> {
        let sightings = files.iter().map(|(name, print)| sighting(name, *print));
        let mut effects = self.give(Input::Seen {
            sightings: sightings.collect(),
            whole: vec![RelPath::root()],
            asked: None,
        });
        effects.extend(self.give(Input::Settled { whole_tree: true }));
        effects
    }

    /// The user writes a file, and it is seen and read.
    pub fn write(&mut self, name: &str, content: u8) -> Vec<Effect> {
        let print = print(content);
        let mut see = |asked| {
            self.give(Input::Seen {
                sightings: vec![sighting(name, print)],
                whole: Vec::new(),
                asked,
            })
        };
        let doubted = see(None).into_iter().find_map(|effect| match effect {
            Effect::Look { ask, .. } => Some(ask),
            Effect::Do(_)
            | Effect::Keep(_)
            | Effect::Say { .. }
            | Effect::Send { .. }
            | Effect::Accept { .. }
            | Effect::Hang { .. }
            | Effect::Read { .. }
            | Effect::Tell(_) => None,
        });
        if doubted.is_some() {
            see(doubted);
        }
        let mut effects = self.give(Input::Settled { whole_tree: false });
        effects.extend(self.give(Input::Hashed {
            path: path(name),
            print,
            hash: Hash([content; 32]),
        }));
        effects
    }

    /// A peer comes, says who it is and asks for everything.
    pub fn meet(&mut self, link: LinkId, replica: ReplicaId) -> Vec<Effect> {
        let mut effects = self.give(Input::Opened {
            link,
            rights: Rights::Writer,
        });
        effects.extend(self.hear(link, hello(replica, 0)));
        effects.extend(self.hear(link, Message::Want { since: 0 }));
        effects
    }

    pub fn hear(&mut self, link: LinkId, message: Message) -> Vec<Effect> {
        self.give(Input::Heard { link, message })
    }

    /// Every step that is wanted is done.
    pub fn carry_out(&mut self, effects: &[Effect], left: Option<Print>) -> Vec<Effect> {
        let done = steps(effects).map(|step| Outcome {
            job: step.job,
            result: Ok(left),
        });
        let done: Vec<Outcome> = done.collect();
        self.give(Input::Finished(done))
    }
}

fn is_replaced(kept: &Row, by: &Row) -> bool {
    match (kept, by) {
        (Row::Node { number, .. }, Row::Node { number: by, .. }) => number == by,
        (Row::Heard { replica, .. }, Row::Heard { replica: by, .. }) => replica == by,
        (kept, by) => std::mem::discriminant(kept) == std::mem::discriminant(by),
    }
}

pub fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a path")
}

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

/// The fingerprint of a file that holds this content, and of no other.
pub fn print(content: u8) -> Print {
    Print {
        inode: u64::from(content),
        birth: 1,
        size: 100_000,
        mtime: Mtime {
            secs: 1_700_000_000,
            nanos: u32::from(content),
        },
        ctime: i128::from(content),
        mode: 0o644,
        racy: false,
    }
}

pub fn sighting(at: &str, print: Print) -> Sighting {
    Sighting {
        dir: RelPath::root(),
        name: name(at),
        found: Found::File(print),
    }
}

pub fn nothing(at: &str) -> Sighting {
    Sighting {
        dir: RelPath::root(),
        name: name(at),
        found: Found::Nothing,
    }
}

pub fn hello(replica: ReplicaId, sequence: u64) -> Message {
    Message::Hello(Hello {
        replica,
        label: Label::tidy("other"),
        sequence,
    })
}

/// A file that the other machine made at the root, as its `count`-th change.
pub fn file(at: &str, content: u8, count: u64) -> Record {
    let dot = Dot {
        count,
        replica: OTHER,
    };
    let print = print(content);
    let meta = print.meta();
    Record {
        id: NodeId::created(NodeId::ROOT, &name(at), Class::Leaf, None),
        class: Class::Leaf,
        copy_of: None,
        place: Place {
            clock: Clock::of(dot),
            dot,
            parent: NodeId::ROOT,
            name: name(at),
        },
        body: Body {
            clock: Clock::of(dot),
            dot,
            author: Label::tidy("other"),
            value: Value::File {
                meta,
                size: print.size,
                hash: Hash([content; 32]),
            },
        },
    }
}

pub fn records(records: impl IntoIterator<Item = Record>, upto: u64) -> Message {
    let item = |record| Item {
        record,
        signature: None,
        content: None,
    };
    Message::Records(Records {
        upto,
        items: records.into_iter().map(item).collect(),
    })
}

pub fn steps(effects: &[Effect]) -> impl Iterator<Item = &ahoy_logic::sync::Step> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Do(step) => Some(&**step),
        Effect::Keep(_)
        | Effect::Say { .. }
        | Effect::Send { .. }
        | Effect::Accept { .. }
        | Effect::Hang { .. }
        | Effect::Look { .. }
        | Effect::Read { .. }
        | Effect::Tell(_) => None,
    })
}

/// The records that are sent on a link.
pub fn sent(effects: &[Effect], on: LinkId) -> Vec<&Record> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { link, items, .. } if *link == on => Some(items),
            Effect::Send { .. }
            | Effect::Do(_)
            | Effect::Keep(_)
            | Effect::Say { .. }
            | Effect::Accept { .. }
            | Effect::Hang { .. }
            | Effect::Look { .. }
            | Effect::Read { .. }
            | Effect::Tell(_) => None,
        })
        .flatten()
        .map(|item| &item.record)
        .collect()
}

pub fn is_hung_up(effects: &[Effect]) -> bool {
    effects.iter().any(|e| matches!(e, Effect::Hang { .. }))
}

pub fn notices(effects: &[Effect]) -> Vec<&Notice> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Tell(notice) => Some(notice),
            Effect::Do(_)
            | Effect::Keep(_)
            | Effect::Say { .. }
            | Effect::Send { .. }
            | Effect::Accept { .. }
            | Effect::Hang { .. }
            | Effect::Look { .. }
            | Effect::Read { .. } => None,
        })
        .collect()
}

/// A directory that the other machine made at the root, likewise.
pub fn directory(at: &str, count: u64) -> Record {
    let mut record = file(at, 0, count);
    record.class = Class::Dir;
    record.id = NodeId::created(NodeId::ROOT, &name(at), Class::Dir, None);
    record.body.value = Value::Dir(Meta {
        mode: 0o644,
        mtime: print(0).mtime,
    });
    record
}
