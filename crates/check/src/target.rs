//! Where the examined server is: turns what the user typed into one socket address.
//!
//! A name that has addresses of both families gets its IPv4 one, because a small server usually
//! listens there only; who wants the other writes the address itself.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The address that `text` (`HOST:PORT`, `IP:PORT` or `[IPV6]:PORT`) stands for.
///
/// # Errors
/// `InvalidInput` for text without a port or with a bad one; else what the resolver says.
pub fn resolve(text: &str) -> io::Result<SocketAddr> {
    let found: Vec<SocketAddr> = text.to_socket_addrs()?.collect();
    let first_v4 = found.iter().find(|addr| addr.is_ipv4());
    first_v4
        .or(found.first())
        .copied()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_form() {
        for (text, expected) in [
            ("127.0.0.1:7", "127.0.0.1:7"),
            ("[::1]:7", "[::1]:7"),
            ("localhost:7", "127.0.0.1:7"),
        ] {
            let found = resolve(text).expect("resolves");
            assert_eq!(found.to_string(), expected, "{text}");
        }
        for text in [
            "",
            "localhost",
            "127.0.0.1",
            "127.0.0.1:70000",
            "127.0.0.1:x",
        ] {
            assert!(resolve(text).is_err(), "{text:?}");
        }
    }
}
