//! Announcers against a tracker, both in virtual time, and against trackers that are none.

use std::net::SocketAddr;
use std::time::Duration;

use ahoy_logic::machine::{ConnectionId, Input as TrackerInput, Machine};
use ahoy_logic::moment::Moment;
use ahoy_logic::tracker::{
    Announcer, AnnouncerOptions, AnnouncerReason, DownReason, Effect, Event, Input, Options, Start,
};
use ahoy_wire::bounded::Bounded;
use ahoy_wire::tracker::{
    Challenge, HoldingSummary, PROLOGUE, PeerAddress, PeerEntry, PeerMessage, Refusal, ShareId,
    TrackerMessage,
};

use crate::world::{SHARE, World, addr, announcement, check, peer, sign_as};

const SECOND: Duration = Duration::from_secs(1);
const TRACKER: &str = "192.0.2.9:7447";

fn start(number: u8, sequence_floor: u64) -> Start {
    Start {
        share: SHARE,
        me: peer(number),
        addresses: vec![addr(&format!("10.0.0.{number}:7447"))],
        holding: HoldingSummary::default(),
        sequence_floor,
        seed: number.into(),
        signer: Box::new(sign_as(peer(number))),
        verifier: check,
    }
}

/// Events in short: `up`, `announced:5`, `+2:5` for a peer seen, `-2` for one gone, `down:Silent`.
fn in_short(event: &Event) -> String {
    match event {
        Event::Up { .. } => "up".to_owned(),
        Event::Announced { sequence } => format!("announced:{sequence}"),
        Event::PeerSeen(seen) => format!("+{}:{}", seen.peer.as_bytes()[0], seen.sequence),
        Event::PeerGone(peer) => format!("-{}", peer.as_bytes()[0]),
        Event::Down { reason, .. } => {
            let text = format!("{reason:?}");
            format!("down:{}", text.split(['(', ' ']).next().unwrap_or_default())
        }
    }
}

struct Client {
    machine: Announcer,
    link: Option<(u64, ConnectionId)>,
    from: String,
    events: Vec<Event>,
    connects: u64,
}

/// A tracker, some announcers, and a network that delivers at once.
struct Net {
    world: World,
    tracker_is_up: bool,
    clients: Vec<Client>,
}

impl Net {
    fn new(options: Options) -> Self {
        Self {
            world: World::new(options),
            tracker_is_up: true,
            clients: Vec::new(),
        }
    }

    fn add(&mut self, number: u8, sequence_floor: u64) -> usize {
        let start = start(number, sequence_floor);
        let machine = Announcer::new(AnnouncerOptions::default(), self.world.now, start);
        let from = format!("10.0.0.{number}:50000");
        self.clients.push(Client {
            machine,
            link: None,
            from,
            events: Vec::new(),
            connects: 0,
        });
        let client = self.clients.len() - 1;
        self.input(client, Input::Due);
        self.settle();
        client
    }

    fn input(&mut self, client: usize, input: Input<'_>) {
        let mut outbox = Vec::new();
        self.clients[client]
            .machine
            .handle(self.world.now, input, &mut outbox);
        for effect in outbox {
            match effect {
                Effect::Connect { attempt } if self.tracker_is_up => {
                    let id = self.world.open(&self.clients[client].from.clone());
                    self.clients[client].connects += 1;
                    self.clients[client].link = Some((attempt, id));
                    self.input(
                        client,
                        Input::Connected {
                            attempt,
                            tracker: addr(TRACKER),
                        },
                    );
                }
                Effect::Connect { attempt } => {
                    self.clients[client].connects += 1;
                    let error = Some("connection refused".to_owned());
                    self.input(client, Input::Failed { attempt, error });
                }
                Effect::Send(bytes) => {
                    let (_, id) = self.clients[client].link.expect("connected");
                    self.world.bytes(id, &bytes);
                }
                Effect::Disconnect => {
                    if let Some((_, id)) = self.clients[client].link.take() {
                        self.world.input(TrackerInput::Closed { id });
                    }
                }
                Effect::Event(event) => self.clients[client].events.push(event),
            }
        }
    }

