//! Messages to bytes: the tracker's frames, and the limits that both directions share.
//!
//! Every message has exactly one form, so a signature over the fields is a signature over the
//! bytes. Encoding cannot fail: the types of a message already bound its parts.

use std::net::IpAddr;

use crate::peer::PeerId;

use super::announcement::{
    ADDRESSES_MAX, Announcement, Challenge, HOLDING_VERSION_BYTES_MAX, HoldingSummary, PeerAddress,
    ShareId, Signature, SignedAnnouncement,
};
use super::{
    ENTRIES_PER_FRAME_MAX, GONE_PER_FRAME_MAX, PeerEntry, PeerMessage, Refusal, TrackerMessage,
};

/// Kind and payload length, in bytes.
pub const FRAME_HEADER_BYTES: usize = 3;
/// The longest signed announcement, in bytes.
pub const ANNOUNCEMENT_BYTES_MAX: usize = Challenge::BYTES
    + ShareId::BYTES
    + PeerId::BYTES
    + 8
    + 2
    + (8 + 8 + 1 + HOLDING_VERSION_BYTES_MAX)
    + (1 + ADDRESSES_MAX * ADDRESS_BYTES_MAX)
    + Signature::BYTES;
/// The longest frame that a peer sends, header included, in bytes.
pub const PEER_FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + ANNOUNCEMENT_BYTES_MAX;
/// The longest frame that a tracker sends, header included, in bytes.
pub const TRACKER_FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + PEERS_PAYLOAD_BYTES_MAX;

/// Family, IPv6 address, port.
pub(super) const ADDRESS_BYTES_MAX: usize = 1 + 16 + 2;
pub(super) const ENTRY_BYTES_MAX: usize = ANNOUNCEMENT_BYTES_MAX + ADDRESS_BYTES_MAX;
pub(super) const PEERS_PAYLOAD_BYTES_MAX: usize =
    ShareId::BYTES + 2 + ENTRIES_PER_FRAME_MAX * ENTRY_BYTES_MAX;
pub(super) const GONE_PAYLOAD_BYTES_MAX: usize =
    ShareId::BYTES + 2 + GONE_PER_FRAME_MAX * PeerId::BYTES;
const _: () = assert!(PEERS_PAYLOAD_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(GONE_PAYLOAD_BYTES_MAX <= PEERS_PAYLOAD_BYTES_MAX);
const _: () = assert!(ENTRIES_PER_FRAME_MAX <= u8::MAX as usize);

pub(super) const ANNOUNCE: u8 = 0x01;
pub(super) const KEEP_ALIVE: u8 = 0x02;
pub(super) const LEAVE: u8 = 0x03;
pub(super) const LIST: u8 = 0x04;
pub(super) const WELCOME: u8 = 0x81;
pub(super) const ANNOUNCED: u8 = 0x82;
pub(super) const ALIVE: u8 = 0x83;
pub(super) const PEERS: u8 = 0x84;
pub(super) const CHANGED: u8 = 0x85;
pub(super) const GONE: u8 = 0x86;
pub(super) const REFUSED: u8 = 0x87;

pub(super) const SHARE_FULL: u8 = 1;
pub(super) const TRACKER_FULL: u8 = 2;
pub(super) const CONNECTION_FULL: u8 = 3;
pub(super) const CROWDED: u8 = 4;
pub(super) const STALE: u8 = 5;

pub(super) const FAMILY_V4: u8 = 4;
pub(super) const FAMILY_V6: u8 = 6;

impl PeerMessage {
    /// Appends the message as one frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Announce(signed) => frame(out, ANNOUNCE, |out| put_signed(out, signed)),
            Self::KeepAlive => frame(out, KEEP_ALIVE, |_| ()),
            Self::Leave(share) => frame(out, LEAVE, |out| out.extend(share.as_bytes())),
            Self::List(share) => frame(out, LIST, |out| out.extend(share.as_bytes())),
        }
    }
}

impl TrackerMessage {
    /// Appends the message as one frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome {
                challenge,
                timeout_seconds,
            } => frame(out, WELCOME, |out| {
                out.extend(challenge.0);
                out.extend(timeout_seconds.to_be_bytes());
            }),
            Self::Announced { share, sequence } => frame(out, ANNOUNCED, |out| {
                out.extend(share.as_bytes());
                out.extend(sequence.to_be_bytes());
            }),
            Self::Alive => frame(out, ALIVE, |_| ()),
            Self::Peers {
                share,
                last,
                entries,
            } => frame(out, PEERS, |out| {
                out.extend(share.as_bytes());
                out.push(u8::from(*last));
                put_entries(out, entries);
            }),
            Self::Changed { share, entries } => frame(out, CHANGED, |out| {
                out.extend(share.as_bytes());
                put_entries(out, entries);
            }),
            Self::Gone { share, peers } => frame(out, GONE, |out| {
                out.extend(share.as_bytes());
                out.extend(count_u16(peers.len()).to_be_bytes());
                peers.iter().for_each(|peer| out.extend(peer.as_bytes()));
            }),
            Self::Refused { share, refusal } => frame(out, REFUSED, |out| {
                out.extend(share.as_bytes());
                put_refusal(out, refusal);
            }),
        }
    }
}

