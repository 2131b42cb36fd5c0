//! The classic peer in imagined time, with a tracker and holders that say what the test wants.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    peer: Peer,
    now: Moment,
    /// What is in the folder; looked at whenever the peer wants to.
    disk: BTreeMap<FileName, LocalFile>,
    attempt: u64,
    sent: Vec<String>,
    answered: usize,
    jobs: Vec<FetchJob>,
    events: Vec<PeerEvent>,
    disconnects: usize,
}

impl World {
    fn new() -> Self {
        let port = ServingPort::new(8000).expect("a port");
        let options = PeerOptions {
            exclude: vec![".tmp".to_owned()],
            ..PeerOptions::default()
        };
        let mut world = Self {
            peer: Peer::new(options, port, 1),
            now: Moment::ORIGIN,
            disk: BTreeMap::new(),
            attempt: 0,
            sent: Vec::new(),
            answered: 0,
            jobs: Vec::new(),
            events: Vec::new(),
            disconnects: 0,
        };
        world.input(PeerInput::Due);
        world
    }

    /// Connected, and told what is in the folder.
    fn up(files: &[(&str, i64)]) -> Self {
        let mut world = Self::new();
        for (name, mtime) in files {
            world.disk.insert(named(name), local(*mtime));
        }
        world.connect();
        world
    }

    fn connect(&mut self) {
        let (attempt, own) = (self.attempt, IpAddr::from([10, 0, 0, 1]));
        self.input(PeerInput::Connected { attempt, own });
    }

