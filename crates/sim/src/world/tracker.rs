//! The tracker: the machine of `logic`, in a process that dies and comes back knowing nobody, and
//! the connections to it, which keep order, cut what is said wherever they like, and may break
//! without a word.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ahoy_logic::machine::{ConnectionId, Effect, Input, Machine as _, Outbox};
use ahoy_logic::moment::Moment;
use ahoy_logic::tracker::{self as logic, Options, Tracker};
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{ShareId, Signature};

use super::meet::seen_at;
use super::{Event, World, wake_at};
use crate::Flaw;
use crate::weather::Millis;

/// The share that everybody is in.
pub(super) const SHARE: ShareId = ShareId::new([7; ShareId::BYTES]);

/// Longest that a tracker is away.
const AWAY_MAX: Millis = 20_000;

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Tracker,
    Peer,
}

/// What arrives at an end.
#[derive(Debug)]
pub(super) enum Word {
    Bytes(Vec<u8>),
    /// Nothing more.
    Ended,
}

/// The tracker and the connections to it.
#[derive(Default)]
pub(super) struct Harbor {
    service: Option<Tracker>,
    /// By the number of the connection.
    pub(super) lines: Vec<Line>,
    due: Option<Millis>,
}

/// A connection between a process and a tracker.
pub(super) struct Line {
    machine: usize,
    attempt: u64,
    /// Nothing arrives any more, and nobody is told.
    pub(super) is_broken: bool,
    /// Whether the tracker, and whether the peer, believes that it is open.
    open: [bool; 2],
    /// When the last word to each end arrives: order is kept.
    last: [Millis; 2],
}

impl Harbor {
    /// How many announcements it keeps; `None` if it is away.
    pub(super) fn announcements(&self) -> Option<usize> {
        let service = self.service.as_ref();
        service.map(|service| service.snapshot().announcements)
    }
}

fn address() -> SocketAddr {
    (Ipv4Addr::new(198, 51, 100, 1), 7447).into()
}

/// Stands for an Ed25519 signature.
pub(super) fn sign(peer: &PeerId, bytes: &[u8]) -> [u8; Signature::BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key("ahoy sim: a peer's signature");
    hasher.update(peer.as_bytes()).update(bytes);
    let mut signature = [0; Signature::BYTES];
    hasher.finalize_xof().fill(&mut signature);
    signature
}

pub(super) fn verify(peer: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
    signature.0 == sign(peer, bytes)
}

