//! Who is announced where: the announcements, in the three orders in which they are asked for.
//!
//! By share, for lists; by deadline, for expiry; by source address, for fairness. When there is no
//! more room, whoever comes from the address that holds the most gives way, but only to an address
//! that would still hold less: so one address cannot push others out, however much it announces.
//!
//! Nothing here knows connections beyond their numbers, or sends anything.

use std::collections::{BTreeMap, BTreeSet};

use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{PeerAddress, PeerEntry, Refusal, ShareId, VerifiedAnnouncement};

use crate::expiring::ExpiringMap;
use crate::machine::ConnectionId;
use crate::moment::Moment;

use super::{Limits, Source};

/// An announcement is one peer in one share.
pub(super) type Key = (ShareId, PeerId);

/// An announcement as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) announcement: VerifiedAnnouncement,
    /// Where the connection came from.
    pub(super) seen: PeerAddress,
    pub(super) source: Source,
    /// The announcement lives no longer than this connection.
    pub(super) connection: ConnectionId,
}

impl Held {
    pub(super) fn key(&self) -> Key {
        (self.announcement.share, self.announcement.peer)
    }

    pub(super) fn entry(&self) -> PeerEntry {
        PeerEntry {
            signed: self.announcement.signed().clone(),
            seen: self.seen,
        }
    }
}

/// What became of an announcement that was put in.
#[derive(Debug)]
pub(super) enum Put {
    /// It is new. Another may have had to make room for it.
    New { evicted: Option<Box<Held>> },
    /// It stands in the place of this one.
    Replaced(Box<Held>),
}

#[derive(Debug)]
pub(super) struct Registry {
    held: ExpiringMap<Key, Held>,
    /// Never an empty set.
    shares: BTreeMap<ShareId, BTreeSet<PeerId>>,
    /// Never an empty set.
    sources: BTreeMap<Source, BTreeSet<Key>>,
    /// One pair for each source: how many it holds, and which it is.
    by_load: BTreeSet<(usize, Source)>,
    peers_per_share_max: usize,
}

