//! Who gets a session, and who learns nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use ahoy_host::sync::keys::PeerKey;
use ahoy_host::sync::link::Pace;
use ahoy_host::sync::links::Links;
use ahoy_host::sync::session::{SessionError, accept, dial};
use ahoy_logic::sync::{Input, Rights};
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::knock::Role;
use ahoy_wire::sync::{Capability, Secret};

use crate::world::{Side, connect, listen, meet, member, nobody, readers, soon, writers};

#[test]
fn both_ends_know_each_other_and_what_the_other_may_do() {
    let check = |mine: &Capability, theirs: &Capability, known: bool, rights: [Rights; 2]| {
        let (a, b) = (member(1, mine), member(2, theirs));
        let (dialed, accepted) = meet(&a, known.then(|| b.me().id()), &b);
        let (dialed, accepted) = (dialed.expect("a session"), accepted.expect("a session"));
        assert_eq!((dialed.peer(), accepted.peer()), (b.me().id(), a.me().id()));
        assert_eq!([dialed.rights(), accepted.rights()], rights);
        assert_eq!(
            (dialed.role(), accepted.role()),
            (Role::Dialer, Role::Acceptor)
        );
    };
    check(
        &writers(),
        &writers(),
        true,
        [Rights::Writer, Rights::Writer],
    );
    check(
        &writers(),
        &writers(),
        false,
        [Rights::Writer, Rights::Writer],
    );
    check(
        &readers(),
        &writers(),
        true,
        [Rights::Writer, Rights::Reader],
    );
    check(
        &writers(),
        &readers(),
        false,
        [Rights::Reader, Rights::Writer],
    );
    check(
        &readers(),
        &readers(),
        true,
        [Rights::Reader, Rights::Reader],
    );
}

// tracker-42.
// sync-40.
#[test]
fn another_peer_than_the_expected_one_is_refused() {
    let (a, b) = (member(1, &writers()), member(2, &writers()));
    let (dialed, accepted) = meet(&a, Some(member(3, &writers()).me().id()), &b);
    assert!(matches!(dialed, Err(SessionError::Tls(_))), "{dialed:?}");
    assert!(accepted.is_err());
}

// sync-41.
#[test]
fn another_share_is_refused_by_both_ends() {
    let other = Capability::ReadWrite(Secret::new([8; 32]));
    let (a, b) = (member(1, &other), member(2, &writers()));
    // Who knows the peer but not the share gets as far as the knock.
    let (dialed, accepted) = meet(&a, Some(b.me().id()), &b);
    assert!(matches!(dialed, Err(SessionError::Stranger)), "{dialed:?}");
    assert!(
        matches!(accepted, Err(SessionError::Stranger)),
        "{accepted:?}"
    );
    // Who does not even know the peer is shown a key that belongs to nobody.
    let (dialed, accepted) = meet(&a, None, &b);
    assert!(matches!(dialed, Err(SessionError::Stranger)), "{dialed:?}");
    assert!(
        matches!(accepted, Err(SessionError::Stranger)),
        "{accepted:?}"
    );
}

// sync-32, sync-43.
#[test]
fn a_read_only_ticket_with_a_forged_write_key_meets_no_writer() {
    let Capability::ReadOnly { read, .. } = readers() else {
        panic!("a reader")
    };
    let write = ahoy_wire::sync::WritePublic(*PeerKey::from_seed([3; 32]).id().as_bytes());
    let (a, b) = (
        member(1, &Capability::ReadOnly { read, write }),
        member(2, &writers()),
    );
    let (dialed, _) = meet(&a, Some(b.me().id()), &b);
    assert!(
        matches!(dialed, Err(SessionError::FalseProof)),
        "{dialed:?}"
    );
}

#[test]
fn we_do_not_talk_to_ourselves() {
    let a = member(1, &writers());
    for expected in [None, Some(a.me().id())] {
        let (listener, address) = listen();
        let served = [Arc::clone(&a)];
        std::thread::scope(|scope| {
            let dialed = scope.spawn(|| dial(&a, address, expected, |_| true));
            if expected.is_none() {
                let (socket, _) = listener.accept().expect("a connection");
                assert!(accept(socket, &served, &nobody(), soon()).is_err());
            }
            let dialed = dialed.join().expect("no panic");
            assert!(matches!(dialed, Err(SessionError::Myself)), "{dialed:?}");
        });
    }
}

