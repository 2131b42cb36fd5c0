//! What a share is made of: one secret, the keys that follow from it, and who may hold which.
//!
//! ```text
//! secret ─┬─ read key ─┬─ share id      (what a tracker sees)
//!         │            ├─ knock key     (proves the read key inside a session)
//!         │            └─ door key      (finds the share behind a listening port, see Hint)
//!         └─ write seed ── write key    (Ed25519; its public half belongs to a read-only ticket)
//! ```
//!
//! Every arrow is a BLAKE3 key derivation with a context of its own (`sync-30`), so nothing leads
//! back. Ed25519 is not here: `host` makes the public key from the seed.

use std::fmt;

use crate::peer::PeerId;
use crate::tracker::ShareId;

use super::knock::KnockKey;

/// Length of every key here, in bytes.
pub const KEY_BYTES: usize = 32;

/// The whole of a share: whoever holds it may read and write. 32 random bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; KEY_BYTES]);

/// Enough to find the other peers of a share and to be told what it holds.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadKey([u8; KEY_BYTES]);

/// The Ed25519 seed of the key that signs changes.
#[derive(Clone, PartialEq, Eq)]
pub struct WriteSeed([u8; KEY_BYTES]);

/// The Ed25519 public key that changes are checked with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WritePublic(pub [u8; KEY_BYTES]);

/// What one machine may do with a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Everything.
    ReadWrite(Secret),
    /// Take part, but change nothing: the others would not take it (`sync-32`).
    ReadOnly {
        /// Opens the share.
        read: ReadKey,
        /// Checks what writers say.
        write: WritePublic,
    },
}

impl Secret {
    /// Takes 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be kept where only the user can read them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key for reading.
    #[must_use]
    pub fn read_key(&self) -> ReadKey {
        ReadKey(blake3::derive_key("ahoy share 2026 read key", &self.0))
    }

    /// The seed of the key for writing.
    #[must_use]
    pub fn write_seed(&self) -> WriteSeed {
        WriteSeed(blake3::derive_key("ahoy share 2026 write seed", &self.0))
    }
}

impl ReadKey {
    /// Takes the bytes of a key that was derived elsewhere.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be kept where only the user can read them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// What trackers call the share; nothing can be read from it.
    #[must_use]
    pub fn share_id(&self) -> ShareId {
        ShareId::new(blake3::derive_key("ahoy share 2026 tracker id", &self.0))
    }

    /// Proves to another holder of this key that it is held here.
    #[must_use]
    pub fn knock_key(&self) -> KnockKey {
        KnockKey::new(blake3::derive_key("ahoy share 2026 knock key", &self.0))
    }

    /// Finds the share where its peers are not known yet.
    #[must_use]
    pub fn door_key(&self) -> DoorKey {
        DoorKey(blake3::derive_key("ahoy share 2026 door key", &self.0))
    }
}

impl WriteSeed {
    /// The seed, for Ed25519.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl Capability {
    /// The key for reading, which everyone in the share has.
    #[must_use]
    pub fn read_key(&self) -> ReadKey {
        match self {
            Self::ReadWrite(secret) => secret.read_key(),
            Self::ReadOnly { read, .. } => read.clone(),
        }
    }

    /// The seed of the write key, for those who may write.
    #[must_use]
    pub fn write_seed(&self) -> Option<WriteSeed> {
        match self {
            Self::ReadWrite(secret) => Some(secret.write_seed()),
            Self::ReadOnly { .. } => None,
        }
    }
}

/// Makes and recognises [`Hint`]s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DoorKey([u8; KEY_BYTES]);

impl DoorKey {
    /// The key for hints at one peer, made by those who know its id. A peer id is no secret, but
    /// those who do not know it cannot see whom a hint means.
    #[must_use]
    pub fn of_peer(peer: &PeerId) -> Self {
        Self(blake3::derive_key(
            "ahoy peer 2026 door key",
            peer.as_bytes(),
        ))
    }

    /// A hint at what this key belongs to; `nonce` is random each time.
    #[must_use]
    pub fn hint(&self, nonce: [u8; Hint::NONCE_BYTES]) -> Hint {
        let mut bytes = [0; Hint::BYTES];
        bytes[..Hint::NONCE_BYTES].copy_from_slice(&nonce);
        bytes[Hint::NONCE_BYTES..].copy_from_slice(&self.tag(&nonce));
        Hint(bytes)
    }

    /// Whether `hint` was made with this key.
    #[must_use]
    pub fn made(&self, hint: &Hint) -> bool {
        let (nonce, tag) = hint.0.split_at(Hint::NONCE_BYTES);
        self.tag(nonce) == tag
    }

    fn tag(&self, nonce: &[u8]) -> [u8; Hint::BYTES - Hint::NONCE_BYTES] {
        let mut tag = [0; Hint::BYTES - Hint::NONCE_BYTES];
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(nonce).finalize_xof().fill(&mut tag);
        tag
    }
}

/// Names a share or a peer to those who know it already, and tells nobody else that two hints mean
/// the same one: a nonce and its keyed hash (`sync-33`). It stands in the TLS server name and in
/// announcements on the local network. It proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint([u8; Hint::BYTES]);

impl Hint {
    /// Length, in bytes.
    pub const BYTES: usize = 20;
    /// Length of the nonce, the first part, in bytes.
    pub const NONCE_BYTES: usize = 8;
    /// Length of the text form, in characters.
    pub const TEXT_LEN: usize = 32;

    /// Reads the text form, in either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        let bytes = data_encoding::BASE32_NOPAD_NOCASE
            .decode(text.as_bytes())
            .ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &data_encoding::BASE32_NOPAD
                .encode(&self.0)
                .to_ascii_lowercase(),
        )
    }
}

/// Secrets never reach a log.
macro_rules! hide {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

hide!(Secret, ReadKey, WriteSeed, DoorKey);

impl fmt::Debug for WritePublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WritePublic({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // sync-30.
    #[test]
    fn every_key_is_its_own_and_none_is_shown() {
        let secret = Secret::new([7; 32]);
        let read = secret.read_key();
        let keys = [
            *secret.as_bytes(),
            *read.as_bytes(),
            *secret.write_seed().as_bytes(),
            *read.share_id().as_bytes(),
            read.door_key().0,
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(
            format!("{:?}", Capability::ReadWrite(secret)),
            "ReadWrite(Secret(..))"
        );
        assert_eq!(format!("{read:?}"), "ReadKey(..)");
    }

    // sync-30.
    #[test]
    fn derivations_are_fixed() {
        // Computed once; a change here cuts every share off from its peers.
        let read = Secret::new([0; 32]).read_key();
        assert_eq!(read.share_id().short(), "6692f27b");
    }

    // sync-33.
    #[test]
    fn hints_are_known_by_their_key_alone() {
        let key = Secret::new([7; 32]).read_key().door_key();
        let other = DoorKey::of_peer(&PeerId::new([7; 32]));
        let hint = key.hint([1; 8]);
        assert!(key.made(&hint) && !other.made(&hint));
        assert_ne!(hint, key.hint([2; 8]));
        let text = hint.to_string();
        assert_eq!(text.len(), Hint::TEXT_LEN);
        assert_eq!(Hint::parse(&text), Some(hint));
        assert_eq!(Hint::parse(&text.to_uppercase()), Some(hint));
        for bad in [
            "",
            "a",
            &text[1..],
            &format!("1{}", &text[1..]),
            "é123456789012345678901234567890",
        ] {
            assert_eq!(Hint::parse(bad), None, "{bad}");
        }
    }
}
