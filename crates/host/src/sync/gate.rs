//! The gate of a running share: where peers come in, and how they are found.
//!
//! They come in at the ports of this process. Trackers, the local network and remembered addresses
//! all feed the same machine, which knows whom to dial; no such decision is made here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ahoy_logic::sync::Progress;
use ahoy_logic::sync::meet::Source;
use ahoy_logic::tracker::Event as TrackerEvent;
use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::knock::Role;
use ahoy_wire::sync::{Capability, Hash, Label};
use ahoy_wire::ticket::{Ticket, TrackerAddress};
use ahoy_wire::tracker::{HoldingSummary, PeerAddress};

use super::disk::Root;
use super::front::{Front, now_secs, own_addresses, since_1970};
use super::home::{KnownPeer, ShareRecord, TrackerChoice};
use super::links::{Change, Links};
use super::meet::Meeting;
use super::ports::{Ports, Served};
use super::status::Tracker;
use crate::discovery::{Discovery, DiscoveryConfig, DiscoveryEvent, Interfaces, MDNS_PORT};
use crate::tracker::{Announcer, AnnouncerConfig};

/// Everything through which peers come and are found.
pub struct Gate {
    links: Arc<Links>,
    root: Arc<Root>,
    meeting: Arc<Meeting>,
    listening: Vec<SocketAddr>,
    announcers: Vec<(String, bool, Announcer)>,
    discovery: Option<Discovery>,
    served: Mutex<Option<Served>>,
    told: Mutex<Told>,
}

/// What the trackers were told last.
struct Told {
    holding: HoldingSummary,
    at: Instant,
}

/// While there is work to do, trackers are told so often what is here.
const HOLDING_INTERVAL: Duration = Duration::from_secs(2);

impl Gate {
    /// Opens the gate at `ports`.
    pub(super) fn open(
        front: &Arc<Front>,
        links: Arc<Links>,
        root: Arc<Root>,
        ports: &Arc<Ports>,
    ) -> std::io::Result<Arc<Self>> {
        let record = front.claim().record.clone();
        let noting = Arc::downgrade(front);
        let meeting = Meeting::start(Arc::clone(&links), move |change| note(change, &noting))?;
        if record.tracker == TrackerChoice::Embedded {
            ports.run_tracker()?;
        }
        let mut gate = Self {
            served: Mutex::new(Some(ports.serve(&links))),
            links,
            root,
            meeting: Arc::new(meeting),
            listening: ports.addresses(),
            announcers: Vec::new(),
            discovery: None,
            told: Mutex::new(Told {
                holding: HoldingSummary::default(),
                at: Instant::now(),
            }),
        };
        for peer in &record.peers {
            learned(&gate.meeting, peer.id, &peer.addresses, Source::Remembered);
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
        if record.tracker == TrackerChoice::Embedded
            && let Some(own) = own_addresses(&self.listening).last()
        {
            trackers.push((own.to_string(), true));
        }
        let sequence_floor = record.announced.floor(since_1970().as_millis() as u64);
        reserve(front, sequence_floor);
        for (address, embedded) in trackers {
            let membership = Arc::clone(self.links.membership());
            let listening = self.listening.clone();
            let config = AnnouncerConfig {
                trackers: vec![address.clone()],
                share: membership.share(),
                peer: membership.me().id(),
                sign: Box::new(move |bytes| membership.me().sign(bytes)),
                addresses: Box::new(move || own_addresses(&listening)),
                holding: HoldingSummary::default(),
                sequence_floor,
                options: ahoy_logic::tracker::AnnouncerOptions::default(),
            };
            let (meeting, front) = (Arc::downgrade(&self.meeting), Arc::downgrade(front));
            let name = address.clone();
            let mut was_down = false;
            let on_event = Box::new(move |event| match event {
                TrackerEvent::PeerSeen(sighting) => {
                    if let Some(meeting) = meeting.upgrade() {
                        let (peer, addresses) = (sighting.peer, &sighting.addresses);
                        learned(&meeting, peer, addresses, Source::Tracker);
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
                TrackerEvent::Announced { sequence } => {
                    if let Some(front) = front.upgrade() {
                        reserve(&front, sequence);
                    }
                }
                TrackerEvent::PeerGone(_) => {}
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
        let (meeting, front) = (Arc::downgrade(&self.meeting), Arc::downgrade(front));
        let on_event = Box::new(move |event| match event {
            DiscoveryEvent::Found { peer, addresses } => {
                if let Some(meeting) = meeting.upgrade() {
                    learned(&meeting, peer, &addresses, Source::Local);
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

    /// Has the trackers told what is here; now and then while there is work to do.
    pub fn holds(&self, progress: &Progress) {
        let holding = HoldingSummary {
            files: progress.census.files,
            bytes: progress.census.bytes,
            ..HoldingSummary::default()
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = progress.nodes_left == 0 || told.at.elapsed() >= HOLDING_INTERVAL;
        if told.holding == holding || !is_due {
            return;
        }
        told.at = Instant::now();
        told.holding = holding.clone();
        for (_, _, announcer) in &self.announcers {
            announcer.update_holding(holding.clone());
        }
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

    /// No more connections or tries.
    pub fn close(&self) {
        self.meeting.stop();
        let served = self.served.lock();
        drop(served.unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Announcements have numbers up to this one: those of the next run will have higher ones.
fn reserve(front: &Front, sequence: u64) {
    let mut claim = front.claim();
    if claim.record.announced.use_up(sequence)
        && let Err(error) = claim.save()
    {
        tracing::warn!(%error, "the numbers of announcements are not kept");
    }
}

/// A peer may be at these addresses, best first.
fn learned(meeting: &Meeting, peer: PeerId, addresses: &[SocketAddr], source: Source) {
    for address in addresses {
        meeting.learned(Some(peer), *address, source);
    }
}

/// A session has begun: its peer is remembered, and where it can be reached.
fn note(change: Change, front: &Weak<Front>) {
    let (peer, address, worked) = match change {
        Change::Opened {
            peer,
            address,
            role: Role::Dialer,
        } => (peer, Some(address), true),
        Change::Opened { peer, .. } => (peer, None, false),
        Change::Listens { peer, address } => (peer, Some(address), false),
        Change::Closed { .. } => return,
    };
    if let Some(front) = front.upgrade() {
        remember(&front, peer, address, worked);
    }
}

/// Keeps that a peer was there, so that it is found again without anybody's help.
/// `worked`: it could be reached there; otherwise somebody only says so.
fn remember(front: &Front, peer: PeerId, address: Option<SocketAddr>, worked: bool) {
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
    match (address, worked) {
        (Some(address), true) => {
            known.addresses.retain(|other| *other != address);
            known.addresses.insert(0, address);
        }
        (Some(address), false) if !known.addresses.contains(&address) => {
            known.addresses.push(address);
        }
        (Some(_) | None, _) => {}
    }
    known.seen_at_secs = now_secs();
    claim.record.remember(known);
    if let Err(error) = claim.save() {
        tracing::warn!(%error, "a peer is not remembered");
    }
}
