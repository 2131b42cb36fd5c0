//! The web server's loop (spec/web.md): sockets, files and time for the decisions of
//! `ahoy_logic::web`.
//!
//! A worker is one thread with one epoll set. It owns its connections and its cache of open files,
//! so workers share nothing but the listening sockets. It is not built on tokio: one request of a
//! small file costs three system calls here (wait, receive, send), and the body of a large one
//! goes from the page cache to the socket by sendfile, which a readiness loop does directly. A
//! read from a slow disk holds up the other connections of that worker, and only those.
//!
//! - [`folder`]: what is at a path, confined to the served folder, and the cache.
//! - [`socket`]: plain and TLS; `outgoing`: what is still to be sent.
//! - `worker`: the loop; [`log`]: the access log; [`stop`]: how to end it.

pub mod folder;
pub mod log;
pub mod socket;
pub mod stop;

mod outgoing;
mod slots;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use ahoy_logic::web::{Limits, Site};
use ring::rand::SecureRandom as _;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tracing::info;

use crate::descriptors;
use folder::{CACHED_DESCRIPTORS_MAX, Folder};
use log::{AccessLog, LogWriter};
use stop::Stop;
use worker::Worker;

pub use socket::server_tls_config;
pub use worker::Counts;

/// Most workers of one server.
pub const WORKERS_MAX: usize = 64;
/// Connections that may wait to be accepted; the kernel's own limit is usually lower.
const LISTEN_BACKLOG: i32 = 65_535;
/// Descriptors kept for everything but connections: listeners, epoll sets, logs, the folder.
const DESCRIPTORS_RESERVED: usize = 64;
/// Descriptors that one answer may open at once: a file and its coded forms.
const DESCRIPTORS_PER_LOOKUP: usize = 4;

/// What the owner of a web server can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder to serve.
    pub root: PathBuf,
    /// Choices about answers.
    pub site: Site,
    /// How long each wait may take.
    pub limits: Limits,
    /// Most connections at once, over all workers.
    pub connections_max: usize,
    /// Threads that serve.
    pub workers: usize,
    /// For how long an answer about a file may be given without looking again; zero looks every
    /// time.
    pub cache_validity: Duration,
    /// How long a stop waits for answers under way (web-65).
    pub drain_max: Duration,
    /// TLS instead of plain TCP, on every listener (web-67).
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Why a server did not start or did not go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The folder cannot be opened, or is none.
    #[error("cannot serve {path}: {source}")]
    Root {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel has no openat2, which confines every lookup to the folder (Linux 5.6).
    #[error("this kernel cannot confine lookups to a folder (openat2 is missing)")]
    NoConfinement,
    /// The loop itself failed.
    #[error("the server's loop failed: {0}")]
    Loop(#[from] io::Error),
}

/// Serves until `stop` says otherwise, on the calling thread and `workers - 1` more. The caller
/// has bound the listeners.
///
/// # Errors
/// If the folder cannot be opened, or the kernel refuses what a loop needs.
pub fn serve(
    config: &Config,
    listeners: Vec<TcpListener>,
    access_log: Option<&AccessLog>,
    stop: &Stop,
) -> Result<Counts, ServeError> {
    let root = folder::open_root(&config.root)?;
    let workers = config.workers.clamp(1, WORKERS_MAX);
    let connections_max = connections_within_limits(config.connections_max, workers);
    info!(workers, connections_max, "serving");
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    let open = AtomicUsize::new(0);
    let place = worker::Place {
        config,
        listeners: &listeners,
        connections_max,
        open: &open,
        stop,
    };
    // One worker that fails takes the server down: half a server helps nobody.
    let work = move |root: OwnedFd, log: Option<LogWriter>| {
        let folder = Folder::new(root, config.cache_validity, config.site.dotfiles);
        let outcome = Worker::new(place, folder, log).and_then(Worker::run);
        if outcome.is_err() {
            stop.now();
        }
        outcome
    };
    let writer = || access_log.map(AccessLog::writer);
    let roots = (1..workers)
        .map(|_| root.try_clone())
        .collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let mut others = Vec::with_capacity(roots.len());
        for root in roots {
            let log = writer();
            others.push(scope.spawn(move || work(root, log)));
        }
        let mut counts = work(root, writer());
        for other in others {
            let other = other
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")));
            counts = counts.and_then(|counts| Ok(counts.plus(other?)));
        }
        counts.map_err(ServeError::Loop)
    })
}

/// Fills a buffer from the system's source of chance; for [`Site::boundary_key`].
///
/// # Errors
/// If the system has none.
pub fn fill_random(buffer: &mut [u8]) -> io::Result<()> {
    let source = ring::rand::SystemRandom::new();
    source
        .fill(buffer)
        .map_err(|_| io::Error::other("no random bytes to be had"))
}

/// Listens at an address. The queue of connections that wait to be accepted is as long as the
/// kernel allows, so that a burst is not turned away.
///
/// # Errors
/// What the kernel says: in use, not permitted, not ours.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server need not wait for the connections of the last one to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// As many connections as asked for, or as the descriptors allow beside everything else.
fn connections_within_limits(wanted: usize, workers: usize) -> usize {
    let others =
        DESCRIPTORS_RESERVED + workers * (CACHED_DESCRIPTORS_MAX + DESCRIPTORS_PER_LOOKUP + 4);
    wanted
        .min(descriptors::allowed().saturating_sub(others))
        .max(workers)
}
