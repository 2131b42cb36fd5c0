//! The ticket: one line that lets somebody into a share.
//!
//! `sync-31`: `ahoy1` and base32 (RFC 4648, lower case, no padding): a head, the payload, a
//! checksum. The head carries the length with a checksum of its own, so that a ticket of which the
//! end is missing is told apart from one with a wrong character. Upper case means the same (QR
//! codes hold it in less room), and white space does not count, because mail programs break long
//! lines.
//!
//! ```text
//! head      payload length u16 | blake3 of those two bytes, first 3
//! payload   capability | name | trackers | inviter | expiry
//! checksum  blake3 of head and payload, first 5
//! ```
//!
//! Not here: what time it is, and whether anybody answers at the addresses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};

use crate::bounded::Bounded;
use crate::peer::PeerId;
use crate::sync::{Capability, ReadKey, Secret, WritePublic};
use crate::tracker::PeerAddress;

/// The version that this code writes and reads.
pub const VERSION: u8 = 1;

/// Most trackers in a ticket.
pub const TRACKERS_MAX: usize = 4;

/// Most addresses of the inviter in a ticket.
pub const ADDRESSES_MAX: usize = 8;

/// Longest text of a ticket in characters, white space not counted.
pub const TEXT_LEN_MAX: usize = PREFIX.len() + 1 + (HEAD_BYTES + PAYLOAD_BYTES_MAX + 5) * 8 / 5 + 1;

const PREFIX: &str = "ahoy";
const HEAD_BYTES: usize = 5;
const HEAD_TEXT_LEN: usize = 8;
const CHECKSUM_BYTES: usize = 5;
const PAYLOAD_BYTES_MAX: usize = 1
    + 64
    + 1
    + ShareName::BYTES_MAX
    + 1
    + TRACKERS_MAX * (1 + TrackerAddress::BYTES_MAX)
    + PeerId::BYTES
    + 1
    + ADDRESSES_MAX * 19
    + 9;

/// Everything that a new peer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What the holder may do.
    pub capability: Capability,
    /// What the share is called, for people.
    pub name: ShareName,
    /// Where peers of the share find each other.
    pub trackers: Bounded<TrackerAddress, TRACKERS_MAX>,
    /// Who made the ticket.
    pub inviter: PeerId,
    /// Where the inviter can be reached, best first.
    pub addresses: Bounded<PeerAddress, ADDRESSES_MAX>,
    /// Not to be used from this moment on: seconds since 1970.
    pub expires_at_secs: Option<u64>,
}

/// Why a text is not a ticket that can be used; for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Something else altogether.
    #[error("this is not a ticket: a ticket begins with \"ahoy1\"")]
    Foreign,
    /// Made by a later version of ahoy.
    #[error("this ticket was made by a newer version of ahoy (ticket version {version})")]
    Newer {
        /// Its version.
        version: u32,
    },
    /// The end is missing.
    #[error("the ticket is cut short: its end is missing after {len} characters")]
    CutShort {
        /// How many characters there are.
        len: usize,
    },
    /// There is more than a ticket.
    #[error("the ticket has only {whole} characters, and here something follows it")]
    TooLong {
        /// How many characters a ticket of this kind has.
        whole: usize,
    },
    /// Some character is wrong.
    #[error("the ticket has a wrong or missing character somewhere")]
    Mistyped,
    /// The checksum is right, and yet it makes no sense: made by a faulty program.
    #[error("the ticket is whole but makes no sense; ask for a new one")]
    Senseless,
    /// Its time is over.
    #[error("the ticket has expired; ask for a new one")]
    Expired,
}

