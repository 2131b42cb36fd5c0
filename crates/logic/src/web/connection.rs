//! One connection: requests in order, an answer to each, limits on all of it
//! (web-1 to web-13, web-60 to web-65).
//!
//! The loop hands in what it received and does the one thing that comes back. A request is
//! answered before the next one is read, so pipelined requests need no queue, and a client that
//! does not take its answers stops its own requests (web-10).
//!
//! ```text
//! Idle --bytes--> Head --whole--> Finding --found--> Sending --sent--> Idle (or Lingering)
//! ```

use ahoy_wire::web::{Body as RequestBody, HEAD_LEN_MAX, HeadError, Method, Parsed, RequestHead};
use ahoy_wire::web::{Status, parse_request};

use super::Site;
use super::access::LOGGED_LINE_LEN_MAX;
use super::file::Resource;
use super::listing::Entry;
use super::reply::{Asked, Reply, Wall, file_reply, folder_redirect, listing_reply, status_reply};
use super::target::{Target, TargetError, parse_target};
use super::waits::Wait;
use crate::moment::Moment;

/// Most bytes of a request body that are read and dropped to save the connection (web-7).
pub(super) const BODY_SKIP_MAX: u64 = 64 * 1024;
/// Most bytes that are read and dropped after our end of the connection was closed.
pub const LINGER_BYTES_MAX: u64 = 256 * 1024;
/// How often an incomplete head is looked at before only its end is waited for, so that a head
/// that comes byte by byte costs no more than one that comes whole.
const EARLY_LOOKS_MAX: u8 = 4;
/// What a folder is asked for.
const INDEX_NAME: &[u8] = b"index.html";

/// What happened on a connection.
#[derive(Debug)]
pub enum Input<'a> {
    /// All bytes received and not consumed so far.
    Received(&'a [u8]),
    /// The peer has ended its side, and every byte before that was handed in.
    Ended,
    /// What the disk said to [`Effect::Find`] or [`Effect::List`].
    Found(Box<Query>, Found<'a>),
    /// The peer took some bytes of the answer.
    Progress,
    /// The whole answer is on its way.
    Sent,
    /// The time limit of [`Connection::wait`] was reached.
    Due,
    /// The server is about to stop: whatever is answered from now on is answered last (web-65).
    Stopping,
    /// Everything that came before the stop was handed in: begin nothing new.
    Stop,
}

/// What is at a path.
#[derive(Debug)]
pub enum Found<'a> {
    /// A file that can be read.
    File(&'a Resource),
    /// A folder.
    Folder,
    /// The visible entries of a folder, and whether there were more than the limit.
    Entries(Vec<Entry>, bool),
    /// Nothing that may be served.
    Missing,
    /// No descriptor left to look with (web-64).
    Busy,
    /// The disk failed.
    Broken,
}

/// What the loop is to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Wait for more input.
    Nothing,
    /// Look for [`Query::path`] and say what is there.
    Find(Box<Query>),
    /// Read the folder at [`Query::path`].
    List(Box<Query>),
    /// Send the outgoing bytes, then the rest of the body, then say [`Input::Sent`].
    Reply(Reply),
    /// Close the sending side; go on reading and handing in what comes.
    HalfClose,
    /// Close; nothing more will be asked of this connection.
    Close,
}

/// How many received bytes are done with, and what to do next.
#[derive(Debug, PartialEq)]
pub struct Step {
    /// Bytes of [`Input::Received`] that were consumed, from its start.
    pub consumed: usize,
    /// What to do.
    pub effect: Effect,
}

/// A request on its way to the disk and back.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    target: Target,
    path: Vec<u8>,
    purpose: Purpose,
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The target itself, named like a file.
    Named,
    /// The index of the folder that the target names.
    Index,
    /// The entries of that folder.
    Entries,
}

impl Query {
    /// Names joined by `/`, safe to be opened beneath the served folder; empty for that folder.
    pub fn path(&self) -> &[u8] {
        &self.path
    }
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// When the wait of this phase began.
    since: Moment,
    /// Bytes of a request body still to be dropped.
    skip_len: u64,
    stopping: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Part of a request came.
    Head {
        looks: u8,
        scanned_len: usize,
    },
    /// A query is with the loop.
    Finding,
    Sending {
        persistent: bool,
    },
    Lingering {
        dropped_len: u64,
    },
    Closed,
}

