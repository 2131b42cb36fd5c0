//! A link: a proved session at work. It carries the engine's messages, and the bytes of files.
//!
//! Two threads of its own, so that neither direction waits for the other:
//!
//! ```text
//! socket ─▶ reader ─┬─▶ Port            messages for the engine
//!                   ├─▶ Asks ─▶ fetch   content that this machine asked for
//!                   └─▶ Desk            what the peer asks for
//! Say, Send, Accept ─▶ Outbox ─▶ writer ─▶ socket
//! ```
//!
//! Every queue is bounded, by credit that the peer must have (records), by a number of requests
//! (content), or by a count. What the messages mean is the engine's business; which file holds a
//! content is that of the [`Shelf`].

mod asks;
mod desk;
mod outbox;
mod reader;
mod writer;

use std::fs::File;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ahoy_logic::sync::{BATCHES_AHEAD, Input, LinkId, Outgoing, Rights};
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::knock::Role;
use ahoy_wire::sync::{Chunk, Frame, Hash, Message, Refusal, RelPath, Stretch, Wanted};
use rustls::Connection;
use socket2::{SockRef, TcpKeepalive};

use super::limits::Limits;
use super::session::{Membership, Session};
use super::supply::{Sink, SupplyTrouble};
use asks::Asks;
use outbox::Outbox;

/// How many batches of records the engine may hand over before the first one has left.
pub const ROOMS: usize = 2;

/// Where a link delivers what concerns the engine: opened, heard, room, closed, in an order that
/// makes sense. May block; the link then reads no further.
pub trait Port: Send + Sync {
    /// Takes one input.
    fn input(&self, input: Input);
}

/// Where a link finds the content that a peer asks for. Calls come from threads of the link that
/// have nothing more urgent to do, except for `small`, which holds up what is sent.
pub trait Shelf: Send + Sync {
    /// The file that holds the content, open for reading, and its length in bytes.
    ///
    /// # Errors
    /// What the peer is told.
    fn open(&self, wanted: Wanted) -> Result<(File, u64), Refusal>;

    /// The chunks of a part of the content.
    ///
    /// # Errors
    /// What the peer is told.
    fn outline(&self, wanted: Wanted, stretch: Stretch) -> Result<Vec<Chunk>, Refusal>;

    /// The content of a small file, if it is still this one.
    fn small(&self, path: &RelPath, hash: Hash, size: u64) -> Option<Arc<[u8]>>;
}

/// The waits of a link. The defaults are right; tests are in more of a hurry.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After so long without a sign of life the peer is asked for one (`sync-60`).
    pub ping_after: Duration,
    /// After so long without one the link ends (`sync-60`).
    pub dead_after: Duration,
    /// How long a peer may take nothing of what is sent to it.
    pub stalled_after: Duration,
    /// How long a peer that is in doubt has for its sign of life.
    pub doubt: Duration,
    /// How long a request may go without a single byte.
    pub answer_within: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            ping_after: Duration::from_secs(15),
            dead_after: Duration::from_secs(45),
            stalled_after: Duration::from_secs(60),
            doubt: Duration::from_secs(3),
            answer_within: Duration::from_secs(30),
        }
    }
}

/// What a link needs of the folder that it serves.
#[derive(Clone)]
pub struct Surroundings {
    /// This machine's part in the share.
    pub membership: Arc<Membership>,
    /// The engine's ear.
    pub port: Arc<dyn Port>,
    /// The folder's content.
    pub shelf: Arc<dyn Shelf>,
    /// The port on which this machine takes connections; the peers are told.
    pub listening_port: Option<u16>,
    /// The waits.
    pub pace: Pace,
    /// How fast this process may send and receive.
    pub limits: Arc<Limits>,
}

/// One peer, connected.
pub struct Link {
    id: LinkId,
    peer: PeerId,
    address: SocketAddr,
    role: Role,
    rights: Rights,
    around: Surroundings,
    opened_at: Instant,
    socket: TcpStream,
    tls: Mutex<Connection>,
    outbox: Outbox,
    asks: Asks,
    /// Messages with records that the peer may still send.
    records_allowed: AtomicU32,
    /// What the peer has been told of our records: all of them, up to this sequence number.
    told_upto: AtomicU64,
    heard_ms: AtomicU64,
    /// When this end last said something.
    said_ms: AtomicU64,
    /// Since when it is in doubt that the peer is there, in milliseconds plus one; 0 for not at
    /// all.
    doubted_ms: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    end: OnceLock<String>,
    /// Told of the port on which the peer takes connections.
    listens: OnceLock<Box<dyn Fn(u16) + Send + Sync>>,
    listening: OnceLock<u16>,
}

/// What can be shown of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSnapshot {
    /// Its number.
    pub link: LinkId,
    /// Who is at the other end.
    pub peer: PeerId,
    /// Where.
    pub address: SocketAddr,
    /// Whether this end dialed.
    pub role: Role,
    /// What the peer may do.
    pub rights: Rights,
    /// For how long.
    pub open_for: Duration,
    /// Bytes sent, as they were on the wire.
    pub sent_bytes: u64,
    /// Bytes received, as they were on the wire.
    pub received_bytes: u64,
}

