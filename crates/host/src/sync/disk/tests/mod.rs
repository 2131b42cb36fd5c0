//! The disk side at work on a real folder: what it reports of a user's doings and of its own.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each test waits for one kind of input"
)]

mod hands;
mod hostile;
mod killed;
mod looks;
mod peers;
mod reading;
mod room;
mod rules;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ahoy_logic::sync::{
    Act, Found, Input, JobId, LinkId, Look, Outcome, Print, Rules, Sighting, Source, Step,
};
use ahoy_wire::sync::{Chunk, Hash, Meta, Mtime, Name, NodeId, RelPath, Stretch, Wanted};

use super::publish::Done;
use super::{Disk, EyesOptions, Listener, Root};
use crate::sync::supply::{Sink, Supply, SupplyTrouble};

/// A directory in memory where there is one: for tests in which waiting for a device would take
/// nearly all of the time and show nothing.
fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// Nothing takes this long; whatever does is broken.
const DEADLINE: Duration = Duration::from_secs(20);

/// A mode and an mtime that no fresh file has by itself.
const META: Meta = Meta {
    mode: 0o640,
    mtime: Mtime {
        secs: 1_234_567_890,
        nanos: 123_456_789,
    },
};

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a good path")
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a good name")
}

fn hash_of(bytes: &[u8]) -> Hash {
    Hash(*blake3::hash(bytes).as_bytes())
}

/// Hears everything and passes it on.
struct Ear {
    inputs: Mutex<Sender<Input>>,
    warnings: Mutex<Vec<String>>,
}

impl Listener for Ear {
    fn input(&self, input: Input) {
        let _ = self.inputs.lock().expect("no panic").send(input);
    }
    fn warn(&self, text: String) {
        self.warnings.lock().expect("no panic").push(text);
    }
}

/// A shared folder with the disk side at work on it.
struct Scene {
    disk: Disk,
    ear: Arc<Ear>,
    heard: Receiver<Input>,
    next_job: AtomicU64,
    /// Last, so that the folder outlives the threads.
    temp: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with(Arc::new(Nobody), EyesOptions::default())
    }

    fn with(supply: Arc<dyn Supply>, options: EyesOptions) -> Self {
        Self::at(tempfile::tempdir().expect("a directory"), supply, options)
    }

    fn at(temp: tempfile::TempDir, supply: Arc<dyn Supply>, options: EyesOptions) -> Self {
        let root = Arc::new(Root::open(temp.path()).expect("opened"));
        std::fs::write(temp.path().join(".ahoy/share"), b"a marker").expect("written");
        let (send, heard) = channel();
        let (inputs, warnings) = (Mutex::new(send), Mutex::default());
        let ear = Arc::new(Ear { inputs, warnings });
        let listener = Arc::clone(&ear) as Arc<dyn Listener>;
        let disk = Disk::start(root, listener, supply, options).expect("started");
        let next_job = AtomicU64::new(1);
        Self {
            disk,
            ear,
            heard,
            next_job,
            temp,
        }
    }

    fn on_disk(&self, at: &str) -> PathBuf {
        self.temp.path().join(at)
    }

    fn write(&self, at: &str, bytes: &[u8]) {
        std::fs::write(self.on_disk(at), bytes).expect("written");
    }

    fn read(&self, at: &str) -> Vec<u8> {
        std::fs::read(self.on_disk(at)).expect("read")
    }

    /// Everything in `tmp/` and `parked/` when what was displaced has had its time.
    fn litter(&self) -> Vec<String> {
        let root = self.disk.root();
        root.delete_due(Instant::now() + super::displaced::KEPT);
        let list = |dir: &str| std::fs::read_dir(self.on_disk(dir)).expect("listed");
        let entries = list(".ahoy/tmp").chain(list(".ahoy/parked"));
        entries
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into())
            .collect()
    }

    fn next_input(&self, deadline: Instant) -> Input {
        let left = deadline.saturating_duration_since(Instant::now());
        self.heard.recv_timeout(left).expect("something in time")
    }

    /// Waits for an input that `pick` takes.
    fn until<T>(&self, mut pick: impl FnMut(Input) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = pick(self.next_input(deadline)) {
                return found;
            }
        }
    }

    /// Collects what is seen until it settles; the last sighting of each path counts.
    fn settled(&self) -> Seen {
        let mut seen = Seen::default();
        self.until(|input| seen.take(input).then_some(()));
        seen
    }

    /// Looks at everything and waits for all of it.
    fn look_at_all(&self) -> Seen {
        self.disk.look(Look::Below(RelPath::root()), None);
        let mut seen = Seen::default();
        self.until(|input| {
            seen.take(input);
            seen.whole_tree.then_some(())
        });
        seen
    }

    /// Collects what is seen until `enough` says so.
    fn watch_until(&self, enough: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = Seen::default();
        self.until(|input| {
            seen.take(input);
            enough(&seen).then_some(())
        });
        seen
    }

    /// The print of what is there.
    fn print(&self, at: &str) -> Print {
        let (dir, name) = path(at).split().expect("not the root");
        let fd =
            std::fs::File::open(self.on_disk(std::str::from_utf8(dir.as_bytes()).expect("text")))
                .expect("opened");
        let device = self.disk.root().device();
        super::print::glance(&fd, name.as_bytes(), device)
            .expect("there")
            .print
    }

    fn start(&self, act: Act) -> JobId {
        self.start_within(None, act)
    }

    fn start_within(&self, within: Option<Print>, act: Act) -> JobId {
        let job = JobId(self.next_job.fetch_add(1, Ordering::Relaxed));
        let node = NodeId([7; 16]);
        self.disk.carry_out(Step {
            job,
            node,
            act,
            within,
        });
        job
    }

    fn outcome(&self, wanted: JobId) -> Done {
        self.until(|input| match input {
            Input::Finished(outcomes) => outcomes
                .into_iter()
                .find_map(|Outcome { job, result }| (job == wanted).then_some(result)),
            _ => None,
        })
    }

    fn act(&self, act: Act) -> Done {
        let job = self.start(act);
        self.outcome(job)
    }

    /// Does it, and the answer must be the print of what is there.
    fn act_and_check(&self, act: Act, at: &str) -> Print {
        let print = self.act(act).expect("done").expect("something is there");
        assert!(print.same(&self.print(at)), "the print is what a look says");
        print
    }
}

