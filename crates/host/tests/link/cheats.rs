//! Peers that break the rules after they have proved to be of the share.

use std::io::Write;
use std::time::{Duration, Instant};

use ahoy_host::sync::link::Pace;
use ahoy_host::sync::links::Change;
use ahoy_host::sync::session::accept;
use ahoy_host::sync::supply::{Supply, SupplyTrouble};
use ahoy_logic::sync::{BATCHES_AHEAD, Input};
use ahoy_wire::sync::{
    Capability, Chunk, ChunkHash, Frame, Hash, Message, NodeId, Records, Refusal, Wanted,
};

use crate::records::item;
use crate::world::{
    Rogue, Side, connect, listen, member, nobody, noise, readers, side_and_session, whole, writers,
};

fn rogue(
    mine: &Capability,
    theirs: &Capability,
    pace: Pace,
) -> (Side, ahoy_logic::sync::LinkId, Rogue) {
    let (side, link, session) = side_and_session(mine, theirs, pace);
    (side, link, Rogue::new(session))
}

fn records(items: Vec<ahoy_wire::sync::Item>) -> Frame {
    Frame::Message(Message::Records(Records { upto: 1, items }))
}

/// What the engine hears before the link closes.
fn heard_until_closed(side: &Side) -> Vec<Message> {
    let mut heard = Vec::new();
    loop {
        let input = side.next();
        if matches!(input, Input::Closed { .. }) {
            return heard;
        }
        let Input::Heard { message, .. } = input else {
            panic!("{input:?}")
        };
        heard.push(message);
    }
}

// sync-45.
#[test]
fn records_of_a_reader_need_a_writers_word() {
    let key = member(9, &writers());
    let key = key.write_key().expect("a writer");
    let vouched = |n: u8| {
        let mut item = item(n, b"content");
        item.signature = Some(key.sign_record(&item.record));
        item
    };
    let good = [records(vec![vouched(1), vouched(2)])];
    let mut changed = vouched(3);
    changed.record.body.author = ahoy_wire::sync::Label::tidy("someone else");
    let mut moved = vouched(4);
    moved.signature = vouched(5).signature;
    for bad in [item(6, b"unsigned"), changed, moved] {
        let (side, _, mut rogue) = rogue(&writers(), &readers(), Pace::default());
        assert!(rogue.say(&good));
        rogue.say(&[records(vec![vouched(7), bad])]);
        let heard = heard_until_closed(&side);
        assert_eq!(
            heard.len(),
            1,
            "the good ones, and nothing of the bad message"
        );
    }
    // Whoever holds the write key needs no signatures.
    let (side, _, mut rogue) = rogue(&writers(), &writers(), Pace::default());
    assert!(rogue.say(&[records(vec![item(1, b"content")])]));
    assert!(matches!(side.next(), Input::Heard { .. }));
}

// sync-52.
#[test]
fn records_need_credit() {
    let (side, link, mut rogue) = rogue(&writers(), &writers(), Pace::default());
    for _ in 0..BATCHES_AHEAD {
        assert!(rogue.say(&[records(Vec::new())]));
        assert!(matches!(side.next(), Input::Heard { .. }));
    }
    side.links.accept(link);
    assert_eq!(rogue.hear(), Some(Frame::Credit { batches: 1 }));
    assert!(rogue.say(&[records(Vec::new())]));
    assert!(matches!(side.next(), Input::Heard { .. }));
    rogue.say(&[records(Vec::new())]);
    assert!(heard_until_closed(&side).is_empty());
}

#[test]
fn frames_that_no_honest_peer_sends_end_the_link() {
    let mut long_message = vec![1];
    long_message.extend_from_slice(&(9u32 << 20).to_le_bytes());
    let wanted = Wanted {
        node: NodeId([1; 16]),
        hash: Hash([1; 32]),
    };
    let mut cut_message = vec![1, 3, 0, 0, 0];
    cut_message.extend_from_slice(&[2, 0xff, 0xff]);
    let cases = [
        long_message,
        vec![200, 0, 0, 0, 0],
        vec![3, 5, 0, 0, 0],
        vec![3, 1, 1, 1, 1],
        vec![9, 1, 0, 0, 0, 0],
        vec![11, 1, 0, 0, 0, 0],
        vec![12, 1, 0, 0, 0, 0],
        cut_message,
        vec![0; 100],
        noise(100_000),
    ];
    for case in cases {
        let (side, _, mut rogue) = rogue(&writers(), &writers(), Pace::default());
        assert!(rogue.say(&[Frame::Get {
            request: 1,
            wanted,
            offset: 0,
            len: 1
        }]));
        rogue.say_bytes(&case);
        assert!(heard_until_closed(&side).is_empty());
        rogue.until_closed();
    }
}

#[test]
fn only_the_first_word_about_the_own_port_counts() {
    let (side, _, mut rogue) = rogue(&writers(), &writers(), Pace::default());
    let (told, listens) = std::sync::mpsc::channel();
    side.links.watch(move |change| {
        if let Change::Listens { address, .. } = change {
            let _ = told.send(address.port());
        }
    });
    let ports = [1234, 1, 1234].map(|port| Frame::Listening { port });
    assert!(rogue.say(&ports));
    assert!(rogue.say(&[Frame::Message(Message::Want { since: 1 })]));
    assert!(matches!(side.next(), Input::Heard { .. }));
    assert_eq!(listens.try_iter().collect::<Vec<_>>(), [1234], "sync-47");
}

