//! Answers: the head of each, and which bytes of which file follow it.
//!
//! Everything that is not a file's content is written here, ready to be sent. How the connection
//! goes on is told by the caller; what it costs to move the bytes is the loop's business.

use std::ops::Range;

use ahoy_wire::web::{
    AcceptEncoding, Conditions, DATE_LEN, FieldWriter, HttpDate, Method, RangeSpec, Status,
    write_content_range, write_status_line,
};

use super::Site;
use super::condition::{Verdict, evaluate};
use super::file::{Choice, Representation, Resource};
use super::listing::{Entry, listing_page};
use super::ranges::{Selection, select};
use super::target::{encode_path, encode_query};

/// The date on the wall, written out once a second.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    /// Seconds since 1970.
    pub secs: i64,
    date: [u8; DATE_LEN],
}

impl Wall {
    /// The date at a Unix time.
    pub fn at(secs: i64) -> Self {
        let text = HttpDate::from_unix_secs(secs).to_string();
        let date = text
            .as_bytes()
            .try_into()
            .expect("every HTTP date is 29 bytes long");
        Self { secs, date }
    }

    /// As HTTP prints it.
    pub fn http_date(&self) -> &str {
        std::str::from_utf8(&self.date).expect("an HTTP date is ASCII")
    }
}

/// An answer whose head, and all of its body that is no file's content, was appended to the
/// outgoing bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: Status,
    /// What follows the bytes already written.
    pub body: Body,
    /// Length of the whole body, for the log.
    pub body_len: u64,
    /// The request line, if the site keeps an access log.
    pub line: Option<Vec<u8>>,
}

/// The part of a body that the loop moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing more.
    Written,
    /// These bytes of one form of the file.
    File(Choice, Range<u64>),
    /// Text and ranges of one form of the file, in this order.
    Parts(Choice, Vec<Part>),
}

/// A piece of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A part's head, or the last boundary.
    Text(Vec<u8>),
    /// Bytes of the file.
    Range(Range<u64>),
}

/// What is kept of a request until its file was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub(super) method: Method,
    pub(super) minor: u8,
    /// Whether the connection lives on after the answer.
    pub(super) persistent: bool,
    pub(super) conditions: Conditions,
    pub(super) ranges: Option<Vec<RangeSpec>>,
    pub(super) accept: AcceptEncoding,
    pub(super) line: Option<Vec<u8>>,
}

impl Asked {
    /// What is known of a request that could not be read: it gets one answer, and the end.
    pub(super) fn unreadable(line: Option<Vec<u8>>) -> Self {
        Self {
            method: Method::Unknown,
            minor: 1,
            persistent: false,
            conditions: Conditions::default(),
            ranges: None,
            accept: AcceptEncoding::default(),
            line,
        }
    }

    /// Whether the body is left out (web-11).
    fn is_head(&self) -> bool {
        self.method == Method::Head
    }

    fn reply(self, status: Status, body: Body, body_len: u64) -> Reply {
        Reply {
            status,
            body,
            body_len,
            line: self.line,
        }
    }
}

