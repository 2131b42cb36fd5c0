//! The UDP loop: receives and sends datagrams for any machine (see [`crate::drive`]).
//!
//! On a wildcard address the system would choose the source of a reply by the route, which can be
//! another address than the one that was asked; so each datagram is received together with its
//! destination and answered from there. A datagram that the system cannot take at once is dropped:
//! UDP promises nothing, and a queue here would only delay what its owner will ask for again.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use ahoy_logic::machine::{Input, Machine};
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use crate::drive::Core;

/// Larger than any UDP payload, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// After this many datagrams in one go, the other tasks get their turn.
const BURST_MAX: usize = 64;

/// How long receiving rests after an error that would otherwise repeat at once.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A bound UDP socket that tells and chooses the local address of each datagram.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    io: UdpSocket,
    bound: SocketAddr,
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

    /// One datagram: its length, its source, the address it was sent to.
    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
        let mut space = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
        self.io.try_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(buffer)];
            let fd = self.io.as_fd().as_raw_fd();
            let flags = MsgFlags::MSG_DONTWAIT;
            let got = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), flags)?;
            let from = got.address.as_ref().and_then(socket_addr);
            let from = from.ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
            let mut local = self.bound;
            for message in got.cmsgs()? {
                if let Some(ip) = destination(&message) {
                    local.set_ip(ip);
                }
            }
            Ok((got.bytes, canonical(from), canonical(local)))
        })
    }

    /// Straight to the system: what it does not take now is not sent at all.
    fn send(&self, local: SocketAddr, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let fd = self.io.as_fd().as_raw_fd();
        let parts = [IoSlice::new(bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        if self.bound.is_ipv4() {
            let (IpAddr::V4(source), SocketAddr::V4(to)) = (local.ip(), to) else {
                return Err(ErrorKind::InvalidInput.into());
            };
            let info = ipv4_source(source);
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(fd, &parts, &control, flags, Some(&SockaddrIn::from(to)))?;
        } else {
            let info = ipv6_source(local.ip());
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            let to = SockaddrIn6::from(mapped(to));
            sendmsg(fd, &parts, &control, flags, Some(&to))?;
        }
        Ok(())
    }
}

/// From now on the system tells the destination of each datagram that arrives. Datagrams that arrived
/// earlier come without, so ask before the socket is bound.
pub(crate) fn ask_for_destinations(socket: &impl AsFd, addr: SocketAddr) -> io::Result<()> {
    if addr.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// Receives for ever, a burst at a time.
pub(crate) async fn receive<M: Machine>(core: Arc<Core<M>>, socket: Arc<DatagramSocket>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        if let Err(error) = receive_burst(&core, &socket, &mut buffer).await {
            tracing::warn!(%error, "cannot receive; trying again");
            sleep(ERROR_PAUSE).await;
        }
        tokio::task::yield_now().await;
    }
}

async fn receive_burst<M: Machine>(
    core: &Core<M>,
    socket: &DatagramSocket,
    buffer: &mut [u8],
) -> io::Result<()> {
    socket.io.readable().await?;
    for _ in 0..BURST_MAX {
        match socket.try_receive(buffer) {
            Ok((len, from, local)) => {
                let bytes = &buffer[..len];
                core.step(Input::Datagram { from, local, bytes });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends one datagram from `local` through the socket among `sockets` that can.
pub(crate) fn send(
    sockets: &[Arc<DatagramSocket>],
    local: SocketAddr,
    to: SocketAddr,
    bytes: &[u8],
) {
    let Some(socket) = sockets.iter().find(|socket| socket.serves(local)) else {
        tracing::debug!(%local, %to, "no socket to send from");
        return;
    };
    if let Err(error) = socket.send(local, to, bytes) {
        tracing::trace!(%local, %to, %error, "datagram dropped");
    }
}

/// An IPv4 address that came in IPv6 clothes, undressed; any other as it is.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// The form in which an IPv6 socket wants an IPv4 address.
fn mapped(addr: SocketAddr) -> SocketAddrV6 {
    match addr {
        SocketAddr::V4(addr) => SocketAddrV6::new(addr.ip().to_ipv6_mapped(), addr.port(), 0, 0),
        SocketAddr::V6(addr) => addr,
    }
}

fn socket_addr(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|addr| SocketAddr::V4((*addr).into()));
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|addr| SocketAddr::V6((*addr).into()))
    })
}

/// The address of ours that a datagram came to, if the system tells. For a broadcast that is the
/// one to answer from.
fn destination(message: &ControlMessageOwned) -> Option<IpAddr> {
    let ip = if let ControlMessageOwned::Ipv4PacketInfo(info) = message {
        IpAddr::from(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)))
    } else if let ControlMessageOwned::Ipv6PacketInfo(info) = message {
        IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr))
    } else {
        return None;
    };
    (!ip.is_unspecified()).then_some(ip)
}

fn ipv4_source(source: Ipv4Addr) -> libc::in_pktinfo {
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from(source).to_be(),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

fn ipv6_source(source: IpAddr) -> libc::in6_pktinfo {
    let source = match source {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr {
            s6_addr: source.octets(),
        },
        ipi6_ifindex: 0,
    }
}
