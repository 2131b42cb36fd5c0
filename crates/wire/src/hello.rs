//! The bytes of HELLO / OK / RESET: a tolerant decoder and an exact encoder for both sides.
//!
//! The protocol has no framing. A request or reply ends with its datagram, with a line end, with
//! the end of the stream, or merely because it is complete; so a decoder for streams has an answer
//! that other codecs do not need: [`Part::Open`], "whole if nothing follows". The holder of the
//! stream decides how long to wait for more. What is accepted beyond the plain form stands in
//! `spec/hello.md` (hello-1 to hello-9). No socket, no time, no table of ids is known here.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The longest id, in bytes: room for a UUID in text. Ours, not the course's (hello-5).
pub const ID_BYTES_MAX: usize = 36;

/// The longest request or reply that is looked at, in bytes, padding and ignored tokens included.
/// The part of a datagram beyond it is never read.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// The longest reply that is ever written: `OK`, an id, an IPv6 address, a port, three spaces.
pub const REPLY_BYTES_MAX: usize = 2 + ID_BYTES_MAX + 39 + 5 + 3;

/// The longest text of an address in a reply: an IPv4-mapped IPv6 address and a scope.
const ADDRESS_BYTES_MAX: usize = 64;

/// What a client calls itself: 1 to [`ID_BYTES_MAX`] printable ASCII bytes, compared as bytes, so
/// `0042` and `42` are two ids (hello-5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HelloId {
    /// Zero beyond `len`, so that the derived comparisons are those of the ids.
    bytes: [u8; ID_BYTES_MAX],
    len: u8,
}

/// Which ids are let through: the course documents four digits, its servers take any token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdShape {
    /// Exactly four ASCII digits.
    FourDigits,
    /// Anything a [`HelloId`] can be.
    #[default]
    Token,
}

/// `HELLO <id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The id that the client asks for.
    pub id: HelloId,
}

/// `OK <id> <ip> <port>` or `RESET <id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The id was free and is in use from now on.
    Ok {
        /// The id that was granted.
        id: HelloId,
        /// The client as the server saw it. An IPv4 address mapped into IPv6 is kept as IPv4.
        client: SocketAddr,
    },
    /// The id is in use.
    Reset {
        /// The id that was refused.
        id: HelloId,
    },
}

/// What the bytes that a stream has brought so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<Message> {
    /// A whole message, to be acted on now: its last token has ended, or cannot grow in any plain
    /// form (an id of four digits, a port of five).
    Whole(Message),
    /// A whole message if the sender is done; one more byte would lengthen its last token.
    Open(Message),
    /// A beginning: more bytes are needed.
    Incomplete,
    /// No further byte can make this a message.
    Invalid(Fault),
}

/// Why bytes are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing but blanks.
    #[error("empty")]
    Empty,
    /// The message ended too early.
    #[error("cut short")]
    Cut,
    /// The first word is not one of the protocol's.
    #[error("does not begin with a word of this protocol")]
    Word,
    /// No id where one should stand.
    #[error("without an id")]
    NoId,
    /// The id has more than [`ID_BYTES_MAX`] bytes.
    #[error("an id longer than {ID_BYTES_MAX} bytes")]
    LongId,
    /// The id has a byte that is not printable ASCII.
    #[error("an id with a byte that is not printable ASCII")]
    IdByte,
    /// The address in an `OK` cannot be read.
    #[error("an address that is not an IP address")]
    Address,
    /// The port in an `OK` cannot be read.
    #[error("a port that is not a number up to 65535")]
    Port,
    /// More than [`MESSAGE_BYTES_MAX`] bytes and still not whole.
    #[error("longer than {MESSAGE_BYTES_MAX} bytes")]
    Long,
}

impl HelloId {
    /// Takes the bytes of one token, without blanks around it.
    ///
    /// # Errors
    /// [`Fault::NoId`], [`Fault::LongId`] or [`Fault::IdByte`].
    pub fn new(token: &[u8]) -> Result<Self, Fault> {
        if token.is_empty() {
            return Err(Fault::NoId);
        }
        // In the order of the bytes: a stream's verdict stays the same as more of it arrives.
        let looked_at = &token[..token.len().min(ID_BYTES_MAX)];
        if !looked_at.iter().all(u8::is_ascii_graphic) {
            return Err(Fault::IdByte);
        }
        if token.len() > ID_BYTES_MAX {
            return Err(Fault::LongId);
        }
        let mut bytes = [0; ID_BYTES_MAX];
        bytes[..token.len()].copy_from_slice(token);
        let len = u8::try_from(token.len()).expect("ID_BYTES_MAX fits into a byte");
        Ok(Self { bytes, len })
    }

    /// The id as it is on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only printable ASCII gets in")
    }
}

impl IdShape {
    /// Whether `id` has this shape.
    #[must_use]
    pub fn admits(self, id: &HelloId) -> bool {
        match self {
            Self::FourDigits => is_four_digits(id.as_bytes()),
            Self::Token => true,
        }
    }
}