/// Starts a head: the status line, the date (web-12), and how the connection goes on (web-9).
fn start(out: &mut Vec<u8>, wall: &Wall, asked: &Asked, status: Status) {
    write_status_line(out, status);
    out.extend_from_slice(b"Server: ahoy\r\nDate: ");
    out.extend_from_slice(&wall.date);
    out.extend_from_slice(b"\r\n");
    if !asked.persistent {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if asked.minor == 0 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

/// An answer that is only a status, with one line of text for people.
pub fn status_reply(out: &mut Vec<u8>, wall: &Wall, asked: Asked, status: Status) -> Reply {
    text_reply(out, wall, asked, status, None)
}

/// 301 to the same path as a folder, on this very host (web-24).
pub fn folder_redirect(
    out: &mut Vec<u8>,
    wall: &Wall,
    asked: Asked,
    path: &[u8],
    query: Option<&[u8]>,
) -> Reply {
    // The path is normalised, so this begins with one slash, and never names another host.
    let mut location = b"/".to_vec();
    encode_path(&mut location, path);
    location.push(b'/');
    if let Some(query) = query {
        location.push(b'?');
        encode_query(&mut location, query);
    }
    text_reply(
        out,
        wall,
        asked,
        Status::MovedPermanently,
        Some(("Location", &location)),
    )
}

fn text_reply(
    out: &mut Vec<u8>,
    wall: &Wall,
    asked: Asked,
    status: Status,
    field: Option<(&str, &[u8])>,
) -> Reply {
    start(out, wall, &asked, status);
    let text = format!("{} {}\n", status.code(), status.reason());
    let mut fields = FieldWriter(out);
    if let Some((name, value)) = field {
        fields.bytes(name, value);
    }
    if status == Status::MethodNotAllowed {
        fields.text("Allow", "GET, HEAD");
    }
    fields.text("Content-Type", "text/plain; charset=utf-8");
    fields.number("Content-Length", text.len() as u64);
    fields.end();
    if asked.is_head() {
        return asked.reply(status, Body::Written, 0);
    }
    out.extend_from_slice(text.as_bytes());
    asked.reply(status, Body::Written, text.len() as u64)
}

/// The page of a folder.
pub fn listing_reply(
    out: &mut Vec<u8>,
    wall: &Wall,
    asked: Asked,
    path: &[u8],
    entries: Vec<Entry>,
    truncated: bool,
) -> Reply {
    let page = listing_page(path, entries, truncated);
    start(out, wall, &asked, Status::Ok);
    FieldWriter(out)
        .text("Content-Type", "text/html; charset=utf-8")
        .number("Content-Length", page.len() as u64)
        .text(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'",
        )
        .text("X-Content-Type-Options", "nosniff")
        .end();
    if asked.is_head() {
        return asked.reply(Status::Ok, Body::Written, 0);
    }
    out.extend_from_slice(&page);
    asked.reply(Status::Ok, Body::Written, page.len() as u64)
}

/// The answer about a file: the form the client likes, its preconditions, its ranges.
pub fn file_reply(
    out: &mut Vec<u8>,
    wall: &Wall,
    site: &Site,
    asked: Asked,
    resource: &Resource,
) -> Reply {
    let (choice, form) = resource.choose(&asked.accept);
    let file = Chosen {
        choice,
        form,
        varies: resource.varies(),
    };
    match evaluate(&asked.conditions, form.validators()) {
        Verdict::Failed => status_reply(out, wall, asked, Status::PreconditionFailed),
        Verdict::NotModified => not_modified(out, wall, asked, &file),
        Verdict::Proceed { range_allowed } => {
            // RFC 9110 section 14.2: a range has a meaning only with GET.
            let specs = asked
                .ranges
                .as_deref()
                .filter(|_| range_allowed && !asked.is_head());
            match specs.map_or(Selection::Whole, |specs| select(specs, form.len)) {
                Selection::Whole => whole(out, wall, asked, &file),
                // web-42
                Selection::Unsatisfiable => {
                    let mut value = Vec::new();
                    write_content_range(&mut value, None, form.len);
                    let field = Some(("Content-Range", &value[..]));
                    text_reply(out, wall, asked, Status::RangeNotSatisfiable, field)
                }
                Selection::Ranges(ranges) => match <[_; 1]>::try_from(ranges) {
                    Ok([range]) => single_range(out, wall, asked, &file, range),
                    Err(ranges) => many_ranges(out, wall, site, asked, &file, &ranges),
                },
            }
        }
    }
}

/// One form of a file, chosen for a request.
struct Chosen<'a> {
    choice: Choice,
    form: &'a Representation,
    varies: bool,
}

impl Chosen<'_> {
    fn write_vary(&self, out: &mut Vec<u8>) {
        if self.varies {
            out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
    }
}

fn whole(out: &mut Vec<u8>, wall: &Wall, asked: Asked, file: &Chosen<'_>) -> Reply {
    start(out, wall, &asked, Status::Ok);
    out.extend_from_slice(file.form.whole_fields());
    file.write_vary(out);
    FieldWriter(out).end();
    if asked.is_head() {
        return asked.reply(Status::Ok, Body::Written, 0);
    }
    asked.reply(
        Status::Ok,
        Body::File(file.choice, 0..file.form.len),
        file.form.len,
    )
}

/// RFC 9110 section 15.4.5: the fields that guide a cache, and no body.
fn not_modified(out: &mut Vec<u8>, wall: &Wall, asked: Asked, file: &Chosen<'_>) -> Reply {
    start(out, wall, &asked, Status::NotModified);
    FieldWriter(out).bytes("ETag", &file.form.tag_bytes());
    file.write_vary(out);
    FieldWriter(out).end();
    asked.reply(Status::NotModified, Body::Written, 0)
}

fn single_range(
    out: &mut Vec<u8>,
    wall: &Wall,
    asked: Asked,
    file: &Chosen<'_>,
    range: Range<u64>,
) -> Reply {
    start(out, wall, &asked, Status::PartialContent);
    let len = range.end - range.start;
    let mut value = Vec::new();
    write_content_range(&mut value, Some((range.start, range.end)), file.form.len);
    FieldWriter(out)
        .text("Content-Type", file.form.media)
        .number("Content-Length", len)
        .bytes("Content-Range", &value);
    file.form.write_shared_fields(out);
    file.write_vary(out);
    FieldWriter(out).end();
    asked.reply(Status::PartialContent, Body::File(file.choice, range), len)
}

/// RFC 9110 section 14.6: the type and the range stand in each part, not in the head.
fn many_ranges(
    out: &mut Vec<u8>,
    wall: &Wall,
    site: &Site,
    asked: Asked,
    file: &Chosen<'_>,
    ranges: &[Range<u64>],
) -> Reply {
    let hash = blake3::keyed_hash(&site.boundary_key, &file.form.tag_bytes()).to_hex();
    let boundary = &hash[..32];
    let mut parts = Vec::with_capacity(ranges.len() * 2 + 1);
    let mut body_len = 0;
    for range in ranges {
        let mut text = format!("\r\n--{boundary}\r\n").into_bytes();
        let mut value = Vec::new();
        write_content_range(&mut value, Some((range.start, range.end)), file.form.len);
        FieldWriter(&mut text)
            .text("Content-Type", file.form.media)
            .bytes("Content-Range", &value)
            .end();
        body_len += text.len() as u64 + (range.end - range.start);
        parts.push(Part::Text(text));
        parts.push(Part::Range(range.clone()));
    }
    let last = format!("\r\n--{boundary}--\r\n").into_bytes();
    body_len += last.len() as u64;
    parts.push(Part::Text(last));

    start(out, wall, &asked, Status::PartialContent);
    FieldWriter(out)
        .text(
            "Content-Type",
            &format!("multipart/byteranges; boundary={boundary}"),
        )
        .number("Content-Length", body_len);
    file.form.write_shared_fields(out);
    file.write_vary(out);
    FieldWriter(out).end();
    asked.reply(
        Status::PartialContent,
        Body::Parts(file.choice, parts),
        body_len,
    )
}
