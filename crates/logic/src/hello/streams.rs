//! The connections of the hello server: requests that come in pieces, and silence with a limit.
//!
//! A connection is here until its request is whole, hopeless or overdue; then it is finished and
//! forgotten, and whatever else its client sends is not looked at. How a finished connection is
//! closed so that the reply is not lost is the business of the loop (hello-12).

use std::net::SocketAddr;

use ahoy_wire::hello::{Part, Reply, Request};

use super::note::Note;
use super::{Asked, Out, Server, Transport};
use crate::expiring::ExpiringMap;
use crate::machine::ConnectionId;
use crate::moment::Moment;

/// Every connection without an answer, oldest first, with the end of our patience.
pub(super) struct Streams {
    conns: ExpiringMap<ConnectionId, Conn>,
}

struct Conn {
    from: SocketAddr,
    overdue: Moment,
    /// The request so far: less than a whole one, hence less than `MESSAGE_BYTES_MAX`.
    bytes: Vec<u8>,
}

impl Streams {
    pub(super) fn new(conns_max: usize) -> Self {
        Self {
            conns: ExpiringMap::new(conns_max.max(1)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.conns.len()
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.conns.deadline()
    }

    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.conns.remove(&id);
    }
}

impl Server {
    pub(super) fn opened(&mut self, id: ConnectionId, from: SocketAddr, out: &mut Out) {
        self.heard = self.now;
        let conns = &mut self.streams.conns;
        if conns.len() >= conns.len_max() {
            self.displace_oldest(out);
        }
        let overdue = self.now + self.config.request;
        let conn = Conn {
            from,
            overdue,
            bytes: Vec::new(),
        };
        if self.streams.conns.insert(id, conn, overdue).is_err() {
            debug_assert!(false, "the oldest has just made room");
            out.close(id);
        }
    }

    /// Pieces add up to one request (hello-11), which is answered when it is whole (hello-10).
    /// What cannot become one ends the connection (hello-14).
    pub(super) fn received(&mut self, id: ConnectionId, bytes: &[u8], out: &mut Out) {
        let Some(conn) = self.streams.conns.get_mut(&id, self.now) else {
            return; // Answered already; one connection carries one request.
        };
        let from = conn.from;
        let overdue = conn.overdue;
        // Nearly every request comes in one piece and is never copied.
        let part = if conn.bytes.is_empty() {
            let part = Request::from_part(bytes);
            if matches!(part, Part::Open(_) | Part::Incomplete) {
                conn.bytes.extend_from_slice(bytes);
            }
            part
        } else {
            conn.bytes.extend_from_slice(bytes);
            Request::from_part(&conn.bytes)
        };
        match part {
            Part::Whole(request) => self.answer(id, from, request, out),
            Part::Open(_) => {
                let settled = (self.now + self.config.settle).min(overdue);
                self.streams.conns.renew(&id, self.now, settled);
            }
            Part::Incomplete => {
                self.streams.conns.renew(&id, self.now, overdue);
            }
            Part::Invalid(fault) => {
                self.malformed(from, Transport::Tcp, fault.into(), out);
                self.finish(id, None, out);
            }
        }
    }

    /// The client will send no more: what there is, is all there is.
    pub(super) fn ended(&mut self, id: ConnectionId, out: &mut Out) {
        let Some(conn) = self.streams.conns.remove(&id) else {
            return;
        };
        match Request::from_whole(&conn.bytes) {
            Ok(request) => self.answer(id, conn.from, request, out),
            Err(fault) => {
                self.malformed(conn.from, Transport::Tcp, fault.into(), out);
                self.finish(id, None, out);
            }
        }
    }

    /// Every connection whose patience has run out: a settled request is answered, a silent
    /// connection is closed (hello-20).
    pub(super) fn sweep_streams(&mut self, out: &mut Out) {
        while let Some((id, conn)) = self.streams.conns.expire_one(self.now) {
            match Request::from_part(&conn.bytes) {
                Part::Whole(request) | Part::Open(request) => {
                    self.answer(id, conn.from, request, out);
                }
                Part::Incomplete | Part::Invalid(_) => {
                    self.note(out, Note::Overdue { client: conn.from });
                    out.close(id);
                }
            }
        }
    }

    /// Lets every client go that has not asked for anything yet.
    pub(super) fn stop(&mut self, out: &mut Out) {
        for (id, _) in self.streams.conns.iter(self.now) {
            out.close(*id);
        }
    }

    /// Room for a newer connection: the oldest is the one that has been silent for longest.
    fn displace_oldest(&mut self, out: &mut Out) {
        let oldest = self.streams.conns.iter(self.now).next();
        if let Some((id, client)) = oldest.map(|(id, conn)| (*id, conn.from)) {
            self.note(out, Note::Displaced { client });
            self.streams.forget(id);
            out.close(id);
        }
    }

    fn answer(&mut self, id: ConnectionId, from: SocketAddr, request: Request, out: &mut Out) {
        self.heard = self.now;
        let asked = Asked {
            id: request.id,
            from,
            transport: Transport::Tcp,
            // A connection cannot be made with a forged source, so nothing is amplified.
            reply_bytes_max: None,
        };
        let reply = self.decide(asked, out);
        self.finish(id, reply, out);
    }

    fn finish(&mut self, id: ConnectionId, reply: Option<Reply>, out: &mut Out) {
        self.streams.forget(id);
        if let Some(reply) = reply {
            out.send(id, super::encoded(&reply));
        }
        out.finish(id);
    }
}