impl Connection {
    /// A connection that was accepted at `now`.
    pub fn new(now: Moment) -> Self {
        Self {
            phase: Phase::Idle,
            since: now,
            skip_len: 0,
            stopping: false,
        }
    }

    /// What the connection waits for, and since when.
    pub fn wait(&self) -> (Wait, Moment) {
        let wait = match self.phase {
            Phase::Idle if self.skip_len == 0 => Wait::Idle,
            Phase::Idle | Phase::Head { .. } => Wait::Request,
            Phase::Finding | Phase::Sending { .. } => Wait::Sending,
            Phase::Lingering { .. } | Phase::Closed => Wait::Lingering,
        };
        (wait, self.since)
    }

    /// Whether the machine wants bytes now. While it does not, the loop must not read: that is
    /// what stops a client that sends requests and takes no answers.
    pub fn wants_bytes(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Head { .. } | Phase::Lingering { .. } => true,
            Phase::Finding | Phase::Sending { .. } | Phase::Closed => false,
        }
    }

    /// Takes one input. An answer's head is appended to `out`.
    pub fn handle(
        &mut self,
        now: Moment,
        wall: &Wall,
        site: &Site,
        input: Input<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let effect = match input {
            Input::Received(bytes) => return self.received(now, wall, site, bytes, out),
            Input::Found(query, found) => self.found(now, wall, site, query, found, out),
            Input::Ended => self.ended(),
            Input::Progress => {
                self.since = now;
                Effect::Nothing
            }
            Input::Sent => self.sent(now),
            Input::Due => self.due(now, wall, site, out),
            Input::Stopping => {
                self.stopping = true;
                Effect::Nothing
            }
            Input::Stop => self.stop(),
        };
        Step {
            consumed: 0,
            effect,
        }
    }

    fn received(
        &mut self,
        now: Moment,
        wall: &Wall,
        site: &Site,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        match self.phase {
            Phase::Idle | Phase::Head { .. } => {}
            Phase::Lingering { dropped_len } => return self.dropped(dropped_len, bytes.len()),
            Phase::Finding | Phase::Sending { .. } | Phase::Closed => {
                return Step {
                    consumed: 0,
                    effect: Effect::Nothing,
                };
            }
        }
        let skipped = usize::try_from(self.skip_len)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        if skipped > 0 {
            self.skip_len -= skipped as u64;
            // Only its end starts a new wait: a body that drips is limited as a whole.
            if self.skip_len == 0 {
                self.since = now;
            }
        }
        let rest = &bytes[skipped..];
        if rest.is_empty() || !self.is_worth_parsing(now, rest) {
            return Step {
                consumed: skipped,
                effect: Effect::Nothing,
            };
        }
        match parse_request(rest) {
            Ok(Parsed::Incomplete) => Step {
                consumed: skipped,
                effect: Effect::Nothing,
            },
            Ok(Parsed::Complete { head, len }) => {
                let effect = self.asked(now, wall, site, &head, out);
                Step {
                    consumed: skipped + len,
                    effect,
                }
            }
            Err(error) => {
                let line = site.access_log.then(|| first_line(rest));
                let reply =
                    status_reply(out, wall, Asked::unreadable(line), head_error_status(error));
                Step {
                    consumed: bytes.len(),
                    effect: self.reply(now, reply, false),
                }
            }
        }
    }

    /// What comes after the end is thrown away, up to a limit (web-13).
    fn dropped(&mut self, before_len: u64, len: usize) -> Step {
        let dropped_len = before_len + len as u64;
        self.phase = Phase::Lingering { dropped_len };
        let effect = if dropped_len > LINGER_BYTES_MAX {
            self.close()
        } else {
            Effect::Nothing
        };
        Step {
            consumed: len,
            effect,
        }
    }

    /// Notes that a request has begun, and says whether to look at it now: a few times early, so
    /// that nonsense is refused at once, then when its end has come or it is too long.
    fn is_worth_parsing(&mut self, now: Moment, rest: &[u8]) -> bool {
        let (looks, scanned_len) = match self.phase {
            Phase::Head { looks, scanned_len } => (looks, scanned_len),
            Phase::Idle | Phase::Finding | Phase::Sending { .. } => {
                self.since = now;
                (0, 0)
            }
            Phase::Lingering { .. } | Phase::Closed => return false,
        };
        let new = &rest[scanned_len.min(rest.len()).saturating_sub(2)..];
        let ended = new.windows(2).any(|pair| pair == b"\n\n")
            || new.windows(3).any(|three| three == b"\n\r\n");
        let early = looks < EARLY_LOOKS_MAX;
        self.phase = Phase::Head {
            looks: looks.saturating_add(1),
            scanned_len: rest.len(),
        };
        early || ended || rest.len() >= HEAD_LEN_MAX
    }

    /// Decides what can be decided from the head alone.
    fn asked(
        &mut self,
        now: Moment,
        wall: &Wall,
        site: &Site,
        head: &RequestHead<'_>,
        out: &mut Vec<u8>,
    ) -> Effect {
        let body_fits = self.take_body(head);
        let asked = Asked {
            method: head.method,
            minor: head.minor,
            persistent: head.persistent && !self.stopping && body_fits,
            conditions: head.conditions.clone(),
            ranges: head.ranges.clone(),
            accept: head.accept_encoding,
            line: site
                .access_log
                .then(|| head.line[..logged_len(head.line)].to_vec()),
        };
        let refusal = match head.method {
            Method::Unknown => Some(Status::NotImplemented),
            Method::Other => Some(Status::MethodNotAllowed),
            Method::Get | Method::Head if head.expects_other => Some(Status::ExpectationFailed),
            Method::Get | Method::Head if is_too_large(head.body) => Some(Status::ContentTooLarge),
            Method::Get | Method::Head => None,
        };
        let target = match refusal {
            Some(status) => Err(status),
            None => parse_target(head.target, site.dotfiles).map_err(target_error_status),
        };
        match target {
            Err(status) => {
                let persistent = asked.persistent;
                let reply = status_reply(out, wall, asked, status);
                self.reply(now, reply, persistent)
            }
            Ok(target) => {
                self.phase = Phase::Finding;
                self.since = now;
                Effect::Find(Box::new(first_query(target, asked)))
            }
        }
    }

    /// Notes how much of a request's body is to be skipped; false if the connection cannot be
    /// kept because of it (web-7, web-8).
    fn take_body(&mut self, head: &RequestHead<'_>) -> bool {
        match head.body {
            RequestBody::Length(0) => true,
            // Whether a client that was promised a 100 sends its body after another answer cannot
            // be known (RFC 9110 section 10.1.1).
            RequestBody::Length(len) if len <= BODY_SKIP_MAX && !head.expects_continue => {
                self.skip_len = len;
                true
            }
            RequestBody::Length(_) | RequestBody::Chunked => false,
        }
    }

    fn found(
        &mut self,
        now: Moment,
        wall: &Wall,
        site: &Site,
        query: Box<Query>,
        found: Found<'_>,
        out: &mut Vec<u8>,
    ) -> Effect {
        let persistent = query.asked.persistent;
        let Query {
            target,
            path,
            purpose,
            asked,
        } = *query;
        let status = match (purpose, found) {
            (Purpose::Named | Purpose::Index, Found::File(resource)) => {
                let reply = file_reply(out, wall, site, asked, resource);
                return self.reply(now, reply, persistent);
            }
            (Purpose::Named, Found::Folder) => {
                let query = target.query.as_deref();
                let reply = folder_redirect(out, wall, asked, &target.path, query);
                return self.reply(now, reply, persistent);
            }
            (Purpose::Index, Found::Missing | Found::Folder) if site.listing => {
                let path = target.path.clone();
                let purpose = Purpose::Entries;
                return Effect::List(Box::new(Query {
                    target,
                    path,
                    purpose,
                    asked,
                }));
            }
            (Purpose::Entries, Found::Entries(entries, truncated)) => {
                let reply = listing_reply(out, wall, asked, &path, entries, truncated);
                return self.reply(now, reply, persistent);
            }
            // web-27
            (_, Found::Missing | Found::Folder) => Status::NotFound,
            (_, Found::Busy) => Status::ServiceUnavailable,
            // The last two are answers to another question than ours.
            (_, Found::Broken | Found::Entries(..) | Found::File(_)) => Status::InternalServerError,
        };
        let reply = status_reply(out, wall, asked, status);
        self.reply(now, reply, persistent)
    }

    fn reply(&mut self, now: Moment, reply: Reply, persistent: bool) -> Effect {
        self.phase = Phase::Sending { persistent };
        self.since = now;
        Effect::Reply(reply)
    }

    fn sent(&mut self, now: Moment) -> Effect {
        let Phase::Sending { persistent } = self.phase else {
            return Effect::Nothing;
        };
        self.since = now;
        if persistent && !self.stopping {
            self.phase = Phase::Idle;
            return Effect::Nothing;
        }
        // Closing while the peer still sends makes its kernel throw away what it has not read of
        // our answer (RFC 9112 section 9.6); so only our side ends, for now.
        self.phase = Phase::Lingering { dropped_len: 0 };
        Effect::HalfClose
    }

    fn ended(&mut self) -> Effect {
        match self.phase {
            // A half-closed client still waits for its answer.
            Phase::Finding | Phase::Sending { .. } => Effect::Nothing,
            Phase::Idle | Phase::Head { .. } | Phase::Lingering { .. } | Phase::Closed => {
                self.close()
            }
        }
    }

    /// web-60 to web-62. A request that was begun gets an answer; silence gets silence.
    fn due(&mut self, now: Moment, wall: &Wall, site: &Site, out: &mut Vec<u8>) -> Effect {
        match self.phase {
            Phase::Head { .. } => {
                let line = site.access_log.then(|| b"-".to_vec());
                let asked = Asked::unreadable(line);
                let reply = status_reply(out, wall, asked, Status::RequestTimeout);
                self.reply(now, reply, false)
            }
            Phase::Idle
            | Phase::Finding
            | Phase::Sending { .. }
            | Phase::Lingering { .. }
            | Phase::Closed => self.close(),
        }
    }

    fn stop(&mut self) -> Effect {
        self.stopping = true;
        match self.phase {
            Phase::Idle => self.close(),
            Phase::Head { .. }
            | Phase::Finding
            | Phase::Sending { .. }
            | Phase::Lingering { .. }
            | Phase::Closed => Effect::Nothing,
        }
    }

    fn close(&mut self) -> Effect {
        self.phase = Phase::Closed;
        Effect::Close
    }
}

