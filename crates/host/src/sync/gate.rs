//! The gate of a running share: where peers come in, and how they are found.
//!
//! One port serves peers and, if this process runs the tracker of its share, those who ask it; the
//! first byte of a connection tells them apart. Trackers, the local network and remembered
//! addresses all feed the same list of whom to dial.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_logic::tracker::{Event as TrackerEvent, Options as TrackerOptions};
use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::knock::Role;
use ahoy_wire::sync::{Capability, Hash, Label, Secret};
use ahoy_wire::ticket::{Ticket, TrackerAddress};
use ahoy_wire::tracker::{HoldingSummary, HoldingVersion, PeerAddress};
use rustix::event::{PollFd, PollFlags, poll};

use super::dials::Dials;
use super::disk::Root;
use super::front::{Front, now_secs, own_addresses};
use super::home::{KnownPeer, ShareRecord, TrackerChoice};
use super::links::{Change, Links};
use super::session::{self, HANDSHAKE_LIMIT, Lobby, Membership};
use super::status::Tracker;
use crate::discovery::{Discovery, DiscoveryConfig, DiscoveryEvent, Interfaces, MDNS_PORT};
use crate::tracker::{Announcer, AnnouncerConfig, Door, TrackerService};

/// First byte of a TLS handshake (RFC 8446, 5.1).
const TLS_FIRST: u8 = 0x16;

/// First byte of a connection to a tracker.
const TRACKER_FIRST: u8 = b'A';

/// How often a listener looks whether it is to end.
const LOOK: Duration = Duration::from_millis(250);

/// Everything through which peers come and are found.
pub struct Gate {
    links: Arc<Links>,
    root: Arc<Root>,
    dials: Arc<Dials>,
    listening: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    tracker: Option<TrackerService>,
    announcers: Vec<(String, bool, Announcer)>,
    discovery: Option<Discovery>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Gate {
    /// Opens the gate on `listeners`, which are bound already.
    pub fn open(
        front: &Arc<Front>,
        links: Arc<Links>,
        root: Arc<Root>,
        listeners: Vec<TcpListener>,
    ) -> std::io::Result<Arc<Self>> {
        let record = front.claim().record.clone();
        let listening: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let remembering = Arc::downgrade(front);
        let on_reached = Box::new(move |peer, address| {
            if let Some(front) = remembering.upgrade() {
                remember(&front, peer, Some(address));
            }
        });
        let (dials, dialing) = Dials::start(Arc::clone(&links), on_reached)?;
        let again = Arc::downgrade(&dials);
        let noting = Arc::downgrade(front);
        links.watch(move |change| on_change(change, &again, &noting));
        let embedded = record.tracker == TrackerChoice::Embedded;
        let tracker = if embedded {
            Some(TrackerService::start(
                TrackerOptions::default(),
                Vec::new(),
                Box::new(|_| {}),
            )?)
        } else {
            None
        };
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = vec![dialing];
        let door = tracker.as_ref().map(TrackerService::door);
        for listener in listeners {
            let porter = Porter::new(&links, door.clone(), Arc::clone(&stop))?;
            let thread = std::thread::Builder::new()
                .name("gate".into())
                .spawn(move || porter.run(&listener))?;
            threads.push(thread);
        }
        let mut gate = Self {
            links,
            root,
            dials,
            listening,
            stop,
            tracker,
            announcers: Vec::new(),
            discovery: None,
            threads: Mutex::new(threads),
        };
        for peer in &record.peers {
            gate.dials.hint(peer.id, &peer.addresses);
        }
        gate.announce(front, &record)?;
        if record.mdns {
            gate.discovery = gate.discover(front, &record);
        }
        Ok(Arc::new(gate))
    }

    fn announce(&mut self, front: &Arc<Front>, record: &ShareRecord) -> std::io::Result<()> {
        let mut trackers: Vec<(String, bool)> = match &record.tracker {
            TrackerChoice::Embedded => Vec::new(),
            TrackerChoice::Named(list) => list.iter().map(|t| (t.to_string(), false)).collect(),
        };
        if self.tracker.is_some()
            && let Some(own) = own_addresses(&self.listening).last()
        {
            trackers.push((own.to_string(), true));
        }
        for (address, embedded) in trackers {
            let membership = Arc::clone(self.links.membership());
            let version = HoldingVersion::new(Vec::new());
            let Ok(version) = version else { continue };
            let config = AnnouncerConfig {
                trackers: vec![address.clone()],
                share: membership.share(),
                peer: membership.me().id(),
                sign: Box::new(move |bytes| membership.me().sign(bytes)),
                addresses: own_addresses(&self.listening),
                holding: HoldingSummary {
                    files: 0,
                    bytes: 0,
                    version,
                },
                sequence_last: 0,
                options: ahoy_logic::tracker::AnnouncerOptions::default(),
            };
            let (dials, front) = (Arc::downgrade(&self.dials), Arc::downgrade(front));
            let name = address.clone();
            let mut was_down = false;
            let on_event = Box::new(move |event| match event {
                TrackerEvent::PeerSeen(sighting) => {
                    if let Some(dials) = dials.upgrade() {
                        dials.hint(sighting.peer, &sighting.addresses);
                    }
                }
                TrackerEvent::Down { reason, .. } => {
                    if let Some(front) = front.upgrade().filter(|_| !was_down) {
                        front.say(format!(
                            "tracker {name}: {reason}; sync goes on between known peers, and \
                             the tracker is tried again"
                        ));
                    }
                    was_down = true;
                }
                TrackerEvent::Up { .. } => {
                    if let Some(front) = front.upgrade().filter(|_| was_down) {
                        front.say(format!("tracker {name} is there again"));
                    }
                    was_down = false;
                }
                TrackerEvent::Announced { .. } | TrackerEvent::PeerGone(_) => {}
            });
            self.announcers
                .push((address, embedded, Announcer::start(config, on_event)?));
        }
        Ok(())
    }

    fn discover(&self, front: &Arc<Front>, record: &ShareRecord) -> Option<Discovery> {
        let read = record.capability.read_key();
        let config = DiscoveryConfig {
            peer: self.links.membership().me().id(),
            key: blake3::derive_key("ahoy share 2026 local discovery", read.as_bytes()),
            port: self.listening.first()?.port(),
            interfaces: Interfaces::All,
            mdns_port: MDNS_PORT,
        };
        let (dials, front) = (Arc::downgrade(&self.dials), Arc::downgrade(front));
        let on_event = Box::new(move |event| match event {
            DiscoveryEvent::Found { peer, addresses } => {
                if let Some(dials) = dials.upgrade() {
                    dials.hint(peer, &addresses);
                }
            }
            DiscoveryEvent::Lost { .. } => {}
            DiscoveryEvent::Unavailable { reason } => {
                if let Some(front) = front.upgrade() {
                    front.say(format!(
                        "peers on the local network cannot be found: {reason}"
                    ));
                }
            }
        });
        Some(Discovery::start(config, on_event))
    }

    /// This machine's id in the share.
    pub fn me(&self) -> PeerId {
        self.links.membership().me().id()
    }

    /// Where peers can connect.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.listening.clone()
    }

