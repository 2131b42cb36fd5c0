//! One running share, as the command line sees it: started with a claim on a folder, watched
//! through events and snapshots, stopped in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ahoy_logic::sync::{Engine, Identity, Input, Look, Rights};
use ahoy_wire::sync::{RelPath, ReplicaId};
use ahoy_wire::ticket::Ticket;

use super::committer::Committer;
use super::conductor::{Backlog, Conductor, Mail, Mailbox, Shared};
use super::disk::{Disk, EyesOptions, Listener, Root, RootError};
use super::exact::Exact;
use super::front::{Ear, FolderShelf, Front};
use super::gate::Gate;
use super::home::{Claim, Device, HomeError, OpenError};
use super::keys::random_bytes;
use super::limits::Limits;
use super::link::{Pace, Surroundings};
use super::links::Links;
use super::ports::Ports;
use super::scrub::Scrubber;
use super::session::Membership;
use super::status::{Control, Desk, Notice, Snapshot, State};
use super::supply::Supply;
use crate::descriptors;

/// What is needed to start syncing a folder.
#[derive(Debug)]
pub struct ShareConfig {
    /// The folder, held for this process; its record says which tracker, whether to look on the
    /// local network, and where it listened last.
    pub claim: Claim,
    /// Who this device is.
    pub device: Device,
    /// Where peers come in; shared by all shares of the process.
    pub ports: Arc<Ports>,
    /// How fast the process may be; shared by all shares of the process.
    pub limits: Arc<Limits>,
    /// Where to put the control socket.
    pub socket: PathBuf,
    /// If the folder is found empty, that is meant: its files are deleted elsewhere too.
    pub accept_empty: bool,
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
    /// The folder cannot be synced.
    #[error(transparent)]
    Folder(#[from] RootError),
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
            Self::Folder(RootError::Folding { .. }) => {
                "choose a folder on another file system, such as ext4, XFS or Btrfs".into()
            }
            Self::Folder(
                RootError::Missing { .. }
                | RootError::NotAFolder { .. }
                | RootError::NotWritable { .. }
                | RootError::System { .. },
            ) => "check the folder and its permissions".into(),
            Self::System { .. } => "see the log: AHOY_LOG=debug ahoy ...".into(),
        }
    }
}

/// Where the sequence numbers and counts of a run begin: the seconds since 1970 and 20 bits of
/// chance. A run on an index from a backup gives no sequence number again as long as the clock has
/// gone on since, and fewer than a million changes were made in each second.
fn floor() -> Result<u64, StartError> {
    let chance = random_bytes().map_err(no_chance)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs()).min(1 << 40);
    Ok((seconds << 20) | u64::from(u32::from_le_bytes(chance) & 0xf_ffff))
}

/// The number of this run of a copy. 0 stands for all runs.
fn run(replica: ReplicaId) -> Result<ReplicaId, StartError> {
    let drawn = random_bytes().map_err(no_chance)?;
    Ok(replica.in_run(u32::from_le_bytes(drawn).max(1)))
}

fn no_chance(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::System {
        what: "draw random numbers",
        source: io::Error::other(error),
    }
}

/// A share that is being synced by this process.
pub struct Share {
    front: Arc<Front>,
    gate: Arc<Gate>,
    links: Arc<Links>,
    give_up: Arc<AtomicBool>,
    conducting: Option<JoinHandle<()>>,
}

/// How long an orderly stop may take before an index that cannot be written is left as it is.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

impl Share {
    /// Opens the index, lets peers in and finds them, and syncs until stopped.
    pub fn start(config: ShareConfig, on_event: OnEvent) -> Result<Self, StartError> {
        let ShareConfig {
            mut claim,
            device,
            ports,
            limits,
            socket,
            accept_empty,
        } = config;
        descriptors::raise();
        let index = claim.open_index()?;
        let root = open_root(&claim)?;
        claim.record.listen = ports.addresses();
        claim.save()?;
        let membership = membership(&device, &claim)?;
        let identity = identity(&claim, &device, membership.rights(), index.is_put_back())?;
        let engine = index.load(|rows| Engine::new(identity, rows));
        let engine = Shared::new(engine.map_err(OpenError::from)?);
        let (sender, mail) = mpsc::channel();
        let label = device.label.as_str().to_owned();
        let (caps, mail_to) = (Arc::clone(&limits), sender.clone());
        let front = Front::new(engine.clone(), claim, label, caps, mail_to, on_event);
        let (mailbox, heard) = Mailbox::new(sender);
        let shelf = FolderShelf {
            engine: engine.clone(),
            root: Arc::clone(&root),
        };
        let links = Links::new(Surroundings {
            membership,
            port: Arc::new(mailbox.clone()),
            shelf: Arc::new(shelf),
            listening_port: ports.port(),
            pace: Pace::default(),
            limits,
        });
        let _ = front.links.set(Arc::clone(&links));
        let scrubber = Scrubber::new(engine.clone(), Arc::clone(&root), mailbox.clone());
        let _ = front.scrubber.set(scrubber);
        tidy_up(&root, &engine, &mailbox, &front);
        let disk = watch(&root, mailbox, &links)?;
        let give_up = Arc::new(AtomicBool::new(false));
        let committer =
            Committer::start(index, disk.barrier(), front.sender(), Arc::clone(&give_up));
        let conductor = Conductor {
            mail,
            heard,
            engine,
            committer: committer.map_err(no_thread)?,
            disk,
            links: Arc::clone(&links),
            audience: Ear(Arc::clone(&front)),
            backlog: Backlog::default(),
        };
        let gate = Gate::open(&front, Arc::clone(&links), root, &ports).map_err(no_thread)?;
        let _ = front.gate.set(Arc::downgrade(&gate));
        if accept_empty {
            front.send(Mail::AcceptEmpty);
        }
        let conducting = conduct(conductor, &front, &gate, socket)?;
        Ok(Self {
            front,
            gate,
            links,
            give_up,
            conducting: Some(conducting),
        })
    }

