//! The classic tracker in imagined time: what peers say and what they are answered.

use std::collections::BTreeMap;

use super::*;
use crate::machine::Effect;

/// The tracker, its clock, and everything that was sent on each connection.
struct World {
    tracker: ClassicTracker,
    now: Moment,
    sent: BTreeMap<u64, Vec<u8>>,
    closed: Vec<u64>,
    notes: Vec<TrackerNote>,
}

impl World {
    fn new(limits: TrackerLimits) -> Self {
        let options = TrackerOptions {
            limits,
            ..TrackerOptions::default()
        };
        Self {
            tracker: ClassicTracker::new(options),
            now: Moment::ORIGIN,
            sent: BTreeMap::new(),
            closed: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let mut outbox = Outbox::new();
        self.tracker.handle(self.now, input, &mut outbox);
        for effect in outbox.drain() {
            match effect {
                Effect::SendShared { id, bytes } => {
                    self.sent.entry(id.0).or_default().extend_from_slice(&bytes);
                }
                Effect::Finish { id } | Effect::Close { id } => self.closed.push(id.0),
                Effect::Note(note) => self.notes.push(note),
                other @ (Effect::Send { .. } | Effect::Datagram { .. } | Effect::Exit) => {
                    panic!("unexpected {other:?}")
                }
            }
        }
        self.check();
    }

    /// What is counted is what is there.
    fn check(&self) {
        let held = self.tracker.connections.iter(Moment::ORIGIN);
        let held: usize = held.map(|(_, c)| c.objects.held_bytes()).sum();
        assert_eq!(self.tracker.partial_bytes, held);
    }

    /// A connection from 10.0.0.`host`.
    fn open(&mut self, number: u64, host: u8) {
        let id = ConnectionId(number);
        let peer = SocketAddr::from(([10, 0, 0, host], 40_000));
        let local = SocketAddr::from(([10, 0, 0, 99], 7447));
        self.input(Input::Opened { id, peer, local });
    }

    /// Says it, and gives back what came of it, without the line end.
    fn say(&mut self, number: u64, text: &str) -> String {
        self.sent.remove(&number);
        let id = ConnectionId(number);
        let bytes = text.as_bytes();
        self.input(Input::Received { id, bytes });
        let answer = self.sent.get(&number).cloned().unwrap_or_default();
        String::from_utf8(answer)
            .expect("ASCII")
            .trim_end()
            .to_owned()
    }

    fn init(&mut self, number: u64, port: u16, files: &[(&str, i64)]) -> String {
        let files: Vec<String> = files
            .iter()
            .map(|(name, mtime)| format!("{{\"name\": \"{name}\", \"mtime\": {mtime}}}"))
            .collect();
        self.say(
            number,
            &format!("{{\"port\": {port}, \"files\": [{}]}}", files.join(", ")),
        )
    }

    fn alive(&mut self, number: u64, port: u16) -> String {
        self.say(number, &format!("{{\"port\": {port}}}"))
    }

    fn end(&mut self, number: u64) {
        let id = ConnectionId(number);
        self.input(Input::Closed { id });
    }

    fn pass(&mut self, secs: u64) {
        let end = self.now + Duration::from_secs(secs);
        while let Some(due) = self.tracker.deadline().filter(|due| due.at <= end) {
            self.now = due.at;
            self.input(Input::Due);
            let next = self.tracker.deadline();
            assert!(next.is_none_or(|next| next.at > self.now), "it moves on");
        }
        self.now = end;
    }
}

fn world() -> World {
    World::new(TrackerLimits::default())
}

fn entry(name: &str, host: u8, port: u16, mtime: i64) -> String {
    format!("\"{name}\": {{\"ip\": \"10.0.0.{host}\", \"port\": {port}, \"mtime\": {mtime}}}")
}

fn directory(entries: &[String]) -> String {
    format!("{{{}}}", entries.join(", "))
}

/// classic-4, classic-5, classic-11.
#[test]
fn each_message_is_answered_by_the_directory() {
    let mut world = world();
    world.open(1, 1);
    world.open(2, 2);
    let a = entry("a", 1, 8000, 100);
    assert_eq!(
        world.init(1, 8000, &[("a", 100)]),
        directory(std::slice::from_ref(&a))
    );
    assert_eq!(
        world.alive(2, 8000),
        directory(std::slice::from_ref(&a)),
        "never seen, answered"
    );
    let b = entry("b", 2, 8000, 5);
    let both = directory(&[a, b]);
    assert_eq!(world.init(2, 8000, &[("b", 5)]), both);
    assert_eq!(
        world.say(1, "{\"port\": 8000}{\"port\": 8000}"),
        format!("{both}\n{both}")
    );
    assert_eq!(world.say(1, "{\"por"), "");
    assert_eq!(world.say(1, "t\": 8000}\n"), both);
    assert_eq!(world.tracker.snapshot().peers, 2);
    assert_eq!(world.tracker.snapshot().answered_total, 6);
}

/// classic-5, classic-14.
#[test]
fn the_newest_holder_is_listed_and_the_next_one_takes_over() {
    let mut world = world();
    for (number, host) in [(1, 1), (2, 2), (3, 3)] {
        world.open(number, host);
    }
    world.init(1, 8000, &[("a", 100)]);
    assert_eq!(
        world.init(2, 8000, &[("a", 300)]),
        directory(&[entry("a", 2, 8000, 300)])
    );
    assert_eq!(
        world.init(3, 8000, &[("a", 300)]),
        directory(&[entry("a", 2, 8000, 300)])
    );
    assert_eq!(
        world.init(3, 8000, &[("a", 200)]),
        directory(&[entry("a", 2, 8000, 300)])
    );
    // The holder no longer has it: the next newest, then the next.
    assert_eq!(
        world.init(2, 8000, &[]),
        directory(&[entry("a", 3, 8000, 200)])
    );
    world.end(3);
    world.pass(100);
    assert_eq!(
        world.alive(1, 8000),
        directory(&[entry("a", 3, 8000, 200)]),
        "newer, if away"
    );
    world.pass(80);
    assert_eq!(
        world.alive(1, 8000),
        directory(&[entry("a", 1, 8000, 100)]),
        "forgotten"
    );
    let peer = SocketAddr::from(([10, 0, 0, 3], 8000));
    let cause = LeftCause::Silent;
    assert!(world.notes.contains(&TrackerNote::Left { peer, cause }));
    assert_eq!(world.init(1, 8000, &[]), "{}");
}

/// classic-13.
#[test]
fn a_peer_is_forgotten_exactly_at_its_timeout() {
    let mut world = world();
    world.open(1, 1);
    world.open(2, 2);
    world.init(1, 8000, &[("a", 1)]);
    world.pass(9);
    world.alive(2, 8000);
    world.pass(170);
    let listed = directory(&[entry("a", 1, 8000, 1)]);
    assert_eq!(world.alive(2, 8000), listed, "179 s after its word");
    assert!(world.closed.is_empty());
    world.pass(1);
    assert_eq!(world.alive(2, 8000), "{}");
    assert_eq!(world.closed, [1], "its connection too");
    // Bytes that make no message are no sign of life.
    world.pass(179);
    world.say(2, "{\"port\"");
    world.pass(1);
    assert_eq!(world.closed, [1, 2]);
    assert_eq!(world.tracker.snapshot().peers, 0);
    assert_eq!(world.tracker.snapshot().files, 0);
}

/// classic-10, classic-15.
#[test]
fn a_peer_that_reconnects_is_the_same_one() {
    let mut world = world();
    for (number, host) in [(1, 1), (2, 2)] {
        world.open(number, host);
    }
    world.init(1, 8000, &[("a", 100)]);
    world.init(2, 8000, &[("a", 100)]);
    world.end(1);
    assert_eq!(
        world.alive(2, 8000),
        directory(&[entry("a", 2, 8000, 100)]),
        "who is there"
    );
    world.open(3, 1);
    assert_eq!(
        world.alive(3, 8000),
        directory(&[entry("a", 1, 8000, 100)]),
        "came first"
    );
    assert_eq!(world.tracker.snapshot().peers, 2);
    // A new connection while the old one is open: the old one's end changes nothing.
    world.open(4, 1);
    world.alive(4, 8000);
    world.end(3);
    assert_eq!(world.alive(2, 8000), directory(&[entry("a", 1, 8000, 100)]));
    // Another port is another peer, of the same address or not.
    world.open(5, 1);
    world.init(5, 8001, &[("b", 1)]);
    assert_eq!(world.tracker.snapshot().peers, 3);
    // On one connection it is the same peer that has moved.
    let a = entry("a", 1, 8000, 100);
    assert_eq!(
        world.init(5, 8002, &[("c", 1)]),
        directory(&[a, entry("c", 1, 8002, 1)])
    );
    assert_eq!(world.tracker.snapshot().peers, 3);
}

/// classic-12.
#[test]
fn an_init_replaces_what_was_announced() {
    let mut world = world();
    world.open(1, 1);
    let two = directory(&[entry("a", 1, 1, 7), entry("b", 1, 1, 1)]);
    assert_eq!(
        world.init(1, 1, &[("b", 1), ("a", 5), ("a", 7), ("a", 6)]),
        two
    );
    assert_eq!(world.notes.len(), 2);
    assert_eq!(world.init(1, 1, &[("a", 7), ("b", 1)]), two);
    assert_eq!(world.notes.len(), 2, "nothing new");
    assert_eq!(
        world.init(1, 1, &[("a", 6)]),
        directory(&[entry("a", 1, 1, 6)]),
        "older again"
    );
    assert_eq!(world.tracker.snapshot().files, 1);
}

/// classic-7, classic-8.
#[test]
fn what_cannot_be_read_ends_its_connection_alone() {
    let mut world = world();
    world.open(1, 1);
    world.init(1, 8000, &[("a", 1)]);
    for (number, text) in (10..).zip([
        "HELLO 1",
        "{\"port\": 1}x",
        "{\"port\": 0}",
        "{}",
        "{\"port\": 1]",
        "[1]",
    ]) {
        world.open(number, 2);
        world.say(number, text);
        assert_eq!(world.closed.last(), Some(&number), "{text}");
    }
    let good = directory(&[entry("a", 1, 8000, 1)]);
    assert_eq!(
        world.sent.get(&11).map(|sent| sent.len()),
        Some(good.len() + 1),
        "answered first"
    );
    let unfit = world.init(1, 8000, &[("../a", 1), ("a", 1), ("/etc/passwd", 2)]);
    assert_eq!(unfit, good);
    assert!(!world.closed.contains(&1));
}

/// classic-16, classic-17, classic-18.
#[test]
fn everything_has_its_limit() {
    let mut world = World::new(TrackerLimits {
        connections_max: 3,
        connections_per_source_max: 2,
        peers_max: 2,
        files_max: 4,
        files_per_source_max: 3,
        directory_bytes_max: 180,
    });
    for (number, host) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3)] {
        world.open(number, host);
    }
    assert_eq!(
        world.closed,
        [3, 5],
        "the third of one address, the fourth of all"
    );
    world.init(1, 1, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    assert_eq!(world.tracker.snapshot().files, 3);
    world.init(4, 1, &[("a", 2), ("e", 1)]);
    assert_eq!(world.tracker.snapshot().files, 4);
    world.alive(2, 2);
    assert_eq!(world.closed.last(), Some(&2), "a third peer");
    world.init(1, 1, &[]);
    assert_eq!(world.tracker.snapshot().files, 1);
    let names: Vec<String> = (0..3).map(|n| format!("a name that is long {n}")).collect();
    let files: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let line = world.init(1, 1, &files);
    assert_eq!(world.tracker.snapshot().names, 2, "{line}");
    assert!(line.len() <= 182, "{}", line.len());
    let burst = "{\"port\": 1}".repeat(300);
    world.say(4, &burst);
    assert_eq!(world.closed.last(), Some(&4), "256 at once, and no more");
    let answers = world.sent[&4].iter().filter(|byte| **byte == b'\n').count();
    assert!((240..=256).contains(&answers), "{answers}");
}

/// classic-9.
#[test]
fn unfinished_messages_are_bounded_together() {
    let mut world = world();
    let piece = " ".repeat(1024 * 1024);
    world.open(1, 1);
    world.say(1, &format!("{{{piece}"));
    assert!(world.closed.is_empty());
    world.say(1, &format!("{piece}{piece}"));
    assert_eq!(world.closed, [1], "longer than a message may be");
    for number in 2..=66 {
        world.open(number, 2);
        world.say(number, &format!("{{{piece}"));
    }
    assert_eq!(world.closed, [1, 65, 66], "64 MiB of all");
    world.end(2);
    world.open(67, 2);
    world.say(67, &format!("{{{piece}"));
    assert_eq!(world.closed, [1, 65, 66], "there is room again");
}