/// What was seen until things settled.
#[derive(Default)]
struct Seen {
    found: HashMap<RelPath, Found>,
    whole: Vec<RelPath>,
    asked: Vec<u64>,
    settled: bool,
    whole_tree: bool,
    lost: bool,
    back: bool,
    hashed: HashMap<RelPath, Hash>,
    rules: Vec<Rules>,
}

impl Seen {
    /// Takes an input in; true when things have settled.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Seen {
                sightings,
                whole,
                asked,
            } => {
                for Sighting { dir, name, found } in sightings {
                    self.found.insert(dir.join(&name).expect("short"), found);
                }
                self.whole.extend(whole);
                self.asked.extend(asked);
            }
            Input::Settled { whole_tree } => {
                self.whole_tree |= whole_tree;
                self.settled = true;
                return true;
            }
            Input::Rules(rules) => self.rules.push(rules),
            Input::RootLost => self.lost = true,
            Input::RootBack => self.back = true,
            Input::Hashed { path, hash, .. } => {
                self.hashed.insert(path, hash);
            }
            _ => {}
        }
        false
    }

    fn get(&self, at: &str) -> Option<&Found> {
        self.found.get(&path(at))
    }

    fn has_file(&self, at: &str) -> bool {
        matches!(self.get(at), Some(Found::File(_)))
    }

    fn is_gone(&self, at: &str) -> bool {
        matches!(self.get(at), Some(Found::Nothing))
    }
}

fn write_here(at: &str, bytes: &[u8], over: Option<Print>) -> Act {
    Act::Write {
        at: path(at),
        meta: META,
        size: bytes.len() as u64,
        hash: hash_of(bytes),
        over,
        source: Source::Here(bytes.into()),
    }
}

fn write_from_peer(at: &str, bytes: &[u8], over: Option<Print>, basis: Option<&str>) -> Act {
    let basis = basis.map(path);
    let source = Source::Peer {
        link: LinkId(1),
        basis,
    };
    let (size, hash) = (bytes.len() as u64, hash_of(bytes));
    Act::Write {
        at: path(at),
        meta: META,
        size,
        hash,
        over,
        source,
    }
}

/// Has nothing.
struct Nobody;

impl Supply for Nobody {
    fn fetch(
        &self,
        _: LinkId,
        _: Wanted,
        _: u64,
        _: u64,
        _: &mut Sink<'_>,
    ) -> Result<(), SupplyTrouble> {
        Err(SupplyTrouble::NotHere)
    }
    fn outline(&self, _: LinkId, _: Wanted, _: Stretch) -> Result<Vec<Chunk>, SupplyTrouble> {
        Err(SupplyTrouble::NotHere)
    }
}
