//! One try of the hello client: a new socket, one request, one reply, one time limit for all of it.
//!
//! Plain and blocking, because there is nothing else to do meanwhile. Prompts, prints and the
//! number of tries are the roof's. It acts on the reply, not on the end of the stream, since some
//! servers leave the connection open (hello-25).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use ahoy_logic::hello::Transport;
use ahoy_wire::hello::{Fault, HelloId, MESSAGE_BYTES_MAX, Part, REPLY_BYTES_MAX, Reply, Request};

/// How long a reply that could still grow is left open: a port of fewer than five digits.
const SETTLE: Duration = Duration::from_millis(200);

/// Under `protect`, the first wait before a datagram is sent again; each wait doubles the last.
const RESEND: Duration = Duration::from_millis(500);

/// Whom to ask, and how.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The server.
    pub server: SocketAddr,
    /// By datagram or by connection.
    pub transport: Transport,
    /// The limit for a whole try (hello-27).
    pub reply: Duration,
    /// Speak to a server under `--protect`: datagrams are padded (hello-36) and sent again while
    /// there is no reply, which only such a server answers alike (hello-34).
    pub protect: bool,
}

/// Why a try has failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server says that the id is in use.
    #[error("the id is in use")]
    Reset,
    /// No reply came in time.
    #[error("no reply within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The server closed the connection without a whole reply.
    #[error("the server closed the connection without a reply")]
    Closed,
    /// What came is no reply.
    #[error("the reply is malformed: {0}")]
    Malformed(Fault),
    /// The reply is to another request.
    #[error("the reply is about another id: {0}")]
    OtherId(HelloId),
    /// The server cannot be reached.
    #[error(transparent)]
    Io(io::Error),
}

impl Ask {
    /// Asks for `id` once and gives back our own address as the server sees it.
    ///
    /// # Errors
    /// Every [`Failure`]; it never takes longer than the limit.
    pub fn once(&self, id: HelloId) -> Result<SocketAddr, Failure> {
        let ends = Instant::now() + self.reply;
        let reply = match self.transport {
            Transport::Udp => self.by_datagram(id, ends),
            Transport::Tcp => self.by_connection(id, ends),
        }?;
        match reply {
            Reply::Ok { client, .. } => Ok(client),
            Reply::Reset { .. } => Err(Failure::Reset),
        }
    }

    /// The request is the plain one (hello-23, hello-38) unless the server asks for more; a reply
    /// to another id is waited out (hello-41).
    fn by_datagram(&self, id: HelloId, ends: Instant) -> Result<Reply, Failure> {
        let any: SocketAddr = match self.server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(Failure::Io)?;
        // Connected, the socket takes datagrams from the server only, and hears of a closed port.
        socket.connect(self.server).map_err(Failure::Io)?;
        let mut request = Vec::new();
        if self.protect {
            Request { id }.encode_padded(REPLY_BYTES_MAX, &mut request);
        } else {
            Request { id }.encode(&mut request);
        }
        socket.send(&request).map_err(Failure::Io)?;
        let mut wait = RESEND;
        let mut resend = self.protect.then(|| Instant::now() + wait);
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        loop {
            let left = self.left(ends)?;
            let until_resend = resend.map(|at| at.saturating_duration_since(Instant::now()));
            let patience = until_resend.map_or(left, |until| until.min(left));
            let patience = patience.max(Duration::from_millis(1));
            socket
                .set_read_timeout(Some(patience))
                .map_err(Failure::Io)?;
            match socket.recv(&mut buffer) {
                // Anything else is a late reply to somebody else, or a prank: wait on.
                Ok(len) => match Reply::from_whole(&buffer[..len]) {
                    Ok(reply) if *reply.id() == id => return Ok(reply),
                    Ok(_) | Err(_) => {}
                },
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(Failure::Io(error)),
            }
            if resend.is_some_and(|at| at <= Instant::now()) {
                wait *= 2;
                resend = Some(Instant::now() + wait);
                socket.send(&request).map_err(Failure::Io)?;
            }
        }
    }

    fn by_connection(&self, id: HelloId, ends: Instant) -> Result<Reply, Failure> {
        let timed = |error: io::Error| {
            if is_pause(&error) {
                Failure::TimedOut(self.reply)
            } else {
                Failure::Io(error)
            }
        };
        let mut stream =
            TcpStream::connect_timeout(&self.server, self.left(ends)?).map_err(timed)?;
        let here = stream.local_addr().map_err(Failure::Io)?;
        let mut request = Vec::new();
        Request { id }.encode(&mut request);
        stream
            .set_write_timeout(Some(self.left(ends)?))
            .map_err(Failure::Io)?;
        stream.write_all(&request).map_err(timed)?;
        // Some servers read until the end of the stream (hello-24). That the server has already
        // answered and closed is no fault.
        let _ = stream.shutdown(Shutdown::Write);
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let mut len = 0;
        let reply = loop {
            let mut patience = self.left(ends)?;
            let open = match Reply::from_part(&buffer[..len]) {
                Part::Whole(reply) => break reply,
                Part::Open(reply) if is_about(&reply, here) => break reply,
                Part::Open(reply) => {
                    patience = patience.min(SETTLE);
                    Some(reply)
                }
                Part::Incomplete => None,
                Part::Invalid(fault) => return Err(Failure::Malformed(fault)),
            };
            stream
                .set_read_timeout(Some(patience))
                .map_err(Failure::Io)?;
            match stream.read(&mut buffer[len..]) {
                Ok(0) if len == 0 => return Err(Failure::Closed),
                Ok(0) => break Reply::from_whole(&buffer[..len]).map_err(Failure::Malformed)?,
                Ok(more) => len += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_pause(&error) => match open {
                    Some(reply) => break reply,
                    None => return Err(Failure::TimedOut(self.reply)),
                },
                Err(error) => return Err(Failure::Io(error)),
            }
        };
        if *reply.id() == id {
            Ok(reply)
        } else {
            Err(Failure::OtherId(*reply.id()))
        }
    }

    /// What is left of the try, never zero.
    fn left(&self, ends: Instant) -> Result<Duration, Failure> {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::TimedOut(self.reply));
        }
        Ok(left.max(Duration::from_millis(1)))
    }
}

/// Whether an `OK` names our own end of the connection: then its port is complete.
fn is_about(reply: &Reply, here: SocketAddr) -> bool {
    match reply {
        Reply::Ok { client, .. } => {
            client.port() == here.port() && client.ip() == here.ip().to_canonical()
        }
        Reply::Reset { .. } => false,
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
