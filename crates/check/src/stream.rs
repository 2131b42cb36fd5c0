//! A TCP conversation as a case holds it: every step has a deadline and goes into the transcript.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use crate::attempt::{Attempt, left, shown, try_again};
use crate::case::Failure;

/// One TCP connection to the examined side. Dropped, it closes.
#[derive(Debug)]
pub struct Stream<'a> {
    socket: TcpStream,
    attempt: &'a Attempt,
}

/// What one read brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes, at least one.
    Bytes(Vec<u8>),
    /// The other side has finished sending, cleanly.
    End,
    /// The other side has torn the connection down.
    Reset,
    /// Nothing until the deadline.
    Nothing,
}

impl<'a> Stream<'a> {
    /// Connects to `addr`.
    ///
    /// # Errors
    /// Broken, if nobody accepts in time.
    pub fn connect(attempt: &'a Attempt, addr: SocketAddr) -> Result<Self, Failure> {
        let deadline = attempt.reply_deadline()?;
        let wait = left(deadline).ok_or_else(|| Failure::broken("no time left to connect"))?;
        let socket = TcpStream::connect_timeout(&addr, wait)
            .map_err(|error| Failure::broken(format!("cannot connect to {addr}: {error}")))?;
        Self::adopt(attempt, socket)
    }

    /// Takes over a connection that was accepted from the examined client.
    ///
    /// # Errors
    /// Broken, if the socket is already unusable.
    pub fn adopt(attempt: &'a Attempt, socket: TcpStream) -> Result<Self, Failure> {
        let ready = socket
            .set_nodelay(true)
            .and_then(|()| socket.set_nonblocking(false));
        ready.map_err(|error| Failure::broken(format!("the connection is unusable: {error}")))?;
        Ok(Self { socket, attempt })
    }

