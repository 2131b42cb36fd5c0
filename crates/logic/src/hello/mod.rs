//! The hello server as decisions: who gets an id, for how long, and when the service ends.
//!
//! One table of leases for datagrams and connections alike (hello-17). The caller hands in what has
//! happened with the moment at which it did, carries out the outbox, and calls again with
//! [`Input::Due`] once the deadline is reached. Any input sweeps what is due, so a late call
//! changes nothing that a client can see. It knows no socket and no clock, and it does not print.

mod leases;
mod note;
mod quota;
mod streams;

use std::net::SocketAddr;
use std::time::Duration;

use ahoy_wire::hello::{HelloId, IdShape, REPLY_BYTES_MAX, Reply, Request};

use crate::machine::{Input, Machine, Outbox};
use crate::moment::{Deadline, Moment};

pub use leases::{Full, LEASES_MAX, Lease, Leases, Owner, Transport};
pub use note::{Malformed, Note, Refusal};
use quota::{Quota, Source};
use streams::Streams;

/// The times and limits of a server. `Config::default()` is the course's.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long an id is in use after it was granted (hello-15).
    pub lease: Duration,
    /// After how long without any request the service ends (hello-18); None: never.
    pub idle: Option<Duration>,
    /// How long a connection may take to bring its whole request (hello-20).
    pub request: Duration,
    /// How long a request of a connection whose id could still grow is left open (hello-10).
    pub settle: Duration,
    /// Which ids are let through (hello-5).
    pub shape: IdShape,
    /// The rules beyond the course; None, the default, is the classic server (hello-37).
    pub protect: Option<Protect>,
    /// The most ids in use at a time (hello-22).
    pub leases_max: usize,
    /// The most connections without an answer at a time; one more displaces the oldest (hello-20).
    pub conns_max: usize,
    /// Whether anybody reads the notes. Off, a datagram costs nothing but its answer.
    pub notes: bool,
}

/// What `--protect` adds: the owner of a lease may ask again (hello-34), a source holds at most so
/// many leases (hello-35), and no datagram is answered by a longer one (hello-36).
#[derive(Clone, Debug)]
pub struct Protect {
    /// The most leases of one source.
    pub leases_per_source: u32,
}

/// What falls due at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A lease ends.
    LeaseEnds,
    /// A connection is overdue, or what it brought has settled.
    Connection,
    /// The service has been idle for long enough.
    Idle,
}

/// How things stand, for logs, `--json` and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Ids in use.
    pub leases: usize,
    /// Parties that hold a lease; counted under `--protect` only.
    pub sources: usize,
    /// Connections without an answer.
    pub connections: usize,
    /// Requests answered with `OK`, in all.
    pub granted: u64,
    /// Requests answered with `RESET`, in all.
    pub refused: u64,
    /// Datagrams and connections without a request in them, in all.
    pub malformed: u64,
    /// Leases that have ended, in all.
    pub ended: u64,
}

type Out = Outbox<Note>;

/// The hello server.
pub struct Server {
    config: Config,
    leases: Leases,
    quota: Quota,
    streams: Streams,
    /// When a datagram or connection last came, whatever it brought (hello-19).
    heard: Moment,
    /// Time never runs backwards here, whatever the caller says.
    now: Moment,
    stopped: bool,
    snapshot: Snapshot,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            idle: Some(Duration::from_secs(120)),
            request: Duration::from_secs(30),
            settle: Duration::from_millis(300),
            shape: IdShape::Token,
            protect: None,
            leases_max: 10_000,
            conns_max: 1024,
            notes: true,
        }
    }
}