/// Everything that an acceptor sends to this talk, until it closes.
fn answer_to(
    served: &[Arc<ahoy_host::sync::session::Membership>],
    talk: impl FnOnce(&mut TcpStream),
) -> Vec<u8> {
    let (listener, address) = listen();
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let (socket, _) = listener.accept().expect("a connection");
            assert!(accept(socket, served, &nobody(), soon()).is_err());
        });
        let mut socket = connect(address);
        talk(&mut socket);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        accepted.join().expect("no panic");
        answer
    })
}

#[test]
fn noise_ends_quietly() {
    let served = [member(2, &writers())];
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"",
        &[0x16; 400],
        &[0xff; 70_000],
        b"\x16\x03\x01\x40\x00",
    ] {
        let answer = answer_to(&served, |socket| {
            let _ = socket.write_all(noise);
            let _ = socket.shutdown(std::net::Shutdown::Write);
        });
        // At most a TLS alert, in the clear.
        assert!(answer.len() <= 7, "{answer:?}");
    }
}

/// The sizes of what a listener sends, record by record, to a stranger who knocks with noise.
fn silence_of(
    served: &[Arc<ahoy_host::sync::session::Membership>],
    expected: Option<PeerId>,
) -> Vec<u8> {
    let (listener, address) = listen();
    let tap = listen();
    let stranger = member(5, &Capability::ReadWrite(Secret::new([55; 32])));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (socket, _) = listener.accept().expect("a connection");
            assert!(accept(socket, served, &nobody(), soon()).is_err());
        });
        // Stands between the two and writes down what comes back.
        let seen = scope.spawn(move || {
            let (near, _) = tap.0.accept().expect("the stranger");
            let far = connect(address);
            let (mut near_in, mut far_out) = (
                near.try_clone().expect("a copy"),
                far.try_clone().expect("a copy"),
            );
            let forth = std::thread::spawn(move || {
                let _ = std::io::copy(&mut near_in, &mut far_out);
                let _ = far_out.shutdown(std::net::Shutdown::Write);
            });
            let mut kept = Vec::new();
            let (mut far, mut near) = (far, near);
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = far.read(&mut buffer) {
                kept.extend_from_slice(&buffer[..n]);
                near.write_all(&buffer[..n]).expect("the stranger listens");
            }
            drop(near.shutdown(std::net::Shutdown::Both));
            forth.join().expect("no panic");
            kept
        });
        let dialed = dial(&stranger, tap.1, expected, |_| true);
        assert!(matches!(dialed, Err(SessionError::Stranger)), "{dialed:?}");
        seen.join().expect("no panic")
    })
}

// sync-42.
#[test]
fn a_stranger_cannot_tell_whether_there_is_a_share() {
    let b = member(2, &writers());
    let lengths = |bytes: Vec<u8>| {
        let mut lengths = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some(head) = rest.first_chunk::<5>() {
            let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
            lengths.push((head[0], len));
            rest = &rest[5 + len..];
        }
        lengths
    };
    let with_share = lengths(silence_of(&[Arc::clone(&b)], None));
    let with_known_peer = lengths(silence_of(&[Arc::clone(&b)], Some(b.me().id())));
    let without = lengths(silence_of(&[], None));
    assert_eq!(with_share, without);
    assert_eq!(with_share, with_known_peer);
    assert!(
        with_share.len() >= 3,
        "a handshake took place: {with_share:?}"
    );
}

