//! What strangers and hostile peers get from the tracker: nothing, and nobody suffers.

use std::time::Duration;

use ahoy_logic::machine::Input;
use ahoy_logic::tracker::{Fault, Limits, Note, Options};
use ahoy_wire::tracker::{PROLOGUE, PeerMessage, ShareId};
use proptest::prelude::*;

use crate::world::{SHARE, World, announcement, peer, sign_as};

const SECOND: Duration = Duration::from_secs(1);

/// The faults of the connections that were dropped, in short.
fn faults(world: &mut World) -> String {
    let faults = world.notes().into_iter().filter_map(|note| match note {
        Note::Dropped { fault, .. } => Some(match fault {
            Fault::Unreadable(_) => "Unreadable".to_owned(),
            Fault::Foreign
            | Fault::Version(_)
            | Fault::Forged
            | Fault::Replayed
            | Fault::TooFast
            | Fault::Silent
            | Fault::Full
            | Fault::SourceFull => format!("{fault:?}"),
        }),
        Note::Joined { .. } | Note::Holds { .. } | Note::Left { .. } | Note::Refused { .. } => None,
    });
    faults.collect::<Vec<_>>().join(" ")
}

#[test]
fn strangers_are_closed_without_a_word() {
    let mut world = World::new(Options::default());
    for foreign in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01",
        b"{\"port\":1}",
        b"AHOX\x01",
        b"\0",
    ] {
        let id = world.open("192.0.2.1:50001");
        world.bytes(id, foreign);
        assert!(world.is_closed(id), "{foreign:?}");
        assert_eq!(world.sent(id), b"");
    }
    assert_eq!(
        faults(&mut world),
        "Foreign Foreign Foreign Foreign Foreign"
    );
    assert_eq!(world.snapshot().connections, 0);
}

// tracker-3.
#[test]
fn another_version_is_told_ours_and_closed() {
    let mut world = World::new(Options::default());
    let id = world.open("192.0.2.1:50001");
    world.bytes(id, b"AHOY\x02\x01");
    assert_eq!(world.sent(id), PROLOGUE);
    assert!(world.is_closed(id));
    assert_eq!(faults(&mut world), "Version(2)");
}

// tracker-4.
#[test]
fn unreadable_frames_end_the_connection_and_its_announcements() {
    for bytes in [
        &[0x01, 0xff, 0xff][..],
        &[0x00],
        &[0x81, 0, 0],
        &[0x02, 0, 1],
        &[0x04, 0, 1, 0],
    ] {
        let mut world = World::new(Options::default());
        let (a, _, _) = world.join(1, "192.0.2.1:50001");
        let (b, _, _) = world.join(2, "192.0.2.2:50002");
        world.bytes(b, bytes);
        assert!(world.is_closed(b), "{bytes:?}");
        assert_eq!(world.heard(b), "");
        assert_eq!(world.heard(a), "changed[2:1] gone[2]");
        assert_eq!(faults(&mut world), "Unreadable");
    }
}

#[test]
fn a_silent_stranger_is_closed_and_so_is_one_that_dribbles() {
    let mut world = World::new(Options {
        timeout: 30 * SECOND,
        ..Options::default()
    });
    let mute = world.open("192.0.2.1:50001");
    world.pass(9 * SECOND);
    assert!(!world.is_closed(mute));
    world.bytes(mute, b"AHO");
    world.pass(SECOND);
    assert!(world.is_closed(mute), "some bytes are no greeting");
    let (slow, _) = world.greet("192.0.2.1:50002");
    // The beginning of the longest frame there is, byte by byte.
    world.bytes(slow, &[0x01, 0x02]);
    for _ in 0..30 {
        assert!(!world.is_closed(slow));
        world.bytes(slow, &[0]);
        world.pass(SECOND);
    }
    assert!(
        world.is_closed(slow),
        "bytes that make no message are no sign of life"
    );
    assert_eq!(faults(&mut world), "Silent Silent");
}

#[test]
fn forged_and_replayed_announcements_end_the_connection_of_whoever_sent_them() {
    let mut world = World::new(Options::default());
    let (victim, victim_challenge, _) = world.join(1, "192.0.2.1:50001");
    // Signed with another key, or changed after signing.
    let (forger, challenge) = world.greet("192.0.2.6:50006");
    let forged = announcement(1, challenge, 9).0.sign(sign_as(peer(6)));
    world.say(forger, &PeerMessage::Announce(forged));
    assert!(world.is_closed(forger));
    // The very words of another, as they can be had from any list.
    let (replayer, _) = world.greet("192.0.2.6:50007");
    let overheard = announcement(1, victim_challenge, 1).signed();
    world.say(replayer, &PeerMessage::Announce(overheard.clone()));
    assert!(world.is_closed(replayer));
    assert_eq!(faults(&mut world), "Forged Replayed");
    assert_eq!(
        world.heard(victim),
        "",
        "the victim and its entry are untouched"
    );
    // Nor when the victim has left.
    world.input(Input::Closed { id: victim });
    let (replayer, _) = world.greet("192.0.2.6:50008");
    world.say(replayer, &PeerMessage::Announce(overheard));
    assert!(world.is_closed(replayer));
    assert_eq!(world.snapshot().announcements, 0);
}

#[test]
fn challenges_differ_between_connections() {
    let mut world = World::new(Options::default());
    let (_, one) = world.greet("192.0.2.1:50001");
    let (_, other) = world.greet("192.0.2.1:50002");
    assert_ne!(one, other);
}