/// Appends one frame whose payload `put` writes.
fn frame(out: &mut Vec<u8>, kind: u8, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([kind, 0, 0]);
    put(out);
    let payload_len = count_u16(out.len() - start - FRAME_HEADER_BYTES);
    out[start + 1..start + FRAME_HEADER_BYTES].copy_from_slice(&payload_len.to_be_bytes());
}

fn count_u16(count: usize) -> u16 {
    u16::try_from(count).expect("the parts of a message are bounded by their types")
}

fn count_u8(count: usize) -> u8 {
    u8::try_from(count).expect("the parts of a message are bounded by their types")
}

/// The fields that an announcement's signature covers, as they stand on the wire.
pub(super) fn put_announcement(out: &mut Vec<u8>, announcement: &Announcement) {
    out.extend(announcement.challenge.0);
    out.extend(announcement.share.as_bytes());
    out.extend(announcement.peer.as_bytes());
    out.extend(announcement.sequence.to_be_bytes());
    out.extend(announcement.ttl.seconds().to_be_bytes());
    let HoldingSummary {
        files,
        bytes,
        version,
    } = &announcement.holding;
    out.extend(files.to_be_bytes());
    out.extend(bytes.to_be_bytes());
    out.push(count_u8(version.len()));
    out.extend(version.iter());
    out.push(count_u8(announcement.addresses.len()));
    for address in announcement.addresses.iter() {
        put_address(out, *address);
    }
}

fn put_signed(out: &mut Vec<u8>, signed: &SignedAnnouncement) {
    put_announcement(out, &signed.announcement);
    out.extend(signed.signature.0);
}

fn put_address(out: &mut Vec<u8>, address: PeerAddress) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(FAMILY_V4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(FAMILY_V6);
            out.extend(ip.octets());
        }
    }
    out.extend(address.port().to_be_bytes());
}

fn put_entries(out: &mut Vec<u8>, entries: &[PeerEntry]) {
    out.push(count_u8(entries.len()));
    for entry in entries {
        put_signed(out, &entry.signed);
        put_address(out, entry.seen);
    }
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    match refusal {
        Refusal::ShareFull => out.push(SHARE_FULL),
        Refusal::TrackerFull => out.push(TRACKER_FULL),
        Refusal::ConnectionFull => out.push(CONNECTION_FULL),
        Refusal::Crowded => out.push(CROWDED),
        Refusal::Stale(current) => {
            out.push(STALE);
            put_signed(out, current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that `spec/tracker.md` shows; a change here is a change of the protocol.
    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut frame = Vec::new();
        PeerMessage::KeepAlive.encode(&mut frame);
        PeerMessage::List(ShareId::new([0xab; 32])).encode(&mut frame);
        assert_eq!(frame[..6], [0x02, 0, 0, 0x04, 0, 32]);
        frame.clear();
        TrackerMessage::Welcome {
            challenge: Challenge([9; 16]),
            timeout_seconds: 30,
        }
        .encode(&mut frame);
        assert_eq!(frame[..3], [0x81, 0, 18]);
        assert_eq!(frame[19..], [0, 30]);
        frame.clear();
        let announcement = super::super::tests::announcement();
        PeerMessage::Announce(announcement.clone().sign(|_| [0xee; 64])).encode(&mut frame);
        let expected = "01\
             00ca\
             01010101010101010101010101010101\
             0303030303030303030303030303030303030303030303030303030303030303\
             0202020202020202020202020202020202020202020202020202020202020202\
             0000000000000007\
             001e\
             0000000000000002\
             0000010000000000\
             046d61726b\
             02\
             04c00002011d17\
             0620010db80000000000000000000000011d17"
            .to_owned()
            + &"ee".repeat(64);
        assert_eq!(data_encoding::HEXLOWER.encode(&frame), expected);
        let signed_bytes = announcement.signed_bytes();
        assert!(signed_bytes.ends_with(&frame[FRAME_HEADER_BYTES..frame.len() - 64]));
    }
}
