//! The time limits of many connections (web-60 to web-63).
//!
//! Every connection waits for one thing, and each kind of wait has one length, so within a kind
//! the connections fall due in the order in which they began to wait: a list for each kind, and
//! every operation takes the same few steps whether there are ten connections or ten thousand.
//! The general expiring map sorts its deadlines, which costs more on every request.

use std::time::Duration;

use crate::moment::{Deadline, Moment};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The first byte of the next request.
    Idle,
    /// The rest of a request that has begun.
    Request,
    /// The peer to take more of an answer.
    Sending,
    /// The peer to close, after we did.
    Lingering,
}

const KINDS: [Wait; 4] = [Wait::Idle, Wait::Request, Wait::Sending, Wait::Lingering];

/// How long each wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the first byte of a request (web-61).
    pub idle_max: Duration,
    /// From the first byte of a request to the end of its head, and of a body that is skipped
    /// (web-60).
    pub request_max: Duration,
    /// Between two moments in which the peer took bytes (web-62).
    pub stall_max: Duration,
    /// For the peer's end after ours.
    pub linger_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle_max: Duration::from_secs(60),
            request_max: Duration::from_secs(10),
            stall_max: Duration::from_secs(60),
            linger_max: Duration::from_secs(2),
        }
    }
}

impl Limits {
    fn of(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Idle => self.idle_max,
            Wait::Request => self.request_max,
            Wait::Sending => self.stall_max,
            Wait::Lingering => self.linger_max,
        }
    }
}

/// The connections of one loop by what they wait for, each known by a small index.
#[derive(Debug)]
pub struct Waits {
    limits: Limits,
    /// One node per index, those not waiting included.
    nodes: Vec<Node>,
    lists: [List; 4],
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// None: not waiting.
    wait: Option<Wait>,
    since: Moment,
    before: Option<u32>,
    after: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    oldest: Option<u32>,
    newest: Option<u32>,
}

impl Waits {
    /// Nobody waits yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            nodes: Vec::new(),
            lists: [List::default(); 4],
        }
    }

    /// From `now` on the connection waits for this, and for nothing else. `now` must not run
    /// backwards from call to call.
    pub fn start(&mut self, index: u32, wait: Wait, now: Moment) {
        self.stop(index);
        let newest = self.lists[wait as usize].newest.replace(index);
        let place = index as usize;
        if place >= self.nodes.len() {
            self.nodes.resize(place + 1, Node::default());
        }
        self.nodes[place] = Node {
            wait: Some(wait),
            since: now,
            before: newest,
            after: None,
        };
        match newest {
            Some(newest) => self.nodes[newest as usize].after = Some(index),
            None => self.lists[wait as usize].oldest = Some(index),
        }
    }

    /// The connection waits for nothing any more.
    pub fn stop(&mut self, index: u32) {
        let Some(node) = self.nodes.get_mut(index as usize) else {
            return;
        };
        let Node {
            wait: Some(wait),
            before,
            after,
            ..
        } = std::mem::take(node)
        else {
            return;
        };
        match before {
            Some(before) => self.nodes[before as usize].after = after,
            None => self.lists[wait as usize].oldest = after,
        }
        match after {
            Some(after) => self.nodes[after as usize].before = before,
            None => self.lists[wait as usize].newest = before,
        }
    }

    /// When the first limit is reached, and which.
    pub fn deadline(&self) -> Option<Deadline<Wait>> {
        KINDS
            .into_iter()
            .filter_map(|wait| self.front(wait))
            .reduce(|first, second| {
                Deadline::earlier(Some(first), Some(second))
                    .expect("two deadlines have an earlier one")
            })
    }

    /// A connection that has waited too long; it stays in its place until told otherwise.
    pub fn due(&self, now: Moment) -> Option<u32> {
        let late = KINDS
            .into_iter()
            .find(|wait| self.front(*wait).is_some_and(|deadline| deadline.at <= now))?;
        self.lists[late as usize].oldest
    }

    /// Whose place a newcomer takes when there is none left: the one that has been silent longest
    /// between requests, or else within one. Nobody who is being served (web-63).
    pub fn dispensable(&self) -> Option<u32> {
        let of = |wait: Wait| self.lists[wait as usize].oldest;
        of(Wait::Idle).or(of(Wait::Lingering)).or(of(Wait::Request))
    }

    fn front(&self, wait: Wait) -> Option<Deadline<Wait>> {
        let oldest = self.lists[wait as usize].oldest?;
        let at = self.nodes[oldest as usize].since + self.limits.of(wait);
        Some(Deadline { at, reason: wait })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::after_origin(Duration::from_secs(secs))
    }

    fn limits() -> Limits {
        Limits {
            idle_max: Duration::from_secs(7),
            request_max: Duration::from_secs(3),
            stall_max: Duration::from_secs(5),
            linger_max: Duration::from_secs(1),
        }
    }

    #[test]
    fn each_kind_has_its_length() {
        let mut waits = Waits::new(limits());
        assert_eq!(waits.deadline(), None);
        waits.start(0, Wait::Idle, at(0));
        waits.start(1, Wait::Request, at(1));
        assert_eq!(
            waits.deadline(),
            Some(Deadline {
                at: at(4),
                reason: Wait::Request
            })
        );
        assert_eq!(waits.due(at(3)), None);
        assert_eq!(waits.due(at(4)), Some(1));
        waits.stop(1);
        assert_eq!(waits.due(at(6)), None);
        assert_eq!(waits.due(at(7)), Some(0));
    }

    #[test]
    fn the_longest_idle_one_makes_room() {
        let mut waits = Waits::new(limits());
        assert_eq!(waits.dispensable(), None);
        waits.start(4, Wait::Sending, at(0));
        assert_eq!(waits.dispensable(), None, "nobody who is being served");
        waits.start(3, Wait::Request, at(1));
        assert_eq!(waits.dispensable(), Some(3));
        waits.start(2, Wait::Idle, at(2));
        waits.start(1, Wait::Idle, at(3));
        assert_eq!(waits.dispensable(), Some(2));
        waits.start(2, Wait::Idle, at(4));
        assert_eq!(waits.dispensable(), Some(1));
    }

    proptest! {
        /// Against a plain list of who waits for what since when.
        #[test]
        fn like_a_plain_list(
            steps in proptest::collection::vec((0_u32..8, 0_usize..5, 0_u64..3), 1..200)
        ) {
            let mut waits = Waits::new(limits());
            let mut plain: Vec<(u32, Wait, u64)> = Vec::new();
            let mut now = 0;
            for (index, kind, pause) in steps {
                now += pause;
                plain.retain(|(other, ..)| *other != index);
                match KINDS.get(kind) {
                    Some(wait) => {
                        waits.start(index, *wait, at(now));
                        plain.push((index, *wait, now));
                    }
                    None => waits.stop(index),
                }
                let due_at = |entry: &(u32, Wait, u64)| at(entry.2) + limits().of(entry.1);
                prop_assert_eq!(
                    waits.deadline().map(|deadline| deadline.at),
                    plain.iter().map(due_at).min()
                );
                let late = waits.due(at(now));
                prop_assert_eq!(late.is_some(), plain.iter().any(|e| due_at(e) <= at(now)));
                if let Some(late) = late {
                    prop_assert!(plain.iter().any(|e| e.0 == late && due_at(e) <= at(now)));
                }
            }
        }
    }
}
