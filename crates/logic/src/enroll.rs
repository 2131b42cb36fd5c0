//! Enroll's decisions (spec/enroll.md): greet, take registrations, acknowledge, survive the rest.
//!
//! One connection brings any number of registrations, each answered as soon as it is whole, until
//! its client ends it. What cannot be understood, or must not be, costs that client its connection
//! and nobody else anything: each has its own inbox and its own deadline, so none waits for another
//! and no byte of one reaches another (enroll-2). Whether clients are served one at a time (lab 3)
//! or many at once (lab 4) is only the number of connections that the loop may accept.
//!
//! A registration is told as a [`Note`] before it is acknowledged, in the order of the outbox, so
//! that a driver who keeps records can have it on disk before the client hears that it was taken;
//! one that cannot keep it drops the connection instead (enroll-23). Console and records are not
//! known here.

use core::net::SocketAddr;
use std::time::Duration;

use ahoy_wire::enroll::{Fault, Registration, ack, greeting};
use ahoy_wire::pickle::{Invalid, Unpickler};

use crate::expiring::ExpiringMap;
use crate::machine::{ConnectionId, Input, Machine, Outbox};
use crate::moment::{Deadline, Moment};

/// What the owner of an enroll server can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// At most this many clients are served at once; the loop must not accept more. 1 is lab 3.
    pub clients_max: usize,
    /// A client whose next registration is not complete after this long is dropped (enroll-13).
    pub idle_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clients_max: 1000,
            idle_max: Duration::from_secs(60),
        }
    }
}

/// The enroll service.
#[derive(Debug)]
pub struct Enroll {
    clients: ExpiringMap<ConnectionId, Client>,
    idle_max: Duration,
}

#[derive(Debug)]
struct Client {
    peer: SocketAddr,
    inbox: Unpickler,
    registrations: u64,
}

/// What an observer of the server would want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A client connected and was greeted.
    Connected {
        /// Its address; the port is its id.
        peer: SocketAddr,
    },
    /// A client registered. The acknowledgement follows.
    Registered {
        /// Its connection.
        id: ConnectionId,
        /// Its address.
        peer: SocketAddr,
        /// What it said.
        registration: Registration,
    },
    /// A client was dropped for what it sent.
    Refused {
        /// Its address.
        peer: SocketAddr,
        /// What was wrong.
        reason: Refusal,
    },
    /// A client was dropped because its next registration did not come.
    Idle {
        /// Its address.
        peer: SocketAddr,
    },
    /// A client ended its connection, or lost it.
    Disconnected {
        /// Its address.
        peer: SocketAddr,
        /// How many registrations it had sent.
        registrations: u64,
    },
}

/// What was wrong with what a client sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No pickle, or none that may be read.
    #[error(transparent)]
    Pickle(#[from] Invalid),
    /// A pickle of something else.
    #[error(transparent)]
    Message(#[from] Fault),
    /// The client stopped sending in the middle.
    #[error("the connection ended in the middle of a pickle")]
    Cut,
}

/// Why enroll wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A client will have been silent for too long.
    Idle,
}

impl Enroll {
    /// An enroll service without clients.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            clients: ExpiringMap::new(options.clients_max),
            idle_max: options.idle_max,
        }
    }

    /// enroll-4: the server speaks first.
    fn opened(&mut self, now: Moment, id: ConnectionId, peer: SocketAddr, out: &mut Outbox<Note>) {
        let client = Client {
            peer,
            inbox: Unpickler::default(),
            registrations: 0,
        };
        match self.clients.insert(id, client, now + self.idle_max) {
            Ok(_) => {
                out.note(Note::Connected { peer });
                out.send(id, greeting(peer.port()));
            }
            Err(_full) => out.close(id),
        }
    }

    /// enroll-7, enroll-8: each registration that is whole is answered, in order; the rest waits.
    fn received(&mut self, now: Moment, id: ConnectionId, bytes: &[u8], out: &mut Outbox<Note>) {
        let Some(client) = self.clients.get_mut(&id, now) else {
            return;
        };
        client.inbox.push(bytes);
        let before = client.registrations;
        loop {
            match client.next_registration() {
                Ok(Some(registration)) => {
                    client.registrations += 1;
                    let peer = client.peer;
                    out.note(Note::Registered {
                        id,
                        peer,
                        registration,
                    });
                    out.send(id, ack());
                }
                Ok(None) => break,
                Err(reason) => {
                    self.refuse(id, reason, out);
                    return;
                }
            }
        }
        // enroll-13: only a whole registration buys more time, a trickle of bytes does not.
        if client.registrations > before {
            self.clients.renew(&id, now, now + self.idle_max);
        }
    }

    /// enroll-10, enroll-12: that client is dropped, nobody else notices.
    fn refuse(&mut self, id: ConnectionId, reason: Refusal, out: &mut Outbox<Note>) {
        if let Some(client) = self.clients.remove(&id) {
            let peer = client.peer;
            out.note(Note::Refused { peer, reason });
            out.finish(id);
        }
    }

    /// enroll-9: until the client ends it, and then at once.
    fn ended(&mut self, now: Moment, id: ConnectionId, out: &mut Outbox<Note>) {
        match self.clients.get(&id, now) {
            Some(client) if client.inbox.is_midway() => self.refuse(id, Refusal::Cut, out),
            _ => out.finish(id),
        }
    }

    fn closed(&mut self, id: ConnectionId, out: &mut Outbox<Note>) {
        if let Some(client) = self.clients.remove(&id) {
            out.note(Note::Disconnected {
                peer: client.peer,
                registrations: client.registrations,
            });
        }
    }

    fn due(&mut self, now: Moment, out: &mut Outbox<Note>) {
        while let Some((id, client)) = self.clients.expire_one(now) {
            out.note(Note::Idle { peer: client.peer });
            out.close(id);
        }
    }
}

