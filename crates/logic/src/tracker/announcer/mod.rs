//! The client's side: keeps one peer announced in one share.
//!
//! ```text
//!            Connected             Welcome
//! Connecting ────────► Greeting ──────────► Up
//!     ▲  └──────┐          │                 │   ended, silent, refused, or not what it should be
//!     │ due     ▼          ▼                 │
//!     └────── Waiting ◄────┴─────────────────┘        Stop, from anywhere: Stopped
//! ```
//!
//! While the tracker is away the peers that were known stay known; with the next whole list, those
//! that are missing are reported gone. Nothing here resolves names, opens sockets or draws lots.

mod port;
mod reserve;

pub use port::{
    AnnouncerOptions, AnnouncerReason, AnnouncerStatus, DownReason, Effect, Event, Input, Outbox,
    Signer, Start,
};

pub use reserve::Reserve;

use core::net::SocketAddr;
use std::time::Duration;

use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{
    ADDRESSES_MAX, Announcement, Challenge, HoldingSummary, PROLOGUE, PROLOGUE_BYTES, PeerAddress,
    PeerMessage, Prologue, Refusal, ShareId, SignedAnnouncement, TrackerMessage, Undecodable,
    VERSION, read_prologue,
};

use crate::backoff::Backoff;
use crate::moment::{Deadline, Moment};

use super::Verifier;
use super::view::{Change, View, is_link_local_v6};

/// A tracker that has not welcomed us by then is none (the other side of tracker-32).
pub(super) const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// At least so long passes between two announcements on one connection.
pub(super) const ANNOUNCE_INTERVAL_MIN: Duration = Duration::from_secs(2);
/// Signs of life come no faster than this, whatever the tracker asks for.
pub(super) const KEEP_ALIVE_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// A tracker is never called silent before this.
pub(super) const SILENCE_MIN: Duration = Duration::from_secs(2);
/// After a connection that held for so long, the first wait is short again.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Where an announcer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// For the next try.
    Waiting {
        /// When it is due.
        until: Moment,
    },
    /// The host is connecting.
    Connecting,
    /// Connected, not yet welcomed.
    Greeting {
        /// To whom.
        tracker: SocketAddr,
        /// By when we must be welcomed.
        limit: Moment,
    },
    /// Welcomed; announced as soon as the tracker says so.
    Up(Up),
    /// For good.
    Stopped,
}

/// A connection on which we were welcomed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Up {
    tracker: SocketAddr,
    since: Moment,
    challenge: Challenge,
    keep_alive_interval: Duration,
    sent_at: Moment,
    heard_at: Moment,
    announced_at: Moment,
    /// The tracker has confirmed an announcement on this connection.
    listed: bool,
}

impl Up {
    fn keep_alive_at(&self) -> Moment {
        self.sent_at + self.keep_alive_interval
    }

    fn silent_at(&self) -> Moment {
        self.heard_at + (self.keep_alive_interval * 3).max(SILENCE_MIN)
    }
}

/// Keeps one peer announced in one share.
pub struct Announcer {
    options: AnnouncerOptions,
    share: ShareId,
    me: PeerId,
    signer: Signer,
    verifier: Verifier,
    addresses: Bounded<PeerAddress, ADDRESSES_MAX>,
    holding: HoldingSummary,
    /// Something changed that the tracker was not told yet.
    dirty: bool,
    sequence: u64,
    phase: Phase,
    attempt: u64,
    /// The beginning of a frame; shorter than the longest frame.
    partial: Vec<u8>,
    prologue_seen: bool,
    backoff: Backoff,
    down: Option<DownReason>,
    view: View,
}

impl Announcer {
    /// An announcer that tries for the first time at once: call [`Announcer::handle`] with
    /// [`Input::Due`].
    #[must_use]
    pub fn new(options: AnnouncerOptions, now: Moment, start: Start) -> Self {
        let Start {
            share,
            me,
            addresses,
            holding,
            sequence_floor,
            seed,
            signer,
            verifier,
        } = start;
        Self {
            options,
            share,
            me,
            signer,
            verifier,
            addresses: announceable(addresses),
            holding,
            dirty: false,
            sequence: sequence_floor,
            phase: Phase::Waiting { until: now },
            attempt: 0,
            partial: Vec::new(),
            prologue_seen: false,
            backoff: Backoff::new(options.retry_first, options.retry_max, seed),
            down: None,
            view: View::new(me, share, verifier),
        }
    }

