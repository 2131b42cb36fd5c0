//! What one peer believes about the others of its share, from what a tracker says.
//!
//! A tracker is not trusted: an entry counts only with the signature of the peer that it names, and
//! only if its number is not below the highest that this peer was ever seen with. So a tracker can
//! withhold, and it can invent peers of its own (whom the share's own secret then turns away), but
//! it can neither speak for a peer nor bring back what a peer said before. The view outlives the
//! connection: while the tracker is away, what was known stays known.

use std::collections::{BTreeMap, BTreeSet};

use core::net::{IpAddr, SocketAddr};

use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{
    ADDRESSES_MAX, Forged, HoldingSummary, PeerAddress, PeerEntry, ShareId, VerifiedAnnouncement,
};

use super::Verifier;

/// Of so many peers the highest number is remembered, live or not (tracker-41).
pub const HIGHEST_KNOWN_MAX: usize = 4096;

/// A peer of the share, as its own signed words and the tracker's observation say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSighting {
    /// Who.
    pub peer: PeerId,
    /// The number of its announcement.
    pub sequence: u64,
    /// Where to try to reach it, best first: as it announced itself, then its announced ports at
    /// the address that the tracker saw. Only the former are signed; neither is more than a hint
    /// until the peer has proved itself there (tracker-42). At most 32.
    pub addresses: Vec<SocketAddr>,
    /// Where the tracker saw its connection come from. Not signed.
    pub seen: SocketAddr,
    /// What it says that it holds.
    pub holding: HoldingSummary,
}

/// What is new about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Seen(PeerSighting),
    Gone(PeerId),
}

#[derive(Debug)]
pub(super) struct View {
    me: PeerId,
    share: ShareId,
    verifier: Verifier,
    live: BTreeMap<PeerId, Live>,
    /// The highest number of each peer ever seen live, and of no more than the maximum.
    highest: BTreeMap<PeerId, u64>,
    /// While a list is coming in: who was on it.
    listing: Option<BTreeSet<PeerId>>,
}

#[derive(Debug)]
struct Live {
    announcement: VerifiedAnnouncement,
    sighting: PeerSighting,
}

impl View {
    pub(super) fn new(me: PeerId, share: ShareId, verifier: Verifier) -> Self {
        Self {
            me,
            share,
            verifier,
            live: BTreeMap::new(),
            highest: BTreeMap::new(),
            listing: None,
        }
    }

    /// A part of the whole list; with the last part, whoever was not on it is gone (tracker-44).
    pub(super) fn list(
        &mut self,
        tracker: SocketAddr,
        last: bool,
        entries: &[PeerEntry],
    ) -> Result<Vec<Change>, Forged> {
        let mut changes = self.update(tracker, entries)?;
        let listed = self.listing.get_or_insert_default();
        for entry in entries {
            let peer = entry.signed.unverified().peer;
            // Anything beyond is not live in this view, so it need not be noted.
            if self.live.contains_key(&peer) {
                listed.insert(peer);
            }
        }
        if last {
            let listed = self.listing.take().unwrap_or_default();
            let gone: Vec<_> = self
                .live
                .keys()
                .copied()
                .filter(|peer| !listed.contains(peer))
                .collect();
            changes.extend(self.gone(&gone));
        }
        Ok(changes)
    }

    /// The connection is another one: a list that was cut off is forgotten.
    pub(super) fn restart(&mut self) {
        self.listing = None;
    }

    /// Takes entries in. Those of another share, of ourselves, or older than what we know are left
    /// out; a wrong signature condemns the whole frame, since an honest tracker checks them
    /// (tracker-40).
    pub(super) fn update(
        &mut self,
        tracker: SocketAddr,
        entries: &[PeerEntry],
    ) -> Result<Vec<Change>, Forged> {
        let mut changes = Vec::new();
        for entry in entries {
            let said = entry.signed.unverified();
            if said.share != self.share || said.peer == self.me {
                continue;
            }
            // A signature that was checked before is not checked again.
            let known = self.live.get(&said.peer);
            let announcement = match known {
                Some(live) if *live.announcement.signed() == entry.signed => {
                    live.announcement.clone()
                }
                Some(_) | None => entry.signed.clone().verify(self.verifier)?,
            };
            if self.may_take(announcement.peer, announcement.sequence) {
                let sighting = sight(&announcement, entry.seen, tracker);
                let known = self.live.get(&announcement.peer);
                if known.is_none_or(|live| live.sighting != sighting) {
                    changes.push(Change::Seen(sighting.clone()));
                }
                self.highest
                    .insert(announcement.peer, announcement.sequence);
                self.live.insert(
                    announcement.peer,
                    Live {
                        announcement,
                        sighting,
                    },
                );
            }
        }
        Ok(changes)
    }