    /// How the trackers stand.
    pub fn trackers(&self) -> Vec<Tracker> {
        let shown = |(address, embedded, announcer): &(String, bool, Announcer)| {
            let status = announcer.status();
            Tracker {
                address: address.clone(),
                embedded: *embedded,
                up: status.tracker.is_some(),
                reason: status.down.map(|reason| reason.to_string()),
            }
        };
        self.announcers.iter().map(shown).collect()
    }

    /// Partial downloads are of no use any more.
    pub fn forget_parts(&self) {
        self.root.forget_parts(&|_: Hash| false);
    }

    /// Lets somebody in; without a gate the ticket has no addresses.
    pub fn ticket(gate: Option<&Self>, record: &ShareRecord, read_only: bool) -> Ticket {
        let own = gate
            .map(|gate| own_addresses(&gate.listening))
            .unwrap_or_default();
        let trackers: Vec<TrackerAddress> = match &record.tracker {
            TrackerChoice::Named(list) => list.clone(),
            TrackerChoice::Embedded => own
                .iter()
                .filter_map(|own| TrackerAddress::new(&own.to_string()))
                .collect(),
        };
        let capability = match &record.capability {
            Capability::ReadWrite(secret) if read_only => Capability::ReadOnly {
                read: secret.read_key(),
                write: super::keys::WriteKey::from_seed(&secret.write_seed()).public(),
            },
            capability @ (Capability::ReadWrite(_) | Capability::ReadOnly { .. }) => {
                capability.clone()
            }
        };
        let inviter = gate.map_or(PeerId::new([0; 32]), Self::me);
        Ticket {
            capability,
            name: record.name.clone(),
            trackers: Bounded::truncated(trackers),
            inviter,
            addresses: Bounded::truncated(own.into_iter().filter_map(PeerAddress::new)),
            expires_at_secs: None,
        }
    }

