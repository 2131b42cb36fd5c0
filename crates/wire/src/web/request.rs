//! A request head: the request line is split here, the fields by httparse, and every field this
//! server understands is read into its type (RFC 9112 sections 2 to 7, RFC 9110 section 13).
//!
//! Nothing is allocated for a plain `GET`; what is kept borrows from the buffer. The target is
//! handed on raw: what it names is decided in `logic::web`.

use thiserror::Error;

use super::{AcceptEncoding, EntityTag, HttpDate, RangeSpec, TagList, parse_ranges};

/// Most bytes of a whole request head, the empty line included.
pub const HEAD_LEN_MAX: usize = 16 * 1024;
/// Most bytes of a request line, its end excluded. RFC 9112 section 3 asks for at least 8,000.
pub const REQUEST_LINE_LEN_MAX: usize = 8 * 1024;
/// Most field lines in one head.
pub const FIELDS_MAX: usize = 64;
/// Most empty lines passed over before a request line (RFC 9112 section 2.2 asks for one).
const EMPTY_LINES_MAX: usize = 4;

/// What a buffer that should start with a request holds.
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack, for one request at a time"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed<'b> {
    /// So far so good, but the empty line has not come.
    Incomplete,
    /// A whole head; `len` bytes of the buffer belong to it.
    Complete {
        /// What it says.
        head: RequestHead<'b>,
        /// Bytes up to and with its empty line.
        len: usize,
    },
}

/// Why a buffer cannot become a request, whatever follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// Not of the grammar.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// No `Host` in HTTP/1.1, more than one, or one that is no host.
    #[error("the request has no valid Host")]
    Host,
    /// `Content-Length` and `Transfer-Encoding` leave the end of the body in doubt.
    #[error("the length of the request body is in doubt")]
    Framing,
    /// A transfer coding other than chunked.
    #[error("the transfer coding of the request is not known here")]
    TransferCoding,
    /// A major version other than 1.
    #[error("not HTTP/1")]
    Version,
    /// A request line over [`REQUEST_LINE_LEN_MAX`].
    #[error("the request line is longer than {REQUEST_LINE_LEN_MAX} bytes")]
    LineTooLong,
    /// Over [`HEAD_LEN_MAX`] bytes or [`FIELDS_MAX`] fields.
    #[error("the request head is over {HEAD_LEN_MAX} bytes or {FIELDS_MAX} fields")]
    FieldsTooLarge,
}

/// The methods this server tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The file.
    Get,
    /// The head that `Get` would have.
    Head,
    /// Another method of the registry, known and not supported.
    Other,
    /// A word that is no method we know.
    Unknown,
}

/// What follows the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing, or this many bytes.
    Length(u64),
    /// Chunks up to an empty one.
    Chunked,
}

/// The preconditions of RFC 9110 section 13.1, as far as they could be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<TagList>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagList>,
    /// `If-Modified-Since`; none if it is no date.
    pub if_modified_since: Option<HttpDate>,
    /// `If-Unmodified-Since`; none if it is no date.
    pub if_unmodified_since: Option<HttpDate>,
    /// `If-Range`.
    pub if_range: Option<IfRange>,
}

/// What `If-Range` names.
#[derive(Debug, Clone, PartialEq)]
pub enum IfRange {
    /// An entity tag, to be compared strongly.
    Tag(EntityTag),
    /// A date, to be compared exactly.
    Date(HttpDate),
    /// Neither: it matches nothing, so the range is not applied.
    Unreadable,
}

/// A request head, read.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestHead<'b> {
    /// The request line as it came, for the log.
    pub line: &'b [u8],
    /// What is asked.
    pub method: Method,
    /// The request target as it came.
    pub target: &'b [u8],
    /// The minor version of HTTP/1.
    pub minor: u8,
    /// Whether the client lets the connection live on (web-9; RFC 9112 section 9.3).
    pub persistent: bool,
    /// What follows.
    pub body: Body,
    /// `Expect: 100-continue`: the client may be holding the body back.
    pub expects_continue: bool,
    /// `Expect` with anything else.
    pub expects_other: bool,
    /// The preconditions.
    pub conditions: Conditions,
    /// The ranges asked for; none if absent, repeated, or not to be understood.
    pub ranges: Option<Vec<RangeSpec>>,
    /// What codings the client takes.
    pub accept_encoding: AcceptEncoding,
}

