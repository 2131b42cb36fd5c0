//! What the tracker does for honest peers.

use std::time::Duration;

use ahoy_logic::machine::{Input, Machine};
use ahoy_logic::tracker::{LeftCause, Limits, Note, Options};
use ahoy_wire::tracker::{PROLOGUE, PeerMessage, Refusal, ShareId, TrackerMessage, Ttl};

use crate::world::{SHARE, World, announcement, messages, peer};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);

// tracker-15, tracker-20.
#[test]
fn peers_of_a_share_learn_of_each_other_at_once() {
    let mut world = World::new(Options::default());
    let (a, _, heard) = world.join(1, "192.0.2.1:50001");
    assert_eq!(heard, "announced:1 peers[1:1]");
    let (b, _, heard) = world.join(2, "192.0.2.2:50002");
    assert_eq!(heard, "announced:1 peers[1:1,2:1]");
    assert_eq!(world.heard(a), "changed[2:1]");
    world.input(Input::Closed { id: b });
    assert_eq!(world.heard(a), "gone[2]");
    let causes: Vec<_> = world
        .notes()
        .into_iter()
        .filter(|n| matches!(n, Note::Left { .. }))
        .collect();
    let left = Note::Left {
        share: SHARE,
        peer: peer(2),
        cause: LeftCause::ConnectionEnded,
    };
    assert_eq!(causes, [left]);
}

#[test]
fn a_peer_that_has_finished_sending_is_gone_at_once() {
    let mut world = World::new(Options::default());
    let (a, _, _) = world.join(1, "192.0.2.1:50001");
    let (b, _, _) = world.join(2, "192.0.2.2:50002");
    world.heard(a);
    world.input(Input::Ended { id: b });
    assert!(world.is_closed(b));
    assert_eq!(world.heard(a), "gone[2]");
    world.input(Input::Closed { id: b });
    assert_eq!(world.snapshot().connections, 1);
}

// tracker-23.
#[test]
fn the_entry_is_the_announcement_as_it_was_made_and_the_address_as_it_was_seen() {
    let mut world = World::new(Options::default());
    let (_, challenge, _) = world.join(1, "[::ffff:192.0.2.1]:50001");
    let (asker, _) = world.greet("192.0.2.2:50002");
    world.say(asker, &PeerMessage::List(SHARE));
    let sent = world.sent(asker);
    let [
        TrackerMessage::Peers {
            share,
            last,
            entries,
        },
    ] = &messages(&sent)[..]
    else {
        panic!("one list");
    };
    assert_eq!((*share, *last, entries.len()), (SHARE, true, 1));
    assert_eq!(entries[0].signed, announcement(1, challenge, 1).signed());
    assert_eq!(entries[0].seen.to_string(), "192.0.2.1:50001");
    // Asking is not joining: nothing more comes, and nobody hears of it.
    world.join(2, "192.0.2.3:50003");
    assert_eq!(world.heard(asker), "");
    world.say(asker, &PeerMessage::List(ShareId::new([8; 32])));
    assert_eq!(world.heard(asker), "peers[]");
}

/// tracker-17: at most the timeout and a second; here exactly the timeout, to the nanosecond.
// tracker-16, tracker-17.
#[test]
fn a_silent_peer_is_gone_when_the_timeout_is_over_and_not_before() {
    let mut world = World::new(Options {
        timeout: 30 * SECOND,
        ..Options::default()
    });
    let (a, _, _) = world.join(1, "192.0.2.1:50001");
    world.pass(10 * SECOND);
    let (b, _, _) = world.join(2, "192.0.2.2:50002");
    world.say(a, &PeerMessage::KeepAlive);
    assert_eq!(world.heard(a), "changed[2:1] alive");
    world.pass(20 * SECOND);
    world.say(b, &PeerMessage::KeepAlive);
    world.pass(10 * SECOND - MOMENT);
    assert_eq!(world.heard(b), "alive");
    assert!(!world.is_closed(a));
    world.pass(MOMENT);
    assert_eq!(world.heard(b), "gone[1]");
    assert!(world.is_closed(a));
    let left = Note::Left {
        share: SHARE,
        peer: peer(1),
        cause: LeftCause::Silent,
    };
    assert!(world.notes().contains(&left));
}

/// A wake-up that comes late makes no difference to what is seen.
#[test]
fn a_late_wake_up_lists_nobody_who_is_gone() {
    let mut world = World::new(Options {
        timeout: 30 * SECOND,
        ..Options::default()
    });
    world.join(1, "192.0.2.1:50001");
    world.now = world.now + 31 * SECOND;
    let (asker, _) = world.greet("192.0.2.2:50002");
    world.say(asker, &PeerMessage::List(SHARE));
    assert_eq!(world.heard(asker), "peers[]");
    assert_eq!(world.snapshot().announcements, 0);
}

