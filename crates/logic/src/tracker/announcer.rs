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

use core::net::SocketAddr;
use std::time::Duration;

use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{
    ADDRESSES_MAX, Announcement, Challenge, HoldingSummary, Invalid, PROLOGUE, PROLOGUE_BYTES,
    PeerAddress, PeerMessage, Prologue, Refusal, ShareId, Signature, SignedAnnouncement,
    TrackerMessage, Ttl, Undecodable, VERSION, read_prologue,
};

use crate::backoff::Backoff;
use crate::moment::{Deadline, Moment};

use super::Verifier;
use super::view::{Change, PeerSighting, View, is_link_local_v6};

/// A tracker that has not welcomed us by then is none.
pub(super) const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// At least so long passes between two announcements on one connection.
pub(super) const ANNOUNCE_INTERVAL_MIN: Duration = Duration::from_secs(2);
/// Signs of life come no faster than this, whatever the tracker asks for.
pub(super) const KEEP_ALIVE_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// A tracker is never called silent before this.
pub(super) const SILENCE_MIN: Duration = Duration::from_secs(2);
/// After a connection that held for so long, the first wait is short again.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Signs bytes with this peer's own key.
pub type Signer = Box<dyn Fn(&[u8]) -> [u8; Signature::BYTES] + Send>;

/// What the owner of an announcer can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnouncerOptions {
    /// Without a sign of life, a tracker may keep us listed for so long.
    pub ttl: Ttl,
    /// The first wait before a new try, halved at most by lot.
    pub retry_first: Duration,
    /// The longest wait before a new try.
    pub retry_max: Duration,
}

impl Default for AnnouncerOptions {
    fn default() -> Self {
        Self {
            ttl: Ttl::from_seconds(60).expect("60 is within 1 to 3600"),
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// What an announcer starts from.
pub struct Start {
    /// In which share.
    pub share: ShareId,
    /// Who we are.
    pub me: PeerId,
    /// Where we can be reached; see [`Input::Addresses`].
    pub addresses: Vec<SocketAddr>,
    /// What we hold.
    pub holding: HoldingSummary,
    /// No announcement gets a number that is not above this. The owner makes it rise across its
    /// restarts: the wall clock in milliseconds does (`tracker-14`).
    pub sequence_floor: u64,
    /// From which the lots for waits are drawn.
    pub seed: u64,
    /// Our key.
    pub signer: Signer,
    /// How the signatures of others are checked.
    pub verifier: Verifier,
}

/// What can happen to an announcer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// An attempt to connect succeeded.
    Connected {
        /// Which, as given by [`Effect::Connect`].
        attempt: u64,
        /// Where the tracker is.
        tracker: SocketAddr,
    },
    /// Bytes came in.
    Received {
        /// On the connection of this attempt.
        attempt: u64,
        /// The bytes, cut anywhere.
        bytes: &'a [u8],
    },
    /// An attempt failed, or its connection is over.
    Failed {
        /// Which.
        attempt: u64,
        /// Why, if there was an error; None when the tracker closed the connection.
        error: Option<String>,
    },
    /// We hold something else now.
    Holding(HoldingSummary),
    /// We can be reached elsewhere now. The first 16 that can stand in a message are announced.
    Addresses(Vec<SocketAddr>),
    /// Something has changed in the network: do not wait any longer.
    Retry,
    /// The deadline has come.
    Due,
    /// Leave the share and end.
    Stop,
}

/// What an announcer wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Connect; answered, within a limit of the host's, by `Connected` or `Failed`.
    Connect {
        /// The number of this attempt, and of its connection.
        attempt: u64,
    },
    /// Send on the current connection.
    Send(Vec<u8>),
    /// Give the current attempt or connection up, after what was sent.
    Disconnect,
    /// Tell the owner.
    Event(Event),
}

/// What the owner of an announcer learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The tracker lists us.
    Up {
        /// Where it is.
        tracker: SocketAddr,
    },
    /// The tracker does not list us, or may not.
    Down {
        /// Why.
        reason: DownReason,
        /// When it is tried again, from now.
        retry_in: Duration,
    },
    /// The tracker has taken the announcement with this number.
    Announced {
        /// The number.
        sequence: u64,
    },
    /// A peer is new, or something about it has changed.
    PeerSeen(PeerSighting),
    /// A peer is gone, as the tracker says.
    PeerGone(PeerId),
}

/// Why we are not listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The tracker closed the connection.
    #[error("the tracker closed the connection")]
    Ended,
    /// Something else answers at this address.
    #[error("what answers there is not an ahoy tracker")]
    NotATracker,
    /// The tracker speaks another version.
    #[error("the tracker speaks version {0} of the protocol, this program speaks {VERSION}")]
    Version(u8),
    /// The tracker sent something that is no message.
    #[error("the tracker sent a frame that cannot be read: {0}")]
    Unreadable(Invalid),
    /// The tracker sent a message that has no place here.
    #[error("the tracker sent a message that has no place here")]
    OutOfPlace,
    /// The tracker passed on something that no peer signed.
    #[error("the tracker passed on a forged announcement")]
    Forged,
    /// The tracker was not heard.
    #[error("the tracker does not answer")]
    Silent,
    /// The tracker does not want us.
    #[error("{0}")]
    Refused(Refusal),
}

/// What the announcer wants to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncerReason {
    /// To try again.
    Retry,
    /// The tracker has not welcomed us.
    Greeting,
    /// To show a sign of life.
    KeepAlive,
    /// The tracker will have been silent for too long.
    Silence,
    /// To announce what has changed.
    Announce,
}

/// How it stands: for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncerStatus {
    /// The tracker that lists us now.
    pub tracker: Option<SocketAddr>,
    /// Why there was none, the last time.
    pub down: Option<DownReason>,
    /// When it is tried again, if that is being waited for.
    pub retry_at: Option<Moment>,
    /// The number of our last announcement.
    pub sequence: u64,
    /// The peers that are live as far as we know.
    pub peers: Vec<PeerSighting>,
}

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

/// Effects, in the order in which they are to happen.
pub type Outbox = Vec<Effect>;

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
