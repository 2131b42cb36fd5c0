//! A small web server that can be wrong in one way at a time.
//!
//! It serves one imagined file and one imagined folder; only the fault that follows `..` looks at
//! the disk. One thread for each connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ahoy_wire::web::{
    Body, Conditions, HeadError, HttpDate, IfRange, Method, Parsed, RangeSpec, RequestHead,
    TagList, parse_request,
};

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    NoAllow,
    AcceptsNoHost,
    AnyVersion,
    TakesGarbage,
    EndlessHead,
    TwoLengths,
    BodyIsARequest,
    ClosesAlways,
    NeverCloses,
    LosesPipelined,
    HeadWithBody,
    LengthTooShort,
    NoDate,
    DoesNotDecode,
    DiesOfBadEscape,
    FollowsDotDot,
    RedirectsElsewhere,
    EverythingIsThere,
    NoContentType,
    RandomTag,
    IgnoresIfNoneMatch,
    DateBeatsTag,
    IgnoresIfModifiedSince,
    IgnoresIfMatch,
    NotModifiedWithBody,
    IgnoresRange,
    RangeOffByOne,
    OneRangeOnly,
    UnsatisfiableIsWhole,
    IgnoresIfRange,
    RepeatsRanges,
    RangeWithHead,
    CodesUnasked,
    WaitsForEver,
    NeverIdle,
    OneAtATime,
}

pub const REQUEST_LIMIT: Duration = Duration::from_millis(1500);
pub const IDLE_LIMIT: Duration = Duration::from_millis(1200);

const FILE: &[u8] = b"The quick brown fox jumps over the lazy dog.\n";
const TAG: &str = "\"fox\"";
const MODIFIED_SECS: i64 = 1_600_000_000;
/// Much longer than any examination waits.
const NEVER: Duration = Duration::from_secs(60);

/// Starts a server; it lives as long as the test.
pub fn serve(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let converse = move || {
                // The other side closing early is its right.
                let _ = converse(stream, fault);
            };
            if fault == Fault::OneAtATime {
                converse();
            } else {
                thread::spawn(converse);
            }
        }
    });
    addr
}

struct Reply {
    status: u16,
    fields: Vec<String>,
    body: Vec<u8>,
}

fn reply(status: u16) -> Reply {
    let body = format!("{status}\n").into_bytes();
    Reply {
        status,
        fields: vec!["Content-Type: text/plain".to_owned()],
        body,
    }
}

fn converse(mut stream: TcpStream, fault: Fault) -> io::Result<()> {
    let mut received = Vec::new();
    let mut begun: Option<Instant> = None;
    loop {
        match parse_tolerantly(&received, fault) {
            Ok(Some((request, len))) => {
                if fault == Fault::DiesOfBadEscape && request.target.contains("%00") {
                    return Ok(());
                }
                let answer = answer(&request, fault);
                let close = (!request.persistent || fault == Fault::ClosesAlways)
                    && fault != Fault::NeverCloses;
                let skipped = if fault == Fault::BodyIsARequest {
                    0
                } else {
                    request.body_len
                };
                let says_close = close && fault != Fault::ClosesAlways;
                send(&mut stream, answer, request.method, says_close, fault)?;
                if close {
                    return linger(stream);
                }
                while received.len() < len + skipped {
                    if read_more(&mut stream, &mut received)? == 0 {
                        return Ok(());
                    }
                }
                received.drain(..len + skipped);
                if fault == Fault::LosesPipelined {
                    received.clear();
                }
                begun = None;
            }
            Ok(None) => {
                if received.is_empty() {
                    begun = None;
                } else {
                    begun.get_or_insert_with(Instant::now);
                }
                let wait = match begun {
                    _ if fault == Fault::OneAtATime => NEVER,
                    None if fault == Fault::NeverIdle => NEVER,
                    Some(_) if fault == Fault::WaitsForEver => NEVER,
                    None => IDLE_LIMIT,
                    Some(begun) => REQUEST_LIMIT.saturating_sub(begun.elapsed()),
                };
                stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
                match read_more(&mut stream, &mut received) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(_) if begun.is_some() => {
                        send(&mut stream, reply(408), Method::Get, true, fault)?;
                        return linger(stream);
                    }
                    Err(_) => return Ok(()),
                }
            }
            Err(status) => {
                send(&mut stream, reply(status), Method::Get, true, fault)?;
                return linger(stream);
            }
        }
    }
}

fn read_more(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 64 * 1024];
    let len = stream.read(&mut buffer)?;
    received.extend_from_slice(&buffer[..len]);
    Ok(len)
}

/// Closes so that the answer arrives.
fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut buffer = [0; 64 * 1024];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// A request without the borrow.
struct Request {
    method: Method,
    target: String,
    persistent: bool,
    body_len: usize,
    conditions: Conditions,
    ranges: Option<Vec<RangeSpec>>,
    /// As the field says, without the bound on their number.
    range_count: usize,
}

