//! Whom to dial, where and when: keeps a share's peers connected, as a pure machine.
//!
//! It knows peers, the places where they may be found, and who is connected. Every place has its
//! own patience: 0.2 s after the first failure, twice as long after each further one, 30 s at most.
//! News about a place ends its wait at once. What a dial is made of, and which of two sessions with
//! one peer is kept, is not decided here.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::PeerAddress;

use crate::moment::Moment;

/// Most peers that are kept track of.
pub const PEERS_MAX: usize = 1024;

/// Most places of one peer.
pub const PLACES_MAX: usize = 16;

/// Most places of which the peer is not known.
pub const LOOSE_MAX: usize = 64;

/// Most dials at one time.
pub const DIALS_MAX: usize = 16;

/// Most dials to one peer at one time.
const DIALS_PER_PEER_MAX: usize = 2;

/// How long a dial to one peer has before another of its places is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// Patience after the first failure.
const PATIENCE_MIN: Duration = Duration::from_millis(200);

/// Patience after many failures.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// A session that ends sooner counts as a failure.
const SHORT: Duration = Duration::from_secs(10);

/// After so many failures a place without a peer is forgotten.
const LOOSE_FAILURES_MAX: u32 = 10;

/// How many plain failures it counts for that somebody else was found at a place.
const SOMEBODY_ELSE: u32 = 4;

/// From where a place is known; a later one is tried before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// It stands in the ticket.
    Ticket,
    /// A tracker names it.
    Tracker,
    /// It worked in an earlier run.
    Remembered,
    /// The peer itself said so in a session.
    Session,
    /// It was found on the local network.
    Local,
}

/// Everything that the machine can learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A place, and who is there if that is known.
    Learned {
        /// Who.
        peer: Option<PeerId>,
        /// Where.
        address: PeerAddress,
        /// From whom.
        source: Source,
    },
    /// There is a session with this peer.
    Connected {
        /// Who.
        peer: PeerId,
    },
    /// There is none any more.
    Disconnected {
        /// Who.
        peer: PeerId,
    },
    /// What became of a dial.
    Dialed {
        /// As it was wanted.
        dial: Dial,
        /// How it ended.
        outcome: Outcome,
    },
    /// Time passed; see [`Meet::deadline`].
    Tick,
}

/// A dial that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial {
    /// Who has to be there; anybody of the share if `None`.
    pub peer: Option<PeerId>,
    /// Where.
    pub address: PeerAddress,
}

/// How a dial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This peer is there.
    Met(PeerId),
    /// Nobody answered.
    Unreachable,
    /// Somebody is there, and it is not a peer of the share, or not the expected one.
    SomebodyElse,
    /// It is this machine itself.
    Myself,
}

/// The machine.
#[derive(Debug)]
pub struct Meet {
    me: PeerId,
    peers: BTreeMap<PeerId, Peer>,
    loose: BTreeMap<PeerAddress, Place>,
    dials: usize,
    /// How many places have been learned so far.
    learned: u64,
}

#[derive(Debug, Default)]
struct Peer {
    connected: bool,
    connected_at: Moment,
    /// How many sessions in a row have been short.
    short_sessions: u32,
    places: BTreeMap<PeerAddress, Place>,
    /// The next dial to this peer not before this.
    not_before: Moment,
}

#[derive(Debug)]
struct Place {
    source: Source,
    /// Of places that are alike, those learned first are tried first.
    order: u64,
    /// There was a session at this place.
    good: bool,
    failures: u32,
    dialing: bool,
    next: Moment,
}

impl Place {
    fn new(source: Source, order: u64, now: Moment) -> Self {
        Self {
            source,
            order,
            good: false,
            failures: 0,
            dialing: false,
            next: now,
        }
    }

    fn rank(&self) -> impl Ord + use<> {
        let (failures, order) = (Reverse(self.failures), Reverse(self.order));
        (self.good, self.source, failures, order)
    }

    /// There is news about it.
    fn refresh(&mut self, source: Source, now: Moment) {
        self.source = self.source.max(source);
        self.failures = 0;
        self.next = self.next.min(now);
    }
}

/// What can be shown of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// Who.
    pub peer: PeerId,
    /// Whether there is a session.
    pub connected: bool,
    /// Where it may be found, best first.
    pub addresses: Vec<PeerAddress>,
}

