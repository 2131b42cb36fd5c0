//! The announcer's port: what goes in, what it wants done, and what its owner learns.

use core::net::SocketAddr;
use std::time::Duration;

use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{HoldingSummary, Invalid, Refusal, ShareId, Signature, Ttl, VERSION};

use crate::moment::Moment;

use super::super::Verifier;
use super::super::view::PeerSighting;

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

/// The waits are those of tracker-43.
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
    /// restarts: see [`Reserve`](super::Reserve).
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

/// Effects, in the order in which they are to happen.
pub type Outbox = Vec<Effect>;
