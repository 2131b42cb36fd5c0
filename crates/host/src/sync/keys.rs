//! The keys of this machine and of its shares: Ed25519, made from seeds that others keep.
//!
//! One device seed gives every folder a peer key of its own, so that two folders on one machine are
//! two peers, and strangers who meet a device in two shares cannot tell that it is one.

use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::{Record, ReplicaId, WritePublic, WriteSeed, WriteSignature};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Length of an Ed25519 signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// The system gave no random bytes: nothing can be done safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;

/// Fresh random bytes of the system, fit for keys.
///
/// # Errors
/// [`NoRandomness`]; not to be expected on any system that runs.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// The root of all peer keys of one device: 32 secret random bytes.
#[derive(Clone)]
pub struct DeviceSeed([u8; 32]);

impl DeviceSeed {
    /// Takes the bytes that are kept on disk.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key under which this device takes part in a share, as this copy of it.
    #[must_use]
    pub fn peer_key(&self, replica: ReplicaId) -> PeerKey {
        let mut hasher = blake3::Hasher::new_derive_key("ahoy device 2026 peer key");
        hasher.update(&self.0).update(&replica.0.to_le_bytes());
        PeerKey::from_seed(*hasher.finalize().as_bytes())
    }
}

impl std::fmt::Debug for DeviceSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceSeed(..)")
    }
}

/// A peer's own key pair; its public half is the [`PeerId`].
pub struct PeerKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    id: PeerId,
}

impl PeerKey {
    /// The key pair that belongs to this seed (RFC 8032, 5.1.5).
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = pair_of(&seed);
        let id = PeerId::new(public_of(&pair));
        Self { seed, pair, id }
    }

    /// A key pair that nobody has seen before.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn random() -> Result<Self, NoRandomness> {
        random_bytes().map(Self::from_seed)
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Pure Ed25519 over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        signature_of(&self.pair, message)
    }

    /// The seed, for the one place that hands the key to TLS.
    pub(super) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }
}

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerKey({})", self.id.short())
    }
}

/// The key pair that vouches for changes of a share.
pub struct WriteKey(Ed25519KeyPair);

impl WriteKey {
    /// The key pair that belongs to the share's write seed.
    #[must_use]
    pub fn from_seed(seed: &WriteSeed) -> Self {
        Self(pair_of(seed.as_bytes()))
    }

    /// The public half, for read-only tickets.
    #[must_use]
    pub fn public(&self) -> WritePublic {
        WritePublic(public_of(&self.0))
    }

    /// Pure Ed25519 over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        signature_of(&self.0, message)
    }

    /// Vouches for a record (`sync-45`).
    #[must_use]
    pub fn sign_record(&self, record: &Record) -> WriteSignature {
        let signature = self.sign(&record.signed_bytes());
        let (first, second) = signature.split_at(32);
        WriteSignature(
            first.try_into().expect("64 bytes are twice 32"),
            second.try_into().expect("64 bytes are twice 32"),
        )
    }
}

impl std::fmt::Debug for WriteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriteKey(..)")
    }
}

/// Whether `signature` over `message` was made by the owner of the Ed25519 key `public`.
#[must_use]
pub fn is_signed(public: &[u8; 32], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(message, signature)
        .is_ok()
}

/// Whether a writer of the share vouched for this record (`sync-45`).
#[must_use]
pub fn is_vouched_for(public: &WritePublic, record: &Record, signature: &WriteSignature) -> bool {
    let mut bytes = [0; SIGNATURE_BYTES];
    bytes[..32].copy_from_slice(&signature.0);
    bytes[32..].copy_from_slice(&signature.1);
    is_signed(&public.0, &record.signed_bytes(), &bytes)
}

fn pair_of(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed")
}

fn public_of(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key()
        .as_ref()
        .try_into()
        .expect("an Ed25519 public key has 32 bytes")
}

fn signature_of(pair: &Ed25519KeyPair, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
    pair.sign(message)
        .as_ref()
        .try_into()
        .expect("an Ed25519 signature has 64 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_is_another_peer_in_every_folder() {
        let device = DeviceSeed::new([7; 32]);
        let (a, b) = (device.peer_key(ReplicaId(1)), device.peer_key(ReplicaId(2)));
        assert_ne!(a.id(), b.id());
        assert_eq!(a.id(), device.peer_key(ReplicaId(1)).id());
        assert_ne!(a.id(), DeviceSeed::new([8; 32]).peer_key(ReplicaId(1)).id());
    }

    #[test]
    fn signatures_fit_one_key_and_one_message() {
        let (a, b) = (PeerKey::from_seed([1; 32]), PeerKey::from_seed([2; 32]));
        let mut signature = a.sign(b"aye");
        assert!(is_signed(a.id().as_bytes(), b"aye", &signature));
        assert!(!is_signed(a.id().as_bytes(), b"nay", &signature));
        assert!(!is_signed(b.id().as_bytes(), b"aye", &signature));
        signature[63] ^= 1;
        assert!(!is_signed(a.id().as_bytes(), b"aye", &signature));
    }

    #[test]
    fn the_key_of_a_seed_is_that_of_the_rfc() {
        // RFC 8032, 7.1, test 1.
        let seed = bytes_of("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = bytes_of("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(PeerKey::from_seed(seed).id().as_bytes(), &public);
    }

    fn bytes_of(hex: &str) -> [u8; 32] {
        let digits: Vec<u8> = hex
            .chars()
            .map(|c| c.to_digit(16).expect("hexadecimal") as u8)
            .collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        bytes.try_into().expect("32 bytes")
    }
}
