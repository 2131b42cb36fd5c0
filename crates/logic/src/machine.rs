//! The one shape of every socket service: `(now, input, &mut outbox)` and a deadline.
//!
//! A [`Machine`] decides; it never waits, reads a clock or touches a socket. `host` drives it from
//! real sockets, `sim` from a queue ordered by time, and neither knows which service it drives.
//! Everything the machine wants done lies in the [`Outbox`] when `handle` returns, in the order in
//! which it is to happen. Bulk data that comes from a disk does not travel this way.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::moment::{Deadline, Moment};

/// A service as a deterministic state machine.
pub trait Machine {
    /// What happened, for the console, the log and the tests; printed by whoever drives the
    /// machine.
    type Note: fmt::Debug;
    /// Why the machine wants to be woken.
    type Reason: fmt::Debug;

    /// Takes one input in and leaves everything that is to be done about it in `outbox`.
    fn handle(&mut self, now: Moment, input: Input<'_>, outbox: &mut Outbox<Self::Note>);

    /// The next moment at which [`Input::Due`] is wanted; None while nothing is waited for.
    ///
    /// After `Due` has been handled at or after that moment, the deadline must have moved on.
    fn deadline(&self) -> Option<Deadline<Self::Reason>>;
}

/// Names one TCP connection for as long as the process runs; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What can happen to a service. Addresses are canonical: an IPv4 peer of an IPv6 socket is IPv4.
///
/// For each connection the order is `Opened`, any number of `Received`, at most one `Ended`, and
/// exactly one `Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A datagram came in on the address `local`.
    Datagram {
        /// Who sent it, if the source address is to be believed.
        from: SocketAddr,
        /// The address it was sent to; a reply must leave from there.
        local: SocketAddr,
        /// The whole datagram; it can be empty.
        bytes: &'a [u8],
    },
    /// A connection was accepted.
    Opened {
        /// Its name from now on.
        id: ConnectionId,
        /// The other end.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// Bytes came in, cut wherever the network cut them; never empty.
    Received {
        /// On this connection.
        id: ConnectionId,
        /// The bytes; what is incomplete must be kept by the machine, up to a named maximum.
        bytes: &'a [u8],
    },
    /// The peer has finished sending; it may still be reading.
    Ended {
        /// On this connection.
        id: ConnectionId,
    },
    /// The connection is gone, by whichever side; nothing more can be sent on it.
    Closed {
        /// This connection.
        id: ConnectionId,
    },
    /// The deadline has come (or nearly: a machine that finds nothing due does nothing).
    Due,
    /// The service is to stop: finish what is open, start nothing new.
    Stop,
}

/// What a machine wants done. Effects on a connection that is gone are dropped without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<Note> {
    /// Send one datagram.
    Datagram {
        /// To this address.
        to: SocketAddr,
        /// From this one: the `local` of the input that it answers.
        local: SocketAddr,
        /// The whole datagram; it can be empty.
        bytes: Vec<u8>,
    },
    /// Send bytes on a connection, after everything sent on it before. Nothing is read from a
    /// connection while anything waits to be sent on it, so a peer that does not read is not fed.
    Send {
        /// The connection.
        id: ConnectionId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Like `Send`, of bytes that many connections are sent: they stand in memory once.
    SendShared {
        /// The connection.
        id: ConnectionId,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// Send what is still waiting, then close so that the peer gets to read all of it.
    Finish {
        /// The connection.
        id: ConnectionId,
    },
    /// Drop the connection now, and what was waiting to be sent on it.
    Close {
        /// The connection.
        id: ConnectionId,
    },
    /// Tell the console.
    Note(Note),
    /// The service has come to its own end: close everything, report success.
    Exit,
}

/// Effects in the order in which they are to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox<Note> {
    effects: VecDeque<Effect<Note>>,
}

impl<Note> Outbox<Note> {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self {
            effects: VecDeque::new(),
        }
    }

    /// Wants one datagram sent from `local` to `to`.
    pub fn datagram(&mut self, local: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.effects
            .push_back(Effect::Datagram { to, local, bytes });
    }

    /// Wants `bytes` sent on a connection; see [`Effect::Send`].
    pub fn send(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        self.effects.push_back(Effect::Send { id, bytes });
    }

    /// Wants `bytes` sent on a connection; see [`Effect::SendShared`].
    pub fn send_shared(&mut self, id: ConnectionId, bytes: Arc<[u8]>) {
        self.effects.push_back(Effect::SendShared { id, bytes });
    }

    /// Wants a connection closed after everything sent on it has been read; see [`Effect::Finish`].
    pub fn finish(&mut self, id: ConnectionId) {
        self.effects.push_back(Effect::Finish { id });
    }

    /// Wants a connection dropped now; see [`Effect::Close`].
    pub fn close(&mut self, id: ConnectionId) {
        self.effects.push_back(Effect::Close { id });
    }

    /// Tells the console.
    pub fn note(&mut self, note: Note) {
        self.effects.push_back(Effect::Note(note));
    }

    /// Wants the service ended; see [`Effect::Exit`].
    pub fn exit(&mut self) {
        self.effects.push_back(Effect::Exit);
    }

    /// Appends everything that another machine wants done, its notes turned into ours: for a
    /// machine that is made of others.
    pub fn append<Other>(
        &mut self,
        other: &mut Outbox<Other>,
        mut turn: impl FnMut(Other) -> Note,
    ) {
        for effect in other.drain() {
            self.effects.push_back(match effect {
                Effect::Datagram { to, local, bytes } => Effect::Datagram { to, local, bytes },
                Effect::Send { id, bytes } => Effect::Send { id, bytes },
                Effect::SendShared { id, bytes } => Effect::SendShared { id, bytes },
                Effect::Finish { id } => Effect::Finish { id },
                Effect::Close { id } => Effect::Close { id },
                Effect::Note(note) => Effect::Note(turn(note)),
                Effect::Exit => Effect::Exit,
            });
        }
    }

    /// Takes the next effect out.
    pub fn pop(&mut self) -> Option<Effect<Note>> {
        self.effects.pop_front()
    }

    /// Takes all effects out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<Note>> {
        self.effects.drain(..)
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }
}

impl<Note> Default for Outbox<Note> {
    fn default() -> Self {
        Self::new()
    }
}
