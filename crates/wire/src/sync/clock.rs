//! Version vectors: who has seen which change of whom. No wall clock decides anything.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most entries of one version vector; a share of more than this many machines that all edit the
/// same file is refused rather than left to grow without bound.
pub const ENTRIES_MAX: usize = 256;

/// Most runs of one copy that a version vector keeps apart ([`Clock::fold`]).
const RUNS_MAX: usize = 4;

/// A version vector of more entries keeps only the last run of a copy apart.
const CROWDED: usize = 64;

/// One copy of a share on one machine, and one run of it (`sync-12`): the lower half is drawn at
/// random when the copy's index is made, the upper half at each start, so that no life that a
/// backup has taken back can have counted under the same number. 0 as the upper half stands for
/// all runs of the copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

impl ReplicaId {
    /// All runs of the same copy.
    pub const fn copy(self) -> Self {
        Self(self.0 & 0xffff_ffff)
    }

    /// Whether it stands for all runs of its copy.
    pub const fn is_copy(self) -> bool {
        self.0 == self.copy().0
    }

    /// A run of the same copy; 0 stands for all of them.
    pub const fn in_run(self, run: u32) -> Self {
        Self(self.copy().0 | (run as u64) << 32)
    }

    /// Whether both are runs of one copy.
    pub const fn is_kin(self, other: Self) -> bool {
        self.copy().0 == other.copy().0
    }
}

impl std::fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0 & 0xffff)?;
        match self.0 >> 32 {
            0 => Ok(()),
            run => write!(f, "/{:x}", run & 0xffff),
        }
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
/// [`ENTRIES_MAX`] entries, no zero counts, and none for a run whose changes have all been seen
/// because all runs of its copy have, up to that count. A copy of it shares the entries until one
/// of the two is changed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Clock(Arc<[(ReplicaId, u64)]>);

/// A version vector that is out of bounds or out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version vector names each of at most {ENTRIES_MAX} replicas once, in order")]
pub struct ClockTooLong;

impl Clock {
    /// The vector that has seen just this change.
    pub fn of(dot: Dot) -> Self {
        Self([(dot.replica, dot.count)].into())
    }

    /// The highest count that it names for just this replica; 0 if none.
    pub fn named(&self, replica: ReplicaId) -> u64 {
        self.0
            .binary_search_by_key(&replica, |e| e.0)
            .map_or(0, |i| self.0[i].1)
    }

    /// The highest count of all; 0 if nothing has been seen.
    pub fn highest(&self) -> u64 {
        self.0.iter().map(|entry| entry.1).max().unwrap_or(0)
    }

    /// Adds one change; under the number of all runs of a copy, all changes of it up to that count.
    pub fn add(&mut self, dot: Dot) {
        if self.has(dot) {
            return;
        }
        match self.0.binary_search_by_key(&dot.replica, |e| e.0) {
            Ok(i) => Arc::make_mut(&mut self.0)[i].1 = dot.count,
            Err(i) => {
                let (before, after) = self.0.split_at(i);
                self.0 = [before, &[(dot.replica, dot.count)], after].concat().into();
            }
        }
        let is_within = |&(replica, count): &(ReplicaId, u64)| {
            replica != dot.replica && replica.is_kin(dot.replica) && count <= dot.count
        };
        if dot.replica.is_copy() && self.0.iter().any(is_within) {
            let others = self.0.iter().filter(|entry| !is_within(entry));
            self.0 = others.copied().collect();
        }
    }

