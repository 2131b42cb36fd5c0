//! Drives one [`Machine`] from real sockets: the only place where a machine meets time and traffic.
//!
//! The machine stands behind one lock. The TCP loop ([`crate::stream`]) and the UDP loop
//! ([`crate::datagram`]) step it with what arrives, the loop here steps it when its deadline has
//! come, and what it wants done is dispatched before the lock is let go, so effects keep their
//! order. No service is known here; what looks like a decision is a named limit.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ahoy_logic::machine::{ConnectionId, Effect, Input, Machine, Outbox};
use ahoy_logic::moment::Moment;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::Clock;
use crate::datagram::{self, DatagramSocket, Sender};
use crate::stream;

/// The sockets of one service, bound by the caller (see [`crate::listen`]), nonblocking or not.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Where connections are accepted.
    pub listeners: Vec<std::net::TcpListener>,
    /// Where datagrams are received.
    pub datagrams: Vec<std::net::UdpSocket>,
    /// Through which connections come that were accepted elsewhere, by a program that shares one
    /// port among several services; of those, nothing was read yet.
    pub handed: Option<mpsc::Receiver<std::net::TcpStream>>,
}

/// No service has more connections than this at once, whatever its limits say.
pub const CONNECTIONS_MAX: u32 = 1 << 20;

/// What the loops enforce without asking the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections served at once; further ones wait in the backlog.
    pub connections_max: usize,
    /// Datagrams are taken in up to this many bytes; the rest of a longer one is cut off.
    pub datagram_bytes_max: usize,
    /// Bytes that may wait to be sent on one connection; a machine that wants more sent to a peer
    /// that does not read loses that connection.
    pub unsent_bytes_max: usize,
    /// A peer that takes no byte of what waits for it for this long is dropped.
    pub stalled_max: Duration,
    /// After `Finish`, how long a peer may take to read the rest and close its side.
    pub linger_max: Duration,
    /// After a stop was asked for, how long open connections may take to end.
    pub stop_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            datagram_bytes_max: 65_536,
            unsent_bytes_max: 1024 * 1024,
            stalled_max: Duration::from_secs(60),
            linger_max: Duration::from_secs(2),
            stop_max: Duration::from_secs(5),
        }
    }
}

/// Why a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to stop.
    Stopped,
    /// The machine came to its own end.
    Exited,
}

/// Runs `machine` on `sockets` until `stop` is ready or the machine exits; `on_note` is told
/// everything that the machine notes, in order, and must not block for long.
///
/// # Errors
/// What the system says when it does not let the runtime have the sockets.
///
/// # Panics
/// If the machine panicked while it handled an input: its state can no longer be trusted.
pub async fn drive<M>(
    machine: M,
    sockets: Sockets,
    limits: Limits,
    on_note: impl FnMut(M::Note) + Send + 'static,
    stop: impl Future<Output = ()>,
) -> io::Result<Ending>
where
    M: Machine + Send + 'static,
    M::Note: Send,
{
    let datagrams = sockets.datagrams.into_iter().map(DatagramSocket::adopt);
    let datagrams = datagrams.collect::<io::Result<Vec<_>>>()?;
    let core = Arc::new(Core::new(machine, datagrams.clone(), limits, on_note));
    let slots_max = limits.connections_max.min(CONNECTIONS_MAX as usize);
    let slots = Arc::new(Semaphore::new(slots_max));
    let mut loops = JoinSet::new();
    for listener in sockets.listeners {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loops.spawn(stream::accept(
            Arc::clone(&core),
            listener,
            Arc::clone(&slots),
        ));
    }
    if let Some(handed) = sockets.handed {
        loops.spawn(stream::adopt(Arc::clone(&core), handed, Arc::clone(&slots)));
    }
    for socket in datagrams {
        loops.spawn(datagram::receive(Arc::clone(&core), socket));
    }
    let ending = tokio::select! {
        () = core.exit.notified() => Ending::Exited,
        () = stop => Ending::Stopped,
        never = keep_time(&core) => match never {},
        Some(Err(fault)) = loops.join_next() => std::panic::resume_unwind(fault.into_panic()),
    };
    loops.abort_all();
    if ending == Ending::Stopped {
        core.step(Input::Stop);
        let all = u32::try_from(slots_max).unwrap_or(CONNECTIONS_MAX);
        let all_gone = async {
            tokio::select! {
                _ = slots.acquire_many(all) => {}
                () = core.exit.notified() => {}
                never = keep_time(&core) => match never {},
            }
        };
        let _ = timeout(limits.stop_max, all_gone).await;
    }
    core.forget_connections();
    Ok(ending)
}

/// Steps the machine whenever its deadline has come.
async fn keep_time<M: Machine>(core: &Core<M>) -> Infallible {
    loop {
        let rearmed = core.rearmed.notified();
        match core.deadline() {
            None => rearmed.await,
            Some(at) => tokio::select! {
                () = sleep_until(at) => core.step(Input::Due),
                () = rearmed => {}
            },
        }
    }
}

/// A machine, its clock, and the ways out of it.
pub(crate) struct Core<M: Machine> {
    pub(crate) limits: Limits,
    clock: Clock,
    state: Mutex<State<M>>,
    /// The deadline has moved to an earlier moment than the one being slept for.
    rearmed: Notify,
    /// The machine wants to end.
    exit: Notify,
}

struct State<M: Machine> {
    machine: M,
    outbox: Outbox<M::Note>,
    routes: BTreeMap<ConnectionId, Route>,
    next_connection: u64,
    senders: Vec<Sender>,
    on_note: Box<dyn FnMut(M::Note) + Send>,
    /// The deadline that [`keep_time`] sleeps for.
    armed: Option<Moment>,
}

