//! The numbers under which this machine counts its changes, and what has been counted under each
//! (`sync-12`, `sync-38`).
//!
//! An index that was put back from a backup does not know what was counted after the backup was
//! made, but the peers do. So the index keeps, run by run, which counts it has given, and what a
//! peer knows of this machine's changes is held against that. A count that the index has not given
//! was given by a life that it knows nothing of: what was changed since claims to have seen that
//! life's changes, because of the one number, and has not. Then this machine takes a number that
//! nobody has used, and makes its changes since then again under that, without the claim.
//!
//! It does not keep numbers from being given twice: that is what each run's floor is for.

use std::collections::BTreeMap;

use ahoy_wire::sync::{Clock, Dot, NodeId, Record, ReplicaId, Value};
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::planted::{self, Bug};
use super::{Effect, Synced};

/// Most runs of one number whose counts are kept apart. Of the older ones it is believed that
/// between them nothing was lost.
const RUNS_MAX: usize = 64;

/// Most numbers that are remembered as this machine's own.
const OWN_MAX: usize = 16;

/// Most other numbers of which the highest count is known.
const KNOWN_MAX: usize = 65_536;

/// What has been counted under one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The number.
    pub replica: ReplicaId,
    /// Runs of counts that have been given, in order: above the first, up to the second.
    pub runs: Vec<(u64, u64)>,
}

impl Counted {
    fn new(replica: ReplicaId) -> Self {
        let runs = Vec::new();
        Self { replica, runs }
    }

    /// If this count was not given: the highest that was given before it, and that above which the
    /// next ones were.
    fn gap(&self, count: u64) -> Option<(u64, u64)> {
        let is_given = |run: &&(u64, u64)| run.0 < count && count <= run.1;
        if count == 0 || self.runs.iter().any(|run| is_given(&run)) {
            return None;
        }
        let before = self.runs.iter().map(|run| run.1).filter(|to| *to < count);
        let after = self.runs.iter().map(|run| run.0);
        let after = after.filter(|from| *from >= count).min();
        Some((before.max().unwrap_or(0), after.unwrap_or(u64::MAX)))
    }

    fn tidy(&mut self) {
        self.runs.sort_unstable();
        while self.runs.len() > RUNS_MAX {
            let (from, _) = self.runs.remove(0);
            self.runs[0].0 = from;
        }
    }
}

/// This machine's own numbers, and how far others' are known.
#[derive(Debug)]
pub struct Numbers {
    first: ReplicaId,
    family: u64,
    /// The one in use comes last.
    own: Vec<Counted>,
    /// One that nobody has used yet.
    spare: Option<ReplicaId>,
    /// Something was counted in this run.
    has_counted: bool,
    is_restored: bool,
    known: BTreeMap<ReplicaId, u64>,
    stale: bool,
}

impl Numbers {
    /// Of a machine that has not counted anything yet.
    pub fn new(replica: ReplicaId, spare: ReplicaId, family: u64) -> Self {
        Self {
            first: replica,
            family,
            own: vec![Counted::new(replica)],
            spare: Some(spare),
            has_counted: false,
            is_restored: false,
            known: BTreeMap::new(),
            stale: false,
        }
    }

    /// What the index remembers.
    pub fn restore(&mut self, own: Vec<Counted>) {
        if !own.is_empty() {
            self.own = own;
            self.is_restored = true;
        }
    }

    /// The index is from before anybody wrote down which counts were given: believe all of them.
    pub fn believe(&mut self, dots: u64) {
        if !self.is_restored && dots > 0 {
            self.latest().runs = vec![(0, dots)];
        }
    }

    /// The number in use.
    pub fn current(&self) -> ReplicaId {
        self.own.last().expect("there is always one").replica
    }

    /// Whether this machine counts, or has counted, under that number.
    pub fn is_own(&self, replica: ReplicaId) -> bool {
        let is_kin = (self.first.0 ^ replica.0) & self.family == 0;
        is_kin || self.own.iter().any(|own| own.replica == replica)
    }

    /// Whether a change was counted by this machine, and not surely by the life that it is in.
    pub fn may_be_lost(&self, dot: Dot) -> bool {
        let is_known = dot.replica == self.current() && self.gap(dot.replica, dot.count).is_none();
        self.is_own(dot.replica) && !is_known
    }