    /// Keeps no more than the last runs of this copy apart, so that the vector does not grow with
    /// every start: of the older ones it says from now on that all runs of the copy have been seen
    /// as far as that. Only the copy itself may say so.
    pub fn fold(&mut self, replica: ReplicaId) {
        let most = if self.len() > CROWDED { 1 } else { RUNS_MAX };
        if self.len() <= most {
            return;
        }
        let is_run = |it: &ReplicaId| it.is_kin(replica) && !it.is_copy();
        let runs = self.entries().filter(|(it, _)| is_run(it));
        let mut counts: Vec<u64> = runs.map(|(_, count)| count).collect();
        counts.sort_unstable();
        if let Some(last) = counts.len().checked_sub(most + 1) {
            self.add(Dot {
                count: counts[last],
                replica: replica.copy(),
            });
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
        self.entries()
            .all(|(replica, count)| other.has(Dot { count, replica }))
    }

    /// Whether the change `dot` has been seen; under the number of all runs of a copy, whether all
    /// changes of it up to that count have.
    pub fn has(&self, dot: Dot) -> bool {
        let is_named = |replica| self.named(replica) >= dot.count;
        is_named(dot.replica) || is_named(dot.replica.copy())
    }

    /// Each replica that it names, with the highest count seen of it.
    pub fn entries(&self) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Whether an entry says nothing that another one does not say.
    fn is_wordy(&self) -> bool {
        let says_less = |(replica, count): (ReplicaId, u64)| {
            !replica.is_copy() && count <= self.named(replica.copy())
        };
        self.len() > 1 && self.entries().any(says_less)
    }

    /// How many entries it has.
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
        if !ordered || !positive || entries.len() > ENTRIES_MAX {
            return Err(ClockTooLong);
        }
        let clock = Self(entries.into());
        if clock.is_wordy() {
            return Err(ClockTooLong);
        }
        Ok(clock)
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
        write!(f, "at most {ENTRIES_MAX} replicas and counts")
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
            if all.len() >= ENTRIES_MAX {
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

    /// Run `run` of copy 7; 0 for all its runs.
    const fn run(run: u64) -> u64 {
        run << 32 | 7
    }

    // sync-38.
    #[test]
    fn a_run_says_nothing_of_what_another_run_has_seen() {
        let check = |a: &[(u64, u64)], b: &[(u64, u64)], want| {
            assert_eq!(clock(a).relation(&clock(b)), want, "{a:?} {b:?}");
        };
        check(&[(run(1), 5)], &[(run(2), 9)], Relation::Concurrent);
        let both = [(run(1), 5), (run(2), 9)];
        check(&both, &[(run(1), 5)], Relation::After);
        check(&both, &[(run(1), 6)], Relation::Concurrent);
        // Of all runs something has been seen.
        check(&[(run(0), 5)], &[(run(1), 5)], Relation::After);
        check(&[(run(0), 5)], &[(run(1), 6)], Relation::Concurrent);
        check(&[(run(0), 5), (run(1), 9)], &[(run(1), 8)], Relation::After);
        check(&[(run(1), 5)], &[(run(0), 4)], Relation::Concurrent);
        check(&[(run(0), 5)], &[(8, 5)], Relation::Concurrent);
    }

    #[test]
    fn what_all_runs_have_been_seen_of_is_said_once() {
        let joined = clock(&[(run(0), 5), (run(3), 9)]).join(&clock(&[(run(1), 5), (run(2), 6)]));
        assert_eq!(joined, clock(&[(run(0), 5), (run(2), 6), (run(3), 9)]));
        let all = clock(&[(run(0), 8)]);
        assert_eq!(joined.join(&all), clock(&[(run(0), 8), (run(3), 9)]));
        assert_eq!(all.join(&joined), joined.join(&all));
    }

    // sync-13.
    #[test]
    fn a_vector_does_not_grow_with_every_run() {
        let mut clock = clock(&[(9, 1)]);
        for n in 1..=100 {
            let replica = ReplicaId(run(n % 7 * 1000 + n));
            let count = 10 * n;
            clock.add(Dot { count, replica });
            clock.fold(replica);
            for has in 1..=n {
                let replica = ReplicaId(run(has % 7 * 1000 + has));
                let count = 10 * has;
                assert!(clock.has(Dot { count, replica }), "{has} after {n}");
            }
            // A life that was taken back lately.
            let replica = ReplicaId(run(5555));
            let count = count - 5;
            assert!(!clock.has(Dot { count, replica }), "{n}");
            assert!(clock.len() <= RUNS_MAX + 2, "{clock:?}");
        }
    }

    #[test]
    fn a_crowded_vector_keeps_one_run_apart() {
        let crowd: Vec<_> = (100..200).map(|n| (n, 1)).collect();
        let mut clock = clock(&crowd);
        for n in 1..=3 {
            let (replica, count) = (ReplicaId(run(n)), n);
            clock.add(Dot { count, replica });
            clock.fold(replica);
        }
        assert_eq!(clock.len(), 102);
        assert_eq!(clock.named(ReplicaId(run(0))), 2);
        assert_eq!(clock.named(ReplicaId(run(3))), 3);
    }

    proptest::proptest! {
        /// Vectors are sets of changes: what one says of a change is all there is to them.
        #[test]
        fn a_vector_has_what_its_parts_have(parts in proptest::collection::vec(
            proptest::collection::vec((0u64..3, 0u64..3, 1u64..5), 0..6), 2..4,
        )) {
            let dot = |copy, run, count| Dot { count, replica: ReplicaId(run << 32 | copy) };
            let clocks: Vec<Clock> = (parts.iter())
                .map(|part| {
                    let mut clock = Clock::default();
                    part.iter().for_each(|&(copy, run, count)| clock.add(dot(copy, run, count)));
                    clock
                })
                .collect();
            let joined = clocks.iter().fold(Clock::default(), |all, clock| all.join(clock));
            let back = clocks.iter().rev().fold(Clock::default(), |all, clock| all.join(clock));
            proptest::prop_assert_eq!(&joined, &back);
            let listed: Vec<_> = joined.entries().collect();
            proptest::prop_assert_eq!(Clock::try_from(&listed[..]), Ok(joined.clone()));
            for (copy, run, count) in
                (0..3).flat_map(|c| (1..3).flat_map(move |r| (1..6).map(move |n| (c, r, n))))
            {
                let has = |clock: &Clock| clock.has(dot(copy, run, count));
                proptest::prop_assert_eq!(has(&joined), clocks.iter().any(has));
            }
            for clock in &clocks {
                proptest::prop_assert!(clock.within(&joined));
                let is_all = joined.within(clock);
                proptest::prop_assert_eq!(is_all, *clock == joined);
            }
        }
    }

    // sync-13.
    #[test]
    fn unordered_or_huge_vectors_are_refused() {
        let entry = |r: u64| (ReplicaId(r), 1);
        assert!(Clock::try_from(&[entry(2), entry(1)][..]).is_err());
        assert!(Clock::try_from(&[entry(1), entry(1)][..]).is_err());
        assert!(Clock::try_from(&[(ReplicaId(1), 0)][..]).is_err());
        let both = |run_too| [(ReplicaId(7), 5), (ReplicaId(run(1)), run_too)];
        assert!(Clock::try_from(&both(5)[..]).is_err(), "said twice");
        assert!(Clock::try_from(&both(6)[..]).is_ok());
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
