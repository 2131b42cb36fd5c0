//! Whole conversations with the machine, over an imagined folder and in imagined time.

use std::collections::BTreeMap;
use std::time::Duration;

use ahoy_wire::web::{Coding, ResponseHead, parse_content_range, parse_response};
use proptest::prelude::*;

use super::super::reply::{Body, Part};
use super::super::{Choice, Limits, Representation, Stamp, Stat};
use super::*;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const TEXT: &[u8] = b"0123456789";

/// Answers as a loop would, one conversation at a time.
struct World {
    site: Site,
    files: BTreeMap<Vec<u8>, (Resource, Vec<u8>)>,
    folders: Vec<Vec<u8>>,
    /// Paths whose lookup fails, and how.
    broken: BTreeMap<Vec<u8>, Status>,
    now: Moment,
}

/// One answer as a client would see it.
#[derive(Debug)]
struct Answer {
    head: ResponseHead,
    body: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> String {
        self.head.field(name).unwrap_or_default()
    }
}

fn form(coding: Option<Coding>) -> Representation {
    let stamp = Stamp {
        secs: 784_111_777,
        nanos: 0,
    };
    let stat = Stat {
        len: 10,
        modified: stamp,
        changed: stamp,
        inode: 1,
    };
    Representation::new(&stat, "text/plain; charset=utf-8", coding, 800_000_000)
}

impl World {
    fn new() -> Self {
        let plain = Resource {
            plain: form(None),
            coded: [None, None, None],
        };
        let coded = Resource {
            plain: form(None),
            coded: [None, None, Some(form(Some(Coding::Gzip)))],
        };
        let file = |resource: &Resource| (resource.clone(), TEXT.to_vec());
        Self {
            site: Site {
                listing: true,
                dotfiles: false,
                access_log: true,
                boundary_key: [7; 32],
            },
            files: BTreeMap::from([
                (b"a.txt".to_vec(), file(&plain)),
                (b"c.txt".to_vec(), file(&coded)),
                (b"home/index.html".to_vec(), file(&plain)),
            ]),
            folders: vec![b"".to_vec(), b"home".to_vec(), b"pics".to_vec()],
            broken: BTreeMap::from([
                (b"busy".to_vec(), Status::ServiceUnavailable),
                (b"rotten".to_vec(), Status::InternalServerError),
            ]),
            now: Moment::ORIGIN,
        }
    }

    fn wall(&self) -> Wall {
        Wall::at(800_000_000 + self.now.since_origin().as_secs() as i64)
    }

    fn handle(&self, connection: &mut Connection, input: Input<'_>, out: &mut Vec<u8>) -> Step {
        connection.handle(self.now, &self.wall(), &self.site, input, out)
    }