    /// This count is given.
    pub fn give(&mut self, count: u64) {
        self.stale = true;
        let goes_on = std::mem::replace(&mut self.has_counted, true);
        let latest = self.latest();
        match latest.runs.last_mut() {
            Some(run) if goes_on || run.1 + 1 >= count => run.1 = run.1.max(count),
            Some(_) | None => latest.runs.push((count.saturating_sub(1), count)),
        }
        latest.tidy();
    }

    /// From now on counts are given under the spare number; false if there is none left.
    pub fn renew(&mut self) -> bool {
        let Some(spare) = self.spare.take() else {
            return false;
        };
        self.own.push(Counted::new(spare));
        if self.own.len() > OWN_MAX {
            self.own.remove(0);
        }
        self.has_counted = false;
        self.stale = true;
        true
    }

    /// The own numbers, if they have to be kept.
    pub fn take_stale(&mut self) -> Option<Vec<Counted>> {
        std::mem::take(&mut self.stale).then(|| self.own.clone())
    }

    /// Of which numbers up to which count a change is known.
    pub fn learn(&mut self, clock: &Clock) {
        for (replica, count) in clock.entries() {
            let room = self.known.len() < KNOWN_MAX;
            if room || self.known.contains_key(&replica) {
                let known = self.known.entry(replica).or_insert(0);
                *known = count.max(*known);
            }
        }
    }

    /// The highest known count of that number.
    pub fn known(&self, replica: ReplicaId) -> u64 {
        self.known.get(&replica).copied().unwrap_or(0)
    }

    fn latest(&mut self) -> &mut Counted {
        self.own.last_mut().expect("there is always one")
    }

    fn gap(&self, replica: ReplicaId, count: u64) -> Option<(u64, u64)> {
        let own = self.own.iter().find(|own| own.replica == replica)?;
        own.gap(count)
    }

    /// Of this gap it is known now that something was lost in it.
    fn close(&mut self, replica: ReplicaId, gap: (u64, u64)) {
        if let Some(own) = self.own.iter_mut().find(|own| own.replica == replica) {
            own.runs.push(gap);
            own.tidy();
            self.stale = true;
        }
    }
}

impl Engine {
    /// A peer knows of this change by this machine. True if it is one that this machine does not
    /// know of under the number that it uses now: then all sessions have been ended.
    pub(super) fn is_from_lost_life(&mut self, replica: ReplicaId, count: u64) -> bool {
        if self.is_reader() || planted::is(Bug::CountersForgotten) {
            return false;
        }
        let Some(gap) = self.numbers.gap(replica, count) else {
            return false;
        };
        let is_current = replica == self.numbers.current();
        if is_current && !self.numbers.renew() {
            return false;
        }
        tracing::warn!(
            "the index was put back from a backup: this machine has made changes of which it \
             does not know, and goes on under a new number"
        );
        self.numbers.close(replica, gap);
        self.count_anew(replica, gap.0);
        if is_current {
            let links: Vec<_> = self.gossip.open_links().collect();
            for link in links {
                let reason = "this machine has got a new number".into();
                self.out.push(Effect::Hang { link, reason });
                self.closed(link);
            }
        }
        is_current
    }

    /// The same, of all that the vectors of a record say.
    pub(super) fn is_record_from_lost_life(&mut self, record: &Record) -> bool {
        let clocks = clocks_of(record).into_iter().flat_map(Clock::entries);
        let own: Vec<_> = clocks.filter(|it| self.numbers.is_own(it.0)).collect();
        own.into_iter()
            .any(|(replica, count)| self.is_from_lost_life(replica, count))
    }

    /// Makes all changes again that this machine has counted above `above` under that number, and
    /// takes back the claim to have seen what it has lost.
    fn count_anew(&mut self, replica: ReplicaId, above: u64) {
        let cap = |clock: &mut Clock| clock.cap(replica, above);
        self.unnoted.each_clock(cap);
        self.work.each_clock(cap);
        let claims = |clock: &Clock| clock.seen(replica) > above;
        let concerned = self.tree.nodes().filter(|(_, node)| {
            let synced = node.synced.iter().flat_map(Synced::clocks);
            let mut clocks = clocks_of(&node.record).into_iter().chain(synced);
            clocks.any(claims)
        });
        let concerned: Vec<NodeId> = concerned.map(|(id, _)| *id).collect();
        for id in concerned {
            self.count_node_anew(id, replica, above);
        }
    }