impl Client {
    fn next_registration(&mut self) -> Result<Option<Registration>, Refusal> {
        match self.inbox.pop()? {
            Some(value) => Ok(Some(Registration::read(&value)?)),
            None => Ok(None),
        }
    }
}

impl Machine for Enroll {
    type Note = Note;
    type Reason = Reason;

    fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Outbox<Note>) {
        match input {
            // Enroll is spoken over TCP only.
            Input::Datagram { .. } => {}
            Input::Opened { id, peer, .. } => self.opened(now, id, peer, out),
            Input::Received { id, bytes } => self.received(now, id, bytes, out),
            Input::Ended { id } => self.ended(now, id, out),
            Input::Closed { id } => self.closed(id, out),
            Input::Due => self.due(now, out),
            Input::Stop => {
                for (id, _) in self.clients.iter(now) {
                    out.finish(*id);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Deadline<Reason>> {
        let at = self.clients.deadline()?;
        let reason = Reason::Idle;
        Some(Deadline { at, reason })
    }
}

#[cfg(test)]
mod tests {
    use ahoy_wire::enroll::Sid;

    use super::*;
    use crate::machine::Effect;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    /// Two clients, A from port 51001 and B from port 51002, and a clock that the test turns.
    struct Bench {
        enroll: Enroll,
        now: Moment,
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Self {
                enroll: Enroll::new(Options {
                    clients_max: 2,
                    idle_max: Duration::from_secs(10),
                }),
                now: Moment::ORIGIN,
            };
            bench.input(opened(A));
            bench.input(opened(B));
            bench
        }

        /// What is done about `input`, each effect in a word or two.
        fn input(&mut self, input: Input<'_>) -> Vec<String> {
            let mut out = Outbox::new();
            self.enroll.handle(self.now, input, &mut out);
            out.drain().map(shown).collect()
        }

        fn received(&mut self, id: ConnectionId, bytes: &[u8]) -> Vec<String> {
            self.input(Input::Received { id, bytes })
        }

        fn wait(&mut self, seconds: u64) -> Vec<String> {
            self.now = self.now + Duration::from_secs(seconds);
            self.input(Input::Due)
        }
    }

    fn peer(id: ConnectionId) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 51_000 + u16::try_from(id.0).expect("small")))
    }

    fn opened(id: ConnectionId) -> Input<'static> {
        let local = SocketAddr::from(([127, 0, 0, 1], 12_000));
        Input::Opened {
            id,
            peer: peer(id),
            local,
        }
    }

    fn shown(effect: Effect<Note>) -> String {
        match effect {
            Effect::Send { id, bytes } if bytes == ack() => format!("ack {}", id.0),
            Effect::Send { id, bytes } if bytes == greeting(peer(id).port()) => {
                format!("greet {}", id.0)
            }
            Effect::Finish { id } => format!("finish {}", id.0),
            Effect::Close { id } => format!("close {}", id.0),
            Effect::Note(note) => match note {
                Note::Connected { peer } => format!("connected {}", peer.port()),
                Note::Registered { registration, .. } => {
                    format!("registered {}", registration.student_name)
                }
                Note::Refused { reason, .. } => format!("refused: {reason}"),
                Note::Idle { peer } => format!("idle {}", peer.port()),
                Note::Disconnected {
                    peer,
                    registrations,
                } => format!("disconnected {} after {registrations}", peer.port()),
            },
            other @ (Effect::Datagram { .. }
            | Effect::Send { .. }
            | Effect::SendShared { .. }
            | Effect::Exit) => panic!("unexpected {other:?}"),
        }
    }

    fn request(name: &str) -> Vec<u8> {
        let registration = Registration {
            student_name: name.into(),
            github_username: "abrown".into(),
            sid: Sid::Text("0042".into()),
        };
        registration.encode().expect("short")
    }

    #[test]
    fn the_server_speaks_first() {
        let mut bench = Bench::new();
        bench.input(Input::Closed { id: A });
        let third = ConnectionId(3);
        assert_eq!(bench.input(opened(third)), ["connected 51003", "greet 3"]);
        let fourth = ConnectionId(4);
        assert_eq!(
            bench.input(opened(fourth)),
            ["close 4"],
            "the loop accepted too many"
        );
    }

    #[test]
    fn a_registration_is_told_before_it_is_acknowledged() {
        let mut bench = Bench::new();
        let answer = bench.received(A, &request("Alice"));
        assert_eq!(answer, ["registered Alice", "ack 1"]);
    }

    #[test]
    fn pieces_and_heaps_are_all_the_same() {
        let mut bench = Bench::new();
        let heap = [request("Alice"), request("Bob")].concat();
        let expected = ["registered Alice", "ack 1", "registered Bob", "ack 1"];
        assert_eq!(bench.received(A, &heap), expected);
        let pieces = heap.iter().flat_map(|byte| bench.received(A, &[*byte]));
        assert_eq!(pieces.collect::<Vec<_>>(), expected);
        assert_eq!(bench.input(Input::Ended { id: A }), ["finish 1"]);
        assert_eq!(
            bench.input(Input::Closed { id: A }),
            ["disconnected 51001 after 4"]
        );
    }

    #[test]
    fn what_is_wrong_costs_its_own_client_only() {
        for (bytes, reason) in [
            (
                &b"cos\nsystem\n(S'true'\ntR."[..],
                "refused: refused GLOBAL at byte 0: only plain data is read, nothing is ever \
                 executed",
            ),
            (b"K\x01.", "refused: a registration is a dict, not int"),
            (b"}.", "refused: the registration has no student_name"),
            (
                b"\r\n",
                "refused: byte 0x0d at 0 is not a pickle instruction",
            ),
        ] {
            let mut bench = Bench::new();
            let heap = [&request("Alice"), bytes, &request("never")].concat();
            let answer = bench.received(A, &heap);
            assert_eq!(answer, ["registered Alice", "ack 1", reason, "finish 1"]);
            assert_eq!(bench.received(A, &request("never")), [""; 0]);
            assert_eq!(bench.input(Input::Ended { id: A }), ["finish 1"]);
            assert_eq!(bench.input(Input::Closed { id: A }), [""; 0]);
            assert_eq!(
                bench.received(B, &request("Bob")),
                ["registered Bob", "ack 2"]
            );
        }
    }

    #[test]
    fn an_end_in_the_middle_is_noticed() {
        let mut bench = Bench::new();
        let whole = request("Alice");
        assert_eq!(bench.received(A, &whole[..whole.len() - 1]), [""; 0]);
        assert_eq!(
            bench.input(Input::Ended { id: A }),
            [
                "refused: the connection ended in the middle of a pickle",
                "finish 1"
            ]
        );
    }

    #[test]
    fn only_a_whole_registration_buys_time() {
        let mut bench = Bench::new();
        assert_eq!(bench.wait(6), [""; 0]);
        let whole = request("Alice");
        bench.received(A, &whole);
        bench.received(B, &whole[..9]);
        assert_eq!(bench.wait(4), ["idle 51002", "close 2"]);
        assert_eq!(bench.received(B, &whole[9..]), [""; 0]);
        assert_eq!(bench.wait(5), [""; 0]);
        let deadline = bench.enroll.deadline().expect("A is still there");
        assert_eq!(deadline.at, Moment::ORIGIN + Duration::from_secs(16));
        assert_eq!(bench.wait(1), ["idle 51001", "close 1"]);
        assert_eq!(bench.enroll.deadline(), None);
    }

    #[test]
    fn stopping_finishes_what_is_open() {
        assert_eq!(Bench::new().input(Input::Stop), ["finish 1", "finish 2"]);
    }
}
