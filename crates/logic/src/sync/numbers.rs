//! The numbers under which this machine counts its changes, one for each run, and what has been
//! counted under them (`sync-12`, `sync-38`).
//!
//! An index that was put back from a backup does not know what was counted after the backup was
//! made, but the peers do. What is changed from then on is counted under the number of another
//! run, so it does not claim to have seen what the index does not know, whoever hears of it first.
//! The index keeps which counts its own life has given: a change of this machine that is not among
//! them was made by a life that a backup has taken back.

use ahoy_wire::sync::{Clock, Dot, Record, ReplicaId, Value};
use serde::{Deserialize, Serialize};

use super::Effect;
use super::engine::Engine;
use super::planted::{self, Bug};

/// Most runs that are remembered. Of the older ones it is believed that between them nothing was
/// lost.
const RUNS_MAX: usize = 64;

/// Most runs of lost lives that are remembered as heard of.
const LOST_MAX: usize = 64;

/// What this machine has counted, in the life that its index knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The number by which it tells peers who it is.
    pub name: ReplicaId,
    /// The runs that have changed something, oldest first, each with the highest count given.
    pub runs: Vec<(ReplicaId, u64)>,
    /// Up to this count, runs that are no longer listed have given all.
    pub believed: u64,
    /// The highest count known when it was last found out that a backup had been put back; 0 if
    /// that never was.
    pub put_back_at: u64,
    /// Runs of which others know changes that the index does not.
    pub lost: Vec<ReplicaId>,
}

/// This machine's own numbers.
#[derive(Debug)]
pub struct Numbers {
    counted: Counted,
    /// The run that this is.
    run: ReplicaId,
    is_restored: bool,
    stale: bool,
}

impl Numbers {
    /// Of a machine that has not counted anything yet.
    pub fn new(name: ReplicaId, run: ReplicaId) -> Self {
        Self {
            counted: Counted {
                name,
                runs: Vec::new(),
                believed: 0,
                put_back_at: 0,
                lost: Vec::new(),
            },
            run,
            is_restored: false,
            stale: false,
        }
    }

    /// What the index remembers.
    pub fn restore(&mut self, counted: Counted) {
        self.counted = counted;
        self.is_restored = true;
    }

    /// The index is from before anybody wrote down which counts were given: believe all of them.
    pub fn believe(&mut self, dots: u64) {
        if !self.is_restored {
            self.counted.believed = dots;
        }
    }

    /// The number by which it tells peers who it is.
    pub fn name(&self) -> ReplicaId {
        self.counted.name
    }

    /// Whether this machine counts, or has counted, under that number.
    pub fn is_own(&self, replica: ReplicaId) -> bool {
        replica.is_kin(self.run)
    }

    /// Whether a change was counted by this machine, and not by the life that it is in.
    pub fn is_lost(&self, dot: Dot) -> bool {
        let Counted { runs, believed, .. } = &self.counted;
        let is_all = dot.replica.is_copy();
        let given = runs.iter().filter(|run| is_all || run.0 == dot.replica);
        let given = given.map(|run| run.1).max();
        self.is_own(dot.replica) && dot.count > given.unwrap_or(0).max(*believed)
    }

    /// Whether it was counted before a backup was put back, as far as that is known: by a life of
    /// which this one knows nothing, or by one that did not know who else has what it wrote.
    pub fn is_from_before(&self, dot: Dot) -> bool {
        let is_old = self.is_own(dot.replica) && dot.count <= self.counted.put_back_at;
        is_old || self.is_lost(dot)
    }

    /// This count is given: the change that has it.
    pub fn give(&mut self, count: u64) -> Dot {
        self.stale = true;
        let mut replica = self.run;
        if planted::is(Bug::CountersForgotten) {
            replica = self.run.in_run(1);
        }
        let runs = &mut self.counted.runs;
        match runs.last_mut() {
            Some(last) if last.0 == replica => last.1 = last.1.max(count),
            Some(_) | None => runs.push((replica, count)),
        }
        if runs.len() > RUNS_MAX {
            self.counted.believed = runs.remove(0).1.max(self.counted.believed);
        }
        Dot { count, replica }
    }

    /// From now on it has another name, under which nobody has heard anything from it; false if it
    /// has been given one in this run before. `dots` is the highest count known.
    pub fn rename(&mut self, dots: u64) -> bool {
        if self.counted.name == self.run {
            return false;
        }
        self.counted.name = self.run;
        self.counted.put_back_at = dots;
        self.stale = true;
        true
    }

    /// What has been counted, if it has to be kept.
    pub fn take_stale(&mut self) -> Option<Counted> {
        std::mem::take(&mut self.stale).then(|| self.counted.clone())
    }

