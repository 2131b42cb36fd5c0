//! Echo's decisions (spec/echo.md): what goes back, who is dropped for silence, how it stops.
//!
//! This is the smallest machine of the house and the one to read first. It keeps one entry for each
//! connection and nothing for datagrams, and it never looks into the bytes. How many connections
//! there may be, and what happens to a peer that does not read, is the business of the loop that
//! drives it.

use core::net::SocketAddr;
use std::time::Duration;

use crate::expiring::ExpiringMap;
use crate::machine::{ConnectionId, Input, Machine, Outbox};
use crate::moment::{Deadline, Moment};

/// What the owner of an echo server can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A connection on which nothing was received for this long is closed (echo-9).
    pub idle_max: Duration,
    /// At most this many connections are served at once; the loop must not accept more.
    pub connections_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle_max: Duration::from_secs(300),
            connections_max: 1024,
        }
    }
}

/// The echo service.
#[derive(Debug)]
pub struct Echo {
    connections: ExpiringMap<ConnectionId, Connection>,
    idle_max: Duration,
}

#[derive(Debug)]
struct Connection {
    peer: SocketAddr,
    received_bytes: u64,
}

/// What an observer of the server would want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A client connected.
    Connected {
        /// Its address.
        peer: SocketAddr,
    },
    /// A connection ended.
    Disconnected {
        /// The client's address.
        peer: SocketAddr,
        /// How many bytes it had sent.
        received_bytes: u64,
    },
    /// A connection was closed because nothing came.
    Idle {
        /// The client's address.
        peer: SocketAddr,
    },
    /// A datagram was sent back.
    Datagram {
        /// The client's address.
        peer: SocketAddr,
        /// The size of the datagram, in bytes.
        len: usize,
    },
    /// A datagram was left unanswered, because the answer could go round for ever.
    Ignored {
        /// The source address it bore.
        peer: SocketAddr,
    },
}

/// Why echo wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A connection will have been silent for too long.
    Idle,
}

impl Echo {
    /// An echo service without connections.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            connections: ExpiringMap::new(options.connections_max),
            idle_max: options.idle_max,
        }
    }

    fn opened(&mut self, now: Moment, id: ConnectionId, peer: SocketAddr, out: &mut Outbox<Note>) {
        let connection = Connection {
            peer,
            received_bytes: 0,
        };
        match self.connections.insert(id, connection, now + self.idle_max) {
            Ok(_) => out.note(Note::Connected { peer }),
            Err(_full) => out.close(id),
        }
    }

    /// echo-1, echo-2: back it goes, at once.
    fn received(&mut self, now: Moment, id: ConnectionId, bytes: &[u8], out: &mut Outbox<Note>) {
        let Some(connection) = self.connections.get_mut(&id, now) else {
            return;
        };
        connection.received_bytes += bytes.len() as u64;
        self.connections.renew(&id, now, now + self.idle_max);
        out.send(id, bytes.to_vec());
    }

    /// echo-5, echo-8: one datagram back for each that came, unless its source is a trap: our own
    /// address, or port 0, which nobody can own.
    fn datagram(from: SocketAddr, local: SocketAddr, bytes: &[u8], out: &mut Outbox<Note>) {
        if from == local || from.port() == 0 {
            out.note(Note::Ignored { peer: from });
            return;
        }
        out.datagram(local, from, bytes.to_vec());
        out.note(Note::Datagram {
            peer: from,
            len: bytes.len(),
        });
    }

    fn closed(&mut self, id: ConnectionId, out: &mut Outbox<Note>) {
        if let Some(connection) = self.connections.remove(&id) {
            out.note(Note::Disconnected {
                peer: connection.peer,
                received_bytes: connection.received_bytes,
            });
        }
    }

    /// echo-9: silence has a limit.
    fn due(&mut self, now: Moment, out: &mut Outbox<Note>) {
        while let Some((id, connection)) = self.connections.expire_one(now) {
            out.note(Note::Idle {
                peer: connection.peer,
            });
            out.close(id);
        }
    }

    fn stop(&mut self, now: Moment, out: &mut Outbox<Note>) {
        for (id, _) in self.connections.iter(now) {
            out.finish(*id);
        }
    }
}

