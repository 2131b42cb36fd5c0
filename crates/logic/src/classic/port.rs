//! One port, two dialects: the tracker of shares and the classic one, told apart by the first byte.
//!
//! A connection belongs to the tracker of shares, with its limits and its patience, until its first
//! byte shows that it speaks the classic dialect (classic-19). Then it is taken from there and
//! given to the classic tracker as if it had just been accepted. The two share nothing else.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use ahoy_wire::classic::is_classic;

use super::tracker::{ClassicTracker, TrackerNote, TrackerReason};
use crate::machine::{ConnectionId, Input, Machine, Outbox};
use crate::moment::{Deadline, Moment};
use crate::tracker;

/// Both trackers as one machine.
#[derive(Debug)]
pub struct SharedPort {
    shares: tracker::Tracker,
    classic: ClassicTracker,
    dialects: BTreeMap<ConnectionId, Dialect>,
    /// Empty between two inputs; kept, so that none is made for each.
    from_shares: Outbox<tracker::Note>,
    from_classic: Outbox<TrackerNote>,
}

#[derive(Clone, Copy, Debug)]
enum Dialect {
    /// Nothing came yet.
    Unknown {
        peer: SocketAddr,
        local: SocketAddr,
    },
    Shares,
    Classic,
}

/// What either tracker notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortNote {
    /// The tracker of shares.
    Shares(tracker::Note),
    /// The classic tracker.
    Classic(TrackerNote),
}

/// Why either tracker wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortReason {
    /// The tracker of shares.
    Shares(tracker::Reason),
    /// The classic tracker.
    Classic(TrackerReason),
}

impl Machine for SharedPort {
    type Note = PortNote;
    type Reason = PortReason;

    fn handle(&mut self, now: Moment, input: Input<'_>, outbox: &mut Outbox<PortNote>) {
        match input {
            Input::Opened { id, peer, local } => {
                self.dialects.insert(id, Dialect::Unknown { peer, local });
                self.step_shares(now, input, outbox);
            }
            Input::Received { id, bytes } => {
                self.decide(now, id, bytes, outbox);
                self.hand_on(now, id, input, outbox);
            }
            Input::Ended { id } => self.hand_on(now, id, input, outbox),
            Input::Closed { id } => {
                self.hand_on(now, id, input, outbox);
                self.dialects.remove(&id);
            }
            Input::Due => {
                self.step_shares(now, input, outbox);
                self.step_classic(now, input, outbox);
            }
            Input::Stop | Input::Datagram { .. } => self.step_shares(now, input, outbox),
        }
    }

    fn deadline(&self) -> Option<Deadline<PortReason>> {
        let shares = self.shares.deadline().map(|due| Deadline {
            at: due.at,
            reason: PortReason::Shares(due.reason),
        });
        let classic = self.classic.deadline().map(|due| Deadline {
            at: due.at,
            reason: PortReason::Classic(due.reason),
        });
        Deadline::earlier(shares, classic)
    }
}

impl SharedPort {
    /// Both on one port.
    #[must_use]
    pub fn new(shares: tracker::Tracker, classic: ClassicTracker) -> Self {
        Self {
            shares,
            classic,
            dialects: BTreeMap::new(),
            from_shares: Outbox::new(),
            from_classic: Outbox::new(),
        }
    }

    fn decide(
        &mut self,
        now: Moment,
        id: ConnectionId,
        bytes: &[u8],
        outbox: &mut Outbox<PortNote>,
    ) {
        let (Some(dialect), Some(first)) = (self.dialects.get_mut(&id), bytes.first()) else {
            return;
        };
        let Dialect::Unknown { peer, local } = *dialect else {
            return;
        };
        if is_classic(*first) {
            *dialect = Dialect::Classic;
            self.step_shares(now, Input::Closed { id }, outbox);
            self.step_classic(now, Input::Opened { id, peer, local }, outbox);
        } else {
            *dialect = Dialect::Shares;
        }
    }

    fn hand_on(
        &mut self,
        now: Moment,
        id: ConnectionId,
        input: Input<'_>,
        outbox: &mut Outbox<PortNote>,
    ) {
        match self.dialects.get(&id) {
            Some(Dialect::Classic) => self.step_classic(now, input, outbox),
            Some(Dialect::Unknown { .. } | Dialect::Shares) => {
                self.step_shares(now, input, outbox);
            }
            None => {}
        }
    }