    fn found(&self, path: &[u8]) -> Found<'_> {
        if let Some(status) = self.broken.get(path) {
            return if *status == Status::ServiceUnavailable {
                Found::Busy
            } else {
                Found::Broken
            };
        }
        match self.files.get(path) {
            Some((resource, _)) => Found::File(resource),
            None if self.folders.iter().any(|folder| folder == path) => Found::Folder,
            None => Found::Missing,
        }
    }

    fn listed(&self, path: &[u8]) -> Found<'_> {
        if !self.folders.iter().any(|folder| folder == path) {
            return Found::Missing;
        }
        let entry = Entry {
            name: b"a.txt".to_vec(),
            folder: false,
            len: 10,
            modified_secs: 0,
        };
        Found::Entries(vec![entry], false)
    }

    /// Sends bytes in one piece, carries out what the machine asks, and returns what was sent and
    /// whether the server closed.
    fn talk(&self, connection: &mut Connection, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut sent = Vec::new();
        let mut rest = bytes;
        loop {
            let mut out = Vec::new();
            let step = self.handle(connection, Input::Received(rest), &mut out);
            rest = &rest[step.consumed..];
            match self.carry_out(connection, step.effect, &mut out, &mut sent) {
                Some(closed) => return (sent, closed),
                None if rest.is_empty() && step.consumed == 0 => return (sent, false),
                None => {}
            }
        }
    }

    /// `None`: the machine may have more to do with what it has.
    fn carry_out(
        &self,
        connection: &mut Connection,
        mut effect: Effect,
        out: &mut Vec<u8>,
        sent: &mut Vec<u8>,
    ) -> Option<bool> {
        loop {
            effect = match effect {
                Effect::Nothing => return if out.is_empty() { Some(false) } else { None },
                Effect::Find(query) => {
                    let found = self.found(query.path());
                    self.handle(connection, Input::Found(query, found), out)
                        .effect
                }
                Effect::List(query) => {
                    let found = self.listed(query.path());
                    self.handle(connection, Input::Found(query, found), out)
                        .effect
                }
                Effect::Reply(reply) => {
                    assert!(!connection.wants_bytes(), "one answer at a time");
                    sent.append(out);
                    self.append_body(&reply.body, sent);
                    match self.handle(connection, Input::Sent, out).effect {
                        Effect::Nothing => return None,
                        ending @ (Effect::HalfClose | Effect::Close) => ending,
                        Effect::Find(_) | Effect::List(_) | Effect::Reply(_) => {
                            panic!("nothing was received since")
                        }
                    }
                }
                Effect::HalfClose | Effect::Close => return Some(true),
            };
        }
    }

    fn append_body(&self, body: &Body, sent: &mut Vec<u8>) {
        let slice = |range: &std::ops::Range<u64>| &TEXT[range.start as usize..range.end as usize];
        match body {
            Body::Written => {}
            Body::File(_, range) => sent.extend_from_slice(slice(range)),
            Body::Parts(_, parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => sent.extend_from_slice(text),
                        Part::Range(range) => sent.extend_from_slice(slice(range)),
                    }
                }
            }
        }
    }

    /// The answers to some bytes on a fresh connection, and whether it was closed.
    fn answers(&self, text: &str) -> (Vec<Answer>, bool) {
        let (sent, closed) = self.talk(&mut Connection::new(self.now), text.as_bytes());
        let is_head = text.starts_with("HEAD");
        (split(&sent, is_head), closed)
    }

    fn one(&self, text: &str) -> Answer {
        let (mut answers, _) = self.answers(text);
        assert_eq!(answers.len(), 1, "{text:?}: {answers:?}");
        answers.remove(0)
    }

    /// One `GET` with these fields.
    fn get(&self, target: &str, fields: &str) -> Answer {
        self.one(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }
}

/// Splits what was sent into answers by their `Content-Length`, as a client must.
fn split(mut sent: &[u8], is_head: bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !sent.is_empty() {
        let head = parse_response(sent).expect("well formed").expect("whole");
        let len = match head.field("content-length") {
            Some(len) if !is_head => len.parse().expect("a number"),
            Some(_) | None => 0,
        };
        let end = head.len + len;
        answers.push(Answer {
            body: sent[head.len..end].to_vec(),
            head,
        });
        sent = &sent[end..];
    }
    answers
}

#[test]
fn a_file() {
    let answer = World::new().get("/a.txt", "");
    assert_eq!(answer.head.status, 200);
    assert_eq!(answer.body, TEXT);
    assert_eq!(answer.field("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.field("last-modified"), MODIFIED);
    assert_eq!(answer.field("date"), "Tue, 09 May 1995 06:13:20 GMT");
    assert_eq!(answer.head.count("connection"), 0);
    assert_eq!(answer.head.count("vary"), 0);
}

#[test]
fn head_is_get_without_its_body() {
    let world = World::new();
    for target in ["/a.txt", "/c.txt", "/pics/", "/missing", "/home"] {
        let get = world.get(target, "");
        let head = world.one(&format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(get.head.fields, head.head.fields, "{target}");
        assert_eq!(get.head.status, head.head.status, "{target}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{target}");
    }
}

#[test]
fn statuses() {
    let world = World::new();
    let too_long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000));
    let too_many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
    // Text, status, and whether the connection is closed.
    for (text, status, closed) in [
        ("GET /missing HTTP/1.1\r\nHost: a\r\n\r\n", 404, false),
        ("GET /a.txt/ HTTP/1.1\r\nHost: a\r\n\r\n", 404, false),
        ("GET /.hidden HTTP/1.1\r\nHost: a\r\n\r\n", 404, false),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, false),
        ("GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", 400, false),
        ("GET /busy HTTP/1.1\r\nHost: a\r\n\r\n", 503, false),
        ("GET /rotten HTTP/1.1\r\nHost: a\r\n\r\n", 500, false),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            405,
            false,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405, false),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, false),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 501, false),
        ("GET / HTTP/1.1\r\n\r\n", 400, true),
        ("nonsense\r\n\r\n", 400, true),
        ("GET / HTTP/3.0\r\n\r\n", 505, true),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n",
            501,
            true,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n",
            417,
            false,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n",
            413,
            true,
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n",
            405,
            true,
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            405,
            true,
        ),
        (too_long.as_str(), 414, true),
        (too_many.as_str(), 431, true),
    ] {
        let (answers, was_closed) = world.answers(text);
        assert_eq!(answers.len(), 1, "{text:?}");
        assert_eq!(answers[0].head.status, status, "{text:?}");
        assert_eq!(was_closed, closed, "{text:?}");
        assert_eq!(
            answers[0].field("connection") == "close",
            closed,
            "{text:?}"
        );
        let allow = if status == 405 { "GET, HEAD" } else { "" };
        assert_eq!(answers[0].field("allow"), allow, "{text:?}");
    }
}