    /// Takes one input in.
    pub fn handle(&mut self, now: Moment, input: Input<'_>, outbox: &mut Outbox) {
        match input {
            Input::Connected { attempt, tracker } => self.connected(now, attempt, tracker, outbox),
            Input::Received { attempt, bytes } => {
                if self.is_current(attempt)
                    && let Err(reason) = self.receive(now, bytes, outbox)
                {
                    outbox.push(Effect::Disconnect);
                    self.go_down(now, reason, outbox);
                }
            }
            Input::Failed { attempt, error } => {
                if self.is_current(attempt) {
                    let reason = error.map_or(DownReason::Ended, DownReason::Unreachable);
                    self.go_down(now, reason, outbox);
                }
            }
            Input::Holding(holding) => {
                self.dirty |= self.holding != holding;
                self.holding = holding;
            }
            Input::Addresses(addresses) => {
                let addresses = announceable(addresses);
                self.dirty |= self.addresses != addresses;
                self.addresses = addresses;
            }
            Input::Retry => {
                if let Phase::Waiting { until } = &mut self.phase {
                    *until = now;
                    self.backoff.reset();
                }
            }
            Input::Due => {}
            Input::Stop => return self.stop(outbox),
        }
        self.do_due(now, outbox);
    }

    /// The next moment at which [`Input::Due`] is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline<AnnouncerReason>> {
        let due = |at, reason| Some(Deadline { at, reason });
        match &self.phase {
            Phase::Waiting { until } => due(*until, AnnouncerReason::Retry),
            Phase::Greeting { limit, .. } => due(*limit, AnnouncerReason::Greeting),
            Phase::Connecting | Phase::Stopped => None,
            Phase::Up(up) => {
                let keep_alive = due(up.keep_alive_at(), AnnouncerReason::KeepAlive);
                let silence = due(up.silent_at(), AnnouncerReason::Silence);
                let announce_at = up.announced_at + ANNOUNCE_INTERVAL_MIN;
                let announce = if self.dirty {
                    due(announce_at, AnnouncerReason::Announce)
                } else {
                    None
                };
                Deadline::earlier(Deadline::earlier(silence, keep_alive), announce)
            }
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> AnnouncerStatus {
        AnnouncerStatus {
            tracker: match &self.phase {
                Phase::Up(up) if up.listed => Some(up.tracker),
                Phase::Up(_)
                | Phase::Waiting { .. }
                | Phase::Connecting
                | Phase::Greeting { .. }
                | Phase::Stopped => None,
            },
            down: self.down.clone(),
            retry_at: match &self.phase {
                Phase::Waiting { until } => Some(*until),
                Phase::Connecting | Phase::Greeting { .. } | Phase::Up(_) | Phase::Stopped => None,
            },
            sequence: self.sequence,
            peers: self.view.live().cloned().collect(),
        }
    }

    fn is_current(&self, attempt: u64) -> bool {
        attempt == self.attempt
            && match &self.phase {
                Phase::Connecting | Phase::Greeting { .. } | Phase::Up(_) => true,
                Phase::Waiting { .. } | Phase::Stopped => false,
            }
    }

    fn do_due(&mut self, now: Moment, outbox: &mut Outbox) {
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => {
                self.attempt += 1;
                self.phase = Phase::Connecting;
                outbox.push(Effect::Connect {
                    attempt: self.attempt,
                });
            }
            Phase::Greeting { limit, .. } if *limit <= now => {
                outbox.push(Effect::Disconnect);
                self.go_down(now, DownReason::Silent, outbox);
            }
            Phase::Up(up) => {
                if up.silent_at() <= now {
                    outbox.push(Effect::Disconnect);
                    self.go_down(now, DownReason::Silent, outbox);
                } else if self.dirty && up.announced_at + ANNOUNCE_INTERVAL_MIN <= now {
                    self.announce(now, outbox);
                } else if up.keep_alive_at() <= now {
                    up.sent_at = now;
                    outbox.push(encoded(&PeerMessage::KeepAlive));
                }
            }
            Phase::Waiting { .. } | Phase::Greeting { .. } | Phase::Connecting | Phase::Stopped => {
            }
        }
    }

