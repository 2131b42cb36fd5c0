//! What a peer says about itself to a tracker, and the proof that it was this peer who said it.
//!
//! An announcement is signed over every field and over a domain string, so it can be handed on by a
//! tracker that nobody trusts. Ed25519 itself is not here: the caller brings a closure that signs
//! or checks, and [`VerifiedAnnouncement`] can be had in no other way than through such a check.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::bounded::Bounded;
use crate::peer::PeerId;

use super::encode;

/// Stands in front of every signed announcement, so that the signature means nothing elsewhere.
pub const ANNOUNCEMENT_DOMAIN: &[u8] = b"ahoy tracker announcement v1\0";

/// The most addresses that one announcement carries.
pub const ADDRESSES_MAX: usize = 16;
/// The longest version mark in a holding summary, in bytes.
pub const HOLDING_VERSION_BYTES_MAX: usize = 64;

/// The name of a share as a tracker sees it: a keyed hash made elsewhere, which reveals nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareId([u8; ShareId::BYTES]);

impl ShareId {
    /// Length of a share id, in bytes.
    pub const BYTES: usize = 32;

    /// Takes the keyed hash as it is.
    #[must_use]
    pub const fn new(hash: [u8; Self::BYTES]) -> Self {
        Self(hash)
    }

    /// The keyed hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The first 8 characters of the hash in hexadecimal, for logs.
    #[must_use]
    pub fn short(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..4])
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareId({})", self.short())
    }
}

/// 16 random bytes that a tracker gives to each connection. They stand in every announcement made
/// on it, so that an announcement overheard elsewhere cannot be made again (tracker-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Challenge(pub [u8; Challenge::BYTES]);

impl Challenge {
    /// Length of a challenge, in bytes.
    pub const BYTES: usize = 16;
}

/// An Ed25519 signature (RFC 8032), 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; Signature::BYTES]);

impl Signature {
    /// Length of a signature, in bytes.
    pub const BYTES: usize = 64;
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signature({}..)",
            data_encoding::HEXLOWER.encode(&self.0[..4])
        )
    }
}

/// How long an announcement holds without a sign of life, in whole seconds: 1 to 3600.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u16);

impl Ttl {
    /// The longest ttl, in seconds.
    pub const SECONDS_MAX: u16 = 3600;

    /// A ttl of so many seconds; None outside of 1 to 3600.
    #[must_use]
    pub const fn from_seconds(seconds: u16) -> Option<Self> {
        if seconds == 0 || seconds > Self::SECONDS_MAX {
            return None;
        }
        Some(Self(seconds))
    }

    /// The ttl in seconds.
    #[must_use]
    pub const fn seconds(self) -> u16 {
        self.0
    }

    /// The ttl as a span of time.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

/// An IP address and a port that can stand in a message: the port is not 0, the address is neither
/// unspecified nor multicast nor an IPv4 address in IPv6 clothes (tracker-6). Scopes and flow
/// labels mean something on one machine only, and are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress(SocketAddr);

impl PeerAddress {
    /// Takes an address that could be dialled. IPv4-mapped addresses become plain IPv4.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Option<Self> {
        let ip = addr.ip().to_canonical();
        if addr.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
            return None;
        }
        Some(Self(SocketAddr::new(ip, addr.port())))
    }

    /// The address for `connect`.
    #[must_use]
    pub const fn socket_addr(self) -> SocketAddr {
        self.0
    }

    /// The IP address alone.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The port alone.
    #[must_use]
    pub const fn port(self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An opaque mark, at most 64 bytes, that changes whenever what the peer holds changes.
pub type HoldingVersion = Bounded<u8, HOLDING_VERSION_BYTES_MAX>;

/// What a peer holds, in summary: enough to show, and to see that it has moved on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldingSummary {
    /// How many files.
    pub files: u64,
    /// How many bytes in them.
    pub bytes: u64,
    /// Opaque to the tracker; equal marks mean equal holdings to those who know its meaning.
    pub version: HoldingVersion,
}

/// Everything that a peer says about itself in one share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What the tracker gave to the connection on which this was made.
    pub challenge: Challenge,
    /// In which share.
    pub share: ShareId,
    /// Who.
    pub peer: PeerId,
    /// Rises with every announcement of this peer, also across its restarts.
    pub sequence: u64,
    /// After so long without a sign of life the peer is gone.
    pub ttl: Ttl,
    /// What it holds.
    pub holding: HoldingSummary,
    /// Where it says that it can be reached, best first.
    pub addresses: Bounded<PeerAddress, ADDRESSES_MAX>,
}

