//! Doors behind a port: by its first byte we know what a connection is about, and who takes it.
//!
//! One port serves every share of this process, and whatever else the caller puts behind it. A TLS
//! connection goes through the lobby, where it has little time to prove something; all others are
//! handed on with their first byte unread. Nothing here knows what they speak.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::{Capability, Secret};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::keys::{PeerKey, random_bytes};
use super::links::Links;
use super::session::{Guest, HANDSHAKE_LIMIT, Lobby, Membership, SessionError, accept};

/// The first byte of a TLS connection: a handshake record.
const TLS_FIRST_BYTE: u8 = 0x16;

/// Stack of the thread that a guest gets.
const GUEST_STACK_BYTES: usize = 512 * 1024;

/// How long to wait when the system has no more descriptors.
const EXHAUSTED_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The shares that can be reached through the listening ports of this process.
pub struct Doors {
    /// By the key that this machine has in the share: two folders may be copies of one share.
    served: RwLock<BTreeMap<PeerId, Arc<Links>>>,
    nobody: Arc<Membership>,
    lobby: Arc<Lobby>,
}

impl Doors {
    /// Nothing can be reached yet.
    ///
    /// # Errors
    /// Without random bytes there is no key to show to strangers.
    pub fn new() -> Result<Arc<Self>, SessionError> {
        let stranger = Capability::ReadWrite(Secret::new(random_bytes()?));
        let nobody = Arc::new(Membership::new(PeerKey::random()?, &stranger)?);
        Ok(Arc::new(Self {
            served: RwLock::default(),
            nobody,
            lobby: Arc::default(),
        }))
    }

    /// Peers of this share can come in from now on.
    pub fn add(&self, links: Arc<Links>) {
        let me = links.membership().me().id();
        self.served
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(me, links);
    }

    /// They can no longer; links that are open stay.
    pub fn remove(&self, links: &Links) {
        self.served
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&links.membership().me().id());
    }

    fn take(&self, socket: TcpStream, end: Instant) -> Result<(), SessionError> {
        let memberships: Vec<_> = {
            let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
            served
                .values()
                .map(|links| Arc::clone(links.membership()))
                .collect()
        };
        let (membership, session) = accept(socket, &memberships, &self.nobody, end)?;
        let links = {
            let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
            served.get(&membership.me().id()).cloned()
        };
        if let Some(links) = links {
            links.open(session);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(served.keys()).finish()
    }
}

/// Takes a connection that is not TLS, and its first byte, which is still to be read. To close the
/// connection it is enough to drop it.
pub type Other = dyn Fn(u8, TcpStream) + Send + Sync;

/// A listening port at work; it stops when this is dropped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    /// When this end is closed the thread goes home.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Takes connections on `listener`: TLS for the `doors`, the rest for `other`.
    ///
    /// # Errors
    /// When the system has no pipe or thread for it.
    pub fn start(listener: TcpListener, doors: Arc<Doors>, other: Arc<Other>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let port = Port {
            listener,
            doors,
            other,
        };
        let thread = std::thread::Builder::new().name("listen".to_owned());
        let thread = thread.spawn(move || port.run(&stopped))?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Port {
    listener: TcpListener,
    doors: Arc<Doors>,
    other: Arc<Other>,
}

impl Port {
    fn run(&self, stopped: &OwnedFd) {
        loop {
            let mut fds = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(stopped, PollFlags::IN),
            ];
            let polled = poll(&mut fds, None);
            if !fds[1].revents().is_empty() {
                return;
            }
            match polled
                .map_err(io::Error::from)
                .and_then(|_| self.listener.accept())
            {
                Ok((socket, from)) => self.welcome(socket, from),
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot take connections for the moment");
                    let mut fds = [PollFd::new(stopped, PollFlags::IN)];
                    let _ = poll(&mut fds, Some(&EXHAUSTED_WAIT));
                }
            }
        }
    }

    fn welcome(&self, socket: TcpStream, from: SocketAddr) {
        let Some(guest) = self.doors.lobby.enter(from.ip()) else {
            tracing::debug!(%from, "too many connections without proof");
            return;
        };
        let (doors, other) = (Arc::clone(&self.doors), Arc::clone(&self.other));
        let thread = std::thread::Builder::new().name("guest".to_owned());
        let thread = thread.stack_size(GUEST_STACK_BYTES);
        let spawned = thread.spawn(move || receive(socket, from, guest, &doors, &*other));
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a connection");
        }
    }
}

/// An error of one connection, not of the port.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn receive(socket: TcpStream, from: SocketAddr, guest: Guest, doors: &Doors, other: &Other) {
    let end = Instant::now() + HANDSHAKE_LIMIT;
    match first_byte(&socket, HANDSHAKE_LIMIT) {
        Ok(TLS_FIRST_BYTE) => {
            let taken = doors.take(socket, end);
            drop(guest);
            if let Err(error) = taken {
                tracing::debug!(%from, %error, "no session");
            }
        }
        Ok(byte) => {
            drop(guest);
            other(byte, socket);
        }
        Err(error) => tracing::debug!(%from, %error, "a connection said nothing"),
    }
}

/// The first byte, left where it is.
fn first_byte(socket: &TcpStream, limit: Duration) -> io::Result<u8> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(limit))?;
    let mut byte = [0];
    match socket.peek(&mut byte)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => {
            socket.set_read_timeout(None)?;
            Ok(byte[0])
        }
    }
}
