//! Many datagrams in one system call, each with the address it came to: recvmmsg and sendmmsg.
//!
//! The safe wrappers at hand cover half of this: none sends a batch in which each datagram has a
//! source of its own. So this is the one module of the loops that calls the C library: two calls
//! and nothing else. Addresses and control messages are read and written here as bytes, in safe
//! code; what is unsafe is only to hand the kernel pointers into buffers that this module owns. It
//! waits for nothing and decides nothing; [`crate::datagram`] does the first and the machine the
//! second.
#![expect(
    unsafe_code,
    reason = "sendmmsg and recvmmsg have no complete safe wrapper"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// The most datagrams that one call moves.
pub(crate) const BATCH_MAX: usize = 64;

/// Room for a socket address of either family.
const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Room for one control message with a destination address of either family.
const CONTROL_BYTES: usize = 64;
/// A control message's own header.
const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; NAME_BYTES]);

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Buffers for the datagrams of one receiving call.
pub(crate) struct Incoming {
    names: Box<[Name; BATCH_MAX]>,
    controls: Box<[Control; BATCH_MAX]>,
    bytes: Box<[u8]>,
    lens: [Lens; BATCH_MAX],
    datagram_bytes_max: usize,
}

/// Datagrams that wait to be sent together.
pub(crate) struct Outgoing {
    names: Box<[Name; BATCH_MAX]>,
    controls: Box<[Control; BATCH_MAX]>,
    lens: [Lens; BATCH_MAX],
    bytes: Vec<Vec<u8>>,
    /// The socket is of IPv6, and wants every address in that form.
    wide: bool,
}

#[derive(Clone, Copy, Default)]
struct Lens {
    name: usize,
    control: usize,
    bytes: usize,
}

/// One datagram as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    /// Its source; IPv4 also where the socket is of IPv6.
    pub(crate) from: SocketAddr,
    /// The address of ours that it came to, if the kernel was asked to say so. For a broadcast that
    /// is the one to answer from.
    pub(crate) local: Option<IpAddr>,
    /// Its bytes, cut at the limit.
    pub(crate) bytes: &'a [u8],
}

impl Incoming {
    /// Room for a batch; what is longer than `datagram_bytes_max` (at least 1) is cut.
    pub(crate) fn new(datagram_bytes_max: usize) -> Self {
        let datagram_bytes_max = datagram_bytes_max.max(1);
        Self {
            names: Box::new([Name([0; NAME_BYTES]); BATCH_MAX]),
            controls: Box::new([Control([0; CONTROL_BYTES]); BATCH_MAX]),
            bytes: vec![0; BATCH_MAX * datagram_bytes_max].into_boxed_slice(),
            lens: [Lens::default(); BATCH_MAX],
            datagram_bytes_max,
        }
    }

    /// Takes in what is there, at most [`BATCH_MAX`] datagrams, and says how many. Never waits.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; else what the kernel says.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut parts = [empty_part(); BATCH_MAX];
        let mut headers = [empty_header(); BATCH_MAX];
        let buffers = self.bytes.chunks_exact_mut(self.datagram_bytes_max);
        for (index, buffer) in buffers.enumerate() {
            parts[index].iov_base = buffer.as_mut_ptr().cast();
            parts[index].iov_len = buffer.len();
            let header = &mut headers[index].msg_hdr;
            header.msg_iov = &raw mut parts[index];
            header.msg_iovlen = 1;
            header.msg_name = self.names[index].0.as_mut_ptr().cast();
            header.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: every header points to a buffer, a name and a control area of the stated lengths;
        // all of them, and `parts`, are owned by this call or by `self`, outlive the call, are
        // borrowed by nothing else, and accept any bytes. The count is that of `headers`.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH_MAX as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, lens) in headers[..count].iter().zip(&mut self.lens) {
            *lens = Lens {
                name: header.msg_hdr.msg_namelen as usize,
                control: header.msg_hdr.msg_controllen as _,
                bytes: header.msg_len as usize,
            };
        }
        Ok(count)
    }

    /// The datagram at `index` of the last [`receive`](Self::receive); None if its source is not an
    /// internet address, which does not happen.
    pub(crate) fn datagram(&self, index: usize) -> Option<Datagram<'_>> {
        let lens = self.lens[index];
        let start = index * self.datagram_bytes_max;
        let control = self.controls[index].0.get(..lens.control)?;
        Some(Datagram {
            from: read_name(self.names[index].0.get(..lens.name)?)?,
            local: read_destination(control),
            bytes: self.bytes.get(start..start + lens.bytes)?,
        })
    }
}

