//! A tracker whose connections are spoken by hand, and a clock that moves when it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ahoy_logic::machine::{ConnectionId, Effect, Input, Machine, Outbox};
use ahoy_logic::moment::Moment;
use ahoy_logic::tracker::{Note, Options, Snapshot, Tracker};
use ahoy_wire::bounded::Bounded;
use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{
    Announcement, Challenge, HoldingSummary, PROLOGUE, PeerAddress, PeerMessage, ShareId,
    Signature, SignedAnnouncement, TrackerMessage, Ttl,
};

pub const SHARE: ShareId = ShareId::new([7; 32]);

pub fn peer(number: u8) -> PeerId {
    PeerId::new([number; 32])
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

/// Stands for Ed25519: whoever knows the name can sign for it, and no one changes what was signed.
pub fn sign_as(peer: PeerId) -> impl Fn(&[u8]) -> [u8; Signature::BYTES] + Send {
    move |bytes| {
        let mut signature = [0; Signature::BYTES];
        let mut hasher = blake3::Hasher::new_keyed(peer.as_bytes());
        hasher.update(bytes);
        hasher.finalize_xof().fill(&mut signature);
        signature
    }
}

pub fn check(peer: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
    sign_as(*peer)(bytes) == signature.0
}

pub struct World {
    pub tracker: Tracker,
    pub now: Moment,
    pub notes: Vec<Note>,
    outbox: Outbox<Note>,
    wires: BTreeMap<ConnectionId, Wire>,
    opened: u64,
}

#[derive(Default)]
struct Wire {
    sent: Vec<u8>,
    closed: bool,
}

impl World {
    pub fn new(options: Options) -> Self {
        Self {
            tracker: Tracker::new(options, [3; 32], check),
            now: Moment::ORIGIN,
            notes: Vec::new(),
            outbox: Outbox::new(),
            wires: BTreeMap::new(),
            opened: 0,
        }
    }

    pub fn input(&mut self, input: Input<'_>) {
        self.tracker.handle(self.now, input, &mut self.outbox);
        while let Some(effect) = self.outbox.pop() {
            match effect {
                Effect::Send { id, bytes } => {
                    let wire = self.wires.entry(id).or_default();
                    assert!(
                        !wire.closed,
                        "nothing is sent on a connection that was closed"
                    );
                    wire.sent.extend(bytes);
                }
                Effect::Finish { id } | Effect::Close { id } => {
                    self.wires.entry(id).or_default().closed = true;
                }
                Effect::Note(note) => self.notes.push(note),
                Effect::Exit => self.wires.values_mut().for_each(|wire| wire.closed = true),
                Effect::Datagram { .. } | Effect::SendShared { .. } => {
                    panic!("a tracker sends no datagrams, and to each its own bytes")
                }
            }
        }
    }

    /// Lets time pass, waking the tracker exactly when it asks for it.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.tracker.deadline().filter(|due| due.at <= end) {
            assert!(deadline.at >= self.now, "a deadline moves on: {deadline:?}");
            self.now = deadline.at;
            self.input(Input::Due);
            let next = self.tracker.deadline();
            assert!(
                next.is_none_or(|next| next.at > self.now),
                "all that is due is done"
            );
        }
        self.now = end;
    }

    pub fn open(&mut self, from: &str) -> ConnectionId {
        self.opened += 1;
        let id = ConnectionId(self.opened);
        self.wires.insert(id, Wire::default());
        self.input(Input::Opened {
            id,
            peer: addr(from),
            local: addr("192.0.2.9:7447"),
        });
        id
    }

    pub fn bytes(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.input(Input::Received { id, bytes });
    }

    pub fn say(&mut self, id: ConnectionId, message: &PeerMessage) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.bytes(id, &bytes);
    }

    /// Opens, greets, and gives the challenge.
    pub fn greet(&mut self, from: &str) -> (ConnectionId, Challenge) {
        let id = self.open(from);
        self.bytes(id, &PROLOGUE);
        let sent = self.sent(id);
        assert_eq!(sent[..PROLOGUE.len()], PROLOGUE);
        match TrackerMessage::decode(&sent[PROLOGUE.len()..]) {
            Ok((TrackerMessage::Welcome { challenge, .. }, _)) => (id, challenge),
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// Opens, greets, and announces a peer; gives the connection and what was heard.
    pub fn join(&mut self, number: u8, from: &str) -> (ConnectionId, Challenge, String) {
        let (id, challenge) = self.greet(from);
        self.say(
            id,
            &PeerMessage::Announce(announcement(number, challenge, 1).signed()),
        );
        let heard = self.heard(id);
        (id, challenge, heard)
    }

    /// The raw bytes sent on a connection since the last look.
    pub fn sent(&mut self, id: ConnectionId) -> Vec<u8> {
        std::mem::take(&mut self.wires.entry(id).or_default().sent)
    }

    /// The messages sent on a connection since the last look, in short.
    pub fn heard(&mut self, id: ConnectionId) -> String {
        messages(&self.sent(id))
            .iter()
            .map(in_short)
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub fn is_closed(&self, id: ConnectionId) -> bool {
        self.wires.get(&id).is_some_and(|wire| wire.closed)
    }

    pub fn snapshot(&self) -> Snapshot {
        self.tracker.snapshot()
    }

    pub fn notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }
}

pub fn messages(mut bytes: &[u8]) -> Vec<TrackerMessage> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (message, len) = TrackerMessage::decode(bytes).expect("a tracker sends messages");
        messages.push(message);
        bytes = &bytes[len..];
    }
    messages
}

