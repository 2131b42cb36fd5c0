//! Version vectors: who has seen which change of whom. No wall clock decides anything.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most replicas that one version vector may name; a share of more than this many machines that
/// all edit the same file is refused rather than left to grow without bound.
pub const REPLICAS_MAX: usize = 256;

/// One copy of a share on one machine (`sync-12`); chosen at random when its index is made, never
/// reused, so that a lost index cannot count the same change twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

impl std::fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0 & 0xffff)
    }
}

/// The name of one change: the `count`-th change that `replica` made anywhere in the share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// First in the order, so that comparing dots prefers no machine over another.
    pub count: u64,
    /// Who made the change.
    pub replica: ReplicaId,
}

impl std::fmt::Debug for Dot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}:{}", self.replica, self.count)
    }
}

/// How two version vectors stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equal,
    /// The left one has seen all that the right one has, and more.
    After,
    /// The right one has seen all that the left one has, and more.
    Before,
    /// Each has seen something that the other has not.
    Concurrent,
}

/// A version vector: for each replica the highest count seen; sorted by replica, at most
/// [`REPLICAS_MAX`] entries, no zero counts. A copy of it shares the entries until one of the two
/// is changed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Clock(Arc<[(ReplicaId, u64)]>);

/// A version vector that is out of bounds or out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version vector names each of at most {REPLICAS_MAX} replicas once, in order")]
pub struct ClockTooLong;

impl Clock {
    /// The vector that has seen just this change.
    pub fn of(dot: Dot) -> Self {
        Self([(dot.replica, dot.count)].into())
    }

    /// The highest count seen of `replica`; 0 if none.
    pub fn seen(&self, replica: ReplicaId) -> u64 {
        self.0
            .binary_search_by_key(&replica, |e| e.0)
            .map_or(0, |i| self.0[i].1)
    }

    /// The highest count of all; 0 if nothing has been seen.
    pub fn highest(&self) -> u64 {
        self.0.iter().map(|entry| entry.1).max().unwrap_or(0)
    }

    /// Adds one change.
    pub fn add(&mut self, dot: Dot) {
        match self.0.binary_search_by_key(&dot.replica, |e| e.0) {
            Ok(i) if self.0[i].1 >= dot.count => {}
            Ok(i) => Arc::make_mut(&mut self.0)[i].1 = dot.count,
            Err(i) => {
                let (before, after) = self.0.split_at(i);
                self.0 = [before, &[(dot.replica, dot.count)], after].concat().into();
            }
        }
    }

    /// The least vector that has seen all that either has seen.
    pub fn join(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        for (replica, count) in other.entries() {
            joined.add(Dot { count, replica });
        }
        joined
    }

    /// How `self` stands to `other`.
    pub fn relation(&self, other: &Self) -> Relation {
        match (other.within(self), self.within(other)) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::After,
            (false, true) => Relation::Before,
            (false, false) => Relation::Concurrent,
        }
    }

    /// Whether `other` has seen all that `self` has.
    pub fn within(&self, other: &Self) -> bool {
        self.0
            .iter()
            .all(|&(replica, count)| other.seen(replica) >= count)
    }

    /// Whether the change `dot` has been seen.
    pub fn has(&self, dot: Dot) -> bool {
        self.seen(dot.replica) >= dot.count
    }

    /// Each replica that it names, with the highest count seen of it.
    pub fn entries(&self) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Takes back that more than `most` changes of a replica have been seen.
    pub fn cap(&mut self, replica: ReplicaId, most: u64) {
        if self.seen(replica) <= most {
            return;
        }
        let capped = self.entries().map(|(each, count)| {
            let count = if each == replica { most } else { count };
            (each, count)
        });
        self.0 = capped.filter(|entry| entry.1 > 0).collect();
    }

    /// How many replicas it names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has seen nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<&[(ReplicaId, u64)]> for Clock {
    type Error = ClockTooLong;
    fn try_from(entries: &[(ReplicaId, u64)]) -> Result<Self, ClockTooLong> {
        let ordered = entries
            .windows(2)
            .all(|w| w[0].0.cmp(&w[1].0) == Ordering::Less);
        let positive = entries.iter().all(|e| e.1 > 0);
        if ordered && positive && entries.len() <= REPLICAS_MAX {
            Ok(Self(entries.into()))
        } else {
            Err(ClockTooLong)
        }
    }
}