    /// Whether a run of a lost life is one that has not been heard of before.
    fn hear_of(&mut self, replica: ReplicaId) -> bool {
        let lost = &mut self.counted.lost;
        if lost.contains(&replica) {
            return false;
        }
        if lost.len() >= LOST_MAX {
            lost.remove(0);
        }
        lost.push(replica);
        self.stale = true;
        true
    }
}

impl Engine {
    /// Whether a record tells of changes by a life of this machine that a backup has taken back,
    /// and that is news. Then all sessions have been ended, and this machine goes on under another
    /// name: what peers had heard from the lost life says nothing about its log.
    pub(super) fn tells_of_lost_life(&mut self, record: &Record) -> bool {
        if self.is_reader() || planted::is(Bug::CountersForgotten) {
            return false;
        }
        let clocks = clocks_of(record).flat_map(Clock::entries);
        let named = clocks.map(|(replica, count)| Dot { count, replica });
        let mut is_news = false;
        for dot in named {
            is_news |= self.numbers.is_lost(dot) && self.numbers.hear_of(dot.replica);
        }
        if !is_news || !self.numbers.rename(self.highest_count()) {
            return false;
        }
        tracing::warn!(
            "the index was put back from a backup: this machine has made changes of which it \
             does not know, and goes on under a new name"
        );
        let links: Vec<_> = self.gossip.open_links().collect();
        for link in links {
            let reason = "this machine has got a new name".into();
            self.out.push(Effect::Hang { link, reason });
            self.closed(link);
        }
        true
    }
}

fn clocks_of(record: &Record) -> impl Iterator<Item = &Clock> {
    let seen = match &record.body.value {
        Value::Gone { seen, .. } => Some(seen),
        Value::Dir(_) | Value::File { .. } | Value::Link { .. } => None,
    };
    [&record.place.clock, &record.body.clock]
        .into_iter()
        .chain(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: ReplicaId = ReplicaId(1);

    fn in_run(run: u32, count: u64) -> Dot {
        let replica = NAME.in_run(run);
        Dot { count, replica }
    }

    #[test]
    fn what_was_not_given_is_told_from_what_was() {
        let mut first = Numbers::new(NAME, NAME.in_run(5));
        assert_eq!(first.give(11), in_run(5, 11));
        first.give(12);
        let backup = first.take_stale().expect("it is to be kept");
        assert_eq!(first.take_stale(), None);
        let mut next = Numbers::new(NAME, NAME.in_run(6));
        next.restore(backup);
        next.give(31);
        for (dot, want) in [
            (in_run(5, 1), false),
            (in_run(5, 12), false),
            (in_run(5, 13), true),
            (in_run(6, 31), false),
            (in_run(7, 5), true),
            (in_run(0, 31), false),
            (in_run(0, 32), true),
        ] {
            assert_eq!(next.is_lost(dot), want, "{dot:?}");
        }
        let other = ReplicaId(2).in_run(5);
        assert!(!next.is_lost(Dot {
            replica: other,
            count: 50
        }));
    }

    #[test]
    fn it_is_renamed_once_in_a_run() {
        let mut numbers = Numbers::new(NAME, NAME.in_run(5));
        numbers.give(7);
        assert!(!numbers.is_from_before(in_run(5, 7)));
        assert!(numbers.rename(20));
        assert_eq!(numbers.name(), NAME.in_run(5));
        assert!(!numbers.rename(30));
        assert!(numbers.is_from_before(in_run(5, 7)));
        assert!(!numbers.is_lost(in_run(5, 7)));
        numbers.give(21);
        assert!(!numbers.is_from_before(in_run(5, 21)));
    }

    #[test]
    fn of_many_runs_the_oldest_are_believed() {
        let mut counted = None;
        for run in 1..=200 {
            let mut numbers = Numbers::new(NAME, NAME.in_run(run));
            counted
                .into_iter()
                .for_each(|counted| numbers.restore(counted));
            numbers.give(10 * u64::from(run));
            counted = numbers.take_stale();
        }
        let mut numbers = Numbers::new(NAME, NAME.in_run(999));
        let counted = counted.expect("it counted");
        assert_eq!(counted.runs.len(), RUNS_MAX);
        numbers.restore(counted);
        assert!((1..=200).all(|run| !numbers.is_lost(in_run(run, 10 * u64::from(run)))));
        assert!(numbers.is_lost(in_run(500, 1995)));
    }

    #[test]
    fn a_lost_run_is_news_once_and_they_are_not_gathered_without_end() {
        let mut numbers = Numbers::new(NAME, NAME.in_run(5));
        assert!(numbers.hear_of(NAME.in_run(9)));
        assert!(!numbers.hear_of(NAME.in_run(9)));
        (100..400).for_each(|run| assert!(numbers.hear_of(NAME.in_run(run))));
        assert_eq!(numbers.counted.lost.len(), LOST_MAX);
    }
}
