//! How much may be on its way to a peer.
//!
//! What was sent stays in the socket's send buffer until the peer's system has confirmed it, so a
//! connection sends at most one buffer in each round trip. Linux lets the buffer grow to 4 MiB by
//! itself, which is 40 MB/s where the way takes 100 ms. Asked for more it gives twice
//! `net.core.wmem_max`, or what one wants to a process with the right to (`CAP_NET_ADMIN`), and
//! stops adapting it. What is in the buffer and not sent yet is bounded apart from that
//! (`TCP_NOTSENT_LOWAT`): whatever is more urgent has to wait for it.

use std::fs;
use std::io;

use socket2::SockRef;

/// The send buffer that is asked for, in bytes as Linux counts: with its own bookkeeping.
const SEND_BYTES: usize = 32 << 20;

/// Most bytes that wait in the system for their turn to be sent.
const UNSENT_BYTES_MAX: u32 = 1 << 20;

/// The largest send buffer that this process can get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// What it grows to by itself; `None` where that is not known, and nothing is asked for.
    grows_to: Option<usize>,
    /// What may be asked for without any right.
    free_to_ask: usize,
}

impl Window {
    /// As this system has it; to be looked at before the process is confined.
    pub(super) fn of_this_system() -> Self {
        let read = |name| fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default();
        Self::told(&read("ipv4/tcp_wmem"), &read("core/wmem_max"))
    }

    fn told(tcp_wmem: &str, wmem_max: &str) -> Self {
        let last = |text: &str| text.split_whitespace().last()?.parse().ok();
        Self {
            grows_to: last(tcp_wmem),
            free_to_ask: last(wmem_max).unwrap_or(0).saturating_mul(2),
        }
    }

    /// Makes room in a socket, as far as that is more than it would get by itself.
    ///
    /// # Errors
    /// The socket is none.
    pub(super) fn open(self, socket: SockRef<'_>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
        let Some(grows_to) = self.grows_to.filter(|size| *size < SEND_BYTES) else {
            return Ok(());
        };
        // Linux takes twice of what it is told.
        let wanted = SEND_BYTES / 2;
        #[cfg(target_os = "linux")]
        if rustix::net::sockopt::set_socket_send_buffer_size_force(&*socket, wanted).is_ok() {
            return Ok(());
        }
        if self.free_to_ask > grows_to {
            socket.set_send_buffer_size(wanted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn buffer(window: Window) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        window.open(SockRef::from(&stream)).expect("a socket");
        SockRef::from(&stream).send_buffer_size().expect("a size")
    }

    #[test]
    fn what_the_system_says_is_understood() {
        let window = Window::told("4096\t16384\t4194304\n", "212992\n");
        let known = Window {
            grows_to: Some(4_194_304),
            free_to_ask: 425_984,
        };
        assert_eq!(window, known);
        assert_eq!(Window::told("", "many"), Window::default());
    }

    #[test]
    fn no_socket_gets_less_than_it_would_by_itself() {
        let untouched = buffer(Window::default());
        let system = Window::of_this_system();
        let opened = buffer(system);
        assert!(opened == untouched || Some(opened) > system.grows_to);
        let large = Window {
            grows_to: Some(SEND_BYTES),
            free_to_ask: usize::MAX,
        };
        assert_eq!(buffer(large), untouched);
    }
}
