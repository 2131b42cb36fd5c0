//! The engine on a bench: each test is the smallest story of something that once went wrong in
//! the imagined world. The test plays the disk and one peer.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the effects that it is about"
)]

use ahoy_wire::sync::{
    Body, Class, Clock, Dot, Hash, Hello, Item, Label, Message, Meta, Mtime, Name, NodeId, Place,
    Record, Records, RelPath, ReplicaId, Value,
};

use super::*;
use crate::moment::Moment;

const PEER: LinkId = LinkId(1);

struct Bench {
    engine: Engine,
    now_ms: u64,
    /// What the engine wanted since this was last looked at.
    wants: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        let who = Identity {
            replica: ReplicaId(1),
            label: Label::tidy("here"),
            rights: Rights::Writer,
            run: ReplicaId(1).in_run(9),
            is_put_back: false,
            floor: 0,
        };
        Self {
            engine: Engine::new(who, Vec::new()),
            now_ms: 0,
            wants: Vec::new(),
        }
    }

    /// A bench whose first whole look found these at the top of the folder.
    fn with(found: &[(&str, Found)]) -> Self {
        let mut bench = Self::new();
        bench.seen(found, true, None);
        bench.give(Input::Settled { whole_tree: true });
        bench
    }

    /// One after whose start a peer has come.
    fn meet(&mut self) {
        self.give(Input::Opened {
            link: PEER,
            rights: Rights::Writer,
        });
        let hello = Hello {
            replica: ReplicaId(2),
            label: Label::tidy("there"),
            sequence: 0,
        };
        self.hear(Message::Hello(hello));
        self.hear(Message::Want { since: 0 });
    }

    fn give(&mut self, input: Input) {
        let now = Moment::after_origin(std::time::Duration::from_millis(self.now_ms));
        self.engine.take(now, input);
        self.wants.extend(self.engine.flush(now));
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.give(Input::Tick);
    }

    fn seen(&mut self, found: &[(&str, Found)], whole: bool, asked: Option<u64>) {
        let sightings = found.iter().map(|(at, found)| {
            let (dir, name) = path(at).split().expect("a name in a directory");
            let found = found.clone();
            Sighting { dir, name, found }
        });
        let input = Input::Seen {
            sightings: sightings.collect(),
            whole: if whole { vec![path("")] } else { Vec::new() },
            asked,
        };
        self.give(input);
    }

    fn hear(&mut self, message: Message) {
        self.give(Input::Heard {
            link: PEER,
            message,
        });
    }

    fn hear_of(&mut self, records: Vec<Record>) {
        let item = |record| Item {
            record,
            signature: None,
            content: None,
        };
        let items = records.into_iter().map(item).collect();
        self.hear(Message::Records(Records { upto: 9, items }));
    }

    /// The looks that were asked for since the last call: where, and the number.
    fn looks(&mut self) -> Vec<(String, u64)> {
        let told = |effect| match effect {
            Effect::Look { look, ask } => Some((spot(&look), ask)),
            _ => None,
        };
        std::mem::take(&mut self.wants)
            .into_iter()
            .filter_map(told)
            .collect()
    }

    /// The steps that were ordered since the last call.
    fn steps(&mut self) -> Vec<Step> {
        let step = |effect| match effect {
            Effect::Do(step) => Some(*step),
            _ => None,
        };
        std::mem::take(&mut self.wants)
            .into_iter()
            .filter_map(step)
            .collect()
    }

    fn finish(&mut self, job: JobId, result: Result<Option<Print>, Trouble>) {
        self.give(Input::Finished(vec![Outcome { job, result }]));
    }

    fn value(&self, id: NodeId) -> Value {
        let node = self.engine.tree().node(id).expect("a known node");
        node.record.body.value.clone()
    }
}

fn spot(look: &Look) -> String {
    match look {
        Look::At(dir, name) => format!("{:?}", dir.join(name).expect("a short path")),
        Look::Below(dir) => format!("below {dir:?}"),
    }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap_or_default()
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a good name")
}

fn print(inode: u64) -> Print {
    Print {
        inode,
        birth: 7,
        size: 100_000,
        mtime: Mtime { secs: 5, nanos: 0 },
        ctime: 5,
        mode: 0o644,
        racy: false,
    }
}

fn dir_print(inode: u64, mode: u16) -> Print {
    Print {
        size: 0,
        mode,
        ..print(inode)
    }
}

fn dir_value() -> Value {
    Value::Dir(Meta {
        mode: 0o755,
        mtime: Mtime { secs: 5, nanos: 0 },
    })
}