    pub(super) fn gone(&mut self, peers: &[PeerId]) -> Vec<Change> {
        let gone = peers.iter().filter(|peer| self.live.remove(peer).is_some());
        gone.map(|peer| Change::Gone(*peer)).collect()
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &PeerSighting> {
        self.live.values().map(|live| &live.sighting)
    }

    /// Whether an announcement with this number may be taken, and room to remember the number. The
    /// same number again is the same peer back on the list.
    fn may_take(&mut self, peer: PeerId, sequence: u64) -> bool {
        if let Some(highest) = self.highest.get(&peer) {
            return sequence >= *highest;
        }
        if self.highest.len() < HIGHEST_KNOWN_MAX {
            return true;
        }
        let forgotten = self
            .highest
            .keys()
            .copied()
            .find(|peer| !self.live.contains_key(peer));
        forgotten.is_some_and(|peer| self.highest.remove(&peer).is_some())
    }
}

/// Where a peer might be reached.
fn sight(
    announcement: &VerifiedAnnouncement,
    seen: PeerAddress,
    tracker: SocketAddr,
) -> PeerSighting {
    // A peer beside its tracker is seen there by its loopback address, which is good for others
    // beside it; for anyone else it stands for the tracker's own address.
    let seen_ip = if seen.ip().is_loopback() && !tracker.ip().is_loopback() {
        tracker.ip().to_canonical()
    } else {
        seen.ip()
    };
    let announced = announcement
        .addresses
        .iter()
        .map(|address| address.socket_addr());
    let observed = announcement
        .addresses
        .iter()
        .map(|address| SocketAddr::new(seen_ip, address.port()));
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(2 * ADDRESSES_MAX);
    for address in announced.chain(observed) {
        if !is_link_local_v6(address.ip()) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    PeerSighting {
        peer: announcement.peer,
        sequence: announcement.sequence,
        addresses,
        seen: seen.socket_addr(),
        holding: announcement.holding.clone(),
    }
}

/// Such an address needs an interface beside it, which no message carries.
pub(super) fn is_link_local_v6(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use ahoy_wire::tracker::{Announcement, Challenge, SignedAnnouncement, Ttl};

    use super::*;

    const TRACKER: &str = "192.0.2.9:7447";

    fn share() -> ShareId {
        ShareId::new([7; 32])
    }

    fn view() -> View {
        View::new(PeerId::new([0; 32]), share(), |_, _, signature| {
            signature.0[0] == 1
        })
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn signed(peer: u8, sequence: u64, addresses: &[&str]) -> SignedAnnouncement {
        let addresses = addresses
            .iter()
            .filter_map(|text| PeerAddress::new(addr(text)));
        Announcement {
            challenge: Challenge([0; 16]),
            share: share(),
            peer: PeerId::new([peer; 32]),
            sequence,
            ttl: Ttl::from_seconds(60).expect("in range"),
            holding: HoldingSummary::default(),
            addresses: ahoy_wire::bounded::Bounded::truncated(addresses),
        }
        .sign(|_| [1; 64])
    }

    fn entry(peer: u8, sequence: u64) -> PeerEntry {
        let seen = PeerAddress::new(addr("192.0.2.1:50000")).expect("can be dialled");
        PeerEntry {
            signed: signed(peer, sequence, &["10.0.0.1:7447"]),
            seen,
        }
    }

    /// `+peer:sequence` for a sighting, `-peer` for a peer that is gone.
    fn shown(changes: Result<Vec<Change>, Forged>) -> String {
        let changes = changes.expect("nothing is forged");
        let shown = changes.iter().map(|change| match change {
            Change::Seen(sighting) => {
                format!("+{}:{}", sighting.peer.as_bytes()[0], sighting.sequence)
            }
            Change::Gone(peer) => format!("-{}", peer.as_bytes()[0]),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn who_is_not_on_a_whole_list_is_gone() {
        let (mut view, tracker) = (view(), addr(TRACKER));
        assert_eq!(
            shown(view.list(tracker, false, &[entry(1, 5), entry(2, 5)])),
            "+1:5 +2:5"
        );
        assert_eq!(shown(view.list(tracker, true, &[entry(3, 5)])), "+3:5");
        assert_eq!(shown(view.list(tracker, false, &[entry(1, 5)])), "");
        view.restart();
        assert_eq!(
            shown(view.list(tracker, true, &[entry(2, 6)])),
            "+2:6 -1 -3"
        );
        assert_eq!(
            shown(Ok(view.gone(&[PeerId::new([2; 32]), PeerId::new([9; 32])]))),
            "-2"
        );
        assert_eq!(view.live().count(), 0);
    }

    #[test]
    fn an_older_announcement_is_ignored_even_after_its_peer_was_gone() {
        let (mut view, tracker) = (view(), addr(TRACKER));
        assert_eq!(shown(view.update(tracker, &[entry(1, 5)])), "+1:5");
        assert_eq!(shown(view.update(tracker, &[entry(1, 4)])), "");
        assert_eq!(shown(Ok(view.gone(&[PeerId::new([1; 32])]))), "-1");
        assert_eq!(shown(view.update(tracker, &[entry(1, 4)])), "");
        assert_eq!(shown(view.list(tracker, true, &[entry(1, 4)])), "");
        assert_eq!(shown(view.update(tracker, &[entry(1, 5)])), "+1:5");
        assert_eq!(shown(view.update(tracker, &[entry(1, 6)])), "+1:6");
    }

    #[test]
    fn a_wrong_signature_is_an_error_and_foreign_entries_are_nothing() {
        let (mut view, tracker) = (view(), addr(TRACKER));
        let mut forged = entry(1, 5);
        forged.signed = forged.signed.unverified().clone().sign(|_| [9; 64]);
        assert_eq!(view.update(tracker, &[forged]), Err(Forged));
        let mut elsewhere = entry(1, 5).signed.unverified().clone();
        elsewhere.share = ShareId::new([8; 32]);
        let elsewhere = PeerEntry {
            signed: elsewhere.sign(|_| [1; 64]),
            ..entry(1, 5)
        };
        assert_eq!(shown(view.update(tracker, &[elsewhere, entry(0, 5)])), "");
        assert_eq!(view.live().count(), 0);
    }

    #[test]
    fn invented_peers_do_not_grow_the_view_without_end() {
        let (mut view, tracker) = (view(), addr(TRACKER));
        let seen = PeerAddress::new(addr("192.0.2.1:50000")).expect("can be dialled");
        for number in 0..HIGHEST_KNOWN_MAX as u64 + 9 {
            let mut said = signed(1, 1, &[]).unverified().clone();
            let mut key = [1; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            said.peer = PeerId::new(key);
            let entry = PeerEntry {
                signed: said.sign(|_| [1; 64]),
                seen,
            };
            assert!(view.update(tracker, &[entry]).is_ok());
        }
        assert_eq!((view.live().count(), view.highest.len()), (4096, 4096));
        assert_eq!(shown(view.update(tracker, &[entry(2, 1)])), "");
        // Once some are gone there is room again.
        let one = *view.live.keys().next().expect("not empty");
        view.gone(&[one]);
        assert_eq!(shown(view.update(tracker, &[entry(2, 1)])), "+2:1");
        assert_eq!(view.highest.len(), HIGHEST_KNOWN_MAX);
    }

    fn check_addresses(announced: &[&str], seen: &str, tracker: &str, expected: &[&str]) {
        let verified = signed(1, 1, announced)
            .verify(|_, _, _| true)
            .expect("says yes");
        let seen = PeerAddress::new(addr(seen)).expect("can be dialled");
        let addresses = sight(&verified, seen, addr(tracker)).addresses;
        let expected: Vec<_> = expected.iter().map(|text| addr(text)).collect();
        assert_eq!(addresses, expected);
    }

    #[test]
    fn a_peer_may_be_reached_where_it_says_and_where_it_was_seen() {
        let here = "127.0.0.1:7447";
        check_addresses(
            &["10.0.0.1:7000", "[fd00::1]:7000"],
            "203.0.113.1:50000",
            TRACKER,
            &["10.0.0.1:7000", "[fd00::1]:7000", "203.0.113.1:7000"],
        );
        // Beside its tracker: at the tracker's own address, unless we are beside it as well.
        check_addresses(
            &["10.0.0.1:1"],
            here,
            TRACKER,
            &["10.0.0.1:1", "192.0.2.9:1"],
        );
        check_addresses(&["10.0.0.1:1"], here, here, &["10.0.0.1:1", "127.0.0.1:1"]);
        check_addresses(&["[fe80::1]:1"], "[fe80::2]:9", TRACKER, &[]);
    }
}
