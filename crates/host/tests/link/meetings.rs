//! Machines that find each other and stay connected, and a port that several things share.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use ahoy_host::sync::doors::{Doors, Listening};
use ahoy_host::sync::link::Pace;
use ahoy_host::sync::links::Change;
use ahoy_host::sync::meet::Meeting;
use ahoy_logic::sync::meet::Source;
use ahoy_logic::sync::{Input, LinkId};
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::knock::Role;
use ahoy_wire::sync::{Capability, Secret};

use crate::world::{LONG, Side, connect, listen, member, writers};

/// A machine that listens and dials.
struct Machine {
    side: Side,
    meeting: Meeting,
    listening: Listening,
    remembered: Receiver<(PeerId, SocketAddr)>,
}

impl Machine {
    fn new(seed: u8) -> Self {
        Self::on(seed, listen().0)
    }

    fn on(seed: u8, listener: TcpListener) -> Self {
        let port = listener.local_addr().expect("bound").port();
        let side = Side::listening(member(seed, &writers()), Pace::default(), Some(port));
        let doors = Doors::new().expect("doors");
        doors.add(Arc::clone(&side.links));
        let listening = Listening::start(listener, doors, Arc::new(|_, _| {})).expect("a thread");
        let (sender, remembered) = channel();
        let sender = Mutex::new(sender);
        let told = move |change| {
            if let Change::Opened {
                peer,
                address,
                role: Role::Dialer,
            } = change
            {
                let _ = sender.lock().expect("no panic").send((peer, address));
            }
        };
        let meeting = Meeting::start(Arc::clone(&side.links), told).expect("a thread");
        Self {
            side,
            meeting,
            listening,
            remembered,
        }
    }

    fn id(&self) -> PeerId {
        self.side.links.membership().me().id()
    }

    fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The next link that opens.
    fn next_link(&self) -> LinkId {
        loop {
            if let Input::Opened { link, .. } = self.side.next() {
                return link;
            }
        }
    }
}