fn file(content: u8) -> Value {
    Value::File {
        meta: Meta {
            mode: 0o644,
            mtime: Mtime { secs: 5, nanos: 0 },
        },
        size: 100_000,
        hash: Hash([content; 32]),
    }
}

fn dot(replica: u64, count: u64) -> Dot {
    let replica = ReplicaId(replica);
    Dot { count, replica }
}

fn plain(parent: NodeId, text: &str, class: Class) -> NodeId {
    NodeId::created(parent, &name(text), class, None)
}

/// A record as the one who made `dot` tells it, having seen `base`.
fn record(id: NodeId, parent: NodeId, at: &str, value: Value, base: &[Dot], dot: Dot) -> Record {
    let mut clock = Clock::of(dot);
    base.iter().for_each(|dot| clock.add(*dot));
    let class = match value {
        Value::Dir(_) => Class::Dir,
        Value::File { .. } | Value::Link { .. } | Value::Gone { .. } => Class::Leaf,
    };
    Record {
        id,
        class,
        copy_of: None,
        place: Place {
            clock: clock.clone(),
            dot,
            parent,
            name: name(at),
        },
        body: Body {
            clock,
            dot,
            author: Label::tidy("there"),
            value,
        },
    }
}

/// A bench with one file in the folder that has been read and is known to the peer.
fn one_file(at: &str) -> (Bench, NodeId) {
    let mut bench = Bench::with(&[(at, Found::File(print(4)))]);
    bench.meet();
    bench.give(Input::Hashed {
        path: path(at),
        print: print(4),
        hash: Hash([4; 32]),
    });
    bench.wants.clear();
    (bench, plain(NodeId::ROOT, at, Class::Leaf))
}

#[test]
fn a_name_that_is_taken_again_is_asked_about_again_when_it_falls_free() {
    let (mut bench, id) = one_file("d");
    let settle = |bench: &mut Bench| bench.give(Input::Settled { whole_tree: false });
    bench.seen(&[("d", Found::Nothing)], false, None);
    settle(&mut bench);
    let looks = bench.looks();
    assert_eq!(looks.len(), 1);
    // Another file stands there by then, but cannot be read before it is gone as well.
    bench.seen(&[("d", Found::File(print(7)))], false, Some(looks[0].1));
    settle(&mut bench);
    bench.wants.clear();
    bench.seen(&[("d", Found::Nothing)], false, None);
    settle(&mut bench);
    let looks = bench.looks();
    assert_eq!(looks.len(), 1, "nobody asks any more");
    bench.seen(&[("d", Found::Nothing)], false, Some(looks[0].1));
    settle(&mut bench);
    assert!(bench.value(id).is_gone());
}

#[test]
fn an_answer_about_a_place_where_it_no_longer_is_makes_it_ask_again() {
    let mut bench = Bench::with(&[("in", Found::Dir(dir_print(9, 0o755)))]);
    bench.seen(&[("in/f", Found::Link(print(4), target()))], false, None);
    let id = plain(plain(NodeId::ROOT, "in", Class::Dir), "f", Class::Leaf);
    bench.wants.clear();
    bench.seen(&[("in/f", Found::Nothing)], false, None);
    bench.give(Input::Settled { whole_tree: false });
    let asked = bench.looks()[0].1;
    // Its directory is moved before the answer comes.
    bench.seen(&[("out", Found::Dir(dir_print(9, 0o755)))], false, None);
    bench.seen(&[("in/f", Found::Nothing)], false, Some(asked));
    bench.give(Input::Settled { whole_tree: false });
    let again = bench.looks();
    let asked = again.iter().find(|(at, _)| at == "\"out/f\"");
    let asked = asked.expect("a look at where it would be now").1;
    bench.seen(&[("out/f", Found::Nothing)], false, Some(asked));
    bench.give(Input::Settled { whole_tree: false });
    assert!(bench.value(id).is_gone());
}

fn target() -> ahoy_wire::sync::Target {
    ahoy_wire::sync::Target::new(b"there").expect("a good target")
}

