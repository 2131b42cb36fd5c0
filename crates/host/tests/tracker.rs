//! The tracker for real: loopback sockets, threads, Ed25519, and clients that misbehave.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ahoy_host::tracker::{Announcer, AnnouncerConfig, TrackerService, Whereabouts};
use ahoy_logic::tracker::{AnnouncerOptions, DownReason, Event, Limits, Options, PeerSighting};
use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{
    Announcement, Challenge, FIRST_BYTE, HoldingSummary, PROLOGUE, PeerAddress, PeerMessage,
    ShareId, TrackerMessage, Ttl, Undecodable,
};
use ring::signature::{Ed25519KeyPair, KeyPair};

/// Far more than anything takes; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(20);
const SHARE: ShareId = ShareId::new([7; 32]);

fn key(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).expect("32 bytes are a seed")
}

fn peer(number: u8) -> PeerId {
    PeerId::new(
        key(number)
            .public_key()
            .as_ref()
            .try_into()
            .expect("32 bytes"),
    )
}

fn sign(key: &Ed25519KeyPair, bytes: &[u8]) -> [u8; 64] {
    key.sign(bytes).as_ref().try_into().expect("64 bytes")
}

fn own_address(number: u8) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 20_000 + u16::from(number)).into()
}

fn listener(port: u16) -> (TcpListener, SocketAddr) {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = ahoy_host::listen::tcp(addr, 1024).expect("the port is free");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

fn tracker(options: Options) -> (TrackerService, SocketAddr) {
    let (listener, addr) = listener(0);
    let service = TrackerService::start(options, vec![listener], Box::new(drop));
    (service.expect("starts"), addr)
}

/// An announcer and what it reports.
struct Client {
    announcer: Announcer,
    events: Receiver<Event>,
}

impl Client {
    fn start(number: u8, trackers: &[SocketAddr]) -> Self {
        let whereabouts = Box::new(move || vec![own_address(number)]);
        Self::start_at(number, trackers, whereabouts)
    }

    fn start_at(number: u8, trackers: &[SocketAddr], addresses: Whereabouts) -> Self {
        let (sender, events) = channel();
        let key = key(number);
        let config = AnnouncerConfig {
            trackers: trackers.iter().map(ToString::to_string).collect(),
            share: SHARE,
            peer: peer(number),
            sign: Box::new(move |bytes| sign(&key, bytes)),
            addresses,
            holding: HoldingSummary::default(),
            sequence_floor: 0,
            options: AnnouncerOptions::default(),
        };
        // The test may have ended before the last events come.
        let on_event = Box::new(move |event| drop(sender.send(event)));
        let announcer = Announcer::start(config, on_event).expect("starts");
        Self { announcer, events }
    }

    /// Waits for the first event that `wanted` makes something of.
    fn wait<T>(&self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let until = Instant::now() + LIMIT;
        let mut heard = Vec::new();
        loop {
            match self
                .events
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(event) => match wanted(&event) {
                    Some(found) => return found,
                    None => heard.push(event),
                },
                Err(error) => panic!("{what}: {error}; heard {heard:?}"),
            }
        }
    }

    fn wait_up(&self) {
        self.wait("up", |event| {
            matches!(event, Event::Up { .. }).then_some(())
        });
    }

    fn wait_seen(&self, number: u8) -> PeerSighting {
        self.wait("a peer is seen", |event| {
            let Event::PeerSeen(seen) = event else {
                return None;
            };
            (seen.peer == peer(number)).then(|| seen.clone())
        })
    }

    fn wait_gone(&self, number: u8) {
        self.wait("a peer is gone", |event| {
            (*event == Event::PeerGone(peer(number))).then_some(())
        })
    }

    fn wait_down(&self) -> DownReason {
        self.wait("down", |event| {
            let Event::Down { reason, .. } = event else {
                return None;
            };
            Some(reason.clone())
        })
    }
}