/// Reads the request head at the start of a buffer, within its limits (web-5).
pub fn parse_request(buffer: &[u8]) -> Result<Parsed<'_>, HeadError> {
    let start = skip_empty_lines(buffer)?;
    let rest = &buffer[start..];
    let Some(newline) = rest
        .iter()
        .take(REQUEST_LINE_LEN_MAX + 2)
        .position(|&b| b == b'\n')
    else {
        check_method_bytes(rest)?;
        return if rest.len() > REQUEST_LINE_LEN_MAX + 1 {
            Err(HeadError::LineTooLong)
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let line = rest[..newline]
        .strip_suffix(b"\r")
        .unwrap_or(&rest[..newline]);
    if line.len() > REQUEST_LINE_LEN_MAX {
        return Err(HeadError::LineTooLong);
    }
    let mut head = parse_line(line)?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(&rest[newline + 1..], &mut fields) {
        Ok(httparse::Status::Complete((len, fields))) => {
            let len = start + newline + 1 + len;
            if len > HEAD_LEN_MAX {
                return Err(HeadError::FieldsTooLarge);
            }
            read_fields(&mut head, fields)?;
            Ok(Parsed::Complete { head, len })
        }
        Ok(httparse::Status::Partial) if buffer.len() >= HEAD_LEN_MAX => {
            Err(HeadError::FieldsTooLarge)
        }
        Ok(httparse::Status::Partial) => Ok(Parsed::Incomplete),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::FieldsTooLarge),
        Err(_) => Err(HeadError::Malformed("a header field")),
    }
}

fn skip_empty_lines(buffer: &[u8]) -> Result<usize, HeadError> {
    let mut start = 0;
    for _ in 0..=EMPTY_LINES_MAX {
        match &buffer[start..] {
            [b'\r', b'\n', ..] => start += 2,
            [b'\n', ..] => start += 1,
            _ => return Ok(start),
        }
    }
    Err(HeadError::Malformed("empty lines before the request line"))
}

/// Refuses early what cannot become a request line, such as a TLS greeting.
fn check_method_bytes(rest: &[u8]) -> Result<(), HeadError> {
    let method = rest.split(|&b| b == b' ').next().unwrap_or_default();
    let method = method.strip_suffix(b"\r").unwrap_or(method);
    if method.iter().all(|&b| is_token_byte(b)) {
        Ok(())
    } else {
        Err(HeadError::Malformed("the method"))
    }
}

/// `method SP request-target SP HTTP-version`, with exactly these spaces (web-1, web-3).
fn parse_line(line: &[u8]) -> Result<RequestHead<'_>, HeadError> {
    let mut words = line.split(|&b| b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HeadError::Malformed("the request line"));
    };
    if method.is_empty() || !method.iter().all(|&b| is_token_byte(b)) {
        return Err(HeadError::Malformed("the method"));
    }
    if target.is_empty() || target.iter().any(|&b| b <= 0x20 || b == 0x7f) {
        return Err(HeadError::Malformed("the request target"));
    }
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] = version else {
        return Err(HeadError::Malformed("the version"));
    };
    if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return Err(HeadError::Malformed("the version"));
    }
    if *major != b'1' {
        return Err(HeadError::Version);
    }
    Ok(RequestHead {
        line,
        method: parse_method(method),
        target,
        minor: minor - b'0',
        persistent: false,
        body: Body::Length(0),
        expects_continue: false,
        expects_other: false,
        conditions: Conditions::default(),
        ranges: None,
        accept_encoding: AcceptEncoding::default(),
    })
}