    fn count_node_anew(&mut self, id: NodeId, replica: ReplicaId, above: u64) {
        let Some(node) = self.tree.node(id) else {
            return;
        };
        let (mut record, mut synced) = (node.record.clone(), node.synced.clone());
        let sequence = node.sequence;
        let is_suspect = |dot: Dot| dot.replica == replica && dot.count > above;
        // What lost a conflict is a node of its own, which no lost life knew, and its name follows
        // from the change: everybody makes the same one.
        let lost = |dot: Dot| {
            let original = record.copy_of?;
            (NodeId::conflict_copy(original, dot) == id).then_some(dot)
        };
        let renumber = |engine: &mut Self, clock: &mut Clock, dot: Dot| {
            if lost(dot).is_some() {
                return None;
            }
            clock.cap(replica, above);
            is_suspect(dot).then(|| {
                let fresh = engine.dot();
                clock.add(fresh);
                fresh
            })
        };
        let (mut body, mut place) = (record.body.clone(), record.place.clone());
        let new_place = renumber(self, &mut place.clock, place.dot);
        let new_body = renumber(self, &mut body.clock, body.dot);
        let rewrite = |clock: &mut Clock, old: Dot, new: Option<Dot>| {
            if lost(old).is_some() {
                return;
            }
            let had = clock.has(old);
            clock.cap(replica, above);
            if let Some(new) = new.filter(|_| had) {
                clock.add(new);
            }
        };
        if let Value::Gone { seen, .. } = &mut body.value {
            rewrite(seen, place.dot, new_place);
        }
        if let Some(synced) = &mut synced {
            rewrite(&mut synced.place_clock, place.dot, new_place);
            rewrite(&mut synced.body_clock, body.dot, new_body);
        }
        place.dot = new_place.unwrap_or(place.dot);
        body.dot = new_body.unwrap_or(body.dot);
        (record.place, record.body) = (place, body);
        self.tree.refine_synced(id, synced);
        self.keep(id);
        if self.tree.node(id).is_some_and(|node| node.record != record) {
            self.replace(id, sequence, record, None);
        }
    }
}

fn clocks_of(record: &Record) -> Vec<&Clock> {
    let mut clocks = vec![&record.place.clock, &record.body.clock];
    if let Value::Gone { seen, .. } = &record.body.value {
        clocks.push(seen);
    }
    clocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_given_is_told_from_what_was() {
        let mut numbers = Numbers::new(ReplicaId(1), ReplicaId(2), u64::MAX);
        let gap = |numbers: &Numbers, count| numbers.gap(ReplicaId(1), count);
        numbers.restore(vec![Counted {
            replica: ReplicaId(1),
            runs: vec![(0, 50)],
        }]);
        // A run in which others' changes are counted in between.
        numbers.give(1001);
        numbers.give(1009);
        for (count, want) in [
            (0, None),
            (1, None),
            (50, None),
            (51, Some((50, 1000))),
            (1000, Some((50, 1000))),
            (1001, None),
            (1005, None),
            (1009, None),
            (1010, Some((1009, u64::MAX))),
        ] {
            assert_eq!(gap(&numbers, count), want, "{count}");
        }
        numbers.close(ReplicaId(1), (50, 1000));
        assert_eq!(gap(&numbers, 80), None);
        assert_eq!(numbers.gap(ReplicaId(3), 7), None, "somebody else's");
        assert!(numbers.renew());
        assert_eq!(numbers.current(), ReplicaId(2));
        assert!(gap(&numbers, 1010).is_some(), "it is still its own");
        assert!(!numbers.renew(), "one for each run");
    }

    #[test]
    fn of_many_runs_the_oldest_become_one() {
        let runs = (1..=200).map(|n| (10 * n, 10 * n + 1)).collect();
        let mut counted = Counted {
            replica: ReplicaId(1),
            runs,
        };
        counted.tidy();
        assert_eq!(counted.runs.len(), RUNS_MAX);
        assert_eq!(counted.gap(15), None);
        assert_eq!(counted.gap(2005), Some((2001, u64::MAX)));
    }
}
