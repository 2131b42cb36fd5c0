//! The knock: inside a fresh TLS session, two peers show each other that they are of one share.
//!
//! ```text
//! dialer                                acceptor
//!   tag ─────────────────────────────────▶        one of my shares? if not: close, say nothing
//!        ◀──────────────────── tag, proof         the same share, and may I write
//!   proof ───────────────────────────────▶        may the dialer write
//! ```
//!
//! Every message has one fixed length. Tags and proofs cover the TLS exporter, both peers and the
//! role, so none is of any use in another session or in the other direction (`sync-41`).

use crate::peer::PeerId;

/// Length of the TLS exporter's output, in bytes.
pub const EXPORTER_BYTES: usize = 32;

/// The label of the TLS exporter (RFC 8446, 7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-ahoy-knock-1";

/// What ALPN calls the protocol (RFC 7301).
pub const ALPN: &[u8] = b"ahoy/1";

/// Length of the first message, from the dialer, in bytes.
pub const KNOCK_BYTES: usize = 32;

/// Length of the second message, from the acceptor, in bytes.
pub const ANSWER_BYTES: usize = KNOCK_BYTES + Proof::BYTES;

/// Which end of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opened the connection.
    Dialer,
    /// Took it.
    Acceptor,
}

impl Role {
    fn byte(self) -> u8 {
        match self {
            Self::Dialer => b'D',
            Self::Acceptor => b'A',
        }
    }
}

/// One TLS session, as both ends see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// The TLS exporter under [`EXPORTER_LABEL`], no context.
    pub exporter: [u8; EXPORTER_BYTES],
    /// Whose key the connecting end showed.
    pub dialer: PeerId,
    /// Whose key the listening end showed.
    pub acceptor: PeerId,
}

impl Channel {
    /// What a writer signs with the write key to show that it holds it (`sync-43`).
    #[must_use]
    pub fn proof_bytes(&self, role: Role) -> Vec<u8> {
        let mut bytes = b"ahoy sync 2026 write proof\0".to_vec();
        bytes.push(role.byte());
        bytes.extend_from_slice(&self.exporter);
        bytes.extend_from_slice(self.dialer.as_bytes());
        bytes.extend_from_slice(self.acceptor.as_bytes());
        bytes
    }
}

/// Shows that the read key of a share is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KnockKey([u8; 32]);

/// The proof of one end that it holds a read key; compared in constant time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(blake3::Hash);

impl KnockKey {
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// What `role` shows on `channel` (`sync-41`).
    #[must_use]
    pub fn tag(&self, role: Role, channel: &Channel) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[role.byte()]).update(&channel.exporter);
        hasher
            .update(channel.dialer.as_bytes())
            .update(channel.acceptor.as_bytes());
        Tag(hasher.finalize())
    }
}

impl std::fmt::Debug for KnockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnockKey(..)")
    }
}

impl Tag {
    /// As it came.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KNOCK_BYTES]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// To be sent.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KNOCK_BYTES] {
        self.0.as_bytes()
    }
}

/// A signature by the write key over [`Channel::proof_bytes`], or nothing from a reader. Both have
/// the same length, so that nobody outside sees who may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof(pub Option<[u8; 64]>);

impl Proof {
    /// Length of the encoding, in bytes.
    pub const BYTES: usize = 65;

    /// The encoding: 1 and the signature, or zeros.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        if let Some(signature) = self.0 {
            bytes[0] = 1;
            bytes[1..].copy_from_slice(&signature);
        }
        bytes
    }

    /// The proof; `None` if it is neither of the two.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (kind, signature) = bytes.split_first_chunk::<1>()?;
        match kind {
            [0] if signature.iter().all(|b| *b == 0) => Some(Self(None)),
            [1] => Some(Self(Some(signature.try_into().ok()?))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // sync-41.
    #[test]
    fn a_tag_fits_one_session_one_direction_one_share() {
        let channel = Channel {
            exporter: [1; 32],
            dialer: PeerId::new([2; 32]),
            acceptor: PeerId::new([3; 32]),
        };
        let swapped = Channel {
            dialer: channel.acceptor,
            acceptor: channel.dialer,
            ..channel
        };
        let elsewhere = Channel {
            exporter: [9; 32],
            ..channel
        };
        let key = KnockKey::new([4; 32]);
        let tag = key.tag(Role::Dialer, &channel);
        for other in [
            key.tag(Role::Acceptor, &channel),
            key.tag(Role::Dialer, &swapped),
            key.tag(Role::Dialer, &elsewhere),
            KnockKey::new([5; 32]).tag(Role::Dialer, &channel),
        ] {
            assert_ne!(tag, other);
        }
        assert_eq!(Tag::from_bytes(*tag.as_bytes()), tag);
        let proofs = [
            channel.proof_bytes(Role::Dialer),
            channel.proof_bytes(Role::Acceptor),
            swapped.proof_bytes(Role::Dialer),
            elsewhere.proof_bytes(Role::Dialer),
        ];
        for (i, a) in proofs.iter().enumerate() {
            assert!(proofs[i + 1..].iter().all(|b| a != b));
        }
    }

    // sync-43.
    #[test]
    fn proofs_have_one_encoding_each() {
        for proof in [Proof(None), Proof(Some([7; 64]))] {
            assert_eq!(Proof::decode(&proof.encode()), Some(proof));
        }
        let mut bytes = [0; Proof::BYTES];
        bytes[64] = 1;
        assert_eq!(Proof::decode(&bytes), None);
        bytes[0] = 2;
        assert_eq!(Proof::decode(&bytes), None);
    }
}