#[test]
fn peers_meet_by_name_or_without_and_remember_each_other() {
    for named in [true, false] {
        let (a, b) = (Machine::new(1), Machine::new(2));
        a.meeting
            .learned(named.then(|| b.id()), b.address(), Source::Ticket);
        let at_a = a.next_link();
        b.next_link();
        assert_eq!(a.side.link(at_a).peer(), b.id());
        assert_eq!(a.remembered.recv_timeout(LONG), Ok((b.id(), b.address())));
        assert!(a.meeting.snapshot()[0].connected);
        // The one who was called learns where to call back (sync-47).
        let known = || {
            b.meeting.snapshot().iter().any(|peer| {
                peer.peer == a.id()
                    && peer
                        .addresses
                        .iter()
                        .any(|at| at.socket_addr() == a.address())
            })
        };
        while !known() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_lost_link_comes_back_by_itself() {
    let (a, b) = (Machine::new(1), Machine::new(2));
    a.meeting.learned(Some(b.id()), b.address(), Source::Ticket);
    for _ in 0..5 {
        // Both call again, so this may be the one of two that is not kept; then the other one
        // comes after it.
        let link = a.next_link();
        if let Some(link) = a.side.links.link(link) {
            link.hang("for the sake of it");
        }
    }
    a.next_link();
}

#[test]
fn a_peer_that_comes_later_is_met_then() {
    let a = Machine::new(1);
    let (held, address) = listen();
    let b = member(2, &writers()).me().id();
    drop(held);
    a.meeting.learned(Some(b), address, Source::Ticket);
    // Another program may have taken the port; then there is nothing to be seen here.
    let Ok(listener) = TcpListener::bind(address) else {
        return;
    };
    let b = Machine::on(2, listener);
    a.next_link();
    b.next_link();
}

#[test]
fn many_who_all_call_each_other_end_up_with_one_link_each() {
    let machines: Vec<_> = (1..=5).map(Machine::new).collect();
    for a in &machines {
        for b in &machines {
            a.meeting
                .learned(Some(b.id()), b.address(), Source::Tracker);
        }
    }
    // Whatever is opened and closed on the way, in the end everyone is connected to everyone, and
    // content can be fetched over every link.
    for a in &machines {
        for b in machines.iter().filter(|b| b.id() != a.id()) {
            let wanted = b.side.files.put(b.id().as_bytes());
            let mut got = Vec::new();
            while got != b.id().as_bytes() {
                got.clear();
                let to_b = a
                    .side
                    .links
                    .snapshot()
                    .into_iter()
                    .find(|link| link.peer == b.id());
                let mut sink = |_: u64, piece: &[u8]| {
                    got.extend_from_slice(piece);
                    Ok(())
                };
                match to_b.and_then(|link| a.side.links.link(link.link)) {
                    Some(link) => drop(link.fetch(wanted, 0, 32, &mut sink)),
                    None => std::thread::yield_now(),
                }
            }
        }
        assert_eq!(a.side.links.snapshot().len(), 4);
    }
}

#[test]
fn we_do_not_meet_ourselves() {
    let a = Machine::new(1);
    a.meeting
        .learned(Some(a.id()), a.address(), Source::Tracker);
    a.meeting.learned(None, a.address(), Source::Local);
    let b = Machine::new(2);
    a.meeting.learned(None, b.address(), Source::Local);
    a.next_link();
    let known = a.meeting.snapshot();
    assert!(known.iter().all(|peer| peer.peer == b.id()), "{known:?}");
}

#[test]
fn one_port_serves_several_shares_and_another_protocol() {
    let shares = [1, 2].map(|n| Capability::ReadWrite(Secret::new([n; 32])));
    let doors = Doors::new().expect("doors");
    let homes = [0, 1].map(|i| Side::new(member(10 + i as u8, &shares[i]), Pace::default()));
    homes
        .iter()
        .for_each(|side| doors.add(Arc::clone(&side.links)));
    let (others, other) = channel();
    let others = Mutex::new(others);
    let take = move |byte: u8, socket: TcpStream| {
        let _ = others.lock().expect("no panic").send((byte, socket));
    };
    let listening = Listening::start(listen().0, Arc::clone(&doors), Arc::new(take));
    let listening = listening.expect("a thread");
    let address = listening.address();
    for (share, home) in shares.iter().zip(&homes) {
        for expected in [None, Some(home.links.membership().me().id())] {
            let guest = Side::new(member(20, share), Pace::default());
            let meeting = Meeting::start(Arc::clone(&guest.links), |_| {}).expect("a thread");
            meeting.learned(expected, address, Source::Ticket);
            let link = guest.opened();
            let met = guest.link(link).peer();
            assert_eq!(met, home.links.membership().me().id());
            let Input::Opened { .. } = home.next() else {
                panic!("only the right one hears")
            };
            guest.links.close();
            while !matches!(home.next(), Input::Closed { .. }) {}
        }
    }
    for first in [b'A', b'{'] {
        let mut socket = connect(address);
        socket.write_all(&[first, b'H', b'O', b'Y']).expect("sent");
        let (byte, mut taken) = other.recv_timeout(LONG).expect("handed on");
        assert_eq!(byte, first);
        let mut all = [0; 4];
        taken.read_exact(&mut all).expect("nothing is lost");
        assert_eq!(all, [first, b'H', b'O', b'Y']);
    }
    // A share that is no longer served is as unknown as any.
    doors.remove(&homes[0].links);
    let guest = member(20, &shares[0]);
    let known = Some(homes[0].links.membership().me().id());
    let refused = ahoy_host::sync::session::dial(&guest, address, known, |_| true);
    assert!(refused.is_err());
}

#[test]
fn one_source_cannot_fill_the_lobby() {
    let machine = Machine::new(1);
    let address = machine.address();
    // Each of these says nothing and stays; only so many are let in.
    let idle: Vec<_> = (0..60).map(|_| connect(address)).collect();
    let shut = |socket: &TcpStream| {
        socket.set_nonblocking(true).expect("a mode");
        matches!((&*socket).read(&mut [0]), Ok(0))
    };
    while idle.iter().filter(|socket| shut(socket)).count() < 60 - 16 {
        std::thread::yield_now();
    }
    assert_eq!(idle.iter().filter(|socket| shut(socket)).count(), 60 - 16);
    drop(idle);
    // They leave, and a peer gets in.
    let b = Machine::new(2);
    b.meeting
        .learned(Some(machine.id()), address, Source::Ticket);
    b.next_link();
}

#[test]
fn noise_on_the_port_disturbs_nobody() {
    let machine = Machine::new(1);
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 1000],
        &[0x16; 1000],
        b"\x16\x03\x01\x02\x00\x01",
    ] {
        let mut socket = connect(machine.address());
        let _ = socket.write_all(noise);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() <= 7, "{answer:?}");
    }
    let b = Machine::new(2);
    b.meeting
        .learned(Some(machine.id()), machine.address(), Source::Ticket);
    b.next_link();
}

#[test]
fn a_port_is_free_again_when_nobody_listens() {
    let machine = Machine::new(1);
    let address = machine.address();
    drop(machine);
    TcpListener::bind(address).expect("free again");
}