impl Announcement {
    /// The bytes that the signature covers: the domain string, then the fields as on the wire
    /// (tracker-10).
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = ANNOUNCEMENT_DOMAIN.to_vec();
        encode::put_announcement(&mut bytes, self);
        bytes
    }

    /// Signs with the peer's own key; `sign` is pure Ed25519 over the bytes it is given.
    pub fn sign(self, sign: impl FnOnce(&[u8]) -> [u8; Signature::BYTES]) -> SignedAnnouncement {
        let signature = Signature(sign(&self.signed_bytes()));
        SignedAnnouncement {
            announcement: self,
            signature,
        }
    }
}

/// An announcement with a signature that nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAnnouncement {
    pub(super) announcement: Announcement,
    pub(super) signature: Signature,
}

/// The signature was not made by the peer over these fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the announcement was not signed by the peer that it names")]
pub struct Forged;

impl SignedAnnouncement {
    /// What it says, not to be believed before [`verify`](Self::verify).
    #[must_use]
    pub const fn unverified(&self) -> &Announcement {
        &self.announcement
    }

    /// The signature as it came.
    #[must_use]
    pub const fn signature(&self) -> Signature {
        self.signature
    }

    /// Puts the question `check(peer, signed bytes, signature)` and believes the answer.
    ///
    /// # Errors
    /// [`Forged`] if the answer is no.
    pub fn verify(
        self,
        check: impl FnOnce(&PeerId, &[u8], &Signature) -> bool,
    ) -> Result<VerifiedAnnouncement, Forged> {
        let announcement = &self.announcement;
        if check(
            &announcement.peer,
            &announcement.signed_bytes(),
            &self.signature,
        ) {
            Ok(VerifiedAnnouncement(self))
        } else {
            Err(Forged)
        }
    }
}

/// An announcement whose signature was checked: the peer that it names did say this, some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedAnnouncement(SignedAnnouncement);

impl VerifiedAnnouncement {
    /// The announcement with its signature, to be handed on.
    #[must_use]
    pub const fn signed(&self) -> &SignedAnnouncement {
        &self.0
    }

    /// The announcement with its signature, to be handed on.
    #[must_use]
    pub fn into_signed(self) -> SignedAnnouncement {
        self.0
    }
}

impl std::ops::Deref for VerifiedAnnouncement {
    type Target = Announcement;

    fn deref(&self) -> &Announcement {
        &self.0.announcement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // tracker-6.
    #[test]
    fn only_addresses_that_can_be_dialled_are_taken() {
        let taken = |text: &str| {
            PeerAddress::new(text.parse().expect("a socket address")).map(|a| a.to_string())
        };
        assert_eq!(taken("192.0.2.1:7447").as_deref(), Some("192.0.2.1:7447"));
        assert_eq!(
            taken("[::ffff:192.0.2.1]:1").as_deref(),
            Some("192.0.2.1:1")
        );
        assert_eq!(taken("[fe80::1%3]:1").as_deref(), Some("[fe80::1]:1"));
        for refused in [
            "192.0.2.1:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.251:1",
            "[ff02::1]:1",
        ] {
            assert_eq!(taken(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_ttl_is_1_to_3600_seconds() {
        assert_eq!(Ttl::from_seconds(0), None);
        assert_eq!(Ttl::from_seconds(3601), None);
        assert_eq!(
            Ttl::from_seconds(3600).map(Ttl::duration),
            Some(Duration::from_secs(3600))
        );
    }

    // tracker-10.
    #[test]
    fn the_signature_covers_every_field() {
        let base = super::super::tests::announcement();
        let mut changed = vec![base.clone(); 8];
        changed[0].challenge.0[15] ^= 1;
        changed[1].share = ShareId::new([9; 32]);
        changed[2].peer = PeerId::new([9; 32]);
        changed[3].sequence += 1;
        changed[4].ttl = Ttl(31);
        changed[5].holding.files += 1;
        changed[6].holding.version = Bounded::default();
        changed[7].addresses = Bounded::truncated(base.addresses.iter().rev().copied());
        for other in changed {
            assert_ne!(other.signed_bytes(), base.signed_bytes(), "{other:?}");
        }
        assert!(base.signed_bytes().starts_with(ANNOUNCEMENT_DOMAIN));
    }

    #[test]
    fn a_verified_announcement_needs_a_check_that_says_yes() {
        let signed = super::super::tests::announcement().sign(|_| [5; 64]);
        assert_eq!(signed.clone().verify(|_, _, _| false), Err(Forged));
        let verified = signed
            .verify(|peer, _, signature| peer.as_bytes()[0] == 2 && signature.0 == [5; 64])
            .expect("the check says yes");
        assert_eq!(verified.sequence, 7);
    }
}
