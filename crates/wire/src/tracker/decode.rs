//! Bytes to messages: the tracker's frames as they come from a stranger.
//!
//! Lengths and counts are checked against their maxima before anything is allocated, and a frame
//! that is too long is refused as soon as its header is there (tracker-4). What decodes here
//! encodes to the same bytes again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::bounded::Bounded;
use crate::peer::PeerId;

use super::announcement::{
    Announcement, Challenge, HoldingSummary, PeerAddress, ShareId, Signature, SignedAnnouncement,
    Ttl,
};
use super::encode::*;
use super::{PeerEntry, PeerMessage, Refusal, TrackerMessage};

/// Why no message could be read from the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// What is there is a beginning; at least `needed` bytes in all must be there to go on.
    #[error("the frame is not complete: {needed} bytes are needed")]
    Incomplete {
        /// Bytes from the start of the frame.
        needed: usize,
    },
    /// No further bytes can make this a message: the connection is useless.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No message has this kind, or none in this direction.
    #[error("unknown kind of frame {0:#04x}")]
    Kind(u8),
    /// The payload is longer than any of this kind.
    #[error("a frame of kind {kind:#04x} with {len} bytes, the limit is {max}")]
    TooLong {
        /// Of the frame.
        kind: u8,
        /// Bytes of payload.
        len: usize,
        /// The most there may be.
        max: usize,
    },
    /// The payload ends before its fields do.
    #[error("the payload ends in the middle of a field")]
    Short,
    /// The payload goes on after its last field.
    #[error("bytes are left over after the last field")]
    LeftOver,
    /// A count or length within the payload is above its maximum.
    #[error("a count of {count}, the limit is {max}")]
    Count {
        /// As found.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// A field has a value that its type has not.
    #[error("the field `{0}` has a value that it cannot have")]
    Field(&'static str),
}

impl PeerMessage {
    /// Reads the first frame in `bytes`; gives the message and how many bytes it took.
    ///
    /// # Errors
    /// [`Undecodable`]: more bytes are needed, or it can never become a message.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), Undecodable> {
        let (kind, payload) = split_frame(bytes, |kind| {
            Some(match kind {
                ANNOUNCE => ANNOUNCEMENT_BYTES_MAX,
                KEEP_ALIVE => 0,
                LEAVE | LIST => ShareId::BYTES,
                _ => return None,
            })
        })?;
        let mut reader = Reader(payload);
        let message = match kind {
            ANNOUNCE => Self::Announce(reader.signed()?),
            KEEP_ALIVE => Self::KeepAlive,
            LEAVE => Self::Leave(reader.share()?),
            LIST => Self::List(reader.share()?),
            _ => return Err(Invalid::Kind(kind).into()),
        };
        reader.end()?;
        Ok((message, FRAME_HEADER_BYTES + payload.len()))
    }
}

impl TrackerMessage {
    /// Reads the first frame in `bytes`; gives the message and how many bytes it took.
    ///
    /// # Errors
    /// [`Undecodable`]: more bytes are needed, or it can never become a message.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), Undecodable> {
        let (kind, payload) = split_frame(bytes, |kind| {
            Some(match kind {
                WELCOME => Challenge::BYTES + 2,
                ANNOUNCED => ShareId::BYTES + 8,
                ALIVE => 0,
                PEERS | CHANGED => PEERS_PAYLOAD_BYTES_MAX,
                GONE => GONE_PAYLOAD_BYTES_MAX,
                REFUSED => ShareId::BYTES + 1 + ANNOUNCEMENT_BYTES_MAX,
                _ => return None,
            })
        })?;
        let mut reader = Reader(payload);
        let message = Self::read(kind, &mut reader)?;
        reader.end()?;
        Ok((message, FRAME_HEADER_BYTES + payload.len()))
    }

    fn read(kind: u8, reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        Ok(match kind {
            WELCOME => Self::Welcome {
                challenge: Challenge(reader.array()?),
                timeout_seconds: match u16::from_be_bytes(reader.array()?) {
                    0 => return Err(Invalid::Field("timeout_seconds")),
                    seconds => seconds,
                },
            },
            ANNOUNCED => Self::Announced {
                share: reader.share()?,
                sequence: reader.u64()?,
            },
            ALIVE => Self::Alive,
            PEERS => Self::Peers {
                share: reader.share()?,
                last: match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Invalid::Field("last")),
                },
                entries: reader.entries()?,
            },
            CHANGED => Self::Changed {
                share: reader.share()?,
                entries: reader.entries()?,
            },
            GONE => Self::Gone {
                share: reader.share()?,
                peers: {
                    let count = usize::from(u16::from_be_bytes(reader.array()?));
                    reader.list(count, |reader| Ok(PeerId::new(reader.array()?)))?
                },
            },
            REFUSED => Self::Refused {
                share: reader.share()?,
                refusal: reader.refusal()?,
            },
            _ => return Err(Invalid::Kind(kind)),
        })
    }
}

