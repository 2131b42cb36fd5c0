//! Binds the sockets that services are handed. Services never bind: so a test can give them any
//! free port, a supervisor can pass sockets in, and "port in use" is said before anything has
//! started.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted, unless the service says otherwise.
pub const BACKLOG_DEFAULT: u32 = 1024;

/// Room for datagrams that arrive while others are served, in bytes; the system may allow less.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How often a free port is sought that both transports can have.
const PAIR_TRIES_MAX: usize = 16;

/// A TCP listener on `addr`; at most `backlog` connections wait to be accepted.
///
/// A wildcard IPv6 address also takes IPv4 clients.
///
/// # Errors
/// What the system says: in use, not ours, not allowed.
pub fn tcp(addr: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
    // A port whose last connections are still in TIME_WAIT is free for the next server.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// A UDP socket on `addr`; a wildcard IPv6 address also takes IPv4 clients.
///
/// # Errors
/// What the system says: in use, not ours, not allowed.
pub fn udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
    crate::datagram::ask_for_destinations(&socket, addr)?;
    // Less of it is a slower server under a burst, not a broken one.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Both on one port; with port 0, on one that is free for both.
///
/// # Errors
/// What the system says: in use, not ours, not allowed.
pub fn pair(addr: SocketAddr, backlog: u32) -> io::Result<(TcpListener, UdpSocket)> {
    let tries_max = if addr.port() == 0 { PAIR_TRIES_MAX } else { 1 };
    let mut tries = 1;
    loop {
        let listener = tcp(addr, backlog)?;
        match udp(listener.local_addr()?) {
            Ok(datagrams) => return Ok((listener, datagrams)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries < tries_max => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_shares_its_port_and_a_taken_port_is_said() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("valid");
        let (listener, datagrams) = pair(any, 10).expect("there are free ports");
        let addr = listener.local_addr().expect("bound");
        assert_eq!(datagrams.local_addr().expect("bound"), addr);
        assert_eq!(
            tcp(addr, 10).expect_err("taken").kind(),
            ErrorKind::AddrInUse
        );
        assert_eq!(udp(addr).expect_err("taken").kind(), ErrorKind::AddrInUse);
    }
}
