//! The tracker's own protocol: framed binary messages over plain TCP (`spec/tracker.md`).
//!
//! A peer opens with the [`PROLOGUE`], the tracker answers with the same five bytes and
//! [`TrackerMessage::Welcome`]; from then on both send frames: one byte kind, two bytes payload
//! length, payload. Numbers are big-endian. The first byte tells this protocol (`A`) from TLS
//! (0x16) and from the classic JSON dialect (`{`) on one shared port.
//!
//! Not here: who may announce what, when a peer is gone, and any cryptography.

mod announcement;
mod decode;
mod encode;

pub use announcement::{
    ADDRESSES_MAX, ANNOUNCEMENT_DOMAIN, Announcement, Challenge, Forged, HOLDING_VERSION_BYTES_MAX,
    HoldingSummary, HoldingVersion, PeerAddress, ShareId, Signature, SignedAnnouncement, Ttl,
    VerifiedAnnouncement,
};
pub use decode::{Invalid, Undecodable};
pub use encode::{
    ANNOUNCEMENT_BYTES_MAX, FRAME_HEADER_BYTES, PEER_FRAME_BYTES_MAX, TRACKER_FRAME_BYTES_MAX,
};

use crate::bounded::Bounded;
use crate::peer::PeerId;

/// Where trackers listen unless they are told otherwise.
pub const PORT_DEFAULT: u16 = 7447;
/// The version of the protocol that this code speaks.
pub const VERSION: u8 = 1;
/// The first bytes in both directions: `AHOY` and the version (tracker-1).
pub const PROLOGUE: [u8; PROLOGUE_BYTES] = [b'A', b'H', b'O', b'Y', VERSION];
/// Length of the prologue, in bytes.
pub const PROLOGUE_BYTES: usize = 5;
/// By this first byte a shared port knows that a connection is for the tracker.
pub const FIRST_BYTE: u8 = PROLOGUE[0];

/// The most peers in one frame; longer lists come in several (tracker-5, as all maxima here).
pub const ENTRIES_PER_FRAME_MAX: usize = 24;
/// The most peer ids in one [`TrackerMessage::Gone`].
pub const GONE_PER_FRAME_MAX: usize = 256;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prologue {
    /// So far it is a prologue, but it is not complete.
    Incomplete,
    /// The magic, with this version, which may not be ours.
    Version(u8),
    /// Something else altogether.
    Foreign,
}

/// Reads the first bytes of a connection; those after the fifth are not looked at.
#[must_use]
pub fn read_prologue(bytes: &[u8]) -> Prologue {
    let magic = &PROLOGUE[..PROLOGUE_BYTES - 1];
    match bytes.split_at_checked(magic.len()) {
        Some((head, _)) if head != magic => Prologue::Foreign,
        Some((_, rest)) => rest
            .first()
            .map_or(Prologue::Incomplete, |v| Prologue::Version(*v)),
        None if magic.starts_with(bytes) => Prologue::Incomplete,
        None => Prologue::Foreign,
    }
}

/// What a peer sends to a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Here I am, or: I have changed. Asks for the list and for later changes as well.
    Announce(SignedAnnouncement),
    /// I am still here: renews every announcement made on this connection.
    KeepAlive,
    /// I leave this share; the connection may go on.
    Leave(ShareId),
    /// Who is in this share? Asks once.
    List(ShareId),
}

/// What a tracker sends to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerMessage {
    /// The first frame: what this connection's announcements must contain, and how often the peer
    /// must be heard.
    Welcome {
        /// To stand in each announcement on this connection.
        challenge: Challenge,
        /// After so many seconds of silence the peer is gone; at least 1.
        timeout_seconds: u16,
    },
    /// The announcement with this number stands.
    Announced {
        /// In which share.
        share: ShareId,
        /// Its number.
        sequence: u64,
    },
    /// The answer to a keep-alive.
    Alive,
    /// The peers of a share, or a part of them.
    Peers {
        /// Of which share.
        share: ShareId,
        /// Whether the list ends with this frame.
        last: bool,
        /// The peers, in order of their ids over the whole list.
        entries: PeerEntries,
    },
    /// Some peers of a share are new or have changed.
    Changed {
        /// Of which share.
        share: ShareId,
        /// Those peers.
        entries: PeerEntries,
    },
    /// Some peers of a share are gone.
    Gone {
        /// Of which share.
        share: ShareId,
        /// Those peers.
        peers: Bounded<PeerId, GONE_PER_FRAME_MAX>,
    },
    /// An announcement was refused, or is no longer kept; the reason may be told to the peer.
    Refused {
        /// In which share.
        share: ShareId,
        /// Why.
        refusal: Refusal,
    },
}

/// A part of a peer list.
pub type PeerEntries = Bounded<PeerEntry, ENTRIES_PER_FRAME_MAX>;

/// One peer as a tracker reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// What the peer said, with its signature.
    pub signed: SignedAnnouncement,
    /// Where its connection to the tracker came from. Nobody signs this: it is the tracker's word
    /// (tracker-23).
    pub seen: PeerAddress,
}

/// Why an announcement is not kept: those reasons that a peer may learn (tracker-7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The share has as many peers as this tracker keeps for one.
    #[error("the tracker keeps no more peers for this share")]
    ShareFull,
    /// The tracker keeps no more shares or announcements at all.
    #[error("the tracker is full")]
    TrackerFull,
    /// This connection has as many announcements as one may have.
    #[error("too many shares on one connection to the tracker")]
    ConnectionFull,
    /// The announcement had to make room: its source address held more than any other.
    #[error("the tracker is full, and this address holds the most of it")]
    Crowded,
    /// The number did not rise above that of the announcement given here, which is the peer's own.
    #[error("the tracker already has a newer announcement of this peer")]
    Stale(Box<SignedAnnouncement>),
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn announcement() -> Announcement {
        Announcement {
            challenge: Challenge([1; 16]),
            share: ShareId::new([3; 32]),
            peer: PeerId::new([2; 32]),
            sequence: 7,
            ttl: Ttl::from_seconds(30).expect("in range"),
            holding: HoldingSummary {
                files: 2,
                bytes: 1 << 40,
                version: Bounded::truncated(*b"mark"),
            },
            addresses: Bounded::truncated(
                ["192.0.2.1:7447", "[2001:db8::1]:7447"]
                    .into_iter()
                    .filter_map(|text| PeerAddress::new(text.parse().expect("an address"))),
            ),
        }
    }

    // tracker-1.
    #[test]
    fn the_prologue_is_known_by_its_first_bytes() {
        for len in 0..PROLOGUE_BYTES {
            assert_eq!(
                read_prologue(&PROLOGUE[..len]),
                Prologue::Incomplete,
                "{len}"
            );
        }
        assert_eq!(read_prologue(b"AHOY\x01\x01"), Prologue::Version(1));
        assert_eq!(read_prologue(b"AHOY\x09"), Prologue::Version(9));
        for foreign in [
            &b"{"[..],
            b"\x16\x03",
            b"AHO\0",
            b"GET / HTTP/1.1",
            b"AHEAD",
        ] {
            assert_eq!(read_prologue(foreign), Prologue::Foreign, "{foreign:?}");
        }
    }
}