/// web-24, web-25: a folder is asked for its index first.
fn first_query(target: Target, asked: Asked) -> Query {
    let mut path = target.path.clone();
    if !target.folder {
        return Query {
            target,
            path,
            purpose: Purpose::Named,
            asked,
        };
    }
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(INDEX_NAME);
    Query {
        target,
        path,
        purpose: Purpose::Index,
        asked,
    }
}

fn is_too_large(body: RequestBody) -> bool {
    match body {
        RequestBody::Length(len) => len > BODY_SKIP_MAX,
        RequestBody::Chunked => false,
    }
}

fn head_error_status(error: HeadError) -> Status {
    match error {
        HeadError::Malformed(_) | HeadError::Host | HeadError::Framing => Status::BadRequest,
        HeadError::TransferCoding => Status::NotImplemented,
        HeadError::Version => Status::HttpVersionNotSupported,
        HeadError::LineTooLong => Status::UriTooLong,
        HeadError::FieldsTooLarge => Status::RequestHeaderFieldsTooLarge,
    }
}

fn target_error_status(error: TargetError) -> Status {
    match error {
        TargetError::Form | TargetError::Escape | TargetError::Byte | TargetError::Outside => {
            Status::BadRequest
        }
        TargetError::NoSuchName => Status::NotFound,
    }
}

/// What can be shown of a request that could not be read.
fn first_line(bytes: &[u8]) -> Vec<u8> {
    let line = bytes
        .split(|&b| b == b'\n')
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line[..logged_len(line)].to_vec()
}

fn logged_len(line: &[u8]) -> usize {
    line.len().min(LOGGED_LINE_LEN_MAX)
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