    fn settle(&mut self) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for client in 0..self.clients.len() {
                let Some((attempt, id)) = self.clients[client].link else {
                    continue;
                };
                let bytes = self.world.sent(id);
                if !bytes.is_empty() {
                    moved = true;
                    self.input(
                        client,
                        Input::Received {
                            attempt,
                            bytes: &bytes,
                        },
                    );
                } else if self.world.is_closed(id) {
                    moved = true;
                    self.clients[client].link = None;
                    self.input(
                        client,
                        Input::Failed {
                            attempt,
                            error: None,
                        },
                    );
                }
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.world.now + span;
        loop {
            let due = self
                .clients
                .iter()
                .filter_map(|client| client.machine.deadline());
            let tracker = self.world.tracker.deadline().map(|due| due.at);
            let Some(next) = due.map(|due| due.at).chain(tracker).min() else {
                break;
            };
            if next > end {
                break;
            }
            self.world.pass(next - self.world.now);
            for client in 0..self.clients.len() {
                self.input(client, Input::Due);
            }
            self.settle();
        }
        self.world.pass(end - self.world.now);
    }

    fn heard(&mut self, client: usize) -> String {
        let events = std::mem::take(&mut self.clients[client].events);
        events.iter().map(in_short).collect::<Vec<_>>().join(" ")
    }

    /// Every connection ends and none can be made.
    fn stop_tracker(&mut self) {
        self.tracker_is_up = false;
        self.world.input(TrackerInput::Stop);
        self.settle();
    }

    /// Another tracker, which knows nobody, stands in the place of the first.
    fn restart_tracker(&mut self, options: Options) {
        let now = self.world.now;
        self.world = World::new(options);
        self.world.now = now;
        self.tracker_is_up = true;
    }
}

#[test]
fn three_peers_find_each_other_and_see_one_leave() {
    let mut net = Net::new(Options::default());
    let (a, b) = (net.add(1, 100), net.add(2, 200));
    let c = net.add(3, 300);
    assert_eq!(net.heard(a), "up announced:101 +2:201 +3:301");
    assert_eq!(net.heard(b), "up announced:201 +1:101 +3:301");
    assert_eq!(net.heard(c), "up announced:301 +1:101 +2:201");
    net.input(c, Input::Stop);
    net.settle();
    assert_eq!(
        (net.heard(a), net.heard(b)),
        ("-3".to_owned(), "-3".to_owned())
    );
    assert_eq!(net.clients[c].machine.deadline(), None);
    assert_eq!(net.clients[a].machine.status().peers.len(), 1);
}

#[test]
fn keep_alives_keep_a_peer_listed_for_hours_and_nothing_else_is_said() {
    let mut net = Net::new(Options {
        timeout: 5 * SECOND,
        ..Options::default()
    });
    let (a, b) = (net.add(1, 100), net.add(2, 200));
    net.pass(3 * 3600 * SECOND);
    assert_eq!(net.heard(a), "up announced:101 +2:201");
    assert_eq!(net.heard(b), "up announced:201 +1:101");
    assert_eq!((net.clients[a].connects, net.clients[b].connects), (1, 1));
    assert_eq!(net.world.snapshot().announced_total, 2);
}

#[test]
fn a_peer_whose_machine_sleeps_is_gone_in_time_and_comes_back() {
    let mut net = Net::new(Options {
        timeout: 30 * SECOND,
        ..Options::default()
    });
    let (a, b) = (net.add(1, 100), net.add(2, 200));
    net.heard(a);
    // Peer 2's machine sleeps: its client is taken out of the world for a while.
    let sleeper = net.clients.pop().expect("two clients");
    net.pass(29 * SECOND);
    assert_eq!(net.heard(a), "");
    net.pass(SECOND);
    assert_eq!(net.heard(a), "-2");
    net.pass(3600 * SECOND);
    net.clients.push(sleeper);
    net.settle();
    net.pass(SECOND);
    assert_eq!(net.heard(a), "+2:202");
    assert_eq!(
        net.heard(b),
        "up announced:201 +1:101 down:Ended up announced:202"
    );
}

#[test]
fn after_a_restart_of_the_tracker_all_come_back_and_nobody_was_forgotten() {
    let mut net = Net::new(Options::default());
    let (a, b) = (net.add(1, 100), net.add(2, 200));
    net.pass(60 * SECOND);
    net.heard(a);
    net.heard(b);
    net.stop_tracker();
    net.pass(600 * SECOND);
    assert!(
        net.heard(a)
            .starts_with("down:Ended down:Unreachable down:Unreachable")
    );
    assert_eq!(
        net.clients[a].machine.status().peers.len(),
        1,
        "still known"
    );
    assert_eq!(net.clients[a].machine.status().tracker, None);
    net.heard(b);
    net.restart_tracker(Options::default());
    net.pass(31 * SECOND);
    assert!(net.heard(a).starts_with("up announced:102"));
    assert!(net.heard(b).starts_with("up announced:202"));
    assert_eq!(net.clients[a].machine.status().peers[0].sequence, 202);
    assert_eq!(net.world.snapshot().announcements, 2);
}