    /// No more connections, announcements or tries.
    pub fn close(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.dials.stop();
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the gate panicked");
            }
        }
    }
}

/// A session has begun or ended.
fn on_change(change: Change, dials: &Weak<Dials>, front: &Weak<Front>) {
    match change {
        Change::Opened {
            peer,
            address,
            role,
        } => {
            if let Some(front) = front.upgrade() {
                remember(&front, peer, (role == Role::Dialer).then_some(address));
            }
        }
        Change::Closed { peer } => {
            if let Some(dials) = dials.upgrade() {
                dials.lost(peer);
            }
        }
    }
}

/// Keeps that a peer was there, so that it is found again without anybody's help.
fn remember(front: &Front, peer: PeerId, address: Option<SocketAddr>) {
    let mut claim = front.claim();
    let known = claim
        .record
        .peers
        .iter()
        .find(|known| known.id == peer)
        .cloned();
    let mut known = known.unwrap_or(KnownPeer {
        id: peer,
        label: Label::default(),
        addresses: Vec::new(),
        seen_at_secs: 0,
    });
    if let Some(address) = address {
        known.addresses.retain(|other| *other != address);
        known.addresses.insert(0, address);
    }
    known.seen_at_secs = now_secs();
    claim.record.remember(known);
    if let Err(error) = claim.save() {
        tracing::warn!(%error, "a peer is not remembered");
    }
}

/// Who meets those that mean no share of ours: random keys, which nobody can know.
fn nobody() -> Result<Membership, session::SessionError> {
    let secret = Secret::new(super::keys::random_bytes()?);
    Membership::new(
        super::keys::PeerKey::random()?,
        &Capability::ReadWrite(secret),
    )
}

/// Stands at one listener.
struct Porter {
    links: Weak<Links>,
    served: Vec<Arc<Membership>>,
    nobody: Arc<Membership>,
    door: Option<Door>,
    lobby: Arc<Lobby>,
    stop: Arc<AtomicBool>,
}

impl Porter {
    fn new(links: &Arc<Links>, door: Option<Door>, stop: Arc<AtomicBool>) -> std::io::Result<Self> {
        Ok(Self {
            links: Arc::downgrade(links),
            served: vec![Arc::clone(links.membership())],
            nobody: Arc::new(nobody().map_err(std::io::Error::other)?),
            door,
            lobby: Arc::default(),
            stop,
        })
    }

    fn run(&self, listener: &TcpListener) {
        if let Err(error) = listener.set_nonblocking(true) {
            tracing::error!(%error, "cannot listen");
            return;
        }
        let look = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(LOOK.as_nanos()).unwrap_or(0),
        };
        while !self.stop.load(Ordering::Relaxed) {
            let mut ready = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
            let _ = poll(&mut ready, Some(&look));
            match listener.accept() {
                Ok((stream, from)) => self.receive(stream, from),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // No descriptors left, most likely: they come back.
                    tracing::warn!(%error, "a connection could not be taken");
                    std::thread::sleep(LOOK);
                }
            }
        }
    }

    fn receive(&self, stream: TcpStream, from: SocketAddr) {
        let Some(guest) = self.lobby.enter(from.ip()) else {
            tracing::debug!(%from, "too many connections without proof");
            return;
        };
        let (links, door) = (Weak::clone(&self.links), self.door.clone());
        let (served, nobody) = (self.served.clone(), Arc::clone(&self.nobody));
        let receiving = std::thread::Builder::new()
            .name("guest".into())
            .spawn(move || {
                let _guest = guest;
                let end = Instant::now() + HANDSHAKE_LIMIT;
                let limits = stream
                    .set_nonblocking(false)
                    .and_then(|()| stream.set_read_timeout(Some(HANDSHAKE_LIMIT)));
                let mut first = [0];
                if limits.is_err() || !matches!(stream.peek(&mut first), Ok(1)) {
                    return;
                }
                match (first[0], door) {
                    (TLS_FIRST, _) => match session::accept(stream, &served, &nobody, end) {
                        Ok((_, session)) => {
                            if let Some(links) = links.upgrade() {
                                links.open(session);
                            }
                        }
                        Err(error) => tracing::debug!(%from, %error, "no session"),
                    },
                    (TRACKER_FIRST, Some(door)) => {
                        if door.handle_connection(stream).is_err() {
                            tracing::debug!(%from, "the tracker is busy");
                        }
                    }
                    _ => tracing::debug!(%from, "neither a peer nor somebody for the tracker"),
                }
            });
        if let Err(error) = receiving {
            tracing::warn!(%error, "no thread for a connection");
        }
    }
}
