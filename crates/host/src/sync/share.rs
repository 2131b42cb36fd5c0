//! One running share, as the command line sees it: started with a claim on a folder, watched
//! through events and snapshots, stopped in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ahoy_wire::ticket::Ticket;

use super::exact::Exact;
use super::home::{Claim, Device, HomeError, OpenError};
use super::status::{Notice, Snapshot, State};

/// What is needed to start syncing a folder.
#[derive(Debug)]
pub struct ShareConfig {
    /// The folder, held for this process; its record says which tracker, whether to look on the
    /// local network, and where it listened last.
    pub claim: Claim,
    /// Who this device is.
    pub device: Device,
    /// Where to listen, as the user asked; a port that is taken is then an error. If empty: where
    /// it listened last, or anywhere if that is taken.
    pub listen: Vec<SocketAddr>,
    /// Where to put the control socket.
    pub socket: PathBuf,
}

/// What happens in a running share.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It does something else now.
    State(State),
    /// Something worth telling.
    Notice(Notice),
    /// A session with a peer has begun or ended.
    Peer {
        /// Its id, the short form.
        short: String,
        /// What it calls itself.
        label: String,
        /// Begun, or ended.
        connected: bool,
    },
    /// A peer's change has been carried out here.
    Brought {
        /// What was changed.
        path: Exact,
        /// It was removed.
        removed: bool,
    },
    /// It has stopped; the last event.
    Stopped {
        /// Why, if nobody asked for it.
        error: Option<String>,
    },
}

/// Takes events, in order, from whichever thread; must return at once.
pub type OnEvent = Box<dyn Fn(Event) + Send + Sync>;

/// Why a share cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder or its record.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The index.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nobody can connect.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// Nobody could ask how it stands.
    #[error("cannot open the control socket {}: {source}", path.display())]
    Control {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Anything else that the system refuses.
    #[error("cannot {what}: {source}")]
    System {
        /// A verb and its object.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl StartError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Home(error) => error.hint(),
            Self::Open(error) => error.hint(),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "another program listens there; choose another port with --listen, or port 0 for \
                 any"
                .into()
            }
            Self::Listen { .. } => "choose an address of this machine with --listen".into(),
            Self::Control { path, .. } => {
                let dir = path.parent().unwrap_or(path);
                format!("check the permissions of {}", dir.display())
            }
            Self::System { .. } => "see the log: RUST_LOG=debug ahoy ...".into(),
        }
    }
}

/// A share that is being synced by this process.
#[derive(Debug)]
pub struct Share {}

impl Share {
    /// Opens the index, listens, finds the peers, and syncs until stopped.
    pub fn start(_config: ShareConfig, _on_event: OnEvent) -> Result<Self, StartError> {
        let source = io::ErrorKind::Unsupported.into();
        Err(StartError::System {
            what: "start: the conductor is not there yet",
            source,
        })
    }

    /// Lets somebody in, with the addresses of now. Read-only if asked for, or if this device can
    /// do no more itself.
    pub fn ticket(&self, _read_only: bool) -> Ticket {
        unreachable!("there is no share without a conductor")
    }

    /// How it stands.
    pub fn snapshot(&self) -> Snapshot {
        unreachable!("there is no share without a conductor")
    }

    /// Begins an orderly stop: no new work, what was begun is finished or undone, the index is
    /// closed. Returns at once; [`Event::Stopped`] follows within some seconds.
    pub fn stop(&self) {}

    /// Waits until it has stopped.
    pub fn wait(self) {}
}
