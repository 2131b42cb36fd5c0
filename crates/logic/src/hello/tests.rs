//! Every rule of the hello server, in virtual time.

use std::collections::BTreeMap;

use ahoy_wire::hello::REPLY_BYTES_MAX;
use proptest::prelude::*;

use super::*;
use crate::machine::{ConnectionId, Effect};

/// Where every request comes to.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);

/// A server, its clock, and what it noted last: the fixture of every test here.
struct World {
    server: Server,
    now: Moment,
    notes: Vec<Note>,
}

impl World {
    fn new(config: Config) -> Self {
        Self {
            server: Server::new(config, [1; 16], Moment::ORIGIN),
            now: Moment::ORIGIN,
            notes: Vec::new(),
        }
    }

    fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = Moment::after_origin(Duration::from_secs_f64(seconds));
        self
    }

    /// What the server does about one input, as text.
    fn handle(&mut self, input: Input<'_>) -> Vec<String> {
        let mut out = Outbox::new();
        self.server.handle(self.now, input, &mut out);
        self.notes.clear();
        let mut shown = Vec::new();
        while let Some(effect) = out.pop() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            shown.push(match effect {
                Effect::Datagram { to, local, bytes } => {
                    assert_eq!(local, HERE, "a reply leaves from where the request came to");
                    format!("{to}<{}", text(&bytes))
                }
                Effect::Send { id, bytes } => format!("send {} {}", id.0, text(&bytes)),
                Effect::SendShared { id, .. } => panic!("nothing is shared with {id:?}"),
                Effect::Finish { id } => format!("finish {}", id.0),
                Effect::Close { id } => format!("close {}", id.0),
                Effect::Exit => "exit".to_owned(),
                Effect::Note(note) => {
                    self.notes.push(note);
                    continue;
                }
            });
        }
        shown
    }

    /// One datagram from a port of 127.0.0.1; the reply without its slot, or "".
    fn udp(&mut self, port: u16, bytes: &[u8]) -> String {
        let from = SocketAddr::from(([127, 0, 0, 1], port));
        self.udp_from(from, bytes)
    }

    fn udp_from(&mut self, from: SocketAddr, bytes: &[u8]) -> String {
        let local = HERE;
        let effects = self.handle(Input::Datagram { from, local, bytes });
        let to = format!("{from}<");
        let replies: Vec<_> = effects
            .iter()
            .filter_map(|it| it.strip_prefix(&to))
            .collect();
        assert!(replies.len() <= 1, "one datagram each way: {effects:?}");
        replies.first().copied().unwrap_or_default().to_owned()
    }

    fn accept(&mut self, conn: u64) -> Vec<String> {
        let (id, local) = (ConnectionId(conn), HERE);
        let peer = SocketAddr::from(([127, 0, 0, 1], 6000));
        self.handle(Input::Opened { id, peer, local })
    }

    fn tcp(&mut self, conn: u64, bytes: &[u8]) -> Vec<String> {
        let id = ConnectionId(conn);
        self.handle(Input::Received { id, bytes })
    }

    fn end(&mut self, conn: u64) -> Vec<String> {
        let id = ConnectionId(conn);
        self.handle(Input::Ended { id })
    }

    fn due(&mut self) -> Vec<String> {
        self.handle(Input::Due)
    }

    fn reason(&self) -> Option<Reason> {
        self.server.deadline().map(|deadline| deadline.reason)
    }
}

fn classic() -> World {
    World::new(Config::default())
}