    /// The attempt that it belongs to.
    #[must_use]
    pub fn attempt(&self) -> &'a Attempt {
        self.attempt
    }

    /// Our own address on this connection.
    ///
    /// # Errors
    /// Broken, if the connection is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, Failure> {
        let addr = self.socket.local_addr();
        addr.map_err(|error| Failure::broken(format!("the connection is gone: {error}")))
    }

    /// The address of the other side.
    ///
    /// # Errors
    /// Broken, if the connection is gone.
    pub fn peer_addr(&self) -> Result<SocketAddr, Failure> {
        let addr = self.socket.peer_addr();
        addr.map_err(|error| Failure::broken(format!("the connection is gone: {error}")))
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// Broken, if the other side does not take them in time or has closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.attempt.sent(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let deadline = self.attempt.reply_deadline()?;
            match self.write_once(rest, deadline) {
                Ok(0) => return Err(Failure::broken("the connection takes no more bytes")),
                Ok(taken) => rest = &rest[taken..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let sent = bytes.len() - rest.len();
                    let why = format!("sending stopped after {sent} bytes: {error}");
                    return Err(Failure::broken(why));
                }
            }
        }
        Ok(())
    }

    /// Says that we send no more; reading goes on.
    ///
    /// # Errors
    /// Broken, if the other side has torn the connection down.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.attempt.note("> end of stream".to_owned());
        let done = self.socket.shutdown(Shutdown::Write);
        done.map_err(|error| Failure::broken(format!("the connection was torn down: {error}")))
    }

    /// Waits until `deadline` for whatever comes next, at most `bytes_max` bytes of it.
    pub fn arrival(&mut self, bytes_max: usize, deadline: Instant) -> Arrival {
        let arrival = self.arrival_unnoted(bytes_max, deadline);
        match &arrival {
            Arrival::Bytes(bytes) => self.attempt.received(bytes),
            Arrival::End => self.attempt.note("< end of stream".to_owned()),
            Arrival::Reset => self.attempt.note("< reset".to_owned()),
            Arrival::Nothing => self.attempt.note("< (nothing)".to_owned()),
        }
        arrival
    }

    /// Receives until `enough` says so; it sees everything received so far after each read.
    ///
    /// `awaited` says what is waited for, for the report. At most `bytes_max` bytes are received.
    ///
    /// # Errors
    /// Broken, if the stream ends, falls silent or exceeds `bytes_max` before.
    pub fn receive_until(
        &mut self,
        awaited: &str,
        bytes_max: usize,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while !enough(&all) {
            let room = bytes_max - all.len();
            if room == 0 {
                return Err(missing(awaited, &all, "and that is already too much"));
            }
            let deadline = self.attempt.reply_deadline()?;
            match self.arrival(room, deadline) {
                Arrival::Bytes(bytes) => all.extend_from_slice(&bytes),
                Arrival::End => return Err(missing(awaited, &all, "then the end of the stream")),
                Arrival::Reset => return Err(missing(awaited, &all, "then a reset")),
                Arrival::Nothing => return Err(missing(awaited, &all, "then nothing in time")),
            }
        }
        Ok(all)
    }

    /// Receives exactly `len` bytes.
    ///
    /// # Errors
    /// Broken, if fewer come before the end, a reset or a silence.
    pub fn receive_exact(&mut self, len: usize) -> Result<Vec<u8>, Failure> {
        self.receive_until(&format!("{len} bytes"), len, |all| all.len() >= len)
    }

    /// Receives everything until the other side ends its stream; at most `bytes_max` bytes.
    ///
    /// # Errors
    /// Broken, if the stream does not end in time, is reset, or is longer than `bytes_max`.
    pub fn receive_to_end(&mut self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        loop {
            let deadline = self.attempt.reply_deadline()?;
            match self.arrival(bytes_max + 1 - all.len(), deadline) {
                Arrival::Bytes(bytes) => all.extend_from_slice(&bytes),
                Arrival::End => return Ok(all),
                Arrival::Reset => {
                    return Err(missing("the end of the stream", &all, "then a reset"));
                }
                Arrival::Nothing => {
                    return Err(missing(
                        "the end of the stream",
                        &all,
                        "then nothing in time",
                    ));
                }
            }
            if all.len() > bytes_max {
                let why = format!("and that is more than {bytes_max} bytes");
                return Err(missing("the end of the stream", &all, &why));
            }
        }
    }

    /// Waits for the other side to close, cleanly or not, without sending anything more.
    ///
    /// # Errors
    /// Broken, if bytes come instead, or nothing happens until the reply limit.
    pub fn expect_end(&mut self) -> Result<(), Failure> {
        let deadline = self.attempt.reply_deadline()?;
        match self.arrival(SURPLUS_BYTES_MAX, deadline) {
            Arrival::End | Arrival::Reset => Ok(()),
            Arrival::Bytes(bytes) => Err(missing("the end of the stream", &bytes, "instead")),
            Arrival::Nothing => Err(Failure::broken(
                "the other side kept the connection open; it should close it",
            )),
        }
    }

    /// Makes sure that nothing comes for the limit called `quiet` and the connection stays open.
    ///
    /// # Errors
    /// Broken, if something comes, even an end.
    pub fn expect_silence(&mut self) -> Result<(), Failure> {
        let deadline = self.attempt.deadline_in(self.attempt.limits.quiet)?;
        match self.arrival(SURPLUS_BYTES_MAX, deadline) {
            Arrival::Nothing => Ok(()),
            Arrival::Bytes(bytes) => Err(missing("silence", &bytes, "instead")),
            Arrival::End => Err(Failure::broken("expected silence, but the stream ended")),
            Arrival::Reset => Err(Failure::broken(
                "expected silence, but the stream was reset",
            )),
        }
    }

    /// A second handle on the same connection, for a thread that sends while this one receives.
    ///
    /// # Errors
    /// Broken, if the process has no descriptor left.
    pub fn second_handle(&self) -> Result<Stream<'a>, Failure> {
        let socket = self.socket.try_clone();
        let socket =
            socket.map_err(|error| Failure::broken(format!("no second handle: {error}")))?;
        Ok(Stream {
            socket,
            attempt: self.attempt,
        })
    }

    fn write_once(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        let wait = left(deadline).ok_or(ErrorKind::TimedOut)?;
        self.socket.set_write_timeout(Some(wait))?;
        self.socket.write(bytes)
    }

    fn arrival_unnoted(&mut self, bytes_max: usize, deadline: Instant) -> Arrival {
        let mut buffer = vec![0; bytes_max.min(READ_BYTES_MAX)];
        loop {
            let Some(wait) = left(deadline) else {
                return Arrival::Nothing;
            };
            let read = self
                .socket
                .set_read_timeout(Some(wait))
                .and_then(|()| self.socket.read(&mut buffer));
            match read {
                Ok(0) => return Arrival::End,
                Ok(len) => {
                    buffer.truncate(len);
                    return Arrival::Bytes(buffer);
                }
                Err(error) if try_again(&error) => {}
                Err(_) => return Arrival::Reset,
            }
        }
    }
}

/// One read takes at most this many bytes.
const READ_BYTES_MAX: usize = 64 * 1024;

/// This much is read of what should not have come, to show it.
const SURPLUS_BYTES_MAX: usize = 1024;

fn missing(awaited: &str, received: &[u8], then: &str) -> Failure {
    Failure::broken(format!(
        "expected {awaited}; received {}, {then}",
        shown(received)
    ))
}
