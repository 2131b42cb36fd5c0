//! A UDP conversation as a case holds it: one socket of our own, deadlines, a transcript.
//!
//! The socket is not connected, so that an answer from a wrong address is seen, not filtered out.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use crate::attempt::{Attempt, left, shown, try_again};
use crate::case::Failure;

/// Larger than any UDP payload, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// One UDP socket and the server it talks to.
#[derive(Debug)]
pub struct Datagrams<'a> {
    socket: UdpSocket,
    server: SocketAddr,
    attempt: &'a Attempt,
}

impl<'a> Datagrams<'a> {
    /// A fresh socket, thus a fresh source port, for talking to `server`.
    ///
    /// # Errors
    /// Broken, if this machine gives no socket of that family.
    pub fn open(attempt: &'a Attempt, server: SocketAddr) -> Result<Self, Failure> {
        let local: SocketAddr = if server.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(local)
            .map_err(|error| Failure::broken(format!("no UDP socket for {server}: {error}")))?;
        Ok(Self {
            socket,
            server,
            attempt,
        })
    }

    /// Takes over a bound socket, for the scripted server that a client is examined with; `server`
    /// is then the client's address.
    #[must_use]
    pub fn adopt(attempt: &'a Attempt, socket: UdpSocket, server: SocketAddr) -> Self {
        Self {
            socket,
            server,
            attempt,
        }
    }

    /// Our own port.
    ///
    /// # Errors
    /// Broken, if the socket is gone.
    pub fn local_port(&self) -> Result<u16, Failure> {
        let addr = self.socket.local_addr();
        let addr = addr.map_err(|error| Failure::broken(format!("the socket is gone: {error}")))?;
        Ok(addr.port())
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// Broken, if the system refuses it.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.attempt.sent(bytes);
        let sent = self.socket.send_to(bytes, self.server);
        sent.map(drop)
            .map_err(|error| Failure::broken(format!("cannot send to {}: {error}", self.server)))
    }

    /// Waits until `deadline` for a datagram from anyone; None if none came.
    pub fn arrival(&self, deadline: Instant) -> Option<(Vec<u8>, SocketAddr)> {
        let arrival = self.arrival_unnoted(deadline);
        match &arrival {
            Some((bytes, _)) => self.attempt.received(bytes),
            None => self.attempt.note("< (nothing)".to_owned()),
        }
        arrival
    }

    /// Waits for one datagram that must come from the server's own address.
    ///
    /// # Errors
    /// Broken, if none comes in time, or one comes from elsewhere.
    pub fn receive(&self) -> Result<Vec<u8>, Failure> {
        let Some((bytes, from)) = self.arrival(self.attempt.reply_deadline()?) else {
            let ms = self.attempt.limits.reply_max.as_millis();
            return Err(Failure::broken(format!("no answer within {ms} ms")));
        };
        if from != self.server {
            let why = format!("the answer came from {from}, not from {}", self.server);
            return Err(Failure::broken(why));
        }
        Ok(bytes)
    }

    /// Makes sure that no datagram comes for the limit called `quiet`.
    ///
    /// # Errors
    /// Broken, if one comes.
    pub fn expect_silence(&self) -> Result<(), Failure> {
        let deadline = self.attempt.deadline_in(self.attempt.limits.quiet)?;
        match self.arrival(deadline) {
            None => Ok(()),
            Some((bytes, from)) => {
                let why = format!("expected silence; received {} from {from}", shown(&bytes));
                Err(Failure::broken(why))
            }
        }
    }

    fn arrival_unnoted(&self, deadline: Instant) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let wait = left(deadline)?;
            self.socket.set_read_timeout(Some(wait)).ok()?;
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    buffer.truncate(len);
                    return Some((buffer, from));
                }
                Err(error) if try_again(&error) => {}
                Err(_) => return None,
            }
        }
    }
}