// web-24, web-25.
#[test]
fn folders() {
    let mut world = World::new();
    let redirect = world.get("/home?x=1&y=%20", "");
    assert_eq!(
        (redirect.head.status, redirect.field("location").as_str()),
        (301, "/home/?x=1&y=%20")
    );
    assert_eq!(
        world.get("//home", "").field("location"),
        "/home/",
        "never to another host"
    );
    assert_eq!(world.get("/home/", "").body, TEXT);
    let listing = world.get("/pics/", "");
    assert_eq!(listing.field("content-type"), "text/html; charset=utf-8");
    assert!(String::from_utf8_lossy(&listing.body).contains("Index of /pics/"));
    assert_eq!(world.get("/nowhere/", "").head.status, 404);
    world.site.listing = false;
    assert_eq!(world.get("/pics/", "").head.status, 404);
    assert_eq!(world.get("/home/", "").body, TEXT);
}

/// Fields of a request for the file with this tag; the status and the body of the answer.
fn conditional_requests(tag: &str) -> Vec<(String, u16, &'static str)> {
    vec![
        (
            "If-Match: \"x\"\r\nRange: bytes=0-1\r\n".to_owned(),
            412,
            "412 Precondition Failed\n",
        ),
        (format!("If-Modified-Since: {MODIFIED}\r\n"), 304, ""),
        ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
        ("Range: bytes=-2\r\n".to_owned(), 206, "89"),
        ("Range: bytes=0-4,2-7\r\n".to_owned(), 206, "01234567"),
        (
            format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n"),
            206,
            "234",
        ),
        (
            format!("Range: bytes=2-4\r\nIf-Range: {MODIFIED}\r\n"),
            206,
            "234",
        ),
        (
            "Range: bytes=2-4\r\nIf-Range: \"x\"\r\n".to_owned(),
            200,
            "0123456789",
        ),
        ("Range: bytes=4-2\r\n".to_owned(), 200, "0123456789"),
        ("Range: lines=0-1\r\n".to_owned(), 200, "0123456789"),
        (
            "Range: bytes=0-1\r\nRange: bytes=2-3\r\n".to_owned(),
            200,
            "0123456789",
        ),
        (
            format!("Range: bytes={}\r\n", "0-0,".repeat(33)),
            200,
            "0123456789",
        ),
        (
            "Range: bytes=10-\r\n".to_owned(),
            416,
            "416 Range Not Satisfiable\n",
        ),
        (
            format!("Range: bytes=10-\r\nIf-None-Match: {tag}\r\n"),
            304,
            "",
        ),
    ]
}

// web-32 to web-34, web-40 to web-45.
#[test]
fn preconditions_and_ranges_together() {
    let world = World::new();
    let tag = world.get("/a.txt", "").field("etag");
    let not_modified = world.get("/a.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(not_modified.head.status, 304);
    assert_eq!(not_modified.field("etag"), tag);
    assert_eq!(not_modified.head.count("content-length"), 0);
    for (fields, status, body) in conditional_requests(&tag) {
        let answer = world.get("/a.txt", &fields);
        assert_eq!(answer.head.status, status, "{fields:?}");
        assert_eq!(String::from_utf8_lossy(&answer.body), body, "{fields:?}");
        let range = parse_content_range(&answer.field("content-range"));
        match status {
            206 => {
                let (first, last) = range.expect("present").range.expect("a range");
                assert_eq!(last - first + 1, body.len() as u64, "{fields:?}");
            }
            416 => assert_eq!(range.expect("present").len, Some(10)),
            _ => assert_eq!(range, None, "{fields:?}"),
        }
    }
    let head = "HEAD /a.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=2-4\r\n\r\n";
    assert_eq!(world.one(head).head.status, 200);
}

#[test]
fn several_ranges_come_in_parts() {
    let answer = World::new().get("/a.txt", "Range: bytes=7-8,0-1\r\n");
    assert_eq!(answer.head.status, 206);
    assert_eq!(answer.head.count("content-range"), 0);
    let kind = answer.field("content-type");
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("multipart");
    let part = |range: &str, text: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Range: bytes {range}/10\r\n\r\n{text}"
        )
    };
    let want = part("7-8", "78") + &part("0-1", "01") + &format!("\r\n--{boundary}--\r\n");
    assert_eq!(String::from_utf8_lossy(&answer.body), want);
}