/// The way to the task that serves a connection; dropped, that task drops the connection.
struct Route {
    orders: mpsc::UnboundedSender<Order>,
    /// Bytes ordered and not yet written; shared with the task, which counts them down. It bounds
    /// the queue of orders too, since an empty `Send` is never queued.
    unsent_bytes: Arc<AtomicUsize>,
}

/// What a connection's task is told.
pub(crate) enum Order {
    /// Send this; never empty.
    Send(Chunk),
    /// Send the rest, then close so that the peer can read it.
    Finish,
}

/// Bytes to be sent, by one connection or by many.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// Its own.
    Own(Vec<u8>),
    /// The same that others send; in memory once.
    Shared(Arc<[u8]>),
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// A connection's own end of its route.
pub(crate) struct Orders {
    pub(crate) id: ConnectionId,
    pub(crate) queue: mpsc::UnboundedReceiver<Order>,
    pub(crate) unsent_bytes: Arc<AtomicUsize>,
}

impl<M: Machine> Core<M> {
    fn new(
        machine: M,
        datagrams: Vec<Arc<DatagramSocket>>,
        limits: Limits,
        on_note: impl FnMut(M::Note) + Send + 'static,
    ) -> Self {
        Self {
            limits,
            clock: Clock::start(),
            state: Mutex::new(State {
                machine,
                outbox: Outbox::new(),
                routes: BTreeMap::new(),
                next_connection: 1,
                senders: datagrams.into_iter().map(Sender::new).collect(),
                on_note: Box::new(on_note),
                armed: None,
            }),
            rearmed: Notify::new(),
            exit: Notify::new(),
        }
    }

    /// Gives the machine one input and does what it wants done.
    pub(crate) fn step(&self, input: Input<'_>) {
        self.step_locked(&mut self.lock(), input);
    }

    /// Gives the machine inputs that came together; their answers leave together.
    pub(crate) fn step_all<'a>(&self, inputs: impl Iterator<Item = Input<'a>>) {
        let mut state = self.lock();
        let now = self.clock.now();
        for input in inputs {
            self.handle(&mut state, now, input);
        }
        self.settle(&mut state);
    }

    /// Gives the machine a new connection; the caller serves it by the orders it gets back.
    pub(crate) fn open(&self, peer: SocketAddr, local: SocketAddr) -> Orders {
        let mut state = self.lock();
        let id = ConnectionId(state.next_connection);
        state.next_connection += 1;
        let (orders, queue) = mpsc::unbounded_channel();
        let unsent_bytes = Arc::new(AtomicUsize::new(0));
        let route = Route {
            orders,
            unsent_bytes: Arc::clone(&unsent_bytes),
        };
        state.routes.insert(id, route);
        self.step_locked(&mut state, Input::Opened { id, peer, local });
        Orders {
            id,
            queue,
            unsent_bytes,
        }
    }

    /// Tells the machine that a connection is gone.
    pub(crate) fn close(&self, id: ConnectionId) {
        let mut state = self.lock();
        state.routes.remove(&id);
        self.step_locked(&mut state, Input::Closed { id });
    }

    fn forget_connections(&self) {
        self.lock().routes.clear();
    }

    /// When to call with `Due`, and notes that this is being slept for.
    fn deadline(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.armed = state.machine.deadline().map(|deadline| deadline.at);
        self.clock.instant_of(state.armed?).map(Instant::from_std)
    }

    fn step_locked(&self, state: &mut State<M>, input: Input<'_>) {
        self.handle(state, self.clock.now(), input);
        self.settle(state);
    }

    fn handle(&self, state: &mut State<M>, now: Moment, input: Input<'_>) {
        let State {
            machine, outbox, ..
        } = state;
        machine.handle(now, input, outbox);
        while let Some(effect) = state.outbox.pop() {
            self.dispatch(state, effect);
        }
    }

    /// What comes after the effects: datagrams leave, and the sleeper learns of a new deadline.
    fn settle(&self, state: &mut State<M>) {
        datagram::flush(&mut state.senders);
        // A later deadline needs no word: the sleeper wakes early, finds nothing due, and asks.
        let next = state.machine.deadline().map(|deadline| deadline.at);
        if let Some(next) = next
            && state.armed.is_none_or(|armed| next < armed)
        {
            tracing::trace!(%next, reason = ?state.machine.deadline().map(|d| d.reason), "armed");
            state.armed = Some(next);
            self.rearmed.notify_one();
        }
    }

    fn dispatch(&self, state: &mut State<M>, effect: Effect<M::Note>) {
        match effect {
            Effect::Datagram { to, local, bytes } => {
                datagram::send(&mut state.senders, local, to, bytes);
            }
            Effect::Send { id, bytes } => self.order(state, id, Chunk::Own(bytes)),
            Effect::SendShared { id, bytes } => self.order(state, id, Chunk::Shared(bytes)),
            Effect::Finish { id } => {
                if let Some(route) = state.routes.get(&id) {
                    // The task may have ended on its own meanwhile; then it tells us by `close`.
                    let _ = route.orders.send(Order::Finish);
                }
            }
            Effect::Close { id } => drop(state.routes.remove(&id)),
            Effect::Note(note) => (state.on_note)(note),
            Effect::Exit => self.exit.notify_one(),
        }
    }

    fn order(&self, state: &mut State<M>, id: ConnectionId, bytes: Chunk) {
        let Some(route) = state.routes.get(&id) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        let unsent = route.unsent_bytes.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if unsent > self.limits.unsent_bytes_max {
            tracing::debug!(connection = id.0, unsent, "dropped: the peer does not read");
            state.routes.remove(&id);
            return;
        }
        let _ = route.orders.send(Order::Send(bytes));
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state
            .lock()
            .expect("a machine that panicked cannot be trusted further")
    }
}