/// Splits the first frame off; `payload_max` knows the kinds of this direction and their limits.
fn split_frame(
    bytes: &[u8],
    payload_max: impl FnOnce(u8) -> Option<usize>,
) -> Result<(u8, &[u8]), Undecodable> {
    let Some(&kind) = bytes.first() else {
        return Err(Undecodable::Incomplete {
            needed: FRAME_HEADER_BYTES,
        });
    };
    let max = payload_max(kind).ok_or(Invalid::Kind(kind))?;
    let [high, low] = match bytes.get(1..FRAME_HEADER_BYTES) {
        Some(&[high, low]) => [high, low],
        _ => {
            return Err(Undecodable::Incomplete {
                needed: FRAME_HEADER_BYTES,
            });
        }
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > max {
        return Err(Invalid::TooLong { kind, len, max }.into());
    }
    let needed = FRAME_HEADER_BYTES + len;
    let payload = bytes.get(FRAME_HEADER_BYTES..needed);
    payload
        .map(|payload| (kind, payload))
        .ok_or(Undecodable::Incomplete { needed })
}

/// What is left of a payload.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Invalid::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Invalid> {
        Ok(self.array::<1>()?[0])
    }

    fn u64(&mut self) -> Result<u64, Invalid> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn share(&mut self) -> Result<ShareId, Invalid> {
        Ok(ShareId::new(self.array()?))
    }

    /// `count` items; the space for them is asked for as they arrive, never from the count alone.
    fn list<T, const MAX: usize>(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Invalid>,
    ) -> Result<Bounded<T, MAX>, Invalid> {
        if count > MAX {
            return Err(Invalid::Count { count, max: MAX });
        }
        let items = (0..count)
            .map(|_| item(self))
            .collect::<Result<Vec<_>, _>>()?;
        Bounded::new(items).map_err(|_| Invalid::Count { count, max: MAX })
    }

    fn address(&mut self) -> Result<PeerAddress, Invalid> {
        let ip = match self.u8()? {
            FAMILY_V4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            FAMILY_V6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Invalid::Field("address family")),
        };
        let port = u16::from_be_bytes(self.array()?);
        // An IPv4 address must come as one, or two encodings would mean the same.
        PeerAddress::new(SocketAddr::new(ip, port))
            .filter(|address| address.ip() == ip)
            .ok_or(Invalid::Field("address"))
    }

    fn announcement(&mut self) -> Result<Announcement, Invalid> {
        Ok(Announcement {
            challenge: Challenge(self.array()?),
            share: self.share()?,
            peer: PeerId::new(self.array()?),
            sequence: self.u64()?,
            ttl: Ttl::from_seconds(u16::from_be_bytes(self.array()?))
                .ok_or(Invalid::Field("ttl"))?,
            holding: HoldingSummary {
                files: self.u64()?,
                bytes: self.u64()?,
                version: {
                    let len = usize::from(self.u8()?);
                    self.list(len, Self::u8)?
                },
            },
            addresses: {
                let count = usize::from(self.u8()?);
                self.list(count, Self::address)?
            },
        })
    }

    fn signed(&mut self) -> Result<SignedAnnouncement, Invalid> {
        Ok(SignedAnnouncement {
            announcement: self.announcement()?,
            signature: Signature(self.array()?),
        })
    }

    fn entries<const MAX: usize>(&mut self) -> Result<Bounded<PeerEntry, MAX>, Invalid> {
        let count = usize::from(self.u8()?);
        self.list(count, |reader| {
            Ok(PeerEntry {
                signed: reader.signed()?,
                seen: reader.address()?,
            })
        })
    }

    fn refusal(&mut self) -> Result<Refusal, Invalid> {
        Ok(match self.u8()? {
            SHARE_FULL => Refusal::ShareFull,
            TRACKER_FULL => Refusal::TrackerFull,
            CONNECTION_FULL => Refusal::ConnectionFull,
            CROWDED => Refusal::Crowded,
            STALE => Refusal::Stale(Box::new(self.signed()?)),
            _ => return Err(Invalid::Field("refusal")),
        })
    }

    fn end(&self) -> Result<(), Invalid> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Invalid::LeftOver)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{
        ADDRESSES_MAX, ENTRIES_PER_FRAME_MAX, GONE_PER_FRAME_MAX, HOLDING_VERSION_BYTES_MAX,
    };
    use super::*;

    fn address() -> impl Strategy<Value = PeerAddress> {
        (any::<IpAddr>(), 1..=u16::MAX).prop_filter_map("cannot be dialled", |(ip, port)| {
            PeerAddress::new(SocketAddr::new(ip, port))
        })
    }

    fn signed() -> impl Strategy<Value = SignedAnnouncement> {
        let holding = (
            any::<u64>(),
            any::<u64>(),
            vec(any::<u8>(), 0..=HOLDING_VERSION_BYTES_MAX),
        );
        let addresses = vec(address(), 0..=ADDRESSES_MAX);
        let names = (
            any::<[u8; 16]>(),
            any::<[u8; 32]>(),
            any::<[u8; 32]>(),
            any::<u64>(),
        );
        (names, 1..=Ttl::SECONDS_MAX, holding, addresses, any::<u8>()).prop_map(
            |((challenge, share, peer, sequence), ttl, (files, bytes, version), addresses, s)| {
                Announcement {
                    challenge: Challenge(challenge),
                    share: ShareId::new(share),
                    peer: PeerId::new(peer),
                    sequence,
                    ttl: Ttl::from_seconds(ttl).expect("in range"),
                    holding: HoldingSummary {
                        files,
                        bytes,
                        version: Bounded::truncated(version),
                    },
                    addresses: Bounded::truncated(addresses),
                }
                .sign(|_| [s; 64])
            },
        )
    }

    fn share() -> impl Strategy<Value = ShareId> {
        any::<[u8; 32]>().prop_map(ShareId::new)
    }

    fn peer_message() -> impl Strategy<Value = PeerMessage> {
        prop_oneof![
            signed().prop_map(PeerMessage::Announce),
            Just(PeerMessage::KeepAlive),
            share().prop_map(PeerMessage::Leave),
            share().prop_map(PeerMessage::List),
        ]
    }

    fn entries() -> impl Strategy<Value = Bounded<PeerEntry, ENTRIES_PER_FRAME_MAX>> {
        let entry = (signed(), address()).prop_map(|(signed, seen)| PeerEntry { signed, seen });
        vec(entry, 0..=ENTRIES_PER_FRAME_MAX).prop_map(Bounded::truncated)
    }

    fn tracker_message() -> impl Strategy<Value = TrackerMessage> {
        let refusal = prop_oneof![
            Just(Refusal::ShareFull),
            Just(Refusal::TrackerFull),
            Just(Refusal::ConnectionFull),
            Just(Refusal::Crowded),
            signed().prop_map(|signed| Refusal::Stale(Box::new(signed))),
        ];
        let gone = vec(
            any::<[u8; 32]>().prop_map(PeerId::new),
            0..=GONE_PER_FRAME_MAX,
        );
        prop_oneof![
            (any::<[u8; 16]>(), 1..=u16::MAX).prop_map(|(challenge, timeout_seconds)| {
                TrackerMessage::Welcome {
                    challenge: Challenge(challenge),
                    timeout_seconds,
                }
            }),
            (share(), any::<u64>())
                .prop_map(|(share, sequence)| TrackerMessage::Announced { share, sequence }),
            Just(TrackerMessage::Alive),
            (share(), any::<bool>(), entries()).prop_map(|(share, last, entries)| {
                TrackerMessage::Peers {
                    share,
                    last,
                    entries,
                }
            }),
            (share(), entries())
                .prop_map(|(share, entries)| TrackerMessage::Changed { share, entries }),
            (share(), gone).prop_map(|(share, peers)| TrackerMessage::Gone {
                share,
                peers: Bounded::truncated(peers)
            }),
            (share(), refusal)
                .prop_map(|(share, refusal)| TrackerMessage::Refused { share, refusal }),
        ]
    }

    /// Every beginning of a frame is incomplete, and `needed` never asks for more than the frame.
    fn check_beginnings(frame: &[u8]) {
        for len in 0..frame.len() {
            match PeerMessage::decode(&frame[..len]) {
                Err(Undecodable::Incomplete { needed }) => {
                    assert!(len < needed && needed <= frame.len(), "{len} {needed}");
                }
                other => panic!("{len} of {} bytes: {other:?}", frame.len()),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn peer_messages_come_back(message in peer_message(), after in vec(any::<u8>(), 0..4)) {
            let mut frame = Vec::new();
            message.encode(&mut frame);
            prop_assert!(frame.len() <= PEER_FRAME_BYTES_MAX);
            check_beginnings(&frame);
            let len = frame.len();
            frame.extend(after);
            prop_assert_eq!(PeerMessage::decode(&frame), Ok((message, len)));
        }

        #[test]
        fn tracker_messages_come_back(message in tracker_message()) {
            let mut frame = Vec::new();
            message.encode(&mut frame);
            prop_assert!(frame.len() <= TRACKER_FRAME_BYTES_MAX);
            prop_assert_eq!(TrackerMessage::decode(&frame), Ok((message, frame.len())));
            frame.truncate(FRAME_HEADER_BYTES + 40);
            frame.pop();
            let answer = TrackerMessage::decode(&frame);
            prop_assert!(matches!(answer, Err(Undecodable::Incomplete { .. })), "{:?}", answer);
        }

        #[test]
        fn arbitrary_payloads_are_answered(
            kind in prop_oneof![0x00..=0x05u8, 0x80..=0x88u8],
            payload in vec(any::<u8>(), 0..700),
        ) {
            let mut frame = vec![kind];
            frame.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
            frame.extend(&payload);
            // One form for each message: whatever decodes encodes to the same bytes.
            if let Ok((message, len)) = PeerMessage::decode(&frame) {
                let mut again = Vec::new();
                message.encode(&mut again);
                prop_assert_eq!(&again, &frame[..len]);
            }
            if let Ok((message, len)) = TrackerMessage::decode(&frame) {
                let mut again = Vec::new();
                message.encode(&mut again);
                prop_assert_eq!(&again, &frame[..len]);
            }
        }

        #[test]
        fn a_changed_byte_never_decodes_to_the_same_message(
            message in peer_message(), at in any::<prop::sample::Index>(), bit in 0..8u32,
        ) {
            let mut frame = Vec::new();
            message.encode(&mut frame);
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            if let Ok((other, _)) = PeerMessage::decode(&frame) {
                prop_assert_ne!(other, message);
            }
        }
    }

    fn check_invalid(bytes: &[u8], expected: Invalid) {
        assert_eq!(
            PeerMessage::decode(bytes),
            Err(expected.into()),
            "{bytes:?}"
        );
    }

    // tracker-4.
    #[test]
    fn huge_lengths_and_counts_are_refused_by_the_header() {
        let max = ANNOUNCEMENT_BYTES_MAX;
        check_invalid(
            &[ANNOUNCE, 0xff, 0xff],
            Invalid::TooLong {
                kind: 1,
                len: 65_535,
                max,
            },
        );
        check_invalid(
            &[KEEP_ALIVE, 0, 1],
            Invalid::TooLong {
                kind: 2,
                len: 1,
                max: 0,
            },
        );
        check_invalid(&[0x7f], Invalid::Kind(0x7f));
        check_invalid(&[WELCOME, 0, 18], Invalid::Kind(WELCOME));
        check_invalid(&[LIST, 0, 0], Invalid::Short);

        let count_at = FRAME_HEADER_BYTES + 16 + 32 + 32 + 8 + 2 + 16;
        let mut frame = Vec::new();
        PeerMessage::Announce(super::super::tests::announcement().sign(|_| [0; 64]))
            .encode(&mut frame);
        frame[count_at] = 65;
        check_invalid(&frame, Invalid::Count { count: 65, max: 64 });
        frame[count_at] = 0;
        frame[count_at + 1] = 17;
        check_invalid(&frame, Invalid::Count { count: 17, max: 16 });

        let mut gone = vec![GONE, 0, 34];
        gone.extend([0; 32]);
        gone.extend([1, 1]);
        assert_eq!(
            TrackerMessage::decode(&gone),
            Err(Invalid::Count {
                count: 257,
                max: 256
            }
            .into())
        );
    }

    // tracker-6.
    #[test]
    fn one_address_has_one_encoding() {
        let mapped = "::ffff:192.0.2.1"
            .parse::<Ipv6Addr>()
            .expect("an address")
            .octets();
        let mut bytes = vec![FAMILY_V6];
        bytes.extend(mapped);
        bytes.extend([0, 1]);
        assert_eq!(Reader(&bytes).address(), Err(Invalid::Field("address")));
        assert_eq!(
            Reader(&[4, 1, 2, 3, 4, 0, 0]).address(),
            Err(Invalid::Field("address"))
        );
        assert_eq!(
            Reader(&[5]).address(),
            Err(Invalid::Field("address family"))
        );
    }
}