impl<'de> Deserialize<'de> for Clock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Entries)
    }
}

/// Takes a vector's entries in.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Clock;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {REPLICAS_MAX} replicas and counts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Clock, A::Error> {
        let Some(first) = entries.next_element()? else {
            return Ok(Clock::default());
        };
        // Nearly always there is one.
        let Some(second) = entries.next_element()? else {
            return Clock::try_from(&[first][..]).map_err(A::Error::custom);
        };
        let mut all = vec![first, second];
        while let Some(entry) = entries.next_element()? {
            if all.len() >= REPLICAS_MAX {
                return Err(A::Error::custom(ClockTooLong));
            }
            all.push(entry);
        }
        Clock::try_from(&all[..]).map_err(A::Error::custom)
    }
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        <[(ReplicaId, u64)]>::serialize(&self.0, serializer)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|e| (&e.0, &e.1)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(entries: &[(u64, u64)]) -> Clock {
        let entries: Vec<_> = entries.iter().map(|&(r, c)| (ReplicaId(r), c)).collect();
        Clock::try_from(&entries[..]).expect("a good clock")
    }

    #[test]
    fn relations() {
        let check = |a: &[(u64, u64)], b: &[(u64, u64)], want| {
            assert_eq!(clock(a).relation(&clock(b)), want, "{a:?} {b:?}");
        };
        check(&[], &[], Relation::Equal);
        check(&[(1, 1)], &[], Relation::After);
        check(&[(1, 1)], &[(1, 2)], Relation::Before);
        check(&[(1, 1)], &[(2, 1)], Relation::Concurrent);
        check(&[(1, 2), (2, 1)], &[(1, 1), (2, 2)], Relation::Concurrent);
    }

    #[test]
    fn a_join_has_seen_both() {
        let joined = clock(&[(1, 2), (3, 1)]).join(&clock(&[(1, 1), (2, 5)]));
        assert_eq!(joined, clock(&[(1, 2), (2, 5), (3, 1)]));
    }

    #[test]
    fn what_is_taken_back_has_not_been_seen() {
        let capped = |replica, most| {
            let mut clock = clock(&[(1, 5), (2, 7)]);
            clock.cap(ReplicaId(replica), most);
            clock
        };
        assert_eq!(capped(2, 3), clock(&[(1, 5), (2, 3)]));
        assert_eq!(capped(2, 9), clock(&[(1, 5), (2, 7)]));
        assert_eq!(capped(2, 0), clock(&[(1, 5)]));
        assert_eq!(capped(3, 0), clock(&[(1, 5), (2, 7)]));
    }

    // sync-13.
    #[test]
    fn unordered_or_huge_vectors_are_refused() {
        let entry = |r: u64| (ReplicaId(r), 1);
        assert!(Clock::try_from(&[entry(2), entry(1)][..]).is_err());
        assert!(Clock::try_from(&[entry(1), entry(1)][..]).is_err());
        assert!(Clock::try_from(&[(ReplicaId(1), 0)][..]).is_err());
        assert!(Clock::try_from(&(0..257).map(entry).collect::<Vec<_>>()[..]).is_err());
    }

    // sync-13.
    #[test]
    fn what_is_read_is_what_was_written_and_is_checked() {
        for entries in [
            &[][..],
            &[(1, 5)],
            &[(1, 5), (2, 300)],
            &[(1, 1), (2, 2), (3, 3)],
        ] {
            let clock = clock(entries);
            let bytes = postcard::to_stdvec(&clock).expect("encodes");
            let listed: Vec<_> = clock.entries().collect();
            assert_eq!(bytes, postcard::to_stdvec(&listed).expect("encodes"));
            assert_eq!(postcard::from_bytes(&bytes), Ok(clock));
        }
        let huge: Vec<_> = (1..=257).map(|r| (ReplicaId(r), 1)).collect();
        for bad in [
            &huge[..],
            &[(ReplicaId(1), 0)],
            &[(ReplicaId(2), 1), (ReplicaId(1), 1)],
        ] {
            let bytes = postcard::to_stdvec(bad).expect("encodes");
            assert!(postcard::from_bytes::<Clock>(&bytes).is_err(), "{bad:?}");
        }
    }
}
