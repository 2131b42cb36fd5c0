//! One conversation with the examined web server: requests as raw bytes, answers taken apart.
//!
//! Requests are written out by hand, because most of what is examined is what a decent client
//! would never send. Answers are read with wire's codec and otherwise as RFC 9112 section 6.3
//! tells a client to find their end; a body in chunks is understood too, since the other side may
//! be any server.

use std::net::SocketAddr;

use ahoy_wire::web::{RESPONSE_HEAD_LEN_MAX, ResponseHead, parse_response};

use crate::attempt::{Attempt, shown};
use crate::case::Failure;
use crate::stream::Stream;

/// At most this much of one body is read.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.head.status
    }

    /// The value of a field, by its name in lower case.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        self.head.field(name)
    }

    /// Broken, unless the status is one of these.
    pub(super) fn expect_status(&self, what: &str, wanted: &[u16]) -> Result<(), Failure> {
        if wanted.contains(&self.status()) {
            return Ok(());
        }
        let wanted: Vec<_> = wanted.iter().map(u16::to_string).collect();
        let wanted = wanted.join(" or ");
        Err(Failure::broken(format!(
            "{what}: expected {wanted}, the answer was {}",
            self.status()
        )))
    }
}

/// A connection with what was received and not yet used.
pub(super) struct Client<'a> {
    pub(super) stream: Stream<'a>,
    kept: Vec<u8>,
}

impl<'a> Client<'a> {
    pub(super) fn connect(attempt: &'a Attempt, addr: SocketAddr) -> Result<Self, Failure> {
        Ok(Self {
            stream: Stream::connect(attempt, addr)?,
            kept: Vec::new(),
        })
    }

    pub(super) fn send(&mut self, request: &str) -> Result<(), Failure> {
        self.stream.send(request.as_bytes())
    }

    /// The next answer; `to_head` says that it has no body whatever its fields say.
    pub(super) fn answer(&mut self, to_head: bool) -> Result<Answer, Failure> {
        let head = self.head()?;
        let has_none = to_head || head.status == 304 || head.status == 204 || head.status < 200;
        let body = if has_none {
            Vec::new()
        } else if is_chunked(&head) {
            self.chunks()?
        } else if let Some(len) = content_length(&head)? {
            self.take(len)?
        } else {
            let mut body = std::mem::take(&mut self.kept);
            body.extend(self.stream.receive_to_end(BODY_BYTES_MAX)?);
            body
        };
        Ok(Answer { head, body })
    }

    /// What else was received, and everything up to the end of the stream.
    pub(super) fn rest(&mut self) -> Result<Vec<u8>, Failure> {
        let mut rest = std::mem::take(&mut self.kept);
        rest.extend(self.stream.receive_to_end(BODY_BYTES_MAX)?);
        Ok(rest)
    }

    fn head(&mut self) -> Result<ResponseHead, Failure> {
        let has_end = |bytes: &[u8]| {
            bytes.windows(4).any(|four| four == b"\r\n\r\n")
                || bytes.windows(2).any(|two| two == b"\n\n")
        };
        self.fill("the head of an answer", has_end)?;
        match parse_response(&self.kept) {
            Ok(Some(head)) => {
                self.kept.drain(..head.len);
                Ok(head)
            }
            Ok(None) => Err(Failure::broken("the head of the answer has no end")),
            Err(error) => Err(Failure::broken(format!(
                "{error}; it begins with {}",
                shown(&self.kept)
            ))),
        }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, Failure> {
        if self.kept.len() < len {
            let more = self.stream.receive_exact(len - self.kept.len())?;
            self.kept.extend(more);
        }
        let rest = self.kept.split_off(len);
        Ok(std::mem::replace(&mut self.kept, rest))
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let len = usize::from_str_radix(digits, 16)
                .map_err(|_| Failure::broken(format!("{line:?} is no chunk size")))?;
            if len > BODY_BYTES_MAX - body.len() {
                return Err(Failure::skipped(
                    "the body is too large for this examination",
                ));
            }
            if len == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(len)?);
            self.line()?;
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let has_end = |bytes: &[u8]| bytes.contains(&b'\n');
        self.fill("the end of a line", has_end)?;
        let end = self.kept.iter().position(|&b| b == b'\n').unwrap_or(0);
        let line: Vec<u8> = self.kept.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Receives until `enough` holds for all that is kept.
    fn fill(&mut self, awaited: &str, enough: impl Fn(&[u8]) -> bool) -> Result<(), Failure> {
        if enough(&self.kept) {
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.kept);
        let kept_len = all.len();
        self.stream
            .receive_until(awaited, RESPONSE_HEAD_LEN_MAX, |more| {
                all.extend_from_slice(&more[all.len() - kept_len..]);
                enough(&all)
            })?;
        self.kept = all;
        Ok(())
    }
}

fn is_chunked(head: &ResponseHead) -> bool {
    head.field("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
}

fn content_length(head: &ResponseHead) -> Result<Option<usize>, Failure> {
    let Some(value) = head.field("content-length") else {
        return Ok(None);
    };
    let len: usize = value
        .parse()
        .map_err(|_| Failure::broken(format!("{value:?} is no Content-Length")))?;
    if len > BODY_BYTES_MAX {
        return Err(Failure::skipped(format!(
            "the file is larger than {BODY_BYTES_MAX} bytes; name a smaller one with --path"
        )));
    }
    Ok(Some(len))
}

/// One request on a connection of its own, and its answer.
pub(super) fn ask(attempt: &Attempt, addr: SocketAddr, request: &str) -> Result<Answer, Failure> {
    let mut client = Client::connect(attempt, addr)?;
    client.send(request)?;
    client.answer(request.starts_with("HEAD "))
}