impl Outgoing {
    /// An empty batch for a socket of IPv6 (`wide`) or IPv4.
    pub(crate) fn new(wide: bool) -> Self {
        Self {
            names: Box::new([Name([0; NAME_BYTES]); BATCH_MAX]),
            controls: Box::new([Control([0; CONTROL_BYTES]); BATCH_MAX]),
            lens: [Lens::default(); BATCH_MAX],
            bytes: Vec::with_capacity(BATCH_MAX),
            wide,
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there is no room for another datagram.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() == BATCH_MAX
    }

    /// Queues a datagram to `to`, from `source` or from where the kernel likes. The batch must not
    /// be full.
    pub(crate) fn push(&mut self, source: Option<IpAddr>, to: SocketAddr, bytes: Vec<u8>) {
        debug_assert!(!self.is_full(), "a full batch is sent first");
        let index = self.bytes.len();
        let name = write_name(to, self.wide, &mut self.names[index]);
        let control = source.map_or(0, |ip| {
            write_source(ip, self.wide, &mut self.controls[index])
        });
        self.lens[index] = Lens {
            name,
            control,
            bytes: bytes.len(),
        };
        self.bytes.push(bytes);
    }

    /// Sends everything that waits and says how many datagrams could not be sent: one that the
    /// kernel refuses is left out; when the socket takes no more, the rest is dropped, as a network
    /// would. Never waits.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let count = self.bytes.len();
        let mut at = 0;
        let mut lost = 0;
        while at < count {
            match self.send_from(socket, at) {
                Ok(sent @ 1..) => at += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    lost += count - at;
                    at = count;
                }
                // The error is the first datagram's: an unreachable address, a firewall.
                Ok(0) | Err(_) => {
                    lost += 1;
                    at += 1;
                }
            }
        }
        self.bytes.clear();
        lost
    }

    fn send_from(&mut self, socket: BorrowedFd<'_>, at: usize) -> io::Result<usize> {
        let mut parts = [empty_part(); BATCH_MAX];
        let mut headers = [empty_header(); BATCH_MAX];
        let end = self.bytes.len();
        for (place, index) in (at..end).enumerate() {
            let lens = self.lens[index];
            parts[place].iov_base = self.bytes[index].as_mut_ptr().cast();
            parts[place].iov_len = lens.bytes;
            let header = &mut headers[place].msg_hdr;
            header.msg_iov = &raw mut parts[place];
            header.msg_iovlen = 1;
            header.msg_name = self.names[index].0.as_mut_ptr().cast();
            header.msg_namelen = lens.name as libc::socklen_t;
            if lens.control > 0 {
                header.msg_control = self.controls[index].0.as_mut_ptr().cast();
                header.msg_controllen = lens.control as _;
            }
        }
        // SAFETY: as in `receive`; the kernel only reads here, but for the lengths in `headers`, of
        // which `end - at`, at most `BATCH_MAX`, were filled in.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                (end - at) as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn empty_part() -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: a C struct of integers and pointers, for all of which zero is a value; some C
    // libraries pad it with private fields, so it cannot be written as a literal.
    unsafe { std::mem::zeroed() }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`: family and scope in host order, the rest as on the
/// wire.
fn read_name(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(part(bytes, 0)?));
    let port = u16::from_be_bytes(part(bytes, 2)?);
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = part(bytes, 4)?;
            Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(part::<16>(bytes, 8)?);
            let scope = u32::from_ne_bytes(part(bytes, 24)?);
            Some(match ip.to_canonical() {
                IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
                IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
            })
        }
        _ => None,
    }
}

/// Writes a `sockaddr_in6` if the socket is of IPv6, else a `sockaddr_in`; gives back its length.
fn write_name(to: SocketAddr, wide: bool, name: &mut Name) -> usize {
    let out = &mut name.0;
    out.fill(0);
    let port = to.port().to_be_bytes();
    out[2..4].copy_from_slice(&port);
    match (to, wide) {
        // An IPv6 address on an IPv4 socket is refused by the kernel, and rightly.
        (SocketAddr::V4(to), false) => {
            out[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            out[4..8].copy_from_slice(&to.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        (to, _) => {
            out[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            out[8..24].copy_from_slice(&wide_ip(to.ip()).octets());
            if let SocketAddr::V6(to) = to {
                out[24..28].copy_from_slice(&to.scope_id().to_ne_bytes());
            }
            NAME_BYTES
        }
    }
}

/// Finds the destination of a datagram among its control messages.
fn read_destination(mut control: &[u8]) -> Option<IpAddr> {
    while control.len() >= HEADER_BYTES {
        let len = usize::from_ne_bytes(part(control, 0)?);
        let level = i32::from_ne_bytes(part(control, size_of::<usize>())?);
        let kind = i32::from_ne_bytes(part(control, size_of::<usize>() + 4)?);
        let data = control.get(HEADER_BYTES..len)?;
        match (level, kind) {
            // ipi_ifindex, ipi_spec_dst (the address that we would answer from), ipi_addr.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                return known(Ipv4Addr::from(part::<4>(data, 4)?).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                return known(Ipv6Addr::from(part::<16>(data, 0)?).to_canonical());
            }
            _ => control = control.get(len.next_multiple_of(align_of::<usize>())..)?,
        }
    }
    None
}

/// The kernel names the unspecified address where it does not know better.
fn known(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified()).then_some(ip)
}

/// Writes the control message that makes a datagram leave from `ip`; gives back its length.
fn write_source(ip: IpAddr, wide: bool, control: &mut Control) -> usize {
    let out = &mut control.0;
    out.fill(0);
    let (level, kind, data_len) = match (ip, wide) {
        (IpAddr::V4(ip), false) => {
            out[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&ip.octets());
            let data_len = size_of::<libc::in_pktinfo>();
            (libc::IPPROTO_IP, libc::IP_PKTINFO, data_len)
        }
        (ip, _) => {
            out[HEADER_BYTES..HEADER_BYTES + 16].copy_from_slice(&wide_ip(ip).octets());
            let data_len = size_of::<libc::in6_pktinfo>();
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data_len)
        }
    };
    const WORD: usize = size_of::<usize>();
    out[..WORD].copy_from_slice(&(HEADER_BYTES + data_len).to_ne_bytes());
    out[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
    out[WORD + 4..WORD + 8].copy_from_slice(&kind.to_ne_bytes());
    HEADER_BYTES + data_len.next_multiple_of(align_of::<usize>())
}

fn wide_ip(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn part<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..at + LEN)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let here = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let there = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let addr = here.local_addr().expect("bound");
        there.connect(addr).expect("UDP connects at once");
        (here, there)
    }

    #[test]
    fn a_full_batch_comes_in_order_and_long_datagrams_are_cut() {
        let (here, there) = pair();
        for number in 0..=BATCH_MAX as u8 {
            there.send(&[number; 40]).expect("loopback takes it");
        }
        let mut incoming = Incoming::new(16);
        assert_eq!(
            incoming.receive(here.as_fd()).expect("they are there"),
            BATCH_MAX
        );
        for number in 0..BATCH_MAX {
            let got = incoming.datagram(number).expect("an internet address");
            assert_eq!(got.bytes, [number as u8; 16]);
            assert_eq!(got.from, there.local_addr().expect("bound"));
            assert_eq!(got.local, None, "nobody asked for it");
        }
        assert_eq!(incoming.receive(here.as_fd()).expect("the last one"), 1);
        let empty = incoming.receive(here.as_fd()).expect_err("nothing is left");
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn one_bad_destination_does_not_hold_up_the_others() {
        let (here, there) = pair();
        let to = there.local_addr().expect("bound");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut outgoing = Outgoing::new(false);
        for to in [nowhere, to, nowhere] {
            outgoing.push(None, to, b"x".to_vec());
        }
        assert_eq!(outgoing.send(here.as_fd()), 2);
        assert!(outgoing.is_empty());
        let mut reply = [0; 16];
        assert_eq!(there.recv(&mut reply).expect("a datagram"), 1);
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for (addr, wide) in [
            ("10.1.2.3:4", false),
            ("10.1.2.3:4", true),
            ("[2001:db8::1]:65535", true),
            ("[fe80::1%7]:1", true),
        ] {
            let addr: SocketAddr = addr.parse().expect("an address");
            let mut name = Name([0xff; NAME_BYTES]);
            let len = write_name(addr, wide, &mut name);
            assert_eq!(read_name(&name.0[..len]), Some(addr));
            let mut control = Control([0xff; CONTROL_BYTES]);
            let len = write_source(addr.ip(), wide, &mut control);
            assert_eq!(read_destination(&control.0[..len]), Some(addr.ip()));
        }
        assert_eq!(read_name(&[]), None);
        assert_eq!(read_name(&[0xff; NAME_BYTES]), None);
        assert_eq!(read_destination(&[0; CONTROL_BYTES]), None);
        assert_eq!(read_destination(&[0xff; CONTROL_BYTES]), None);
    }
}