impl Link {
    /// Prepares a link; nothing happens before [`run`](Self::run).
    pub(super) fn new(id: LinkId, session: Session, around: Surroundings) -> Arc<Self> {
        let Session {
            mut tls,
            socket,
            peer,
            address,
            role,
            rights,
        } = session;
        // What is encrypted at a time is bounded by the writer.
        tls.set_buffer_limit(None);
        Arc::new(Self {
            id,
            peer,
            address,
            role,
            rights,
            opened_at: Instant::now(),
            socket,
            tls: Mutex::new(tls),
            outbox: Outbox::default(),
            asks: Asks::new(around.pace.answer_within, Arc::clone(&around.limits)),
            around,
            records_allowed: AtomicU32::new(BATCHES_AHEAD),
            told_upto: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            said_ms: AtomicU64::new(0),
            doubted_ms: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            end: OnceLock::new(),
            listens: OnceLock::new(),
            listening: OnceLock::new(),
        })
    }

    /// Has `listens` told where the peer takes connections, if it says so.
    pub(super) fn on_listening(&self, listens: impl Fn(u16) + Send + Sync + 'static) {
        let _ = self.listens.set(Box::new(listens));
    }

    /// The peer says where it takes connections; only the first word counts (`sync-47`).
    fn heard_listening(&self, port: u16) {
        if let (Ok(()), Some(listens)) = (self.listening.set(port), self.listens.get()) {
            listens(port);
        }
    }

    /// Tells the engine, and starts the threads. When the link is over, `after` is called, and then
    /// the engine is told.
    pub(super) fn run(self: &Arc<Self>, after: impl FnOnce() + Send + 'static) {
        let link = self.id;
        self.around.port.input(Input::Opened {
            link,
            rights: self.rights,
        });
        for _ in 0..ROOMS {
            self.around.port.input(Input::Room { link });
        }
        if let Some(port) = self.around.listening_port {
            self.outbox.urgent(&Frame::Listening { port });
        }
        if let Err(error) = self.prepare_socket() {
            self.hang(&format!("cannot set up the socket: {error}"));
        }
        reader::start(self, after);
    }

    fn prepare_socket(&self) -> std::io::Result<()> {
        let pace = &self.around.pace;
        let socket = SockRef::from(&self.socket);
        socket.set_tcp_nodelay(true)?;
        // The system counts whole seconds.
        let probe = pace.ping_after.max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(probe).with_interval(probe);
        socket.set_tcp_keepalive(&keepalive)?;
        // A writer that waits gives up by itself. This is for what waits in the system with nobody
        // behind it, and later, since it is told to one thread only, and the other cannot say why.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(pace.stalled_after * 2))?;
        self.around.limits.widen(SockRef::from(&self.socket))?;
        socket.set_read_timeout(Some(pace.doubt))?;
        socket.set_write_timeout(Some(pace.stalled_after / writer::LOOKS))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Which end this is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The other end's address; its port is a listening one only if this end dialed.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> LinkSnapshot {
        LinkSnapshot {
            link: self.id,
            peer: self.peer,
            address: self.address,
            role: self.role,
            rights: self.rights,
            open_for: self.opened_at.elapsed(),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
        }
    }

    /// Sends a message that carries no records. Never blocks.
    pub fn say(&self, message: Message) {
        if let Err(full) = self.outbox.say(message) {
            self.hang(&full.to_string());
        }
    }

    /// Sends records; one [`Input::Room`] for each call, not more. Never blocks. Content is
    /// attached and signatures are made when it is their turn.
    pub fn send(&self, upto: u64, items: Vec<Outgoing>) {
        if let Err(full) = self.outbox.send(upto, items) {
            self.hang(&full.to_string());
        }
    }

    /// Lets the peer send one more message with records. Never blocks.
    pub fn accept(&self) {
        self.records_allowed.fetch_add(1, Ordering::AcqRel);
        self.outbox.urgent(&Frame::Credit { batches: 1 });
    }

    /// Ends the link; the first reason is the one that is logged. Never blocks.
    pub fn hang(&self, reason: &str) {
        if self.end.set(reason.to_owned()).is_ok() {
            tracing::debug!(peer = %self.peer.short(), link = self.id.0, reason, "link ends");
        }
        self.outbox.end();
        self.asks.end();
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Asks the peer for a sign of life and ends the link if there is none soon: somebody says that
    /// the peer is elsewhere by now.
    pub fn doubt(&self) {
        self.doubted_ms.store(self.now_ms() + 1, Ordering::Release);
        self.outbox.urgent(&Frame::Ping);
    }

    /// Has `len` bytes of the content from `offset` on put into `sink`, every byte once, in order.
    /// Blocks; no wait in it is longer than [`Pace::answer_within`] allows.
    ///
    /// # Errors
    /// [`SupplyTrouble`]; what the sink has taken by then is part of the content.
    pub fn fetch(
        &self,
        wanted: Wanted,
        offset: u64,
        len: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), SupplyTrouble> {
        self.asks.fetch(&self.outbox, wanted, offset, len, sink)
    }

    /// The chunks of a part of a content, as the peer has cut it. Blocks as
    /// [`fetch`](Self::fetch) does.
    ///
    /// # Errors
    /// [`SupplyTrouble`].
    pub fn outline(&self, wanted: Wanted, stretch: Stretch) -> Result<Vec<Chunk>, SupplyTrouble> {
        self.asks.outline(&self.outbox, wanted, stretch)
    }

    /// Why it is over; `None` while it is not.
    #[must_use]
    pub fn end(&self) -> Option<&str> {
        self.end.get().map(String::as_str)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn tls(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Link({} to {} at {})",
            self.id.0,
            self.peer.short(),
            self.address
        )
    }
}