#[test]
fn a_peer_that_left_while_the_tracker_was_away_is_gone_with_the_next_list() {
    let mut net = Net::new(Options::default());
    let a = net.add(1, 100);
    net.add(2, 200);
    net.stop_tracker();
    net.clients.pop();
    net.restart_tracker(Options::default());
    net.heard(a);
    net.pass(31 * SECOND);
    assert_eq!(net.heard(a), "up announced:102 -2");
}

#[test]
fn a_short_absence_is_over_in_less_than_a_second_and_a_long_one_is_not_hammered() {
    let mut net = Net::new(Options::default());
    let a = net.add(1, 100);
    net.pass(60 * SECOND);
    net.stop_tracker();
    net.restart_tracker(Options::default());
    net.heard(a);
    net.pass(SECOND / 2);
    assert_eq!(net.heard(a), "up announced:102");
    net.stop_tracker();
    net.clients[a].connects = 0;
    net.pass(3600 * SECOND);
    // 30 s at most between two tries, 15 s at least.
    let connects = net.clients[a].connects;
    assert!(
        (120..=250).contains(&connects),
        "{connects} tries in an hour"
    );
    // Whoever knows more than the timer may ask for a try now.
    net.restart_tracker(Options::default());
    net.heard(a);
    net.input(a, Input::Retry);
    net.settle();
    assert_eq!(net.heard(a), "up announced:103");
}

// tracker-14.
#[test]
fn news_are_announced_with_rising_numbers_and_not_too_often() {
    let mut net = Net::new(Options::default());
    let (a, b) = (net.add(1, 100), net.add(2, 200));
    net.heard(a);
    net.heard(b);
    for files in 1..=100 {
        net.input(
            a,
            Input::Holding(HoldingSummary {
                files,
                ..HoldingSummary::default()
            }),
        );
        net.settle();
        net.pass(SECOND / 10);
    }
    net.pass(3 * SECOND);
    assert_eq!(
        net.heard(a),
        "announced:102 announced:103 announced:104 announced:105 announced:106"
    );
    assert!(net.heard(b).ends_with("+1:106"));
    assert_eq!(net.clients[b].machine.status().peers[0].holding.files, 100);
    net.input(
        a,
        Input::Addresses(vec![
            addr("10.9.9.9:1"),
            addr("0.0.0.0:1"),
            addr("[fe80::1]:1"),
        ]),
    );
    net.pass(2 * SECOND);
    net.settle();
    assert_eq!(net.heard(b), "+1:107");
    let sighting = net.clients[b].machine.status().peers.remove(0);
    assert_eq!(sighting.addresses, [addr("10.9.9.9:1"), addr("10.0.0.1:1")]);
}

/// A peer whose clock went back: the tracker shows it its own last word, and it goes on from there.
// tracker-14.
#[test]
fn a_number_that_is_too_low_is_raised_above_the_peers_own_last_one() {
    let mut net = Net::new(Options::default());
    let a = net.add(1, 5000);
    // The first one hangs: its connection is still there when the peer starts anew.
    net.clients[a].link = None;
    let again = net.add(1, 40);
    assert_eq!(net.heard(again), "up announced:5002");
}

/// An announcer alone, with hand-made answers.
struct Alone {
    machine: Announcer,
    now: Moment,
    events: Vec<Event>,
    sent: Vec<u8>,
    disconnected: bool,
}

impl Alone {
    /// Connected, in attempt 1, and nothing heard yet.
    fn connected() -> Self {
        let now = Moment::ORIGIN;
        let machine = Announcer::new(AnnouncerOptions::default(), now, start(1, 100));
        let mut alone = Self {
            machine,
            now,
            events: Vec::new(),
            sent: Vec::new(),
            disconnected: false,
        };
        alone.input(Input::Due);
        alone.input(Input::Connected {
            attempt: 1,
            tracker: addr(TRACKER),
        });
        assert_eq!(std::mem::take(&mut alone.sent), PROLOGUE);
        alone
    }

    fn welcomed() -> Self {
        let mut alone = Self::connected();
        alone.bytes(&PROLOGUE);
        let challenge = Challenge([5; 16]);
        alone.hear(&TrackerMessage::Welcome {
            challenge,
            timeout_seconds: 30,
        });
        alone.hear(&TrackerMessage::Announced {
            share: SHARE,
            sequence: 101,
        });
        assert_eq!(alone.shown(), "up announced:101");
        alone
    }