impl Registry {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            held: ExpiringMap::new(limits.announcements_max),
            shares: BTreeMap::new(),
            sources: BTreeMap::new(),
            by_load: BTreeSet::new(),
            peers_per_share_max: limits.peers_per_share_max,
        }
    }

    /// Keeps an announcement until `deadline`, in the place of an earlier one with its key.
    ///
    /// # Errors
    /// A refusal that may be told; nothing has changed then.
    pub(super) fn put(&mut self, held: Held, deadline: Moment) -> Result<Put, Refusal> {
        let key = held.key();
        if let Some(former) = self.take(&key) {
            self.insert(held, deadline);
            return Ok(Put::Replaced(Box::new(former)));
        }
        let peers = self.shares.get(&key.0).map_or(0, BTreeSet::len);
        if peers >= self.peers_per_share_max {
            return Err(Refusal::ShareFull);
        }
        let evicted = if self.held.len() >= self.held.len_max() {
            Some(Box::new(
                self.make_room(held.source).ok_or(Refusal::TrackerFull)?,
            ))
        } else {
            None
        };
        self.insert(held, deadline);
        Ok(Put::New { evicted })
    }

    pub(super) fn get(&self, key: &Key, now: Moment) -> Option<&Held> {
        self.held.get(key, now)
    }

    /// Moves the end of an announcement.
    pub(super) fn renew(&mut self, key: &Key, now: Moment, deadline: Moment) {
        self.held.renew(key, now, deadline);
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Held> {
        let held = self.held.remove(key)?;
        self.forget(&held);
        Some(held)
    }

    pub(super) fn expire_one(&mut self, now: Moment) -> Option<Held> {
        let (_, held) = self.held.expire_one(now)?;
        self.forget(&held);
        Some(held)
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.held.deadline()
    }

    /// The live announcements of a share, in order of their peers.
    pub(super) fn of_share(&self, share: ShareId, now: Moment) -> impl Iterator<Item = &Held> {
        let peers = self.shares.get(&share).into_iter().flatten();
        peers.filter_map(move |peer| self.held.get(&(share, *peer), now))
    }

    /// The connections on which anyone is announced in a share.
    pub(super) fn connections(&self, share: ShareId, now: Moment) -> BTreeSet<ConnectionId> {
        self.of_share(share, now)
            .map(|held| held.connection)
            .collect()
    }

    pub(super) fn announcements(&self) -> usize {
        self.held.len()
    }

    pub(super) fn shares(&self) -> usize {
        self.shares.len()
    }

    /// Takes one announcement from the source with the most, if `source` stays below it even with
    /// one more than now (tracker-31).
    fn make_room(&mut self, source: Source) -> Option<Held> {
        let &(load_max, heaviest) = self.by_load.last()?;
        let load = self.sources.get(&source).map_or(0, BTreeSet::len);
        if load + 1 >= load_max {
            return None;
        }
        let key = *self.sources.get(&heaviest)?.last()?;
        self.take(&key)
    }

    fn insert(&mut self, held: Held, deadline: Moment) {
        let key = held.key();
        self.shares.entry(key.0).or_default().insert(key.1);
        let source = held.source;
        let keys = self.sources.entry(source).or_default();
        self.by_load.remove(&(keys.len(), source));
        keys.insert(key);
        self.by_load.insert((keys.len(), source));
        let replaced = self
            .held
            .insert(key, held, deadline)
            .expect("room was made before");
        debug_assert!(replaced.is_none(), "what is replaced is taken out before");
        self.check();
    }

    fn forget(&mut self, held: &Held) {
        let key = held.key();
        if let Some(peers) = self.shares.get_mut(&key.0) {
            peers.remove(&key.1);
            if peers.is_empty() {
                self.shares.remove(&key.0);
            }
        }
        if let Some(keys) = self.sources.get_mut(&held.source) {
            self.by_load.remove(&(keys.len(), held.source));
            keys.remove(&key);
            if keys.is_empty() {
                self.sources.remove(&held.source);
            } else {
                self.by_load.insert((keys.len(), held.source));
            }
        }
        self.check();
    }

    fn check(&self) {
        debug_assert_eq!(
            self.by_load.len(),
            self.sources.len(),
            "one load for each source"
        );
        debug_assert!(
            self.shares.len() <= self.held.len(),
            "no share without a peer"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ahoy_wire::tracker::{Announcement, Challenge, HoldingSummary, Ttl};

    use super::*;

    const NOW: Moment = Moment::ORIGIN;

    fn registry(announcements_max: usize, peers_per_share_max: usize) -> Registry {
        Registry::new(&Limits {
            announcements_max,
            peers_per_share_max,
            ..Limits::default()
        })
    }

    fn held(share: u8, peer: u8, source: &str) -> Held {
        let seen = source.parse().expect("an address");
        Held {
            announcement: Announcement {
                challenge: Challenge([0; 16]),
                share: ShareId::new([share; 32]),
                peer: PeerId::new([peer; 32]),
                sequence: 1,
                ttl: Ttl::from_seconds(60).expect("in range"),
                holding: HoldingSummary::default(),
                addresses: Default::default(),
            }
            .sign(|_| [0; 64])
            .verify(|_, _, _| true)
            .expect("the check says yes"),
            seen: PeerAddress::new(seen).expect("can be dialled"),
            source: Source::of(seen),
            connection: ConnectionId(u64::from(peer)),
        }
    }

    fn put(registry: &mut Registry, held: Held) -> Result<Option<Key>, Refusal> {
        match registry.put(held, NOW + Duration::from_secs(60))? {
            Put::New { evicted } => Ok(evicted.map(|held| held.key())),
            Put::Replaced(former) => Ok(Some(former.key())),
        }
    }

    #[test]
    fn a_share_keeps_as_many_peers_as_it_may() {
        let mut registry = registry(9, 2);
        for peer in [1, 2] {
            assert_eq!(put(&mut registry, held(7, peer, "192.0.2.1:1")), Ok(None));
        }
        assert_eq!(
            put(&mut registry, held(7, 3, "192.0.2.2:1")),
            Err(Refusal::ShareFull)
        );
        let again = held(7, 2, "192.0.2.1:1");
        assert_eq!(put(&mut registry, again.clone()), Ok(Some(again.key())));
        assert_eq!(registry.of_share(ShareId::new([7; 32]), NOW).count(), 2);
        assert_eq!((registry.announcements(), registry.shares()), (2, 1));
    }

    #[test]
    fn the_address_that_holds_the_most_gives_way_and_only_to_one_that_holds_less() {
        let mut registry = registry(4, 9);
        for peer in 1..=4 {
            assert_eq!(
                put(&mut registry, held(peer, peer, "192.0.2.1:1")),
                Ok(None)
            );
        }
        // The heavy address cannot make room for itself.
        let refused = put(&mut registry, held(9, 9, "192.0.2.1:2"));
        assert_eq!(refused, Err(Refusal::TrackerFull));
        // Another one gets room until both hold the same.
        let evicted = put(&mut registry, held(5, 5, "192.0.2.2:1"));
        assert_eq!(evicted, Ok(Some(held(4, 4, "192.0.2.1:1").key())));
        let evicted = put(&mut registry, held(6, 6, "192.0.2.2:1"));
        assert_eq!(evicted, Ok(Some(held(3, 3, "192.0.2.1:1").key())));
        let refused = put(&mut registry, held(8, 8, "192.0.2.2:1"));
        assert_eq!(refused, Err(Refusal::TrackerFull));
        // A third one still finds room.
        assert!(matches!(
            put(&mut registry, held(8, 8, "192.0.2.3:1")),
            Ok(Some(_))
        ));
        assert_eq!(registry.announcements(), 4);
    }

    #[test]
    fn what_is_taken_out_is_out_of_every_order() {
        let mut registry = registry(4, 9);
        let one = held(1, 1, "192.0.2.1:1");
        assert_eq!(put(&mut registry, one.clone()), Ok(None));
        assert!(registry.take(&one.key()).is_some());
        assert!(registry.take(&one.key()).is_none());
        assert_eq!(put(&mut registry, one), Ok(None));
        assert!(registry.expire_one(NOW + Duration::from_secs(59)).is_none());
        assert!(registry.expire_one(NOW + Duration::from_secs(60)).is_some());
        assert_eq!((registry.announcements(), registry.shares()), (0, 0));
        assert!(registry.sources.is_empty() && registry.by_load.is_empty());
        assert!(registry.deadline().is_none());
    }
}