/// A connection spoken by hand.
struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    fn connect(tracker: SocketAddr) -> Self {
        let stream = TcpStream::connect(tracker).expect("connects");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    fn greet(tracker: SocketAddr) -> (Self, Challenge) {
        let mut raw = Self::connect(tracker);
        raw.stream.write_all(&PROLOGUE).expect("writes");
        let mut prologue = [0; PROLOGUE.len()];
        raw.stream
            .read_exact(&mut prologue)
            .expect("the prologue is answered");
        assert_eq!(prologue, PROLOGUE);
        match raw.hear() {
            Some(TrackerMessage::Welcome { challenge, .. }) => (raw, challenge),
            other => panic!("no welcome: {other:?}"),
        }
    }

    fn say(&mut self, message: &PeerMessage) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.stream.write_all(&bytes).expect("writes");
    }

    /// The next message; None when the tracker has closed the connection.
    fn hear(&mut self) -> Option<TrackerMessage> {
        loop {
            match TrackerMessage::decode(&self.buffer) {
                Ok((message, len)) => {
                    self.buffer.drain(..len);
                    return Some(message);
                }
                Err(Undecodable::Incomplete { .. }) => {}
                Err(Undecodable::Invalid(invalid)) => panic!("{invalid}"),
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(len) => self.buffer.extend(&chunk[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn announce(&mut self, number: u8, challenge: Challenge, signer: u8) {
        let announcement = Announcement {
            challenge,
            share: SHARE,
            peer: peer(number),
            sequence: 1,
            ttl: Ttl::from_seconds(3600).expect("in range"),
            holding: HoldingSummary::default(),
            addresses: Bounded::truncated(PeerAddress::new(own_address(number))),
        };
        let signed = announcement.sign(|bytes| sign(&key(signer), bytes));
        self.say(&PeerMessage::Announce(signed));
    }
}

#[test]
fn two_peers_find_each_other_hear_the_news_and_the_goodbye() {
    let (service, addr) = tracker(Options::default());
    let a = Client::start(1, &[addr]);
    a.wait_up();
    let b = Client::start(2, &[addr]);
    let seen = a.wait_seen(2);
    assert_eq!(seen.addresses, [own_address(2)]);
    assert!(seen.seen.ip().is_loopback());
    b.wait_seen(1);
    assert_eq!(b.announcer.status().tracker, Some(addr));
    assert_eq!(service.snapshot().announcements, 2);
    a.announcer.update_holding(HoldingSummary {
        files: 9,
        ..HoldingSummary::default()
    });
    assert_eq!(b.wait_seen(1).holding.files, 9);
    assert_eq!(b.announcer.status().peers[0].holding.files, 9);
    b.announcer.stop();
    a.wait_gone(2);
    assert_eq!(a.announcer.status().peers, []);
}

#[test]
fn a_tracker_inside_another_program_takes_the_connections_it_is_handed() {
    let service = TrackerService::start(Options::default(), Vec::new(), Box::new(drop));
    let service = service.expect("starts");
    let (listener, addr) = listener(0);
    listener.set_nonblocking(false).expect("blocking");
    let door = service.door();
    let host = std::thread::spawn(move || {
        // Two peers, and a stranger who speaks TLS.
        let mut others = 0;
        for _ in 0..3 {
            let (stream, _) = listener.accept().expect("accepts");
            let mut first = [0];
            stream.peek(&mut first).expect("a first byte");
            if first[0] == FIRST_BYTE {
                door.handle_connection(stream).expect("is not busy");
            } else {
                others += 1;
            }
        }
        others
    });
    TcpStream::connect(addr)
        .expect("connects")
        .write_all(b"\x16\x03\x01")
        .expect("writes");
    let (a, b) = (Client::start(1, &[addr]), Client::start(2, &[addr]));
    a.wait_seen(2);
    b.wait_seen(1);
    assert_eq!(host.join().expect("no panic"), 1);
    assert_eq!(service.snapshot().connections, 2);
}

/// tracker-18. The tracker would wait for ten minutes; the end of the connection says it at once.
#[test]
fn a_peer_whose_connection_ends_is_gone_at_once() {
    let options = Options {
        timeout: Duration::from_secs(600),
        ..Options::default()
    };
    let (_service, addr) = tracker(options);
    let a = Client::start(1, &[addr]);
    a.wait_up();
    let (mut raw, challenge) = Raw::greet(addr);
    raw.announce(2, challenge, 2);
    a.wait_seen(2);
    let ended = Instant::now();
    drop(raw);
    a.wait_gone(2);
    assert!(
        ended.elapsed() < Duration::from_secs(1),
        "{:?}",
        ended.elapsed()
    );
}

/// tracker-17, with a short timeout.
#[test]
fn a_silent_peer_is_gone_within_the_timeout_and_a_second() {
    let options = Options {
        timeout: Duration::from_secs(2),
        ..Options::default()
    };
    let (_service, addr) = tracker(options);
    let a = Client::start(1, &[addr]);
    a.wait_up();
    let (mut raw, challenge) = Raw::greet(addr);
    let announced = Instant::now();
    raw.announce(2, challenge, 2);
    a.wait_seen(2);
    a.wait_gone(2);
    let lived = announced.elapsed();
    assert!(lived >= Duration::from_secs(2), "{lived:?}");
    assert!(lived <= Duration::from_secs(3), "{lived:?}");
    while raw.hear().is_some() {}
    assert!(
        a.announcer.status().tracker.is_some(),
        "whoever shows signs of life stays"
    );
}

#[test]
fn peers_come_back_after_a_restart_of_the_tracker() {
    let (service, addr) = tracker(Options::default());
    let (a, b) = (Client::start(1, &[addr]), Client::start(2, &[addr]));
    a.wait_seen(2);
    b.wait_seen(1);
    let sequence = a.announcer.status().sequence;
    service.stop();
    a.wait_down();
    b.wait_down();
    let known = a.announcer.status();
    assert_eq!((known.tracker, known.peers.len()), (None, 1));
    assert!(
        known
            .retry_in
            .is_some_and(|wait| wait < Duration::from_secs(60))
    );
    let (listener, _) = listener(addr.port());
    let service = TrackerService::start(Options::default(), vec![listener], Box::new(drop));
    let service = service.expect("starts");
    a.wait_up();
    b.wait_up();
    assert!(a.announcer.status().sequence > sequence);
    assert_eq!(service.snapshot().announcements, 2);
}

/// A laptop is carried elsewhere: its connection ends, and it comes back with another address.
#[test]
fn a_peer_that_has_moved_is_told_of_at_its_new_place() {
    let (service, addr) = tracker(Options::default());
    let place = Arc::new(AtomicU8::new(1));
    let now_at = Arc::clone(&place);
    let whereabouts = move || vec![own_address(now_at.load(Ordering::Relaxed))];
    let a = Client::start_at(1, &[addr], Box::new(whereabouts));
    let b = Client::start(2, &[addr]);
    assert_eq!(b.wait_seen(1).addresses, [own_address(1)]);
    place.store(9, Ordering::Relaxed);
    service.stop();
    a.wait_down();
    let (listener, _) = listener(addr.port());
    let service = TrackerService::start(Options::default(), vec![listener], Box::new(drop));
    let _service = service.expect("starts");
    while b.wait_seen(1).addresses != [own_address(9)] {}
}

#[test]
fn a_tracker_that_is_not_there_is_reported_and_the_next_one_is_tried() {
    let (unused, nobody) = listener(0);
    drop(unused);
    let alone = Client::start(1, &[nobody]);
    let reason = alone.wait_down().to_string();
    assert!(
        reason.contains(&format!("cannot reach {nobody}")),
        "{reason}"
    );
    alone.announcer.stop();

    let (_service, addr) = tracker(Options::default());
    let b = Client::start(2, &[nobody, addr]);
    b.wait_up();
    assert_eq!(b.announcer.status().tracker, Some(addr));
}

#[test]
fn what_answers_but_is_no_tracker_is_told_apart() {
    let (listener, addr) = listener(0);
    listener.set_nonblocking(false).expect("blocking");
    let web = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepts");
        stream
            .read_exact(&mut [0; PROLOGUE.len()])
            .expect("a request of a kind");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("writes");
    });
    let client = Client::start(1, &[addr]);
    assert_eq!(client.wait_down(), DownReason::NotATracker);
    web.join().expect("no panic");
}

/// tracker-2, tracker-32: noise and silence on the port are nobody's trouble but their own.
#[test]
fn strangers_get_nothing_and_keep_nobody_from_being_served() {
    let limits = Limits {
        connections_per_source_max: 400,
        ..Limits::default()
    };
    let (service, addr) = tracker(Options {
        limits,
        ..Options::default()
    });
    let silent: Vec<_> = (0..150).map(|_| Raw::connect(addr)).collect();
    let mut noise = Vec::new();
    let mut byte = 17_u8;
    for len in 1..=40 {
        let mut raw = Raw::connect(addr);
        let bytes: Vec<u8> = (0..len * 7)
            .map(|_| {
                byte = byte.wrapping_mul(29).wrapping_add(113);
                byte
            })
            .collect();
        assert_ne!(bytes[0], FIRST_BYTE);
        // The tracker may have closed before all is written.
        let _ = raw.stream.write_all(&bytes);
        noise.push(raw);
    }
    for mut raw in noise {
        assert_eq!(raw.hear(), None);
        assert_eq!(raw.buffer, b"");
    }
    let (a, b) = (Client::start(1, &[addr]), Client::start(2, &[addr]));
    a.wait_seen(2);
    b.wait_seen(1);
    assert_eq!(service.snapshot().connections, 152);
    assert_eq!(service.snapshot().faults_total, 40);
    drop(silent);
}

/// tracker-11, tracker-12, with real keys.
#[test]
fn a_forged_or_replayed_announcement_ends_the_connection_and_nothing_else() {
    let (service, addr) = tracker(Options::default());
    let a = Client::start(1, &[addr]);
    a.wait_up();
    let (mut forger, challenge) = Raw::greet(addr);
    forger.announce(2, challenge, 3);
    assert_eq!(forger.hear(), None);
    let (mut honest, challenge) = Raw::greet(addr);
    honest.announce(2, challenge, 2);
    a.wait_seen(2);
    let (mut replayer, _) = Raw::greet(addr);
    replayer.announce(2, challenge, 2);
    assert_eq!(replayer.hear(), None);
    assert_eq!(service.snapshot().announcements, 2);
    assert_eq!(service.snapshot().faults_total, 2);
}

#[test]
fn many_peers_in_one_share_all_see_each_other() {
    let limits = Limits {
        connections_per_source_max: 400,
        ..Limits::default()
    };
    let (service, addr) = tracker(Options {
        limits,
        ..Options::default()
    });
    let clients: Vec<_> = (1..=30)
        .map(|number| Client::start(number, &[addr]))
        .collect();
    let all = Arc::new((1..=30).map(peer).collect::<Vec<_>>());
    for (client, own) in clients.iter().zip(all.iter()) {
        let mut missing: Vec<_> = all.iter().filter(|peer| *peer != own).copied().collect();
        while !missing.is_empty() {
            let seen = client.wait("a peer", |event| {
                let Event::PeerSeen(seen) = event else {
                    return None;
                };
                Some(seen.peer)
            });
            missing.retain(|peer| *peer != seen);
        }
    }
    assert_eq!(service.snapshot().announcements, 30);
}
