//! An engine that may only read.

use ahoy_logic::sync::{Act, Input, LinkId, Notice, Rights};
use ahoy_wire::sync::ReplicaId;

use crate::one::{LINK, OTHER, One, file, nothing, notices, print, records, sent, steps};

/// A reader that has fetched one file, and another peer that waits for news.
fn with_a_file() -> (One, LinkId) {
    let third = LinkId(9);
    let mut one = One::started(Rights::Reader);
    one.meet(LINK, OTHER);
    one.meet(third, ReplicaId(3));
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
    let asked_again = one.hear(third, ahoy_wire::sync::Message::Want { since: 0, known: 0 });
    assert!(sent(&asked_again, third).is_empty());
}
