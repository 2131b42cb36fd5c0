//! Who could be reached where, and trying it: keeps a session with every peer that can be reached.
//!
//! Addresses come from tickets, trackers, the local network and earlier sessions; all of them are
//! hints, and a peer counts only when it has proved itself. Tries grow rarer as they fail, and new
//! information makes the next one immediate.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_wire::peer::PeerId;

use super::keys::random_bytes;
use super::links::Links;
use super::session::{self, SessionError};

/// Most peers that are tried; those named last give way.
const PEERS_MAX: usize = 512;

/// Most addresses of one peer; the oldest give way.
const ADDRESSES_MAX: usize = 16;

/// Most tries at one time.
const TRIES_MAX: usize = 8;

/// The pause after the first failure; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// New information does not lead to tries more often than this.
const PAUSE_LEAST: Duration = Duration::from_millis(100);

/// Takes the peer and address of a session that was dialed.
pub type OnReached = Box<dyn Fn(PeerId, SocketAddr) + Send + Sync>;

/// The tries.
pub struct Dials {
    links: Arc<Links>,
    state: Mutex<State>,
    changed: Condvar,
    on_reached: OnReached,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<PeerId, Candidate>,
    tries: usize,
    stopped: bool,
}

struct Candidate {
    addresses: VecDeque<SocketAddr>,
    next_at: Instant,
    pause: Duration,
    is_tried: bool,
}

impl Dials {
    /// Starts the thread that decides whom to try.
    pub fn start(
        links: Arc<Links>,
        on_reached: OnReached,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let state = Mutex::default();
        let dials = Arc::new(Self {
            links,
            state,
            changed: Condvar::new(),
            on_reached,
        });
        let working = Arc::clone(&dials);
        let thread = std::thread::Builder::new()
            .name("dials".into())
            .spawn(move || working.run())?;
        Ok((dials, thread))
    }

    /// A peer may be at these addresses, best first.
    pub fn hint(&self, peer: PeerId, addresses: &[SocketAddr]) {
        if peer == self.links.membership().me().id() {
            return;
        }
        let mut state = self.lock();
        if state.peers.len() >= PEERS_MAX && !state.peers.contains_key(&peer) {
            return;
        }
        let now = Instant::now();
        let candidate = state.peers.entry(peer).or_insert_with(|| Candidate {
            addresses: VecDeque::new(),
            next_at: now,
            pause: PAUSE_FIRST,
            is_tried: false,
        });
        for address in addresses.iter().rev() {
            candidate.addresses.retain(|known| known != address);
            candidate.addresses.push_front(*address);
        }
        candidate.addresses.truncate(ADDRESSES_MAX);
        candidate.next_at = candidate.next_at.min(now + PAUSE_LEAST);
        candidate.pause = PAUSE_FIRST;
        self.changed.notify_all();
    }

    /// A session has ended: its peer is tried again at once.
    pub fn lost(&self, peer: PeerId) {
        if let Some(candidate) = self.lock().peers.get_mut(&peer) {
            candidate.next_at = Instant::now() + PAUSE_LEAST;
            candidate.pause = PAUSE_FIRST;
        }
        self.changed.notify_all();
    }

    /// No more tries; those under way end by themselves.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.stopped {
            let now = Instant::now();
            let due: Vec<PeerId> = state
                .peers
                .iter()
                .filter(|(_, it)| !it.is_tried && it.next_at <= now && !it.addresses.is_empty())
                .map(|(peer, _)| *peer)
                .collect();
            for peer in due {
                if state.tries >= TRIES_MAX {
                    break;
                }
                self.begin(&mut state, peer, now);
            }
            let waiting = state
                .peers
                .values()
                .filter(|it| !it.is_tried && it.next_at > now);
            let next = waiting.map(|it| it.next_at).min();
            let wait = next.map_or(PAUSE_MAX, |at| at.saturating_duration_since(now));
            let waited = self
                .changed
                .wait_timeout(state, wait.max(Duration::from_millis(1)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn begin(self: &Arc<Self>, state: &mut State, peer: PeerId, now: Instant) {
        let Some(candidate) = state.peers.get_mut(&peer) else {
            return;
        };
        if self.links.is_connected(peer) {
            candidate.next_at = now + PAUSE_MAX;
            candidate.pause = PAUSE_FIRST;
            return;
        }
        candidate.is_tried = true;
        let addresses: Vec<SocketAddr> = candidate.addresses.iter().copied().collect();
        state.tries += 1;
        let dials = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("dial".into())
            .spawn(move || {
                let reached = dials.attempt(peer, &addresses);
                dials.ended(peer, reached);
            });
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread for a dial");
            state.tries -= 1;
            if let Some(candidate) = state.peers.get_mut(&peer) {
                candidate.is_tried = false;
                candidate.next_at = now + PAUSE_MAX;
            }
        }
    }

    /// Tries the addresses in turn; whether there is a session now.
    fn attempt(&self, peer: PeerId, addresses: &[SocketAddr]) -> bool {
        for address in addresses {
            if self.lock().stopped || self.links.is_connected(peer) {
                return true;
            }
            let mut place = None;
            let wanted = |found| {
                place = self.links.reserve(found);
                place.is_some()
            };
            let membership = self.links.membership();
            match session::dial(membership, *address, Some(peer), wanted) {
                Ok(session) => {
                    if self.links.open(session).is_some() {
                        (self.on_reached)(peer, *address);
                    }
                    return true;
                }
                Err(SessionError::Connected) => return true,
                Err(error) => {
                    tracing::debug!(peer = %peer.short(), %address, %error, "not reached");
                }
            }
        }
        false
    }

    fn ended(&self, peer: PeerId, reached: bool) {
        let mut state = self.lock();
        state.tries = state.tries.saturating_sub(1);
        if let Some(candidate) = state.peers.get_mut(&peer) {
            candidate.is_tried = false;
            candidate.pause = if reached {
                PAUSE_FIRST
            } else {
                (candidate.pause * 2).min(PAUSE_MAX)
            };
            let pause = if reached {
                PAUSE_MAX
            } else {
                jitter(candidate.pause)
            };
            candidate.next_at = Instant::now() + pause;
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Between half of a pause and all of it, so that peers do not call each other in step.
fn jitter(pause: Duration) -> Duration {
    let share = random_bytes::<1>().map_or(128, |bytes| u32::from(bytes[0]));
    pause / 2 + pause / 2 * share / 255
}
