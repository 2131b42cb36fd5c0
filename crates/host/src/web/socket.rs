//! A connection's socket, plain or under TLS, for a loop that never blocks.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// Plain bytes that TLS may hold encrypted but unsent, in bytes.
const TLS_BUFFER_LEN_MAX: usize = 128 * 1024;

/// What one attempt to move bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many, at least one.
    Bytes(usize),
    /// None now; the socket will tell when.
    Blocked,
    /// The peer ended its side. Only from receiving.
    End,
    /// The connection is of no use any more.
    Broken,
}

/// A connected socket that does not block.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    tls: Option<Box<ServerConnection>>,
}

impl Socket {
    /// Wraps an accepted socket; with a configuration, the peer must speak TLS.
    pub(super) fn new(fd: OwnedFd, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        let tls = match tls {
            None => None,
            Some(config) => {
                let mut session =
                    ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                session.set_buffer_limit(Some(TLS_BUFFER_LEN_MAX));
                Some(Box::new(session))
            }
        };
        Ok(Self { fd, tls })
    }

    /// Whether file contents must pass through this process to be encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Receives into a buffer that is not empty.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Moved {
        match &mut self.tls {
            None => receive_plain(self.fd.as_fd(), buffer),
            Some(session) => receive_tls(self.fd.as_fd(), session, buffer),
        }
    }

    /// Sends some of the bytes. `more` says that others follow at once.
    pub(super) fn send(&mut self, bytes: &[u8], more: bool) -> Moved {
        match &mut self.tls {
            None => send_plain(self.fd.as_fd(), bytes, more),
            Some(session) => {
                // What is encrypted goes first, so that taking in stops when the peer does.
                if flush_tls(self.fd.as_fd(), session) == Moved::Broken {
                    return Moved::Broken;
                }
                match session.writer().write(bytes) {
                    Ok(0) => Moved::Blocked,
                    Ok(taken) => match flush_tls(self.fd.as_fd(), session) {
                        Moved::Broken => Moved::Broken,
                        Moved::Bytes(_) | Moved::Blocked | Moved::End => Moved::Bytes(taken),
                    },
                    Err(_) => Moved::Broken,
                }
            }
        }
    }

    /// Sends bytes of an open file without touching them. Only for a plain socket. `Moved::End`:
    /// the file is shorter than it was.
    pub(super) fn send_file(&mut self, file: BorrowedFd<'_>, at: u64, len: usize) -> Moved {
        let mut offset = at;
        loop {
            return match rustix::fs::sendfile(&self.fd, file, Some(&mut offset), len) {
                Ok(0) => Moved::End,
                Ok(sent) => Moved::Bytes(sent),
                Err(Errno::AGAIN) => Moved::Blocked,
                Err(Errno::INTR) => continue,
                Err(_) => Moved::Broken,
            };
        }
    }

    /// Moves what TLS holds encrypted; `Blocked` if some of it is left.
    pub(super) fn flush(&mut self) -> Moved {
        match &mut self.tls {
            None => Moved::Bytes(0),
            Some(session) => flush_tls(self.fd.as_fd(), session),
        }
    }

    /// Ends our side of the connection.
    pub(super) fn half_close(&mut self) {
        if let Some(session) = &mut self.tls {
            session.send_close_notify();
            let _ = flush_tls(self.fd.as_fd(), session);
        }
        // It can only fail if the peer was faster.
        let _ = shutdown(&self.fd, Shutdown::Write);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn receive_plain(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Moved {
    loop {
        return match recv(fd, &mut *buffer, RecvFlags::empty()) {
            Ok((_, 0)) => Moved::End,
            Ok((_, len)) => Moved::Bytes(len),
            Err(Errno::AGAIN) => Moved::Blocked,
            Err(Errno::INTR) => continue,
            Err(_) => Moved::Broken,
        };
    }
}

fn send_plain(fd: BorrowedFd<'_>, bytes: &[u8], more: bool) -> Moved {
    let flags = if more {
        SendFlags::NOSIGNAL | SendFlags::MORE
    } else {
        SendFlags::NOSIGNAL
    };
    loop {
        return match send(fd, bytes, flags) {
            Ok(len) => Moved::Bytes(len),
            Err(Errno::AGAIN) => Moved::Blocked,
            Err(Errno::INTR) => continue,
            Err(_) => Moved::Broken,
        };
    }
}

/// The socket as rustls wants to read and write it.
struct Raw<'a>(BorrowedFd<'a>);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match receive_plain(self.0, buffer) {
            Moved::Bytes(len) => Ok(len),
            Moved::End => Ok(0),
            Moved::Blocked => Err(io::ErrorKind::WouldBlock.into()),
            Moved::Broken => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match send_plain(self.0, bytes, false) {
            Moved::Bytes(len) => Ok(len),
            Moved::Blocked => Err(io::ErrorKind::WouldBlock.into()),
            Moved::End | Moved::Broken => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn receive_tls(fd: BorrowedFd<'_>, session: &mut ServerConnection, buffer: &mut [u8]) -> Moved {
    loop {
        match session.reader().read(buffer) {
            Ok(0) => return Moved::End,
            Ok(len) => return Moved::Bytes(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The peer went away without saying so; a request is whole or it is not, so nothing
            // was cut short unnoticed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Moved::End,
            Err(_) => return Moved::Broken,
        }
        match session.read_tls(&mut Raw(fd)) {
            // The reader above tells which end it was.
            Ok(0) if session.is_handshaking() => return Moved::Broken,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Moved::Blocked,
            Err(_) => return Moved::Broken,
        }
        let processed = session.process_new_packets();
        // The handshake's own messages, or the alert that says what was wrong.
        let flushed = flush_tls(fd, session);
        if processed.is_err() || flushed == Moved::Broken {
            return Moved::Broken;
        }
    }
}

fn flush_tls(fd: BorrowedFd<'_>, session: &mut ServerConnection) -> Moved {
    while session.wants_write() {
        match session.write_tls(&mut Raw(fd)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Moved::Blocked,
            Err(_) => return Moved::Broken,
        }
    }
    Moved::Bytes(0)
}

/// A TLS configuration from a certificate chain and its key, both PEM (web-67).
///
/// # Errors
/// In words for the user: which file is wrong, and how.
pub fn server_tls_config(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate is no PEM: {error}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in the file".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("there is no usable private key in the file: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("certificate and key do not fit: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