// tracker-17, tracker-21.
#[test]
fn a_ttl_shorter_than_the_timeout_ends_the_announcement_but_not_the_connection() {
    let mut world = World::new(Options {
        timeout: 30 * SECOND,
        ..Options::default()
    });
    let (a, challenge) = world.greet("192.0.2.1:50001");
    let short = announcement(1, challenge, 1).with(|said| {
        said.ttl = Ttl::from_seconds(5).expect("in range");
    });
    world.say(a, &PeerMessage::Announce(short.signed()));
    let (b, _, _) = world.join(2, "192.0.2.2:50002");
    world.heard(a);
    world.pass(4 * SECOND);
    world.say(a, &PeerMessage::KeepAlive);
    world.pass(5 * SECOND - MOMENT);
    assert_eq!(
        (world.heard(a), world.heard(b)),
        ("alive".to_owned(), String::new())
    );
    world.pass(MOMENT);
    // It is told as well, so that it can announce itself again.
    assert_eq!(
        (world.heard(a), world.heard(b)),
        ("gone[1]".to_owned(), "gone[1]".to_owned())
    );
    world.say(
        a,
        &PeerMessage::Announce(announcement(1, challenge, 2).signed()),
    );
    assert_eq!(world.heard(a), "announced:2 peers[1:2,2:1]");
    assert_eq!(world.heard(b), "changed[1:2]");
}

#[test]
fn whoever_leaves_is_gone_and_may_come_back_on_the_same_connection() {
    let mut world = World::new(Options::default());
    let (a, challenge, _) = world.join(1, "192.0.2.1:50001");
    let (b, _, _) = world.join(2, "192.0.2.2:50002");
    world.heard(a);
    world.say(a, &PeerMessage::Leave(SHARE));
    assert_eq!(
        (world.heard(a), world.heard(b)),
        (String::new(), "gone[1]".to_owned())
    );
    world.say(a, &PeerMessage::Leave(SHARE));
    world.say(
        a,
        &PeerMessage::Announce(announcement(1, challenge, 2).signed()),
    );
    assert_eq!(world.heard(b), "changed[1:2]");
}

// tracker-20.
#[test]
fn moves_are_told_at_once_and_news_about_holdings_in_batches() {
    let mut world = World::new(Options::default());
    let (a, a_challenge, _) = world.join(1, "192.0.2.1:50001");
    let (b, b_challenge, _) = world.join(2, "192.0.2.2:50002");
    let (c, _, _) = world.join(3, "192.0.2.3:50003");
    world.heard(a);
    world.heard(b);
    for sequence in 2..=5 {
        let news =
            announcement(1, a_challenge, sequence).with(|said| said.holding.files = sequence);
        world.say(a, &PeerMessage::Announce(news.signed()));
        world.pass(100 * MOMENT);
    }
    let news = announcement(2, b_challenge, 2).with(|said| said.holding.bytes = 9);
    world.say(b, &PeerMessage::Announce(news.signed()));
    assert_eq!(world.heard(c), "");
    world.pass(600 * MOMENT);
    assert_eq!(world.heard(c), "changed[1:5,2:2]");
    world.pass(5 * SECOND);
    assert_eq!(world.heard(c), "");
    let moved = announcement(1, a_challenge, 6).with(|said| said.addresses = Default::default());
    world.say(a, &PeerMessage::Announce(moved.signed()));
    assert_eq!(world.heard(c), "changed[1:6]");
}

// tracker-13.
#[test]
fn a_number_must_rise_and_only_the_same_words_may_be_repeated() {
    let mut world = World::new(Options::default());
    let (a, challenge, _) = world.join(1, "192.0.2.1:50001");
    let repeat = announcement(1, challenge, 1);
    world.say(a, &PeerMessage::Announce(repeat.signed()));
    assert_eq!(world.heard(a), "announced:1");
    let other_words = announcement(1, challenge, 1).with(|said| said.holding.files = 5);
    world.say(a, &PeerMessage::Announce(other_words.signed()));
    world.say(
        a,
        &PeerMessage::Announce(announcement(1, challenge, 0).signed()),
    );
    assert_eq!(world.heard(a), "refused:Stale refused:Stale");
    world.say(
        a,
        &PeerMessage::Announce(announcement(1, challenge, 2).signed()),
    );
    assert_eq!(world.heard(a), "announced:2");
}

/// A peer whose connection hangs connects anew: the new connection takes over, and the end of the
/// old one changes nothing.
// tracker-19.
#[test]
fn a_peer_that_comes_back_takes_its_place_over() {
    let mut world = World::new(Options::default());
    let (old, _, _) = world.join(1, "192.0.2.1:50001");
    let (b, _, _) = world.join(2, "192.0.2.2:50002");
    let (new, challenge) = world.greet("192.0.2.1:50003");
    world.say(
        new,
        &PeerMessage::Announce(announcement(1, challenge, 1).signed()),
    );
    assert_eq!(world.heard(new), "refused:Stale");
    world.say(
        new,
        &PeerMessage::Announce(announcement(1, challenge, 2).signed()),
    );
    assert_eq!(world.heard(new), "announced:2 peers[1:2,2:1]");
    assert_eq!(world.heard(b), "changed[1:2]", "it was seen elsewhere");
    world.input(Input::Closed { id: old });
    assert_eq!(world.heard(b), "");
    assert_eq!(world.snapshot().announcements, 2);
}

