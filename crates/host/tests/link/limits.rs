//! Limits on bytes per second: kept by all links together, and no reason to part.
//!
//! What is measured is how long it takes at least; a busy machine only makes that longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahoy_host::sync::limits::{Caps, Limits};
use ahoy_host::sync::link::Pace;
use ahoy_host::sync::supply::Supply;
use ahoy_logic::limit::Rate;
use ahoy_logic::sync::{Input, LinkId};
use ahoy_wire::sync::{Frame, Message};

use crate::world::{Rogue, Side, limited_pair, noise, side_and_session, writers};

const NO_LIMIT: Caps = Caps {
    up: None,
    down: None,
};

fn up(bytes_per_second: u64) -> Arc<Limits> {
    Limits::new(Caps {
        up: Rate::new(bytes_per_second),
        down: None,
    })
}

fn down(bytes_per_second: u64) -> Arc<Limits> {
    Limits::new(Caps {
        up: None,
        down: Rate::new(bytes_per_second),
    })
}

type Ends = ((Side, LinkId), (Side, LinkId));

fn two(of_a: &Arc<Limits>, of_b: &Arc<Limits>, pace: Pace) -> Ends {
    limited_pair((&writers(), of_a), (&writers(), of_b), pace)
}

/// Fetches content of this length, which `b` has.
fn fetch(((a, link), (b, _)): &Ends, len: usize) {
    let bytes = noise(len);
    let wanted = b.files.put(&bytes);
    let mut got = Vec::new();
    let mut sink = |_: u64, piece: &[u8]| {
        got.extend_from_slice(piece);
        Ok(())
    };
    let fetched = a.links.fetch(*link, wanted, 0, len as u64, &mut sink);
    assert_eq!(fetched, Ok(()));
    assert!(got == bytes);
}

#[test]
fn what_is_sent_and_what_is_received_keep_to_their_limits() {
    let check = |of_a: &Arc<Limits>, of_b: &Arc<Limits>| {
        let ends = two(of_a, of_b, Pace::default());
        let began = Instant::now();
        fetch(&ends, 1_500_000);
        // A piece of 125 ms goes before the first wait, and 50 ms may have been saved up.
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1_300), "{took:?}");
    };
    check(&Limits::new(NO_LIMIT), &up(1_000_000));
    check(&down(1_000_000), &Limits::new(NO_LIMIT));
}

#[test]
fn two_folders_share_the_limit_of_their_process() {
    let check = |of_a: &Arc<Limits>, of_b: &Arc<Limits>| {
        let folders = [(); 2].map(|()| two(of_a, of_b, Pace::default()));
        let began = Instant::now();
        std::thread::scope(|scope| {
            for ends in &folders {
                scope.spawn(|| fetch(ends, 1_000_000));
            }
        });
        // Each alone would be done after a second.
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1_600), "{took:?}");
    };
    check(&Limits::new(NO_LIMIT), &up(1_000_000));
    check(&down(1_000_000), &Limits::new(NO_LIMIT));
}

#[test]
fn messages_do_not_wait_for_content() {
    let limits = up(10_000);
    let ends = two(&Limits::new(NO_LIMIT), &limits, Pace::default());
    std::thread::scope(|scope| {
        scope.spawn(|| fetch(&ends, 150_000));
        let ((a, _), (b, at_b)) = &ends;
        let began = Instant::now();
        for upto in 0..100 {
            b.links.say(*at_b, Message::Holding { upto });
            let Input::Heard { message, .. } = a.next() else {
                panic!("a message")
            };
            assert_eq!(message, Message::Holding { upto });
        }
        // Behind one piece of content each it would be 40 s.
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        // A limit that is lifted holds up nobody any more: the rest alone would take 15 s.
        limits.set(NO_LIMIT);
    });
}

/// Every wait shorter than the transfer.
const HASTY: Pace = Pace {
    ping_after: Duration::from_millis(500),
    dead_after: Duration::from_secs(4),
    stalled_after: Duration::from_secs(4),
    doubt: Duration::from_millis(200),
    answer_within: Duration::from_secs(4),
};

// sync-60, sync-62.
#[test]
fn a_peer_that_is_held_back_by_its_limit_is_not_dropped() {
    let check = |of_a: &Arc<Limits>, of_b: &Arc<Limits>| {
        let ends = two(of_a, of_b, HASTY);
        fetch(&ends, 160_000);
        let ((a, at_a), (b, at_b)) = &ends;
        assert_eq!((a.link(*at_a).end(), b.link(*at_b).end()), (None, None));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| check(&down(20_000), &Limits::new(NO_LIMIT)));
        scope.spawn(|| check(&Limits::new(NO_LIMIT), &up(20_000)));
    });
}

// sync-61.
#[test]
fn who_only_listens_shows_that_it_is_there() {
    let pace = Pace {
        ping_after: Duration::ZERO,
        // Silence is not what makes it ask: nobody would wait for that long.
        doubt: Duration::from_secs(600),
        ..Pace::default()
    };
    let (_side, _, session) = side_and_session(&writers(), &writers(), pace);
    let mut rogue = Rogue::new(session);
    let much: Vec<_> = (0..2_000)
        .map(|upto| Frame::Message(Message::Holding { upto }))
        .collect();
    assert!(rogue.say(&much));
    assert_eq!(rogue.hear(), Some(Frame::Ping));
}