#[test]
fn negotiation_is_told_to_caches() {
    let world = World::new();
    let coded = world.get("/c.txt", "Accept-Encoding: gzip\r\n");
    assert_eq!(coded.field("content-encoding"), "gzip");
    let plain = world.get("/c.txt", "");
    assert_eq!(plain.field("content-encoding"), "");
    for answer in [&coded, &plain] {
        assert_eq!(answer.field("vary"), "Accept-Encoding");
    }
    let fields = format!(
        "Accept-Encoding: gzip\r\nIf-None-Match: {}\r\n",
        coded.field("etag")
    );
    let unchanged = world.get("/c.txt", &fields);
    assert_eq!(
        (unchanged.head.status, unchanged.field("vary").as_str()),
        (304, "Accept-Encoding")
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post = "GET /home/ HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\n\
                GET /a.txt HTTP/1.1\r\n\r\n\r\n\r\n";
    let text = get("/a.txt") + post + &get("/missing") + &get("/c.txt");
    let (answers, closed) = World::new().answers(&text);
    let statuses: Vec<_> = answers.iter().map(|answer| answer.head.status).collect();
    assert_eq!(statuses, [200, 200, 404, 200], "a body is not a request");
    assert!(!closed);
    let (answers, closed) = World::new().answers(
        "GET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /c.txt HTTP/1.1\r\n",
    );
    assert_eq!((answers.len(), closed), (1, true), "nothing after close");
}

#[test]
fn http_1_0() {
    let world = World::new();
    let (answers, closed) = world.answers("GET /a.txt HTTP/1.0\r\n\r\n");
    assert_eq!(
        (answers[0].field("connection").as_str(), closed),
        ("close", true)
    );
    let (answers, closed) = world.answers("GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(
        (answers[0].field("connection").as_str(), closed),
        ("keep-alive", false)
    );
}

#[test]
fn an_expected_body_ends_the_connection() {
    let text =
        "GET /a.txt HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (answers, closed) = World::new().answers(text);
    assert_eq!((answers[0].head.status, closed), (200, true));
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn silence_and_slowness_have_limits() {
    let mut world = World::new();
    let mut connection = Connection::new(world.now);
    assert_eq!(connection.wait(), (Wait::Idle, Moment::ORIGIN));
    // Byte by byte: the wait began with the first.
    for byte in "GET /a.txt HTTP/1.1\r\nHost: a\r\n".as_bytes() {
        world.now = world.now + secs(1);
        let mut out = Vec::new();
        let step = world.handle(&mut connection, Input::Received(&[*byte]), &mut out);
        assert_eq!(step.effect, Effect::Nothing);
        assert_eq!(connection.wait(), (Wait::Request, Moment::ORIGIN + secs(1)));
    }
    let mut out = Vec::new();
    let step = world.handle(&mut connection, Input::Due, &mut out);
    assert!(matches!(step.effect, Effect::Reply(_)));
    assert_eq!(split(&out, false)[0].head.status, 408);
    assert_eq!(connection.wait().0, Wait::Sending);
    assert_eq!(
        world.handle(&mut connection, Input::Sent, &mut out).effect,
        Effect::HalfClose
    );
    assert_eq!(connection.wait(), (Wait::Lingering, world.now));
    assert_eq!(
        world.handle(&mut connection, Input::Due, &mut out).effect,
        Effect::Close
    );

    let mut silent = Connection::new(world.now);
    assert_eq!(
        world.handle(&mut silent, Input::Due, &mut out).effect,
        Effect::Close
    );
    assert!(Limits::default().request_max > Duration::ZERO);
}

#[test]
fn progress_prolongs_sending_and_nothing_else_is_read_meanwhile() {
    let mut world = World::new();
    let mut connection = Connection::new(world.now);
    let mut out = Vec::new();
    let request = b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let step = world.handle(&mut connection, Input::Received(request), &mut out);
    let Effect::Find(query) = step.effect else {
        panic!("a lookup")
    };
    assert_eq!(
        (step.consumed, query.path()),
        (request.len(), b"a.txt".as_slice())
    );
    let found = world.found(query.path());
    let step = world.handle(&mut connection, Input::Found(query, found), &mut out);
    let Effect::Reply(reply) = step.effect else {
        panic!("an answer")
    };
    assert_eq!(reply.body, Body::File(Choice::Plain, 0..10));
    assert_eq!(
        reply.line.as_deref(),
        Some(b"GET /a.txt HTTP/1.1".as_slice())
    );
    assert!(!connection.wants_bytes());
    world.now = world.now + secs(9);
    world.handle(&mut connection, Input::Progress, &mut out);
    assert_eq!(connection.wait(), (Wait::Sending, world.now));
    assert_eq!(
        world.handle(&mut connection, Input::Ended, &mut out).effect,
        Effect::Nothing
    );
    assert_eq!(
        world.handle(&mut connection, Input::Sent, &mut out).effect,
        Effect::Nothing
    );
    assert_eq!(
        world.handle(&mut connection, Input::Ended, &mut out).effect,
        Effect::Close
    );
}

#[test]
fn a_stop_finishes_what_has_begun() {
    let world = World::new();
    let mut out = Vec::new();
    let mut idle = Connection::new(world.now);
    assert_eq!(
        world.handle(&mut idle, Input::Stop, &mut out).effect,
        Effect::Close
    );

    let mut begun = Connection::new(world.now);
    assert_eq!(
        world.talk(&mut begun, b"GET /a.txt HTTP/1.1\r\n"),
        (vec![], false)
    );
    assert_eq!(
        world.handle(&mut begun, Input::Stop, &mut out).effect,
        Effect::Nothing
    );
    let whole = b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let (sent, closed) = world.talk(&mut begun, whole);
    let answer = &split(&sent, false)[0];
    assert_eq!(
        (answer.head.status, answer.field("connection").as_str()),
        (200, "close")
    );
    assert!(closed);
}

#[test]
fn dropping_what_comes_after_the_end_is_bounded() {
    let world = World::new();
    let mut connection = Connection::new(world.now);
    let (_, closed) = world.talk(&mut connection, b"nonsense\r\n\r\n");
    assert!(closed);
    let noise = vec![0; LINGER_BYTES_MAX as usize];
    let mut out = Vec::new();
    let step = world.handle(&mut connection, Input::Received(&noise), &mut out);
    assert_eq!(
        step,
        Step {
            consumed: noise.len(),
            effect: Effect::Nothing
        }
    );
    let step = world.handle(&mut connection, Input::Received(&[0]), &mut out);
    assert_eq!(step.effect, Effect::Close);
}

proptest! {
    /// However the bytes are cut, the same answers come.
    #[test]
    fn cuts_do_not_matter(cuts in proptest::collection::vec(1_usize..40, 1..60)) {
        let world = World::new();
        let text = "GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n\
                    POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /\
                    HEAD /c.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n\
                    GET /pics/ HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n\r\n\
                    GET /home HTTP/1.0\r\n\r\n";
        let (want, _) = world.talk(&mut Connection::new(world.now), text.as_bytes());
        let mut connection = Connection::new(world.now);
        let (mut sent, mut kept) = (Vec::new(), Vec::new());
        let mut rest = text.as_bytes();
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            rest = after;
            kept.extend_from_slice(piece);
            // The loop keeps what was not consumed and hands it in again.
            loop {
                let mut out = Vec::new();
                let step = world.handle(&mut connection, Input::Received(&kept), &mut out);
                kept.drain(..step.consumed);
                let done = step.effect == Effect::Nothing;
                world.carry_out(&mut connection, step.effect, &mut out, &mut sent);
                if done || kept.is_empty() {
                    break;
                }
            }
        }
        prop_assert_eq!(String::from_utf8_lossy(&sent), String::from_utf8_lossy(&want));
    }

    /// No bytes make it panic, loop or answer without end.
    #[test]
    fn noise_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let world = World::new();
        let (sent, _) = world.talk(&mut Connection::new(world.now), &bytes);
        prop_assert!(sent.len() < 10_000);
    }
}
