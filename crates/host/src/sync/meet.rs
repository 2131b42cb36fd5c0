//! Keeps the peers of one share connected: dials when the machine in `logic` says so.
//!
//! One thread runs that machine; every dial has a short-lived thread of its own, and their number
//! is bounded by the machine. Addresses come in from whoever learns one: ticket, tracker, local
//! network, the record of an earlier run. Nothing is decided here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_logic::moment::Moment;
use ahoy_logic::sync::meet::{Dial, Input, Meet, Outcome, PeerSnapshot, Source};
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::PeerAddress;

use super::links::{Change, Links};
use super::session::{SessionError, dial};

/// Most pieces of news about addresses that wait; more is dropped, since it may be hostile.
const NEWS_MAX: usize = 1024;

/// Stack of a dialing thread.
const DIAL_STACK_BYTES: usize = 512 * 1024;

/// How long a question to the thread may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Keeps one share's peers connected until it is dropped.
#[derive(Debug)]
pub struct Meeting {
    events: Sender<Event>,
    /// How much news waits.
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Event {
    News(Input),
    Happened(Input),
    Show(Sender<Vec<PeerSnapshot>>),
    Stop,
}

impl Meeting {
    /// Begins, knowing nobody. `told` hears of every change of who is connected; it must not block
    /// for long.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start(
        links: Arc<Links>,
        told: impl Fn(Change) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (events, inbox) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let sender = events.clone();
        links.watch(move |change| {
            told(change);
            let input = match change {
                Change::Opened { peer, .. } => Input::Connected { peer },
                Change::Closed { peer } => Input::Disconnected { peer },
                Change::Listens { peer, address } => match PeerAddress::new(address) {
                    Some(address) => Input::Learned {
                        peer: Some(peer),
                        address,
                        source: Source::Session,
                    },
                    None => return,
                },
            };
            let _ = sender.send(Event::Happened(input));
        });
        let host = Host {
            machine: Meet::new(links.membership().me().id()),
            origin: Instant::now(),
            links,
            events: events.clone(),
            waiting: Arc::clone(&waiting),
        };
        let thread = std::thread::Builder::new().name("meet".to_owned());
        let thread = thread.spawn(move || host.run(&inbox))?;
        Ok(Self {
            events,
            waiting,
            thread: Some(thread),
        })
    }

    /// Somebody may be found at `address`: `peer`, or anybody of the share if that is not known.
    /// Addresses that nobody can be reached at are passed over.
    pub fn learned(&self, peer: Option<PeerId>, address: SocketAddr, source: Source) {
        let Some(address) = PeerAddress::new(address) else {
            return;
        };
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= NEWS_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let _ = self.events.send(Event::News(Input::Learned {
            peer,
            address,
            source,
        }));
    }

    /// No more dials; those under way end by themselves.
    pub fn stop(&self) {
        let _ = self.events.send(Event::Stop);
    }

    /// Who is known, and where; nothing if the thread is busy for long.
    #[must_use]
    pub fn snapshot(&self) -> Vec<PeerSnapshot> {
        let (sender, answer) = channel();
        let _ = self.events.send(Event::Show(sender));
        answer.recv_timeout(ANSWER_LIMIT).unwrap_or_default()
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Host {
    machine: Meet,
    origin: Instant,
    links: Arc<Links>,
    events: Sender<Event>,
    waiting: Arc<AtomicUsize>,
}

impl Host {
    fn run(mut self, inbox: &Receiver<Event>) {
        let mut dials = Vec::new();
        loop {
            let input = match self.wait(inbox) {
                Ok(Event::News(input)) => {
                    self.waiting.fetch_sub(1, Ordering::AcqRel);
                    input
                }
                Ok(Event::Happened(input)) => input,
                Ok(Event::Show(answer)) => {
                    let _ = answer.send(self.machine.snapshot());
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => Input::Tick,
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            self.machine.step(self.now(), input, &mut dials);
            for dial in dials.drain(..) {
                self.begin(dial);
            }
        }
    }

    fn wait(&self, inbox: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
        match self.machine.deadline() {
            Some(deadline) => inbox.recv_timeout(deadline.wait_from(self.now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn now(&self) -> Moment {
        Moment::after_origin(self.origin.elapsed())
    }

    fn begin(&self, dial: Dial) {
        let (links, events) = (Arc::clone(&self.links), self.events.clone());
        let thread = std::thread::Builder::new().name("dial".to_owned());
        let answer = Answer {
            events,
            dial,
            outcome: Outcome::Unreachable,
        };
        let spawned = thread.stack_size(DIAL_STACK_BYTES).spawn(move || {
            let mut answer = answer;
            answer.outcome = try_dial(&links, &dial);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for dialing");
        }
    }
}

/// Tells the machine how a dial ended, whatever becomes of its thread.
struct Answer {
    events: Sender<Event>,
    dial: Dial,
    outcome: Outcome,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let input = Input::Dialed {
            dial: self.dial,
            outcome: self.outcome,
        };
        let _ = self.events.send(Event::Happened(input));
    }
}

fn try_dial(links: &Links, wanted: &Dial) -> Outcome {
    let address = wanted.address.socket_addr();
    let mut place = None;
    let session = dial(links.membership(), address, wanted.peer, |peer| {
        place = links.reserve(peer);
        place.is_some()
    });
    match session {
        Ok(session) => {
            let peer = session.peer();
            links.open(session);
            Outcome::Met(peer)
        }
        Err(SessionError::Connected(peer)) => Outcome::Met(peer),
        Err(error) => {
            tracing::debug!(%address, %error, "no session");
            match error {
                SessionError::Myself => Outcome::Myself,
                SessionError::Io(_) | SessionError::NoRandomness(_) => Outcome::Unreachable,
                SessionError::Tls(_)
                | SessionError::Foreign
                | SessionError::Stranger
                | SessionError::FalseProof
                | SessionError::Connected(_) => Outcome::SomebodyElse,
            }
        }
    }
}
