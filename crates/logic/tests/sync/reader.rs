//! An engine that may only read.

use ahoy_logic::sync::merge::conflict_copy;
use ahoy_logic::sync::tree::Goal;
use ahoy_logic::sync::{Act, Effect, Input, LinkId, Notice, Outcome, Print, Rights, Trouble};
use ahoy_wire::sync::{
    Class, Clock, Dot, Item, Message, Meta, Mtime, NodeId, Record, Records, ReplicaId, Value,
    WriteSignature,
};

use crate::one::{
    LINK, OTHER, One, directory, file, name, nothing, notices, print, records, sent, steps,
};

const THIRD: ReplicaId = ReplicaId(3);

/// A record with a signature of its own.
fn signed(record: &Record, by: u8, upto: u64) -> Message {
    Message::Records(Records {
        upto,
        items: vec![Item {
            record: record.clone(),
            signature: Some(WriteSignature([by; 32], [by; 32])),
            content: None,
        }],
    })
}

fn dot(replica: ReplicaId, count: u64) -> Dot {
    Dot { count, replica }
}

/// A reader that has fetched one file, and another peer that waits for news.
fn with_a_file() -> (One, LinkId) {
    let third = LinkId(9);
    let mut one = One::started(Rights::Reader);
    one.meet(LINK, OTHER);
    one.meet(third, THIRD);
    let heard = one.hear(LINK, records([file("a.txt", 1, 1)], 1));
    one.carry_out(&heard, Some(print(1)));
    (one, third)
}

// sync-29.
#[test]
fn what_it_makes_stays_with_it() {
    let (mut one, third) = with_a_file();
    let made = one.write("mine", 2);
    assert!(matches!(notices(&made)[..], [Notice::NotSent { .. }]));
    for link in [LINK, third] {
        assert!(sent(&made, link).is_empty());
    }
    assert_eq!(steps(&made).count(), 0, "and is left alone");
}

// sync-29.
#[test]
fn its_edit_is_set_aside_and_the_shared_file_comes_back() {
    let (mut one, third) = with_a_file();
    let edited = one.write("a.txt", 2);
    for link in [LINK, third] {
        assert!(sent(&edited, link).is_empty());
    }
    let moved = steps(&edited).find_map(|step| match &step.act {
        Act::Move { to, expect, .. } => Some((to.display(), *expect)),
        Act::MakeDir { .. }
        | Act::MakeLink { .. }
        | Act::Write { .. }
        | Act::SetMeta { .. }
        | Act::Remove { .. }
        | Act::Park { .. }
        | Act::Unpark { .. } => None,
    });
    let (to, expect) = moved.expect("his bytes get a name of their own");
    assert_eq!(to, "a (not sent, 2023-11-14 22.13.20).txt");
    assert_eq!(expect, print(2));
    let next = one.carry_out(&edited, Some(print(2)));
    let back = steps(&next).any(|step| matches!(&step.act, Act::Write { over: None, .. }));
    assert!(back, "{next:?}");
}

// sync-29.
#[test]
fn what_it_deletes_comes_back() {
    let (mut one, third) = with_a_file();
    let mut effects = Vec::new();
    for asked in [None, Some(1), Some(2)] {
        effects.extend(one.give(Input::Seen {
            sightings: vec![nothing("a.txt")],
            whole: Vec::new(),
            asked,
        }));
        effects.extend(one.give(Input::Settled { whole_tree: false }));
    }
    for link in [LINK, third] {
        assert!(sent(&effects, link).is_empty());
    }
    let back = steps(&effects).any(|step| matches!(&step.act, Act::Write { over: None, .. }));
    assert!(back, "{effects:?}");
}

// sync-45.
#[test]
fn it_passes_nothing_on_that_no_writer_has_signed() {
    let (mut one, third) = with_a_file();
    let asked_again = one.hear(third, ahoy_wire::sync::Message::Want { since: 0 });
    assert!(sent(&asked_again, third).is_empty());
}

// sync-34.
#[test]
fn of_two_places_given_apart_it_takes_one_as_it_was_signed_and_can_tell_of_it() {
    let mut one = One::started(Rights::Reader);
    one.meet(LINK, OTHER);
    let first = file("a", 1, 1);
    let heard = one.hear(LINK, signed(&first, 1, 1));
    one.carry_out(&heard, Some(print(1)));
    let renamed = |to: &str, by: Dot| {
        let mut record = first.clone();
        record.place.name = name(to);
        record.place.dot = by;
        record.place.clock.add(by);
        record
    };
    let (theirs, others) = (renamed("b", dot(OTHER, 5)), renamed("c", dot(THIRD, 7)));
    let heard = one.hear(LINK, signed(&theirs, 2, 2));
    one.carry_out(&heard, Some(print(1)));
    let heard = one.hear(LINK, signed(&others, 3, 3));
    one.carry_out(&heard, Some(print(1)));
    // Whoever made one of the two was put back from a backup, and knows neither.
    let asked = one.meet(LinkId(9), ReplicaId(4));
    assert_eq!(sent(&asked, LinkId(9)), [&others]);
    let merged = renamed("c", dot(THIRD, 7));
    let heard = one.hear(LINK, signed(&theirs, 2, 4));
    assert_eq!(steps(&heard).count(), 0, "the older one changes nothing");
    assert_eq!(
        one.engine.tree().goal(merged.id),
        Goal::At(NodeId::ROOT, name("c"))
    );
}