    /// Lets somebody in, with the addresses of now. Read-only if asked for, or if this device can
    /// do no more itself.
    pub fn ticket(&self, read_only: bool) -> Ticket {
        self.front.ticket(read_only)
    }

    /// How it stands.
    pub fn snapshot(&self) -> Snapshot {
        Desk::snapshot(&*self.front)
    }

    /// Begins an orderly stop: no new work, what was begun is finished or undone, the index is
    /// closed. Returns at once; [`Event::Stopped`] follows within some seconds.
    pub fn stop(&self) {
        self.front.send(Mail::Stop);
        self.links.close();
        let give_up = Arc::clone(&self.give_up);
        // If there is no thread for patience, there is none to be had.
        let waiting = std::thread::Builder::new().name("patience".into());
        let waiting = waiting.spawn(move || {
            std::thread::sleep(STOP_PATIENCE);
            give_up.store(true, Ordering::Relaxed);
        });
        if waiting.is_err() {
            self.give_up.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until it has stopped.
    pub fn wait(mut self) {
        if let Some(thread) = self.conducting.take()
            && thread.join().is_err()
        {
            tracing::error!("the conductor panicked");
        }
        self.gate.close();
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({:?})", self.gate.me())
    }
}

fn membership(device: &Device, claim: &Claim) -> Result<Arc<Membership>, StartError> {
    let key = device.seed.peer_key(claim.record.replica);
    let membership = Membership::new(key, &claim.record.capability);
    membership
        .map(Arc::new)
        .map_err(|error| StartError::System {
            what: "set up encryption",
            source: io::Error::other(error),
        })
}

fn identity(
    claim: &Claim,
    device: &Device,
    rights: Rights,
    is_put_back: bool,
) -> Result<Identity, StartError> {
    Ok(Identity {
        replica: claim.record.replica,
        label: device.label.clone(),
        rights,
        run: run(claim.record.replica)?,
        is_put_back,
        floor: floor()?,
    })
}

fn open_root(claim: &Claim) -> Result<Arc<Root>, StartError> {
    Ok(Arc::new(Root::open(claim.root())?))
}

/// Opens the eyes and hands of the share, and has it look at everything once.
fn watch(root: &Arc<Root>, mailbox: Mailbox, links: &Arc<Links>) -> Result<Disk, StartError> {
    let supply: Arc<dyn Supply> = Arc::<Links>::clone(links);
    let options = EyesOptions::default();
    let disk = Disk::start(Arc::clone(root), Arc::new(mailbox), supply, options);
    let disk = disk.map_err(|source| StartError::System {
        what: "watch the folder",
        source,
    })?;
    disk.look(Look::Below(RelPath::root()), None);
    Ok(disk)
}

/// Sets the conductor to work, with the control socket open for as long as it does.
fn conduct(
    conductor: Conductor<Ear>,
    front: &Arc<Front>,
    gate: &Arc<Gate>,
    socket: PathBuf,
) -> Result<JoinHandle<()>, StartError> {
    let desk: Arc<dyn Desk> = Arc::<Front>::clone(front);
    let control = Control::open(&socket, desk).map_err(|source| StartError::Control {
        path: socket,
        source,
    })?;
    let (ending, closing) = (Arc::clone(front), Arc::clone(gate));
    let thread = std::thread::Builder::new().name("conductor".into());
    let conducting = thread.spawn(move || {
        conductor.run();
        if let Some(scrubber) = ending.scrubber.get() {
            scrubber.end();
        }
        closing.close();
        drop(control);
        (ending.on_event)(Event::Stopped { error: None });
    });
    conducting.map_err(no_thread)
}

fn no_thread(source: io::Error) -> StartError {
    StartError::System {
        what: "start a thread",
        source,
    }
}

/// What a run that was cut short has left: the user's own bytes go back, parked nodes are known.
fn tidy_up(root: &Root, engine: &Shared, mailbox: &Mailbox, front: &Front) {
    for leftover in root.leftovers() {
        let path = engine.lock().path(leftover.node);
        let aside = RelPath::parse(b"recovered file").expect("a good path");
        let restored = root
            .restore(&leftover, &path.unwrap_or_else(|| aside.clone()))
            .or_else(|_| root.restore(&leftover, &aside));
        match restored {
            Ok(path) => front.say(format!(
                "a file that was being replaced when ahoy was stopped is back as {}",
                path.display()
            )),
            Err(error) => tracing::error!(%error, "a leftover stays in .ahoy/tmp"),
        }
    }
    for (node, print) in root.parked() {
        Listener::input(mailbox, Input::Parked { node, print });
    }
}