/// Applies the faults that concern the grammar.
fn parse_tolerantly(received: &[u8], fault: Fault) -> Result<Option<(Request, usize)>, u16> {
    let range_count = received.iter().filter(|&&byte| byte == b',').count() + 1;
    let owned = |head: RequestHead<'_>| Request {
        method: head.method,
        target: String::from_utf8_lossy(head.target).into_owned(),
        persistent: head.persistent,
        body_len: match head.body {
            Body::Length(len) => len as usize,
            Body::Chunked => 0,
        },
        ranges: head.ranges,
        conditions: head.conditions,
        range_count,
    };
    match parse_request(received) {
        Ok(Parsed::Incomplete) => Ok(None),
        Ok(Parsed::Complete { head, len }) => Ok(Some((owned(head), len))),
        Err(error) => {
            let text = String::from_utf8_lossy(received).into_owned();
            let Some(patched) = patch(error, &text, fault)? else {
                return Ok(None);
            };
            let Ok(Parsed::Complete { head, .. }) = parse_request(patched.as_bytes()) else {
                return Err(400);
            };
            let Some(len) = text.find("\r\n\r\n") else {
                return Ok(None);
            };
            Ok(Some((owned(head), len + 4)))
        }
    }
}

/// What a server with the fault reads where a right one refuses; `None`: it waits for more.
fn patch(error: HeadError, text: &str, fault: Fault) -> Result<Option<String>, u16> {
    let plain = "GET /notes.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned();
    match (error, fault) {
        (HeadError::Host, Fault::AcceptsNoHost)
        | (HeadError::Version, Fault::AnyVersion)
        | (HeadError::Malformed(_), Fault::TakesGarbage)
        | (HeadError::Framing, Fault::TwoLengths) => Ok(Some(plain)),
        (HeadError::FieldsTooLarge | HeadError::LineTooLong, Fault::EndlessHead) => {
            Ok(text.contains("\r\n\r\n").then_some(plain))
        }
        (HeadError::Version, _) => Err(505),
        (HeadError::LineTooLong, _) => Err(414),
        (HeadError::FieldsTooLarge, _) => Err(431),
        (HeadError::TransferCoding, _) => Err(501),
        (HeadError::Malformed(_) | HeadError::Host | HeadError::Framing, _) => Err(400),
    }
}

fn answer(request: &Request, fault: Fault) -> Reply {
    match request.method {
        Method::Unknown => return reply(501),
        Method::Other => {
            let mut reply = reply(405);
            if fault != Fault::NoAllow {
                reply.fields.push("Allow: GET, HEAD".to_owned());
            }
            return reply;
        }
        Method::Get | Method::Head => {}
    }
    let raw = request.target.split('?').next().unwrap_or_default();
    let path = if fault == Fault::DoesNotDecode {
        Some(raw.to_owned())
    } else {
        decode(raw)
    };
    let Some(path) = path else { return reply(400) };
    if fault == Fault::FollowsDotDot
        && let Ok(body) = std::fs::read(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")))
    {
        return Reply { body, ..reply(200) };
    }
    match path.as_str() {
        "/notes.txt" => file(request, fault),
        "/folder" | "//folder" => {
            let mut reply = reply(301);
            let shown = if fault == Fault::RedirectsElsewhere {
                raw
            } else {
                "/folder"
            };
            reply.fields.push(format!("Location: {shown}/"));
            reply
        }
        _ if fault == Fault::EverythingIsThere => reply(200),
        _ => reply(404),
    }
}

fn decode(path: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let value = u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
        if value == 0 {
            return None;
        }
        out.push(value);
    }
    String::from_utf8(out).ok()
}

fn file(request: &Request, fault: Fault) -> Reply {
    let modified = HttpDate::from_unix_secs(MODIFIED_SECS);
    let mut fields = vec![format!("Last-Modified: {modified}"), tag_field(fault)];
    if fault != Fault::NoContentType {
        fields.push("Content-Type: text/plain; charset=utf-8".to_owned());
    }
    if fault == Fault::CodesUnasked {
        fields.push("Content-Encoding: gzip".to_owned());
    }
    let whole = Reply {
        status: 200,
        fields,
        body: FILE.to_vec(),
    };
    if let Some(status) = precondition(&request.conditions, modified, fault) {
        let keeps_body = status != 304 || fault == Fault::NotModifiedWithBody;
        let body = if keeps_body { whole.body } else { Vec::new() };
        return Reply {
            status,
            body,
            ..whole
        };
    }
    let applies = match &request.conditions.if_range {
        None => true,
        Some(_) if fault == Fault::IgnoresIfRange => true,
        Some(IfRange::Tag(tag)) => is_current(std::slice::from_ref(tag), false),
        Some(IfRange::Date(date)) => *date == modified,
        Some(IfRange::Unreadable) => false,
    };
    let allowed = request.method == Method::Get || fault == Fault::RangeWithHead;
    if fault == Fault::RepeatsRanges && request.range_count > 100 {
        return Reply {
            status: 206,
            body: FILE.repeat(request.range_count),
            ..whole
        };
    }
    match &request.ranges {
        Some(specs) if applies && allowed && fault != Fault::IgnoresRange => {
            ranged(specs, whole, fault)
        }
        Some(_) | None => whole,
    }
}