impl Request {
    /// Reads a request whose end is known: a datagram, or a stream that has ended.
    ///
    /// # Errors
    /// The [`Fault`] that makes it malformed.
    pub fn from_whole(bytes: &[u8]) -> Result<Self, Fault> {
        whole(scan_request, bytes)
    }

    /// Reads what a stream has brought so far, from its first byte on.
    #[must_use]
    pub fn from_part(bytes: &[u8]) -> Part<Self> {
        bounded(scan_request, bytes)
    }

    /// Appends the plain form: `HELLO <id>`, one space, no newline (hello-1).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HELLO ");
        out.extend_from_slice(self.id.as_bytes());
    }

    /// Appends the plain form and then one more token, so that the whole has at least `len` bytes
    /// (hello-36): what a server under `--protect` may answer without amplifying.
    pub fn encode_padded(&self, len: usize, out: &mut Vec<u8>) {
        let start = out.len();
        self.encode(out);
        let len = len.min(MESSAGE_BYTES_MAX);
        if out.len() - start < len {
            out.push(b' ');
            let missing = (start + len).saturating_sub(out.len()).max(1);
            out.extend(std::iter::repeat_n(b'.', missing));
        }
    }
}

impl Reply {
    /// Reads a reply whose end is known: a datagram, or a stream that has ended.
    ///
    /// # Errors
    /// The [`Fault`] that makes it malformed.
    pub fn from_whole(bytes: &[u8]) -> Result<Self, Fault> {
        whole(scan_reply, bytes)
    }

    /// Reads what a stream has brought so far, from its first byte on.
    #[must_use]
    pub fn from_part(bytes: &[u8]) -> Part<Self> {
        bounded(scan_reply, bytes)
    }

    /// Appends the plain form, no newline (hello-2 to hello-4). An IPv4 client of a dual-stack
    /// socket is named by its IPv4 address.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ok { id, client } => {
                out.extend_from_slice(b"OK ");
                out.extend_from_slice(id.as_bytes());
                out.push(b' ');
                encode_ip(client.ip().to_canonical(), out);
                out.push(b' ');
                encode_decimal(client.port(), out);
            }
            Self::Reset { id } => {
                out.extend_from_slice(b"RESET ");
                out.extend_from_slice(id.as_bytes());
            }
        }
    }

    /// The id that the reply speaks of.
    #[must_use]
    pub fn id(&self) -> &HelloId {
        match self {
            Self::Ok { id, .. } | Self::Reset { id } => id,
        }
    }
}

/// A token at the front of some bytes, and whether anything that ends it follows.
struct Token<'a> {
    text: &'a [u8],
    ended: bool,
    rest: &'a [u8],
}

/// What follows the id is not looked at (hello-6); a line end is as good as none (hello-7).
fn scan_request(bytes: &[u8]) -> Part<Request> {
    let rest = match after_word(bytes, b"HELLO") {
        Ok(rest) => rest,
        Err(part) => return part.into_part(),
    };
    match next_id(rest) {
        Ok((id, token)) => finish(Request { id }, token.ended || is_four_digits(token.text)),
        Err(part) => part.into_part(),
    }
}

fn scan_reply(bytes: &[u8]) -> Part<Reply> {
    match after_word(bytes, b"RESET") {
        Ok(rest) => {
            return match next_id(rest) {
                Ok((id, token)) => finish(
                    Reply::Reset { id },
                    token.ended || is_four_digits(token.text),
                ),
                Err(part) => part.into_part(),
            };
        }
        Err(Stop::Invalid(Fault::Word)) => {}
        Err(part) => return part.into_part(),
    }
    match scan_ok(bytes) {
        Ok(part) => part,
        Err(stop) => stop.into_part(),
    }
}

fn scan_ok(bytes: &[u8]) -> Result<Part<Reply>, Stop> {
    let rest = after_word(bytes, b"OK")?;
    let (id, token) = next_id(rest)?;
    let address = inner_token(&token, ADDRESS_BYTES_MAX, Fault::Address)?;
    if !address.ended {
        return Err(Stop::Incomplete);
    }
    let ip = parse_ip(address.text)?;
    let port_token = inner_token(&address, 5, Fault::Port)?;
    let port = parse_port(port_token.text)?;
    // A port of five digits, or one that another digit would push past 65535, is complete.
    let full = port_token.text.len() == 5 || u32::from(port) * 10 > u32::from(u16::MAX);
    let reply = Reply::Ok {
        id,
        client: SocketAddr::new(ip, port),
    };
    Ok(finish(reply, port_token.ended || full))
}

/// Why a scan stopped before it had a message.
#[derive(Clone, Copy)]
enum Stop {
    Incomplete,
    Invalid(Fault),
}

impl Stop {
    fn into_part<M>(self) -> Part<M> {
        match self {
            Self::Incomplete => Part::Incomplete,
            Self::Invalid(fault) => Part::Invalid(fault),
        }
    }
}

fn finish<M>(message: M, certain: bool) -> Part<M> {
    if certain {
        Part::Whole(message)
    } else {
        Part::Open(message)
    }
}