impl World {
    /// A tracker that knows nobody, if there is none.
    pub(super) fn start_tracker(&mut self) {
        if !self.weather.has_tracker || self.tracker.service.is_some() {
            return;
        }
        let options = Options {
            timeout: Duration::from_secs(self.weather.tracker_timeout_s.into()),
            ..Options::default()
        };
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&self.serial.to_le_bytes());
        self.tracker.service = Some(Tracker::new(options, secret, verify));
    }

    /// The tracker dies, or connections to it break, or a machine is moved elsewhere.
    pub(super) fn strike_tracker(&mut self, machine: usize) {
        match self.dice.below(10) {
            0..4 => {
                self.note(machine, "tracker", || "dies".into());
                self.tracker.service = None;
                let is_silent = self.dice.chance(50);
                for line in 0..self.tracker.lines.len() {
                    self.hang_up(line, End::Tracker, is_silent);
                }
                let away = self.dice.below(AWAY_MAX);
                self.soon(away, Event::TrackerStarts);
            }
            4..6 => {
                if self.break_line(machine) {
                    self.note(machine, "tracker", || "is not heard any more".into());
                }
            }
            _ => self.roam(machine),
        }
    }

    /// An attempt to connect to the tracker comes to its end.
    pub(super) fn connect_to_tracker(&mut self, machine: usize, attempt: u64) {
        if self.tracker.service.is_none() {
            let error = Some("nobody answers".to_owned());
            return self.announce(machine, logic::Input::Failed { attempt, error });
        }
        let line = self.tracker.lines.len();
        self.tracker.lines.push(Line {
            machine,
            attempt,
            is_broken: false,
            open: [true, true],
            last: [self.now, self.now],
        });
        if let Some(finder) = self.machines[machine].finder.as_mut() {
            finder.line = Some(line);
        }
        let (id, peer) = (ConnectionId(line as u64), seen_at(machine, line));
        let local = address();
        self.serve(Input::Opened { id, peer, local });
        let tracker = address();
        self.announce(machine, logic::Input::Connected { attempt, tracker });
    }

    /// A peer says something on its connection.
    pub(super) fn say_to_tracker(&mut self, machine: usize, bytes: Vec<u8>) {
        if let Some(line) = self.line_of(machine) {
            self.send_bytes(line, End::Tracker, bytes);
        }
    }

    /// A machine's connection.
    fn line_of(&self, machine: usize) -> Option<usize> {
        self.machines[machine].finder.as_ref()?.line
    }

    /// Nothing more arrives on a machine's connection, and nobody is told; false if it has none.
    pub(super) fn break_line(&mut self, machine: usize) -> bool {
        let line = self.line_of(machine);
        if let Some(line) = line {
            self.tracker.lines[line].is_broken = true;
        }
        line.is_some()
    }

    /// A peer's end of a connection is closed.
    pub(super) fn leave_tracker(&mut self, line: usize, is_silent: bool) {
        self.hang_up(line, End::Peer, is_silent);
    }

    fn hang_up(&mut self, line: usize, end: End, is_silent: bool) {
        let it = &mut self.tracker.lines[line];
        if !std::mem::replace(&mut it.open[end as usize], false) {
            return;
        }
        it.is_broken |= is_silent;
        let other = match end {
            End::Tracker => End::Peer,
            End::Peer => End::Tracker,
        };
        self.send(line, other, Word::Ended);
    }

    /// In one piece or in two.
    fn send_bytes(&mut self, line: usize, to: End, mut bytes: Vec<u8>) {
        if self.dice.chance(20) {
            let rest = bytes.split_off(self.dice.below(bytes.len() as u64) as usize);
            if !bytes.is_empty() {
                self.send(line, to, Word::Bytes(bytes));
            }
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.send(line, to, Word::Bytes(bytes));
        }
    }

    fn send(&mut self, line: usize, to: End, word: Word) {
        let is_lost = self.flaw == Some(Flaw::TrackerMute) && to == End::Peer;
        let arrives = self.now + 1 + self.dice.below(80);
        let it = &mut self.tracker.lines[line];
        if it.is_broken || is_lost {
            return;
        }
        let when = arrives.max(it.last[to as usize]);
        it.last[to as usize] = when;
        self.at(when, Event::Word { line, to, word });
    }

    /// Something arrives on a connection.
    pub(super) fn hear_word(&mut self, line: usize, to: End, word: Word) {
        let it = &mut self.tracker.lines[line];
        if it.is_broken || !it.open[to as usize] {
            return;
        }
        let (machine, attempt) = (it.machine, it.attempt);
        let id = ConnectionId(line as u64);
        match (to, word) {
            (End::Tracker, Word::Bytes(bytes)) => self.serve(Input::Received { id, bytes: &bytes }),
            (End::Tracker, Word::Ended) => self.serve(Input::Ended { id }),
            (End::Peer, Word::Bytes(bytes)) => {
                let bytes = &bytes[..];
                self.announce(machine, logic::Input::Received { attempt, bytes });
            }
            (End::Peer, Word::Ended) => {
                it.open[End::Peer as usize] = false;
                let error = None;
                self.announce(machine, logic::Input::Failed { attempt, error });
            }
        }
    }

    /// Time has passed for the tracker.
    pub(super) fn wake_tracker(&mut self) {
        self.tracker.due = None;
        self.serve(Input::Due);
    }

    /// An input for the tracker.
    fn serve(&mut self, input: Input<'_>) {
        let now = if self.flaw == Some(Flaw::TrackerClockStands) {
            Moment::ORIGIN
        } else {
            self.moment()
        };
        let Some(service) = self.tracker.service.as_mut() else {
            return;
        };
        let mut outbox = Outbox::new();
        service.handle(now, input, &mut outbox);
        let deadline = service.deadline();
        let mut closed = Vec::new();
        while let Some(effect) = outbox.pop() {
            match effect {
                Effect::Send { id, bytes } => self.send_bytes(id.0 as usize, End::Peer, bytes),
                Effect::SendShared { id, bytes } => {
                    self.send_bytes(id.0 as usize, End::Peer, bytes.to_vec());
                }
                Effect::Finish { id } | Effect::Close { id } => {
                    self.hang_up(id.0 as usize, End::Tracker, false);
                    closed.push(id);
                }
                Effect::Note(note) => self.note_of(None, "tracker", || format!("{note:?}")),
                Effect::Datagram { .. } | Effect::Exit => {}
            }
        }
        if let Some(deadline) = deadline {
            let due = wake_at(self.now, deadline.at);
            if self.tracker.due.is_none_or(|at| due < at) {
                self.tracker.due = Some(due);
                self.at(due, Event::TrackerDue);
            }
        }
        for id in closed {
            self.serve(Input::Closed { id });
        }
    }
}