fn protected(leases_per_source: u32) -> World {
    World::new(Config {
        protect: Some(Protect { leases_per_source }),
        ..Config::default()
    })
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_free_id_is_granted_to_the_address_that_asked() {
    let mut world = classic();
    assert_eq!(world.udp(5001, b"HELLO 0042"), "OK 0042 127.0.0.1 5001");
    assert_eq!(world.udp(5002, b"HELLO 0042"), "RESET 0042");
    assert_eq!(
        world.udp(5001, b"HELLO 0042"),
        "RESET 0042",
        "even to its owner"
    );
    assert_eq!(world.udp(5002, b"HELLO 42"), "OK 42 127.0.0.1 5002");
    assert_eq!(
        world.udp(5002, b"HELLO 0043 x y\r\n"),
        "OK 0043 127.0.0.1 5002"
    );
    let six = "[2001:db8::7]:9".parse().expect("an address");
    assert_eq!(world.udp_from(six, b"HELLO 6"), "OK 6 2001:db8::7 9");
    let mapped = "[::ffff:10.1.2.3]:9".parse().expect("an address");
    assert_eq!(world.udp_from(mapped, b"HELLO 7"), "OK 7 10.1.2.3 9");
}

#[test]
fn an_id_is_free_30_s_after_it_was_granted_and_a_reset_changes_nothing() {
    let mut world = classic();
    world.udp(5001, b"HELLO 0042");
    for at in [10.0, 29.0, 29.999_999] {
        assert_eq!(world.at(at).udp(5002, b"HELLO 0042"), "RESET 0042");
    }
    assert_eq!(world.reason(), Some(Reason::LeaseEnds));
    assert_eq!(
        world.at(30.0).udp(5002, b"HELLO 0042"),
        "OK 0042 127.0.0.1 5002"
    );
    assert_eq!(world.at(59.9).udp(5002, b"HELLO 0042"), "RESET 0042");
    assert_eq!(
        world.at(60.0).udp(5002, b"HELLO 0042"),
        "OK 0042 127.0.0.1 5002"
    );
}

#[test]
fn a_lease_ends_on_time_whether_or_not_anybody_asks() {
    let mut world = classic();
    world.udp(5001, b"HELLO 0042");
    assert_eq!(world.at(30.0).due(), NOTHING);
    let id = "0042".parse().expect("a good id");
    let client = SocketAddr::from(([127, 0, 0, 1], 5001));
    assert_eq!(world.notes[..], [Note::Ended { id, client }]);
    assert_eq!(world.server.snapshot().leases, 0);
    assert_eq!(world.reason(), Some(Reason::Idle));
}

#[test]
fn the_service_ends_after_120_s_without_a_request() {
    let mut world = classic();
    assert_eq!(world.reason(), Some(Reason::Idle));
    assert_eq!(world.at(119.999).due(), NOTHING);
    assert_eq!(world.at(120.0).due(), ["exit"]);
    assert_eq!(world.notes[..], [Note::Idle]);
    assert_eq!(world.server.deadline(), None);
    assert_eq!(world.at(121.0).due(), NOTHING, "it ends once");
}

#[test]
fn any_datagram_or_accepted_connection_restarts_the_idle_clock() {
    let mut world = classic();
    world.at(100.0).udp(5001, b"HELLO 0042");
    assert_eq!(world.at(219.9).due(), NOTHING);
    assert_eq!(world.at(219.9).udp(5001, b"garbage"), "");
    assert_eq!(world.at(339.8).due(), NOTHING);
    assert_eq!(world.at(339.8).udp(5001, b""), "");
    assert_eq!(world.at(459.7).due(), NOTHING);
    world.at(459.7).accept(1);
    assert_eq!(world.at(579.6).due(), ["close 1"], "it is silent");
    assert_eq!(world.at(579.7).due(), ["exit"]);
}

#[test]
fn a_request_that_is_already_there_is_served_before_the_end() {
    let mut world = classic();
    assert_eq!(
        world.at(120.0).udp(5001, b"HELLO 0042"),
        "OK 0042 127.0.0.1 5001"
    );
    assert_eq!(world.due(), NOTHING);
    assert_eq!(world.at(240.0).due(), ["exit"]);
}

#[test]
fn a_silent_or_dripping_connection_does_not_keep_the_service_alive() {
    let mut world = World::new(Config {
        request: Duration::from_secs(3600),
        ..Config::default()
    });
    world.accept(1);
    world.at(100.0);
    assert_eq!(world.tcp(1, b"HEL"), NOTHING);
    assert_eq!(world.at(120.0).due(), ["exit"]);
}

#[test]
fn a_service_without_idle_time_never_ends() {
    let mut world = World::new(Config {
        idle: None,
        ..Config::default()
    });
    assert_eq!(world.server.deadline(), None);
    assert_eq!(world.at(1e9).due(), NOTHING);
}

#[test]
fn malformed_datagrams_are_ignored_and_counted() {
    let mut world = classic();
    for bytes in [
        &b""[..],
        b"HELLO",
        b"HELLO ",
        b"BYE 0042",
        b"\xff\xfe\0",
        &[b'9'; 600],
    ] {
        assert_eq!(world.udp(5001, bytes), "", "{}", bytes.escape_ascii());
    }
    assert_eq!(world.server.snapshot().malformed, 6);
    assert_eq!(world.server.snapshot().leases, 0);
    assert_eq!(world.udp(5001, b"HELLO 0042"), "OK 0042 127.0.0.1 5001");
}

#[test]
fn a_server_can_insist_on_four_digits() {
    let mut world = World::new(Config {
        shape: IdShape::FourDigits,
        ..Config::default()
    });
    assert_eq!(world.udp(5001, b"HELLO 42"), "");
    assert!(matches!(
        world.notes[..],
        [Note::Malformed {
            why: Malformed::Shape,
            ..
        }]
    ));
    assert_eq!(world.udp(5001, b"HELLO 0042"), "OK 0042 127.0.0.1 5001");
}

#[test]
fn datagrams_and_connections_share_one_table() {
    let mut world = classic();
    world.udp(5001, b"HELLO 0042");
    world.accept(1);
    assert_eq!(
        world.tcp(1, b"HELLO 0042"),
        ["send 1 RESET 0042", "finish 1"]
    );
    world.accept(2);
    assert_eq!(
        world.tcp(2, b"HELLO 0043"),
        ["send 2 OK 0043 127.0.0.1 6000", "finish 2"]
    );
    assert_eq!(world.udp(5001, b"HELLO 0043"), "RESET 0043");
}

#[test]
fn a_connection_is_answered_without_newline_or_end() {
    let mut world = classic();
    world.accept(1);
    for piece in ["H", "ELL", "O", " ", "00", "4"] {
        assert_eq!(world.tcp(1, piece.as_bytes()), NOTHING, "{piece}");
    }
    assert_eq!(
        world.tcp(1, b"2"),
        ["send 1 OK 0042 127.0.0.1 6000", "finish 1"]
    );
    assert_eq!(
        world.tcp(1, b"HELLO 0043"),
        NOTHING,
        "one request, one reply"
    );
    assert_eq!(world.end(1), NOTHING);
    assert_eq!(world.server.snapshot().connections, 0);
}

#[test]
fn an_id_that_could_still_grow_is_answered_when_it_has_settled() {
    let mut world = classic();
    world.accept(1);
    assert_eq!(world.tcp(1, b"HELLO 4"), NOTHING);
    world.at(0.2);
    assert_eq!(world.tcp(1, b"2"), NOTHING);
    assert_eq!(world.reason(), Some(Reason::Connection));
    assert_eq!(world.at(0.4).due(), NOTHING);
    assert_eq!(
        world.at(0.5).due(),
        ["send 1 OK 42 127.0.0.1 6000", "finish 1"]
    );
    world.accept(2);
    assert_eq!(
        world.tcp(2, b"HELLO 43\n"),
        ["send 2 OK 43 127.0.0.1 6000", "finish 2"]
    );
    world.accept(3);
    assert_eq!(world.tcp(3, b"HELLO 44"), NOTHING);
    assert_eq!(world.end(3), ["send 3 OK 44 127.0.0.1 6000", "finish 3"]);
}

#[test]
fn stopping_lets_waiting_clients_go() {
    let mut world = classic();
    world.accept(1);
    world.accept(2);
    world.tcp(2, b"HELLO 0042");
    assert_eq!(world.handle(Input::Stop), ["close 1"]);
}

#[test]
fn a_malformed_connection_is_closed_without_a_reply() {
    let mut world = classic();
    world.accept(1);
    assert_eq!(world.tcp(1, b"GET / HTTP/1.1\r\n"), ["finish 1"]);
    assert_eq!(world.end(1), NOTHING);
    world.accept(2);
    assert_eq!(world.end(2), ["finish 2"], "nothing at all");
    world.accept(3);
    world.tcp(3, b"HELLO ");
    assert_eq!(world.end(3), ["finish 3"], "half a request");
    world.accept(4);
    assert_eq!(world.tcp(4, &[b' '; 512]), ["finish 4"], "too long");
    assert_eq!(world.server.snapshot().malformed, 4);
}

#[test]
fn a_silent_connection_is_overdue_and_a_drip_does_not_help_it() {
    let mut world = classic();
    world.accept(1);
    assert_eq!(world.at(20.0).tcp(1, b"HEL"), NOTHING);
    assert_eq!(world.at(29.9).due(), NOTHING);
    assert_eq!(world.at(30.0).due(), ["close 1"]);
    assert!(matches!(world.notes[..], [Note::Overdue { .. }]));
    assert_eq!(world.tcp(1, b"LO 0042"), NOTHING, "too late, and harmless");
}

#[test]
fn the_oldest_connection_makes_room_for_a_new_one() {
    let mut world = World::new(Config {
        conns_max: 2,
        ..Config::default()
    });
    assert_eq!(world.accept(1), NOTHING);
    assert_eq!(world.accept(2), NOTHING);
    assert_eq!(world.accept(3), ["close 1"]);
    assert!(matches!(world.notes[..], [Note::Displaced { .. }]));
    assert_eq!(
        world.tcp(3, b"HELLO 0042"),
        ["send 3 OK 0042 127.0.0.1 6000", "finish 3"]
    );
    let closed = Input::Closed {
        id: ConnectionId(2),
    };
    assert_eq!(world.handle(closed), NOTHING);
    assert_eq!(world.server.snapshot().connections, 0);
}

#[test]
fn under_protect_the_owner_may_ask_again() {
    let mut world = protected(16);
    let padded = b"HELLO 0042 ...............................................";
    assert_eq!(world.udp(5001, padded), "OK 0042 127.0.0.1 5001");
    assert_eq!(world.at(20.0).udp(5001, padded), "OK 0042 127.0.0.1 5001");
    assert_eq!(world.at(20.0).udp(5002, padded), "RESET 0042");
    assert_eq!(
        world.at(30.0).udp(5002, padded),
        "OK 0042 127.0.0.1 5002",
        "not prolonged"
    );
}

#[test]
fn under_protect_no_reply_is_longer_than_its_request() {
    let mut world = protected(16);
    assert_eq!(world.udp(5001, b"HELLO 0042"), "RESET 0042");
    assert!(matches!(
        world.notes[..],
        [Note::Refused {
            why: Refusal::ShortRequest,
            ..
        }]
    ));
    assert_eq!(world.server.snapshot().leases, 0, "nothing is booked");
    assert_eq!(world.udp(5001, b"HELLO 0042 .........."), "RESET 0042");
    assert_eq!(
        world.udp(5001, b"HELLO 0042 ..........."),
        "OK 0042 127.0.0.1 5001"
    );
    assert_eq!(
        world.udp(5001, b"HELLO 0042"),
        "RESET 0042",
        "even to the owner"
    );
    world.accept(1);
    assert_eq!(
        world.tcp(1, b"HELLO 0043"),
        ["send 1 OK 0043 127.0.0.1 6000", "finish 1"]
    );
}

#[test]
fn under_protect_a_source_holds_only_so_many_leases() {
    let mut world = protected(2);
    let ask = |world: &mut World, ip: [u8; 4], id: u16| {
        let bytes = format!("HELLO {id:04} {}", ".".repeat(REPLY_BYTES_MAX));
        world.udp_from(SocketAddr::from((ip, 9)), bytes.as_bytes())
    };
    assert_eq!(ask(&mut world, [10, 0, 0, 1], 1), "OK 0001 10.0.0.1 9");
    world.at(10.0);
    assert_eq!(ask(&mut world, [10, 0, 0, 1], 2), "OK 0002 10.0.0.1 9");
    assert_eq!(ask(&mut world, [10, 0, 0, 1], 3), "RESET 0003");
    assert_eq!(ask(&mut world, [10, 0, 0, 2], 3), "OK 0003 10.0.0.2 9");
    world.at(30.0);
    assert_eq!(ask(&mut world, [10, 0, 0, 1], 4), "OK 0004 10.0.0.1 9");
    assert_eq!(ask(&mut world, [10, 0, 0, 1], 5), "RESET 0005");
}

#[test]
fn a_clock_that_steps_back_changes_nothing() {
    let mut world = classic();
    world.at(50.0).udp(5001, b"HELLO 0042");
    world.at(10.0).udp(5001, b"HELLO 0043");
    assert_eq!(world.at(79.9).udp(5001, b"HELLO 0043"), "RESET 0043");
    assert_eq!(
        world.at(80.0).udp(5001, b"HELLO 0042"),
        "OK 0042 127.0.0.1 5001"
    );
}

#[test]
fn a_million_sources_and_ids_grow_nothing_beyond_the_limit() {
    for protect in [
        None,
        Some(Protect {
            leases_per_source: 4,
        }),
    ] {
        let mut world = World::new(Config {
            protect,
            ..Config::default()
        });
        let reserved = world.server.leases.reserved_bytes();
        for number in 0..1_000_000_u32 {
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            let bytes = format!("HELLO {number:x} {}", ".".repeat(60));
            world.udp_from(SocketAddr::from((ip, 9)), bytes.as_bytes());
        }
        assert_eq!(world.server.snapshot().leases, 10_000);
        assert_eq!(world.server.leases.reserved_bytes(), reserved);
        // A leaf of the tree of sources takes 160 bytes and holds at least 6 of 11 pairs; a tenth
        // more for the nodes above.
        let sources_bytes = world.server.snapshot().sources * 30;
        assert!(
            reserved + sources_bytes < 1 << 20,
            "{reserved} + {sources_bytes}"
        );
        let later = world
            .at(30.0)
            .udp(5001, b"HELLO 0042 ..............................");
        assert_eq!(later, "OK 0042 127.0.0.1 5001", "and it recovers");
        assert_eq!(world.server.snapshot().leases, 1);
    }
}

proptest! {
    /// Against the course's own words, written down as a map from id to the end of its lease.
    #[test]
    fn behaves_like_the_plain_description(
        steps in proptest::collection::vec((0_u32..8, 0_u64..12_000, any::<bool>()), 0..200),
    ) {
        let mut world = classic();
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        let mut now_ms = 0;
        for (conn, (id, wait_ms, by_tcp)) in (0_u64..).zip(steps) {
            now_ms += wait_ms;
            world.now = Moment::after_origin(Duration::from_millis(now_ms));
            let request = format!("HELLO {id:04}");
            let (got, port) = if by_tcp {
                world.accept(conn);
                let got = world.tcp(conn, request.as_bytes());
                prop_assert_eq!(got.len(), 2);
                (got[0].replace(&format!("send {conn} "), ""), 6000)
            } else {
                (world.udp(5001, request.as_bytes()), 5001)
            };
            let free = model.get(&id).is_none_or(|ends| *ends <= now_ms);
            if free {
                model.insert(id, now_ms + 30_000);
                prop_assert_eq!(got, format!("OK {id:04} 127.0.0.1 {port}"));
            } else {
                prop_assert_eq!(got, format!("RESET {id:04}"));
            }
        }
    }

    /// Nothing that strangers send, in any order, breaks the machine or leaves it without a limit.
    #[test]
    fn any_input_in_any_order(
        steps in proptest::collection::vec(
            (0_u8..6, 0_u64..6, proptest::collection::vec(any::<u8>(), 1..40), 0_u64..5_000),
            0..200,
        ),
        protect in any::<bool>(),
    ) {
        let mut world = World::new(Config {
            conns_max: 4,
            leases_max: 8,
            protect: protect.then_some(Protect { leases_per_source: 3 }),
            ..Config::default()
        });
        let mut now_ms = 0;
        let mut opened = 0;
        for (kind, which, bytes, wait_ms) in steps {
            now_ms += wait_ms;
            world.now = Moment::after_origin(Duration::from_millis(now_ms));
            let id = ConnectionId(opened - which.min(opened));
            let peer = SocketAddr::from(([127, 0, 0, 1], u16::from(bytes[0])));
            let hello = [&b"HELLO "[..], &bytes].concat();
            let bytes = if bytes[0] % 2 == 0 { &hello } else { &bytes };
            let input = match kind {
                0 | 1 => Input::Datagram { from: peer, local: HERE, bytes },
                2 => {
                    opened += 1;
                    Input::Opened { id: ConnectionId(opened), peer, local: HERE }
                }
                3 => Input::Received { id, bytes },
                4 => Input::Ended { id },
                _ => Input::Closed { id },
            };
            world.handle(input);
            let snapshot = world.server.snapshot();
            prop_assert!(snapshot.connections <= 4 && snapshot.leases <= 8);
            let deadline = world.server.deadline().expect("it has not ended");
            prop_assert!(deadline.at > world.now || deadline.reason == Reason::Idle);
        }
    }
}