/// `peers[1:5,2:5]` for a list with peer 1 at sequence 5 and so on; `peers+` if more follows.
fn in_short(message: &TrackerMessage) -> String {
    let shown = |entries: &[ahoy_wire::tracker::PeerEntry]| {
        let entries = entries.iter().map(|entry| {
            let said = entry.signed.unverified();
            format!("{}:{}", said.peer.as_bytes()[0], said.sequence)
        });
        entries.collect::<Vec<_>>().join(",")
    };
    match message {
        TrackerMessage::Welcome { .. } => "welcome".to_owned(),
        TrackerMessage::Announced { sequence, .. } => format!("announced:{sequence}"),
        TrackerMessage::Alive => "alive".to_owned(),
        TrackerMessage::Peers {
            last: true,
            entries,
            ..
        } => format!("peers[{}]", shown(entries)),
        TrackerMessage::Peers {
            last: false,
            entries,
            ..
        } => format!("peers+[{}]", shown(entries)),
        TrackerMessage::Changed { entries, .. } => format!("changed[{}]", shown(entries)),
        TrackerMessage::Gone { peers, .. } => {
            let peers = peers.iter().map(|peer| peer.as_bytes()[0].to_string());
            format!("gone[{}]", peers.collect::<Vec<_>>().join(","))
        }
        TrackerMessage::Refused { refusal, .. } => {
            let text = format!("{refusal:?}");
            let name: String = text.chars().take_while(|c| c.is_alphabetic()).collect();
            format!("refused:{name}")
        }
    }
}

/// An announcement of peer `number` in [`SHARE`], to be changed and signed.
pub fn announcement(number: u8, challenge: Challenge, sequence: u64) -> Draft {
    let address = PeerAddress::new(addr(&format!("10.0.0.{number}:7447"))).expect("dialled");
    Draft(Announcement {
        challenge,
        share: SHARE,
        peer: peer(number),
        sequence,
        ttl: Ttl::from_seconds(60).expect("in range"),
        holding: HoldingSummary::default(),
        addresses: Bounded::truncated([address]),
    })
}

pub struct Draft(pub Announcement);

impl Draft {
    pub fn with(mut self, change: impl FnOnce(&mut Announcement)) -> Self {
        change(&mut self.0);
        self
    }

    pub fn signed(self) -> SignedAnnouncement {
        let peer = self.0.peer;
        self.0.sign(sign_as(peer))
    }
}