#[test]
fn bytes_under_the_encryption_end_the_link() {
    let (side, _, session) = side_and_session(&writers(), &writers(), Pace::default());
    let (_tls, mut socket) = session.into_connection();
    socket.write_all(b"\x17\x03\x03\x00\x20").expect("sent");
    socket.write_all(&[7; 32]).expect("sent");
    assert!(heard_until_closed(&side).is_empty());
}

/// What becomes of a fetch of 10 bytes from 100 on, and of the link, if the peer answers so.
fn answered(frames: impl Fn(u32) -> Vec<Frame>) -> (Result<Vec<u8>, SupplyTrouble>, bool) {
    let (side, link, mut rogue) = rogue(&writers(), &writers(), Pace::default());
    let wanted = Wanted {
        node: NodeId([1; 16]),
        hash: Hash([1; 32]),
    };
    std::thread::scope(|scope| {
        let fetched = scope.spawn(|| {
            let mut got = Vec::new();
            let mut sink = |_: u64, piece: &[u8]| {
                got.extend_from_slice(piece);
                Ok(())
            };
            side.links
                .fetch(link, wanted, 100, 10, &mut sink)
                .map(|()| got)
        });
        let Some(Frame::Get {
            request,
            offset: 100,
            len: 10,
            ..
        }) = rogue.hear()
        else {
            panic!("what is wanted is asked for");
        };
        rogue.say(&frames(request));
        let fetched = fetched.join().expect("no panic");
        rogue.say(&[Frame::Message(Message::Want { since: 7 })]);
        let alive = matches!(side.next(), Input::Heard { .. });
        (fetched, alive)
    })
}

fn data(request: u32, offset: u64, len: usize) -> Frame {
    Frame::Data {
        request,
        offset,
        bytes: vec![7; len],
    }
}

// sync-55.
#[test]
fn answers_must_fit_the_question() {
    let ended = (Err(SupplyTrouble::Ended), false);
    let fine = (Ok(vec![7; 10]), true);
    let done = |request| Frame::Done { request };
    assert_eq!(
        answered(|r| vec![data(r, 100, 4), data(r, 104, 6), done(r)]),
        fine
    );
    assert_eq!(
        answered(|r| vec![data(r + 1, 0, 50), done(r + 1), data(r, 100, 10), done(r)]),
        fine
    );
    assert_eq!(answered(|r| vec![data(r, 99, 10)]), ended);
    assert_eq!(answered(|r| vec![data(r, 101, 9)]), ended);
    assert_eq!(answered(|r| vec![data(r, 100, 11)]), ended);
    assert_eq!(answered(|r| vec![data(r, 100, 5), data(r, 100, 5)]), ended);
    assert_eq!(
        answered(|r| vec![data(r, 100, 5), data(r, u64::MAX, 5)]),
        ended
    );
    assert_eq!(answered(|r| vec![data(r, 100, 9), done(r)]), ended);
    assert_eq!(answered(|r| vec![done(r)]), ended);
    let chunk = Chunk {
        len: 10,
        hash: ChunkHash([0; 16]),
    };
    let list = |r| Frame::Chunks {
        request: r,
        chunks: vec![chunk],
    };
    // Nobody waits for a list: it is passed over.
    assert_eq!(answered(|r| vec![list(r), data(r, 100, 10), done(r)]), fine);
    let refused = |request| Frame::Refused {
        request,
        reason: Refusal::NotHere,
    };
    let not_here = (Err(SupplyTrouble::NotHere), true);
    assert_eq!(answered(|r| vec![refused(r)]), not_here);
    assert_eq!(answered(|r| vec![data(r, 100, 5), refused(r)]), not_here);
}

#[test]
fn a_list_of_chunks_must_have_been_asked_for() {
    let (side, link, mut rogue) = rogue(&writers(), &writers(), Pace::default());
    let wanted = Wanted {
        node: NodeId([1; 16]),
        hash: Hash([1; 32]),
    };
    let chunks = vec![
        Chunk {
            len: 10,
            hash: ChunkHash([0; 16])
        };
        3
    ];
    std::thread::scope(|scope| {
        let outline = scope.spawn(|| side.links.outline(link, wanted, whole()));
        let Some(Frame::Outline { request, .. }) = rogue.hear() else {
            panic!("asked for")
        };
        let other = Frame::Chunks {
            request: request + 1,
            chunks: Vec::new(),
        };
        assert!(rogue.say(&[
            other,
            Frame::Chunks {
                request,
                chunks: chunks.clone()
            }
        ]));
        assert_eq!(outline.join().expect("no panic"), Ok(chunks));
        // An answer of the wrong kind.
        let outline = scope.spawn(|| side.links.outline(link, wanted, whole()));
        let Some(Frame::Outline { request, .. }) = rogue.hear() else {
            panic!("asked for")
        };
        rogue.say(&[data(request, 0, 10)]);
        assert_eq!(outline.join().expect("no panic"), Err(SupplyTrouble::Ended));
    });
    assert!(heard_until_closed(&side).is_empty());
}

