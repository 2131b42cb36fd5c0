//! What a peer says about itself on the local network, so that only members of its share
//! understand.
//!
//! A beacon stands in the TXT record of a DNS-SD service `_ahoy._tcp` (RFC 6762, RFC 6763). It is a
//! salt, a tag that a member of the share can recognise, and the peer's id under a mask that a
//! member can take off: both are BLAKE3 hashes keyed with a secret of the share. To anyone else it
//! is noise, other noise after each start. It proves nothing about who sends it; the session that
//! is opened next does.

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};

use crate::peer::PeerId;

/// The DNS-SD service type.
pub const SERVICE_TYPE: &str = "_ahoy._tcp.local.";
/// The version of the beacon that this code speaks.
pub const VERSION: &str = "1";

const TAG_DOMAIN: &[u8] = b"ahoy discovery tag v1\0";
const MASK_DOMAIN: &[u8] = b"ahoy discovery mask v1\0";
const TAG_BYTES: usize = 16;

/// 16 random bytes, drawn anew at each start.
pub type Salt = [u8; 16];

/// What stands in the TXT record (tracker-50).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    salt: Salt,
    tag: [u8; TAG_BYTES],
    masked_peer: [u8; PeerId::BYTES],
}

impl Beacon {
    /// Says to those who have `key` that `peer` listens on `port`. The key is any secret of the
    /// share that is used for nothing else.
    #[must_use]
    pub fn seal(key: &[u8; 32], salt: Salt, peer: PeerId, port: u16) -> Self {
        let mask = mask(key, &salt);
        let masked_peer = std::array::from_fn(|at| peer.as_bytes()[at] ^ mask[at]);
        Self {
            salt,
            tag: tag(key, &salt, peer, port),
            masked_peer,
        }
    }

    /// Who it is, for those who have the key; None for all others, and if anything was changed.
    #[must_use]
    pub fn open(&self, key: &[u8; 32], port: u16) -> Option<PeerId> {
        let mask = mask(key, &self.salt);
        let peer = PeerId::new(std::array::from_fn(|at| self.masked_peer[at] ^ mask[at]));
        (tag(key, &self.salt, peer, port) == self.tag).then_some(peer)
    }

    /// The TXT record, as keys and values.
    #[must_use]
    pub fn properties(&self) -> [(&'static str, String); 4] {
        [
            ("v", VERSION.to_owned()),
            ("s", text(&self.salt)),
            ("t", text(&self.tag)),
            ("p", text(&self.masked_peer)),
        ]
    }

    /// Reads a TXT record, through a function that looks one key up. None for another version, and
    /// for anything that is no beacon.
    pub fn from_properties<'a>(property: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        if property("v")? != VERSION {
            return None;
        }
        Some(Self {
            salt: bytes(property("s")?)?,
            tag: bytes(property("t")?)?,
            masked_peer: bytes(property("p")?)?,
        })
    }

    /// A name for this instance that says nothing: 8 characters of the salt (tracker-51).
    #[must_use]
    pub fn instance(&self) -> String {
        text(&self.salt[..5])
    }
}

fn tag(key: &[u8; 32], salt: &Salt, peer: PeerId, port: u16) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher
        .update(TAG_DOMAIN)
        .update(salt)
        .update(peer.as_bytes())
        .update(&port.to_be_bytes());
    *hasher
        .finalize()
        .as_bytes()
        .first_chunk()
        .expect("32 bytes begin with 16")
}

fn mask(key: &[u8; 32], salt: &Salt) -> [u8; PeerId::BYTES] {
    *blake3::Hasher::new_keyed(key)
        .update(MASK_DOMAIN)
        .update(salt)
        .finalize()
        .as_bytes()
}

fn text(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Checked before decoding, which allocates as much as it is given.
    if text.len() != BASE32_NOPAD.encode_len(N) {
        return None;
    }
    BASE32_NOPAD_NOCASE
        .decode(text.as_bytes())
        .ok()?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn read(properties: &BTreeMap<&str, String>) -> Option<Beacon> {
        Beacon::from_properties(|key| properties.get(key).map(String::as_str))
    }

    proptest! {
        #[test]
        fn members_understand_and_others_do_not(
            key: [u8; 32], other: [u8; 32], salt: Salt, peer: [u8; 32], port: u16,
        ) {
            let peer = PeerId::new(peer);
            let beacon = Beacon::seal(&key, salt, peer, port);
            let read = read(&BTreeMap::from(beacon.properties()));
            prop_assert_eq!(read, Some(beacon));
            prop_assert_eq!(beacon.open(&key, port), Some(peer));
            prop_assert_eq!(beacon.open(&key, port.wrapping_add(1)), None);
            prop_assert_eq!(beacon.open(&other, port), (key == other).then_some(peer));
        }

        #[test]
        fn a_beacon_that_was_changed_is_none(at in 0..64_usize, bit in 0..8_u32) {
            let key = [7; 32];
            let mut beacon = Beacon::seal(&key, [1; 16], PeerId::new([2; 32]), 7447);
            match at {
                0..16 => beacon.salt[at] ^= 1 << bit,
                16..32 => beacon.tag[at - 16] ^= 1 << bit,
                _ => beacon.masked_peer[at - 32] ^= 1 << bit,
            }
            prop_assert_eq!(beacon.open(&key, 7447), None);
        }

        #[test]
        fn arbitrary_records_are_answered(values in proptest::collection::vec("\\PC{0,60}", 4)) {
            let _ = read(&["v", "s", "t", "p"].into_iter().zip(values).collect());
        }
    }

    #[test]
    fn a_record_is_short_and_shows_nothing() {
        let (key, peer) = ([7; 32], PeerId::new([0x9d; 32]));
        let shown = |salt| {
            let properties = Beacon::seal(&key, salt, peer, 7447).properties();
            properties
                .map(|(key, value)| format!("{key}={value}"))
                .join(" ")
        };
        assert_eq!(shown([1; 16]).len(), 3 + 3 + 26 + 3 + 26 + 3 + 52);
        assert!(!shown([1; 16]).contains(&peer.short()));
        // After a new start nothing is as it was, but for the version.
        let (one, other) = (shown([1; 16]), shown([3; 16]));
        let same = one.split(' ').zip(other.split(' ')).filter(|(a, b)| a == b);
        assert_eq!(same.collect::<Vec<_>>(), [("v=1", "v=1")]);
    }

    #[test]
    fn other_versions_and_missing_keys_are_none() {
        let beacon = Beacon::seal(&[7; 32], [1; 16], PeerId::new([2; 32]), 7447);
        let whole = BTreeMap::from(beacon.properties());
        for key in ["v", "s", "t", "p"] {
            let mut part = whole.clone();
            part.remove(key);
            assert_eq!(read(&part), None, "without {key}");
        }
        let mut newer = whole;
        newer.insert("v", "2".to_owned());
        assert_eq!(read(&newer), None);
    }
}
