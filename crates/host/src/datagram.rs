//! The UDP loop: receives and sends datagrams for any machine (see [`crate::drive`]).
//!
//! On a wildcard address the system would choose the source of a reply by the route, which can be
//! another address than the one that was asked; so each datagram is received together with its
//! destination and answered from there. Datagrams are taken in batches, and their answers leave in
//! batches ([`crate::batch`]). One that the system cannot take at once is dropped: UDP promises
//! nothing, and a queue here would only delay what its owner will ask for again.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use ahoy_logic::machine::{Input, Machine};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use crate::batch::{BATCH_MAX, Incoming, Outgoing};
use crate::drive::Core;

/// After so many full batches in one go, the other tasks get their turn.
const BATCHES_PER_BURST: usize = 16;

/// How long receiving rests after an error that would otherwise repeat at once.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A bound UDP socket that tells and chooses the local address of each datagram.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    io: UdpSocket,
    bound: SocketAddr,
}

/// The sending side of a socket: what a batch of inputs is answered with leaves together.
pub(crate) struct Sender {
    socket: Arc<DatagramSocket>,
    outgoing: Outgoing,
}

impl DatagramSocket {
    /// Takes over a bound socket. Call it inside a tokio runtime.
    pub(crate) fn adopt(socket: std::net::UdpSocket) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?;
        ask_for_destinations(&socket, bound)?;
        let io = UdpSocket::from_std(socket)?;
        Ok(Arc::new(Self { io, bound }))
    }

    /// Whether a datagram can leave from `local` through this socket.
    fn serves(&self, local: SocketAddr) -> bool {
        let ip = canonical(self.bound).ip();
        self.bound.port() == local.port() && (ip == local.ip() || ip.is_unspecified())
    }

    /// The address to name as the source of a datagram from `local`; None if the socket has one
    /// only.
    fn source(&self, local: SocketAddr) -> Option<IpAddr> {
        (self.bound.ip().is_unspecified() && !local.ip().is_unspecified()).then(|| local.ip())
    }

    /// The datagrams of the last batch as a machine sees them.
    fn inputs<'a>(&self, incoming: &'a Incoming, count: usize) -> impl Iterator<Item = Input<'a>> {
        let bound = canonical(self.bound);
        (0..count)
            .filter_map(|index| incoming.datagram(index))
            .map(move |datagram| Input::Datagram {
                from: datagram.from,
                local: SocketAddr::new(datagram.local.unwrap_or(bound.ip()), bound.port()),
                bytes: datagram.bytes,
            })
    }
}

impl Sender {
    /// The sending side of `socket`.
    pub(crate) fn new(socket: Arc<DatagramSocket>) -> Self {
        let outgoing = Outgoing::new(socket.bound.is_ipv6());
        Self { socket, outgoing }
    }

    /// Sends what waits, straight to the system: what it does not take now is not sent at all.
    fn flush(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let lost = self.outgoing.send(self.socket.io.as_fd());
        if lost > 0 {
            tracing::trace!(lost, "datagrams dropped");
        }
    }
}

/// From now on the system tells the destination of each datagram that arrives at a socket bound to
/// all addresses (`addr` is the one it is or will be bound to). Datagrams that arrived earlier come
/// without, so ask before the socket is bound.
pub(crate) fn ask_for_destinations(socket: &impl AsFd, addr: SocketAddr) -> io::Result<()> {
    if !addr.ip().is_unspecified() {
        return Ok(());
    }
    if addr.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// Receives for ever, a burst at a time.
pub(crate) async fn receive<M: Machine>(core: Arc<Core<M>>, socket: Arc<DatagramSocket>) {
    let mut incoming = Incoming::new(core.limits.datagram_bytes_max);
    loop {
        match receive_burst(&core, &socket, &mut incoming).await {
            Ok(Left::Nothing) => {}
            Ok(Left::Perhaps) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::warn!(%error, "cannot receive; trying again");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// What a burst leaves at the socket.
enum Left {
    Nothing,
    Perhaps,
}

async fn receive_burst<M: Machine>(
    core: &Core<M>,
    socket: &DatagramSocket,
    incoming: &mut Incoming,
) -> io::Result<Left> {
    socket.io.readable().await?;
    for _ in 0..BATCHES_PER_BURST {
        let count = receive_batch(socket, incoming)?;
        if count > 0 {
            core.step_all(socket.inputs(incoming, count));
        }
        if count < BATCH_MAX {
            return Ok(Left::Nothing);
        }
    }
    Ok(Left::Perhaps)
}

/// How many datagrams were there. A batch that is not full has emptied the socket, and the runtime
/// is told so: it would otherwise have us ask the system once more, in vain, before each wait.
fn receive_batch(socket: &DatagramSocket, incoming: &mut Incoming) -> io::Result<usize> {
    let fd = socket.io.as_fd();
    let mut count = 0;
    let received = socket.io.try_io(Interest::READABLE, || {
        count = incoming.receive(fd)?;
        if count < BATCH_MAX {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match received {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Ok(count),
    }
}

/// Queues one datagram from `local` at the socket among `senders` that can send it.
pub(crate) fn send(senders: &mut [Sender], local: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
    let able = |sender: &&mut Sender| sender.socket.serves(local);
    let Some(sender) = senders.iter_mut().find(able) else {
        tracing::debug!(%local, %to, "no socket to send from");
        return;
    };
    if sender.outgoing.is_full() {
        sender.flush();
    }
    let source = sender.socket.source(local);
    sender.outgoing.push(source, to, bytes);
}

/// Sends everything that is queued.
pub(crate) fn flush(senders: &mut [Sender]) {
    for sender in senders {
        sender.flush();
    }
}

/// An IPv4 address that came in IPv6 clothes, undressed; any other as it is.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), addr.port()),
        IpAddr::V6(_) => addr,
    }
}