#[test]
fn a_mode_that_is_set_while_the_directory_is_being_moved_is_noticed() {
    let mut bench = Bench::with(&[("old", Found::Dir(dir_print(9, 0o755)))]);
    bench.meet();
    let id = plain(NodeId::ROOT, "old", Class::Dir);
    let known = bench
        .engine
        .tree()
        .node(id)
        .expect("it was seen")
        .record
        .clone();
    bench.wants.clear();
    let moved = record(
        id,
        NodeId::ROOT,
        "new",
        dir_value(),
        &[known.place.dot],
        dot(2, 50),
    );
    let body = known.body.clone();
    bench.hear_of(vec![Record { body, ..moved }]);
    let steps = bench.steps();
    assert!(matches!(steps[0].act, Act::Move { .. }));
    let changed = dir_print(9, 0o700);
    bench.finish(steps[0].job, Ok(Some(changed)));
    let looks = bench.looks();
    let look = looks.iter().find(|(at, _)| at == "\"new\"");
    let asked = look.expect("it is looked at again").1;
    bench.seen(&[("new", Found::Dir(changed))], false, Some(asked));
    match bench.value(id) {
        Value::Dir(meta) => assert_eq!(meta.mode, 0o700),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_that_is_meant_to_be_empty_is_looked_at_anew() {
    let names: Vec<String> = (0..5).map(|i| format!("f{i}")).collect();
    let link = Found::Link(print(4), target());
    let found: Vec<_> = names.iter().map(|n| (n.as_str(), link.clone())).collect();
    let full = Bench::with(&found);
    let rows = full.wants.into_iter().filter_map(|effect| match effect {
        Effect::Keep(row) => Some(row),
        _ => None,
    });
    let mut bench = Bench::new();
    bench.engine = Engine::new(bench.engine.who.clone(), rows.collect::<Vec<_>>());
    bench.seen(&[], true, None);
    bench.give(Input::Settled { whole_tree: true });
    assert_eq!(bench.engine.progress().state, State::Emptied);
    // What appears now is not believed.
    bench.seen(&[("fresh", link)], false, None);
    bench.wants.clear();
    bench.engine.accept_empty();
    bench.give(Input::Tick);
    assert!(bench.looks().iter().any(|(at, _)| at == "below \"\""));
}

/// The peer edited the file concurrently and wins: this machine's own content has to be copied
/// from where it stands before it is replaced.
fn a_copy_that_failed() -> (Bench, NodeId, Step) {
    let (mut bench, id) = one_file("f");
    let theirs = record(id, NodeId::ROOT, "f", file(9), &[], dot(2, 50));
    bench.hear_of(vec![theirs]);
    let steps = bench.steps();
    let copy = steps
        .into_iter()
        .find(|step| step.node != id)
        .expect("the copy is ordered");
    let copied =
        matches!(&copy.act, Act::Write { source, .. } if matches!(source, Source::Local { .. }));
    assert!(copied, "{copy:?}");
    bench.finish(copy.job, Err(Trouble::Changed));
    (bench, id, copy)
}

#[test]
fn a_failed_copy_has_its_origin_looked_at_and_tried_again_once_it_is_known_anew() {
    let (mut bench, _, copy) = a_copy_that_failed();
    assert!(bench.looks().iter().any(|(at, _)| at == "\"f\""));
    let renamed = Print {
        ctime: 6,
        ..print(4)
    };
    bench.seen(&[("f", Found::File(renamed))], false, Some(99));
    bench.give(Input::Hashed {
        path: path("f"),
        print: renamed,
        hash: Hash([4; 32]),
    });
    bench.pass(10_000);
    let again = bench
        .steps()
        .into_iter()
        .find(|step| step.node == copy.node);
    let act = again.expect("it is tried again").act;
    let local = matches!(&act, Act::Write { source, .. } if matches!(source, Source::Local { .. }));
    assert!(local, "{act:?}");
}

#[test]
fn a_content_that_is_known_to_be_here_is_never_given_up() {
    let (mut bench, id, copy) = a_copy_that_failed();
    for _ in 0..40 {
        for step in bench.steps() {
            assert!(step.node != id, "its own bytes are still needed: {step:?}");
            bench.finish(step.job, Err(Trouble::NoSource));
        }
        bench.pass(100_000);
    }
    assert!(!bench.value(copy.node).is_gone());
}

/// The peer tells of a copy that keeps what lost a conflict, and has not got it itself.
fn an_empty_promise(author: u64) -> (Bench, NodeId) {
    let mut bench = Bench::with(&[]);
    bench.meet();
    let original = plain(NodeId::ROOT, "f", Class::Leaf);
    let made = dot(author, 3);
    let lost = record(original, NodeId::ROOT, "f", file(3), &[], made);
    let copy = merge::conflict_copy(original, &lost.place, &lost.body);
    let id = copy.id;
    bench.hear_of(vec![copy.clone()]);
    if bench.engine.tree().node(id).is_none() {
        // Its own index does not know that it has made this (sync-38).
        bench.meet();
        bench.hear_of(vec![copy]);
    }
    for _ in 0..20 {
        for step in bench.steps() {
            bench.finish(step.job, Err(Trouble::NoSource));
        }
        bench.pass(100_000);
    }
    (bench, id)
}

#[test]
fn only_its_author_says_that_a_lost_content_is_gone() {
    let (bench, id) = an_empty_promise(1);
    assert!(bench.value(id).is_gone());
    let (bench, id) = an_empty_promise(2);
    assert!(!bench.value(id).is_gone());
}

#[test]
fn everybody_is_told_of_a_copy_that_waits_for_its_content() {
    let mut bench = Bench::with(&[]);
    bench.meet();
    let original = plain(NodeId::ROOT, "f", Class::Leaf);
    let lost = record(original, NodeId::ROOT, "f", file(3), &[], dot(3, 3));
    let copy = merge::conflict_copy(original, &lost.place, &lost.body);
    let id = copy.id;
    bench.hear_of(vec![copy]);
    let mut told = false;
    for _ in 0..20 {
        let is_told = |effect: &Effect| match effect {
            Effect::Send { items, .. } => items.iter().any(|item| item.record.id == id),
            _ => false,
        };
        told |= bench.wants.iter().any(is_told);
        for step in bench.steps() {
            bench.finish(step.job, Err(Trouble::NoSource));
        }
        bench.pass(100_000);
    }
    assert!(told);
}

#[test]
fn a_directory_is_not_parked_with_the_one_that_is_to_take_its_name() {
    // Here in/out; there out (as in) / in.
    let mut bench = Bench::with(&[("a", Found::Dir(dir_print(9, 0o755)))]);
    bench.seen(&[("a/b", Found::Dir(dir_print(10, 0o755)))], false, None);
    bench.meet();
    let outer = plain(NodeId::ROOT, "a", Class::Dir);
    let inner = plain(outer, "b", Class::Dir);
    let known = |id| bench.engine.tree().node(id).expect("seen").record.clone();
    let (was_outer, was_inner) = (known(outer), known(inner));
    let to = |was: &Record, parent, at: &str, count| Record {
        body: was.body.clone(),
        ..record(
            was.id,
            parent,
            at,
            dir_value(),
            &[was.place.dot],
            dot(2, count),
        )
    };
    bench.wants.clear();
    bench.hear_of(vec![
        to(&was_inner, NodeId::ROOT, "a", 50),
        to(&was_outer, inner, "b", 51),
    ]);
    let mut paths: Vec<(NodeId, &str)> = Vec::new();
    for _ in 0..20 {
        for step in bench.steps() {
            let inode = if step.node == outer { 9 } else { 10 };
            if let Act::Unpark { to } = &step.act {
                let at = if to == &path("a") { "a" } else { "a/b" };
                assert_eq!(to, &path(at));
                paths.push((step.node, at));
            }
            bench.finish(step.job, Ok(Some(dir_print(inode, 0o755))));
        }
        bench.pass(1000);
    }
    assert_eq!(bench.engine.path(inner), Some(path("a")));
    assert_eq!(bench.engine.path(outer), Some(path("a/b")));
    assert_eq!(bench.engine.progress().nodes_left, 0, "{paths:?}");
}

#[test]
fn a_file_in_the_way_of_its_own_directory_waits_in_the_parking_place() {
    // Here the file f; there a directory f with that file in it, as new nodes.
    let (mut bench, id) = one_file("f");
    let known = bench.engine.tree().node(id).expect("seen").record.clone();
    let gone = Value::Gone {
        was: Box::new(file(4)),
        seen: known.place.clock.clone(),
    };
    let dir = plain(NodeId::ROOT, "f", Class::Dir);
    let inside = plain(dir, "g", Class::Leaf);
    let gone = record(id, NodeId::ROOT, "f", gone, &[known.body.dot], dot(2, 50));
    bench.hear_of(vec![
        Record {
            place: known.place,
            ..gone
        },
        record(dir, NodeId::ROOT, "f", dir_value(), &[], dot(2, 51)),
        record(inside, dir, "g", file(4), &[], dot(2, 52)),
    ]);
    for _ in 0..20 {
        for step in bench.steps() {
            let print = match &step.act {
                Act::MakeDir { .. } => dir_print(20, 0o755),
                Act::Park { .. } | Act::Unpark { .. } | Act::Move { .. } => print(4),
                other => panic!("nothing is to be fetched or removed: {other:?}"),
            };
            bench.finish(step.job, Ok(Some(print)));
        }
        bench.pass(1000);
    }
    assert_eq!(bench.engine.path(inside), Some(path("f/g")));
    assert_eq!(bench.engine.progress().nodes_left, 0);
}
