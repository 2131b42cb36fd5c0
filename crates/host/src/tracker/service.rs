//! The tracker service: alone on listeners of its own, or inside another program that hands it
//! connections.
//!
//! [`serve`] is the service as a future, for a program that is nothing else. [`TrackerService`]
//! runs it on a thread with a runtime of its own and takes connections that someone else has
//! accepted: so `ahoy share` gives the tracker those on its sync port whose first byte is
//! [`ahoy_wire::tracker::FIRST_BYTE`], and keeps the others.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ahoy_logic::machine::{Input, Machine, Outbox};
use ahoy_logic::moment::{Deadline, Moment};
use ahoy_logic::tracker::{Note, Options, Reason, Snapshot, Tracker};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};

use crate::drive::{Ending, Limits, Sockets, drive};

use super::verify_signature;

/// Connections that were handed over and not yet taken up; any more are refused.
pub const HANDED_MAX: usize = 256;

/// A peer that takes nothing of what waits for it for so long is dropped (tracker-32).
const STALLED_MAX: Duration = Duration::from_secs(10);
/// Peers are told nothing when the tracker stops, so there is nothing to wait for.
const STOP_MAX: Duration = Duration::from_secs(1);
/// The loop takes some more than the machine does, so that it is the machine that refuses.
const CONNECTIONS_SPARE: usize = 64;

/// Takes what the tracker notes. It is called with the tracker waiting, so it must be quick.
pub type OnNote = Box<dyn FnMut(Note) + Send>;

/// Serves on `sockets` until `stop` is ready; `on_note` hears who comes and goes.
///
/// # Errors
/// If the system gives no random bytes, or does not let the runtime have the sockets.
pub async fn serve(
    options: Options,
    sockets: Sockets,
    on_note: OnNote,
    stop: impl Future<Output = ()>,
) -> io::Result<Ending> {
    serve_shown(options, sockets, on_note, stop, Arc::default()).await
}

async fn serve_shown(
    options: Options,
    sockets: Sockets,
    on_note: OnNote,
    stop: impl Future<Output = ()>,
    shown: Arc<Mutex<Snapshot>>,
) -> io::Result<Ending> {
    let machine = Shown {
        machine: machine(options)?,
        shown,
    };
    let limits = limits(options.limits.connections_max);
    drive(machine, sockets, limits, on_note, stop).await
}

/// A tracker with a secret of its own.
pub(crate) fn machine(options: Options) -> io::Result<Tracker> {
    let mut secret = [0; 32];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(Tracker::new(options, secret, verify_signature))
}

/// What the loops enforce for a tracker with so many connections.
pub(crate) fn limits(connections_max: usize) -> Limits {
    Limits {
        connections_max: connections_max.saturating_add(CONNECTIONS_SPARE),
        stalled_max: STALLED_MAX,
        stop_max: STOP_MAX,
        ..Limits::default()
    }
}

/// A tracker on a thread of its own; ends when it is dropped.
pub struct TrackerService {
    door: Door,
    shown: Arc<Mutex<Snapshot>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Hands connections to a tracker; as many copies as there are threads that accept.
#[derive(Clone, Debug)]
pub struct Door {
    handed: mpsc::Sender<TcpStream>,
}

/// The tracker cannot take the connection now, or has ended; it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tracker takes no more connections now")]
pub struct Busy;

impl TrackerService {
    /// Starts a tracker on these listeners, which may be none. Should it break down later, that is
    /// logged and connections that are handed over are [`Busy`].
    ///
    /// # Errors
    /// If the system gives no thread or no runtime.
    pub fn start(
        options: Options,
        listeners: Vec<TcpListener>,
        on_note: OnNote,
    ) -> io::Result<Self> {
        let (handed, taken) = mpsc::channel(HANDED_MAX);
        let (stop, stopped) = oneshot::channel();
        let shown = Arc::<Mutex<Snapshot>>::default();
        let sockets = Sockets {
            listeners,
            handed: Some(taken),
            ..Sockets::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let seen = Arc::clone(&shown);
        let thread = std::thread::Builder::new()
            .name("tracker".to_owned())
            .spawn(move || {
                // Dropped or sent, either is a stop.
                let stop = async { drop(stopped.await) };
                let ended = runtime.block_on(serve_shown(options, sockets, on_note, stop, seen));
                if let Err(error) = ended {
                    tracing::error!(%error, "the tracker ended");
                }
            })?;
        Ok(Self {
            door: Door { handed },
            shown,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Takes an accepted connection of which nothing was read yet (only peeked). Never waits.
    ///
    /// # Errors
    /// [`Busy`] if the tracker has too many connections to take up already, or has ended.
    pub fn handle_connection(&self, stream: TcpStream) -> Result<(), Busy> {
        self.door.handle_connection(stream)
    }

    /// A way to hand connections over from other threads.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// The tracker in numbers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes all connections and ends, within about a second.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for TrackerService {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the tracker's thread panicked");
        }
    }
}

impl Door {
    /// As [`TrackerService::handle_connection`].
    ///
    /// # Errors
    /// [`Busy`] likewise.
    pub fn handle_connection(&self, stream: TcpStream) -> Result<(), Busy> {
        self.handed.try_send(stream).map_err(|_| Busy)
    }
}

/// The machine, with its numbers shown to others after each turn.
struct Shown {
    machine: Tracker,
    shown: Arc<Mutex<Snapshot>>,
}

impl Machine for Shown {
    type Note = Note;
    type Reason = Reason;

    fn handle(&mut self, now: Moment, input: Input<'_>, outbox: &mut Outbox<Note>) {
        self.machine.handle(now, input, outbox);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = self.machine.snapshot();
    }

    fn deadline(&self) -> Option<Deadline<Reason>> {
        self.machine.deadline()
    }
}