impl Meet {
    /// Knows nobody yet. `me` is never dialed.
    #[must_use]
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            peers: BTreeMap::new(),
            loose: BTreeMap::new(),
            dials: 0,
            learned: 0,
        }
    }

    /// Takes one input; the dials that are wanted now are added to `dials`. Each of them is
    /// answered by one [`Input::Dialed`].
    pub fn step(&mut self, now: Moment, input: Input, dials: &mut Vec<Dial>) {
        match input {
            Input::Learned {
                peer,
                address,
                source,
            } => self.learned(now, peer, address, source),
            Input::Connected { peer } => {
                if let Some(peer) = self.peer(peer) {
                    peer.connected = true;
                    peer.connected_at = now;
                }
            }
            Input::Disconnected { peer } => self.disconnected(now, peer),
            Input::Dialed { dial, outcome } => self.dialed(now, dial, outcome),
            Input::Tick => {}
        }
        self.dial_what_is_due(now, dials);
    }

    /// When to call again.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        if self.dials >= DIALS_MAX {
            return None;
        }
        let peers = self.peers.values().filter(|peer| peer.wants_dial());
        let of_peers = peers.flat_map(|peer| {
            let waiting = peer.places.values().filter(|place| !place.dialing);
            waiting.map(|place| place.next.max(peer.not_before))
        });
        let loose = self
            .loose
            .values()
            .filter(|place| !place.dialing)
            .map(|place| place.next);
        of_peers.chain(loose).min()
    }

    /// All peers, in order of their ids.
    #[must_use]
    pub fn snapshot(&self) -> Vec<PeerSnapshot> {
        let shown = self.peers.iter().map(|(id, peer)| {
            let mut places: Vec<_> = peer.places.iter().collect();
            places.sort_by_key(|(_, place)| Reverse(place.rank()));
            PeerSnapshot {
                peer: *id,
                connected: peer.connected,
                addresses: places.into_iter().map(|(address, _)| *address).collect(),
            }
        });
        shown.collect()
    }

    fn learned(&mut self, now: Moment, peer: Option<PeerId>, address: PeerAddress, source: Source) {
        self.learned += 1;
        let new = Place::new(source, self.learned, now);
        let Some(id) = peer else {
            let known = self
                .peers
                .values()
                .any(|peer| peer.places.contains_key(&address));
            let room = self.loose.len() < LOOSE_MAX;
            match self.loose.get_mut(&address) {
                Some(place) => place.refresh(source, now),
                None if !known && room => {
                    self.loose.insert(address, new);
                }
                None => {}
            }
            return;
        };
        if let Some(peer) = self.peer(id) {
            match peer.places.get_mut(&address) {
                Some(place) => place.refresh(source, now),
                None => peer.add(address, new),
            }
        }
    }

    fn disconnected(&mut self, now: Moment, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.connected = false;
        let short = now - peer.connected_at < SHORT;
        peer.short_sessions = if short {
            peer.short_sessions.saturating_add(1)
        } else {
            0
        };
        // The same wait for all of them, so that the best one comes first.
        let next = now + patience(&self.me, &id, 1 + peer.short_sessions);
        for place in peer.places.values_mut() {
            place.failures = 0;
            place.next = next;
        }
    }

    fn dialed(&mut self, now: Moment, dial: Dial, outcome: Outcome) {
        self.dials = self.dials.saturating_sub(1);
        let Dial { peer, address } = dial;
        let me = self.me;
        let places = match peer {
            Some(id) => self.peers.get_mut(&id).map(|peer| &mut peer.places),
            None => Some(&mut self.loose),
        };
        let Some(places) = places else { return };
        let Some(place) = places.get_mut(&address) else {
            return;
        };
        place.dialing = false;
        match outcome {
            Outcome::Met(met) => {
                place.good = true;
                // Counts if there is no session: it was over before this was told, or there was no
                // room for it. A session that lasts wipes it out when it ends.
                place.failures = place.failures.saturating_add(1);
                place.next = now + patience(&me, &met, place.failures);
                if peer.is_none() {
                    let place = self.loose.remove(&address);
                    if let (Some(peer), Some(place)) = (self.peer(met), place) {
                        peer.add(address, place);
                    }
                }
            }
            Outcome::Unreachable | Outcome::SomebodyElse => {
                let count = if outcome == Outcome::Unreachable {
                    1
                } else {
                    SOMEBODY_ELSE
                };
                place.failures = place.failures.saturating_add(count);
                place.next = now + patience(&me, &peer.unwrap_or(me), place.failures);
                if peer.is_none() && place.failures >= LOOSE_FAILURES_MAX {
                    self.loose.remove(&address);
                }
            }
            Outcome::Myself => {
                places.remove(&address);
            }
        }
    }

    fn dial_what_is_due(&mut self, now: Moment, dials: &mut Vec<Dial>) {
        for (id, peer) in &mut self.peers {
            if self.dials >= DIALS_MAX {
                return;
            }
            if !peer.wants_dial() || peer.not_before > now {
                continue;
            }
            let due = peer
                .places
                .iter_mut()
                .filter(|(_, place)| !place.dialing && place.next <= now);
            if let Some((address, place)) = due.max_by_key(|(_, place)| place.rank()) {
                place.dialing = true;
                self.dials += 1;
                peer.not_before = now + STAGGER;
                dials.push(Dial {
                    peer: Some(*id),
                    address: *address,
                });
            }
        }
        let due = self
            .loose
            .iter_mut()
            .filter(|(_, place)| !place.dialing && place.next <= now);
        for (address, place) in due.take(DIALS_MAX - self.dials) {
            place.dialing = true;
            self.dials += 1;
            dials.push(Dial {
                peer: None,
                address: *address,
            });
        }
    }

    /// The peer of this id, new if need be; `None` for this machine itself, or if there are too
    /// many and nobody can be forgotten for it.
    fn peer(&mut self, id: PeerId) -> Option<&mut Peer> {
        if id == self.me {
            return None;
        }
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&id) {
            let idle = self
                .peers
                .iter()
                .find(|(_, peer)| peer.is_hopeless())
                .map(|(id, _)| *id)?;
            self.peers.remove(&idle);
        }
        Some(self.peers.entry(id).or_default())
    }
}