    fn connected(&mut self, now: Moment, attempt: u64, tracker: SocketAddr, outbox: &mut Outbox) {
        if attempt == self.attempt && self.phase == Phase::Connecting {
            self.partial.clear();
            self.prologue_seen = false;
            self.view.restart();
            self.phase = Phase::Greeting {
                tracker,
                limit: now + GREETING_LIMIT,
            };
            outbox.push(Effect::Send(PROLOGUE.to_vec()));
        }
    }

    fn receive(
        &mut self,
        now: Moment,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) -> Result<(), DownReason> {
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        let mut rest = &joined[..];
        if !self.prologue_seen {
            match read_prologue(rest) {
                Prologue::Incomplete => {}
                Prologue::Version(VERSION) => {
                    self.prologue_seen = true;
                    rest = &rest[PROLOGUE_BYTES..];
                }
                Prologue::Version(other) => return Err(DownReason::Version(other)),
                Prologue::Foreign => return Err(DownReason::NotATracker),
            }
        }
        while self.prologue_seen {
            match TrackerMessage::decode(rest) {
                Ok((message, len)) => {
                    rest = &rest[len..];
                    self.hear(now, message, outbox)?;
                }
                Err(Undecodable::Incomplete { .. }) => break,
                Err(Undecodable::Invalid(invalid)) => return Err(DownReason::Unreadable(invalid)),
            }
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    fn hear(
        &mut self,
        now: Moment,
        message: TrackerMessage,
        outbox: &mut Outbox,
    ) -> Result<(), DownReason> {
        let tracker = match &mut self.phase {
            Phase::Greeting { tracker, .. } => {
                let tracker = *tracker;
                return self.welcome(now, tracker, &message, outbox);
            }
            Phase::Up(up) => {
                up.heard_at = now;
                up.tracker
            }
            Phase::Waiting { .. } | Phase::Connecting | Phase::Stopped => return Ok(()),
        };
        let share = self.share;
        let changes = match message {
            TrackerMessage::Welcome { .. } => return Err(DownReason::OutOfPlace),
            TrackerMessage::Alive => return Ok(()),
            TrackerMessage::Announced {
                share: of,
                sequence,
            } => {
                if of == share && sequence == self.sequence {
                    self.announced(sequence, outbox);
                }
                return Ok(());
            }
            TrackerMessage::Peers {
                share: of,
                last,
                entries,
            } if of == share => self.view.list(tracker, last, &entries),
            TrackerMessage::Changed { share: of, entries } if of == share => {
                self.view.update(tracker, &entries)
            }
            TrackerMessage::Gone { share: of, peers } if of == share => {
                // We are here, and say so again before long.
                self.dirty |= peers.contains(&self.me);
                Ok(self.view.gone(&peers))
            }
            TrackerMessage::Refused { share: of, refusal } if of == share => {
                return self.refused(now, refusal, outbox);
            }
            TrackerMessage::Peers { .. }
            | TrackerMessage::Changed { .. }
            | TrackerMessage::Gone { .. }
            | TrackerMessage::Refused { .. } => return Err(DownReason::OutOfPlace),
        };
        let changes = changes.map_err(|_| DownReason::Forged)?;
        outbox.extend(changes.into_iter().map(|change| {
            Effect::Event(match change {
                Change::Seen(sighting) => Event::PeerSeen(sighting),
                Change::Gone(peer) => Event::PeerGone(peer),
            })
        }));
        Ok(())
    }

    fn welcome(
        &mut self,
        now: Moment,
        tracker: SocketAddr,
        message: &TrackerMessage,
        outbox: &mut Outbox,
    ) -> Result<(), DownReason> {
        let TrackerMessage::Welcome {
            challenge,
            timeout_seconds,
        } = message
        else {
            return Err(DownReason::OutOfPlace);
        };
        let lifetime_seconds = self.options.ttl.seconds().min(*timeout_seconds);
        let keep_alive_interval = Duration::from_secs(lifetime_seconds.into()) / 3;
        self.phase = Phase::Up(Up {
            tracker,
            since: now,
            challenge: *challenge,
            keep_alive_interval: keep_alive_interval.max(KEEP_ALIVE_INTERVAL_MIN),
            sent_at: now,
            heard_at: now,
            announced_at: now,
            listed: false,
        });
        self.announce(now, outbox);
        Ok(())
    }

    /// Announces what holds now, with the next number.
    fn announce(&mut self, now: Moment, outbox: &mut Outbox) {
        let Phase::Up(up) = &mut self.phase else {
            return;
        };
        self.sequence = self.sequence.saturating_add(1);
        self.dirty = false;
        up.announced_at = now;
        up.sent_at = now;
        let announcement = Announcement {
            challenge: up.challenge,
            share: self.share,
            peer: self.me,
            sequence: self.sequence,
            ttl: self.options.ttl,
            holding: self.holding.clone(),
            addresses: self.addresses.clone(),
        };
        outbox.push(encoded(&PeerMessage::Announce(
            announcement.sign(&self.signer),
        )));
    }

    fn announced(&mut self, sequence: u64, outbox: &mut Outbox) {
        if let Phase::Up(up) = &mut self.phase {
            if !up.listed {
                up.listed = true;
                self.down = None;
                outbox.push(Effect::Event(Event::Up {
                    tracker: up.tracker,
                }));
            }
            outbox.push(Effect::Event(Event::Announced { sequence }));
        }
    }

    fn refused(
        &mut self,
        now: Moment,
        refusal: Refusal,
        outbox: &mut Outbox,
    ) -> Result<(), DownReason> {
        match refusal {
            Refusal::Stale(current) => {
                let current = self.own(*current)?;
                if current > self.sequence {
                    // Our own word from before: our clock went back. Go on from there.
                    self.sequence = current;
                    self.announce(now, outbox);
                } else {
                    self.dirty = true;
                }
                Ok(())
            }
            Refusal::ShareFull
            | Refusal::TrackerFull
            | Refusal::ConnectionFull
            | Refusal::Crowded => Err(DownReason::Refused(refusal)),
        }
    }

    /// The number of what must be our own announcement.
    fn own(&self, current: SignedAnnouncement) -> Result<u64, DownReason> {
        let current = current
            .verify(self.verifier)
            .map_err(|_| DownReason::Forged)?;
        if current.peer != self.me || current.share != self.share {
            return Err(DownReason::OutOfPlace);
        }
        Ok(current.sequence)
    }

    fn go_down(&mut self, now: Moment, reason: DownReason, outbox: &mut Outbox) {
        if let Phase::Up(up) = &self.phase
            && now - up.since >= STABLE_AFTER
        {
            self.backoff.reset();
        }
        let retry_in = self.backoff.wait();
        self.phase = Phase::Waiting {
            until: now + retry_in,
        };
        self.partial = Vec::new();
        self.down = Some(reason.clone());
        outbox.push(Effect::Event(Event::Down { reason, retry_in }));
    }

    fn stop(&mut self, outbox: &mut Outbox) {
        if let Phase::Up(_) = self.phase {
            outbox.push(encoded(&PeerMessage::Leave(self.share)));
        }
        if self.is_current(self.attempt) {
            outbox.push(Effect::Disconnect);
        }
        self.phase = Phase::Stopped;
    }
}

fn encoded(message: &PeerMessage) -> Effect {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    Effect::Send(bytes)
}

/// What of these addresses can stand in an announcement.
fn announceable(addresses: Vec<SocketAddr>) -> Bounded<PeerAddress, ADDRESSES_MAX> {
    let reachable = addresses
        .into_iter()
        .filter(|address| !is_link_local_v6(address.ip()));
    Bounded::truncated(reachable.filter_map(PeerAddress::new))
}