fn whole<M>(scan: impl Fn(&[u8]) -> Part<M>, bytes: &[u8]) -> Result<M, Fault> {
    let cut = bytes.len() > MESSAGE_BYTES_MAX;
    match scan(&bytes[..bytes.len().min(MESSAGE_BYTES_MAX)]) {
        Part::Whole(message) => Ok(message),
        Part::Invalid(fault) => Err(fault),
        Part::Open(_) | Part::Incomplete if cut => Err(Fault::Long),
        Part::Open(message) => Ok(message),
        Part::Incomplete if bytes.iter().all(|byte| is_blank_or_end(*byte)) => Err(Fault::Empty),
        Part::Incomplete => Err(Fault::Cut),
    }
}

fn bounded<M>(scan: impl Fn(&[u8]) -> Part<M>, bytes: &[u8]) -> Part<M> {
    let part = scan(&bytes[..bytes.len().min(MESSAGE_BYTES_MAX)]);
    let undecided = matches!(part, Part::Open(_) | Part::Incomplete);
    if undecided && bytes.len() >= MESSAGE_BYTES_MAX {
        return Part::Invalid(Fault::Long);
    }
    part
}

/// What follows `word` and the blank after it; blanks and line ends before the word are skipped.
fn after_word<'a>(bytes: &'a [u8], word: &[u8]) -> Result<&'a [u8], Stop> {
    let start = skip(bytes, |byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    if start.len() <= word.len() {
        return Err(if word.starts_with(start) {
            Stop::Incomplete
        } else {
            Stop::Invalid(Fault::Word)
        });
    }
    let (head, rest) = start.split_at(word.len());
    if head != word {
        return Err(Stop::Invalid(Fault::Word));
    }
    match rest.first() {
        Some(b' ' | b'\t') => Ok(rest),
        Some(b'\r' | b'\n' | 0) => Err(Stop::Invalid(Fault::NoId)),
        _ => Err(Stop::Invalid(Fault::Word)),
    }
}

fn next_id(bytes: &[u8]) -> Result<(HelloId, Token<'_>), Stop> {
    let token = next_token(bytes);
    if token.text.is_empty() {
        return Err(if token.ended {
            Stop::Invalid(Fault::NoId)
        } else {
            Stop::Incomplete
        });
    }
    let id = HelloId::new(token.text).map_err(Stop::Invalid)?;
    Ok((id, token))
}

/// The token after `former`, which must stand on the same line and have at most `len_max` bytes.
fn inner_token<'a>(former: &Token<'a>, len_max: usize, fault: Fault) -> Result<Token<'a>, Stop> {
    if !former.ended {
        return Err(Stop::Incomplete);
    }
    let token = next_token(former.rest);
    if token.text.is_empty() {
        return Err(if token.ended {
            Stop::Invalid(fault)
        } else {
            Stop::Incomplete
        });
    }
    if token.text.len() > len_max {
        return Err(Stop::Invalid(fault));
    }
    Ok(token)
}

fn next_token(bytes: &[u8]) -> Token<'_> {
    let start = skip(bytes, |byte| matches!(byte, b' ' | b'\t'));
    let len = start
        .iter()
        .position(|byte| is_blank_or_end(*byte))
        .unwrap_or(start.len());
    let (text, rest) = start.split_at(len);
    Token {
        text,
        ended: !rest.is_empty(),
        rest,
    }
}

fn parse_ip(text: &[u8]) -> Result<IpAddr, Stop> {
    let fault = Stop::Invalid(Fault::Address);
    let text = std::str::from_utf8(text).map_err(|_| fault)?;
    let (address, _scope) = text.split_once('%').unwrap_or((text, ""));
    let ip: IpAddr = address.parse().map_err(|_| fault)?;
    Ok(ip.to_canonical())
}

fn parse_port(text: &[u8]) -> Result<u16, Stop> {
    let fault = Stop::Invalid(Fault::Port);
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(fault);
    }
    let text = std::str::from_utf8(text).map_err(|_| fault)?;
    text.parse().map_err(|_| fault)
}

fn encode_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                encode_decimal(u16::from(octet), out);
            }
        }
        IpAddr::V6(ip) => write!(out, "{ip}").expect("a Vec takes every byte"),
    }
}

/// Decimal digits without the formatting machinery: this is on the path of every datagram.
fn encode_decimal(value: u16, out: &mut Vec<u8>) {
    let mut digits = [0; 5];
    let mut start = digits.len();
    let mut rest = value;
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn is_four_digits(text: &[u8]) -> bool {
    text.len() == 4 && text.iter().all(u8::is_ascii_digit)
}

/// What ends a token. NUL is among them because C programs send the end of their string.
fn is_blank_or_end(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0)
}

fn skip(bytes: &[u8], blank: impl Fn(u8) -> bool) -> &[u8] {
    let len = bytes
        .iter()
        .position(|byte| !blank(*byte))
        .unwrap_or(bytes.len());
    &bytes[len..]
}

impl fmt::Display for HelloId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HelloId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HelloId({})", self.as_str())
    }
}

impl std::str::FromStr for HelloId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        Self::new(text.as_bytes())
    }
}