fn tag_field(fault: Fault) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    if fault == Fault::RandomTag {
        return format!("ETag: \"{}\"", COUNT.fetch_add(1, Ordering::Relaxed));
    }
    format!("ETag: {TAG}")
}

fn is_current(tags: &[ahoy_wire::web::EntityTag], weakly: bool) -> bool {
    let own = ahoy_wire::web::EntityTag::parse(TAG.as_bytes()).expect("a tag");
    tags.iter().any(|tag| {
        if weakly {
            tag.weak_eq(&own)
        } else {
            tag.strong_eq(&own)
        }
    })
}

fn matches(list: &TagList, weakly: bool) -> bool {
    match list {
        TagList::Any => true,
        TagList::Tags(tags) => is_current(tags, weakly),
    }
}

fn precondition(conditions: &Conditions, modified: HttpDate, fault: Fault) -> Option<u16> {
    if fault != Fault::IgnoresIfMatch {
        match (&conditions.if_match, conditions.if_unmodified_since) {
            (Some(list), _) if !matches(list, false) => return Some(412),
            (None, Some(date)) if modified > date => return Some(412),
            (Some(_), _) | (None, _) => {}
        }
    }
    let since = conditions
        .if_modified_since
        .filter(|_| fault != Fault::IgnoresIfModifiedSince);
    let none_match = conditions.if_none_match.as_ref();
    match none_match.filter(|_| fault != Fault::IgnoresIfNoneMatch) {
        Some(list) if matches(list, true) => Some(304),
        Some(_) if fault != Fault::DateBeatsTag => None,
        Some(_) | None => since.filter(|date| modified <= *date).map(|_| 304),
    }
}

fn ranged(specs: &[RangeSpec], whole: Reply, fault: Fault) -> Reply {
    let len = FILE.len();
    let resolve = |spec: &RangeSpec| {
        let (start, end) = match *spec {
            RangeSpec::From { first, last } => {
                let last = last.map_or(usize::MAX, |last| last as usize);
                (first as usize, last.saturating_add(1).min(len))
            }
            RangeSpec::Suffix(count) => (len.saturating_sub(count as usize), len),
        };
        (start < end).then_some((start, end))
    };
    let ranges: Vec<_> = specs.iter().filter_map(resolve).collect();
    let mut fields = whole.fields.clone();
    match ranges[..] {
        [] if fault == Fault::UnsatisfiableIsWhole => whole,
        [] => {
            fields.push(format!("Content-Range: bytes */{len}"));
            Reply {
                status: 416,
                fields,
                body: b"416\n".to_vec(),
            }
        }
        [(start, end)] => {
            fields.push(format!("Content-Range: bytes {start}-{}/{len}", end - 1));
            let end = if fault == Fault::RangeOffByOne {
                end - 1
            } else {
                end
            };
            Reply {
                status: 206,
                fields,
                body: FILE[start..end].to_vec(),
            }
        }
        _ if fault == Fault::OneRangeOnly => whole,
        _ => {
            let mut body = Vec::new();
            for (start, end) in ranges {
                let head = format!(
                    "--b\r\nContent-Range: bytes {start}-{}/{len}\r\n\r\n",
                    end - 1
                );
                body.extend_from_slice(head.as_bytes());
                body.extend_from_slice(&FILE[start..end]);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--b--\r\n");
            fields.retain(|field| !field.starts_with("Content-Type"));
            fields.push("Content-Type: multipart/byteranges; boundary=b".to_owned());
            Reply {
                status: 206,
                fields,
                body,
            }
        }
    }
}

fn send(
    stream: &mut TcpStream,
    reply: Reply,
    method: Method,
    close: bool,
    fault: Fault,
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {} .\r\n", reply.status);
    if fault != Fault::NoDate {
        text.push_str(&format!(
            "Date: {}\r\n",
            HttpDate::from_unix_secs(MODIFIED_SECS + 9)
        ));
    }
    if close {
        text.push_str("Connection: close\r\n");
    }
    for field in &reply.fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    if reply.status != 304 {
        let short = usize::from(fault == Fault::LengthTooShort && reply.body == FILE);
        text.push_str(&format!("Content-Length: {}\r\n", reply.body.len() - short));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if method != Method::Head || fault == Fault::HeadWithBody {
        bytes.extend_from_slice(&reply.body);
    }
    stream.write_all(&bytes)
}