impl Ticket {
    /// Refuses a ticket whose time is over.
    ///
    /// # Errors
    /// [`TicketError::Expired`].
    pub fn check_time(&self, now_secs: u64) -> Result<(), TicketError> {
        match self.expires_at_secs {
            Some(end) if end <= now_secs => Err(TicketError::Expired),
            Some(_) | None => Ok(()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        match &self.capability {
            Capability::ReadWrite(secret) => {
                out.push(1);
                out.extend_from_slice(secret.as_bytes());
            }
            Capability::ReadOnly { read, write } => {
                out.push(2);
                out.extend_from_slice(read.as_bytes());
                out.extend_from_slice(&write.0);
            }
        }
        put_text(&mut out, self.name.as_str());
        put_count(&mut out, self.trackers.len());
        for tracker in self.trackers.iter() {
            put_text(&mut out, tracker.as_str());
        }
        out.extend_from_slice(self.inviter.as_bytes());
        put_count(&mut out, self.addresses.len());
        for address in self.addresses.iter() {
            match address.ip() {
                IpAddr::V4(ip) => {
                    out.push(4);
                    out.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(6);
                    out.extend_from_slice(&ip.octets());
                }
            }
            out.extend_from_slice(&address.port().to_be_bytes());
        }
        match self.expires_at_secs {
            None => out.push(0),
            Some(secs) => {
                out.push(1);
                out.extend_from_slice(&secs.to_be_bytes());
            }
        }
        out
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let mut rest = Rest(payload);
        let capability = match rest.byte()? {
            1 => Capability::ReadWrite(Secret::new(rest.array()?)),
            2 => Capability::ReadOnly {
                read: ReadKey::new(rest.array()?),
                write: WritePublic(rest.array()?),
            },
            _ => return None,
        };
        let name = ShareName::new(rest.text()?)?;
        let trackers = (0..rest.byte()?)
            .map(|_| TrackerAddress::new(rest.text()?))
            .take(TRACKERS_MAX + 1)
            .collect::<Option<Vec<_>>>()?;
        let inviter = PeerId::new(rest.array()?);
        let addresses = (0..rest.byte()?)
            .map(|_| rest.address())
            .take(ADDRESSES_MAX + 1)
            .collect::<Option<Vec<_>>>()?;
        let expires_at_secs = match rest.byte()? {
            0 => None,
            1 => Some(u64::from_be_bytes(rest.array()?)),
            _ => return None,
        };
        let ticket = Self {
            capability,
            name,
            trackers: Bounded::new(trackers).ok()?,
            inviter,
            addresses: Bounded::new(addresses).ok()?,
            expires_at_secs,
        };
        rest.0.is_empty().then_some(ticket)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = self.encode();
        let len = u16::try_from(payload.len()).expect("every field is bounded far below 64 KiB");
        let mut bytes = head(len).to_vec();
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&checksum(&bytes));
        write!(
            f,
            "{PREFIX}{VERSION}{}",
            BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
        )
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Reads the line that a ticket is; does not look at the clock.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let compact: String = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(TEXT_LEN_MAX + 1)
            .collect();
        let body = strip_prefix(&compact)?;
        let outside = compact.len() - body.len();
        let head_text = match body.as_bytes().split_at_checked(HEAD_TEXT_LEN) {
            Some((head_text, _)) => head_text,
            None => return Err(TicketError::CutShort { len: compact.len() }),
        };
        let head_bytes = BASE32_NOPAD_NOCASE
            .decode(head_text)
            .map_err(|_| TicketError::Mistyped)?;
        let len = u16::from_be_bytes([head_bytes[0], head_bytes[1]]);
        if head_bytes != head(len) {
            return Err(TicketError::Mistyped);
        }
        let body_bytes = HEAD_BYTES + usize::from(len) + CHECKSUM_BYTES;
        let whole = outside + BASE32_NOPAD.encode_len(body_bytes);
        if compact.len() < whole {
            return Err(TicketError::CutShort { len: compact.len() });
        }
        if compact.len() > whole {
            return Err(TicketError::TooLong { whole });
        }
        let bytes = BASE32_NOPAD_NOCASE
            .decode(body.as_bytes())
            .map_err(|_| TicketError::Mistyped)?;
        let (covered, sum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if checksum(covered) != sum {
            return Err(TicketError::Mistyped);
        }
        Self::decode(&covered[HEAD_BYTES..]).ok_or(TicketError::Senseless)
    }
}

/// What follows `ahoy1`.
fn strip_prefix(text: &str) -> Result<&str, TicketError> {
    let (prefix, rest) = text
        .split_at_checked(PREFIX.len())
        .ok_or(TicketError::Foreign)?;
    if !prefix.eq_ignore_ascii_case(PREFIX) {
        return Err(TicketError::Foreign);
    }
    match rest.chars().next().and_then(|c| c.to_digit(10)) {
        Some(1) => Ok(&rest[1..]),
        Some(version) => Err(TicketError::Newer { version }),
        None if rest.is_empty() => Err(TicketError::CutShort { len: text.len() }),
        None => Err(TicketError::Foreign),
    }
}

fn head(payload_len: u16) -> [u8; HEAD_BYTES] {
    let len = payload_len.to_be_bytes();
    let sum = blake3::hash(&len);
    let sum = sum.as_bytes();
    [len[0], len[1], sum[0], sum[1], sum[2]]
}

fn checksum(covered: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&blake3::hash(covered).as_bytes()[..CHECKSUM_BYTES]);
    sum
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.push(u8::try_from(count).expect("lists and texts in a ticket are bounded below 256"));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// What is still to be decoded.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::from(self.byte()?);
        std::str::from_utf8(self.take(len)?).ok()
    }