    fn input(&mut self, input: Input<'_>) {
        let mut outbox = Vec::new();
        self.machine.handle(self.now, input, &mut outbox);
        for effect in outbox {
            match effect {
                Effect::Connect { .. } => self.disconnected = false,
                Effect::Send(bytes) => self.sent.extend(bytes),
                Effect::Disconnect => self.disconnected = true,
                Effect::Event(event) => self.events.push(event),
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.input(Input::Received { attempt: 1, bytes });
    }

    fn hear(&mut self, message: &TrackerMessage) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.bytes(&bytes);
    }

    fn shown(&mut self) -> String {
        let events = std::mem::take(&mut self.events);
        events.iter().map(in_short).collect::<Vec<_>>().join(" ")
    }

    fn down(&mut self) -> Option<DownReason> {
        match self.events.pop() {
            Some(Event::Down { reason, .. }) if self.disconnected => Some(reason),
            _ => None,
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.input(Input::Due);
    }
}

fn entry(number: u8, sequence: u64) -> PeerEntry {
    PeerEntry {
        signed: announcement(number, Challenge([9; 16]), sequence).signed(),
        seen: PeerAddress::new(addr("10.0.0.1:5")).expect("can be dialled"),
    }
}

fn changed(entries: impl IntoIterator<Item = PeerEntry>) -> TrackerMessage {
    TrackerMessage::Changed {
        share: SHARE,
        entries: Bounded::truncated(entries),
    }
}

#[test]
fn what_is_no_tracker_is_left_with_a_reason() {
    let cases: [(&[u8], DownReason); 3] = [
        (b"HTTP/1.1 400 Bad Request", DownReason::NotATracker),
        (b"AHOY\x07", DownReason::Version(7)),
        (b"AHOY\x01\x83\0\0", DownReason::OutOfPlace),
    ];
    for (bytes, reason) in cases {
        let mut alone = Alone::connected();
        alone.bytes(bytes);
        assert_eq!(alone.down(), Some(reason), "{bytes:?}");
        alone.bytes(&PROLOGUE);
        assert_eq!(alone.shown(), "", "what comes late is nothing");
    }
    let mut alone = Alone::connected();
    alone.bytes(b"AHOY\x01\xff");
    assert!(matches!(alone.down(), Some(DownReason::Unreadable(_))));
    let mut alone = Alone::connected();
    alone.bytes(b"AHOY");
    alone.pass(Duration::from_millis(9_999));
    assert_eq!(
        alone.machine.deadline().map(|due| due.reason),
        Some(AnnouncerReason::Greeting)
    );
    assert_eq!(alone.shown(), "");
    alone.pass(Duration::from_millis(1));
    assert_eq!(alone.down(), Some(DownReason::Silent));
}

// tracker-40, tracker-41.
#[test]
fn a_tracker_cannot_forge_nor_bring_back_what_was_said_before() {
    let mut alone = Alone::welcomed();
    alone.hear(&changed([entry(2, 50)]));
    assert_eq!(alone.shown(), "+2:50");
    alone.hear(&changed([entry(2, 49)]));
    alone.hear(&TrackerMessage::Gone {
        share: SHARE,
        peers: Bounded::truncated([peer(2)]),
    });
    alone.hear(&changed([entry(2, 49)]));
    assert_eq!(alone.shown(), "-2", "an older word counts for nothing");
    let forged = announcement(2, Challenge([9; 16]), 51)
        .0
        .sign(sign_as(peer(3)));
    alone.hear(&changed([PeerEntry {
        signed: forged,
        ..entry(2, 51)
    }]));
    assert_eq!(alone.down(), Some(DownReason::Forged));
    assert_eq!(alone.machine.status().down, Some(DownReason::Forged));
}

#[test]
fn a_tracker_cannot_drive_our_number_up_with_words_that_are_not_ours() {
    let stale = |signed| TrackerMessage::Refused {
        share: SHARE,
        refusal: Refusal::Stale(Box::new(signed)),
    };
    let mut alone = Alone::welcomed();
    alone.hear(&stale(
        announcement(1, Challenge([0; 16]), u64::MAX)
            .0
            .sign(sign_as(peer(2))),
    ));
    assert_eq!(alone.down(), Some(DownReason::Forged));
    let mut alone = Alone::welcomed();
    alone.hear(&stale(
        announcement(2, Challenge([0; 16]), u64::MAX).signed(),
    ));
    assert_eq!(alone.down(), Some(DownReason::OutOfPlace));
    // Nor make us sign in a loop with old words of ours.
    let mut alone = Alone::welcomed();
    alone.sent.clear();
    for _ in 0..1000 {
        alone.hear(&stale(announcement(1, Challenge([0; 16]), 3).signed()));
    }
    assert_eq!(alone.sent, b"");
    alone.pass(2 * SECOND);
    let (message, _) = PeerMessage::decode(&alone.sent).expect("one announcement");
    let PeerMessage::Announce(signed) = message else {
        panic!("{message:?}")
    };
    assert_eq!(signed.unverified().sequence, 102);
    // Even our own highest number does not break anything.
    alone.hear(&stale(
        announcement(1, Challenge([0; 16]), u64::MAX).signed(),
    ));
    assert_eq!(alone.machine.status().sequence, u64::MAX);
}

#[test]
fn messages_about_other_shares_and_a_second_welcome_are_out_of_place() {
    let other = ShareId::new([8; 32]);
    let none = Bounded::default;
    for message in [
        TrackerMessage::Welcome {
            challenge: Challenge([6; 16]),
            timeout_seconds: 9,
        },
        TrackerMessage::Changed {
            share: other,
            entries: none(),
        },
        TrackerMessage::Peers {
            share: other,
            last: true,
            entries: none(),
        },
        TrackerMessage::Gone {
            share: other,
            peers: Bounded::default(),
        },
        TrackerMessage::Refused {
            share: other,
            refusal: Refusal::ShareFull,
        },
    ] {
        let mut alone = Alone::welcomed();
        alone.hear(&message);
        assert_eq!(alone.down(), Some(DownReason::OutOfPlace), "{message:?}");
    }
}

#[test]
fn a_refusal_is_reported_and_tried_again_later() {
    let mut alone = Alone::welcomed();
    alone.hear(&TrackerMessage::Refused {
        share: SHARE,
        refusal: Refusal::Crowded,
    });
    assert_eq!(alone.down(), Some(DownReason::Refused(Refusal::Crowded)));
    let reason = alone.machine.deadline().map(|due| due.reason);
    assert_eq!(reason, Some(AnnouncerReason::Retry));
}

#[test]
fn a_tracker_that_no_longer_answers_is_given_up() {
    let mut alone = Alone::welcomed();
    alone.sent.clear();
    alone.pass(10 * SECOND);
    let mut keep_alive = Vec::new();
    PeerMessage::KeepAlive.encode(&mut keep_alive);
    assert_eq!(std::mem::take(&mut alone.sent), keep_alive);
    alone.hear(&TrackerMessage::Alive);
    alone.pass(Duration::from_millis(29_999));
    assert_eq!(alone.shown(), "");
    alone.pass(Duration::from_millis(1));
    assert_eq!(alone.down(), Some(DownReason::Silent));
}

/// Whatever a tracker asks for, signs of life neither flood nor stop.
#[test]
fn a_strange_timeout_is_kept_within_reason() {
    for (timeout_seconds, at_least, at_most) in [(1, 3, 4), (65_535, 1, 1)] {
        let mut alone = Alone::connected();
        alone.bytes(&PROLOGUE);
        let challenge = Challenge([5; 16]);
        alone.hear(&TrackerMessage::Welcome {
            challenge,
            timeout_seconds,
        });
        alone.sent.clear();
        let mut said = 0;
        let end = alone.now + 20 * SECOND;
        while let Some(due) = alone.machine.deadline().filter(|due| due.at <= end) {
            alone.now = due.at;
            alone.input(Input::Due);
            alone.hear(&TrackerMessage::Alive);
            said += 1;
        }
        let seconds = if timeout_seconds == 1 { 20 } else { 1 };
        assert!(
            (at_least * seconds..=at_most * seconds).contains(&said),
            "{said}"
        );
        let _: Option<SocketAddr> = alone.machine.status().tracker;
    }
}

#[test]
fn a_failed_attempt_of_long_ago_is_nothing() {
    let mut alone = Alone::connected();
    alone.input(Input::Failed {
        attempt: 1,
        error: Some("reset".to_owned()),
    });
    assert_eq!(alone.shown(), "down:Unreachable");
    alone.input(Input::Failed {
        attempt: 1,
        error: None,
    });
    alone.input(Input::Connected {
        attempt: 1,
        tracker: addr(TRACKER),
    });
    alone.bytes(&PROLOGUE);
    assert_eq!(alone.shown(), "");
    alone.pass(SECOND);
    alone.input(Input::Failed {
        attempt: 1,
        error: None,
    });
    assert_eq!(alone.shown(), "");
    alone.input(Input::Failed {
        attempt: 2,
        error: None,
    });
    assert_eq!(alone.shown(), "down:Ended");
}