// sync-41.
#[test]
fn what_was_said_once_is_of_no_use_again() {
    let (a, b) = (member(1, &writers()), member(2, &writers()));
    let (listener, address) = listen();
    let tap = listen();
    let served = [Arc::clone(&b)];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (socket, _) = listener.accept().expect("a connection");
            accept(socket, &served, &nobody(), soon()).expect("a session");
        });
        let recorded = scope.spawn(move || {
            let (near, _) = tap.0.accept().expect("the dialer");
            let mut far = connect(address);
            let (mut near_out, mut far_in) = (
                near.try_clone().expect("a copy"),
                far.try_clone().expect("a copy"),
            );
            std::thread::spawn(move || std::io::copy(&mut far_in, &mut near_out));
            let mut said = Vec::new();
            let mut buffer = [0; 4096];
            let mut near = near;
            while let Ok(n @ 1..) = near.read(&mut buffer) {
                said.extend_from_slice(&buffer[..n]);
                if far.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            said
        });
        let session = dial(&a, tap.1, Some(b.me().id()), |_| true).expect("a session");
        drop(session);
        let said = recorded.join().expect("no panic");
        assert!(said.len() > 1000, "the whole of it was recorded");
        let answer = answer_to(&served, |socket| {
            let _ = socket.write_all(&said);
            let _ = socket.shutdown(std::net::Shutdown::Write);
        });
        assert!(!answer.is_empty(), "TLS began anew, with other keys");
    });
}

// sync-46.
#[test]
fn two_who_dial_each_other_keep_the_same_one_session() {
    let (a, b) = (member(1, &writers()), member(2, &writers()));
    for a_first in [true, false] {
        let (x, y) = (
            Side::new(Arc::clone(&a), Pace::default()),
            Side::new(Arc::clone(&b), Pace::default()),
        );
        let (a_dialed, b_accepted) = meet(&a, Some(b.me().id()), &b);
        let (b_dialed, a_accepted) = meet(&b, Some(a.me().id()), &a);
        let open = |links: &Arc<Links>, first, second| {
            links
                .open(first)
                .into_iter()
                .chain(links.open(second))
                .last()
        };
        let (at_a, at_b) = if a_first {
            (
                open(&x.links, a_dialed.expect("one"), a_accepted.expect("two")),
                open(&y.links, b_accepted.expect("one"), b_dialed.expect("two")),
            )
        } else {
            (
                open(&x.links, a_accepted.expect("two"), a_dialed.expect("one")),
                open(&y.links, b_accepted.expect("one"), b_dialed.expect("two")),
            )
        };
        let (at_a, at_b) = (at_a.expect("a link"), at_b.expect("a link"));
        let a_is_smaller = a.me().id() < b.me().id();
        let role = x.link(at_a).role();
        assert_eq!(role == Role::Dialer, a_is_smaller);
        assert_ne!(y.link(at_b).role(), role);
        // The one that was kept works.
        let wanted = y.files.put(b"kept");
        let mut got = Vec::new();
        let mut sink = |_: u64, piece: &[u8]| {
            got.extend_from_slice(piece);
            Ok(())
        };
        x.link(at_a)
            .fetch(wanted, 0, 4, &mut sink)
            .expect("content");
        assert_eq!(got, b"kept");
        assert!(x.links.reserve(b.me().id()).is_none(), "connected already");
    }
}

#[test]
fn a_place_is_kept_for_one_dialed_session() {
    let a = Side::new(member(1, &writers()), Pace::default());
    let peer = member(2, &writers()).me().id();
    let kept = a.links.reserve(peer).expect("nobody is there");
    assert!(a.links.reserve(peer).is_none());
    drop(kept);
    assert!(a.links.reserve(peer).is_some());
}

#[test]
fn closing_ends_every_link_and_takes_no_more() {
    let (a, b) = (member(1, &writers()), member(2, &writers()));
    let (dialed, accepted) = meet(&a, Some(b.me().id()), &b);
    let side = Side::new(b, Pace::default());
    side.links
        .open(accepted.expect("a session"))
        .expect("a link");
    let link = side.opened();
    side.links.close();
    side.closed(link);
    assert!(side.links.snapshot().is_empty());
    assert!(!side.links.is_connected(dialed.expect("a session").peer()));
    let (_, again) = meet(&a, None, side.links.membership());
    assert!(side.links.open(again.expect("a session")).is_none());
    let inputs = side.inputs.lock().expect("one listener");
    assert!(
        inputs
            .try_iter()
            .all(|input| !matches!(input, Input::Opened { .. }))
    );
}
