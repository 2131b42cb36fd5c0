//! What an engine says to its peers, and what it does not take from them.

use ahoy_logic::sync::{Effect, Input, LinkId, Rights};
use ahoy_wire::sync::{Message, NodeId, ReplicaId};

use crate::one::{LINK, ME, OTHER, One, file, hello, is_hung_up, print, records, sent, steps};

// sync-51.
#[test]
fn it_begins_with_hello_and_asks_for_what_it_has_not_heard() {
    let mut one = One::started(Rights::Writer);
    let opened = one.give(Input::Opened {
        link: LINK,
        rights: Rights::Writer,
    });
    assert!(matches!(
        &opened[..],
        [Effect::Say { link: LINK, message: Message::Hello(hello) }]
            if hello.replica == ME && hello.sequence == 0
    ));
    let heard = one.hear(LINK, hello(OTHER, 5));
    let wants = |effects: &[Effect], since: u64| {
        let message = Message::Want { since };
        let mut said = effects.iter();
        said.any(|e| matches!(e, Effect::Say { message: said, .. } if *said == message))
    };
    assert!(wants(&heard, 0), "{heard:?}");
    one.hear(LINK, records([file("a", 1, 1)], 5));
    one.give(Input::Closed { link: LINK });
    one.give(Input::Opened {
        link: LinkId(8),
        rights: Rights::Writer,
    });
    let again = one.hear(LinkId(8), hello(OTHER, 9));
    assert!(wants(&again, 5), "{again:?}");
}

// sync-51: who waited for numbers that nothing will ever have would wait for ever.
#[test]
fn after_a_leap_it_says_what_there_is_to_be_heard() {
    let said = |one: &mut One| {
        let opened = one.give(Input::Opened {
            link: LINK,
            rights: Rights::Writer,
        });
        let Some(Effect::Say {
            message: Message::Hello(hello),
            ..
        }) = opened.last()
        else {
            panic!("{opened:?}");
        };
        hello.sequence
    };
    let mut before = One::started(Rights::Writer);
    before.write("a", 1);
    before.write("b", 2);
    let there = said(&mut before);
    assert!(there > 0);
    let mut after = One::beginning(Rights::Writer, before.rows, 1 << 30);
    assert_eq!(said(&mut after), there);
    after.give(Input::Closed { link: LINK });
    after.look(&[("a", print(1)), ("b", print(2))]);
    after.write("c", 3);
    assert!(said(&mut after) > 1 << 30);
}

// sync-51.
#[test]
fn who_breaks_the_order_of_words_is_hung_up_on() {
    let open = || {
        let mut one = One::started(Rights::Writer);
        one.give(Input::Opened {
            link: LINK,
            rights: Rights::Writer,
        });
        one
    };
    let mut twice = open();
    assert!(!is_hung_up(&twice.hear(LINK, hello(OTHER, 0))));
    assert!(is_hung_up(&twice.hear(LINK, hello(OTHER, 0))));
    assert!(is_hung_up(&open().hear(LINK, hello(ME, 0))), "a copy of us");
    let mut early = open();
    assert!(is_hung_up(&early.hear(LINK, records([file("a", 1, 1)], 1))));
}

// sync-14.
#[test]
fn a_record_that_contradicts_itself_ends_the_session_and_changes_nothing() {
    let mut own_parent = file("a", 1, 1);
    own_parent.place.parent = own_parent.id;
    let mut root = file("a", 1, 1);
    root.id = NodeId::ROOT;
    let mut not_seen = file("a", 1, 1);
    not_seen.body.dot.count = 2;
    for record in [own_parent, root, not_seen] {
        let mut one = One::started(Rights::Writer);
        one.meet(LINK, OTHER);
        let effects = one.hear(LINK, records([record], 1));
        assert!(is_hung_up(&effects), "{effects:?}");
        assert_eq!(steps(&effects).count(), 0);
    }
}

// sync-53, sync-54.
#[test]
fn what_is_not_held_is_told_to_nobody() {
    let third = LinkId(9);
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.meet(third, ReplicaId(3));
    let heard = one.hear(LINK, records([file("a", 1, 1)], 4));
    assert_eq!(steps(&heard).count(), 1, "it is fetched");
    assert!(sent(&heard, third).is_empty());
    let holding = |effects: &[Effect]| {
        effects.iter().any(|e| {
            matches!(
                e,
                Effect::Say {
                    message: Message::Holding { upto: 4 },
                    ..
                }
            )
        })
    };
    assert!(!holding(&heard));
    let done = one.carry_out(&heard, Some(print(1)));
    let told = sent(&done, third);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].place.name.as_bytes(), b"a");
    assert!(sent(&done, LINK).is_empty(), "it came from there");
    assert!(holding(&done));
}

// sync-12.
#[test]
fn a_change_is_kept_before_anybody_hears_of_it() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let effects = one.write("a", 1);
    let first = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted);
    let last_kept = effects
        .iter()
        .rposition(|e| matches!(e, Effect::Keep(_)))
        .expect("something is kept");
    let told = first(|e| matches!(e, Effect::Send { .. })).expect("and told");
    assert!(last_kept < told, "{effects:?}");
}

// sync-52.
#[test]
fn batches_wait_for_room() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let batches = (1..=4)
        .map(|n| sent(&one.write(&format!("f{n}"), n), LINK).len())
        .collect::<Vec<_>>();
    assert_eq!(batches, [1, 1, 0, 0], "two are under way at most");
    let room = one.give(Input::Room { link: LINK });
    assert_eq!(sent(&room, LINK).len(), 2, "the rest goes together");
}