    fn address(&mut self) -> Option<PeerAddress> {
        let ip = match self.byte()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return None,
        };
        let port = u16::from_be_bytes(self.array()?);
        let address = PeerAddress::new(SocketAddr::new(ip, port))?;
        (address.ip() == ip).then_some(address)
    }
}

/// What a share is called: 1 to 64 bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShareName(Box<str>);

impl ShareName {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Takes the name as it is; `None` if it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::BYTES_MAX).contains(&text.len());
        (fits && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// Takes what fits of `text`; control characters become `-`, nothing becomes `share`.
    #[must_use]
    pub fn tidy(text: &str) -> Self {
        let mut name = String::new();
        for c in text
            .trim()
            .chars()
            .map(|c| if c.is_control() { '-' } else { c })
        {
            if name.len() + c.len_utf8() > Self::BYTES_MAX {
                break;
            }
            name.push(c);
        }
        Self(if name.is_empty() {
            "share".into()
        } else {
            name.into()
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where a tracker listens: `host:port`, the host a name or an address (IPv6 in brackets), at most
/// 128 bytes of printable ASCII, the port not 0. Names are not looked up here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackerAddress(Box<str>);

impl TrackerAddress {
    /// Longest text, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Checks `text`; `None` if it is not a host and a port.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let good_port = port
            .parse::<u16>()
            .is_ok_and(|p| p != 0 && p.to_string() == port);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let good_host = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_graphic())
            && host.contains(':') == bracketed;
        let fits = text.len() <= Self::BYTES_MAX;
        (fits && good_host && good_port).then(|| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrackerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            capability: Capability::ReadWrite(Secret::new([7; 32])),
            name: ShareName::tidy("photos"),
            trackers: Bounded::truncated(TrackerAddress::new("tracker.example:7447")),
            inviter: PeerId::new([9; 32]),
            addresses: Bounded::truncated(
                ["192.0.2.7:7447", "[2001:db8::7]:7447"]
                    .map(|a| PeerAddress::new(a.parse().expect("an address")).expect("dialable")),
            ),
            expires_at_secs: None,
        }
    }

    #[test]
    fn a_ticket_survives_what_happens_to_text() {
        let ticket = ticket();
        let text = ticket.to_string();
        assert_eq!(text.parse(), Ok(ticket.clone()));
        assert_eq!(text.to_uppercase().parse(), Ok(ticket.clone()));
        let wrapped: String = text
            .chars()
            .enumerate()
            .flat_map(|(i, c)| [(i % 60 == 59).then_some('\n'), Some(c)])
            .flatten()
            .collect();
        assert_eq!(format!("  {wrapped}\r\n").parse(), Ok(ticket));
    }

    // sync-31.
    #[test]
    fn each_mistake_has_its_own_words() {
        let text = ticket().to_string();
        let whole = text.len();
        for len in 4..whole {
            assert_eq!(
                text[..len].parse::<Ticket>(),
                Err(TicketError::CutShort { len }),
                "{len}"
            );
        }
        assert_eq!(
            format!("{text}a").parse::<Ticket>(),
            Err(TicketError::TooLong { whole })
        );
        assert_eq!(
            text.replacen('1', "2", 1).parse::<Ticket>(),
            Err(TicketError::Newer { version: 2 })
        );
        for foreign in [
            "",
            "x",
            "aho",
            "https://example.org/",
            "magnet:?xt=urn",
            "ahoyx",
            "ahöy1",
        ] {
            assert_eq!(
                foreign.parse::<Ticket>(),
                Err(TicketError::Foreign),
                "{foreign}"
            );
        }
        for place in 5..whole {
            for wrong in ["a", "7", "0", "-"] {
                let mut wrong_text = text.clone();
                wrong_text.replace_range(place..=place, wrong);
                if wrong_text != text {
                    assert_eq!(
                        wrong_text.parse::<Ticket>(),
                        Err(TicketError::Mistyped),
                        "{place}"
                    );
                }
            }
        }
        let missing = format!("{}{}", &text[..50], &text[51..]);
        assert_eq!(
            missing.parse::<Ticket>(),
            Err(TicketError::CutShort { len: whole - 1 })
        );
    }

    #[test]
    fn the_clock_is_asked_only_by_check_time() {
        let mut ticket = ticket();
        assert_eq!(ticket.check_time(u64::MAX), Ok(()));
        ticket.expires_at_secs = Some(100);
        let ticket: Ticket = ticket.to_string().parse().expect("a ticket");
        assert_eq!(ticket.check_time(99), Ok(()));
        assert_eq!(ticket.check_time(100), Err(TicketError::Expired));
    }

    #[test]
    fn names_and_trackers_are_bounded() {
        assert_eq!(ShareName::tidy(" a\nb ").as_str(), "a-b");
        assert_eq!(ShareName::tidy("").as_str(), "share");
        assert_eq!(ShareName::tidy(&"é".repeat(40)).as_str().len(), 64);
        assert!(ShareName::new("").is_none() && ShareName::new("a\u{1b}").is_none());
        for good in [
            "localhost:1",
            "192.0.2.1:65535",
            "[::1]:7447",
            "a.b-c.example:80",
        ] {
            assert_eq!(TrackerAddress::new(good).expect(good).as_str(), good);
        }
        for bad in [
            "",
            "host",
            "host:",
            "host:0",
            "host:65536",
            ":1",
            "a b:1",
            "::1:80",
            "h:01",
            "h:+1",
        ] {
            assert!(TrackerAddress::new(bad).is_none(), "{bad}");
        }
    }

    fn any_ticket() -> impl Strategy<Value = Ticket> {
        let capability = prop_oneof![
            any::<[u8; 32]>().prop_map(|s| Capability::ReadWrite(Secret::new(s))),
            any::<([u8; 32], [u8; 32])>().prop_map(|(read, write)| Capability::ReadOnly {
                read: ReadKey::new(read),
                write: WritePublic(write),
            }),
        ];
        let trackers =
            proptest::collection::vec(("[a-z0-9.-]{1,100}", 1..=u16::MAX), 0..=TRACKERS_MAX);
        let addresses = proptest::collection::vec(any::<SocketAddr>(), 0..=ADDRESSES_MAX);
        (
            capability,
            "\\PC{0,80}",
            trackers,
            any::<[u8; 32]>(),
            addresses,
            any::<Option<u64>>(),
        )
            .prop_map(
                |(capability, name, trackers, inviter, addresses, expires_at_secs)| Ticket {
                    capability,
                    name: ShareName::tidy(&name),
                    trackers: Bounded::truncated(
                        trackers
                            .iter()
                            .filter_map(|(h, p)| TrackerAddress::new(&format!("{h}:{p}"))),
                    ),
                    inviter: PeerId::new(inviter),
                    addresses: Bounded::truncated(
                        addresses.into_iter().filter_map(PeerAddress::new),
                    ),
                    expires_at_secs,
                },
            )
    }

    proptest! {
        #[test]
        fn text_and_back(ticket in any_ticket()) {
            let text = ticket.to_string();
            prop_assert!(text.len() <= TEXT_LEN_MAX);
            prop_assert_eq!(text.parse(), Ok(ticket));
        }

        #[test]
        fn any_text_is_answered(text in "(ahoy1)?\\PC{0,80}") {
            let _ = text.parse::<Ticket>();
        }

        #[test]
        fn any_payload_is_answered(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(ticket) = Ticket::decode(&payload) {
                prop_assert_eq!(ticket.encode(), payload);
            }
        }

        #[test]
        fn almost_tickets_are_answered(ticket in any_ticket(), at: prop::sample::Index, flip: u8) {
            let mut payload = ticket.encode();
            let at = at.index(payload.len());
            payload[at] ^= flip;
            if let Some(ticket) = Ticket::decode(&payload) {
                prop_assert_eq!(ticket.encode(), payload);
            }
        }
    }
}