/// Which methods are ours, known, and neither (web-4).
fn parse_method(word: &[u8]) -> Method {
    match word {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"OPTIONS" | b"TRACE" | b"PATCH" => {
            Method::Other
        }
        _ => Method::Unknown,
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What the field lines said before it is weighed together.
#[derive(Default)]
struct Seen {
    hosts: usize,
    length: Option<u64>,
    transfer_encoding: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    ranges: usize,
    encodings: bool,
}

fn read_fields<'b>(
    head: &mut RequestHead<'b>,
    fields: &[httparse::Header<'b>],
) -> Result<(), HeadError> {
    let mut seen = Seen::default();
    for field in fields {
        read_field(head, &mut seen, field.name, field.value)?;
    }
    // web-2
    if seen.hosts > 1 || (seen.hosts == 0 && head.minor >= 1) {
        return Err(HeadError::Host);
    }
    if seen.ranges > 1 {
        head.ranges = None;
    }
    if seen.encodings {
        let values = fields
            .iter()
            .filter(|f| f.name.eq_ignore_ascii_case("accept-encoding"));
        head.accept_encoding = AcceptEncoding::parse(values.map(|f| f.value));
    }
    head.persistent = !seen.close && (head.minor >= 1 || seen.keep_alive);
    head.body = match (seen.transfer_encoding, seen.length) {
        // web-6; RFC 9112 section 6.3: both at once is how requests are smuggled; in HTTP/1.0 a
        // transfer coding has no meaning.
        (true, Some(_)) => return Err(HeadError::Framing),
        (true, None) if head.minor == 0 => return Err(HeadError::Framing),
        (true, None) if seen.chunked => Body::Chunked,
        (true, None) => return Err(HeadError::TransferCoding),
        (false, length) => Body::Length(length.unwrap_or(0)),
    };
    Ok(())
}

/// Reads one field line. Dispatched on the length of the name first: most fields are of no
/// interest here, and this keeps them cheap.
fn read_field(
    head: &mut RequestHead<'_>,
    seen: &mut Seen,
    name: &str,
    value: &[u8],
) -> Result<(), HeadError> {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let conditions = &mut head.conditions;
    match name.len() {
        4 if is("host") => {
            seen.hosts += 1;
            if !value.iter().all(|&b| is_host_byte(b)) {
                return Err(HeadError::Host);
            }
        }
        5 if is("range") => {
            seen.ranges += 1;
            head.ranges = parse_ranges(value).ok();
        }
        6 if is("expect") => {
            let known = value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
            head.expects_continue |= known;
            head.expects_other |= !known;
        }
        8 if is("if-match") => join(&mut conditions.if_match, value),
        8 if is("if-range") => conditions.if_range = Some(parse_if_range(value)),
        10 if is("connection") => {
            for token in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                seen.close |= token.eq_ignore_ascii_case(b"close");
                seen.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        13 if is("if-none-match") => join(&mut conditions.if_none_match, value),
        14 if is("content-length") => {
            let length = parse_length(value).ok_or(HeadError::Framing)?;
            if seen.length.is_some_and(|before| before != length) {
                return Err(HeadError::Framing);
            }
            seen.length = Some(length);
        }
        15 if is("accept-encoding") => seen.encodings = true,
        17 if is("transfer-encoding") => {
            // One coding, chunked: anything longer ends in a coding we cannot undo.
            seen.chunked =
                !seen.transfer_encoding && value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            seen.transfer_encoding = true;
        }
        17 if is("if-modified-since") => conditions.if_modified_since = HttpDate::parse(value),
        19 if is("if-unmodified-since") => conditions.if_unmodified_since = HttpDate::parse(value),
        _ => {}
    }
    Ok(())
}

fn join(list: &mut Option<TagList>, value: &[u8]) {
    let more = TagList::parse(value);
    *list = Some(match list.take() {
        Some(before) => before.join(more),
        None => more,
    });
}

fn parse_if_range(value: &[u8]) -> IfRange {
    if let Some(tag) = EntityTag::parse(value) {
        return IfRange::Tag(tag);
    }
    HttpDate::parse(value).map_or(IfRange::Unreadable, IfRange::Date)
}

/// Digits only; more than 64 bits hold is read as the largest.
fn parse_length(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0_u64, |length, digit| {
        length
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// Bytes of `uri-host [ ":" port ]`; an empty host is allowed.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