// tracker-30.
#[test]
fn connections_are_bounded_in_all_and_for_each_address() {
    let limits = Limits {
        connections_max: 5,
        connections_per_source_max: 2,
        ..Limits::default()
    };
    let mut world = World::new(Options {
        limits,
        ..Options::default()
    });
    let first = world.open("[2001:db8::1]:1");
    let second = world.open("[2001:db8::2]:2");
    let third = world.open("[2001:db8::3]:3");
    assert!(
        world.is_closed(third) && !world.is_closed(second),
        "one /64 is one address"
    );
    for from in ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"] {
        assert!({
            let id = world.open(from);
            !world.is_closed(id)
        });
    }
    let sixth = world.open("192.0.2.4:1");
    assert!(world.is_closed(sixth));
    assert_eq!(faults(&mut world), "SourceFull Full");
    world.input(Input::Closed { id: first });
    let again = world.open("[2001:db8::4]:4");
    assert!(!world.is_closed(again));
}

// tracker-33.
#[test]
fn a_flood_of_questions_is_cut_off_before_its_answers_fill_the_memory() {
    let mut world = World::new(Options::default());
    for number in 1..=200 {
        world.join(number, &format!("192.0.2.{number}:5000"));
    }
    let (flooder, _) = world.greet("198.51.100.1:1");
    let mut questions = Vec::new();
    for _ in 0..10_000 {
        PeerMessage::List(SHARE).encode(&mut questions);
    }
    world.bytes(flooder, &questions);
    assert!(world.is_closed(flooder));
    let answered = world.sent(flooder).len();
    assert!(answered < 4 << 20, "{answered} bytes");
    assert!(faults(&mut world).ends_with("TooFast"));
    assert_eq!(world.snapshot().announcements, 200);
}

// tracker-31.
#[test]
fn one_address_cannot_crowd_the_others_out() {
    let limits = Limits {
        announcements_max: 100,
        ..Limits::default()
    };
    let mut world = World::new(Options {
        limits,
        ..Options::default()
    });
    let (honest, _, _) = world.join(1, "192.0.2.1:50001");
    for connection in 0..9_u8 {
        let (id, challenge) = world.greet(&format!("198.51.100.1:{}", 1 + u16::from(connection)));
        for share in 0..60_u8 {
            let said = announcement(2, challenge, 1).with(|said| {
                let mut name = [share; 32];
                name[0] = connection;
                said.share = ShareId::new(name);
            });
            world.say(id, &PeerMessage::Announce(said.signed()));
        }
    }
    assert_eq!(world.snapshot().announcements, 100);
    assert!(world.snapshot().refused_total > 400);
    let (_, _, heard) = world.join(3, "192.0.2.3:50003");
    assert_eq!(heard, "announced:1 peers[1:1,3:1]");
    assert_eq!(world.heard(honest), "changed[3:1]");
}

#[test]
fn what_comes_after_the_end_is_nothing() {
    let mut world = World::new(Options::default());
    let (a, challenge, _) = world.join(1, "192.0.2.1:50001");
    world.input(Input::Closed { id: a });
    world.input(Input::Closed { id: a });
    world.say(
        a,
        &PeerMessage::Announce(announcement(1, challenge, 5).signed()),
    );
    assert_eq!(world.heard(a), "");
    assert_eq!(
        (world.snapshot().connections, world.snapshot().announcements),
        (0, 0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes of every kind, cut anywhere, in any order of connections and with time passing: the
    /// counters come back to zero and what is kept stays within its limits.
    #[test]
    fn noise_leaves_nothing_behind(steps in proptest::collection::vec(
        (0..4_usize, 0..6_u8, proptest::collection::vec(any::<u8>(), 0..40), 0..40_u64), 1..80,
    )) {
        let limits = Limits { connections_max: 3, announcements_max: 2, ..Limits::default() };
        let mut world = World::new(Options { timeout: 30 * SECOND, limits });
        let mut open = Vec::new();
        for (which, what, noise, seconds) in steps {
            let from = format!("192.0.2.{}:5000", which + 1);
            match what {
                0 => open.push((world.open(&from), None)),
                1 => {
                    let id = world.open(&from);
                    world.bytes(id, &PROLOGUE);
                    let sent = world.sent(id);
                    let challenge = sent.get(8..24).map(|bytes| bytes.try_into().expect("16"));
                    open.push((id, challenge.map(ahoy_wire::tracker::Challenge)));
                }
                2 => world.pass(Duration::from_secs(seconds)),
                _ if open.is_empty() => {}
                3 => {
                    let (id, _) = open.swap_remove(which % open.len());
                    world.input(Input::Closed { id });
                }
                4 => {
                    let (id, challenge) = open[which % open.len()];
                    if let Some(challenge) = challenge {
                        let who = u8::try_from(which).expect("small");
                        let said = announcement(who, challenge, seconds);
                        world.say(id, &PeerMessage::Announce(said.signed()));
                    }
                }
                _ => {
                    let (id, _) = open[which % open.len()];
                    world.bytes(id, &noise);
                }
            }
            let snapshot = world.snapshot();
            prop_assert!(snapshot.connections <= 3 && snapshot.announcements <= 2);
        }
        world.pass(120 * SECOND);
        let snapshot = world.snapshot();
        prop_assert_eq!((snapshot.connections, snapshot.announcements, snapshot.shares), (0, 0, 0));
    }
}
