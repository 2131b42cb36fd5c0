//! Who a device is: its Ed25519 public key, and the way that people read and type it.
//!
//! The text form is RFC 4648 base32 without padding, in lower case: 52 characters. It is what
//! stands in tickets, logs and `status`. Nothing here checks that the bytes are a point on the
//! curve; a signature check does that, and it stands on a higher floor.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};

/// An Ed25519 public key (RFC 8032), 32 bytes: the name of a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; PeerId::BYTES]);

/// The text is not a peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdError {
    /// The wrong number of characters.
    #[error("a peer id has {} characters, this has {len}", PeerId::TEXT_LEN)]
    Length {
        /// How many bytes the text has.
        len: usize,
    },
    /// Characters that base32 has not, or spare bits at the end that are not zero.
    #[error("a peer id consists of the letters a-z and the digits 2-7, and this does not")]
    Characters,
}

impl PeerId {
    /// Length of the key, in bytes.
    pub const BYTES: usize = 32;
    /// Length of the full text form, in characters.
    pub const TEXT_LEN: usize = 52;
    /// Length of the short text form, in characters.
    pub const SHORT_LEN: usize = 8;

    /// Names the device that owns this public key.
    #[must_use]
    pub const fn new(key: [u8; Self::BYTES]) -> Self {
        Self(key)
    }

    /// The public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The first 8 characters (40 bits) of the text form: enough to tell the devices of one share
    /// apart on a screen, never enough to trust one.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(Self::SHORT_LEN);
        text
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.short())
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    /// Reads the full text form, in either case.
    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        if text.len() != Self::TEXT_LEN {
            return Err(PeerIdError::Length { len: text.len() });
        }
        BASE32_NOPAD_NOCASE
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(PeerIdError::Characters)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_back(key: [u8; 32]) {
            let peer = PeerId::new(key);
            let text = peer.to_string();
            prop_assert_eq!(text.len(), PeerId::TEXT_LEN);
            prop_assert_eq!(text.parse(), Ok(peer));
            prop_assert_eq!(text.to_uppercase().parse(), Ok(peer));
            prop_assert!(text.starts_with(&peer.short()));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,60}") {
            if let Ok(peer) = text.parse::<PeerId>() {
                prop_assert_eq!(peer.to_string(), text.to_lowercase());
            }
        }
    }

    #[test]
    fn what_is_not_a_peer_id_is_refused_with_the_reason() {
        let text = PeerId::new([7; 32]).to_string();
        assert_eq!(
            text[1..].parse::<PeerId>(),
            Err(PeerIdError::Length { len: 51 })
        );
        let digit_one = format!("1{}", &text[1..]);
        assert_eq!(digit_one.parse::<PeerId>(), Err(PeerIdError::Characters));
        // The last character carries one bit of the key and four spare bits, which must be zero.
        let spare_bits = format!("{}b", &text[..51]);
        assert_eq!(spare_bits.parse::<PeerId>(), Err(PeerIdError::Characters));
    }

    #[test]
    fn the_text_form_is_fixed() {
        assert_eq!(PeerId::new([0; 32]).short(), "aaaaaaaa");
        assert_eq!(
            PeerId::new([0xff; 32]).to_string(),
            format!("{}q", "7".repeat(51))
        );
    }
}
