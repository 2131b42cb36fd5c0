//! Records over a link: content and signatures on the way, parts, credit, room.

use std::sync::Arc;

use ahoy_host::sync::keys::is_vouched_for;
use ahoy_host::sync::link::Pace;
use ahoy_logic::sync::{BATCHES_AHEAD, Input, LinkId, Outgoing};
use ahoy_wire::sync::{
    Body, Class, Clock, Dot, Hash, Hello, Item, Label, Message, Meta, Mtime, Name, NodeId, Place,
    Record, Records, RelPath, ReplicaId, Value,
};

use crate::world::{Side, noise, pair, readers, writers};

/// A record of a file with this content.
pub fn record(n: u8, content: &[u8]) -> Record {
    let dot = Dot {
        count: 1,
        replica: ReplicaId(u64::from(n)),
    };
    let name = Name::new(format!("file {n}").as_bytes()).expect("a name");
    Record {
        id: NodeId([n.max(1); 16]),
        class: Class::Leaf,
        copy_of: None,
        place: Place {
            clock: Clock::of(dot),
            dot,
            parent: NodeId::ROOT,
            name,
        },
        body: Body {
            clock: Clock::of(dot),
            dot,
            author: Label::tidy("tester"),
            value: Value::File {
                meta: Meta {
                    mode: 0o644,
                    mtime: Mtime::default(),
                },
                size: content.len() as u64,
                hash: Hash(*blake3::hash(content).as_bytes()),
            },
        },
    }
}

pub fn item(n: u8, content: &[u8]) -> Item {
    Item {
        record: record(n, content),
        signature: None,
        content: Some(content.into()),
    }
}

fn outgoing(side: &Side, n: u8, content: &[u8]) -> Outgoing {
    let path = RelPath::parse(format!("file {n}").as_bytes()).expect("a path");
    let mut small = side.files.small.lock().expect("no panic");
    small.insert(path.clone(), content.into());
    Outgoing {
        record: record(n, content),
        signature: None,
        attach: Some(path),
    }
}

fn heard(side: &Side) -> Message {
    loop {
        let input = side.next();
        if let Input::Heard { message, .. } = input {
            return message;
        }
        assert!(matches!(input, Input::Room { .. }), "{input:?}");
    }
}

fn heard_records(side: &Side) -> Records {
    let message = heard(side);
    let Message::Records(records) = message else {
        panic!("{message:?}")
    };
    records
}