// tracker-22.
#[test]
fn long_lists_come_in_parts_and_in_order() {
    let mut world = World::new(Options::default());
    for number in 1..=60 {
        world.join(number, &format!("192.0.2.{number}:5000"));
    }
    let (asker, _) = world.greet("192.0.2.99:50002");
    world.say(asker, &PeerMessage::List(SHARE));
    let parts: Vec<_> = messages(&world.sent(asker))
        .into_iter()
        .filter_map(|message| {
            let TrackerMessage::Peers { last, entries, .. } = message else {
                return None;
            };
            let first = entries.first().map(|entry| entry.signed.unverified().peer);
            Some((entries.len(), first, last))
        })
        .collect();
    let expected = [
        (24, Some(peer(1)), false),
        (24, Some(peer(25)), false),
        (12, Some(peer(49)), true),
    ];
    assert_eq!(parts, expected);
}

// tracker-30.
#[test]
fn limits_are_kept_and_those_who_meet_them_are_told() {
    let limits = Limits {
        announcements_max: 3,
        announcements_per_connection_max: 2,
        peers_per_share_max: 2,
        ..Limits::default()
    };
    let mut world = World::new(Options {
        limits,
        ..Options::default()
    });
    let (a, challenge, _) = world.join(1, "192.0.2.1:50001");
    let in_share = |share: u8, sequence| {
        let said = announcement(1, challenge, sequence);
        PeerMessage::Announce(
            said.with(|said| said.share = ShareId::new([share; 32]))
                .signed(),
        )
    };
    world.say(a, &in_share(8, 1));
    assert_eq!(world.heard(a), "announced:1 peers[1:1]");
    world.say(a, &in_share(9, 1));
    assert_eq!(world.heard(a), "refused:ConnectionFull");
    assert_eq!(
        world.join(2, "192.0.2.2:50002").2,
        "announced:1 peers[1:1,2:1]"
    );
    assert_eq!(world.join(3, "192.0.2.3:50003").2, "refused:ShareFull");
    world.heard(a);
    // The tracker is full; the address with the most gives way, and is told.
    let (c, challenge) = world.greet("192.0.2.4:50004");
    let elsewhere = announcement(4, challenge, 1).with(|said| said.share = ShareId::new([1; 32]));
    world.say(c, &PeerMessage::Announce(elsewhere.signed()));
    assert_eq!(world.heard(c), "announced:1 peers[4:1]");
    assert_eq!(world.heard(a), "refused:Crowded");
    assert_eq!(world.snapshot().announcements, 3);
    // Now all hold one each, and a newcomer has no better claim than they.
    let (d, challenge) = world.greet("192.0.2.5:50005");
    let elsewhere = announcement(5, challenge, 1).with(|said| said.share = ShareId::new([2; 32]));
    world.say(d, &PeerMessage::Announce(elsewhere.signed()));
    assert_eq!(world.heard(d), "refused:TrackerFull");
    let refused = world.notes().into_iter().filter_map(|note| match note {
        Note::Refused { refusal, .. } => Some(refusal),
        Note::Joined { .. } | Note::Holds { .. } | Note::Left { .. } | Note::Dropped { .. } => None,
    });
    let expected = [
        Refusal::ConnectionFull,
        Refusal::ShareFull,
        Refusal::TrackerFull,
    ];
    assert_eq!(refused.collect::<Vec<_>>(), expected);
}

#[test]
fn frames_may_be_cut_anywhere_and_come_together() {
    let mut world = World::new(Options::default());
    let (whole, _) = world.greet("192.0.2.1:50001");
    let mut bytes = Vec::new();
    PeerMessage::KeepAlive.encode(&mut bytes);
    PeerMessage::List(SHARE).encode(&mut bytes);
    PeerMessage::KeepAlive.encode(&mut bytes);
    world.bytes(whole, &bytes);
    assert_eq!(world.heard(whole), "alive peers[] alive");
    let single = world.open("192.0.2.2:50002");
    for byte in PROLOGUE.iter().chain(&bytes) {
        world.bytes(single, &[*byte]);
    }
    let sent = world.sent(single);
    assert_eq!(messages(&sent[PROLOGUE.len()..]).len(), 4);
}

#[test]
fn the_deadline_names_its_reason_and_an_empty_tracker_has_none() {
    let mut world = World::new(Options {
        timeout: 30 * SECOND,
        ..Options::default()
    });
    assert_eq!(world.tracker.deadline(), None);
    let (a, challenge, _) = world.join(1, "192.0.2.1:50001");
    let reason = |world: &World| {
        world
            .tracker
            .deadline()
            .map(|due| format!("{:?}", due.reason))
    };
    assert_eq!(reason(&world).as_deref(), Some("SilentConnection"));
    let news = announcement(1, challenge, 2).with(|said| said.holding.files = 5);
    world.say(a, &PeerMessage::Announce(news.signed()));
    assert_eq!(reason(&world).as_deref(), Some("News"));
    world.input(Input::Closed { id: a });
    world.pass(60 * SECOND);
    assert_eq!(world.tracker.deadline(), None);
}