    fn step_shares(&mut self, now: Moment, input: Input<'_>, outbox: &mut Outbox<PortNote>) {
        self.shares.handle(now, input, &mut self.from_shares);
        outbox.append(&mut self.from_shares, PortNote::Shares);
    }

    fn step_classic(&mut self, now: Moment, input: Input<'_>, outbox: &mut Outbox<PortNote>) {
        self.classic.handle(now, input, &mut self.from_classic);
        outbox.append(&mut self.from_classic, PortNote::Classic);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::classic::TrackerOptions;
    use crate::machine::Effect;

    const LIMIT: Duration = Duration::from_secs(10);

    fn port() -> SharedPort {
        let shares = tracker::Tracker::new(tracker::Options::default(), [1; 32], |_, _, _| false);
        SharedPort::new(shares, ClassicTracker::new(TrackerOptions::default()))
    }

    fn step(port: &mut SharedPort, now: Moment, input: Input<'_>) -> Vec<Effect<PortNote>> {
        let mut outbox = Outbox::new();
        port.handle(now, input, &mut outbox);
        outbox.drain().collect()
    }

    fn open(port: &mut SharedPort, number: u64) -> ConnectionId {
        let id = ConnectionId(number);
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let local = SocketAddr::from(([127, 0, 0, 1], 7447));
        let effects = step(port, Moment::ORIGIN, Input::Opened { id, peer, local });
        assert_eq!(effects, [], "nothing is said before a word is heard");
        id
    }

    /// classic-19.
    #[test]
    fn the_first_byte_tells_the_dialects_apart() {
        let mut port = port();
        let ids = [1, 2, 3, 4].map(|number| open(&mut port, number));
        let mut first_answer = |id, bytes: &[u8]| {
            let effects = step(&mut port, Moment::ORIGIN, Input::Received { id, bytes });
            effects.into_iter().find_map(|effect| match effect {
                Effect::Send { bytes, .. } => Some(bytes),
                Effect::SendShared { bytes, .. } => Some(bytes.to_vec()),
                Effect::Close { .. } => Some(b"closed".to_vec()),
                Effect::Note(_)
                | Effect::Datagram { .. }
                | Effect::Finish { .. }
                | Effect::Exit => None,
            })
        };
        let answer = first_answer(ids[0], b"{\"port\": 8000}");
        assert_eq!(answer.as_deref(), Some(&b"{}\n"[..]));
        assert_eq!(first_answer(ids[1], b"\n{\"port\":").as_deref(), None);
        let answer = first_answer(ids[1], b" 8001}");
        assert_eq!(answer.as_deref(), Some(&b"{}\n"[..]));
        let welcome = first_answer(ids[2], b"AHOY\x01").expect("an answer");
        assert!(welcome.starts_with(b"AHOY\x01"));
        assert_eq!(
            first_answer(ids[3], b"GET /").as_deref(),
            Some(&b"closed"[..])
        );
        assert_eq!(port.classic.snapshot().connections, 2);
        assert_eq!(port.shares.snapshot().connections, 1);
        for id in ids {
            step(&mut port, Moment::ORIGIN, Input::Closed { id });
        }
        assert_eq!(port.classic.snapshot().connections, 0);
        assert_eq!(port.shares.snapshot().connections, 0);
        assert!(port.dialects.is_empty());
    }

    /// classic-16, tracker-32.
    #[test]
    fn who_says_nothing_is_closed_and_who_begins_may_not_dawdle() {
        let mut port = port();
        let (silent, slow) = (open(&mut port, 1), open(&mut port, 2));
        let soon = Moment::ORIGIN + Duration::from_secs(9);
        step(
            &mut port,
            soon,
            Input::Received {
                id: slow,
                bytes: b"{",
            },
        );
        let closes = |effects: Vec<Effect<PortNote>>, id| effects.contains(&Effect::Close { id });
        assert_eq!(
            port.deadline().map(|due| due.at),
            Some(Moment::ORIGIN + LIMIT)
        );
        assert!(closes(
            step(&mut port, Moment::ORIGIN + LIMIT, Input::Due),
            silent
        ));
        assert_eq!(port.deadline().map(|due| due.at), Some(soon + LIMIT));
        assert!(closes(step(&mut port, soon + LIMIT, Input::Due), slow));
        assert_eq!(port.deadline(), None);
    }
}