// sync-34.
#[test]
fn the_copy_that_it_made_itself_stands_where_the_writers_have_it() {
    let mut one = One::started(Rights::Reader);
    one.meet(LINK, OTHER);
    let first = file("a", 1, 1);
    let heard = one.hear(LINK, signed(&first, 1, 1));
    one.carry_out(&heard, Some(print(1)));
    let mut other = file("a", 2, 1);
    (other.body.dot, other.body.clock) = (dot(THIRD, 9), Clock::of(dot(THIRD, 9)));
    one.hear(LINK, signed(&other, 2, 2));
    let id = NodeId::conflict_copy(first.id, first.body.dot);
    let goal = one.engine.tree().goal(id);
    assert!(
        matches!(&goal, Goal::At(_, at) if *at != name("A")),
        "{goal:?}"
    );
    // The writers met when the file had another name.
    let mut copy = one
        .engine
        .tree()
        .node(id)
        .expect("it keeps its bytes")
        .record
        .clone();
    copy.place.name = name("A");
    one.hear(LINK, signed(&copy, 3, 3));
    assert_eq!(
        one.engine.tree().goal(id),
        Goal::At(NodeId::ROOT, name("A"))
    );
}

/// Each step that is wanted fails, until nothing happens by itself for a long time.
fn fail_all(one: &mut One, mut effects: Vec<Effect>) {
    for _ in 0..8 {
        let failed = steps(&effects).map(|step| Outcome {
            job: step.job,
            result: Err(Trouble::Changed),
        });
        let failed: Vec<Outcome> = failed.collect();
        one.give(Input::Finished(failed));
        one.pass(60_000);
        effects = one.give(Input::Tick);
    }
}

// sync-29.
#[test]
fn a_deleted_directory_with_something_of_its_own_in_it_is_the_readers() {
    let mut one = One::started(Rights::Reader);
    one.meet(LINK, OTHER);
    let meta = Meta {
        mode: 0o755,
        mtime: Mtime::default(),
    };
    let mut dir = file("d", 1, 1);
    (dir.id, dir.class) = (
        NodeId::created(NodeId::ROOT, &name("d"), Class::Dir, None),
        Class::Dir,
    );
    dir.body.value = Value::Dir(meta);
    let heard = one.hear(LINK, signed(&dir, 1, 1));
    let print = Print {
        mode: 0o755,
        size: 0,
        ..print(1)
    };
    one.carry_out(&heard, Some(print));
    assert_eq!(one.engine.progress().nodes_left, 0);
    let gone = dot(OTHER, 2);
    dir.body.clock.add(gone);
    dir.body.dot = gone;
    dir.body.value = Value::Gone {
        was: Box::new(Value::Dir(meta)),
        seen: dir.place.clock.clone(),
    };
    let heard = one.hear(LINK, signed(&dir, 2, 2));
    assert!(steps(&heard).any(|step| matches!(step.act, Act::Remove { .. })));
    fail_all(&mut one, heard);
    let progress = one.engine.progress();
    assert_eq!((progress.nodes_left, progress.census.dirs), (0, 0));
}

// sync-25, sync-29.
#[test]
fn it_moves_nothing_aside_in_a_folder_that_it_does_not_know_yet() {
    let mut one = One::started(Rights::Reader);
    one.meet(LINK, OTHER);
    one.hear(LINK, records([file("a", 1, 1)], 1));
    let mut one = One::new(Rights::Reader, one.rows);
    let seen = one.write("a", 2);
    assert_eq!(steps(&seen).count(), 0, "{seen:?}");
}

// sync-25.
#[test]
fn what_waits_to_be_tried_again_waits_quietly_while_the_root_is_away() {
    let mut one = One::started(Rights::Reader);
    one.meet(LINK, OTHER);
    let heard = one.hear(LINK, records([file("a", 1, 1)], 1));
    let job = steps(&heard).next().expect("it is fetched").job;
    let result = Err(Trouble::Full);
    one.give(Input::Finished(vec![Outcome { job, result }]));
    assert!(one.engine.deadline().is_some());
    one.give(Input::RootLost);
    assert_eq!(one.engine.deadline(), None);
}

// sync-34: writers who know more may never make that copy, may delete the directory of the file,
// and may give the name to another.
#[test]
fn a_copy_that_no_writer_has_told_of_is_in_nobodys_way() {
    let mut one = One::started(Rights::Reader);
    one.meet(LINK, OTHER);
    let dir = directory("d", 1);
    let mut first = file("a.txt", 1, 2);
    first.place.parent = dir.id;
    for (record, upto) in [(&dir, 1), (&first, 2)] {
        let heard = one.hear(LINK, signed(record, 1, upto));
        one.carry_out(&heard, Some(print(1)));
    }
    let by = dot(THIRD, 7);
    let mut rival = first.clone();
    (rival.body.dot, rival.body.clock) = (by, Clock::of(by));
    rival.body.value = file("a.txt", 2, 2).body.value;
    one.hear(LINK, signed(&rival, 2, 3));
    let copy = conflict_copy(first.id, &first.place, &first.body);
    let Goal::At(parent, beside) = one.engine.tree().goal(copy.id) else {
        panic!("it is kept");
    };
    assert_eq!(parent, NodeId::ROOT);
    let text = String::from_utf8(beside.as_bytes().to_vec()).expect("plain");
    let start = "a (conflict, other, ";
    assert!(text.starts_with(start) && text.ends_with(").txt"), "{text}");
    let id: String = copy.id.0[..4].iter().map(|b| format!("{b:02x}")).collect();
    assert!(text.contains(&id), "{text}");
    // As soon as a writer tells of it, it stands where the others have it.
    one.hear(LINK, signed(&copy, 3, 4));
    assert_eq!(
        one.engine.tree().goal(copy.id),
        Goal::At(dir.id, copy.place.name)
    );
}