// sync-55.
#[test]
fn too_many_open_requests_end_the_link() {
    let (side, _, mut rogue) = rogue(&writers(), &writers(), Pace::default());
    let wanted = side.files.put(b"content");
    let get = |request| Frame::Get {
        request,
        wanted,
        offset: 0,
        len: 7,
    };
    // While this lock is held no file can be opened, so requests pile up.
    let held = side.files.hold();
    let many: Vec<_> = (0..200).map(get).collect();
    rogue.say(&many);
    assert!(heard_until_closed(&side).is_empty());
    drop(held);
    // Cancelled ones do not count.
    let (side, _, mut rogue) = self::rogue(&writers(), &writers(), Pace::default());
    let held = side.files.hold();
    let many: Vec<_> = (0..2000)
        .flat_map(|r| [get(r), Frame::Cancel { request: r }])
        .collect();
    assert!(rogue.say(&many));
    drop(held);
    side.files.put(b"content");
    assert!(rogue.say(&[get(5000)]));
    loop {
        match rogue.hear() {
            Some(Frame::Done { request: 5000 }) => break,
            Some(_) => {}
            None => panic!("the link goes on"),
        }
    }
}

#[test]
fn a_flood_of_pings_costs_nothing() {
    let (side, _, mut rogue) = rogue(&writers(), &writers(), Pace::default());
    let pings = vec![Frame::Ping; 100_000];
    assert!(rogue.say(&pings));
    assert!(rogue.say(&[Frame::Message(Message::Want { since: 1 })]));
    assert!(matches!(side.next(), Input::Heard { .. }));
    assert_eq!(rogue.hear(), Some(Frame::Pong));
}

#[test]
fn a_peer_that_takes_nothing_is_dropped() {
    let pace = Pace {
        stalled_after: Duration::from_millis(300),
        ..Pace::default()
    };
    let (side, link, mut rogue) = rogue(&writers(), &writers(), pace);
    let wanted = side.files.put(&noise(64 << 20));
    let link = side.link(link);
    assert!(rogue.say(&[Frame::Get {
        request: 1,
        wanted,
        offset: 0,
        len: 64 << 20
    }]));
    assert!(heard_until_closed(&side).is_empty());
    assert!(
        link.end()
            .expect("over")
            .starts_with("the peer takes nothing"),
        "{:?}",
        link.end()
    );
}

// sync-60.
#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let pace = Pace {
        ping_after: Duration::from_millis(50),
        dead_after: Duration::from_secs(2),
        doubt: Duration::from_millis(50),
        ..Pace::default()
    };
    let (side, link, mut rogue) = rogue(&writers(), &writers(), pace);
    let link = side.link(link);
    assert_eq!(rogue.hear(), Some(Frame::Ping));
    assert!(rogue.say(&[Frame::Pong]));
    assert_eq!(rogue.hear(), Some(Frame::Ping));
    assert!(heard_until_closed(&side).is_empty());
    assert_eq!(link.end(), Some("the peer has fallen silent"));
}

#[test]
fn a_peer_in_doubt_has_to_answer_soon() {
    let pace = Pace {
        doubt: Duration::from_millis(50),
        ..Pace::default()
    };
    let (side, link, mut rogue) = rogue(&writers(), &writers(), pace);
    let link = side.link(link);
    link.doubt();
    assert_eq!(rogue.hear(), Some(Frame::Ping));
    assert!(heard_until_closed(&side).is_empty());
    assert_eq!(link.end(), Some("the peer has fallen silent"));
}

#[test]
fn a_request_that_is_never_answered_ends() {
    let pace = Pace {
        answer_within: Duration::from_millis(50),
        ..Pace::default()
    };
    let (side, link, mut rogue) = rogue(&writers(), &writers(), pace);
    let wanted = Wanted {
        node: NodeId([1; 16]),
        hash: Hash([1; 32]),
    };
    let mut sink = |_: u64, _: &[u8]| Ok(());
    assert_eq!(
        side.links.fetch(link, wanted, 0, 10, &mut sink),
        Err(SupplyTrouble::Ended)
    );
    assert!(matches!(rogue.hear(), Some(Frame::Get { .. })));
    assert!(matches!(rogue.hear(), Some(Frame::Cancel { .. })));
}

// sync-44.
#[test]
fn a_handshake_in_drops_ends_in_time() {
    let (listener, address) = listen();
    let served = [member(2, &writers())];
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let (socket, _) = listener.accept().expect("a connection");
            let end = Instant::now() + Duration::from_millis(200);
            let refused = accept(socket, &served, &nobody(), end);
            assert!(refused.is_err());
        });
        let mut socket = connect(address);
        // One byte at a time would go on for long.
        for byte in [0x16, 0x03, 0x01, 0x3f, 0x00]
            .into_iter()
            .chain(std::iter::repeat(0))
        {
            if accepted.is_finished() || socket.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::yield_now();
        }
    });
}