    fn input(&mut self, input: PeerInput<'_>) {
        let mut outbox = VecDeque::new();
        self.peer.handle(self.now, input, &mut outbox);
        while let Some(effect) = outbox.pop_front() {
            match effect {
                PeerEffect::Connect { attempt } => self.attempt = attempt,
                PeerEffect::Send(bytes) => {
                    self.sent.push(String::from_utf8(bytes).expect("ASCII"));
                }
                PeerEffect::Disconnect => self.disconnects += 1,
                PeerEffect::Look => {
                    let files = PeerInput::Files(self.disk.clone());
                    self.peer.handle(self.now, files, &mut outbox);
                }
                PeerEffect::Fetch(job) => self.jobs.push(job),
                PeerEffect::Event(event) => self.events.push(event),
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.peer.deadline().filter(|due| due.at <= end) {
            self.now = due.at;
            self.input(PeerInput::Due);
            let next = self.peer.deadline();
            assert!(
                next.is_none_or(|next| next.at > self.now),
                "it moves on: {next:?}"
            );
        }
        self.now = end;
    }

    fn answer(&mut self, entries: &[(&str, u8, u16, i64)]) {
        self.answered = self.sent.len();
        let mut directory = Directory::default();
        for (name, host, port, mtime) in entries {
            let addr = SocketAddr::from(([10, 0, 0, *host], *port));
            let mtime = Mtime::from_secs(*mtime).expect("a time");
            directory
                .files
                .insert(named(name), ahoy_wire::classic::Holder { addr, mtime });
        }
        let (attempt, bytes) = (self.attempt, &directory.encode()[..]);
        self.input(PeerInput::Received { attempt, bytes });
    }

    /// Has the tracker answer what was asked, or will be.
    fn sync(&mut self, entries: &[(&str, u8, u16, i64)]) {
        while self.sent.len() == self.answered {
            self.pass(Duration::from_millis(100));
        }
        self.answer(entries);
    }

    /// Takes the jobs out, as "name from host:port at time".
    fn taken(&mut self) -> Vec<String> {
        let show = |job: &FetchJob| format!("{} {} {}", job.name, job.holder, job.mtime.secs());
        self.jobs.iter().map(show).collect()
    }

    /// The oldest job ends.
    fn end(&mut self, outcome: Result<i64, FetchTrouble>) {
        let FetchJob { job, name, .. } = self.jobs.remove(0);
        let outcome = outcome.map(local);
        if let Ok(file) = &outcome {
            self.disk.insert(name, *file);
        }
        self.input(PeerInput::Fetched {
            job,
            spoke: Some(Generation::Lines),
            outcome,
        });
    }
}

fn named(text: &str) -> FileName {
    FileName::new(text).expect("a name")
}

fn local(mtime: i64) -> LocalFile {
    LocalFile {
        mtime: Mtime::from_secs(mtime).expect("a time"),
        nanos: 0,
        size: 1,
    }
}

const INIT: &str = "{\"port\": 8000, \"files\": [{\"name\": \"a\", \"mtime\": 7}]}\n";
const ALIVE: &str = "{\"port\": 8000}\n";

/// classic-30.
#[test]
fn it_says_what_it_has_and_then_that_it_lives() {
    let mut world = World::up(&[("a", 7), ("x.py", 1), ("y.tmp", 1)]);
    assert_eq!(world.sent, [INIT], "excluded files are not told of");
    world.answer(&[]);
    world.pass(SECOND * 2);
    assert_eq!(world.sent, [INIT, ALIVE], "2 s after connecting");
    world.answer(&[]);
    world.pass(Duration::from_millis(4999));
    assert_eq!(world.sent.len(), 2);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.sent.len(), 3, "then every 5 s");
    world.answer(&[]);
    world.disk.insert(named("a"), local(8));
    world.pass(SECOND * 5);
    assert_eq!(
        world.sent[3],
        INIT.replace('7', "8"),
        "told again when it changed"
    );
}

/// classic-31, classic-32, classic-33.
#[test]
fn what_is_absent_or_older_is_fetched_and_nothing_else() {
    let mut world = World::up(&[("same", 7), ("newer", 9), ("older", 5)]);
    world.answer(&[
        ("absent", 2, 8000, 1),
        ("same", 2, 8000, 7),
        ("newer", 2, 8000, 8),
        ("older", 3, 8001, 6),
        ("own", 1, 8000, 99),
        ("x.py", 2, 8000, 99),
        ("y.tmp", 2, 8000, 99),
    ]);
    assert_eq!(
        world.taken(),
        ["absent 10.0.0.2:8000 1", "older 10.0.0.3:8001 6"]
    );
    assert_eq!(world.jobs[0].expect, None);
    assert_eq!(world.jobs[1].expect, Some(local(5)));
    world.end(Ok(1));
    world.end(Ok(6));
    assert!(world.events.contains(&PeerEvent::Complete { files: 4 }));
    world.sync(&[("absent", 2, 8000, 1), ("older", 3, 8001, 6)]);
    assert!(world.jobs.is_empty(), "all is here");
    assert!(world.sent[1].contains("absent"), "and the tracker knows");
}

/// classic-37.
#[test]
fn when_a_holder_fails_another_one_is_asked_and_then_it_again() {
    let mut world = World::up(&[]);
    world.answer(&[("a", 3, 8000, 5)]);
    assert_eq!(world.taken(), ["a 10.0.0.3:8000 5"]);
    world.end(Err(FetchTrouble::Missing));
    assert!(world.jobs.is_empty(), "not at once");
    world.sync(&[("a", 2, 8000, 9)]);
    let choices = world.taken();
    assert_eq!(choices.len(), 1, "{choices:?}");
    let first = choices[0].clone();
    world.end(Err(FetchTrouble::Stalled));
    world.pass(SECOND * 2);
    let second = world.taken();
    assert_eq!(second.len(), 1);
    assert_ne!(
        first, second[0],
        "the other holder of what is newer than here"
    );
    world.end(Err(FetchTrouble::Missing));
    let mut tries = 0;
    for _ in 0..100 {
        world.sync(&[("a", 2, 8000, 9)]);
        while !world.jobs.is_empty() {
            tries += 1;
            world.end(Err(FetchTrouble::Stalled));
        }
    }
    assert!(
        (7..30).contains(&tries),
        "{tries} tries in 500 s: it goes on, ever more rarely"
    );
    world.pass(SECOND * 60);
    world.sync(&[("a", 2, 8000, 9)]);
    assert_eq!(world.taken(), ["a 10.0.0.2:8000 9"]);
    world.end(Ok(9));
    assert_eq!(world.peer.snapshot().wanted, 0);
}

/// classic-37, classic-38.
#[test]
fn a_bad_holder_does_not_stop_the_others_and_fetches_are_bounded() {
    let mut world = World::up(&[]);
    let names: Vec<String> = (0..20).map(|n| format!("bad{n:02}")).collect();
    let mut entries: Vec<(&str, u8, u16, i64)> = names
        .iter()
        .map(|name| (name.as_str(), 66, 8000, 1))
        .collect();
    entries.push(("good", 2, 8000, 1));
    world.answer(&entries);
    let taken = world.taken();
    assert_eq!(
        taken.len(),
        5,
        "four of one holder, and the good one: {taken:?}"
    );
    assert!(taken.contains(&"good 10.0.0.2:8000 1".to_owned()));
    world.end(Err(FetchTrouble::Stalled));
    world.end(Err(FetchTrouble::Stalled));
    assert_eq!(world.jobs.len(), 3, "it is left alone for a while");
    let many: Vec<(String, u8)> = (0..40).map(|n| (format!("f{n}"), n + 100)).collect();
    let entries: Vec<(&str, u8, u16, i64)> = many
        .iter()
        .map(|(name, host)| (name.as_str(), *host, 8000, 1))
        .collect();
    world.sync(&entries);
    assert_eq!(world.jobs.len(), 8);
    let mut pace = Pace::new(4);
    let at: Vec<u64> = (0..9)
        .map(|_| {
            pace.reserve(Moment::ORIGIN + SECOND)
                .since_origin()
                .as_millis()
        })
        .map(|ms| u64::try_from(ms).expect("small"))
        .collect();
    assert_eq!(at, [1000, 1250, 1500, 1750, 2000, 2250, 2500, 2750, 3000]);
}

/// classic-39, classic-41.
#[test]
fn a_tracker_that_is_gone_is_tried_again_and_told_everything() {
    let mut world = World::up(&[("a", 7)]);
    world.pass(SECOND * 10);
    assert_eq!(world.disconnects, 1, "no answer for 10 s");
    let silent = |event: &PeerEvent| {
        matches!(
            event,
            PeerEvent::Down {
                why: DownReason::Silent,
                ..
            }
        )
    };
    assert!(world.events.iter().any(silent));
    world.pass(SECOND);
    assert_eq!(world.attempt, 2);
    for attempt in 2..=9 {
        let error = Some("connection refused".to_owned());
        world.input(PeerInput::Lost { attempt, error });
        world.pass(SECOND * 30);
        assert_eq!(world.attempt, attempt + 1, "never later than 30 s");
    }
    world.connect();
    assert_eq!(world.sent, [INIT, INIT]);
    world.answer(&[("b", 2, 8000, 1)]);
    assert_eq!(world.jobs.len(), 1);
    // What is known goes on without a tracker.
    let attempt = world.attempt;
    world.input(PeerInput::Lost {
        attempt,
        error: None,
    });
    world.end(Err(FetchTrouble::Missing));
    world.pass(SECOND * 2);
    assert_eq!(world.taken(), ["b 10.0.0.2:8000 1"]);
    // The end of an attempt that was given up is nobody's business.
    world.connect();
    world.input(PeerInput::Lost {
        attempt: 1,
        error: None,
    });
    assert!(world.peer.snapshot().is_up);
}

/// classic-40.
#[test]
fn a_tracker_that_says_nonsense_is_left() {
    let deep = "{\"a\":".repeat(70);
    for nonsense in ["hello", "{\"a\": }", "[]", "{]", &deep] {
        let mut world = World::up(&[]);
        let (attempt, bytes) = (world.attempt, nonsense.as_bytes());
        world.input(PeerInput::Received { attempt, bytes });
        assert_eq!(world.disconnects, 1, "{nonsense:.20}");
        assert!(!world.peer.snapshot().is_up);
    }
    let mut world = World::up(&[]);
    let (attempt, flood) = (world.attempt, "{}\n".repeat(300));
    let bytes = flood.as_bytes();
    world.input(PeerInput::Received { attempt, bytes });
    assert_eq!(world.disconnects, 1, "nobody asked for 300 directories");
}

/// classic-57.
#[test]
fn how_to_ask_first_follows_the_tracker_and_then_the_holder() {
    let mut world = World::up(&[]);
    let attempt = world.attempt;
    let bare = br#"{"a": {"ip": "10.0.0.2", "port": 8000, "mtime": 1}}"#;
    world.input(PeerInput::Received {
        attempt,
        bytes: bare,
    });
    world.answered = world.sent.len();
    assert_eq!(world.jobs[0].first, Generation::Bare);
    assert!(world.jobs[0].bare_swarm);
    world.end(Ok(1));
    let entries = [("b", 2, 8000, 1), ("c", 3, 8000, 1)];
    world.sync(&entries);
    let asked: Vec<_> = world
        .jobs
        .iter()
        .map(|job| (job.first, job.proven))
        .collect();
    let lines = Generation::Lines;
    assert_eq!(asked, [(lines, Some(lines)), (lines, None)]);
}

/// classic-34: a time that the disk cannot hold is not fetched for ever.
#[test]
fn a_file_that_stays_old_is_left_alone_ever_longer() {
    let mut world = World::up(&[]);
    let mut fetches = 0;
    for _ in 0..20 {
        world.sync(&[("a", 2, 8000, 5)]);
        while !world.jobs.is_empty() {
            fetches += 1;
            world.end(Ok(4));
        }
    }
    assert!((3..9).contains(&fetches), "{fetches} in 100 s");
}