impl Machine for Echo {
    type Note = Note;
    type Reason = Reason;

    fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Outbox<Note>) {
        match input {
            Input::Datagram { from, local, bytes } => Self::datagram(from, local, bytes, out),
            Input::Opened { id, peer, .. } => self.opened(now, id, peer, out),
            Input::Received { id, bytes } => self.received(now, id, bytes, out),
            // echo-3: what is still on its way back goes first.
            Input::Ended { id } => out.finish(id),
            Input::Closed { id } => self.closed(id, out),
            Input::Due => self.due(now, out),
            Input::Stop => self.stop(now, out),
        }
    }

    fn deadline(&self) -> Option<Deadline<Reason>> {
        let at = self.connections.deadline()?;
        Some(Deadline {
            at,
            reason: Reason::Idle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Effect;

    const ID: ConnectionId = ConnectionId(1);
    const HERE: &str = "127.0.0.1:65432";
    const THERE: &str = "127.0.0.1:51234";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("a valid address")
    }

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN + Duration::from_secs(seconds)
    }

    /// Everything a fresh server with one connection and a limit of 10 s does on `inputs`.
    fn effects(inputs: &[(u64, Input<'_>)]) -> Vec<Effect<Note>> {
        let mut echo = Echo::new(Options {
            idle_max: Duration::from_secs(10),
            connections_max: 1,
        });
        let mut out = Outbox::new();
        let opened = Input::Opened {
            id: ID,
            peer: addr(THERE),
            local: addr(HERE),
        };
        echo.handle(at(0), opened, &mut out);
        assert_eq!(
            out.pop(),
            Some(Effect::Note(Note::Connected { peer: addr(THERE) }))
        );
        for (seconds, input) in inputs {
            echo.handle(at(*seconds), *input, &mut out);
        }
        out.drain().collect()
    }

    #[test]
    fn what_comes_goes_back_at_once_and_the_end_comes_last() {
        let inputs = [
            (
                1,
                Input::Received {
                    id: ID,
                    bytes: b"no newline",
                },
            ),
            (2, Input::Ended { id: ID }),
            (2, Input::Closed { id: ID }),
        ];
        let gone = Note::Disconnected {
            peer: addr(THERE),
            received_bytes: 10,
        };
        assert_eq!(
            effects(&inputs),
            [
                Effect::Send {
                    id: ID,
                    bytes: b"no newline".to_vec()
                },
                Effect::Finish { id: ID },
                Effect::Note(gone),
            ]
        );
    }

    #[test]
    fn silence_ends_a_connection_and_talk_prolongs_it() {
        let inputs = [
            (
                9,
                Input::Received {
                    id: ID,
                    bytes: b"a",
                },
            ),
            (18, Input::Due),
            (19, Input::Due),
        ];
        let idle = Note::Idle { peer: addr(THERE) };
        assert_eq!(
            effects(&inputs),
            [
                Effect::Send {
                    id: ID,
                    bytes: b"a".to_vec()
                },
                Effect::Note(idle),
                Effect::Close { id: ID },
            ]
        );
    }

    #[test]
    fn a_datagram_goes_back_to_its_source_even_when_empty() {
        for bytes in [&b""[..], b"x", &[0; 1500]] {
            let input = Input::Datagram {
                from: addr(THERE),
                local: addr(HERE),
                bytes,
            };
            let back = Effect::Datagram {
                to: addr(THERE),
                local: addr(HERE),
                bytes: bytes.to_vec(),
            };
            assert_eq!(effects(&[(0, input)])[0], back);
        }
    }

    #[test]
    fn a_datagram_that_would_go_round_for_ever_stays_unanswered() {
        for from in [HERE, "127.0.0.1:0"] {
            let input = Input::Datagram {
                from: addr(from),
                local: addr(HERE),
                bytes: b"x",
            };
            let ignored = Note::Ignored { peer: addr(from) };
            assert_eq!(effects(&[(0, input)]), [Effect::Note(ignored)]);
        }
    }

    #[test]
    fn stopping_finishes_what_is_open() {
        assert_eq!(effects(&[(1, Input::Stop)]), [Effect::Finish { id: ID }]);
    }
}