impl Peer {
    fn wants_dial(&self) -> bool {
        let dialing = self.places.values().filter(|place| place.dialing).count();
        !self.connected && dialing < DIALS_PER_PEER_MAX
    }

    fn is_hopeless(&self) -> bool {
        let in_vain = |place: &Place| !place.good && !place.dialing && place.failures > 0;
        !self.connected && self.places.values().all(in_vain)
    }

    /// Adds a place; the worst one makes room for it.
    fn add(&mut self, address: PeerAddress, place: Place) {
        if self.places.len() >= PLACES_MAX {
            let idle = self.places.iter().filter(|(_, place)| !place.dialing);
            let Some(worst) = idle
                .min_by_key(|(_, place)| place.rank())
                .map(|(at, _)| *at)
            else {
                return;
            };
            self.places.remove(&worst);
        }
        self.places.insert(address, place);
    }
}

/// How long `me` waits after so many failures: up to a quarter more or less, so that neither those
/// who lost each other at the same moment nor those who lost the same peer go on in step.
fn patience(me: &PeerId, peer: &PeerId, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(8);
    let plain = (PATIENCE_MIN * (1 << doublings)).min(PATIENCE_MAX);
    let mut hasher = blake3::Hasher::new();
    hasher.update(me.as_bytes()).update(peer.as_bytes());
    hasher.update(&failures.to_le_bytes());
    let [chance, ..] = *hasher.finalize().as_bytes();
    plain * (96 + u32::from(chance) / 4) / 128
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: PeerId = PeerId::new([1; 32]);
    const PEER: PeerId = PeerId::new([2; 32]);

    fn at(ms: u64) -> Moment {
        Moment::ORIGIN + Duration::from_millis(ms)
    }

    fn place(n: u8) -> PeerAddress {
        PeerAddress::new(([192, 0, 2, n], 7447).into()).expect("an address")
    }

    fn learned(n: u8, source: Source) -> Input {
        Input::Learned {
            peer: Some(PEER),
            address: place(n),
            source,
        }
    }

    fn step(meet: &mut Meet, ms: u64, input: Input) -> Vec<Dial> {
        let mut dials = Vec::new();
        meet.step(at(ms), input, &mut dials);
        dials
    }

    fn to(n: u8) -> Dial {
        Dial {
            peer: Some(PEER),
            address: place(n),
        }
    }

    fn failed(n: u8) -> Input {
        Input::Dialed {
            dial: to(n),
            outcome: Outcome::Unreachable,
        }
    }

    #[test]
    fn news_is_tried_at_once_and_failures_with_growing_patience() {
        let mut meet = Meet::new(ME);
        assert_eq!(meet.deadline(), None);
        assert_eq!(step(&mut meet, 0, learned(1, Source::Ticket)), [to(1)]);
        assert_eq!(
            meet.deadline(),
            None,
            "nothing to do but wait for the answer"
        );
        let mut now = 1000;
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(step(&mut meet, now, failed(1)), []);
            let next = meet
                .deadline()
                .expect("it is tried again")
                .since_origin()
                .as_millis() as u64;
            waits.push(next - now);
            now = next + 1;
            assert_eq!(step(&mut meet, now, Input::Tick), [to(1)]);
        }
        assert!((150..=250).contains(&waits[0]), "{waits:?}");
        assert!(waits.windows(2).take(6).all(|w| w[1] > w[0]), "{waits:?}");
        assert!(
            waits[11] >= 22_500 && waits.iter().all(|w| *w <= 37_500),
            "{waits:?}"
        );
        step(&mut meet, now, failed(1));
        assert_eq!(
            step(&mut meet, now + 1000, learned(1, Source::Tracker)),
            [to(1)],
            "news"
        );
    }

    #[test]
    fn the_best_place_comes_first_and_the_next_one_a_little_later() {
        let mut meet = Meet::new(ME);
        step(&mut meet, 0, Input::Connected { peer: PEER });
        for (n, source) in [
            (1, Source::Ticket),
            (2, Source::Local),
            (3, Source::Tracker),
        ] {
            assert_eq!(step(&mut meet, 0, learned(n, source)), []);
        }
        step(&mut meet, 10, Input::Disconnected { peer: PEER });
        assert_eq!(step(&mut meet, 600, Input::Tick), [to(2)]);
        assert_eq!(meet.deadline(), Some(at(850)));
        assert_eq!(step(&mut meet, 850, Input::Tick), [to(3)]);
        assert_eq!(step(&mut meet, 2000, Input::Tick), [], "two at a time");
        assert_eq!(step(&mut meet, 2000, failed(2)), [to(1)]);
        let met = Input::Dialed {
            dial: to(1),
            outcome: Outcome::Met(PEER),
        };
        step(&mut meet, 2001, Input::Connected { peer: PEER });
        step(&mut meet, 2001, met);
        step(&mut meet, 2002, failed(3));
        assert_eq!(meet.deadline(), None, "connected");
        assert_eq!(meet.snapshot()[0].addresses[0], place(1), "it has worked");
        assert_eq!(
            step(&mut meet, 9000, Input::Disconnected { peer: PEER }),
            []
        );
        assert_eq!(step(&mut meet, 9999, Input::Tick), [to(1)]);
    }

    #[test]
    fn a_peer_that_leaves_at_once_is_given_more_and_more_time() {
        let mut meet = Meet::new(ME);
        step(&mut meet, 0, learned(1, Source::Ticket));
        let mut now = 0;
        let mut waits = Vec::new();
        for lasts in [0, 0, 0, 0, 60_000] {
            step(&mut meet, now, Input::Connected { peer: PEER });
            step(
                &mut meet,
                now,
                Input::Dialed {
                    dial: to(1),
                    outcome: Outcome::Met(PEER),
                },
            );
            now += lasts;
            step(&mut meet, now, Input::Disconnected { peer: PEER });
            let next = meet.deadline().expect("again").since_origin().as_millis() as u64;
            waits.push(next - now);
            now = next + 1;
            assert_eq!(step(&mut meet, now, Input::Tick), [to(1)]);
        }
        assert!(waits.windows(2).take(3).all(|w| w[1] > w[0]), "{waits:?}");
        assert!(
            waits[4] < 300,
            "after a long one it is quick again: {waits:?}"
        );
    }

    #[test]
    fn a_session_that_is_over_before_its_dial_has_returned_is_tried_again_soon() {
        let mut meet = Meet::new(ME);
        assert_eq!(step(&mut meet, 0, learned(1, Source::Ticket)), [to(1)]);
        step(&mut meet, 5, Input::Connected { peer: PEER });
        step(&mut meet, 6, Input::Disconnected { peer: PEER });
        let met = Input::Dialed {
            dial: to(1),
            outcome: Outcome::Met(PEER),
        };
        assert_eq!(step(&mut meet, 7, met), []);
        let next = meet.deadline().expect("again").since_origin();
        assert!(next < Duration::from_secs(1), "{next:?}");
        // A peer that is met again and again, and has no room for a session, is asked less often.
        let mut waits = Vec::new();
        let mut now = 1000;
        for _ in 0..8 {
            assert_eq!(step(&mut meet, now, Input::Tick), [to(1)]);
            step(&mut meet, now, met);
            let next = meet.deadline().expect("again").since_origin().as_millis() as u64;
            waits.push(next - now);
            now = next + 1;
        }
        assert!(waits[7] > 10_000, "{waits:?}");
    }

    #[test]
    fn those_who_lost_the_same_peer_do_not_go_on_in_step() {
        let next = |me| {
            let mut meet = Meet::new(PeerId::new([me; 32]));
            step(&mut meet, 0, learned(1, Source::Ticket));
            step(&mut meet, 1000, failed(1));
            meet.deadline()
        };
        let all: std::collections::BTreeSet<_> = (3..40).map(next).collect();
        assert!(all.len() > 10, "{all:?}");
    }

    #[test]
    fn a_place_without_a_name_gets_one_or_is_forgotten() {
        let mut meet = Meet::new(ME);
        let address = place(9);
        let loose = Dial {
            peer: None,
            address,
        };
        let news = Input::Learned {
            peer: None,
            address,
            source: Source::Local,
        };
        assert_eq!(step(&mut meet, 0, news), [loose]);
        let somebody = Input::Dialed {
            dial: loose,
            outcome: Outcome::SomebodyElse,
        };
        assert_eq!(step(&mut meet, 1, somebody), []);
        let next = meet.deadline().expect("again").since_origin();
        assert!(
            next >= Duration::from_millis(1200),
            "slower than for a silent one: {next:?}"
        );
        assert_eq!(step(&mut meet, 5000, Input::Tick), [loose]);
        let met = Input::Dialed {
            dial: loose,
            outcome: Outcome::Met(PEER),
        };
        step(&mut meet, 5001, Input::Connected { peer: PEER });
        step(&mut meet, 5001, met);
        assert_eq!(meet.snapshot()[0].addresses, [address]);
        assert_eq!(step(&mut meet, 5002, news), [], "known by now");
        let mut meet = Meet::new(ME);
        step(&mut meet, 0, news);
        let mut now = 0;
        for _ in 0..LOOSE_FAILURES_MAX {
            let failed = Input::Dialed {
                dial: loose,
                outcome: Outcome::Unreachable,
            };
            step(&mut meet, now, failed);
            now += 40_000;
            step(&mut meet, now, Input::Tick);
        }
        assert_eq!(meet.deadline(), None);
    }

    #[test]
    fn this_machine_is_not_dialed() {
        let mut meet = Meet::new(ME);
        let me = Input::Learned {
            peer: Some(ME),
            address: place(1),
            source: Source::Tracker,
        };
        assert_eq!(step(&mut meet, 0, me), []);
        let news = Input::Learned {
            peer: None,
            address: place(1),
            source: Source::Local,
        };
        let dials = step(&mut meet, 0, news);
        let myself = Input::Dialed {
            dial: dials[0],
            outcome: Outcome::Myself,
        };
        assert_eq!(step(&mut meet, 1, myself), []);
        assert_eq!(meet.deadline(), None);
    }

    #[test]
    fn everything_is_bounded() {
        let mut meet = Meet::new(ME);
        let mut dials = 0;
        for n in 0..3000u32 {
            let mut id = [9; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            let [_, _, high, low] = n.to_be_bytes();
            let address = PeerAddress::new(([10, 1, high, low], 1).into()).expect("an address");
            let peer = Some(PeerId::new(id));
            let source = Source::Tracker;
            dials += step(
                &mut meet,
                0,
                Input::Learned {
                    peer,
                    address,
                    source,
                },
            )
            .len();
            dials += step(
                &mut meet,
                0,
                Input::Learned {
                    peer: None,
                    address,
                    source,
                },
            )
            .len();
            dials += step(
                &mut meet,
                0,
                Input::Learned {
                    peer: Some(PEER),
                    address,
                    source,
                },
            )
            .len();
        }
        assert_eq!(dials, DIALS_MAX);
        assert!(meet.peers.len() <= PEERS_MAX && meet.loose.len() <= LOOSE_MAX);
        assert!(
            meet.peers
                .values()
                .all(|peer| peer.places.len() <= PLACES_MAX)
        );
    }
}
