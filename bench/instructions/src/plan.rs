//! A peer's folder arrives in an empty one: records in, steps out, outcomes in, rows out.

use std::time::Duration;

use ahoy_logic::moment::Moment;
use ahoy_logic::sync::{
    Act, Effect, Engine, Identity, Input, JobId, LinkId, Outcome, Print, Rights,
};
use ahoy_wire::sync::{
    Body, Class, Clock, Dot, Hash, Hello, Item, Label, Message, Meta, Mtime, Name, NodeId, Place,
    Record, Records, RelPath, ReplicaId, Value,
};

use crate::measured;

/// Records: every hundredth is a directory, and the others are the files in it.
pub const RECORDS: usize = 3_000;

/// Records in one message.
const BATCH: usize = 500;

const LINK: LinkId = LinkId(1);

/// The whole way, content along with the records.
pub fn run() {
    let mut engine = Engine::new(who(), Vec::new());
    for input in meeting() {
        engine.take(Moment::ORIGIN, input);
    }
    engine.flush(Moment::ORIGIN);
    let batches: Vec<Message> = (0..RECORDS)
        .step_by(BATCH)
        .map(|first| {
            let items = (first..first + BATCH).map(item).collect();
            let upto = (first + BATCH) as u64;
            Message::Records(Records { upto, items })
        })
        .collect();
    let (done, rows) = measured((engine, batches), |(mut engine, batches)| {
        let mut world = World::default();
        for (turn, message) in batches.into_iter().enumerate() {
            let now = Moment::ORIGIN + Duration::from_millis(turn as u64);
            engine.take(
                now,
                Input::Heard {
                    link: LINK,
                    message,
                },
            );
            world.carry_out(engine.flush(now));
            while let Some(outcomes) = world.outcomes() {
                engine.take(now, Input::Finished(outcomes));
                world.carry_out(engine.flush(now));
            }
        }
        (world.done, world.rows)
    });
    assert!(
        done >= RECORDS && rows >= RECORDS,
        "{done} done, {rows} rows"
    );
}

/// The machine whose engine is looked at.
pub fn who() -> Identity {
    Identity {
        replica: ReplicaId(1),
        run: ReplicaId(1).in_run(9),
        is_put_back: false,
        label: Label::tidy("here"),
        rights: Rights::Writer,
        floor: 0,
    }
}

/// Up to where a peer has said who it is.
fn meeting() -> Vec<Input> {
    let said = |message| Input::Heard {
        link: LINK,
        message,
    };
    let hello = Hello {
        replica: ReplicaId(2),
        label: Label::tidy("there"),
        sequence: RECORDS as u64,
    };
    vec![
        Input::Seen {
            sightings: Vec::new(),
            whole: vec![RelPath::root()],
            asked: None,
        },
        Input::Settled { whole_tree: true },
        Input::Opened {
            link: LINK,
            rights: Rights::Writer,
        },
        said(Message::Hello(hello)),
        said(Message::Want { since: 0 }),
    ]
}

/// A disk on which everything works.
#[derive(Default)]
struct World {
    waiting: Vec<(JobId, Act)>,
    inode: u64,
    done: usize,
    rows: usize,
}

impl World {
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Keep(_) => self.rows += 1,
                Effect::Do(step) => self.waiting.push((step.job, step.act)),
                Effect::Say { .. }
                | Effect::Send { .. }
                | Effect::Accept { .. }
                | Effect::Hang { .. }
                | Effect::Look { .. }
                | Effect::Read { .. }
                | Effect::Tell(_) => {}
            }
        }
    }

    /// What became of the steps; `None` if none are waiting.
    fn outcomes(&mut self) -> Option<Vec<Outcome>> {
        let waiting = std::mem::take(&mut self.waiting);
        self.done += waiting.len();
        let outcomes = waiting.into_iter().map(|(job, act)| {
            let (meta, size) = match act {
                Act::MakeDir { meta, .. } | Act::SetMeta { meta, .. } => (meta, 0),
                Act::Write { meta, size, .. } => (meta, size),
                Act::MakeLink { .. }
                | Act::Move { .. }
                | Act::Remove { .. }
                | Act::Park { .. }
                | Act::Unpark { .. } => unreachable!("the peer has only made things"),
            };
            let result = Ok(Some(self.print(meta, size)));
            Outcome { job, result }
        });
        let outcomes: Vec<_> = outcomes.collect();
        (!outcomes.is_empty()).then_some(outcomes)
    }

    fn print(&mut self, meta: Meta, size: u64) -> Print {
        self.inode += 1;
        Print {
            inode: self.inode,
            birth: 7,
            size,
            mtime: meta.mtime,
            ctime: 5,
            mode: meta.mode,
            racy: false,
        }
    }
}

/// The record of this number.
pub fn record(number: usize) -> Record {
    let dir_number = number / 100;
    let dir_name = Name::new(format!("directory {dir_number}").as_bytes()).expect("a name");
    let dir = NodeId::created(NodeId::ROOT, &dir_name, Class::Dir, None);
    let meta = Meta {
        mode: 0o644,
        mtime: Mtime { secs: 5, nanos: 0 },
    };
    let (id, class, parent, name, value) = if number.is_multiple_of(100) {
        let meta = Meta {
            mode: 0o755,
            ..meta
        };
        (dir, Class::Dir, NodeId::ROOT, dir_name, Value::Dir(meta))
    } else {
        let name = Name::new(format!("a file {number}.txt").as_bytes()).expect("a name");
        let id = NodeId::created(dir, &name, Class::Leaf, None);
        let value = Value::File {
            meta,
            size: CONTENT.len() as u64,
            hash: hash(number),
        };
        (id, Class::Leaf, dir, name, value)
    };
    let dot = Dot {
        replica: ReplicaId(2),
        count: number as u64 + 1,
    };
    Record {
        id,
        class,
        copy_of: None,
        place: Place {
            clock: Clock::of(dot),
            dot,
            parent,
            name,
        },
        body: Body {
            clock: Clock::of(dot),
            dot,
            author: Label::tidy("there"),
            value,
        },
    }
}

const CONTENT: &[u8] = b"not what the hash says, which nobody compares here";

/// A hash for each number.
pub fn hash(number: usize) -> Hash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Hash(hash)
}

fn item(number: usize) -> Item {
    let record = record(number);
    let content = record.body.value.content().map(|_| CONTENT.into());
    Item {
        record,
        signature: None,
        content,
    }
}