#[test]
fn messages_arrive_in_order() {
    let ((a, at_a), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let hello = Hello {
        replica: ReplicaId(7),
        label: Label::tidy("a"),
        sequence: 0,
    };
    let said = [
        Message::Hello(hello),
        Message::Want { since: 9 },
        Message::Holding { upto: 1 << 50 },
    ];
    said.iter()
        .for_each(|message| a.links.say(at_a, message.clone()));
    for message in said {
        assert_eq!(heard(&b), message);
    }
}

#[test]
fn content_is_attached_if_it_is_still_there() {
    let ((a, at_a), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let mut changed = outgoing(&a, 2, b"before");
    outgoing(&a, 2, b"after!");
    let kept = outgoing(&a, 1, b"kept");
    let missing = Outgoing {
        attach: RelPath::parse(b"gone").ok(),
        ..outgoing(&a, 3, b"x")
    };
    let plain = Outgoing {
        attach: None,
        ..outgoing(&a, 4, b"x")
    };
    changed.attach = RelPath::parse(b"file 2").ok();
    a.links.send(at_a, 12, vec![kept, changed, missing, plain]);
    let records = heard_records(&b);
    assert_eq!(records.upto, 12);
    let contents: Vec<_> = records
        .items
        .iter()
        .map(|item| item.content.as_deref())
        .collect();
    assert_eq!(contents, [Some(&b"kept"[..]), None, None, None]);
    assert!(matches!(a.next(), Input::Room { .. }));
}

#[test]
fn what_is_sent_to_a_reader_is_signed() {
    let ((a, at_a), (b, at_b)) = pair(&writers(), &readers(), Pace::default());
    a.links.send(
        at_a,
        1,
        vec![outgoing(&a, 1, b"one"), outgoing(&a, 2, b"two")],
    );
    let records = heard_records(&b);
    let public = b.links.membership().write_public();
    for item in &records.items {
        let signature = item.signature.as_ref().expect("signed");
        assert!(is_vouched_for(&public, &item.record, signature));
    }
    // The reader can pass them on, signatures and all, and only those.
    let back = |item: &Item, signature| Outgoing {
        record: item.record.clone(),
        signature,
        attach: None,
    };
    let item = &records.items[0];
    b.links.send(at_b, 1, vec![back(item, item.signature)]);
    assert_eq!(heard_records(&a).items.len(), 1);
    b.links.send(at_b, 2, vec![back(item, None)]);
    a.closed(at_a);
}

#[test]
fn a_big_batch_comes_in_parts_that_promise_nothing() {
    let ((a, at_a), (b, at_b)) = pair(&writers(), &writers(), Pace::default());
    b.links.say(at_b, Message::Want { since: 5 });
    assert_eq!(heard(&a), Message::Want { since: 5 });
    let content = noise(64 * 1024);
    let items = |n| {
        (0..n)
            .map(|_| outgoing(&a, 1, &content))
            .collect::<Vec<_>>()
    };
    a.links.send(at_a, 500, items(400));
    a.links.send(at_a, 600, items(1));
    let upto = receive(&b, at_b, 401, 600);
    let (last, parts) = upto.split_last().expect("some");
    assert_eq!(*last, 600);
    assert!(parts.len() > 8, "25 MiB in one batch: {}", parts.len());
    let whole = parts
        .iter()
        .position(|upto| *upto == 500)
        .expect("the end of the first batch");
    assert!(parts[..whole].iter().all(|upto| *upto == 5), "{parts:?}");
    for _ in 0..2 {
        assert!(matches!(a.next(), Input::Room { .. }));
    }
}

/// Takes messages of records, with credit for each, until `last`; what each of them promised.
fn receive(side: &Side, link: LinkId, mut items: usize, last: u64) -> Vec<u64> {
    let mut upto = Vec::new();
    while upto.last() != Some(&last) {
        let records = heard_records(side);
        items -= records.items.len();
        upto.push(records.upto);
        side.links.accept(link);
    }
    assert_eq!(items, 0);
    upto
}

#[test]
fn records_wait_for_credit_and_content_does_not() {
    let ((a, at_a), (b, at_b)) = pair(&writers(), &writers(), Pace::default());
    let wanted = a.files.put(&noise(1 << 20));
    let ahead = u64::from(BATCHES_AHEAD);
    for upto in 1..=ahead {
        a.links.send(at_a, upto, vec![outgoing(&a, 1, b"x")]);
        assert_eq!(heard_records(&b).upto, upto);
    }
    for upto in ahead + 1..=ahead + 4 {
        a.links.send(at_a, upto, vec![outgoing(&a, 1, b"x")]);
    }
    // The last four are stuck; messages and content are not.
    a.links.say(at_a, Message::Holding { upto: 3 });
    assert_eq!(heard(&b), Message::Holding { upto: 3 });
    let mut sink = |_: u64, _: &[u8]| Ok(());
    b.link(at_b)
        .fetch(wanted, 0, 1 << 20, &mut sink)
        .expect("content");
    for upto in ahead + 1..=ahead + 4 {
        b.links.accept(at_b);
        assert_eq!(heard_records(&b).upto, upto);
    }
    for _ in 0..ahead + 4 {
        assert!(matches!(a.next(), Input::Room { .. }));
    }
}

#[test]
fn an_engine_that_keeps_no_measure_loses_the_link() {
    let ((a, at_a), _b) = pair(&writers(), &writers(), Pace::default());
    let link = Arc::clone(&a.link(at_a));
    for upto in 0..50 {
        link.send(upto, Vec::new());
    }
    a.closed(at_a);
    assert_eq!(link.end(), Some("too much waits to be sent to this peer"));
}