impl Server {
    /// A server that starts `now`; the idle time runs from here. `seed` is secret and random.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 16], now: Moment) -> Self {
        Self {
            leases: Leases::new(config.leases_max, seed),
            quota: Quota::default(),
            streams: Streams::new(config.conns_max),
            heard: now,
            now,
            stopped: false,
            snapshot: Snapshot::default(),
            config,
        }
    }

    /// How things stand.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            leases: self.leases.len(),
            sources: self.quota.sources(),
            connections: self.streams.len(),
            ..self.snapshot
        }
    }

    /// Ends the leases that are due, and the patience with connections.
    fn sweep(&mut self, out: &mut Out) {
        while let Some(lease) = self.leases.expire_one(self.now) {
            let client = lease.owner.socket_addr();
            if self.config.protect.is_some() {
                self.quota.give_back(Source::of(client));
            }
            self.snapshot.ended += 1;
            let id = lease.id;
            self.note(out, Note::Ended { id, client });
        }
        self.sweep_streams(out);
    }

    /// The service ends only when it has nothing else to do: a request that is already there is
    /// served first. An open connection is no reason to stay (hello-21).
    fn due(&mut self, out: &mut Out) {
        let Some(idle) = self.config.idle else {
            return;
        };
        if !self.stopped && self.now - self.heard >= idle {
            self.stopped = true;
            self.note(out, Note::Idle);
            out.exit();
        }
    }

    /// One reply for each request (hello-8), from the address that it came to (hello-9); nothing
    /// for anything else (hello-13).
    fn datagram(&mut self, from: SocketAddr, local: SocketAddr, bytes: &[u8], out: &mut Out) {
        self.heard = self.now;
        match Request::from_whole(bytes) {
            Ok(request) => {
                let asked = Asked {
                    id: request.id,
                    from,
                    transport: Transport::Udp,
                    reply_bytes_max: self.config.protect.as_ref().map(|_| bytes.len()),
                };
                if let Some(reply) = self.decide(asked, out) {
                    out.datagram(local, from, encoded(&reply));
                }
            }
            Err(fault) => self.malformed(from, Transport::Udp, fault.into(), out),
        }
    }

    /// The heart of it: `OK` for a free id (hello-2), `RESET` for one in use (hello-3); None if it
    /// is no id of ours.
    fn decide(&mut self, asked: Asked, out: &mut Out) -> Option<Reply> {
        let Asked {
            id,
            from,
            transport,
            ..
        } = asked;
        if !self.config.shape.admits(&id) {
            self.malformed(from, transport, Malformed::Shape, out);
            return None;
        }
        let ok = Reply::Ok { id, client: from };
        match self.judge(&asked, &ok) {
            Verdict::Grant => {
                self.snapshot.granted += 1;
                self.note(
                    out,
                    Note::Granted {
                        id,
                        client: from,
                        transport,
                    },
                );
                Some(ok)
            }
            Verdict::Repeat => {
                self.snapshot.granted += 1;
                self.note(out, Note::Repeated { id, client: from });
                Some(ok)
            }
            Verdict::Refuse(why) => {
                self.snapshot.refused += 1;
                self.note(
                    out,
                    Note::Refused {
                        id,
                        client: from,
                        transport,
                        why,
                    },
                );
                Some(Reply::Reset { id })
            }
        }
    }

    /// Decides, and books the lease if there is to be one.
    fn judge(&mut self, asked: &Asked, ok: &Reply) -> Verdict {
        let owner = Owner::new(asked.from, asked.transport);
        let in_use = self.leases.find(&asked.id, self.now).map(|it| it.owner);
        let too_long = asked
            .reply_bytes_max
            .is_some_and(|limit| encoded(ok).len() > limit);
        match (&self.config.protect, in_use) {
            (Some(_), Some(holder)) if holder == owner && !too_long => return Verdict::Repeat,
            // A RESET leaves the lease as it is: it is not prolonged (hello-16).
            (_, Some(_)) => return Verdict::Refuse(Refusal::InUse),
            (Some(_), None) if too_long => return Verdict::Refuse(Refusal::ShortRequest),
            (Some(protect), None) => {
                if self.quota.held(Source::of(asked.from)) >= protect.leases_per_source {
                    return Verdict::Refuse(Refusal::Quota);
                }
            }
            (None, None) => {}
        }
        let lease = Lease {
            ends: self.now + self.config.lease,
            id: asked.id,
            owner,
        };
        if self.leases.grant(lease).is_err() {
            return Verdict::Refuse(Refusal::TableFull);
        }
        if self.config.protect.is_some() {
            self.quota.take(Source::of(asked.from));
        }
        Verdict::Grant
    }

    fn note(&self, out: &mut Out, note: Note) {
        if self.config.notes {
            out.note(note);
        }
    }

    fn malformed(
        &mut self,
        client: SocketAddr,
        transport: Transport,
        why: Malformed,
        out: &mut Out,
    ) {
        self.snapshot.malformed += 1;
        self.note(
            out,
            Note::Malformed {
                client,
                transport,
                why,
            },
        );
    }
}

impl Machine for Server {
    type Note = Note;
    type Reason = Reason;

    fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Out) {
        self.now = self.now.max(now);
        self.sweep(out);
        match input {
            Input::Datagram { from, local, bytes } => self.datagram(from, local, bytes, out),
            Input::Opened { id, peer, .. } => self.opened(id, peer, out),
            Input::Received { id, bytes } => self.received(id, bytes, out),
            Input::Ended { id } => self.ended(id, out),
            Input::Closed { id } => self.streams.forget(id),
            Input::Due => self.due(out),
            Input::Stop => self.stop(out),
        }
    }

    fn deadline(&self) -> Option<Deadline<Reason>> {
        if self.stopped {
            return None;
        }
        let due = |at: Option<Moment>, reason| at.map(|at| Deadline { at, reason });
        let idle_at = self.config.idle.map(|idle| self.heard + idle);
        let lease = due(self.leases.deadline(), Reason::LeaseEnds);
        let conn = due(self.streams.deadline(), Reason::Connection);
        let idle = due(idle_at, Reason::Idle);
        Deadline::earlier(Deadline::earlier(idle, lease), conn)
    }
}

/// A request, and what bounds the answer.
#[derive(Clone, Copy)]
struct Asked {
    id: HelloId,
    from: SocketAddr,
    transport: Transport,
    /// None: any reply may be sent.
    reply_bytes_max: Option<usize>,
}

enum Verdict {
    Grant,
    Repeat,
    Refuse(Refusal),
}

fn encoded(reply: &Reply) -> Vec<u8> {
    let mut out = Vec::with_capacity(REPLY_BYTES_MAX);
    reply.encode(&mut out);
    out
}

#[cfg(test)]
mod tests;
