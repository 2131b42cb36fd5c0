//! One question to a hello server, over either transport, as the cases ask it.

use std::hash::{BuildHasher, RandomState};
use std::net::{SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use ahoy_wire::hello::{MESSAGE_BYTES_MAX, Part, REPLY_BYTES_MAX, Reply};

use crate::attempt::{Attempt, shown};
use crate::case::{Failure, Outcome};
use crate::datagram::Datagrams;
use crate::hello::server::Target;
use crate::stream::{Arrival, Stream};

/// How often another id is tried where a free one is needed: strangers may hold some.
const FREE_ID_TRIES: usize = 4;

/// How a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Udp,
    Tcp,
}

/// A reply as it came, and the address that we asked from.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub bytes: Vec<u8>,
    pub ours: SocketAddr,
}

impl Answer {
    /// The reply that these bytes are.
    pub fn reply(&self) -> Result<Reply, Failure> {
        Reply::from_whole(&self.bytes).map_err(|fault| {
            let bytes = shown(&self.bytes);
            Failure::broken(format!("{bytes} is neither OK nor RESET: {fault}"))
        })
    }

    /// Makes sure that it is `OK` for `id` and names the address that we asked from.
    pub fn expect_ok(&self, id: &str) -> Outcome {
        let reply = self.reply()?;
        let Reply::Ok { id: got, client } = reply else {
            return Err(Failure::broken(format!("expected OK {id}, got RESET")));
        };
        if got.as_str() != id {
            return Err(Failure::broken(format!(
                "asked for id {id}, got OK for {got}"
            )));
        }
        if client != self.ours {
            let ours = self.ours;
            let why = format!("the client is {ours}, but the reply says {client}");
            return Err(Failure::broken(why));
        }
        Ok(())
    }

    /// Makes sure that it is `RESET` for `id`.
    pub fn expect_reset(&self, id: &str) -> Outcome {
        match self.reply()? {
            Reply::Reset { id: got } if got.as_str() == id => Ok(()),
            Reply::Reset { id: got } => {
                let why = format!("asked for id {id}, got RESET for {got}");
                Err(Failure::broken(why))
            }
            Reply::Ok { .. } => Err(Failure::broken(format!("expected RESET {id}, got OK"))),
        }
    }
}

/// Asks for `id` with the plain form of the request, from a new socket; a server with protection
/// gets the padded form.
pub(super) fn ask(
    attempt: &Attempt,
    target: &Target,
    way: Way,
    id: &str,
) -> Result<Answer, Failure> {
    let mut request = format!("HELLO {id}");
    if target.protect && way == Way::Udp {
        request.push(' ');
        request.push_str(&".".repeat(REPLY_BYTES_MAX));
    }
    ask_with(attempt, target, way, request.as_bytes())
}

/// Sends `request` from a new socket and waits for the reply.
pub(super) fn ask_with(
    attempt: &Attempt,
    target: &Target,
    way: Way,
    request: &[u8],
) -> Result<Answer, Failure> {
    let server = target.addr;
    match way {
        Way::Udp => {
            let socket = Datagrams::open(attempt, server)?;
            socket.send(request)?;
            let bytes = socket.receive()?;
            let ours = SocketAddr::new(our_ip(server)?, socket.local_port()?);
            Ok(Answer { bytes, ours })
        }
        Way::Tcp => {
            let mut stream = Stream::connect(attempt, server)?;
            stream.send(request)?;
            receive_reply(attempt, &mut stream)
        }
    }
}

/// Reads one reply from a stream: until it is whole, or until the stream ends or falls silent.
pub(super) fn receive_reply(attempt: &Attempt, stream: &mut Stream) -> Result<Answer, Failure> {
    let ours = stream.local_addr()?;
    let mut bytes = Vec::new();
    loop {
        let open = match Reply::from_part(&bytes) {
            Part::Whole(_) | Part::Invalid(_) => return Ok(Answer { bytes, ours }),
            Part::Open(Reply::Ok { client, .. }) if client == ours => {
                return Ok(Answer { bytes, ours });
            }
            Part::Open(_) => true,
            Part::Incomplete => false,
        };
        let wait = if open {
            attempt.limits.quiet
        } else {
            attempt.limits.reply_max
        };
        let arrival = stream.arrival(MESSAGE_BYTES_MAX, attempt.deadline_in(wait)?);
        match arrival {
            Arrival::Bytes(more) => bytes.extend_from_slice(&more),
            Arrival::End | Arrival::Reset | Arrival::Nothing if !bytes.is_empty() => {
                return Ok(Answer { bytes, ours });
            }
            Arrival::End => return Err(Failure::broken("the stream ended without a reply")),
            Arrival::Reset => return Err(Failure::broken("the stream was reset, no reply came")),
            Arrival::Nothing => {
                let ms = wait.as_millis();
                return Err(Failure::broken(format!("no reply within {ms} ms")));
            }
        }
    }
}

/// Finds an id that is free and takes it.
pub(super) fn take_an_id(attempt: &Attempt, target: &Target, way: Way) -> Result<String, Failure> {
    for _ in 0..FREE_ID_TRIES {
        let id = fresh_id();
        let answer = ask(attempt, target, way, &id)?;
        if let Reply::Ok { .. } = answer.reply()? {
            return Ok(id);
        }
    }
    let why = format!("RESET for {FREE_ID_TRIES} ids in a row that nobody had asked for");
    Err(Failure::broken(why))
}

/// An id of four digits that this examination has not used yet: a walk through all of them that
/// begins anywhere, so that one examination after another does not meet the leases of the first.
pub(super) fn fresh_id() -> String {
    static START: OnceLock<u32> = OnceLock::new();
    static USED: AtomicU32 = AtomicU32::new(0);
    let start = START.get_or_init(|| (RandomState::new().hash_one(0) % 10_000) as u32);
    let step = USED.fetch_add(1, Ordering::Relaxed);
    // 7919 has no factor in common with 10,000.
    format!("{:04}", (start + (step % 10_000) * 7919) % 10_000)
}

/// The address of ours that `server` sees.
pub(super) fn our_ip(server: SocketAddr) -> Result<std::net::IpAddr, Failure> {
    let unspecified = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let ours = UdpSocket::bind(unspecified)
        .and_then(|socket| socket.connect(server).map(|()| socket))
        .and_then(|socket| socket.local_addr());
    let ours = ours.map_err(|error| Failure::broken(format!("no way to {server}: {error}")))?;
    Ok(ours.ip())
}
