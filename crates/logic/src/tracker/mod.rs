//! The tracker's decisions (`spec/tracker.md`), on both sides of the connection.
//!
//! [`Tracker`] is the service: it knows the live peers of each share, says so to those peers, and
//! forgets whoever falls silent. [`Announcer`] is the client: it keeps one peer announced in one
//! share, whatever becomes of the tracker. Both are machines without clock, socket or chance.
//!
//! Signatures are checked in here, through a [`Verifier`] that the caller brings: checking is a
//! pure function, only the cryptographic library is no business of this floor. So nothing can be
//! put into either machine that has not been through the check.

mod announcer;
pub(crate) mod budget;
mod registry;
mod server;
mod view;

pub use announcer::{
    Announcer, AnnouncerOptions, AnnouncerReason, AnnouncerStatus, DownReason, Effect, Event,
    Input, Outbox, Reserve, Signer, Start,
};
pub use server::Tracker;
pub use view::{HIGHEST_KNOWN_MAX, PeerSighting};

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::{Invalid, PeerAddress, Refusal, ShareId, Signature};

/// Answers whether `signature` is this peer's Ed25519 signature over `bytes`.
pub type Verifier = fn(peer: &PeerId, bytes: &[u8], signature: &Signature) -> bool;

/// What the owner of a tracker can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Who is not heard for so long is gone. Whole seconds, 1 to 65,535; see
    /// [`Options::timeout_seconds`].
    pub timeout: Duration,
    /// How much may be kept.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

impl Options {
    /// The timeout as peers are told it: whole seconds, at least 1.
    #[must_use]
    pub fn timeout_seconds(&self) -> u16 {
        u16::try_from(self.timeout.as_secs())
            .unwrap_or(u16::MAX)
            .max(1)
    }
}

/// How much a tracker keeps (tracker-30). One announcement costs about 1.5 KiB, one connection
/// about 1 KiB.
///
/// A share exists only through its announcements, so there are never more shares than those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections from one source address (IPv6: from one /64).
    pub connections_per_source_max: usize,
    /// Announcements in all.
    pub announcements_max: usize,
    /// Announcements on one connection.
    pub announcements_per_connection_max: usize,
    /// Peers in one share.
    pub peers_per_share_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            connections_per_source_max: 256,
            announcements_max: 32_768,
            announcements_per_connection_max: 64,
            peers_per_share_max: 512,
        }
    }
}

/// Whom limits are fair between (tracker-30): an IPv4 address or an IPv6 /64, which is what one
/// household has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        Self(match addr.ip().to_canonical() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            ip @ IpAddr::V4(_) => ip,
        })
    }
}

/// Why a connection is closed without a word: what a stranger did that no honest peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its first bytes are not the tracker's protocol.
    #[error("does not speak this protocol")]
    Foreign,
    /// It speaks a version that this tracker does not (it is told which one this is).
    #[error("speaks version {0} of the protocol")]
    Version(u8),
    /// It sent a frame that can be no message.
    #[error("sent a frame that cannot be read: {0}")]
    Unreadable(Invalid),
    /// It sent an announcement that the peer named in it did not sign.
    #[error("sent an announcement with a wrong signature")]
    Forged,
    /// It sent an announcement made on another connection.
    #[error("sent an announcement that was made for another connection")]
    Replayed,
    /// It sent more messages than its budget.
    #[error("sent too many messages")]
    TooFast,
    /// It said nothing at all, or nothing for the length of the timeout.
    #[error("was silent for too long")]
    Silent,
    /// There are as many connections as there may be.
    #[error("came when the tracker had all the connections it takes")]
    Full,
    /// There are as many connections from its address as there may be.
    #[error("came from an address with all the connections one may have")]
    SourceFull,
}

/// Why a peer is no longer listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftCause {
    /// It said that it leaves.
    Said,
    /// Its connection ended.
    ConnectionEnded,
    /// It was silent for too long.
    Silent,
    /// It had to make room for others.
    Crowded,
}

/// What an observer of the tracker would want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A peer is listed in a share.
    Joined {
        /// In which.
        share: ShareId,
        /// Which.
        peer: PeerId,
        /// Where its connection comes from.
        seen: PeerAddress,
        /// How many addresses it announced.
        addresses: usize,
    },
    /// A listed peer holds something else than before.
    Holds {
        /// In which share.
        share: ShareId,
        /// Which.
        peer: PeerId,
        /// How many files, as it says itself.
        files: u64,
        /// How many bytes in them.
        bytes: u64,
    },
    /// A peer is no longer listed in a share.
    Left {
        /// In which.
        share: ShareId,
        /// Which.
        peer: PeerId,
        /// Why.
        cause: LeftCause,
    },
    /// An announcement was refused, and the peer was told why.
    Refused {
        /// In which share.
        share: ShareId,
        /// Which peer.
        peer: PeerId,
        /// Why.
        refusal: Refusal,
    },
    /// A connection was closed without a word.
    Dropped {
        /// The other end.
        from: SocketAddr,
        /// What it did.
        fault: Fault,
    },
}

/// Why the tracker wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A connection will have been silent for too long.
    SilentConnection,
    /// An announcement ends.
    SilentPeer,
    /// Gathered news are to be told.
    News,
}

/// A tracker in numbers: what `status`, metrics and tests read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Open connections.
    pub connections: usize,
    /// Shares with at least one live peer.
    pub shares: usize,
    /// Live announcements: one for each peer in each of its shares.
    pub announcements: usize,
    /// Announcements taken since the start.
    pub announced_total: u64,
    /// Announcements refused with a reason since the start.
    pub refused_total: u64,
    /// Connections closed without a word since the start.
    pub faults_total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_64() {
        let source = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(source("192.0.2.1:5"), source("[::ffff:192.0.2.1]:6"));
        assert_ne!(source("192.0.2.1:5"), source("192.0.2.2:5"));
        assert_eq!(source("[2001:db8::1]:5"), source("[2001:db8::ffff:1]:6"));
        assert_ne!(source("[2001:db8::1]:5"), source("[2001:db8:0:1::1]:5"));
    }

    #[test]
    fn the_timeout_told_is_whole_seconds_and_never_zero() {
        let told = |timeout| {
            Options {
                timeout,
                ..Options::default()
            }
            .timeout_seconds()
        };
        assert_eq!(told(Duration::ZERO), 1);
        assert_eq!(told(Duration::from_millis(2500)), 2);
        assert_eq!(told(Duration::MAX), u16::MAX);
    }
}
